//! Scaling by what edges tell of demand.

use ekiden_control::ControlConfig;
use ekiden_engine::Engine;
use ekiden_model::{
    instance::Activity,
    route::{RouteState, ServiceDemand},
    usage::InstanceUsage,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    ask, refused, running,
    support::{World, eventually},
    wanted, with,
};

fn quick(config: &mut ControlConfig) {
    config.scaling.scale_in_delay = Duration::from_millis(100);
    config.scaling.idle_to_zero = Duration::from_millis(100);
}

/// A service that scales between these numbers, with 10 requests for each instance.
async fn scaled(world: &World, least: u32, most: u32, port: u16) -> String {
    let configuration = json!({ "AutoScalingConfigurationName": "scaled", "MinSize": least,
        "MaxSize": most, "MaxConcurrency": 10 });
    let made = ask(
        world,
        "AppRunner.CreateAutoScalingConfiguration",
        configuration,
    );
    let made = made.await.unwrap();
    let arn = &made["AutoScalingConfiguration"]["AutoScalingConfigurationArn"];
    let service = with(
        wanted("web1", "localhost/ok", port),
        json!({ "AutoScalingConfigurationArn": arn }),
    );
    running(world, service).await
}

fn told(world: &World, in_flight: u32, queued: u32) {
    let service = world.route("web1").unwrap().service;
    let demand = ServiceDemand {
        service,
        in_flight,
        queued,
    };
    world.demand.send_replace(Some(vec![demand]));
}

fn upstreams(world: &World) -> usize {
    world.route("web1").unwrap().upstreams.len()
}

fn activities(world: &World) -> Vec<Activity> {
    let observed = world.engine.observe();
    let instances = &observed.borrow().instances;
    instances.iter().map(|instance| instance.activity).collect()
}

async fn describe(world: &World, arn: &str) -> Value {
    let request = json!({ "ServiceArn": arn });
    ask(world, "Ekiden.DescribeScaling", request).await.unwrap()
}

#[tokio::test]
async fn instances_follow_the_demand_and_a_restart_takes_none_away() {
    let mut world = World::configured(quick).await;
    let arn = scaled(&world, 1, 4, 8151).await;
    assert!(describe(&world, &arn).await.get("Now").is_none());
    told(&world, 25, 0);
    world.until(|world| upstreams(world) == 3).await;
    told(&world, 25, 100);
    world.until(|world| upstreams(world) == 4).await;
    world.restart().await;
    world
        .until(|world| world.running() == 4 && upstreams(world) == 4)
        .await;
    told(&world, 0, 0);
    world
        .until(|world| upstreams(world) == 1 && world.running() == 1)
        .await;
    let scaling = describe(&world, &arn).await;
    assert_eq!(scaling["Now"]["Wanted"], 1);
    assert_eq!(scaling["Now"]["Reason"], "the minimum");
    assert_eq!(scaling["Decisions"][0]["Wanted"], 1);
}

#[tokio::test]
async fn a_service_of_minimum_0_sleeps_and_wakes_with_its_route_in_place() {
    let world = World::configured(quick).await;
    world.demand.send_replace(Some(vec![]));
    let arn = scaled(&world, 0, 4, 8152).await;
    let sleeps = |world: &World| upstreams(world) == 0 && world.running() == 0;
    world.until(sleeps).await;
    assert_eq!(world.route("web1").unwrap().state, RouteState::Serving);
    assert_eq!(world.describe(&arn).await.status.unwrap(), "RUNNING");
    told(&world, 0, 1);
    world.until(|world| upstreams(world) == 1).await;
    told(&world, 0, 0);
    world.until(sleeps).await;
    // It is deployed anew all the same.
    world.update_image(&arn, "ok", 8152).await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
    world.until(sleeps).await;
}

#[tokio::test]
async fn a_minimum_by_hand_counts_at_once_and_until_it_is_taken_back() {
    let world = World::configured(quick).await;
    world.demand.send_replace(Some(vec![]));
    let arn = scaled(&world, 1, 3, 8153).await;
    let set = |settings: &str| {
        let request = json!({ "ServiceArn": arn, "Settings": settings });
        ask(&world, "Ekiden.UpdateScaling", request)
    };
    let answer = set(r#"{"instances_min":2}"#).await.unwrap();
    assert_eq!(answer["InstancesMin"], 2);
    world.until(|world| upstreams(world) == 2).await;
    refused(
        set(r#"{"instances_min":1000000}"#).await,
        "InvalidRequestException",
        "quota.instances_per_service",
    );
    refused(set("[]").await, "InvalidRequestException", "JSON object");
    set(r#"{"instances_min":null}"#).await.unwrap();
    world
        .until(|world| upstreams(world) == 1 && world.running() == 1)
        .await;
}

#[tokio::test]
async fn a_peak_counts_while_it_is_on() {
    let world = World::configured(quick).await;
    world.demand.send_replace(Some(vec![]));
    let arn = scaled(&world, 1, 5, 8154).await;
    let set = |settings: &str| {
        let request = json!({ "ServiceArn": arn, "Settings": settings });
        ask(&world, "Ekiden.UpdateScaling", request)
    };
    let always = r#"{"peaks":[{"cron":"* * * * *","minutes":5,"instances_min":3}]}"#;
    let answer = set(always).await.unwrap();
    assert_eq!(
        (&answer["InstancesMin"], &answer["Peak"]),
        (&json!(3), &json!(true))
    );
    world.until(|world| upstreams(world) == 3).await;
    let wrong = r#"{"peaks":[{"cron":"99 * * * *","minutes":5,"instances_min":3}]}"#;
    refused(
        set(wrong).await,
        "InvalidRequestException",
        "no cron expression",
    );
    set(r#"{"peaks":null}"#).await.unwrap();
    world
        .until(|world| upstreams(world) == 1 && world.running() == 1)
        .await;
}

#[tokio::test]
async fn who_is_asked_for_nothing_rests_until_it_is_asked() {
    let mut world = World::configured(quick).await;
    world.demand.send_replace(Some(vec![]));
    let arn = scaled(&world, 1, 1, 8155).await;
    let settings = r#"{"throttle_seconds":0,"freeze_seconds":1}"#;
    let request = json!({ "ServiceArn": arn, "Settings": settings });
    ask(&world, "Ekiden.UpdateScaling", request).await.unwrap();
    world
        .until(|world| activities(world) == [Activity::Frozen])
        .await;
    assert_eq!(describe(&world, &arn).await["Activity"], "frozen");
    told(&world, 1, 0);
    world
        .until(|world| activities(world) == [Activity::Active])
        .await;
    told(&world, 0, 0);
    world
        .until(|world| activities(world) == [Activity::Frozen])
        .await;
    // A control that starts anew lets it rest, before it is told anything and after.
    world.demand.send_replace(None);
    world.restart().await;
    world.until(|world| world.route("web1").is_some()).await;
    assert_eq!(activities(&world), [Activity::Frozen]);
    world.demand.send_replace(Some(vec![]));
    let decided = eventually(async || {
        let scaling = describe(&world, &arn).await;
        scaling.get("Now").is_some().then_some(scaling)
    });
    assert_eq!(decided.await["Activity"], "frozen");
    // A deployment wakes who is replaced, and what is new starts with all there is.
    world.update_image(&arn, "ok", 8155).await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
    world
        .until(|world| activities(world) == [Activity::Frozen])
        .await;
}

#[tokio::test]
async fn who_cannot_be_let_rest_keeps_nobody_from_starting() {
    let world = World::configured(quick).await;
    world.engine.refuse_activity(true);
    world.demand.send_replace(Some(vec![]));
    scaled(&world, 1, 4, 8156).await;
    for requests in [15, 25, 35] {
        told(&world, requests, 0);
        let wanted = requests.div_ceil(10) as usize;
        world.until(|world| upstreams(world) == wanted).await;
    }
    assert_eq!(activities(&world), [Activity::Boosted; 4]);
    world.engine.refuse_activity(false);
    world
        .until(|world| activities(world) == [Activity::Active; 4])
        .await;
}

#[tokio::test]
async fn what_instances_use_counts_where_there_is_a_target() {
    let world = World::configured(quick).await;
    world.demand.send_replace(Some(vec![]));
    let arn = scaled(&world, 1, 3, 8157).await;
    let use_of_all = |cpu_millis| {
        let observed = world.engine.observe();
        let instances = &observed.borrow().instances;
        let usages = instances.iter().map(|instance| InstanceUsage {
            id: instance.id,
            cpu_millis,
            memory_bytes: 0,
        });
        world.engine.set_usage(usages.collect());
    };
    told(&world, 1, 0);
    use_of_all(10_000);
    let request = json!({ "ServiceArn": arn, "Settings": r#"{"cpu_target":50}"# });
    assert_eq!(world.running(), 1);
    let answer = ask(&world, "Ekiden.UpdateScaling", request).await.unwrap();
    assert_eq!(answer["CpuTarget"], 50);
    // It is read again and again.
    world
        .until(|world| {
            use_of_all(10_000);
            upstreams(world) == 3
        })
        .await;
    let scaling = describe(&world, &arn).await;
    assert!(scaling["Now"]["CpuPercent"].as_u64() >= Some(1000));
}

#[tokio::test]
async fn what_is_beyond_the_minimum_is_started_as_spare() {
    let world = World::configured(quick).await;
    world.demand.send_replace(Some(vec![]));
    scaled(&world, 0, 4, 8158).await;
    told(&world, 35, 0);
    world.until(|world| upstreams(world) == 4).await;
    assert_eq!(world.engine.spare(), 3);
}

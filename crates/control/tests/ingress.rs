//! The settings of a service's front door, over the real API.

#![allow(clippy::unwrap_used)]

mod support;

use ekiden_aws::native;
use ekiden_model::{request_counts::RequestCounts, route::ServiceCounts};
use serde_json::Value;

use crate::support::World;

async fn set(
    world: &World,
    arn: &str,
    change: &str,
) -> Result<native::UpdateIngressResponse, String> {
    let request = native::UpdateIngressRequest {
        service_arn: arn.to_owned(),
        ingress: change.to_owned(),
    };
    let answer = world.call("Ekiden.UpdateIngress", &request).await;
    answer.map_err(|error| error.to_string())
}

async fn shown(world: &World, arn: &str) -> Value {
    let request = native::DescribeIngressRequest {
        service_arn: arn.to_owned(),
    };
    let answer: native::DescribeIngressResponse = world
        .call("Ekiden.DescribeIngress", &request)
        .await
        .unwrap();
    serde_json::from_str(&answer.ingress).unwrap()
}

async fn running(world: &World) -> String {
    let created = world.create("web1", "ok", 7001).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    arn
}

#[tokio::test]
async fn what_is_set_is_served_without_a_deployment_and_outlives_a_restart() {
    let mut world = World::new().await;
    let arn = running(&world).await;
    let before = world.newest_operation(&arn).await.id;
    assert_eq!(shown(&world, &arn).await["forwarded"], false);
    let password = "correct horse battery";
    let change = format!(
        r#"{{"forwarded":true,"private":true,"basic_auth":[{{"user":"ann","password":"{password}"}}]}}"#
    );
    let answer = set(&world, &arn, &change).await.unwrap();
    assert!(answer.served);
    assert!(!answer.ingress.contains("sha256") && !answer.ingress.contains(password));
    let route = world.route("web1").unwrap();
    assert!(route.ingress.forwarded && route.hosts.is_empty());
    assert_eq!((route.private_hosts.len(), route.upstreams.len()), (1, 1));
    assert_eq!(route.ingress.basic_auth.len(), 1);
    assert_eq!(world.newest_operation(&arn).await.id, before);

    world.restart().await;
    assert_eq!(shown(&world, &arn).await["forwarded"], true);
    let answer = set(&world, &arn, r#"{"private":null,"basic_auth":null}"#)
        .await
        .unwrap();
    assert!(answer.served);
    let route = world.route("web1").unwrap();
    assert!(route.ingress.forwarded && route.private_hosts.is_empty());
    assert_eq!(route.hosts.len(), 1);

    // A deployment is of a revision, and leaves the front door alone.
    world.simple("StartDeployment", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert!(world.route("web1").unwrap().ingress.forwarded);
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let world = World::new().await;
    let arn = running(&world).await;
    let why = set(&world, &arn, r#"{"forwarded":true,"idle_seconds":0}"#)
        .await
        .unwrap_err();
    assert!(
        why.contains("`idle_seconds` must be from 1 to 86400 seconds"),
        "{why}"
    );
    assert_eq!(shown(&world, &arn).await["forwarded"], false);
    let why = set(
        &world,
        "arn:aws:apprunner:us-east-1:100000000001:service/web2/0",
        "{}",
    )
    .await;
    assert!(why.is_err());
}

#[tokio::test]
async fn a_paused_service_has_its_front_door_set_too() {
    let world = World::new().await;
    let arn = running(&world).await;
    world.simple("PauseService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "PAUSED");
    assert!(
        set(&world, &arn, r#"{"request_id":"keep"}"#)
            .await
            .unwrap()
            .served
    );
    assert_eq!(shown(&world, &arn).await["request_id"], "keep");
}

async fn traffic(world: &World, arn: &str) -> native::Traffic {
    let request = native::DescribeTrafficRequest {
        service_arn: arn.to_owned(),
    };
    let answer: native::DescribeTrafficResponse = world
        .call("Ekiden.DescribeTraffic", &request)
        .await
        .unwrap();
    answer.traffic
}

#[tokio::test]
async fn what_edges_tell_of_requests_adds_up_for_the_service_and_in_all() {
    let world = World::new().await;
    let arn = running(&world).await;
    assert_eq!(traffic(&world, &arn).await.requests, 0);
    let counts = |service, answered, cause: &str| ServiceCounts {
        service,
        counts: RequestCounts {
            answered,
            unanswered: 0,
            causes: [(cause.to_owned(), 1)].into(),
        },
        ..ServiceCounts::default()
    };
    let service = Some(world.route("web1").unwrap().service);
    // An edge, and the one that takes its place.
    for _ in 0..2 {
        world
            .tell(vec![
                counts(service, [0, 9, 0, 0, 1], "app_timed_out"),
                counts(None, [0, 0, 0, 3, 0], "no_such_host"),
            ])
            .await;
    }
    let own = traffic(&world, &arn).await;
    assert_eq!((own.requests, own.status_2xx, own.status_5xx), (20, 18, 2));
    assert_eq!(own.causes, [("app_timed_out".to_owned(), 2)].into());
    let status: native::GetStatusResponse = world
        .call("Ekiden.GetStatus", &native::GetStatusRequest {})
        .await
        .unwrap();
    assert_eq!(
        (status.traffic.requests, status.traffic.status_4xx),
        (26, 6)
    );
    assert_eq!(status.traffic.causes.len(), 2);
    assert_eq!(status.unrouted_traffic.requests, 6);
    assert_eq!(status.traffic.since, own.since);
}

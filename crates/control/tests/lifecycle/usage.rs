//! What is asked of services and what they use, for whoever asks again and again.

use ekiden_aws::native::{GetUsageRequest, GetUsageResponse};
use ekiden_engine::Engine;
use ekiden_model::{
    request_counts::RequestCounts,
    route::{ServiceCounts, ServiceDemand},
    usage::InstanceUsage,
};
use serde_json::json;

use crate::{
    ask, refused, running,
    support::{World, eventually},
    wanted,
};

async fn usage(world: &World, request: &GetUsageRequest) -> GetUsageResponse {
    world.call("Ekiden.GetUsage", request).await.unwrap()
}

async fn of_all(world: &World) -> GetUsageResponse {
    usage(world, &GetUsageRequest::default()).await
}

/// Tells of so many requests to `web1` that took a millisecond each, the last of them a failure.
async fn requests(world: &World, count: u64) {
    let mut counts = ServiceCounts {
        service: Some(world.route("web1").unwrap().service),
        counts: RequestCounts {
            answered: [0, count - 1, 0, 0, 1],
            unanswered: 0,
            causes: [("app_timed_out".to_owned(), 1)].into(),
        },
        ..ServiceCounts::default()
    };
    counts.latency.record_many(1000, count);
    world.tell(vec![counts]).await;
}

#[tokio::test]
async fn counters_grow_at_once_and_begin_anew_with_control() {
    let mut world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 8191)).await;
    requests(&world, 10).await;
    let first = of_all(&world).await;
    requests(&world, 5).await;
    // Not only once what there is to measure is looked at again.
    let second = of_all(&world).await;
    assert_eq!(second.since, first.since);
    assert!(second.counted_until >= first.counted_until);
    let [before, after] = [&first, &second].map(|answer| &answer.services[0]);
    assert_eq!((&*after.service_name, &*after.service_arn), ("web1", &*arn));
    assert_eq!(after.status, "RUNNING");
    assert_eq!((before.requests, after.requests), (10, 15));
    assert_eq!((after.status_2xx, after.status_5xx), (13, 2));
    assert_eq!(after.causes["app_timed_out"], 2);
    assert_eq!((after.latency.count, after.latency.buckets.len()), (15, 1));
    assert!(second.host.cpus > 0);
    world.restart().await;
    let third = of_all(&world).await;
    assert_ne!(third.since, first.since);
    assert_eq!(third.services[0].requests, 0);
}

#[tokio::test]
async fn what_instances_use_and_hold_is_as_it_is_now() {
    let world = World::new().await;
    running(&world, wanted("web1", "localhost/ok", 8192)).await;
    let instance = world.engine.observe().borrow().instances[0].id;
    world.engine.set_usage(vec![InstanceUsage {
        id: instance,
        cpu_millis: 250,
        memory_bytes: 64 << 20,
    }]);
    world.demand.send_replace(Some(vec![ServiceDemand {
        service: world.route("web1").unwrap().service,
        in_flight: 3,
        queued: 1,
    }]));
    let answer = eventually(async || {
        let answer = of_all(&world).await;
        answer.services[0].in_flight.is_some().then_some(answer)
    });
    let web = answer.await.services.remove(0);
    assert_eq!((web.in_flight, web.queued), (Some(3), Some(1)));
    assert_eq!(web.instances_by_status, [("RUNNING".to_owned(), 1)].into());
    assert_eq!((web.cpu_millis, web.memory_bytes), (250, 64 << 20));
    assert_eq!((web.cpu_millis_max, web.memory_bytes_max), (1000, 2 << 30));
    assert_eq!(web.instances[0].instance_id, instance.to_string());
    assert_eq!(web.instances[0].cpu_millis, Some(250));
}

#[tokio::test]
async fn services_come_page_by_page_or_one_alone() {
    let world = World::new().await;
    let mut arns = Vec::new();
    for (number, port) in [(1, 8193), (2, 8194), (3, 8195)] {
        let request = wanted(&format!("web{number}"), "localhost/ok", port);
        arns.push(running(&world, request).await);
    }
    let mut request = GetUsageRequest {
        max_results: Some(2),
        ..GetUsageRequest::default()
    };
    let first = usage(&world, &request).await;
    request.next_token = first.next_token;
    let second = usage(&world, &request).await;
    let names = first.services.iter().chain(&second.services);
    let names: Vec<_> = names.map(|service| &*service.service_name).collect();
    assert_eq!(names, ["web1", "web2", "web3"]);
    assert_eq!(second.next_token, None);
    let one = GetUsageRequest {
        service_arn: Some(arns[1].clone()),
        ..GetUsageRequest::default()
    };
    let one = usage(&world, &one).await;
    assert_eq!((one.services.len(), one.next_token), (1, None));
    assert_eq!(one.services[0].service_name, "web2");
    for (request, code, words) in [
        (
            json!({ "MaxResults": 51 }),
            "InvalidRequestException",
            "from 1 to 50",
        ),
        (
            json!({ "ServiceArn": arns[0].replace("web1", "web9") }),
            "ResourceNotFoundException",
            "web9",
        ),
    ] {
        refused(ask(&world, "Ekiden.GetUsage", request).await, code, words);
    }
}

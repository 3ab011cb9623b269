//! The settings of a service's front door, over the real API.

#![allow(clippy::unwrap_used)]

mod support;

use ekiden_aws::native;
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

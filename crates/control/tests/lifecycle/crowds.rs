//! Many requests at the same moment, and the ends of services.

use ekiden_aws::client::ClientError;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{ask, refused, running, support::World, wanted};

#[tokio::test]
async fn of_a_thousand_requests_at_once_exactly_one_is_accepted() {
    let world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7400)).await;
    world.engine.hold_images(true);
    let calls = (0..1000).map(|number: u32| {
        let (world, arn) = (&world, arn.clone());
        async move {
            match number % 3 {
                0 => world.simple("StartDeployment", &arn).await,
                1 => {
                    let memory = json!({ "Memory": "3 GB" });
                    let request = json!({ "ServiceArn": arn, "InstanceConfiguration": memory });
                    ask(world, "AppRunner.UpdateService", request).await
                }
                _ => {
                    let port = json!({ "Port": "7401" });
                    let image = json!({ "ImageRepository": { "ImageConfiguration": port } });
                    let request = json!({ "ServiceArn": arn, "SourceConfiguration": image });
                    ask(world, "AppRunner.UpdateService", request).await
                }
            }
        }
    });
    let answers = join_all(calls).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted, 1);
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(is_state_or_throttling(error), "{error}");
    }
    world.engine.hold_images(false);
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let operations = world.simple("ListOperations", &arn).await.unwrap();
    assert_eq!(
        operations["OperationSummaryList"].as_array().unwrap().len(),
        2
    );
}

fn is_state_or_throttling(error: &ClientError) -> bool {
    match error.code() {
        Some("InvalidStateException" | "ThrottlingException") => true,
        Some("InvalidRequestException") => error.to_string().contains("isn't in RUNNING state"),
        Some(_) | None => false,
    }
}

#[tokio::test]
async fn of_creates_of_one_name_at_once_exactly_one_succeeds() {
    let world = World::new().await;
    let calls = (0..20).map(|_| {
        let request = wanted("web1", "localhost/ok", 7402);
        ask(&world, "AppRunner.CreateService", request)
    });
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        let words = "Service with the provided name already exists: web1";
        refused(answer, "InvalidRequestException", words);
    }
}

#[tokio::test]
async fn a_deleted_service_is_a_tombstone_and_its_name_is_free_at_once() {
    let mut world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7403)).await;
    world.simple("DeleteService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "DELETED");
    let second = running(&world, wanted("web1", "localhost/ok", 7403)).await;
    assert_ne!(second, arn);
    world.restart().await;
    let dead = world.describe(&arn).await;
    assert_eq!(dead.status.as_deref(), Some("DELETED"));
    assert!(dead.deleted_at.is_some());
    let operations = world.simple("ListOperations", &arn).await.unwrap();
    let newest = &operations["OperationSummaryList"][0];
    assert_eq!(
        (newest["Type"].as_str(), newest["Status"].as_str()),
        (Some("DELETE_SERVICE"), Some("SUCCEEDED"))
    );
    let cases = [
        (
            "DeleteService",
            "ResourceNotFoundException",
            "cannot be found",
        ),
        (
            "UpdateService",
            "InvalidStateException",
            "in the current state: DELETED.",
        ),
        (
            "PauseService",
            "InvalidStateException",
            "in the current state: DELETED.",
        ),
        (
            "ResumeService",
            "InvalidStateException",
            "in the current state: DELETED.",
        ),
        (
            "StartDeployment",
            "InvalidRequestException",
            "isn't in RUNNING state",
        ),
    ];
    for (operation, code, words) in cases {
        refused(world.simple(operation, &arn).await, code, words);
    }
    let listed = ask(&world, "AppRunner.ListServices", json!({}))
        .await
        .unwrap();
    let arns: Vec<_> = listed["ServiceSummaryList"]
        .as_array()
        .unwrap()
        .iter()
        .map(|summary| summary["ServiceArn"].clone())
        .collect();
    assert_eq!(arns, [json!(second)]);
}

/// What the GitHub action does with a service whose create failed (specification, section 20.6).
#[tokio::test]
async fn a_failed_create_is_deleted_and_made_again_under_its_name() {
    let world = World::new().await;
    let request = wanted("web1", "localhost/crash", 7404);
    let created = ask(&world, "AppRunner.CreateService", request.clone())
        .await
        .unwrap();
    let arn = created["Service"]["ServiceArn"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(world.settled(&arn).await, "CREATE_FAILED");
    let words = "Service with the provided name already exists: web1";
    let answer = ask(&world, "AppRunner.CreateService", request).await;
    refused(answer, "InvalidRequestException", words);
    world.simple("DeleteService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "DELETED");
    running(&world, wanted("web1", "localhost/ok", 7404)).await;
}

#[tokio::test]
async fn a_failed_create_is_rebuilt_by_an_update_without_a_change() {
    let world = World::new().await;
    world.engine.set_registry(false);
    let request = wanted("web1", "registry.test/ok", 7405);
    let created = ask(&world, "AppRunner.CreateService", request)
        .await
        .unwrap();
    let arn = created["Service"]["ServiceArn"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(world.settled(&arn).await, "CREATE_FAILED");
    let url = world.describe(&arn).await.service_url;
    world.engine.set_registry(true);
    let answer: Value = world.simple("UpdateService", &arn).await.unwrap();
    assert!(answer["OperationId"].is_string());
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(world.newest_operation(&arn).await.r#type, "UPDATE_SERVICE");
    assert_eq!(world.describe(&arn).await.service_url, url);
}

/// Their routes are stored together, and each has what its own worker published.
#[tokio::test]
async fn services_that_begin_at_once_have_each_its_own_route() {
    let world = World::new().await;
    let names: Vec<String> = (0..30).map(|number| format!("crowd{number}")).collect();
    let starts = names.iter().enumerate().map(|(number, name)| {
        let port = 7500 + number as u16;
        running(&world, wanted(name, "localhost/ok", port))
    });
    let arns = join_all(starts).await;
    let mut seen = std::collections::HashSet::new();
    for name in &names {
        let route = world.route(name).unwrap();
        assert_eq!(
            (route.service_name.as_str(), route.upstreams.len()),
            (name.as_str(), 1)
        );
        assert!(seen.insert(route.upstreams[0].instance));
    }
    let ends = arns.iter().map(|arn| async {
        world.simple("DeleteService", arn).await.unwrap();
        world.settled(arn).await
    });
    for status in join_all(ends).await {
        assert_eq!(status, "DELETED");
    }
    world
        .until(|world| names.iter().all(|name| world.route(name).is_none()))
        .await;
}

//! An operation is cancelled: it fails, and is undone like any that fails.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    ask, refused, running,
    support::{World, eventually},
    wanted,
};

async fn cancel(world: &World, arn: &str) -> Value {
    let request = json!({ "ServiceArn": arn });
    ask(world, "Ekiden.CancelOperation", request).await.unwrap()["Operation"].clone()
}

/// Waits until the newest operation is at a step.
async fn reaches(world: &World, arn: &str, step: &str) {
    eventually(async || (world.newest_operation(arn).await.step == step).then_some(())).await;
}

/// A world in which nobody is too late.
async fn patient() -> World {
    World::configured(|config| config.timing.startup_limit = Duration::from_secs(3600)).await
}

#[tokio::test]
async fn a_create_is_cancelled_while_its_image_is_fetched() {
    let world = World::new().await;
    world.engine.hold_images(true);
    let created = world.create("web1", "ok", 7200).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    reaches(&world, &arn, "prepare image").await;
    let cancelled = cancel(&world, &arn).await;
    assert_eq!(cancelled["Step"], "undo");
    assert_eq!(cancelled["Failure"]["Reason"], "it was cancelled");
    assert_eq!(world.settled(&arn).await, "CREATE_FAILED");
    let operation = world.newest_operation(&arn).await;
    assert_eq!(operation.status, "FAILED");
    let steps: Vec<_> = operation.steps.iter().map(|s| s.step.as_str()).collect();
    assert_eq!(steps, ["accepted", "prepare image", "undo"]);
    assert!(operation.steps.is_sorted_by_key(|step| step.timestamp));

    // The image that comes late is not taken for that of the next operation.
    world.engine.push("ok");
    world.simple("UpdateService", &arn).await.unwrap();
    world.engine.hold_images(false);
    assert_eq!(world.settled(&arn).await, "RUNNING");
}

#[tokio::test]
async fn an_update_is_cancelled_while_its_instances_start_and_nothing_is_left_of_it() {
    let world = patient().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7201)).await;
    let before = world.route("web1").unwrap();
    let words = world.describe(&arn).await.source_configuration;
    world.update_image(&arn, "deaf", 7201).await;
    reaches(&world, &arn, "start instances").await;
    cancel(&world, &arn).await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let operation = world.newest_operation(&arn).await;
    assert_eq!(operation.status, "ROLLBACK_SUCCEEDED");
    assert_eq!(operation.failure.unwrap().step, "start instances");
    assert_eq!(world.route("web1").unwrap(), before);
    assert_eq!(world.describe(&arn).await.source_configuration, words);
    assert_eq!(world.running(), 1);
}

#[tokio::test]
async fn a_resume_is_cancelled_and_the_service_stays_paused() {
    let mut world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7202)).await;
    world.simple("PauseService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "PAUSED");
    world.engine.set_available(false);
    world.simple("ResumeService", &arn).await.unwrap();
    cancel(&world, &arn).await;
    world.restart().await;
    world.engine.set_available(true);
    assert_eq!(world.settled(&arn).await, "PAUSED");
    assert_eq!(world.newest_operation(&arn).await.status, "FAILED");
    assert_eq!(world.running(), 0);
}

#[tokio::test]
async fn what_cannot_be_cancelled_says_why() {
    let world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7203)).await;
    let request = || json!({ "ServiceArn": arn });
    let answer = ask(&world, "Ekiden.CancelOperation", request()).await;
    refused(
        answer,
        "InvalidStateException",
        "no operation is on its way",
    );
    let created = world.newest_operation(&arn).await.id;
    let of = |id: &str| json!({ "ServiceArn": arn, "OperationId": id });
    world.engine.hold_images(true);
    world.simple("StartDeployment", &arn).await.unwrap();
    let answer = ask(&world, "Ekiden.CancelOperation", of(&created)).await;
    refused(answer, "InvalidStateException", "that operation is over");
    let answer = ask(&world, "Ekiden.CancelOperation", of("not an id")).await;
    refused(answer, "InvalidRequestException", "OperationId");
    world.engine.set_available(false);
    cancel(&world, &arn).await;
    let answer = ask(&world, "Ekiden.CancelOperation", request()).await;
    refused(
        answer,
        "InvalidStateException",
        "it is being undone already",
    );
    world.engine.set_available(true);
    assert_eq!(world.settled(&arn).await, "RUNNING");
    world.engine.set_available(false);
    world.simple("DeleteService", &arn).await.unwrap();
    let answer = ask(&world, "Ekiden.CancelOperation", request()).await;
    refused(
        answer,
        "InvalidStateException",
        "DELETE_SERVICE cannot be cancelled",
    );
    world.engine.set_available(true);
    assert_eq!(world.settled(&arn).await, "DELETED");
    let answer = ask(&world, "Ekiden.CancelOperation", request()).await;
    refused(
        answer,
        "InvalidStateException",
        "no operation is on its way",
    );
}

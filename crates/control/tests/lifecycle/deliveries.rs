//! Deployments that nobody asked for but a push.

use ekiden_engine::Engine;
use serde_json::{Value, json};

use crate::{
    ask, running,
    support::{World, eventually},
    wanted, with,
};

fn follows(image: &str, port: u16) -> Value {
    with(
        wanted("web1", image, port),
        json!({ "SourceConfiguration": { "AutoDeploymentsEnabled": true } }),
    )
}

async fn operations(world: &World, arn: &str) -> Vec<(String, String)> {
    let answer = ask(
        world,
        "AppRunner.ListOperations",
        json!({ "ServiceArn": arn }),
    );
    let answer = answer.await.unwrap();
    let text = |one: &Value, member: &str| one[member].as_str().unwrap().to_owned();
    let list = answer["OperationSummaryList"].as_array().unwrap();
    list.iter()
        .map(|one| (text(one, "Type"), text(one, "Status")))
        .collect()
}

/// The newest operation is the `count`th and over.
async fn over(world: &World, arn: &str, count: usize) -> String {
    eventually(async || {
        let all = operations(world, arn).await;
        let (_, status) = &all[0];
        let is_over = all.len() == count && !status.contains("PROGRESS") && status != "PENDING";
        is_over.then(|| status.clone())
    })
    .await
}

#[tokio::test]
async fn a_push_to_another_registry_is_found_and_deployed_once() {
    let mut world = World::new().await;
    let arn = running(&world, follows("registry.example/ok:1", 8161)).await;
    for count in 2..4 {
        world.engine.push("ok");
        assert_eq!(over(&world, &arn, count).await, "SUCCEEDED");
        let newest = &operations(&world, &arn).await[0];
        assert_eq!(newest.0, "START_DEPLOYMENT");
    }
    // What was looked at is remembered, whatever becomes of control and of the registry.
    world.engine.set_registry(false);
    world.restart().await;
    world.engine.set_registry(true);
    world.until(|world| world.running() == 1).await;
    world.engine.push("ok");
    assert_eq!(over(&world, &arn, 4).await, "SUCCEEDED");
}

#[tokio::test]
async fn who_does_not_follow_or_does_not_run_is_left_alone() {
    let world = World::new().await;
    let arn = running(
        &world,
        with(
            follows("registry.example/ok:1", 8162),
            json!({ "SourceConfiguration": { "AutoDeploymentsEnabled": false } }),
        ),
    )
    .await;
    world.engine.push("ok");
    let update = json!({ "ServiceArn": arn,
        "SourceConfiguration": { "AutoDeploymentsEnabled": true } });
    world.simple("PauseService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "PAUSED");
    world.simple("ResumeService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(operations(&world, &arn).await.len(), 3);
    // Whoever begins to follow gets what was pushed before.
    let images = world.engine.observe().borrow().instances.len();
    assert_eq!(images, 1);
    ask(&world, "AppRunner.UpdateService", update)
        .await
        .unwrap();
    assert_eq!(over(&world, &arn, 4).await, "SUCCEEDED");
}

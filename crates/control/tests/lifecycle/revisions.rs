//! Revisions are listed and returned to.

use serde_json::{Value, json};

use crate::{ask, refused, running, support::World, wanted, with};

async fn revisions(world: &World, arn: &str) -> Vec<Value> {
    let request = json!({ "ServiceArn": arn });
    let answer = ask(world, "Ekiden.ListRevisions", request).await.unwrap();
    answer["Revisions"].as_array().unwrap().clone()
}

async fn deploy(world: &World, arn: &str) {
    world.simple("StartDeployment", arn).await.unwrap();
    assert_eq!(world.settled(arn).await, "RUNNING");
    assert_eq!(world.newest_operation(arn).await.status, "SUCCEEDED");
}

async fn roll_back(world: &World, arn: &str, members: Value) -> Value {
    let request = with(json!({ "ServiceArn": arn }), members);
    let answer = ask(world, "Ekiden.RollbackService", request).await.unwrap();
    assert_eq!(world.settled(arn).await, "RUNNING");
    let operation = world.newest_operation(arn).await;
    assert_eq!(operation.status, "SUCCEEDED", "{operation:?}");
    assert_eq!(operation.r#type, "UPDATE_SERVICE");
    assert_eq!(answer["OperationId"], operation.id);
    answer
}

#[tokio::test]
async fn revisions_are_listed_with_what_they_are() {
    let world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7300)).await;
    let create = world.newest_operation(&arn).await.id;
    world.update_image(&arn, "crash", 7300).await;
    world.settled(&arn).await;
    deploy(&world, &arn).await;
    let all = revisions(&world, &arn).await;
    let shown: Vec<_> = all
        .iter()
        .map(|r| {
            (
                r["Revision"].as_u64().unwrap(),
                r["Served"] == true,
                r["Active"] == true,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [(3, true, true), (2, false, false), (1, true, false)]
    );
    let first = &all[2];
    assert_eq!(first["OperationId"], create);
    assert_eq!(first["Image"], "localhost/ok:latest");
    assert!(
        first["ImageDigest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let described = world.describe(&arn).await;
    let words = serde_json::to_value(described.source_configuration).unwrap();
    assert_eq!(first["Configuration"]["SourceConfiguration"], words);

    let page = json!({ "ServiceArn": arn, "MaxResults": 2 });
    let page = ask(&world, "Ekiden.ListRevisions", page).await.unwrap();
    assert_eq!(page["Revisions"].as_array().unwrap().len(), 2);
    let next = json!({ "ServiceArn": arn, "MaxResults": 2, "NextToken": page["NextToken"] });
    let next = ask(&world, "Ekiden.ListRevisions", next).await.unwrap();
    assert_eq!(next["Revisions"], json!([first]));
    assert!(next["NextToken"].is_null());
    let forged = json!({ "ServiceArn": arn, "MaxResults": 2, "NextToken": "bmVpbg" });
    let answer = ask(&world, "Ekiden.ListRevisions", forged).await;
    refused(answer, "InvalidRequestException", "NextToken");
}

#[tokio::test]
async fn a_service_returns_to_the_very_image_though_the_tag_moved_and_the_registry_is_gone() {
    let world = World::new().await;
    let variables = |value: &str| {
        json!({ "SourceConfiguration": { "ImageRepository": { "ImageConfiguration": {
            "RuntimeEnvironmentVariables": { "MODE": value },
        }}}})
    };
    let request = with(wanted("web1", "registry.test/ok:1", 7301), variables("old"));
    let arn = running(&world, request).await;
    world.engine.push("ok");
    let update = with(json!({ "ServiceArn": arn }), variables("new"));
    ask(&world, "AppRunner.UpdateService", update)
        .await
        .unwrap();
    world.settled(&arn).await;
    let all = revisions(&world, &arn).await;
    assert_ne!(all[0]["ImageDigest"], all[1]["ImageDigest"]);

    world.engine.push("ok");
    world.engine.set_registry(false);
    let answer = roll_back(&world, &arn, json!({})).await;
    assert_eq!(answer["Revision"], 1);
    assert_eq!(answer["Service"]["Status"], "OPERATION_IN_PROGRESS");
    let newest = revisions(&world, &arn).await[0].clone();
    assert_eq!(newest["CopyOf"], 1);
    assert_eq!(newest["ImageDigest"], all[1]["ImageDigest"]);
    let described = serde_json::to_value(world.describe(&arn).await).unwrap();
    let image = &described["SourceConfiguration"]["ImageRepository"];
    assert_eq!(
        image["ImageConfiguration"]["RuntimeEnvironmentVariables"]["MODE"],
        "old"
    );
    assert_eq!(
        image["ImageIdentifier"], "registry.test/ok:1",
        "the words, not the digest"
    );

    // And back again; then a deployment follows the tag as ever.
    assert_eq!(roll_back(&world, &arn, json!({})).await["Revision"], 2);
    assert_eq!(
        roll_back(&world, &arn, json!({ "Revision": 1 })).await["Revision"],
        1
    );
    world.simple("StartDeployment", &arn).await.unwrap();
    world.settled(&arn).await;
    assert_eq!(
        world.newest_operation(&arn).await.status,
        "ROLLBACK_SUCCEEDED"
    );
    world.engine.set_registry(true);
    deploy(&world, &arn).await;
    let newest = revisions(&world, &arn).await[0].clone();
    let old: Vec<_> = all
        .iter()
        .map(|revision| &revision["ImageDigest"])
        .collect();
    assert!(!old.contains(&&newest["ImageDigest"]));
}

#[tokio::test]
async fn images_of_kept_revisions_are_kept_and_others_go() {
    let world = World::new().await;
    let arn = running(&world, wanted("web1", "localhost/ok", 7302)).await;
    world.engine.push("ok");
    deploy(&world, &arn).await;
    assert_eq!(world.engine.images_here().len(), 2);
    world.simple("DeleteService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "DELETED");
    world
        .until(|world| world.engine.images_here().is_empty())
        .await;
}

#[tokio::test]
async fn what_cannot_be_returned_to_says_why() {
    let world = World::new().await;
    let created = world.create("web1", "crash", 7303).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "CREATE_FAILED");
    let back = |members| with(json!({ "ServiceArn": arn }), members);
    let answer = ask(&world, "Ekiden.RollbackService", back(json!({}))).await;
    refused(answer, "InvalidStateException", "CREATE_FAILED");
    world.update_image(&arn, "ok", 7303).await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let answer = ask(&world, "Ekiden.RollbackService", back(json!({}))).await;
    refused(answer, "InvalidRequestException", "none to return to");
    let answer = ask(
        &world,
        "Ekiden.RollbackService",
        back(json!({ "Revision": 2 })),
    )
    .await;
    refused(
        answer,
        "InvalidRequestException",
        "Revision 2 is the active one",
    );
    let answer = ask(
        &world,
        "Ekiden.RollbackService",
        back(json!({ "Revision": 9 })),
    )
    .await;
    refused(answer, "ResourceNotFoundException", "no revision 9");
    // A revision that failed can be tried again: it fails again, and nothing is lost.
    ask(
        &world,
        "Ekiden.RollbackService",
        back(json!({ "Revision": 1 })),
    )
    .await
    .unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(
        world.newest_operation(&arn).await.status,
        "ROLLBACK_SUCCEEDED"
    );
}

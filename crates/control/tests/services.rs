//! Services over the real API: their operations from end to end.

#![allow(clippy::unwrap_used)]

mod support;

use ekiden_aws::{apprunner::shapes as wire, native};
use ekiden_engine::Engine;
use ekiden_model::route::RouteState;

use crate::support::{World, source};

#[tokio::test]
async fn a_service_lives_from_create_to_delete() {
    let world = World::new().await;
    let created = world.create("web1", "ok", 7001).await;
    let service = created.service.unwrap();
    assert_eq!(service.status.as_deref(), Some("OPERATION_IN_PROGRESS"));
    let arn = service.service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let route = world.route("web1").unwrap();
    assert_eq!(
        (route.state, route.upstreams.len()),
        (RouteState::Serving, 1)
    );
    assert_eq!(route.hosts, [service.service_url.unwrap()]);

    let paused = world.simple("PauseService", &arn).await.unwrap();
    assert!(paused["OperationId"].is_string());
    assert_eq!(world.settled(&arn).await, "PAUSED");
    assert_eq!(world.running(), 0);
    assert_eq!(world.route("web1").unwrap().state, RouteState::Paused);
    let again = world.simple("PauseService", &arn).await.unwrap();
    assert!(again["OperationId"].is_null(), "already paused: {again}");

    world.simple("ResumeService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(world.running(), 1);

    world.simple("StartDeployment", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(world.newest_operation(&arn).await.revision, Some(2));

    world.simple("DeleteService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "DELETED");
    assert!(world.describe(&arn).await.deleted_at.is_some());
    world.until(|world| world.route("web1").is_none()).await;
    world
        .until(|world| world.engine.observe().borrow().instances.is_empty())
        .await;
    world.create("web1", "ok", 7001).await;
}

#[tokio::test]
async fn a_failed_update_leaves_the_old_revision_serving_and_says_why() {
    let world = World::new().await;
    let arn = world
        .create("web1", "ok", 7002)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    world.settled(&arn).await;
    let before = world.route("web1").unwrap();
    for (image, step, reason) in [
        ("missing", "prepare image", "not found"),
        (
            "crash",
            "start instances",
            "exited with code 1 before it was healthy, 3 times",
        ),
        ("deaf", "start instances", "nothing listens on the port"),
    ] {
        world.update_image(&arn, image, 7002).await;
        assert_eq!(world.settled(&arn).await, "RUNNING");
        let operation = world.newest_operation(&arn).await;
        assert_eq!(operation.status, "ROLLBACK_SUCCEEDED", "{image}");
        let failure = operation.failure.unwrap();
        assert_eq!(failure.step, step);
        assert!(failure.reason.contains(reason), "{}", failure.reason);
        if image == "crash" {
            assert_eq!(failure.log_lines, ["cannot find my configuration"]);
        }
        assert_eq!(world.route("web1").unwrap(), before, "{image}");
    }
    world
        .until(|world| world.engine.observe().borrow().instances.len() == 1)
        .await;
    let configured = world.describe(&arn).await.source_configuration.unwrap();
    let image = configured.image_repository.unwrap().image_identifier;
    assert_eq!(image.as_deref(), Some("localhost/ok"));
}

#[tokio::test]
async fn a_failed_create_is_mended_by_an_update() {
    let world = World::new().await;
    let arn = world
        .create("web1", "crash", 7003)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    assert_eq!(world.settled(&arn).await, "CREATE_FAILED");
    assert_eq!(world.newest_operation(&arn).await.status, "FAILED");
    assert_eq!(world.route("web1").unwrap().state, RouteState::NotDeployed);
    world.update_image(&arn, "ok", 7003).await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
}

#[tokio::test]
async fn a_restarted_control_plane_goes_on_and_disturbs_nothing() {
    let mut world = World::new().await;
    let arn = world
        .create("web1", "ok", 7004)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    world.settled(&arn).await;
    let before = world.route("web1").unwrap();
    world.restart().await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(world.route("web1").unwrap(), before);

    // Stopped as soon as the update is acknowledged: it goes on after the restart.
    world.update_image(&arn, "ok", 7004).await;
    world.restart().await;
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(world.newest_operation(&arn).await.status, "SUCCEEDED");
    assert_ne!(world.route("web1").unwrap().upstreams, before.upstreams);
    world.until(|world| world.running() == 1).await;
}

#[tokio::test]
async fn an_instance_that_ends_is_replaced() {
    let world = World::new().await;
    let arn = world
        .create("web1", "ok", 7005)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    world.settled(&arn).await;
    let first = world.route("web1").unwrap().upstreams[0].instance;
    world.engine.crash(first, 1);
    world
        .until(|world| {
            let route = world.route("web1").unwrap();
            route
                .upstreams
                .first()
                .is_some_and(|upstream| upstream.instance != first)
        })
        .await;
    assert_eq!(
        world.describe(&arn).await.status.as_deref(),
        Some("RUNNING")
    );
}

#[tokio::test]
async fn an_engine_that_is_away_is_waited_for() {
    let world = World::new().await;
    world.engine.set_available(false);
    let arn = world
        .create("web1", "ok", 7006)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    let request = serde_json::json!({});
    let status: native::GetStatusResponse = world.call("Ekiden.GetStatus", &request).await.unwrap();
    assert!(!status.engine_current);
    world.engine.set_available(true);
    assert_eq!(world.settled(&arn).await, "RUNNING");
}

#[tokio::test]
async fn refusals_have_app_runners_codes_and_words() {
    let world = World::new().await;
    // The operation that they meet does not end before they have.
    world.engine.hold_images(true);
    let arn = world
        .create("web1", "ok", 7007)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    let busy = world.simple("DeleteService", &arn).await.unwrap_err();
    assert_eq!(busy.code(), Some("InvalidStateException"));
    assert!(
        busy.to_string()
            .contains("Service cannot be deleted in the current state: OPERATION_IN_PROGRESS."),
        "{busy}"
    );
    let early = world.simple("StartDeployment", &arn).await.unwrap_err();
    assert_eq!(early.code(), Some("InvalidRequestException"));
    world.engine.hold_images(false);
    world.settled(&arn).await;
    let nothing = world.simple("UpdateService", &arn).await.unwrap_err();
    assert!(
        nothing.to_string().contains("No configurations provided"),
        "{nothing}"
    );
    let unknown = world
        .simple("DescribeService", &arn.replace("web1", "web2"))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Some("ResourceNotFoundException"));
    let target: Result<serde_json::Value, _> = world.call("AppRunner.Nope", &()).await;
    assert_eq!(
        target.unwrap_err().code(),
        Some("UnknownOperationException")
    );
}

#[tokio::test]
async fn lists_are_paged_in_order() {
    let world = World::new().await;
    for number in 1..=5 {
        world
            .create(&format!("web{number}"), "ok", 7010 + number)
            .await;
    }
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let request = wire::ListServicesRequest {
            next_token: token,
            max_results: Some(2),
        };
        let page: wire::ListServicesResponse = world
            .call("AppRunner.ListServices", &request)
            .await
            .unwrap();
        names.extend(
            page.service_summary_list
                .unwrap()
                .into_iter()
                .map(|s| s.service_name),
        );
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    let want: Vec<_> = (1..=5).map(|number| Some(format!("web{number}"))).collect();
    assert_eq!(names, want);
}

#[tokio::test]
async fn a_scaling_configuration_decides_how_many_run() {
    let world = World::new().await;
    let request = wire::CreateAutoScalingConfigurationRequest {
        auto_scaling_configuration_name: Some("three".into()),
        min_size: Some(3),
        ..Default::default()
    };
    let made: wire::CreateAutoScalingConfigurationResponse = world
        .call("AppRunner.CreateAutoScalingConfiguration", &request)
        .await
        .unwrap();
    let configuration = made.auto_scaling_configuration.unwrap();
    let request = wire::CreateServiceRequest {
        service_name: Some("web1".into()),
        source_configuration: Some(source("ok", 7030)),
        auto_scaling_configuration_arn: configuration.auto_scaling_configuration_arn.clone(),
        ..Default::default()
    };
    let created: wire::CreateServiceResponse = world
        .call("AppRunner.CreateService", &request)
        .await
        .unwrap();
    let arn = created.service.unwrap().service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(world.route("web1").unwrap().upstreams.len(), 3);
    let summary = world
        .describe(&arn)
        .await
        .auto_scaling_configuration_summary
        .unwrap();
    assert_eq!(
        summary.auto_scaling_configuration_arn,
        configuration.auto_scaling_configuration_arn
    );
}

//! The control plane stops and starts again at every recorded step of every operation, and whoever
//! polls never sees what cannot be.

use std::time::Duration;

use serde_json::json;

use crate::{
    ask, running,
    support::{PATIENCE, World},
    wanted,
};

/// Brings a service to where the operation can be asked for, asks, and answers the ARN, the status
/// while it goes on and the one after it.
async fn begin(world: &World, kind: &str, port: u16) -> (String, &'static str) {
    let request = wanted("web1", "localhost/ok", port);
    if kind == "create" {
        let created = ask(world, "AppRunner.CreateService", request)
            .await
            .unwrap();
        let arn = created["Service"]["ServiceArn"]
            .as_str()
            .unwrap()
            .to_owned();
        return (arn, "RUNNING");
    }
    let arn = running(world, request).await;
    let (operation, after) = match kind {
        "update" => {
            world.update_image(&arn, "ok", port).await;
            return (arn, "RUNNING");
        }
        "start" => ("StartDeployment", "RUNNING"),
        "pause" => ("PauseService", "PAUSED"),
        "resume" => {
            world.simple("PauseService", &arn).await.unwrap();
            assert_eq!(world.settled(&arn).await, "PAUSED");
            ("ResumeService", "RUNNING")
        }
        "delete" => ("DeleteService", "DELETED"),
        "cancel" => {
            world.engine.hold_images(true);
            world.simple("StartDeployment", &arn).await.unwrap();
            let request = json!({ "ServiceArn": arn });
            ask(world, "Ekiden.CancelOperation", request).await.unwrap();
            return (arn, "RUNNING");
        }
        other => panic!("{other}"),
    };
    world.simple(operation, &arn).await.unwrap();
    (arn, after)
}

/// Restarts at each new step that is seen, and answers them; meanwhile every answer must fit.
async fn restart_at_every_step(world: &mut World, arn: &str, after: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    loop {
        let operation = world.newest_operation(arn).await;
        let status = world.describe(arn).await.status.unwrap();
        let over = matches!(
            operation.status.as_str(),
            "SUCCEEDED" | "FAILED" | "ROLLBACK_SUCCEEDED"
        );
        match over {
            true => assert_eq!(status, after, "{operation:?}"),
            // It may have ended between the two answers, but to nothing else.
            false => assert!(
                status == "OPERATION_IN_PROGRESS" || status == after,
                "{status}"
            ),
        }
        let recorded: Vec<_> = operation.steps.iter().map(|s| s.step.clone()).collect();
        assert!(recorded.starts_with(&steps), "{recorded:?} after {steps:?}");
        if over {
            return recorded;
        }
        if recorded != steps {
            steps = recorded;
            world.restart().await;
        }
        // What was let through by the restart goes on; nothing waits for us.
        world.engine.hold_images(false);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn every_operation_goes_on_after_a_restart_at_each_of_its_steps() {
    for (number, kind) in [
        "create", "update", "start", "pause", "resume", "delete", "cancel",
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = World::new().await;
        let (arn, after) = begin(&world, kind, 7500 + number as u16).await;
        let steps = tokio::time::timeout(PATIENCE, restart_at_every_step(&mut world, &arn, after))
            .await
            .unwrap_or_else(|_| panic!("{kind} ends"));
        let want: &[&str] = match kind {
            "create" | "update" | "start" => &[
                "accepted",
                "prepare image",
                "start instances",
                "switch traffic",
            ],
            "resume" => &["accepted", "start instances", "switch traffic"],
            "cancel" => &["accepted", "prepare image", "undo"],
            _ => &["accepted", "drain and stop"],
        };
        match kind {
            // It may be cancelled before anybody takes it up.
            "cancel" => assert_eq!(steps.last().map(String::as_str), Some("undo")),
            _ => assert_eq!(steps, want, "{kind}"),
        }
        let instances = match after {
            "RUNNING" => 1,
            _ => 0,
        };
        world.until(|world| world.running() == instances).await;
    }
}

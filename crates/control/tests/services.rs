//! The control plane over its real API and sockets, with a simulated engine and an edge that only
//! acknowledges.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use ekiden_aws::{
    apprunner::shapes as wire,
    client::{Client, ClientError},
    native,
    sigv4::credentials::{Credentials, SecretAccessKey},
};
use ekiden_control::{ControlConfig, DomainValidation, Handshake, Quotas, References};
use ekiden_engine::{
    Engine,
    frame::{read_frame, write_frame},
    simulated::SimulatedEngine,
};
use ekiden_model::{
    instance::InstanceState,
    plan::Timing,
    route::{FromEdge, ROUTE_PROTOCOL_VERSION, Route, RouteHello, RouteState, ToEdge},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// No state may take longer than this to come about, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(30);

static NEXT_SUBNET: AtomicU8 = AtomicU8::new(10);

/// A control plane that can be stopped and started again on the same data, engine and edge.
struct World {
    dir: tempfile::TempDir,
    engine: SimulatedEngine,
    control: Option<Control>,
    routes: watch::Receiver<BTreeMap<String, Route>>,
    edge: JoinHandle<()>,
}

struct Control {
    api: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = SimulatedEngine::new(NEXT_SUBNET.fetch_add(1, Ordering::SeqCst));
        let (sender, routes) = watch::channel(BTreeMap::new());
        let edge = tokio::spawn(acknowledge_forever(dir.path().join("edge.sock"), sender));
        let mut world = Self {
            dir,
            engine,
            control: None,
            routes,
            edge,
        };
        world.start().await;
        world
    }

    async fn start(&mut self) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap();
        let config = ControlConfig {
            data_dir: self.dir.path().join("control"),
            edge_uids: vec![rustix::process::geteuid().as_raw()],
            account_id: "100000000001".into(),
            domain: "test".into(),
            timing: Timing {
                startup_limit: Duration::from_secs(1),
                ..Timing::default()
            },
            quotas: Quotas::default(),
            handshake: Handshake::default(),
            references: References::default(),
            domain_validation: DomainValidation::default(),
            prebuilt: BTreeMap::new(),
        };
        std::fs::create_dir_all(&config.data_dir).unwrap();
        let edge_socket = self.dir.path().join("edge.sock");
        let _ = std::fs::remove_file(&edge_socket);
        let edges = std::os::unix::net::UnixListener::bind(&edge_socket).unwrap();
        let stop = CancellationToken::new();
        let (engine, token) = (self.engine.clone(), stop.clone());
        let task = tokio::spawn(async move {
            ekiden_control::run(config, engine, listener, edges, || (), token)
                .await
                .unwrap();
        });
        self.control = Some(Control { api, stop, task });
        // The key is there before the first answer is.
        self.until(|world| world.dir.path().join("control/admin-key.json").exists())
            .await;
    }

    async fn stop(&mut self) {
        let control = self.control.take().unwrap();
        control.stop.cancel();
        control.task.await.unwrap();
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the state comes about");
    }

    fn client(&self) -> Client {
        let key: BTreeMap<String, String> = serde_json::from_slice(
            &std::fs::read(self.dir.path().join("control/admin-key.json")).unwrap(),
        )
        .unwrap();
        let credentials = Credentials {
            access_key_id: key["access_key_id"].clone(),
            secret_access_key: SecretAccessKey::new(key["secret_access_key"].clone()),
            session_token: None,
        };
        let endpoint = format!("http://{}", self.control.as_ref().unwrap().api);
        Client::new(&endpoint, "us-east-1", credentials).unwrap()
    }

    async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        target: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        self.client().call(target, input).await
    }

    async fn create(&self, name: &str, image: &str, port: u16) -> wire::CreateServiceResponse {
        let request = wire::CreateServiceRequest {
            service_name: Some(name.into()),
            source_configuration: Some(source(image, port)),
            ..Default::default()
        };
        self.call("AppRunner.CreateService", &request)
            .await
            .unwrap()
    }

    async fn describe(&self, arn: &str) -> wire::Service {
        let request = wire::DescribeServiceRequest {
            service_arn: Some(arn.into()),
        };
        let answer: wire::DescribeServiceResponse = self
            .call("AppRunner.DescribeService", &request)
            .await
            .unwrap();
        answer.service.unwrap()
    }

    /// Waits for the operation on its way to end; answers the status after it.
    async fn settled(&self, arn: &str) -> String {
        let wait = async {
            loop {
                let status = self.describe(arn).await.status.unwrap();
                if status != "OPERATION_IN_PROGRESS" {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the operation ends")
    }

    async fn newest_operation(&self, arn: &str) -> native::Operation {
        let request = native::DescribeOperationRequest {
            service_arn: arn.into(),
            operation_id: None,
        };
        let answer: native::DescribeOperationResponse = self
            .call("Ekiden.DescribeOperation", &request)
            .await
            .unwrap();
        answer.operation
    }

    async fn simple(&self, operation: &str, arn: &str) -> Result<serde_json::Value, ClientError> {
        let request = serde_json::json!({ "ServiceArn": arn });
        self.call(&format!("AppRunner.{operation}"), &request).await
    }

    async fn update_image(&self, arn: &str, image: &str, port: u16) {
        let request = wire::UpdateServiceRequest {
            service_arn: Some(arn.into()),
            source_configuration: Some(source(image, port)),
            ..Default::default()
        };
        let _: wire::UpdateServiceResponse = self
            .call("AppRunner.UpdateService", &request)
            .await
            .unwrap();
    }

    fn route(&self, name: &str) -> Option<Route> {
        self.routes.borrow().get(name).cloned()
    }

    fn running(&self) -> usize {
        let running = |state: &InstanceState| matches!(state, InstanceState::Running { .. });
        self.engine
            .observe()
            .borrow()
            .instances
            .iter()
            .filter(|i| running(&i.state))
            .count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.edge.abort();
    }
}

fn source(image: &str, port: u16) -> wire::SourceConfiguration {
    wire::SourceConfiguration {
        image_repository: Some(wire::ImageRepository {
            image_identifier: Some(format!("localhost/{image}")),
            image_repository_type: Some("ECR".into()),
            image_configuration: Some(wire::ImageConfiguration {
                port: Some(port.to_string()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// Acknowledges every table at once, over as many connections as it takes.
async fn acknowledge_forever(socket: PathBuf, routes: watch::Sender<BTreeMap<String, Route>>) {
    loop {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            // Ends when the control plane does; the next one is waited for.
            let _ = acknowledge(stream, &routes).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn acknowledge(
    mut stream: UnixStream,
    routes: &watch::Sender<BTreeMap<String, Route>>,
) -> std::io::Result<()> {
    write_frame(
        &mut stream,
        &RouteHello {
            version: ROUTE_PROTOCOL_VERSION,
        },
    )
    .await?;
    let _hello: Option<RouteHello> = read_frame(&mut stream).await?;
    while let Some(message) = read_frame(&mut stream).await? {
        let generation = match message {
            ToEdge::Table {
                generation,
                routes: whole,
            } => {
                let by_name = |route: Route| (route.service_name.to_string(), route);
                routes.send_replace(whole.into_iter().map(by_name).collect());
                generation
            }
            ToEdge::Change {
                generation,
                set,
                remove,
            } => {
                routes.send_modify(|table| {
                    table.retain(|_, route| !remove.contains(&route.service));
                    table.extend(set.into_iter().map(|r| (r.service_name.to_string(), r)));
                });
                generation
            }
        };
        write_frame(
            &mut stream,
            &FromEdge::Serving {
                generation,
                draining: vec![],
            },
        )
        .await?;
    }
    Ok(())
}

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

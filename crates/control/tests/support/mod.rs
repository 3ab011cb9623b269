//! What the tests of the control plane share: a control plane over its real API and sockets, with a
//! simulated engine and an edge that only acknowledges.

#![allow(dead_code)] // each file of tests uses its own part of this

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
use ekiden_control::{
    BuildsConfig, CertificatesConfig, ControlConfig, DomainValidation, Handshake, LogsConfig,
    Quotas, References, RegistryConfig, TelemetryConfig,
};
use ekiden_engine::{
    Engine,
    frame::{encode_frame, read_frame, write_frame},
    simulated::SimulatedEngine,
};
use ekiden_model::{
    instance::InstanceState,
    plan::Timing,
    route::{
        FromEdge, ROUTE_PROTOCOL_VERSION, Route, RouteHello, ServiceCounts, ServiceDemand, ToEdge,
    },
    scaling::ScalingDefaults,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// No state may take longer than this to come about, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

static NEXT_SUBNET: AtomicU8 = AtomicU8::new(10);

/// A control plane that can be stopped and started again on the same data, engine and edge.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) engine: SimulatedEngine,
    configure: fn(&mut ControlConfig),
    control: Option<Control>,
    pub(crate) routes: watch::Receiver<BTreeMap<String, Route>>,
    edge: JoinHandle<()>,
    /// What the edge tells of every service's demand; nothing while it is `None`.
    pub(crate) demand: watch::Sender<Option<Vec<ServiceDemand>>>,
}

struct Control {
    api: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::configured(|_| ()).await
    }

    /// A world whose control plane is told something else than the tests' defaults.
    pub(crate) async fn configured(configure: fn(&mut ControlConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = SimulatedEngine::new(NEXT_SUBNET.fetch_add(1, Ordering::SeqCst));
        let (sender, routes) = watch::channel(BTreeMap::new());
        let (demand, told) = watch::channel(None);
        let socket = dir.path().join("edge.sock");
        let edge = tokio::spawn(acknowledge_forever(socket, sender, told));
        let mut world = Self {
            dir,
            engine,
            configure,
            control: None,
            routes,
            edge,
            demand,
        };
        world.start().await;
        world
    }

    pub(crate) async fn start(&mut self) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap();
        let mut config = ControlConfig {
            data_dir: self.dir.path().join("control"),
            edge_uids: vec![rustix::process::geteuid().as_raw()],
            account_id: "100000000001".into(),
            domain: "test".into(),
            timing: Timing {
                startup_limit: Duration::from_secs(1),
                ..Timing::default()
            },
            scaling: ScalingDefaults::default(),
            quotas: Quotas::default(),
            handshake: Handshake::default(),
            references: References::default(),
            domain_validation: DomainValidation::default(),
            certificates: CertificatesConfig {
                listening: true,
                local_domains: true,
                acme: None,
            },
            prebuilt: BTreeMap::new(),
            builds: BuildsConfig::default(),
            telemetry: TelemetryConfig::default(),
            logs: LogsConfig {
                disk_free_bytes_min: 0,
                ..LogsConfig::default()
            },
            registry: RegistryConfig {
                budget: 1 << 30,
                endpoint: "http://registry.test".to_owned(),
                names: vec![
                    "registry.test".to_owned(),
                    "123456789012.dkr.ecr.*.amazonaws.com".to_owned(),
                ],
                others: Vec::new(),
                poll_others: Duration::from_millis(50),
                pull_key: Some("pull-key".to_owned()),
            },
        };
        (self.configure)(&mut config);
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

    pub(crate) async fn stop(&mut self) {
        let control = self.control.take().unwrap();
        control.stop.cancel();
        control.task.await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        eventually(async || is_so(self).then_some(())).await;
    }

    /// Where the API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.control.as_ref().unwrap().api
    }

    pub(crate) fn client(&self) -> Client {
        self.client_in("us-east-1")
    }

    pub(crate) fn client_in(&self, region: &str) -> Client {
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
        Client::new(&endpoint, region, credentials).unwrap()
    }

    pub(crate) async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        target: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        self.client().call(target, input).await
    }

    pub(crate) async fn create(
        &self,
        name: &str,
        image: &str,
        port: u16,
    ) -> wire::CreateServiceResponse {
        let request = wire::CreateServiceRequest {
            service_name: Some(name.into()),
            source_configuration: Some(source(image, port)),
            ..Default::default()
        };
        self.call("AppRunner.CreateService", &request)
            .await
            .unwrap()
    }

    pub(crate) async fn describe(&self, arn: &str) -> wire::Service {
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
    pub(crate) async fn settled(&self, arn: &str) -> String {
        eventually(async || {
            let status = self.describe(arn).await.status.unwrap();
            (status != "OPERATION_IN_PROGRESS").then_some(status)
        })
        .await
    }

    pub(crate) async fn newest_operation(&self, arn: &str) -> native::Operation {
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

    pub(crate) async fn simple(
        &self,
        operation: &str,
        arn: &str,
    ) -> Result<serde_json::Value, ClientError> {
        let request = serde_json::json!({ "ServiceArn": arn });
        self.call(&format!("AppRunner.{operation}"), &request).await
    }

    pub(crate) async fn update_image(&self, arn: &str, image: &str, port: u16) {
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

    pub(crate) fn route(&self, name: &str) -> Option<Route> {
        self.routes.borrow().get(name).cloned()
    }

    /// Tells control of requests, as an edge of its own.
    pub(crate) async fn tell(&self, counts: Vec<ServiceCounts>) {
        let socket = self.dir.path().join("edge.sock");
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let version = ROUTE_PROTOCOL_VERSION;
        for frame in [
            encode_frame(&RouteHello { version }).unwrap(),
            encode_frame(&FromEdge::Counts { counts }).unwrap(),
        ] {
            stream.write_all(&frame).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        // Control closes once it has read the last.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }

    pub(crate) fn running(&self) -> usize {
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

pub(crate) fn source(image: &str, port: u16) -> wire::SourceConfiguration {
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

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.expect("the state comes about")
}

/// Acknowledges every table at once, over as many connections as it takes.
async fn acknowledge_forever(
    socket: PathBuf,
    routes: watch::Sender<BTreeMap<String, Route>>,
    demand: watch::Receiver<Option<Vec<ServiceDemand>>>,
) {
    loop {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            let (reader, mut writer) = stream.into_split();
            let hello = RouteHello {
                version: ROUTE_PROTOCOL_VERSION,
            };
            let _ = write_frame(&mut writer, &hello).await;
            let writer = tokio::sync::Mutex::new(writer);
            // Ends when the control plane does; the next one is waited for.
            let _ = tokio::try_join!(
                acknowledge(reader, &writer, &routes),
                tell(&writer, demand.clone())
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn tell(
    writer: &Writer,
    mut demand: watch::Receiver<Option<Vec<ServiceDemand>>>,
) -> std::io::Result<()> {
    loop {
        let told = demand.borrow_and_update().clone();
        if let Some(services) = told {
            let message = FromEdge::Demand {
                whole: true,
                services,
            };
            write_frame(&mut *writer.lock().await, &message).await?;
        }
        if demand.changed().await.is_err() {
            return Ok(());
        }
    }
}

type Writer = tokio::sync::Mutex<tokio::net::unix::OwnedWriteHalf>;

async fn acknowledge(
    mut stream: tokio::net::unix::OwnedReadHalf,
    writer: &Writer,
    routes: &watch::Sender<BTreeMap<String, Route>>,
) -> std::io::Result<()> {
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
            ToEdge::Certificates { generation, .. } => {
                let presenting = FromEdge::Presenting {
                    generation,
                    unusable: vec![],
                };
                write_frame(&mut *writer.lock().await, &presenting).await?;
                continue;
            }
            ToEdge::Tracing(_) => continue,
        };
        write_frame(
            &mut *writer.lock().await,
            &FromEdge::Serving {
                generation,
                draining: vec![],
            },
        )
        .await?;
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

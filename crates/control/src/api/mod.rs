//! The API: App Runner's operations and Ekiden's own, on one endpoint.
//!
//! A request is read whole within bounds, its operation found, its signature verified, its body
//! decoded and checked against the model, its sender's permission decided, and handed to one
//! handler. Every answer, errors included, is made by `ekiden_aws::protocol`; what changed something
//! or was refused is in the audit log before it goes out.

mod access_keys;
mod auto_scaling;
mod builds;
mod certificates;
mod checks;
mod cloudwatch;
mod companion_page;
mod configuration;
mod connections;
mod content_encoding;
mod document;
mod domains;
mod drains;
mod ecr;
mod events;
mod exposition;
mod ingress;
mod installation;
mod logs;
mod named;
mod native;
mod notify;
mod observability;
mod operation;
pub(crate) mod page;
mod parameters;
mod patience;
mod plain;
mod registry;
mod resources;
mod revisions;
mod scaling;
mod secret_references;
mod secrets;
mod services;
mod sts;
mod tags;
mod usage;
mod vpc_connectors;
mod vpc_ingress;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use ekiden_aws::{
    apprunner::shapes::Operation as AppRunner,
    constraint::{self, Validate},
    decode::{self, Tree},
    error::ApiError,
    native::{AuditEvent, NativeOperation as Native},
    protocol::{self, APIS, Protocol, RequestId, Route},
    sigv4::claim::Claim,
    sts::Operation as Sts,
};
use ekiden_engine::Engine;
use ekiden_logs::store::LogStore;
use ekiden_metrics::store::MetricStore;
use ekiden_model::access::{Decision, decide};
use ekiden_registry::{Body, Registry};
use ekiden_store::{Store, StoreError};
use http::request::Parts;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub(crate) use self::services::deploys_by_itself;
use self::{
    operation::{Operation, Subject},
    patience::Patience,
};
use crate::{
    ControlConfig,
    alarms::Alarms,
    audit::{self, Audit},
    builds::Builds,
    certificates::Certificates,
    clock,
    deliveries::Notices,
    domains::Domains,
    drains::Drains,
    edges::Edges,
    events::{Alerts, Events},
    host::Host,
    identity::{self, Identities, Identity},
    ingress::Ingress,
    keyring::Keyring,
    metrics::Metrics,
    observability::Observability,
    observations::Observations,
    services::Services,
    vault::Vault,
    worker::Chain,
};

/// How long a client may take to send a request's head, and its body.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Headers that a request may have, and bytes of its whole head; more is answered 431.
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Connections at once; more wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;

/// How long open requests may take when the API stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Everything a handler works with.
pub(crate) struct Api<E> {
    config: ControlConfig,
    store: Arc<Store>,
    services: Arc<Services<E>>,
    domains: Arc<Domains<E>>,
    certificates: Arc<Certificates>,
    edges: Arc<Edges>,
    observations: Arc<Observations>,
    ingress: Arc<Ingress>,
    keyring: Arc<Keyring>,
    identities: Arc<Identities>,
    audit: Arc<Audit>,
    vault: Vault,
    images: Arc<Registry>,
    builds: Arc<Builds<E>>,
    notices: Notices,
    metrics: Arc<Metrics<E>>,
    log_store: LogStore,
    log_queries: logs::Queries,
    large_bodies: logs::LargeBodies,
    drains: Arc<Drains>,
    metric_store: MetricStore,
    alarms: Arc<Alarms>,
    events: Arc<Events>,
    alerts: Arc<Alerts<E>>,
    host: Host,
}

/// Who makes a request, and where.
pub(crate) struct Caller {
    /// The name space it speaks of: the region of the signature's scope.
    pub(crate) region: String,
    /// Who it is.
    pub(crate) identity: Identity,
}

impl<E: Engine> Api<E> {
    #[allow(clippy::too_many_arguments)] // a list of its parts, called once
    pub(crate) fn new(
        config: ControlConfig,
        store: Arc<Store>,
        services: Arc<Services<E>>,
        domains: Arc<Domains<E>>,
        certificates: Arc<Certificates>,
        edges: Arc<Edges>,
        observations: Arc<Observations>,
        ingress: Arc<Ingress>,
        keyring: Arc<Keyring>,
        identities: Arc<Identities>,
        audit: Arc<Audit>,
        images: Arc<Registry>,
        builds: Arc<Builds<E>>,
        notices: Notices,
        observability: Observability<E>,
    ) -> Self {
        let vault = Vault::new(
            Arc::clone(&store),
            Arc::clone(&keyring),
            config.account_id.clone(),
        );
        Self {
            config,
            store,
            services,
            domains,
            certificates,
            edges,
            observations,
            ingress,
            keyring,
            identities,
            audit,
            vault,
            images,
            builds,
            notices,
            metrics: observability.metrics,
            log_store: observability.log_store,
            log_queries: logs::Queries::new(),
            large_bodies: logs::LargeBodies::new(),
            drains: observability.drains,
            metric_store: observability.metric_store,
            alarms: observability.alarms,
            events: observability.events,
            alerts: observability.alerts,
            host: Host::read(),
        }
    }

    /// Serves until told to stop; then lets open requests end.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break, // cancel-safe: nothing is in flight here
                accepted = accept(&listener, &room) => accepted, // cancel-safe: see there
            };
            let Some((stream, peer, permit)) = accepted else {
                continue;
            };
            let (api, stop) = (Arc::clone(&self), stop.clone());
            connections.spawn(async move {
                api.serve_connection(stream, peer, stop).await;
                drop(permit);
            });
        }
        connections.close();
        if tokio::time::timeout(STOP_GRACE, connections.wait())
            .await
            .is_err()
        {
            warn!("API requests were cut off by the stop");
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        stop: CancellationToken,
    ) {
        let source: Arc<str> = peer.to_canonical().to_string().into();
        let service = service_fn(move |request| {
            let (api, source) = (Arc::clone(&self), Arc::clone(&source));
            async move { Ok::<_, Infallible>(api.respond(request, &source).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        let stream = TokioIo::new(Patience::new(stream, WRITE_TIMEOUT));
        let connection = server.serve_connection(stream, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %Chain(&error), "an API connection ended early");
        }
    }

    async fn respond(
        &self,
        request: http::Request<Incoming>,
        source: &str,
    ) -> http::Response<Body> {
        if plain::is_plain(request.uri().path()) {
            return Box::pin(self.plain(request, source)).await;
        }
        if request.uri().path() == exposition::PATH {
            return self.exposition(&request, source);
        }
        if is_registry(request.uri().path()) {
            return Box::pin(self.registry(request, source)).await;
        }
        let (parts, body) = request.into_parts();
        if parts.method == http::Method::GET && parts.uri.path() == "/healthz" {
            return http::Response::new(whole(Bytes::from_static(b"ok\n")));
        }
        let id = RequestId::random();
        let mut trace = Trace::of(&parts);
        let answer = async {
            let (bytes_max, _place) = self.large_bodies.bound(&parts).await?;
            let body = read(body, bytes_max).await?;
            self.answer(&parts, &body, id, source, &mut trace).await
        };
        let answer = answer.await;
        self.record(&trace, id, source, answer.as_ref().err());
        let answer = answer.unwrap_or_else(|error| {
            log_refusal(&trace, id, &error);
            match trace.api {
                Some(api) => protocol::failure_of(api, trace.protocol, id, &error),
                None => protocol::failure(trace.protocol, id, &error),
            }
        });
        answer.map(whole)
    }

    /// Decides in the order that App Runner's answers show (specification, section 2.6): operation,
    /// signature, body, constraints, permission, then the operation's own checks.
    async fn answer(
        &self,
        parts: &Parts,
        body: &Bytes,
        id: RequestId,
        source: &str,
        trace: &mut Trace,
    ) -> Answer {
        let plain = content_encoding::unpacked(&parts.headers, body)?;
        let route = protocol::route(parts, &plain, APIS)?;
        trace.protocol = route.protocol;
        trace.operation = Operation::of(&route);
        trace.api = Some(route.api);
        trace.stage = Stage::Authenticating;
        let caller = self.authenticate(parts, body, &route, trace)?;
        trace.stage = Stage::Authenticated;
        Identities::note_use(&caller.identity.key, source);
        trace.identity = Some(caller.identity.clone());
        let operation = trace.operation.ok_or_else(|| route.unknown_operation())?;
        let input = decode::parse(route.protocol, &plain)?;
        trace.subject = Subject::of(operation, &input, &caller.region, &self.config.account_id);
        let role = &caller.identity.key.facts.role;
        let decision = decide(role, operation.access(), trace.subject.service.as_deref());
        let call = Call {
            input,
            route: &route,
            id,
            permitted: match decision {
                Decision::Allow => Ok(()),
                Decision::Deny => Err(self.denial(&caller, &route, &trace.subject)),
            },
            stage: &mut trace.stage,
        };
        match operation {
            Operation::AppRunner(operation) => self.apprunner(&caller, operation, call).await,
            Operation::Native(operation) => self.native(&caller, operation, call).await,
            Operation::Sts(operation) => self.sts(&caller, operation, call).await,
            Operation::Secrets(operation) => self.secrets_manager(&caller, operation, call).await,
            Operation::Parameters(operation) => {
                self.systems_manager(&caller, operation, call).await
            }
            Operation::Ecr(operation) => self.container_registry(&caller, operation, call).await,
            Operation::Logs(operation) => self.logs(&caller, operation, call).await,
            Operation::CloudWatch(operation) => self.cloudwatch(&caller, operation, call).await,
            Operation::Events(operation) => self.event_bridge(&caller, operation, call).await,
        }
    }

    fn authenticate(
        &self,
        parts: &Parts,
        body: &Bytes,
        route: &Route,
        trace: &mut Trace,
    ) -> Result<Caller, ApiError> {
        let claim = Claim::read(parts, route.api.signing_name, identity::now())?;
        trace.claimed_key = Some(claim.access_key_id().to_owned());
        let identity = self.identities.identify(claim, parts, body)?;
        Ok(Caller {
            region: identity.region.clone(),
            identity,
        })
    }

    /// In App Runner's words (specification, section 18).
    fn denial(&self, caller: &Caller, route: &Route, subject: &Subject) -> ApiError {
        ApiError::access_denied(format!(
            "User: {} is not authorized to perform: {}:{} on resource: {}",
            caller.identity.arn(&self.config.account_id),
            route.api.name,
            route.operation,
            subject.resource.as_deref().unwrap_or("*"),
        ))
    }

    /// Writes down what the audit log is to have.
    fn record(&self, trace: &Trace, id: RequestId, source: &str, error: Option<&ApiError>) {
        let changes = trace
            .operation
            .is_some_and(|operation| operation.access().changes() && !operation.is_data());
        let kind = match trace.stage {
            Stage::Authenticating => audit::Kind::Unauthenticated,
            Stage::Denied => audit::Kind::Denied,
            Stage::Authenticated if changes => audit::Kind::Done,
            Stage::Arriving | Stage::Authenticated => return,
        };
        let identity = trace.identity.as_ref();
        let name = trace.operation.map_or("", Operation::name);
        let key = identity.map(|identity| identity.key.id.clone());
        let event = AuditEvent {
            timestamp: 0,
            request_id: id.to_string(),
            action: format!("{}:{name}", trace.api.map_or("", |api| api.name)),
            access_key_id: key.or_else(|| trace.claimed_key.clone()),
            caller_arn: identity.map(|identity| identity.arn(&self.config.account_id)),
            source: source.to_owned(),
            region: identity.map(|identity| identity.region.clone()),
            resource: trace.subject.resource.clone(),
            service_name: trace.subject.service.clone(),
            result: error.map_or("Success", ApiError::code).to_owned(),
            left_out: 0,
        };
        self.audit.record(kind, clock::now(), event);
    }

    async fn apprunner(&self, caller: &Caller, operation: AppRunner, call: Call<'_>) -> Answer {
        use AppRunner as Operation;
        match operation {
            Operation::CreateService => call.run(|r| self.create_service(caller, r)).await,
            Operation::DescribeService => call.run(|r| self.describe_service(caller, r)).await,
            Operation::ListServices => call.run(|r| self.list_services(caller, r)).await,
            Operation::UpdateService => call.run(|r| self.update_service(caller, r)).await,
            Operation::StartDeployment => call.run(|r| self.start_deployment(caller, r)).await,
            Operation::PauseService => call.run(|r| self.pause_service(caller, r)).await,
            Operation::ResumeService => call.run(|r| self.resume_service(caller, r)).await,
            Operation::DeleteService => call.run(|r| self.delete_service(caller, r)).await,
            Operation::ListOperations => call.run(|r| self.list_operations(caller, r)).await,
            Operation::CreateAutoScalingConfiguration => {
                call.run(|r| self.create_auto_scaling_configuration(caller, r))
                    .await
            }
            Operation::DescribeAutoScalingConfiguration => {
                call.run(|r| self.describe_auto_scaling_configuration(caller, r))
                    .await
            }
            Operation::ListAutoScalingConfigurations => {
                call.run(|r| self.list_auto_scaling_configurations(caller, r))
                    .await
            }
            Operation::DeleteAutoScalingConfiguration => {
                call.run(|r| self.delete_auto_scaling_configuration(caller, r))
                    .await
            }
            AppRunner::ListServicesForAutoScalingConfiguration => {
                call.run(|r| self.list_services_for_auto_scaling_configuration(caller, r))
                    .await
            }
            AppRunner::UpdateDefaultAutoScalingConfiguration => {
                call.run(|r| self.update_default_auto_scaling_configuration(caller, r))
                    .await
            }
            AppRunner::CreateObservabilityConfiguration => {
                call.run(|r| self.create_observability_configuration(caller, r))
                    .await
            }
            AppRunner::DescribeObservabilityConfiguration => {
                call.run(|r| self.describe_observability_configuration(caller, r))
                    .await
            }
            AppRunner::ListObservabilityConfigurations => {
                call.run(|r| self.list_observability_configurations(caller, r))
                    .await
            }
            AppRunner::DeleteObservabilityConfiguration => {
                call.run(|r| self.delete_observability_configuration(caller, r))
                    .await
            }
            AppRunner::CreateConnection => call.run(|r| self.create_connection(caller, r)).await,
            AppRunner::ListConnections => call.run(|r| self.list_connections(caller, r)).await,
            AppRunner::DeleteConnection => call.run(|r| self.delete_connection(caller, r)).await,
            AppRunner::CreateVpcConnector => {
                call.run(|r| self.create_vpc_connector(caller, r)).await
            }
            AppRunner::DescribeVpcConnector => {
                call.run(|r| self.describe_vpc_connector(caller, r)).await
            }
            AppRunner::ListVpcConnectors => call.run(|r| self.list_vpc_connectors(caller, r)).await,
            AppRunner::DeleteVpcConnector => {
                call.run(|r| self.delete_vpc_connector(caller, r)).await
            }
            AppRunner::CreateVpcIngressConnection => {
                call.run(|r| self.create_vpc_ingress_connection(caller, r))
                    .await
            }
            AppRunner::DescribeVpcIngressConnection => {
                call.run(|r| self.describe_vpc_ingress_connection(caller, r))
                    .await
            }
            AppRunner::ListVpcIngressConnections => {
                call.run(|r| self.list_vpc_ingress_connections(caller, r))
                    .await
            }
            AppRunner::UpdateVpcIngressConnection => {
                call.run(|r| self.update_vpc_ingress_connection(caller, r))
                    .await
            }
            AppRunner::DeleteVpcIngressConnection => {
                call.run(|r| self.delete_vpc_ingress_connection(caller, r))
                    .await
            }
            AppRunner::TagResource => call.run(|r| self.tag_resource(caller, r)).await,
            AppRunner::UntagResource => call.run(|r| self.untag_resource(caller, r)).await,
            AppRunner::ListTagsForResource => {
                call.run(|r| self.list_tags_for_resource(caller, r)).await
            }
            AppRunner::AssociateCustomDomain => {
                call.run(|r| self.associate_custom_domain(caller, r)).await
            }
            AppRunner::DescribeCustomDomains => {
                call.run(|r| self.describe_custom_domains(caller, r)).await
            }
            AppRunner::DisassociateCustomDomain => {
                call.run(|r| self.disassociate_custom_domain(caller, r))
                    .await
            }
        }
    }

    async fn native(&self, caller: &Caller, operation: Native, call: Call<'_>) -> Answer {
        match operation {
            Native::ListInstances => call.run_native(|r| self.list_instances(caller, r)).await,
            Native::DescribeOperation => {
                call.run_native(|r| self.describe_operation(caller, r))
                    .await
            }
            Native::CancelOperation => call.run_native(|r| self.cancel_operation(caller, r)).await,
            Native::ListRevisions => call.run_native(|r| self.list_revisions(caller, r)).await,
            Native::RollbackService => call.run_native(|r| self.rollback_service(caller, r)).await,
            Native::DescribeDomain => call.run_native(|r| self.describe_domain(caller, r)).await,
            Native::ListDomains => call.run_native(|r| self.list_domains(caller, r)).await,
            Native::DescribeIngress => call.run_native(|r| self.describe_ingress(caller, r)).await,
            Native::UpdateIngress => call.run_native(|r| self.update_ingress(caller, r)).await,
            Native::DescribeTraffic => call.run_native(|r| self.describe_traffic(caller, r)).await,
            Native::DescribeScaling => call.run_native(|r| self.describe_scaling(caller, r)).await,
            Native::UpdateScaling => call.run_native(|r| self.update_scaling(caller, r)).await,
            Native::CompleteConnection => {
                call.run_native(|r| self.complete_connection(caller, r))
                    .await
            }
            Native::PutConnectionCredential => {
                call.run_native(|r| self.put_connection_credential(caller, r))
                    .await
            }
            Native::CreateWebhook => call.run_native(|r| self.create_webhook(caller, r)).await,
            Native::DeleteWebhook => call.run_native(|r| self.delete_webhook(caller, r)).await,
            Native::PutWebhookTarget => {
                call.run_native(|r| self.put_webhook_target(caller, r))
                    .await
            }
            Native::ListWebhookTargets => {
                call.run_native(|r| self.list_webhook_targets(caller, r))
                    .await
            }
            Native::DeleteWebhookTarget => {
                call.run_native(|r| self.delete_webhook_target(caller, r))
                    .await
            }
            Native::TestWebhookTarget => {
                call.run_native(|r| self.test_webhook_target(caller, r))
                    .await
            }
            Native::ListAlerts => call.run_native(|r| self.list_alerts(caller, r)).await,
            Native::GetBuildLog => call.run_native(|r| self.get_build_log(caller, r)).await,
            Native::GetLogs => call.run_native(|r| self.get_logs(caller, r)).await,
            Native::GetStatus => call.run_native(|r| self.get_status(caller, r)).await,
            Native::GetUsage => call.run_native(|r| self.get_usage(caller, r)).await,
            Native::CreateAccessKey => call.run_native(|r| self.create_access_key(caller, r)).await,
            Native::ListAccessKeys => call.run_native(|r| self.list_access_keys(caller, r)).await,
            Native::UpdateAccessKey => call.run_native(|r| self.update_access_key(caller, r)).await,
            Native::DeleteAccessKey => call.run_native(|r| self.delete_access_key(caller, r)).await,
            Native::ListAuditEvents => call.run_native(|r| self.list_audit_events(caller, r)).await,
            Native::MoveCustomDomain => {
                call.run_native(|r| self.move_custom_domain(caller, r))
                    .await
            }
            Native::DescribeCertificateAuthority => {
                call.run_native(|r| self.describe_certificate_authority(r))
                    .await
            }
            Native::ListCertificates => call.run_native(|r| self.list_certificates(r)).await,
            Native::ImportCertificate => call.run_native(|r| self.import_certificate(r)).await,
            Native::RemoveCertificate => call.run_native(|r| self.remove_certificate(r)).await,
            Native::RenewCertificate => call.run_native(|r| self.renew_certificate(r)).await,
            Native::RevokeCertificate => call.run_native(|r| self.revoke_certificate(r)).await,
            Native::PutDrain => call.run_native(|r| self.put_drain(caller, r)).await,
            Native::DeleteDrain => call.run_native(|r| self.delete_drain(r)).await,
            Native::ListDrains => call.run_native(|r| self.list_drains(r)).await,
            Native::TestDrain => call.run_native(|r| self.test_drain(r)).await,
        }
    }

    async fn sts(&self, caller: &Caller, operation: Sts, call: Call<'_>) -> Answer {
        match operation {
            Sts::GetCallerIdentity => call.run(|r| self.get_caller_identity(caller, r)).await,
            Sts::AssumeRole => call.run(|r| self.assume_role(caller, r)).await,
            Sts::GetSessionToken => call.run(|r| self.get_session_token(caller, r)).await,
        }
    }
}

type Answer = Result<http::Response<Bytes>, ApiError>;

/// What is known of a request so far: how to answer it, and what the audit log is to say of it.
struct Trace {
    protocol: Protocol,
    stage: Stage,
    api: Option<&'static protocol::Api>,
    operation: Option<Operation>,
    claimed_key: Option<String>,
    identity: Option<Identity>,
    subject: Subject,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Arriving,
    Authenticating,
    Authenticated,
    Denied,
}

impl Trace {
    /// Until the request is routed, it is answered in the protocol that it looks like.
    fn of(parts: &Parts) -> Self {
        Self {
            protocol: protocol::looks_like(&parts.headers),
            stage: Stage::Arriving,
            api: None,
            operation: None,
            claimed_key: None,
            identity: None,
            subject: Subject::default(),
        }
    }
}

/// A request whose sender is known, on its way to a handler.
struct Call<'a> {
    input: Tree,
    route: &'a Route,
    id: RequestId,
    /// Whether its sender may, and what it is told if not: after the constraints.
    permitted: Result<(), ApiError>,
    stage: &'a mut Stage,
}

impl Call<'_> {
    /// Reads the input, checks it against the model, then the permission; handles, encodes.
    async fn run<I, O, F>(self, handle: impl FnOnce(I) -> F) -> Answer
    where
        I: DeserializeOwned + Validate,
        O: Serialize,
        F: Future<Output = Result<O, ApiError>>,
    {
        let violations = self.route.api.violations;
        self.handle(|input: &I| constraint::check(input, violations), handle)
            .await
    }

    /// The same for operations that have no model to check against.
    async fn run_native<I, O, F>(self, handle: impl FnOnce(I) -> F) -> Answer
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Future<Output = Result<O, ApiError>>,
    {
        self.handle(|_: &I| Ok(()), handle).await
    }

    async fn handle<I, O, F>(
        self,
        check: impl FnOnce(&I) -> Result<(), ApiError>,
        handle: impl FnOnce(I) -> F,
    ) -> Answer
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Future<Output = Result<O, ApiError>>,
    {
        let input: I = self.input.read()?;
        check(&input)?;
        if let Err(denial) = self.permitted {
            *self.stage = Stage::Denied;
            return Err(denial);
        }
        let output = handle(input).await?;
        Ok(protocol::success(self.route, self.id, &output))
    }
}

/// Whether a path is the registry's.
fn is_registry(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// Reads a body within its bounds of size and time.
async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(READ_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::request_entity_too_large(format!(
                "a request's body may have {bytes_max} bytes"
            )))
        }
        Ok(Err(_)) => Err(ApiError::malformed_http_request("the body was cut off")),
        Err(_) => Err(ApiError::request_timeout(format!(
            "the body did not come within {} s",
            READ_TIMEOUT.as_secs()
        ))),
    }
}

/// Waits for room, then for a client. Dropping it in the middle loses nothing: a connection that
/// was not answered stays in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<tokio::sync::Semaphore>,
) -> Option<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer.ip(), permit)),
        Err(error) => {
            warn!(%error, "cannot accept an API connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn log_refusal(trace: &Trace, id: RequestId, error: &ApiError) {
    let operation = trace.operation.map(Operation::name);
    info!(operation, request_id = %id, code = error.code(), message = error.message(),
        "API request refused");
}

/// What a client is told when the store refused or failed; of a failure the log has the rest.
fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::ReferenceGone { kind, resource } => {
            return ApiError::invalid_request(format!(
                "The service cannot use the {kind} with the id {resource}: there is none, or it \
                 has just been deleted."
            ));
        }
        StoreError::HasParts { name } => {
            return ApiError::invalid_state(format!(
                "Service {name} cannot be deleted while it has a VPC ingress connection. Delete \
                 that first."
            ));
        }
        StoreError::NameTaken { .. }
        | StoreError::Superseded
        | StoreError::Open { .. }
        | StoreError::Migrate { .. }
        | StoreError::DiskFull
        | StoreError::Database(_)
        | StoreError::Corrupt { .. } => {}
    }
    warn!(error = %Chain(error), "the store failed");
    ApiError::internal_service_error(error.to_string())
}

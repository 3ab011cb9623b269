//! The API: App Runner's operations and Ekiden's own, on one endpoint.
//!
//! A request is read whole within bounds, its target looked up, its signature verified, its body
//! decoded and checked against the model, and handed to one handler. Every answer, errors included,
//! is made by `ekiden_aws::protocol`.

mod auto_scaling;
mod checks;
mod configuration;
mod connections;
mod installation;
pub(crate) mod keys;
mod named;
mod native;
mod observability;
mod page;
mod resources;
mod revisions;
mod services;
mod tags;
mod vpc_connectors;
mod vpc_ingress;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use ekiden_aws::{
    apprunner::shapes::Operation,
    constraint::{self, Validate},
    decode::decode,
    epoch_seconds::EpochSeconds,
    error::ApiError,
    protocol::{self, APIS, APP_RUNNER, REQUEST_BODY_BYTES_MAX, RequestId, Route},
    sigv4::{claim::Claim, credentials::SecretAccessKey},
};
use ekiden_engine::Engine;
use ekiden_store::{Store, StoreError};
use http::request::Parts;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    ControlConfig, clock, edges::Edges, host::Host, ingress::Ingress, keyring::Keyring,
    observations::Observations, services::Services, worker::Chain,
};

/// How long a client may take to send a request's head, and its body.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections at once; more wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;

/// How long open requests may take when the API stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Everything a handler works with.
pub(crate) struct Api<E> {
    config: ControlConfig,
    store: Arc<Store>,
    engine: Arc<E>,
    services: Arc<Services<E>>,
    edges: Arc<Edges>,
    observations: Arc<Observations>,
    ingress: Arc<Ingress>,
    keyring: Arc<Keyring>,
    keys: keys::AdminKey,
    secret: SecretAccessKey,
    host: Host,
}

/// Who makes a request, and where.
pub(crate) struct Caller {
    /// The name space it speaks of: the region of the signature's scope.
    pub(crate) region: String,
}

impl<E: Engine> Api<E> {
    #[allow(clippy::too_many_arguments)] // a list of its parts, called once
    pub(crate) fn new(
        config: ControlConfig,
        store: Arc<Store>,
        engine: Arc<E>,
        services: Arc<Services<E>>,
        edges: Arc<Edges>,
        observations: Arc<Observations>,
        ingress: Arc<Ingress>,
        keyring: Arc<Keyring>,
        keys: keys::AdminKey,
    ) -> Self {
        let secret = SecretAccessKey::new(keys.secret_access_key.clone());
        Self {
            config,
            store,
            engine,
            services,
            edges,
            observations,
            ingress,
            keyring,
            keys,
            secret,
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
            let Some((stream, permit)) = accepted else {
                continue;
            };
            let (api, stop) = (Arc::clone(&self), stop.clone());
            connections.spawn(async move {
                api.serve_connection(stream, stop).await;
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

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, stop: CancellationToken) {
        let service = service_fn(move |request| {
            let api = Arc::clone(&self);
            async move { Ok::<_, Infallible>(api.respond(request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT);
        let connection = server.serve_connection(TokioIo::new(stream), service);
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

    async fn respond(&self, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        if parts.method == http::Method::GET && parts.uri.path() == "/healthz" {
            return http::Response::new(Full::new(Bytes::from_static(b"ok\n")));
        }
        let id = RequestId::random();
        let answer = match read(body).await {
            Ok(body) => self.answer(&parts, &body, id).await,
            Err(error) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| {
            log_refusal(&parts, id, &error);
            protocol::failure(APP_RUNNER.protocol, id, &error)
        });
        answer.map(Full::new)
    }

    /// Decides in the order that App Runner's answers show (specification, section 2.6): target,
    /// signature, body, constraints, then the operation's own checks.
    async fn answer(&self, parts: &Parts, body: &Bytes, id: RequestId) -> Answer {
        let route = protocol::route(parts, &APIS)?;
        let caller = self.authenticate(parts, body, &route)?;
        let call = Call {
            body,
            route: &route,
            id,
        };
        match *route.api == APP_RUNNER {
            true => self.apprunner(&caller, call).await,
            false => self.native(&caller, call).await,
        }
    }

    fn authenticate(&self, parts: &Parts, body: &Bytes, route: &Route) -> Result<Caller, ApiError> {
        let now = EpochSeconds(clock::now().as_secs());
        let claim = Claim::read(parts, route.api.signing_name, now)?;
        if claim.access_key_id() != self.keys.access_key_id {
            return Err(ApiError::unrecognized_client(
                "The security token included in the request is invalid.",
            ));
        }
        let identity = claim.verify(&self.secret, parts, body)?;
        Ok(Caller {
            region: identity.region,
        })
    }

    async fn apprunner(&self, caller: &Caller, call: Call<'_>) -> Answer {
        let Some(operation) = Operation::from_name(&call.route.operation) else {
            return Err(call.unknown());
        };
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
            Operation::ListServicesForAutoScalingConfiguration => {
                call.run(|r| self.list_services_for_auto_scaling_configuration(caller, r))
                    .await
            }
            Operation::UpdateDefaultAutoScalingConfiguration => {
                call.run(|r| self.update_default_auto_scaling_configuration(caller, r))
                    .await
            }
            Operation::CreateObservabilityConfiguration => {
                call.run(|r| self.create_observability_configuration(caller, r))
                    .await
            }
            Operation::DescribeObservabilityConfiguration => {
                call.run(|r| self.describe_observability_configuration(caller, r))
                    .await
            }
            Operation::ListObservabilityConfigurations => {
                call.run(|r| self.list_observability_configurations(caller, r))
                    .await
            }
            Operation::DeleteObservabilityConfiguration => {
                call.run(|r| self.delete_observability_configuration(caller, r))
                    .await
            }
            Operation::CreateConnection => call.run(|r| self.create_connection(caller, r)).await,
            Operation::ListConnections => call.run(|r| self.list_connections(caller, r)).await,
            Operation::DeleteConnection => call.run(|r| self.delete_connection(caller, r)).await,
            Operation::CreateVpcConnector => {
                call.run(|r| self.create_vpc_connector(caller, r)).await
            }
            Operation::DescribeVpcConnector => {
                call.run(|r| self.describe_vpc_connector(caller, r)).await
            }
            Operation::ListVpcConnectors => call.run(|r| self.list_vpc_connectors(caller, r)).await,
            Operation::DeleteVpcConnector => {
                call.run(|r| self.delete_vpc_connector(caller, r)).await
            }
            Operation::CreateVpcIngressConnection => {
                call.run(|r| self.create_vpc_ingress_connection(caller, r))
                    .await
            }
            Operation::DescribeVpcIngressConnection => {
                call.run(|r| self.describe_vpc_ingress_connection(caller, r))
                    .await
            }
            Operation::ListVpcIngressConnections => {
                call.run(|r| self.list_vpc_ingress_connections(caller, r))
                    .await
            }
            Operation::UpdateVpcIngressConnection => {
                call.run(|r| self.update_vpc_ingress_connection(caller, r))
                    .await
            }
            Operation::DeleteVpcIngressConnection => {
                call.run(|r| self.delete_vpc_ingress_connection(caller, r))
                    .await
            }
            Operation::TagResource => call.run(|r| self.tag_resource(caller, r)).await,
            Operation::UntagResource => call.run(|r| self.untag_resource(caller, r)).await,
            Operation::ListTagsForResource => {
                call.run(|r| self.list_tags_for_resource(caller, r)).await
            }
            // Every operation is decided upon: a new one in the model does not compile until it is.
            Operation::AssociateCustomDomain
            | Operation::DescribeCustomDomains
            | Operation::DisassociateCustomDomain => Err(call.unknown()),
        }
    }

    async fn native(&self, caller: &Caller, call: Call<'_>) -> Answer {
        match call.route.operation.as_str() {
            "ListInstances" => call.run_native(|r| self.list_instances(caller, r)).await,
            "DescribeOperation" => {
                call.run_native(|r| self.describe_operation(caller, r))
                    .await
            }
            "CancelOperation" => call.run_native(|r| self.cancel_operation(caller, r)).await,
            "ListRevisions" => call.run_native(|r| self.list_revisions(caller, r)).await,
            "RollbackService" => call.run_native(|r| self.rollback_service(caller, r)).await,
            "GetLogs" => call.run_native(|r| self.get_logs(caller, r)).await,
            "CompleteConnection" => {
                call.run_native(|r| self.complete_connection(caller, r))
                    .await
            }
            "GetStatus" => call.run_native(|r| self.get_status(caller, r)).await,
            _ => Err(call.unknown()),
        }
    }
}

type Answer = Result<http::Response<Bytes>, ApiError>;

/// A request whose sender is known, on its way to a handler.
#[derive(Clone, Copy)]
struct Call<'a> {
    body: &'a Bytes,
    route: &'a Route,
    id: RequestId,
}

impl Call<'_> {
    /// Decodes, checks against the model, handles, encodes.
    async fn run<I, O, F>(self, handle: impl FnOnce(I) -> F) -> Answer
    where
        I: DeserializeOwned + Validate,
        O: Serialize,
        F: Future<Output = Result<O, ApiError>>,
    {
        let input: I = decode(self.body)?;
        constraint::check(&input)?;
        Ok(protocol::success(
            self.route.api.protocol,
            self.id,
            &handle(input).await?,
        ))
    }

    /// The same for operations that have no model to check against.
    async fn run_native<I, O, F>(self, handle: impl FnOnce(I) -> F) -> Answer
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Future<Output = Result<O, ApiError>>,
    {
        let input: I = decode(self.body)?;
        Ok(protocol::success(
            self.route.api.protocol,
            self.id,
            &handle(input).await?,
        ))
    }

    fn unknown(&self) -> ApiError {
        let Route { api, operation } = self.route;
        ApiError::unknown_operation(format!(
            "no operation `{}.{operation}` here",
            api.target_prefix
        ))
    }
}

/// Reads a body within its bounds of size and time.
async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, REQUEST_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(READ_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::request_entity_too_large(format!(
                "a request's body may have {REQUEST_BODY_BYTES_MAX} bytes"
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
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            warn!(%error, "cannot accept an API connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn log_refusal(parts: &Parts, id: RequestId, error: &ApiError) {
    let target = parts
        .headers
        .get(protocol::TARGET)
        .and_then(|value| value.to_str().ok());
    info!(target, request_id = %id, code = error.code(), message = error.message(),
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

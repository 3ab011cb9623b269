//! Connections to source code providers.
//!
//! App Runner makes a connection available when its owner has logged in at the provider, in a
//! console. Here that is [`Api::complete_connection`], a native operation, or happens at once, by
//! configuration. What opens its repositories is kept apart, sealed ([`crate::builds`]).

use ekiden_aws::{
    apprunner::shapes::{
        Connection as WireConnection, ConnectionSummary, CreateConnectionRequest,
        CreateConnectionResponse, DeleteConnectionRequest, DeleteConnectionResponse,
        ListConnectionsRequest, ListConnectionsResponse,
    },
    arn::{self, Revision},
    error::ApiError,
    native::{CompleteConnectionRequest, CompleteConnectionResponse},
};
use ekiden_engine::Engine;
use ekiden_store::resources::{CreateError, Filter, Kind, New, Numbering, Resource, Room, Which};
use serde::{Deserialize, Serialize};

use super::{
    Api, Caller,
    page::Page,
    resources::{
        ApiKind, Place, after, new_id, not_found, place, quota_reached, seconds, single, to_single,
        unexpected,
    },
    store_error, tags,
};
use crate::{clock, config::Handshake};

/// What a connection is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Connection {
    /// In the API's words, such as `GITHUB`.
    provider: String,
    state: State,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    PendingHandshake,
    Available,
}

impl Kind for Connection {
    const NAME: &'static str = "connection";
    const NUMBERING: Numbering = Numbering::Single;
}

impl ApiKind for Connection {
    const NOUN: &'static str = "connection";

    fn to_arn(revision: Revision) -> arn::Resource {
        arn::Resource::Connection(to_single(revision))
    }

    fn named(resource: &arn::Resource) -> Option<Which<'_>> {
        match resource {
            arn::Resource::Connection(name) => single(name),
            arn::Resource::Service(_)
            | arn::Resource::VpcIngressConnection(_)
            | arn::Resource::VpcConnector(_)
            | arn::Resource::AutoScalingConfiguration(_)
            | arn::Resource::ObservabilityConfiguration(_) => None,
        }
    }
}

impl<E: Engine> Api<E> {
    pub(super) async fn create_connection(
        &self,
        caller: &Caller,
        request: CreateConnectionRequest,
    ) -> Result<CreateConnectionResponse, ApiError> {
        let new = New {
            record: Connection {
                provider: request.provider_type.unwrap_or_default(),
                state: match self.config.handshake {
                    Handshake::Manual => State::PendingHandshake,
                    Handshake::Automatic => State::Available,
                },
            },
            name: request.connection_name.unwrap_or_default(),
            id: new_id(),
            tags: tags::new(request.tags)?,
            created_at: clock::now(),
            service: None,
        };
        let room = Room {
            names: self.config.quotas.connections,
            revisions: 1,
            per_service: 0,
        };
        let made = self
            .store
            .create_resource(&caller.region, &new, room)
            .await
            .map_err(|error| match error {
                CreateError::NameTaken => ApiError::invalid_request(format!(
                    "Connection with the provided name already exists: {}",
                    new.name
                )),
                CreateError::NamesFull => {
                    quota_reached("connections", room.names, "quota.connections")
                }
                other => unexpected(&other),
            })?;
        Ok(CreateConnectionResponse {
            connection: Some(self.wire_connection(caller, made)),
        })
    }

    pub(super) async fn list_connections(
        &self,
        caller: &Caller,
        request: ListConnectionsRequest,
    ) -> Result<ListConnectionsResponse, ApiError> {
        let page: Page<Place> = self.page("ListConnections", caller, &request)?;
        let filter = Filter {
            name: request.connection_name.as_deref(),
            ..Filter::default()
        };
        let found = self
            .store
            .resources(&caller.region, filter, after(page.after()), page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, place);
        let summary = |found| {
            let whole = self.wire_connection(caller, found);
            ConnectionSummary {
                connection_name: whole.connection_name,
                connection_arn: whole.connection_arn,
                provider_type: whole.provider_type,
                status: whole.status,
                created_at: whole.created_at,
            }
        };
        Ok(ListConnectionsResponse {
            connection_summary_list: Some(found.into_iter().map(summary).collect()),
            next_token,
        })
    }

    pub(super) async fn delete_connection(
        &self,
        caller: &Caller,
        request: DeleteConnectionRequest,
    ) -> Result<DeleteConnectionResponse, ApiError> {
        let arn = request.connection_arn.unwrap_or_default();
        let delete = |found: &mut Resource<Connection>| {
            if found.in_use {
                return Err(ApiError::invalid_request(
                    "You can't delete the connection. It's used by one or more services. To \
                     delete it, delete the services or update them to use other connections.",
                ));
            }
            found.deleted_at = Some(clock::now());
            Ok(())
        };
        let deleted = self.change_connection(caller, &arn, delete).await?;
        let whole = self.resource_arn(&caller.region, &deleted);
        // It opens nothing any more; what stays of it is sealed, and of no use to anybody.
        let forgotten = self.builds.sources.forget_credential(&whole).await;
        forgotten.map_err(|error| store_error(&error))?;
        Ok(DeleteConnectionResponse {
            connection: Some(self.wire_connection(caller, deleted)),
        })
    }

    pub(super) async fn complete_connection(
        &self,
        caller: &Caller,
        request: CompleteConnectionRequest,
    ) -> Result<CompleteConnectionResponse, ApiError> {
        let arn = &request.connection_arn;
        let connection = self.complete_connection_of(caller, arn).await?;
        Ok(CompleteConnectionResponse { connection })
    }

    /// Makes a connection available.
    pub(super) async fn complete_connection_of(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<WireConnection, ApiError> {
        let complete = |found: &mut Resource<Connection>| {
            found.record.state = State::Available;
            Ok(())
        };
        let completed = self.change_connection(caller, arn, complete).await?;
        Ok(self.wire_connection(caller, completed))
    }

    /// The whole ARN of a connection that is not deleted, and its provider.
    pub(super) async fn open_connection(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<(String, String), ApiError> {
        let found: Resource<Connection> = self.look_up(caller, Some(arn)).await?;
        match found.deleted_at {
            None => {
                let whole = self.resource_arn(&caller.region, &found);
                Ok((whole, found.record.provider))
            }
            Some(_) => Err(not_found(Connection::NOUN, arn)),
        }
    }

    /// Changes a connection that is not deleted.
    async fn change_connection(
        &self,
        caller: &Caller,
        arn: &str,
        change: impl FnOnce(&mut Resource<Connection>) -> Result<(), ApiError> + Send,
    ) -> Result<Resource<Connection>, ApiError> {
        let found: Resource<Connection> = self.look_up(caller, Some(arn)).await?;
        let change = |found: &mut Resource<Connection>| match found.deleted_at {
            None => change(found),
            Some(_) => Err(not_found(Connection::NOUN, arn)),
        };
        self.store
            .change_resource(&caller.region, found.id, change)
            .await
            .map_err(|error| Self::change_error(Connection::NOUN, arn, error))
    }

    /// The whole ARN of the connection that a service names.
    ///
    /// # Errors
    /// `InvalidRequestException` when the ARN names no connection here that is available.
    pub(super) async fn resolve_connection(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<String, ApiError> {
        let found: Resource<Connection> = self.resolve(caller, arn).await?;
        match found.record.state {
            State::Available => Ok(self.resource_arn(&caller.region, &found)),
            State::PendingHandshake => Err(ApiError::invalid_request(format!(
                "The connection isn't available: its handshake is still to be completed, with \
                 `ekiden connection complete {}`. ARN: '{arn}'",
                found.name
            ))),
        }
    }

    fn wire_connection(&self, caller: &Caller, found: Resource<Connection>) -> WireConnection {
        let status = match (found.deleted_at, found.record.state) {
            (Some(_), _) => "DELETED",
            (None, State::PendingHandshake) => "PENDING_HANDSHAKE",
            (None, State::Available) => "AVAILABLE",
        };
        WireConnection {
            connection_arn: Some(self.resource_arn(&caller.region, &found)),
            connection_name: Some(found.name),
            provider_type: Some(found.record.provider),
            status: Some(status.to_owned()),
            created_at: Some(seconds(found.created_at)),
        }
    }
}

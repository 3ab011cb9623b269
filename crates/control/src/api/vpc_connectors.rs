//! VPC connectors: the subnets and security groups through which an owner wants services to reach
//! out.
//!
//! They are kept and echoed. A host has no VPC: they change nothing about the network of instances.

use ekiden_aws::{
    apprunner::shapes::{
        CreateVpcConnectorRequest, CreateVpcConnectorResponse, DeleteVpcConnectorRequest,
        DeleteVpcConnectorResponse, DescribeVpcConnectorRequest, DescribeVpcConnectorResponse,
        ListVpcConnectorsRequest, ListVpcConnectorsResponse, VpcConnector as WireConnector,
    },
    arn::{self, Revision},
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_store::resources::{CreateError, Filter, Kind, New, Numbering, Resource, Room, Which};
use serde::{Deserialize, Serialize};

use super::{
    Api, Caller,
    page::Page,
    resources::{
        ApiKind, Place, after, new_id, not_found, place, quota_reached, seconds, unexpected, whole,
    },
    store_error, tags,
};
use crate::{clock, config::References};

/// Subnets of one connector, and security groups.
const IDS_MAX: usize = 50;

/// Characters of an id behind its prefix.
const ID_LEN_MAX: usize = 32;

/// What a connector is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct VpcConnector {
    subnets: Vec<String>,
    security_groups: Vec<String>,
}

impl Kind for VpcConnector {
    const NAME: &'static str = "vpcconnector";
    const NUMBERING: Numbering = Numbering::Single;
}

impl ApiKind for VpcConnector {
    const NOUN: &'static str = "VPC connector";

    fn to_arn(revision: Revision) -> arn::Resource {
        arn::Resource::VpcConnector(revision)
    }

    fn named(resource: &arn::Resource) -> Option<Which<'_>> {
        match resource {
            arn::Resource::VpcConnector(name) => whole(name),
            arn::Resource::Service(_)
            | arn::Resource::Connection(_)
            | arn::Resource::VpcIngressConnection(_)
            | arn::Resource::AutoScalingConfiguration(_)
            | arn::Resource::ObservabilityConfiguration(_) => None,
        }
    }
}

impl<E: Engine> Api<E> {
    pub(super) async fn create_vpc_connector(
        &self,
        caller: &Caller,
        request: CreateVpcConnectorRequest,
    ) -> Result<CreateVpcConnectorResponse, ApiError> {
        let subnets = request.subnets.unwrap_or_default();
        if subnets.is_empty() {
            return Err(ApiError::invalid_request(
                "A VPC connector must have at least one subnet.",
            ));
        }
        let security_groups = match request.security_groups {
            Some(given) if !given.is_empty() => given,
            Some(_) | None => vec![self.default_security_group(caller)],
        };
        self.check_ids("subnet", "subnet-", &subnets)?;
        self.check_ids("security group", "sg-", &security_groups)?;
        let new = New {
            record: VpcConnector {
                subnets,
                security_groups,
            },
            name: request.vpc_connector_name.unwrap_or_default(),
            id: new_id(),
            tags: tags::new(request.tags)?,
            created_at: clock::now(),
            service: None,
        };
        let room = Room {
            names: self.config.quotas.vpc_connectors,
            revisions: 1,
            per_service: 0,
        };
        let made = self
            .store
            .create_resource(&caller.region, &new, room)
            .await
            .map_err(|error| match error {
                CreateError::NameTaken => ApiError::invalid_request(format!(
                    "VPC connector with the provided name already exists: {}",
                    new.name
                )),
                CreateError::NamesFull => {
                    quota_reached("VPC connectors", room.names, "quota.vpc_connectors")
                }
                other => unexpected(&other),
            })?;
        Ok(CreateVpcConnectorResponse {
            vpc_connector: Some(self.wire_connector(caller, made)),
        })
    }

    pub(super) async fn describe_vpc_connector(
        &self,
        caller: &Caller,
        request: DescribeVpcConnectorRequest,
    ) -> Result<DescribeVpcConnectorResponse, ApiError> {
        let arn = request.vpc_connector_arn.as_deref();
        let found = self.look_up(caller, arn).await?;
        Ok(DescribeVpcConnectorResponse {
            vpc_connector: Some(self.wire_connector(caller, found)),
        })
    }

    pub(super) async fn list_vpc_connectors(
        &self,
        caller: &Caller,
        request: ListVpcConnectorsRequest,
    ) -> Result<ListVpcConnectorsResponse, ApiError> {
        let page: Page<Place> = self.page("ListVpcConnectors", caller, &request)?;
        let filter = Filter::default();
        let found = self
            .store
            .resources(&caller.region, filter, after(page.after()), page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, place);
        let wire = |found| self.wire_connector(caller, found);
        Ok(ListVpcConnectorsResponse {
            vpc_connectors: Some(found.into_iter().map(wire).collect()),
            next_token,
        })
    }

    pub(super) async fn delete_vpc_connector(
        &self,
        caller: &Caller,
        request: DeleteVpcConnectorRequest,
    ) -> Result<DeleteVpcConnectorResponse, ApiError> {
        let arn = request.vpc_connector_arn.unwrap_or_default();
        let found: Resource<VpcConnector> = self.look_up(caller, Some(&arn)).await?;
        let delete = |found: &mut Resource<VpcConnector>| {
            if found.deleted_at.is_some() {
                return Err(not_found(VpcConnector::NOUN, &arn));
            }
            if found.in_use {
                // Two blanks: App Runner's own words.
                return Err(ApiError::invalid_request(format!(
                    "Provided VPC connector arn is being used by other services. ARN:  {arn}"
                )));
            }
            found.deleted_at = Some(clock::now());
            Ok(())
        };
        let deleted = self
            .store
            .change_resource(&caller.region, found.id, delete)
            .await
            .map_err(|error| Self::change_error(VpcConnector::NOUN, &arn, error))?;
        Ok(DeleteVpcConnectorResponse {
            vpc_connector: Some(self.wire_connector(caller, deleted)),
        })
    }

    /// The whole ARN of the connector that a service names.
    ///
    /// # Errors
    /// `InvalidRequestException` when the ARN names no active connector here.
    pub(super) async fn resolve_vpc_connector(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<String, ApiError> {
        let found: Resource<VpcConnector> = self.resolve(caller, arn).await?;
        Ok(self.resource_arn(&caller.region, &found))
    }

    /// Whether ids of things that AWS would keep can be used: well-formed ones can, unless all are
    /// to be known.
    ///
    /// # Errors
    /// `InvalidRequestException`.
    pub(super) fn check_ids(
        &self,
        what: &str,
        prefix: &str,
        ids: &[String],
    ) -> Result<(), ApiError> {
        if ids.len() > IDS_MAX {
            return Err(ApiError::invalid_request(format!(
                "There can be at most {IDS_MAX} {what} ids."
            )));
        }
        for id in ids {
            if !is_id(id, prefix) {
                return Err(ApiError::invalid_request(format!(
                    "'{id}' is not the id of a {what}: expected `{prefix}` and 1 to {ID_LEN_MAX} \
                     letters and digits."
                )));
            }
            match self.config.references {
                References::Lenient => {}
                References::Strict => {
                    return Err(ApiError::invalid_request(format!(
                        "The {what} '{id}' is not known: Ekiden keeps none, and the setting \
                         `api.strict_references` refuses what it does not know."
                    )));
                }
            }
        }
        Ok(())
    }

    /// The group that a VPC would have from the beginning: always the same one in a region.
    fn default_security_group(&self, caller: &Caller) -> String {
        let bytes = self
            .keyring
            .sign("default security group", caller.region.as_bytes());
        let digits: String = bytes[..9]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("sg-{}", &digits[..17])
    }

    fn wire_connector(&self, caller: &Caller, found: Resource<VpcConnector>) -> WireConnector {
        let status = match found.deleted_at {
            None => "ACTIVE",
            Some(_) => "INACTIVE",
        };
        WireConnector {
            vpc_connector_arn: Some(self.resource_arn(&caller.region, &found)),
            vpc_connector_name: Some(found.name),
            vpc_connector_revision: Some(found.revision.cast_signed()),
            subnets: Some(found.record.subnets),
            security_groups: Some(found.record.security_groups),
            status: Some(status.to_owned()),
            created_at: Some(seconds(found.created_at)),
            deleted_at: found.deleted_at.map(seconds),
        }
    }
}

fn is_id(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| {
        (1..=ID_LEN_MAX).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

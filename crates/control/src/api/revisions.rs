//! Ekiden's own operations on operations and revisions: cancel one, list and return to the other.

use std::collections::HashSet;

use ekiden_aws::{
    error::ApiError,
    native::{
        CancelOperationRequest, CancelOperationResponse, ListRevisionsRequest,
        ListRevisionsResponse, Revision as WireRevision, RollbackServiceRequest,
        RollbackServiceResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    instance::RevisionNumber,
    revision::Revision,
    service::{CancelRefusal, Change, OperationKind, PinnedRevision, Service, ServiceStatus},
};
use ekiden_store::StoredService;
use tracing::info;

use super::{
    Api, Caller,
    native::wire_operation,
    page::Page,
    services::{same_as_before, wrong_status},
    store_error,
};
use crate::{clock, services::ChangeError};

/// Revisions that a list can show at once.
const PAGE_MAX: u32 = 100;

impl<E: Engine> Api<E> {
    pub(super) async fn cancel_operation(
        &self,
        caller: &Caller,
        request: CancelOperationRequest,
    ) -> Result<CancelOperationResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let id = request.operation_id.as_deref().map(str::parse).transpose();
        let id = id.map_err(|error| ApiError::invalid_request(format!("OperationId: {error}.")))?;
        let now = clock::now();
        let cancel = move |stored: &mut StoredService| {
            stored.service.cancel(id, now).map_err(|refusal| {
                let kind = stored.service.operation.as_ref().map(|o| o.kind);
                (refusal, kind)
            })
        };
        let service = snapshot.stored.service.id;
        let stored = match self.services.change(service, cancel).await {
            Ok(stored) => stored,
            Err(ChangeError::Refused((refusal, kind))) => return Err(cannot_cancel(refusal, kind)),
            Err(ChangeError::Unknown) => {
                // A worker ends with its service's deletion: no operation is on its way.
                return Err(cannot_cancel(CancelRefusal::NoOperation, None));
            }
            Err(ChangeError::Busy) => {
                return Err(ApiError::throttling(
                    "Too many requests wait for this service. Try again.",
                ));
            }
            Err(ChangeError::Store(error)) => return Err(store_error(&error)),
        };
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let operation = stored.service.operation.as_ref();
        info!(service = %stored.service.name, operation = operation.map(|o| tracing::field::display(o.id)),
            "operation cancelled");
        let operation = operation.map(|operation| wire_operation(&snapshot, operation));
        Ok(CancelOperationResponse {
            operation: operation.unwrap_or_default(),
        })
    }

    pub(super) async fn list_revisions(
        &self,
        caller: &Caller,
        request: ListRevisionsRequest,
    ) -> Result<ListRevisionsResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        if request
            .max_results
            .is_some_and(|max| !(1..=PAGE_MAX).contains(&max))
        {
            return Err(ApiError::invalid_request(format!(
                "MaxResults must be from 1 to {PAGE_MAX}."
            )));
        }
        let page: Page<u32> = self.page("ListRevisions", caller, &request)?;
        let service = &snapshot.stored.service;
        let before = page.after().map(|number| RevisionNumber(*number));
        let found = self
            .store
            .revisions(service.id, before, page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, |revision| revision.number.0);
        let served: HashSet<_> = service.served.iter().chain(&service.active).collect();
        let revisions = found
            .iter()
            .map(|revision| wire_revision(service, revision, served.contains(&revision.number)));
        Ok(ListRevisionsResponse {
            revisions: revisions.collect(),
            next_token,
        })
    }

    pub(super) async fn rollback_service(
        &self,
        caller: &Caller,
        request: RollbackServiceRequest,
    ) -> Result<RollbackServiceResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let service = &snapshot.stored.service;
        if service.status() != ServiceStatus::Running {
            return Err(wrong_status(OperationKind::UpdateService, service.status()));
        }
        let revision = self
            .revision_to_return_to(service, request.revision)
            .await?;
        let number = revision.number;
        let (before, change) = (service.configuration.clone(), back_to(revision)?);
        let active = service.active;
        let (stored, operation_id) = self
            .accept(&snapshot, OperationKind::UpdateService, move |stored| {
                same_as_before(stored, &before)?;
                match stored.service.active == active {
                    true => Ok(Some(change)),
                    false => Err(ApiError::throttling(
                        "The service was deployed at the same moment. Try again.",
                    )),
                }
            })
            .await?;
        Ok(RollbackServiceResponse {
            service: Some(self.wire_service(&stored)?),
            operation_id: operation_id.unwrap_or_default(),
            revision: number.0,
        })
    }

    /// The one that is asked for, or the one that served before the active one.
    async fn revision_to_return_to(
        &self,
        service: &Service,
        asked: Option<u32>,
    ) -> Result<Revision, ApiError> {
        let active = service.active.map_or(0, |number| number.0);
        if asked == Some(active) {
            return Err(ApiError::invalid_request(format!(
                "Revision {active} is the active one: it serves already. To deploy anew what its \
                 source is now, use StartDeployment."
            )));
        }
        let found = match (asked, service.served_before()) {
            (Some(number), _) => {
                self.store
                    .revision(service.id, RevisionNumber(number))
                    .await
            }
            (None, Some(number)) => self.store.revision(service.id, number).await,
            (None, None) if !service.served.is_empty() => Ok(None),
            // A service from before it was remembered what served.
            (None, None) => {
                let older = self.store.revisions(service.id, service.active, 1).await;
                older.map(|older| older.into_iter().next())
            }
        };
        found
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| match asked {
                Some(number) => ApiError::resource_not_found(format!(
                    "The service has no revision {number}, or it is no longer kept. ListRevisions \
                     shows those it has."
                )),
                None => ApiError::invalid_request(
                    "No revision has served before the active one, so that there is none to \
                     return to.",
                ),
            })
    }
}

/// The change that makes a service what it was with a revision: its settings, its words, and the
/// very image that it ran.
fn back_to(revision: Revision) -> Result<Change, ApiError> {
    if revision.configuration.is_empty() {
        return Err(ApiError::invalid_request(format!(
            "Revision {} was made by a release of Ekiden that did not keep what was configured. \
             Give the configuration again, with UpdateService.",
            revision.number
        )));
    }
    Ok(Change {
        settings: revision.settings,
        configuration: revision.configuration,
        returns_to: Some(PinnedRevision {
            number: revision.number,
            digest: revision.image.digest,
        }),
    })
}

fn cannot_cancel(refusal: CancelRefusal, kind: Option<OperationKind>) -> ApiError {
    let message = match refusal {
        CancelRefusal::Switched => format!(
            "{} cannot be cancelled: {refusal}. To return to the one before, use RollbackService \
             when it has ended.",
            kind.map_or_else(|| "The operation".to_owned(), |kind| kind.to_string())
        ),
        CancelRefusal::NoOperation
        | CancelRefusal::Over
        | CancelRefusal::NotDeployment(_)
        | CancelRefusal::Undoing => format!("The operation cannot be cancelled: {refusal}."),
    };
    ApiError::invalid_state(message)
}

fn wire_revision(service: &Service, revision: &Revision, served: bool) -> WireRevision {
    WireRevision {
        revision: revision.number.0,
        active: service.active == Some(revision.number),
        served,
        image: revision.settings.image.to_string(),
        image_digest: revision.image.digest.to_string(),
        created_at: revision.created_at.as_secs(),
        operation_id: revision.operation.map(|id| id.to_string()),
        copy_of: revision.copy_of.map(|number| number.0),
        source_version: revision.built.as_ref().map(|built| built.version.clone()),
        source_summary: revision.built.as_ref().map(|built| built.summary.clone()),
        runtime: revision.built.as_ref().map(|built| built.runtime.clone()),
        // Words that cannot be read are not worth the whole answer.
        configuration: serde_json::from_str(&revision.configuration).ok(),
    }
}

//! Ekiden's own operations about drains: where lines of logs are sent.

use ekiden_aws::{
    error::ApiError,
    native::{
        DeleteDrainRequest, DeleteDrainResponse, Drain as WireDrain, DrainStatus as WireStatus,
        ListDrainsRequest, ListDrainsResponse, PutDrainRequest, PutDrainResponse, TestDrainRequest,
        TestDrainResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_store::drains::{DrainFacts, DrainService};
use zeroize::Zeroizing;

use super::{Api, Caller, store_error};
use crate::{
    clock,
    drains::{DRAINS_MAX, DrainError, DrainStatus, KINDS, NewDrain, ShownDrain},
};

/// The longest name.
const NAME_BYTES_MAX: usize = 64;

/// The longest target, and the longest secrets, as JSON.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Kinds that are sent when the request names none.
const KINDS_DEFAULT: usize = 2;

impl<E: Engine> Api<E> {
    pub(super) async fn put_drain(
        &self,
        caller: &Caller,
        request: PutDrainRequest,
    ) -> Result<PutDrainResponse, ApiError> {
        let service = match request.service_arn.as_deref() {
            Some(arn) => {
                let snapshot = self.find(caller, Some(arn))?;
                Some(DrainService {
                    id: snapshot.stored.service.id.to_string(),
                    arn: self.arn(&snapshot.stored),
                })
            }
            None => None,
        };
        let secrets = request.secrets.map(Zeroizing::new);
        let documents = [Some(&request.target), secrets.as_deref()];
        let longest = documents.into_iter().flatten().map(String::len).max();
        if longest > Some(DOCUMENT_BYTES_MAX) {
            return Err(ApiError::invalid_request(format!(
                "Target and Secrets may each have {DOCUMENT_BYTES_MAX} bytes."
            )));
        }
        let target = serde_json::from_str(&request.target).map_err(|error| {
            ApiError::invalid_request(format!("Target must be a JSON document: {error}."))
        })?;
        let new = NewDrain {
            name: name(request.name)?,
            facts: DrainFacts {
                service,
                kinds: kinds(request.kinds.as_deref())?,
                target,
                enabled: request.enabled.unwrap_or(true),
                created_at: clock::now(),
            },
            secrets,
            from_beginning: request.from_beginning.unwrap_or(false),
        };
        let drain = self.drains.put(new).await.map_err(api_error)?;
        Ok(PutDrainResponse { drain: wire(drain) })
    }

    pub(super) async fn delete_drain(
        &self,
        request: DeleteDrainRequest,
    ) -> Result<DeleteDrainResponse, ApiError> {
        let removed = self.drains.remove(&request.name).await;
        removed.map_err(api_error)?;
        Ok(DeleteDrainResponse {})
    }

    pub(super) async fn list_drains(
        &self,
        _request: ListDrainsRequest,
    ) -> Result<ListDrainsResponse, ApiError> {
        Ok(ListDrainsResponse {
            drains: self.drains.list().into_iter().map(wire).collect(),
        })
    }

    pub(super) async fn test_drain(
        &self,
        request: TestDrainRequest,
    ) -> Result<TestDrainResponse, ApiError> {
        let tested = self.drains.test(&request.name).await.map_err(api_error)?;
        Ok(TestDrainResponse {
            taken: tested.taken,
            message: tested.message,
            milliseconds: tested.took.as_millis() as u64,
        })
    }
}

fn name(name: String) -> Result<String, ApiError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(fits) {
        true => Ok(name),
        false => Err(ApiError::invalid_request(format!(
            "Name must be 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`."
        ))),
    }
}

/// In the order of [`KINDS`], each once.
fn kinds(wanted: Option<&[String]>) -> Result<Vec<String>, ApiError> {
    let all = KINDS.map(|kind| kind.as_str());
    let Some(wanted) = wanted else {
        return Ok(all[..KINDS_DEFAULT]
            .iter()
            .map(ToString::to_string)
            .collect());
    };
    if wanted.is_empty() || wanted.iter().any(|kind| !all.contains(&&kind[..])) {
        return Err(ApiError::invalid_request(format!(
            "Kinds must have one or more of {}.",
            all.join(", ")
        )));
    }
    let chosen = all
        .iter()
        .filter(|kind| wanted.iter().any(|one| one == *kind));
    Ok(chosen.map(ToString::to_string).collect())
}

fn api_error(error: DrainError) -> ApiError {
    match error {
        DrainError::Full => ApiError::service_quota_exceeded(format!(
            "There are {DRAINS_MAX} drains, which is the most. Delete one first."
        )),
        DrainError::Unknown(name) => {
            ApiError::resource_not_found(format!("There is no drain `{name}`."))
        }
        DrainError::Target(_)
        | DrainError::Secrets
        | DrainError::Config(_)
        | DrainError::DoesNotOpen => {
            ApiError::invalid_request(format!("The drain cannot be: {error}."))
        }
        DrainError::Store(error) => store_error(&error),
    }
}

fn wire(drain: ShownDrain) -> WireDrain {
    let facts = drain.facts;
    WireDrain {
        name: drain.name,
        service_arn: facts.service.map(|service| service.arn),
        kinds: facts.kinds,
        target: facts.target.to_string(),
        secret_names: drain.secret_names,
        enabled: facts.enabled,
        created_at: facts.created_at.as_secs(),
        status: wire_status(drain.status),
    }
}

fn wire_status(status: DrainStatus) -> WireStatus {
    let (error_at, error) = status.last_error.unzip();
    WireStatus {
        state: status.state.as_str().to_owned(),
        lines_sent: status.lines_sent,
        bytes_sent: status.bytes_sent,
        lines_rejected: status.lines_rejected,
        lines_lost: status.lines_lost,
        behind_lines: status.behind_lines,
        behind_seconds: status.behind_seconds,
        last_error: error,
        last_error_at: error_at.map(|at| at.as_secs()),
        last_success_at: status.last_success.map(|at| at.as_secs()),
        retry_at: status.retry_at.map(|at| at.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(kinds: &[&str]) -> Vec<String> {
        kinds.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn kinds_are_known_ones_each_once() {
        let asked = |wanted: &[&str]| kinds(Some(&owned(wanted))).ok();
        assert_eq!(kinds(None).ok(), Some(owned(&["application", "service"])));
        assert_eq!(
            asked(&["access", "application", "access"]),
            Some(owned(&["application", "access"]))
        );
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["build"]), None);
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "eu.logs-1_x", &"a".repeat(64)] {
            assert!(name(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(name(bad.to_owned()).is_err(), "{bad}");
        }
    }
}

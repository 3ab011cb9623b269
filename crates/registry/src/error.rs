//! What a registry's clients are told: a status, a code and a sentence (distribution specification 1.1,
//! "Error Codes").

use bytes::Bytes;
use ekiden_store::StoreError;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use serde_json::json;

/// The body of every answer.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Of `Range` and the upload, when an upload goes on elsewhere than the client thought.
    pub(crate) range_end: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            range_end: None,
        }
    }

    /// The protocol's word for it, such as `BLOB_UNKNOWN`.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "log in with the user `AWS` and the password that `aws ecr get-login-password` prints, or with \
             the id and the secret of an access key",
        )
    }

    /// Who asks may not.
    pub fn denied(what: &str, repository: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "DENIED",
            format!("this access key may not {what} `{repository}`"),
        )
    }

    pub(crate) fn name_invalid(name: &str) -> Self {
        let shown: String = name.chars().take(100).collect();
        Self::new(
            StatusCode::BAD_REQUEST,
            "NAME_INVALID",
            format!(
                "`{shown}` is not a repository's name: expected 2 to 256 lower-case letters and digits, \
                 separated by `.`, `_`, `-` and `/`"
            ),
        )
    }

    pub(crate) fn no_repository(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            format!("there is no repository `{name}`"),
        )
    }

    pub(crate) fn no_blob(digest: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("the repository has no blob {digest}"),
        )
    }

    pub(crate) fn no_upload() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UPLOAD_UNKNOWN",
            "there is no such upload (any more): begin another one",
        )
    }

    pub(crate) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            format!("{method} is not for this path"),
        )
    }

    pub(crate) fn over_budget() -> Self {
        Self::full(
            "the registry's budget (`registry.budget`) is used up: remove images, or raise it",
        )
    }

    pub(crate) fn full(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message)
    }

    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Self::full(
                "the disk of the registry is full: remove images or free some space",
            );
        }
        tracing::warn!(%error, "the registry cannot {doing}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            format!("the registry cannot {doing}: {error}"),
        )
    }

    /// As an answer.
    pub fn answer(&self) -> Response<Body> {
        let errors = json!({"errors": [{"code": self.code, "message": self.message}]});
        let body = Full::new(Bytes::from(errors.to_string())).map_err(|never| match never {});
        let mut answer = Response::new(body.boxed());
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"Ekiden\""),
            );
        }
        if let Some(end) = self.range_end
            && let Ok(range) = HeaderValue::from_str(&format!("0-{}", end.saturating_sub(1)))
        {
            headers.insert(header::RANGE, range);
        }
        answer
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::DiskFull) {
            return Self::full(error.to_string());
        }
        tracing::warn!(%error, "the store failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            error.to_string(),
        )
    }
}

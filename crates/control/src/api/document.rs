//! Settings of one service as a JSON document in a text: how it is read, and why a change did not come
//! about.

use ekiden_aws::error::ApiError;
use serde::Serialize;
use serde_json::{Map, Value};

use super::store_error;
use crate::services::ChangeError;

/// The settings as a document.
pub(super) fn written<T: Serialize>(settings: &T) -> Value {
    // They are text, numbers, truth values, and lists and objects of those: all of it is in JSON.
    serde_json::to_value(settings).unwrap_or_default()
}

/// The members of a document of at most so many bytes.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse(document: &str, bytes_max: usize) -> Result<Map<String, Value>, String> {
    if document.len() > bytes_max {
        return Err(format!("the document has more than {bytes_max} bytes."));
    }
    match serde_json::from_str(document) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) => Err("the document must be a JSON object.".to_owned()),
        Err(error) => Err(format!(
            "the document is not JSON: line {}, column {}.",
            error.line(),
            error.column()
        )),
    }
}

/// What a client is told of a change that did not come about; `invalid` says what refused it.
pub(super) fn change_error(
    error: ChangeError<String>,
    invalid: impl FnOnce(String) -> ApiError,
) -> ApiError {
    match error {
        ChangeError::Refused(why) => invalid(why),
        ChangeError::Unknown => ApiError::resource_not_found("The service is deleted."),
        ChangeError::Busy => {
            ApiError::throttling("Too many requests wait for this service. Try again.")
        }
        ChangeError::Store(error) => store_error(&error),
    }
}

//! Outputs into bodies.
//!
//! JSON is written by serde_json as it goes. For the other protocols an output first becomes a
//! [`Value`], which is all that serde knows of it, and then CBOR or XML.

mod cbor;
mod value;
mod xml;

use serde::Serialize;

use self::value::Value;
use crate::{
    error::ApiError,
    protocol::{Protocol, RequestId, Route},
};

/// An output cannot be written: a map whose keys are no text, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the output has something that the protocol has no form for")]
pub(crate) struct Unwritable;

/// The body of a success.
pub(crate) fn output<T: Serialize>(
    route: &Route,
    request_id: RequestId,
    output: &T,
) -> Result<Vec<u8>, Unwritable> {
    match route.protocol {
        Protocol::AwsJson10 | Protocol::AwsJson11 => {
            serde_json::to_vec(output).map_err(|_| Unwritable)
        }
        Protocol::RpcV2Cbor => Ok(cbor::write(&Value::of(output)?)),
        Protocol::AwsQuery => Ok(xml::output(route, request_id, &Value::of(output)?)),
    }
}

/// The body of a failure.
pub(crate) fn error(protocol: Protocol, request_id: RequestId, error: &ApiError) -> Vec<u8> {
    let envelope = [
        ("__type", error.code()),
        // The model says `Message`; some clients look for `message` only.
        ("Message", error.message()),
        ("message", error.message()),
    ];
    match protocol {
        Protocol::AwsJson10 | Protocol::AwsJson11 => {
            let members = envelope.map(|(name, text)| (name.to_owned(), text.into()));
            serde_json::Value::Object(members.into_iter().collect())
                .to_string()
                .into_bytes()
        }
        Protocol::RpcV2Cbor => {
            let members = envelope.map(|(name, text)| (name, Value::Text(text.to_owned())));
            cbor::write(&Value::Structure(members.into()))
        }
        Protocol::AwsQuery => xml::error(request_id, error),
    }
}

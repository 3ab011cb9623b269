//! The errors a client can be given.
//!
//! The five that App Runner's model names, and the ones every AWS front end has in common, with the
//! status each goes out with (specification, section 2.4). An error is an answer to a client: its
//! message is public, and holds no secret.

use http::StatusCode;

/// An error for a client: a code it can act on and a message that a person can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.code())]
pub struct ApiError {
    kind: Kind,
    message: String,
}

macro_rules! errors {
    (
        $(
            $(#[$doc:meta])*
            $constructor:ident, $variant:ident, $code:literal $(/ $query:literal)?, $status:ident;
        )*
    ) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Kind {
            $($variant,)*
        }

        impl Kind {
            const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            const fn query_code(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => errors!(@query $($query)?),)*
                }
            }

            const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)*
                }
            }
        }

        impl ApiError {
            $(
                $(#[$doc])*
                pub fn $constructor(message: impl Into<String>) -> Self {
                    Self { kind: Kind::$variant, message: message.into() }
                }
            )*

            #[cfg(test)]
            fn every() -> Vec<Self> {
                vec![$(Self::$constructor("why"),)*]
            }
        }
    };
    (@query) => { None };
    (@query $query:literal) => { Some($query) };
}

errors! {
    /// A parameter is bad, alone or with others.
    invalid_request, InvalidRequest, "InvalidRequestException" / "ValidationError", BAD_REQUEST;
    /// An ARN names nothing in this account and region. Not 404: App Runner answers 400.
    resource_not_found, ResourceNotFound, "ResourceNotFoundException", BAD_REQUEST;
    /// A parameter is bad, said by a service whose model has this name for it.
    validation, Validation, "ValidationException" / "ValidationError", BAD_REQUEST;
    /// The resource exists, and its state forbids the action.
    invalid_state, InvalidState, "InvalidStateException", BAD_REQUEST;
    /// As many as there may be exist already.
    service_quota_exceeded, ServiceQuotaExceeded, "ServiceQuotaExceededException", BAD_REQUEST;
    /// We failed. The message says nothing of how; the log does.
    internal_service_error, InternalServiceError, "InternalServiceErrorException" / "InternalFailure", INTERNAL_SERVER_ERROR;

    /// Whoever asks is known and may not.
    access_denied, AccessDenied, "AccessDeniedException" / "AccessDenied", FORBIDDEN;
    /// A session token is over.
    expired_token, ExpiredToken, "ExpiredTokenException" / "ExpiredToken", FORBIDDEN;
    /// A signature lacks a part, or has one that cannot be read.
    incomplete_signature, IncompleteSignature, "IncompleteSignature", FORBIDDEN;
    /// A signature is not the one the key makes, or not of this time, region or service.
    invalid_signature, InvalidSignature, "InvalidSignatureException" / "SignatureDoesNotMatch", FORBIDDEN;
    /// There is no signature.
    missing_authentication_token, MissingAuthenticationToken, "MissingAuthenticationTokenException" / "MissingAuthenticationToken", FORBIDDEN;
    /// Nobody has this access key.
    unrecognized_client, UnrecognizedClient, "UnrecognizedClientException" / "InvalidClientTokenId", FORBIDDEN;
    /// The request is not one of the protocol.
    malformed_http_request, MalformedHttpRequest, "MalformedHttpRequestException" / "MalformedQueryString", BAD_REQUEST;
    /// The body is over the bound.
    request_entity_too_large, RequestEntityTooLarge, "RequestEntityTooLargeException" / "RequestEntityTooLarge", PAYLOAD_TOO_LARGE;
    /// The body did not come in time.
    request_timeout, RequestTimeout, "RequestTimeoutException" / "RequestTimeout", REQUEST_TIMEOUT;
    /// The body is not one of the protocol, or a member is of the wrong type.
    serialization, Serialization, "SerializationException" / "MalformedInput", BAD_REQUEST;
    /// Not now; try again.
    service_unavailable, ServiceUnavailable, "ServiceUnavailable", SERVICE_UNAVAILABLE;
    /// Too many at once; clients slow down and try again.
    throttling, Throttling, "ThrottlingException" / "Throttling", BAD_REQUEST;
    /// Nobody has heard of this operation.
    unknown_operation, UnknownOperation, "UnknownOperationException" / "InvalidAction", NOT_FOUND;
}

impl ApiError {
    /// The name clients know the error by, `__type` in JSON and CBOR.
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The name clients of the AWS query protocol know it by, where that is another.
    pub fn query_code(&self) -> &'static str {
        self.kind.query_code().unwrap_or(self.code())
    }

    /// The status it goes out with.
    pub const fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// What a person reads.
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_model_is_here_with_its_status() {
        let model: serde_json::Value =
            serde_json::from_str(include_str!("../models/apprunner.json")).unwrap();
        for (name, shape) in model["shapes"].as_object().unwrap() {
            if shape["exception"] != true {
                continue;
            }
            let status = if shape["fault"] == true { 500 } else { 400 };
            let ours = ApiError::every()
                .into_iter()
                .find(|error| error.code() == name);
            assert_eq!(
                ours.map(|error| error.status().as_u16()),
                Some(status),
                "{name}"
            );
        }
    }
}

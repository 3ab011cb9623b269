//! Requests to operations, and results to responses.
//!
//! Every service that this endpoint speaks for is one row in a table of [`Api`]s: what stands before
//! an operation's name, the name a signature must be scoped to, and how bodies are written. A new
//! service is a row and its handlers; a new way to write bodies is a [`Protocol`] and its arms here.
//!
//! Nothing here does I/O. A request goes through these hands (specification, section 2.6):
//!
//! 1. [`route`]: which operation of which service;
//! 2. [`Claim`](crate::sigv4::claim::Claim): who asks;
//! 3. [`decode`](crate::decode::decode): the body as the operation's input;
//! 4. [`constraint::check`](crate::constraint::check): the model's constraints, if it has some;
//! 5. the operation's handler;
//! 6. [`success`] or [`failure`].

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header::CONTENT_TYPE,
    request::Parts,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    apprunner::shapes, constraint::Reported, error::ApiError, native, secretsmanager, ssm,
};

/// Bytes a request's body may have: [`ApiError::request_entity_too_large`] above it. Whoever reads
/// the body keeps it.
pub const REQUEST_BODY_BYTES_MAX: usize = 1 << 20;

/// The header that names the operation.
pub const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// The header that carries the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The services that Ekiden's endpoint speaks for.
pub static APIS: [Api; 4] = [APP_RUNNER, EKIDEN, SECRETS_MANAGER, SSM];

/// AWS App Runner.
pub const APP_RUNNER: Api = Api {
    target_prefix: shapes::TARGET_PREFIX,
    signing_name: shapes::SIGNING_NAME,
    protocol: Protocol::AwsJson10,
    violations: Reported::InvalidRequest,
};

/// AWS Secrets Manager.
pub const SECRETS_MANAGER: Api = Api {
    target_prefix: secretsmanager::shapes::TARGET_PREFIX,
    signing_name: secretsmanager::shapes::SIGNING_NAME,
    protocol: Protocol::AwsJson11,
    violations: Reported::Validation,
};

/// AWS Systems Manager.
pub const SSM: Api = Api {
    target_prefix: ssm::shapes::TARGET_PREFIX,
    signing_name: ssm::shapes::SIGNING_NAME,
    protocol: Protocol::AwsJson11,
    violations: Reported::Validation,
};

/// Ekiden's own operations, signed like App Runner's.
pub const EKIDEN: Api = Api {
    target_prefix: native::TARGET_PREFIX,
    signing_name: shapes::SIGNING_NAME,
    protocol: Protocol::AwsJson10,
    violations: Reported::InvalidRequest,
};

/// A service as a client addresses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// What stands before the dot in `X-Amz-Target`.
    pub target_prefix: &'static str,
    /// The service that a signature's scope must name.
    pub signing_name: &'static str,
    /// How its bodies are written.
    pub protocol: Protocol,
    /// The error by which it reports violated constraints.
    pub violations: Reported,
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// JSON, media type `application/x-amz-json-1.0`.
    AwsJson10,
    /// JSON, media type `application/x-amz-json-1.1`.
    AwsJson11,
}

/// Which operation a request asks for. That the service has it is still to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The service.
    pub api: &'static Api,
    /// The operation's name as the client wrote it.
    pub operation: String,
}

/// A request's id: a version 4 UUID, in the response and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A new id. Draws random numbers.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Finds the operation that a request asks for.
///
/// # Errors
/// `UnknownOperationException` when nothing in `apis` is addressed, `MalformedHttpRequestException`
/// when the body is declared to be of another type.
pub fn route(parts: &Parts, apis: &'static [Api]) -> Result<Route, ApiError> {
    if parts.method != Method::POST || parts.uri.path() != "/" {
        return Err(ApiError::unknown_operation(
            "operations are asked for with `POST /`",
        ));
    }
    let target = target(&parts.headers)?;
    let unknown = || ApiError::unknown_operation(format!("no operation `{target}` here"));
    let (prefix, operation) = target.split_once('.').ok_or_else(unknown)?;
    let api = apis
        .iter()
        .find(|api| api.target_prefix == prefix)
        .ok_or_else(unknown)?;
    check_content_type(&parts.headers, api.protocol)?;
    Ok(Route {
        api,
        operation: operation.to_owned(),
    })
}

/// The answer to a request that succeeded.
///
/// An output that cannot be written (a map whose keys are no text, say) becomes a [`failure`].
pub fn success<T: Serialize>(
    protocol: Protocol,
    request_id: RequestId,
    output: &T,
) -> Response<Bytes> {
    match serde_json::to_vec(output) {
        Ok(body) => response(protocol, request_id, StatusCode::OK, body),
        Err(_) => failure(
            protocol,
            request_id,
            &ApiError::internal_service_error("the answer could not be written"),
        ),
    }
}

/// The answer to a request that failed.
pub fn failure(protocol: Protocol, request_id: RequestId, error: &ApiError) -> Response<Bytes> {
    let body = serde_json::json!({
        "__type": error.code(),
        // The model says `Message`; some clients look for `message` only.
        "Message": error.message(),
        "message": error.message(),
    });
    response(
        protocol,
        request_id,
        error.status(),
        body.to_string().into_bytes(),
    )
}

impl Protocol {
    /// The media type of bodies.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::AwsJson10 => "application/x-amz-json-1.0",
            Self::AwsJson11 => "application/x-amz-json-1.1",
        }
    }

    /// Whether a request's body may be declared so. The two versions of awsJson differ in nothing
    /// that a request shows.
    fn accepts(self, media_type: &str) -> bool {
        match self {
            Self::AwsJson10 | Self::AwsJson11 => {
                ["application/x-amz-json-1.0", "application/x-amz-json-1.1"]
                    .iter()
                    .any(|accepted| media_type.eq_ignore_ascii_case(accepted))
            }
        }
    }
}

fn target(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(TARGET).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let text = only.and_then(|value| value.to_str().ok());
    text.ok_or_else(|| {
        ApiError::unknown_operation("one `X-Amz-Target: <Service>.<Operation>` header is needed")
    })
}

fn check_content_type(headers: &HeaderMap, protocol: Protocol) -> Result<(), ApiError> {
    // A client that declares nothing is taken at its signature's word.
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let media_type = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    match protocol.accepts(media_type) {
        true => Ok(()),
        false => Err(ApiError::malformed_http_request(format!(
            "the content type must be `{}`",
            protocol.content_type()
        ))),
    }
}

fn response(
    protocol: Protocol,
    request_id: RequestId,
    status: StatusCode,
    body: Vec<u8>,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(protocol.content_type()),
    );
    if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::apprunner::shapes::{Operation, TagResourceResponse};

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const JSON: (&str, &str) = ("content-type", "application/x-amz-json-1.0");

    #[test]
    fn target_names_service_and_operation() {
        let found = route(
            &parts(
                "POST",
                "/",
                &[JSON, ("x-amz-target", "AppRunner.ListOperations")],
            ),
            &APIS,
        )
        .unwrap();
        assert_eq!(
            (*found.api, found.operation.as_str()),
            (APP_RUNNER, "ListOperations")
        );
        let found = route(
            &parts(
                "POST",
                "/",
                &[JSON, ("x-amz-target", "Ekiden.ListInstances")],
            ),
            &APIS,
        )
        .unwrap();
        assert_eq!(
            (*found.api, found.operation.as_str()),
            (EKIDEN, "ListInstances")
        );
    }

    #[test]
    fn what_addresses_nothing_is_an_unknown_operation() {
        let target = ("x-amz-target", "AppRunner.ListServices");
        for unaddressed in [
            parts("POST", "/", &[JSON]),
            parts("POST", "/", &[JSON, target, target]),
            parts("GET", "/", &[JSON, target]),
            parts("POST", "/x", &[JSON, target]),
            parts("POST", "/", &[JSON, ("x-amz-target", "ListServices")]),
            parts(
                "POST",
                "/",
                &[JSON, ("x-amz-target", "apprunner.ListServices")],
            ),
            parts(
                "POST",
                "/",
                &[JSON, ("x-amz-target", "DynamoDB_20120810.ListTables")],
            ),
        ] {
            let error = route(&unaddressed, &APIS).unwrap_err();
            assert_eq!(
                (error.code(), error.status().as_u16()),
                ("UnknownOperationException", 404)
            );
        }
    }

    #[test]
    fn content_type_may_have_parameters_and_must_be_awsjson() {
        let of = |content_type| {
            let target = ("x-amz-target", "AppRunner.ListServices");
            route(
                &parts("POST", "/", &[("content-type", content_type), target]),
                &APIS,
            )
        };
        assert!(of("Application/X-Amz-Json-1.0; charset=utf-8").is_ok());
        assert!(of("application/x-amz-json-1.1").is_ok());
        for other in [
            "application/x-www-form-urlencoded",
            "text/plain",
            "",
            "application/cbor",
        ] {
            assert_eq!(
                of(other).unwrap_err().code(),
                "MalformedHttpRequestException",
                "{other}"
            );
        }
    }

    #[test]
    fn answers_have_status_type_and_request_id() {
        let id = RequestId::random();
        let answer = success(Protocol::AwsJson10, id, &TagResourceResponse::default());
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.body(), "{}");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/x-amz-json-1.0");
        assert_eq!(answer.headers()[REQUEST_ID], id.to_string().as_str());

        let answer = failure(
            Protocol::AwsJson10,
            id,
            &ApiError::invalid_state("not \"now\""),
        );
        assert_eq!(answer.status(), 400);
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["__type"], "InvalidStateException");
        assert_eq!(body["Message"], "not \"now\"");
        assert_eq!(body["message"], body["Message"]);
    }

    #[test]
    fn operations_are_found_by_the_names_they_have() {
        for operation in Operation::ALL {
            assert_eq!(Operation::from_name(operation.name()), Some(operation));
        }
        for name in ["", "listServices", "ListServices ", "CreateEverything"] {
            assert_eq!(Operation::from_name(name), None);
        }
    }
}

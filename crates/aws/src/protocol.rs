//! Requests to operations, and results to responses.
//!
//! Every service that this endpoint speaks for is one row in a table of [`Api`]s: how it is
//! addressed, the name a signature must be scoped to, the protocols it is spoken to in, and how it
//! reports violated constraints. A new service is a row, a [`Service`] and its handlers; a new way
//! to write bodies is a [`Protocol`] and its arms here and in [`decode`](crate::decode).
//!
//! A request says what it is by what it carries, and only one thing counts:
//!
//! | it carries | protocol | the service is found by | the operation is |
//! |---|---|---|---|
//! | `smithy-protocol: rpc-v2-cbor` | RPC v2 CBOR | path `/service/<prefix>/operation/<name>` | in the path |
//! | `X-Amz-Target: <prefix>.<name>` | awsJson 1.0 or 1.1 | the target's prefix | in the target |
//! | a form as its body | AWS query | the signature's scope and parameter `Version` | parameter `Action` |
//!
//! Nothing here does I/O. A request goes through these hands (specification, section 2.6):
//!
//! 1. [`route`]: which operation of which service;
//! 2. [`Claim`](crate::sigv4::claim::Claim): who asks;
//! 3. [`decode`](crate::decode): the body as the operation's input;
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
    apprunner::shapes, cloudwatch, constraint::Reported, decode::query, ecr, encode,
    error::ApiError, events, logs, native, secretsmanager, sigv4::claim::claimed_service, ssm,
};

/// Bytes a request's body may have: [`ApiError::request_entity_too_large`] above it. Whoever reads
/// the body keeps it.
pub const REQUEST_BODY_BYTES_MAX: usize = 1 << 20;

/// The header that names the operation in awsJson.
pub const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// The header that carries the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The header that names an RPC v2 protocol (Smithy 2.0, "Smithy RPC v2 CBOR protocol").
const SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");

/// Its value, in requests and answers.
const RPC_V2_CBOR: &str = "rpc-v2-cbor";

/// The header by which a service that was once spoken to in AWS query alone tells, in other
/// protocols, what its error is called there (Smithy 2.0, "awsQueryCompatible trait").
pub const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");

/// The media type of forms.
const FORM: &str = "application/x-www-form-urlencoded";

/// The services that Ekiden's endpoint speaks for.
pub static APIS: &[Api] = &[
    APP_RUNNER,
    EKIDEN,
    STS,
    SECRETS_MANAGER,
    SYSTEMS_MANAGER,
    CONTAINER_REGISTRY,
    LOGS,
    CLOUD_WATCH,
    EVENTS,
];

/// AWS App Runner.
pub const APP_RUNNER: Api = Api {
    service: Service::AppRunner,
    name: "apprunner",
    target_prefix: Some(shapes::TARGET_PREFIX),
    signing_name: shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson10, Protocol::RpcV2Cbor],
    violations: Reported::InvalidRequest,
};

/// Ekiden's own operations, signed like App Runner's.
pub const EKIDEN: Api = Api {
    service: Service::Ekiden,
    name: "ekiden",
    target_prefix: Some(native::TARGET_PREFIX),
    signing_name: shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson10, Protocol::RpcV2Cbor],
    violations: Reported::InvalidRequest,
};

/// AWS Security Token Service.
pub const STS: Api = Api {
    service: Service::Sts,
    name: "sts",
    target_prefix: None,
    signing_name: "sts",
    query: Some(Query {
        version: "2011-06-15",
        namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
    }),
    query_compatible: false,
    protocols: &[Protocol::AwsQuery],
    violations: Reported::Validation,
};

/// AWS Secrets Manager.
pub const SECRETS_MANAGER: Api = Api {
    service: Service::SecretsManager,
    name: "secretsmanager",
    target_prefix: Some(secretsmanager::shapes::TARGET_PREFIX),
    signing_name: secretsmanager::shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson11],
    violations: Reported::Validation,
};

/// AWS Systems Manager, of which Parameter Store is a part.
pub const SYSTEMS_MANAGER: Api = Api {
    service: Service::SystemsManager,
    name: "ssm",
    target_prefix: Some(ssm::shapes::TARGET_PREFIX),
    signing_name: ssm::shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson11],
    violations: Reported::Validation,
};

/// Amazon Elastic Container Registry.
pub const CONTAINER_REGISTRY: Api = Api {
    service: Service::ContainerRegistry,
    name: "ecr",
    target_prefix: Some(ecr::shapes::TARGET_PREFIX),
    signing_name: ecr::shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson11],
    violations: Reported::InvalidParameter,
};

/// Amazon CloudWatch Logs.
pub const LOGS: Api = Api {
    service: Service::Logs,
    name: "logs",
    target_prefix: Some(logs::shapes::TARGET_PREFIX),
    signing_name: logs::shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson11],
    violations: Reported::InvalidParameter,
};

/// Amazon CloudWatch.
pub const CLOUD_WATCH: Api = Api {
    service: Service::CloudWatch,
    name: "cloudwatch",
    target_prefix: Some(cloudwatch::shapes::TARGET_PREFIX),
    signing_name: cloudwatch::shapes::SIGNING_NAME,
    query: Some(Query {
        version: "2010-08-01",
        namespace: "http://monitoring.amazonaws.com/doc/2010-08-01/",
    }),
    query_compatible: true,
    protocols: &[Protocol::AwsJson10, Protocol::AwsQuery, Protocol::RpcV2Cbor],
    violations: Reported::Validation,
};

/// Amazon EventBridge.
pub const EVENTS: Api = Api {
    service: Service::Events,
    name: "events",
    target_prefix: Some(events::shapes::TARGET_PREFIX),
    signing_name: events::shapes::SIGNING_NAME,
    query: None,
    query_compatible: false,
    protocols: &[Protocol::AwsJson11],
    violations: Reported::Validation,
};

/// Whose operations a row of the table leads to: what has handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// AWS App Runner.
    AppRunner,
    /// Ekiden itself.
    Ekiden,
    /// AWS Security Token Service.
    Sts,
    /// AWS Secrets Manager.
    SecretsManager,
    /// AWS Systems Manager.
    SystemsManager,
    /// Amazon Elastic Container Registry.
    ContainerRegistry,
    /// Amazon CloudWatch Logs.
    Logs,
    /// Amazon CloudWatch: metrics and alarms.
    CloudWatch,
    /// Amazon EventBridge.
    Events,
}

/// A service as a client addresses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// Which it is.
    pub service: Service,
    /// What stands before the colon in the names of its actions, such as `apprunner:ListServices`.
    pub name: &'static str,
    /// What stands before the last dot in `X-Amz-Target`, and names it in the path of RPC v2. A
    /// service without one is spoken to in neither.
    pub target_prefix: Option<&'static str>,
    /// The service that a signature's scope must name.
    pub signing_name: &'static str,
    /// What the AWS query protocol needs to know. A service without it is not spoken to in that.
    pub query: Option<Query>,
    /// Whether its errors say in other protocols, by [`QUERY_ERROR`], what they are called in AWS
    /// query.
    pub query_compatible: bool,
    /// The protocols it is spoken to in.
    pub protocols: &'static [Protocol],
    /// The error by which it reports violated constraints.
    pub violations: Reported,
}

/// A service in the AWS query protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Parameter `Version` of its requests.
    pub version: &'static str,
    /// The XML name space of its answers.
    pub namespace: &'static str,
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// JSON, media type `application/x-amz-json-1.0`.
    AwsJson10,
    /// JSON, media type `application/x-amz-json-1.1`.
    AwsJson11,
    /// A form in, XML out.
    AwsQuery,
    /// CBOR.
    RpcV2Cbor,
}

/// Which operation a request asks for. That the service has it is still to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The service.
    pub api: &'static Api,
    /// The operation's name as the client wrote it.
    pub operation: String,
    /// How the request's body is written, and the answer's is to be.
    pub protocol: Protocol,
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

impl Route {
    /// The error of an operation that the service does not have.
    pub fn unknown_operation(&self) -> ApiError {
        let (api, operation) = (self.api.name, shown(&self.operation));
        ApiError::unknown_operation(format!("no operation `{operation}` of `{api}` here"))
    }
}

/// Finds the operation that a request asks for.
///
/// # Errors
/// `UnknownOperationException` when nothing in `apis` is addressed, `MalformedHttpRequestException`
/// when the body is declared to be of another type.
pub fn route(parts: &Parts, body: &[u8], apis: &'static [Api]) -> Result<Route, ApiError> {
    let path = parts.uri.path();
    if parts.method != Method::POST {
        return Err(ApiError::unknown_operation(
            "operations are asked for with `POST`",
        ));
    }
    match Kind::of(&parts.headers) {
        Kind::Cbor => route_by_path(&parts.headers, path, apis),
        Kind::Json | Kind::Form | Kind::Unclear if path != "/" => Err(ApiError::unknown_operation(
            "operations are asked for with `POST /`",
        )),
        Kind::Json => route_by_target(&parts.headers, apis),
        Kind::Form => route_by_action(&parts.headers, body, apis),
        Kind::Unclear => Err(ApiError::unknown_operation(
            "one `X-Amz-Target: <Service>.<Operation>` header is needed",
        )),
    }
}

/// The protocol to answer a request in of which no more is known than its head.
pub fn looks_like(headers: &HeaderMap) -> Protocol {
    match Kind::of(headers) {
        Kind::Cbor => Protocol::RpcV2Cbor,
        Kind::Form => Protocol::AwsQuery,
        Kind::Json | Kind::Unclear => match Protocol::AwsJson11.is_of(media_type(headers)) {
            true => Protocol::AwsJson11,
            false => Protocol::AwsJson10,
        },
    }
}

/// The answer to a request that succeeded.
///
/// An output that cannot be written (a map whose keys are no text, say) becomes a [`failure`].
pub fn success<T: Serialize>(route: &Route, request_id: RequestId, output: &T) -> Response<Bytes> {
    match encode::output(route, request_id, output) {
        Ok(body) => response(route.protocol, request_id, StatusCode::OK, body),
        Err(unwritable) => {
            let error = ApiError::internal_service_error(unwritable.to_string());
            failure_of(route.api, route.protocol, request_id, &error)
        }
    }
}

/// The answer to a request to a known service that failed.
pub fn failure_of(
    api: &Api,
    protocol: Protocol,
    request_id: RequestId,
    error: &ApiError,
) -> Response<Bytes> {
    let mut answer = failure(protocol, request_id, error);
    if api.query_compatible && protocol != Protocol::AwsQuery {
        let known_as = format!("{};{}", error.query_code(), error.whose_fault());
        let value = HeaderValue::try_from(known_as).expect("codes are plain text");
        answer.headers_mut().insert(QUERY_ERROR, value);
    }
    answer
}

/// The answer to a request that failed before it was known what service it is for.
pub fn failure(protocol: Protocol, request_id: RequestId, error: &ApiError) -> Response<Bytes> {
    let body = encode::error(protocol, request_id, error);
    response(protocol, request_id, error.status(), body)
}

impl Protocol {
    /// The media type of requests' bodies.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::AwsJson10 => "application/x-amz-json-1.0",
            Self::AwsJson11 => "application/x-amz-json-1.1",
            Self::AwsQuery => FORM,
            Self::RpcV2Cbor => "application/cbor",
        }
    }

    const fn answer_content_type(self) -> &'static str {
        match self {
            Self::AwsQuery => "text/xml",
            Self::AwsJson10 | Self::AwsJson11 | Self::RpcV2Cbor => self.content_type(),
        }
    }

    fn is_of(self, media_type: Option<&str>) -> bool {
        media_type.is_some_and(|given| given.eq_ignore_ascii_case(self.content_type()))
    }

    const fn is_json(self) -> bool {
        matches!(self, Self::AwsJson10 | Self::AwsJson11)
    }
}

/// What a request is by the first of its marks.
enum Kind {
    Cbor,
    Json,
    Form,
    Unclear,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(SMITHY_PROTOCOL) {
            Self::Cbor
        } else if headers.contains_key(TARGET) {
            Self::Json
        } else if Protocol::AwsQuery.is_of(media_type(headers)) {
            Self::Form
        } else {
            Self::Unclear
        }
    }
}

fn route_by_path(headers: &HeaderMap, path: &str, apis: &'static [Api]) -> Result<Route, ApiError> {
    if only(headers, &SMITHY_PROTOCOL) != Some(RPC_V2_CBOR) || headers.contains_key(TARGET) {
        return Err(ApiError::unknown_operation(
            "`smithy-protocol` must be `rpc-v2-cbor`, and `X-Amz-Target` not be there with it",
        ));
    }
    let named = path
        .strip_prefix("/service/")
        .and_then(|rest| rest.split_once("/operation/"));
    let (service, operation) = named.ok_or_else(|| {
        ApiError::unknown_operation(
            "operations are asked for with `POST /service/<Service>/operation/<Operation>`",
        )
    })?;
    let api = apis
        .iter()
        .find(|api| {
            api.target_prefix == Some(service) && api.protocols.contains(&Protocol::RpcV2Cbor)
        })
        .ok_or_else(|| unknown(&format!("{service}.{operation}")))?;
    match media_type(headers) {
        None => {}
        declared if Protocol::RpcV2Cbor.is_of(declared) => {}
        Some(_) => return Err(wrong_content_type(Protocol::RpcV2Cbor)),
    }
    Ok(Route {
        api,
        operation: operation.to_owned(),
        protocol: Protocol::RpcV2Cbor,
    })
}

fn route_by_target(headers: &HeaderMap, apis: &'static [Api]) -> Result<Route, ApiError> {
    let target = only(headers, &TARGET).ok_or_else(|| {
        ApiError::unknown_operation("one `X-Amz-Target: <Service>.<Operation>` header is needed")
    })?;
    let (prefix, operation) = target.rsplit_once('.').ok_or_else(|| unknown(target))?;
    let (api, protocol) = apis
        .iter()
        .filter(|api| api.target_prefix == Some(prefix))
        .find_map(|api| {
            let protocol = api.protocols.iter().find(|protocol| protocol.is_json());
            protocol.map(|protocol| (api, *protocol))
        })
        .ok_or_else(|| unknown(target))?;
    // The two versions differ in nothing that a request shows, so either may be declared; and a
    // client that declares nothing is taken at its signature's word.
    let versions = [Protocol::AwsJson10, Protocol::AwsJson11];
    match media_type(headers) {
        None => {}
        declared if versions.iter().any(|version| version.is_of(declared)) => {}
        Some(_) => return Err(wrong_content_type(protocol)),
    }
    Ok(Route {
        api,
        operation: operation.to_owned(),
        protocol,
    })
}

fn route_by_action(
    headers: &HeaderMap,
    body: &[u8],
    apis: &'static [Api],
) -> Result<Route, ApiError> {
    let parameter = |name: &str| {
        query::parameter(body, name)
            .map_err(ApiError::malformed_http_request)?
            .ok_or_else(|| ApiError::unknown_operation(format!("parameter `{name}` is needed")))
    };
    let (operation, version) = (parameter("Action")?, parameter("Version")?);
    let mut candidates = apis.iter().filter(|api| {
        let query = api.query.filter(|query| query.version == version);
        query.is_some() && api.protocols.contains(&Protocol::AwsQuery)
    });
    let mut first = candidates.next();
    // Where two services have the same version, the signature tells them apart. That it is for the
    // service is checked later, with everything else about it.
    if let Some(service) = claimed_service(headers) {
        let others = first.into_iter().chain(candidates);
        first = { others }.find(|api| api.signing_name == service).or(first);
    }
    let api = first.ok_or_else(|| {
        let (operation, version) = (shown(&operation), shown(&version));
        ApiError::unknown_operation(format!(
            "no operation `{operation}` of version `{version}` here"
        ))
    })?;
    Ok(Route {
        api,
        operation,
        protocol: Protocol::AwsQuery,
    })
}

/// The value of a header that is there once and is plain text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none());
    only.and_then(|value| value.to_str().ok())
}

/// The declared type of the body without its parameters; `None` when nothing is declared.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(value.split(';').next().unwrap_or_default().trim())
}

fn unknown(target: &str) -> ApiError {
    ApiError::unknown_operation(format!("no operation `{}` here", shown(target)))
}

fn wrong_content_type(protocol: Protocol) -> ApiError {
    ApiError::malformed_http_request(format!(
        "the content type must be `{}`",
        protocol.content_type()
    ))
}

/// As much of a name as an error repeats.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 128;
    name.chars().take(CHARS_MAX).collect()
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
        HeaderValue::from_static(protocol.answer_content_type()),
    );
    if protocol == Protocol::RpcV2Cbor {
        headers.insert(SMITHY_PROTOCOL, HeaderValue::from_static(RPC_V2_CBOR));
    }
    if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        apprunner::shapes::{Operation, TagResourceResponse},
        epoch_seconds::EpochSeconds,
    };

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn route(parts: &Parts, apis: &'static [Api]) -> Result<Route, ApiError> {
        super::route(parts, b"", apis)
    }

    fn form(body: &str) -> Result<Route, ApiError> {
        super::route(
            &parts("POST", "/", &[("content-type", FORM)]),
            body.as_bytes(),
            APIS,
        )
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
            APIS,
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
            APIS,
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
            let error = route(&unaddressed, APIS).unwrap_err();
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
                APIS,
            )
        };
        assert!(of("Application/X-Amz-Json-1.0; charset=utf-8").is_ok());
        assert!(of("application/x-amz-json-1.1").is_ok());
        for other in [FORM, "text/plain", "", "application/cbor"] {
            assert_eq!(
                of(other).unwrap_err().code(),
                "MalformedHttpRequestException",
                "{other}"
            );
        }
    }

    #[test]
    fn path_names_service_and_operation_of_rpc_v2() {
        let cbor = [
            ("smithy-protocol", "rpc-v2-cbor"),
            ("content-type", "application/cbor"),
        ];
        let at = |path| route(&parts("POST", path, &cbor), APIS);
        let found = at("/service/AppRunner/operation/ListServices").unwrap();
        assert_eq!(
            (found.api.service, found.operation.as_str(), found.protocol),
            (Service::AppRunner, "ListServices", Protocol::RpcV2Cbor)
        );
        for path in [
            "/",
            "/service/AppRunner",
            "/service/AppRunner/operation",
            "/x/service/AppRunner/operation/ListServices",
            "/service/apprunner/operation/ListServices",
            "/service/Other/operation/ListServices",
        ] {
            assert_eq!(
                at(path).unwrap_err().code(),
                "UnknownOperationException",
                "{path}"
            );
        }
        let path = "/service/AppRunner/operation/ListServices";
        let with = |headers: &[(&str, &str)]| route(&parts("POST", path, headers), APIS);
        assert!(with(&[cbor[0]]).is_ok());
        let other = [("smithy-protocol", "rpc-v2-json")];
        assert_eq!(
            with(&other).unwrap_err().code(),
            "UnknownOperationException"
        );
        let both = [cbor[0], ("x-amz-target", "AppRunner.ListServices")];
        assert_eq!(with(&both).unwrap_err().code(), "UnknownOperationException");
        let json = [cbor[0], JSON];
        assert_eq!(
            with(&json).unwrap_err().code(),
            "MalformedHttpRequestException"
        );
        assert_eq!(with(&[]).unwrap_err().code(), "UnknownOperationException");
    }

    #[test]
    fn form_names_action_and_version() {
        let found = form("Version=2011-06-15&Action=GetCallerIdentity").unwrap();
        assert_eq!(
            (found.api.service, found.operation.as_str(), found.protocol),
            (Service::Sts, "GetCallerIdentity", Protocol::AwsQuery)
        );
        for (body, code) in [
            ("", "UnknownOperationException"),
            ("Action=GetCallerIdentity", "UnknownOperationException"),
            (
                "Action=GetCallerIdentity&Version=2011-06-16",
                "UnknownOperationException",
            ),
            (
                "Action=A&Action=A&Version=2011-06-15",
                "MalformedHttpRequestException",
            ),
            (
                "Action=%&Version=2011-06-15",
                "MalformedHttpRequestException",
            ),
        ] {
            assert_eq!(form(body).unwrap_err().code(), code, "{body}");
        }
    }

    #[test]
    fn rows_are_whole_and_told_apart() {
        for (index, api) in APIS.iter().enumerate() {
            let rpc = |protocol: &Protocol| *protocol != Protocol::AwsQuery;
            assert!(!api.protocols.is_empty());
            assert_eq!(api.protocols.iter().any(rpc), api.target_prefix.is_some());
            assert_eq!(
                api.protocols.contains(&Protocol::AwsQuery),
                api.query.is_some()
            );
            for other in &APIS[..index] {
                assert_ne!((api.service, api.name), (other.service, other.name));
                assert!(api.target_prefix.is_none() || api.target_prefix != other.target_prefix);
                let version = |api: &Api| api.query.map(|query| (api.signing_name, query.version));
                assert!(api.query.is_none() || version(api) != version(other));
            }
        }
    }

    #[test]
    fn failure_before_routing_is_in_the_protocol_it_looks_like() {
        let looks = |headers: &[(&str, &str)]| looks_like(&parts("POST", "/", headers).headers);
        let target = ("x-amz-target", "X.Y");
        assert_eq!(looks(&[]), Protocol::AwsJson10);
        assert_eq!(looks(&[target]), Protocol::AwsJson10);
        let json11 = ("content-type", "application/x-amz-json-1.1; charset=utf-8");
        assert_eq!(looks(&[target, json11]), Protocol::AwsJson11);
        assert_eq!(looks(&[("content-type", FORM)]), Protocol::AwsQuery);
        assert_eq!(
            looks(&[("smithy-protocol", "?"), target]),
            Protocol::RpcV2Cbor
        );
    }

    fn of(protocol: Protocol) -> Route {
        Route {
            api: if protocol == Protocol::AwsQuery {
                &STS
            } else {
                &APP_RUNNER
            },
            operation: "Do".to_owned(),
            protocol,
        }
    }

    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Everything {
        text: &'static str,
        none: Option<u8>,
        at: EpochSeconds,
        number: i8,
        half: f32,
        yes: bool,
        list: Vec<&'static str>,
        map: BTreeMap<&'static str, EpochSeconds>,
        inner: TagResourceResponse,
    }

    const EVERYTHING: fn() -> Everything = || Everything {
        text: "<a&b>\r\0\u{fc}",
        none: None,
        at: EpochSeconds(1_440_938_160),
        number: -7,
        half: 0.5,
        yes: true,
        list: vec!["1", ""],
        map: BTreeMap::from([("k", EpochSeconds(0))]),
        inner: TagResourceResponse::default(),
    };

    #[test]
    fn xml_has_elements_members_and_entries() {
        let id = RequestId::random();
        let answer = success(&of(Protocol::AwsQuery), id, &EVERYTHING());
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/xml");
        assert_eq!(
            std::str::from_utf8(answer.body()).unwrap(),
            format!(
                "<DoResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><DoResult>\
                 <Text>&lt;a&amp;b&gt;&#13;\u{fffd}\u{fc}</Text><At>2015-08-30T12:36:00Z</At>\
                 <Number>-7</Number><Half>0.5</Half><Yes>true</Yes>\
                 <List><member>1</member><member></member></List>\
                 <Map><entry><key>k</key><value>1970-01-01T00:00:00Z</value></entry></Map>\
                 <Inner></Inner></DoResult>\
                 <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></DoResponse>"
            )
        );
        let answer = failure(Protocol::AwsQuery, id, &ApiError::invalid_signature("a<b"));
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()[REQUEST_ID], id.to_string().as_str());
        assert_eq!(
            std::str::from_utf8(answer.body()).unwrap(),
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code>\
                 <Message>a&lt;b</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            )
        );
        let answer = failure(Protocol::AwsQuery, id, &ApiError::service_unavailable("x"));
        assert!(answer.body().windows(8).any(|text| text == b"Receiver"));
    }

    #[test]
    fn cbor_has_tagged_times_and_both_spellings_of_message() {
        let id = RequestId::random();
        let answer = success(&of(Protocol::RpcV2Cbor), id, &EVERYTHING());
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/cbor");
        assert_eq!(answer.headers()[SMITHY_PROTOCOL], "rpc-v2-cbor");
        let mut body = minicbor::Decoder::new(answer.body());
        assert_eq!(body.map().unwrap(), Some(8));
        assert_eq!(
            (body.str().unwrap(), body.str().unwrap()),
            ("Text", EVERYTHING().text)
        );
        assert_eq!(body.str().unwrap(), "At");
        assert_eq!(body.tag().unwrap(), minicbor::data::Tag::new(1));
        assert_eq!(body.u64().unwrap(), 1_440_938_160);

        let answer = failure(Protocol::RpcV2Cbor, id, &ApiError::invalid_state("not now"));
        let mut body = minicbor::Decoder::new(answer.body());
        let members: BTreeMap<&str, &str> =
            body.map_iter().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(
            members,
            BTreeMap::from([
                ("__type", "InvalidStateException"),
                ("Message", "not now"),
                ("message", "not now")
            ])
        );
    }

    #[test]
    fn errors_of_cloudwatch_say_what_query_calls_them() {
        let id = RequestId::random();
        let bad = ApiError::invalid_parameter_value("why");
        let ours = ApiError::internal_service_fault("why");
        for protocol in [Protocol::AwsJson10, Protocol::RpcV2Cbor] {
            let header = |api, error| {
                let answer = failure_of(api, protocol, id, error);
                let value = answer.headers().get(QUERY_ERROR)?;
                Some(value.to_str().unwrap().to_owned())
            };
            assert_eq!(
                header(&CLOUD_WATCH, &bad).as_deref(),
                Some("InvalidParameterValue;Sender")
            );
            assert_eq!(
                header(&CLOUD_WATCH, &ours).as_deref(),
                Some("InternalServiceError;Receiver")
            );
            assert_eq!(header(&LOGS, &bad), None);
        }
        let answer = failure_of(&CLOUD_WATCH, Protocol::AwsQuery, id, &bad);
        assert!(!answer.headers().contains_key(QUERY_ERROR));
        let text = std::str::from_utf8(answer.body()).unwrap();
        assert!(
            text.contains("<Code>InvalidParameterValue</Code>"),
            "{text}"
        );
    }

    #[test]
    fn cloudwatch_is_found_in_each_of_its_protocols() {
        let prefix = "GraniteServiceVersion20100801";
        let target = format!("{prefix}.ListMetrics");
        let json = parts("POST", "/", &[("x-amz-target", &target)]);
        let path = format!("/service/{prefix}/operation/ListMetrics");
        let cbor = parts("POST", &path, &[("smithy-protocol", "rpc-v2-cbor")]);
        let query = parts("POST", "/", &[("content-type", FORM)]);
        let body: &[u8] = b"Action=ListMetrics&Version=2010-08-01";
        for (parts, body, protocol) in [
            (json, &b"{}"[..], Protocol::AwsJson10),
            (cbor, &b""[..], Protocol::RpcV2Cbor),
            (query, body, Protocol::AwsQuery),
        ] {
            let found = super::route(&parts, body, APIS).unwrap();
            assert_eq!(
                (found.api.service, found.operation.as_str(), found.protocol),
                (Service::CloudWatch, "ListMetrics", protocol)
            );
        }
    }

    #[test]
    fn output_of_nothing_is_no_member_in_every_protocol() {
        let body = |protocol| {
            let answer = success(
                &of(protocol),
                RequestId::random(),
                &crate::nothing::Nothing {},
            );
            answer.into_body()
        };
        assert_eq!(body(Protocol::AwsJson11), "{}");
        assert_eq!(body(Protocol::RpcV2Cbor), &b"\xa0"[..]);
        let text = body(Protocol::AwsQuery);
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains("<DoResult></DoResult>"), "{text}");
    }

    #[test]
    fn output_without_a_form_becomes_a_failure() {
        let odd = BTreeMap::from([(vec![1_u8], 1)]);
        for protocol in [Protocol::AwsJson11, Protocol::AwsQuery, Protocol::RpcV2Cbor] {
            let answer = success(&of(protocol), RequestId::random(), &odd);
            assert_eq!(answer.status(), 500);
        }
    }

    #[test]
    fn answers_have_status_type_and_request_id() {
        let id = RequestId::random();
        let answer = success(
            &of(Protocol::AwsJson10),
            id,
            &TagResourceResponse::default(),
        );
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

    proptest! {
        #[test]
        fn routing_never_panics(
            path in "/[a-zA-Z/]{0,12}|/service/[A-Za-z./]{0,12}/operation/[A-Za-z./]{0,12}",
            name in "smithy-protocol|x-amz-target|content-type|authorization",
            value in "[ -~]{0,40}|rpc-v2-cbor|AppRunner\\.[A-Z.]{0,8}|application/x-www-form-urlencoded",
            body in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let parts = parts("POST", &path, &[(&name, &value)]);
            looks_like(&parts.headers);
            let _ = super::route(&parts, &body, APIS);
        }
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

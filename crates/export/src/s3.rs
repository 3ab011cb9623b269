//! Objects in storage that speaks like S3.

use std::{collections::BTreeMap, error::Error, fmt, io, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Full};
use object_store::{
    ClientOptions, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{
        HttpClient as StoreClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
        HttpResponse, HttpResponseBody, HttpService,
    },
    path::Path,
};

use crate::{
    compress,
    drain::{SendError, Sent, cut},
    http_client::{self, HttpClient, NoAnswer},
    json,
    limits::Limits,
    line::Line,
    secrets::Secrets,
    target::{ArchiveFormat, ConfigError, Endpoint, S3Target},
    timestamp,
};

/// Objects that are written at the same time.
const OBJECTS_AT_ONCE: usize = 4;

/// Bytes of a prefix.
const PREFIX_BYTES_MAX: usize = 512;

/// Bytes of a group in a name, after which it is cut.
const GROUP_BYTES_MAX: usize = 300;

/// Writes objects. Whatever storage answers other than that it has the object is to be tried again: it is
/// never the batch that is wrong.
pub(crate) struct S3 {
    store: AmazonS3,
    endpoint: Endpoint,
    prefix: Path,
    format: ArchiveFormat,
}

impl S3 {
    pub(crate) fn new(
        target: &S3Target,
        secrets: &Secrets,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let required = |field: &str, value: &Option<String>| match value.as_deref() {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(ConfigError::invalid(field, "is missing from the secrets")),
        };
        let key = required("access_key_id", &secrets.access_key_id)?;
        let secret = required("secret_access_key", &secrets.secret_access_key)?;
        check_name("bucket", &target.bucket, 63)?;
        check_name("region", &target.region, 32)?;
        let prefix = Path::parse(target.prefix.trim_end_matches('/'))
            .map_err(|error| ConfigError::invalid("prefix", format!("is no path: {error}")))?;
        if target.prefix.len() > PREFIX_BYTES_MAX {
            let problem = format!("is longer than {PREFIX_BYTES_MAX} bytes");
            return Err(ConfigError::invalid("prefix", problem));
        }
        let path_style = target.path_style.unwrap_or(target.endpoint.is_some());
        let base = match &target.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{}.amazonaws.com", target.region),
        };
        let mut base = http_client::url("endpoint", &base)?;
        if base.path() != "/" || base.query().is_some() {
            let problem = "has a path; it must be a scheme, a host and a port";
            return Err(ConfigError::invalid("endpoint", problem));
        }
        if !path_style {
            let scheme = base.scheme_str().unwrap_or_default();
            let authority = base.authority().map_or("", |authority| authority.as_str());
            let host = format!("{scheme}://{}.{authority}", target.bucket);
            base = http_client::url("endpoint", &host)?;
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&target.bucket)
            .with_region(&target.region)
            .with_endpoint(base.to_string().trim_end_matches('/'))
            .with_allow_http(true)
            .with_virtual_hosted_style_request(!path_style)
            .with_access_key_id(key)
            .with_secret_access_key(secret)
            .with_retry(RetryConfig {
                max_retries: 0,
                retry_timeout: Duration::ZERO,
                ..RetryConfig::default()
            })
            .with_http_connector(Connector(HttpClient::new(
                target.ca_file.as_deref(),
                limits,
            )?));
        if let Some(token) = &secrets.session_token {
            builder = builder.with_token(token);
        }
        let store = builder
            .build()
            .map_err(|error| ConfigError::invalid("endpoint", error.to_string()))?;
        Ok(Self {
            store,
            endpoint: http_client::endpoint(&base),
            prefix,
            format: target.format,
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    pub(crate) async fn send(&self, lines: &[Line]) -> Result<Sent, SendError> {
        let mut objects: BTreeMap<(&str, String), Vec<&Line>> = BTreeMap::new();
        for line in lines {
            let hour = timestamp::hour_path(line.observed_ms);
            let group = line.source.group.as_str();
            objects.entry((group, hour)).or_default().push(line);
        }
        let writes: Vec<_> = (objects.into_iter())
            .map(|((group, hour), lines)| self.write(group, hour, lines))
            .collect();
        let mut written = stream::iter(writes).buffer_unordered(OBJECTS_AT_ONCE);
        let mut bytes = 0;
        while let Some(object) = written.next().await {
            bytes += object?;
        }
        Ok(Sent {
            bytes,
            ..Sent::default()
        })
    }

    async fn write(&self, group: &str, hour: String, lines: Vec<&Line>) -> Result<u64, SendError> {
        let name = self.name(group, &hour, &lines);
        let body = compress::archive(self.format, json::ndjson(lines)).await?;
        let bytes = body.len() as u64;
        match self.store.put(&name, body.into()).await {
            Ok(_) => Ok(bytes),
            Err(error) => Err(refused(&name, &error)),
        }
    }

    /// The same for the same lines, and for no others: sequences are counted over the whole store.
    fn name(&self, group: &str, hour: &str, lines: &[&Line]) -> Path {
        let sequences = lines.iter().map(|line| line.sequence);
        let first = sequences.clone().min().unwrap_or_default();
        let last = sequences.max().unwrap_or_default();
        let plain = |char: char| {
            if char.is_ascii_alphanumeric() || ".-_".contains(char) {
                char
            } else {
                '_'
            }
        };
        let group: String = (group.trim_start_matches('/').chars())
            .take(GROUP_BYTES_MAX)
            .map(plain)
            .collect();
        let extension = match self.format {
            ArchiveFormat::Gz => "gz",
            ArchiveFormat::Zst => "zst",
        };
        let name = format!("{hour}/{group}-{first:020}-{last:020}.json.{extension}");
        Path::from_iter(self.prefix.parts().chain(Path::from(name).parts()))
    }
}

fn check_name(field: &str, name: &str, bytes_max: usize) -> Result<(), ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let edges = ends(name.bytes().next()) && ends(name.bytes().last());
    if edges && name.len() <= bytes_max && name.bytes().all(allowed) {
        return Ok(());
    }
    let problem = format!("must be 1 to {bytes_max} letters, digits, `.`, `-` and `_`");
    Err(ConfigError::invalid(field, problem))
}

/// What storage answered, in the place of object_store's errors, which say where it was sent to before they
/// say why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(SendError);

fn refused(name: &Path, error: &object_store::Error) -> SendError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut refused = None;
    while let Some(error) = cause {
        refused = refused.or(error.downcast_ref::<Refused>());
        cause = error.source();
    }
    let (after, reason) = match refused {
        Some(Refused(SendError::Retry { after, message })) => (*after, message.clone()),
        Some(Refused(SendError::Permanent { message })) => (None, message.clone()),
        None => (None, error.to_string()),
    };
    SendError::Retry {
        after,
        message: cut(format!("cannot write `{name}`: {reason}")),
    }
}

/// Lets object_store send by our client, so that bounds and certificates are the same everywhere.
#[derive(Clone)]
struct Connector(HttpClient);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<StoreClient> {
        Ok(StoreClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let body: Bytes = match body.as_bytes() {
            Some(bytes) => bytes.clone(),
            None => body
                .collect()
                .await
                .map_err(|error| {
                    HttpError::new(HttpErrorKind::Request, io::Error::other(error.to_string()))
                })?
                .to_bytes(),
        };
        let request = Request::from_parts(head, Full::new(body));
        let answer = self.0.send(request).await.map_err(|error| {
            let kind = match error {
                NoAnswer::Late(_) => HttpErrorKind::Timeout,
                NoAnswer::Unreachable(_) => HttpErrorKind::Connect,
                NoAnswer::Broken(_) => HttpErrorKind::Interrupted,
            };
            HttpError::new(kind, Refused(error.into()))
        })?;
        if !answer.status.is_success() {
            let refused = Refused(answer.retry());
            return Err(HttpError::new(HttpErrorKind::Unknown, refused));
        }
        let mut response = HttpResponse::new(HttpResponseBody::from(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

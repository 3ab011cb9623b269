//! Batches as JSON to anything that takes HTTP.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body_util::Full;

use crate::{
    compress,
    drain::{SendError, Sent},
    http_client::{self, HttpClient},
    json,
    limits::Limits,
    line::Line,
    secrets::Secrets,
    target::{Compression, ConfigError, Endpoint, HttpTarget, JsonFormat},
};

/// Posts batches. 2xx is taken; 408, 429 and 5xx are to be sent again; any other answer, a redirect as well,
/// is final.
pub(crate) struct JsonHttp {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    format: JsonFormat,
    compression: Compression,
}

impl JsonHttp {
    pub(crate) fn new(
        target: &HttpTarget,
        secrets: &Secrets,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let mut headers = http_client::headers(&target.headers, secrets)?;
        let content_type = match target.format {
            JsonFormat::Array => HeaderValue::from_static("application/json"),
            JsonFormat::Ndjson => HeaderValue::from_static("application/x-ndjson"),
        };
        headers.insert(CONTENT_TYPE, content_type);
        if target.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self {
            uri: http_client::url("url", &target.url)?,
            client: HttpClient::new(target.ca_file.as_deref(), limits)?,
            headers,
            format: target.format,
            compression: target.compression,
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        http_client::endpoint(&self.uri)
    }

    pub(crate) async fn send(&self, lines: &[Line]) -> Result<Sent, SendError> {
        let body = match self.format {
            JsonFormat::Array => json::array(lines),
            JsonFormat::Ndjson => json::ndjson(lines),
        };
        let body = match self.compression {
            Compression::None => Bytes::from(body),
            Compression::Gzip => compress::gzip(body).await?,
        };
        let bytes = body.len() as u64;
        let mut request = Request::post(self.uri.clone())
            .body(Full::new(body))
            .expect("the URL was checked");
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.send(request).await?;
        match answer.status {
            status if status.is_success() => Ok(Sent {
                bytes,
                ..Sent::default()
            }),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(answer.retry()),
            status if status.is_server_error() => Err(answer.retry()),
            _ => Err(SendError::permanent(answer.describe())),
        }
    }
}

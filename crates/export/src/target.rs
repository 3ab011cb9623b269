//! Where lines are sent to: the settings of a drain, without its secrets.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Where a drain sends lines. In JSON an object with `type` and the fields of its settings; a field that is
/// not known is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Target {
    /// OpenTelemetry.
    Otlp(OtlpTarget),
    /// Syslog.
    Syslog(SyslogTarget),
    /// Fluentd and Fluent Bit.
    Fluent(FluentTarget),
    /// Anything that takes JSON.
    Http(HttpTarget),
    /// Object storage.
    S3(S3Target),
}

/// How much a batch for a target should have at most, and how long to wait for it to be full. A batch that is
/// larger is sent as well; it takes memory of a small multiple of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHint {
    /// Lines.
    pub lines_max: usize,
    /// Bytes of their text.
    pub bytes_max: usize,
    /// From the first line.
    pub wait_max: Duration,
}

impl Target {
    /// Its name, as in `type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Otlp(_) => "otlp",
            Self::Syslog(_) => "syslog",
            Self::Fluent(_) => "fluent",
            Self::Http(_) => "http",
            Self::S3(_) => "s3",
        }
    }

    /// The batches it is best sent. Objects in storage are large and few; elsewhere lines should be seen soon.
    ///
    /// The names of objects follow from what is in the batch. Whoever wants each line in one object only must
    /// cut a batch that is sent again as it was cut before, also after a restart.
    #[must_use]
    pub const fn batch_hint(&self) -> BatchHint {
        match self {
            Self::Otlp(_) | Self::Syslog(_) | Self::Fluent(_) | Self::Http(_) => BatchHint {
                lines_max: 1000,
                bytes_max: 1024 * 1024,
                wait_max: Duration::from_secs(1),
            },
            Self::S3(_) => BatchHint {
                lines_max: 100_000,
                bytes_max: 16 * 1024 * 1024,
                wait_max: Duration::from_secs(60),
            },
        }
    }
}

/// OTLP/HTTP with protobuf. Secrets: `headers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpTarget {
    /// The base, such as `https://collector.example.com:4318`, to which `/v1/logs` and so on are added.
    pub url: String,
    /// Headers that are no secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether bodies are compressed. Default `gzip`.
    #[serde(default = "gzip")]
    pub compression: Compression,
    /// A PEM file with the certificate authorities to trust, instead of the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// JSON over HTTP. Secrets: `headers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTarget {
    /// Where batches are POSTed to.
    pub url: String,
    /// Headers that are no secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Default `array`.
    #[serde(default)]
    pub format: JsonFormat,
    /// Whether bodies are compressed. Default `none`.
    #[serde(default)]
    pub compression: Compression,
    /// A PEM file with the certificate authorities to trust, instead of the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// RFC 5424 by octet counting (RFC 6587), over TCP or TLS (RFC 5425). Secrets: none.
///
/// Syslog has no acknowledgement. A batch is taken when the receiver's kernel has acknowledged every byte of it
/// and the connection still stands. A receiver that is killed loses what its kernel or itself had not yet
/// handled, so what was sent last (at most [`SYSLOG_REPLAY_BYTES_MAX`], and unless the connection was reset
/// at most [`SYSLOG_REPLAY_AGE_MAX`] old) is sent again on the next connection, before anything new. Hence: while
/// both sides stand each line arrives once; across a receiver's end a line may arrive twice, and is lost only if
/// the receiver took it and held it longer than that without keeping it, or if we end in the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogTarget {
    /// Name or address.
    pub host: String,
    /// Usually 601 for TCP, 6514 for TLS.
    pub port: u16,
    /// Default `tls`.
    #[serde(default = "tls")]
    pub transport: Transport,
    /// What HOSTNAME says. Default: the instance.
    #[serde(default)]
    pub hostname: Option<String>,
    /// 0 to 23. Default 16, which is `local0`.
    #[serde(default = "facility")]
    pub facility: u8,
    /// The id of the structured data; `name@number` with one's own enterprise number. Default
    /// `ekiden@32473`, of RFC 5612.
    #[serde(default = "structured_data_id")]
    pub structured_data_id: String,
    /// The longest message, in bytes, head included; a line that is longer is sent in parts, which are numbered.
    /// 4096 to 1048576, default 8192, which is rsyslog's.
    #[serde(default = "message_bytes_max")]
    pub message_bytes_max: usize,
    /// A PEM file with the certificate authorities to trust, instead of the host's. With `tls` only.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Bytes of messages that syslog may send again on a new connection.
pub const SYSLOG_REPLAY_BYTES_MAX: usize = 1024 * 1024;

/// How old they may be when the receiver closed the connection.
pub const SYSLOG_REPLAY_AGE_MAX: Duration = Duration::from_secs(10);

/// Fluent Forward protocol 1: chunks of records that the receiver acknowledges. Secrets: `shared_key`,
/// `username` and `password`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FluentTarget {
    /// Name or address.
    pub host: String,
    /// Default 24224.
    #[serde(default = "fluent_port")]
    pub port: u16,
    /// Default `tcp`.
    #[serde(default)]
    pub transport: Transport,
    /// The tag of the records. Default `ekiden`.
    #[serde(default = "fluent_tag")]
    pub tag: String,
    /// Whether chunks are compressed. Default `none`.
    #[serde(default)]
    pub compression: Compression,
    /// What we call ourselves where the receiver has a shared key. Default `ekiden`.
    #[serde(default = "fluent_tag")]
    pub hostname: String,
    /// A PEM file with the certificate authorities to trust, instead of the host's. With `tls` only.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// S3 and what speaks like it. Secrets: `access_key_id` and `secret_access_key`, and `session_token` if there
/// is one.
///
/// Objects are `prefix/YYYY/MM/DD/HH/<group>-<first sequence>-<last sequence>.json.gz` (or `.zst`), of the lines
/// of one group and one hour of the batch (UTC, by when they were stored), one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Target {
    /// The bucket, which must exist.
    pub bucket: String,
    /// Default `us-east-1`.
    #[serde(default = "region")]
    pub region: String,
    /// Such as `https://minio.example.com:9000`. Default: AWS's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Whether the bucket is in the path rather than in the host name. Default: if there is an `endpoint`.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// What names begin with. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// Default `gz`.
    #[serde(default)]
    pub format: ArchiveFormat,
    /// A PEM file with the certificate authorities to trust, instead of the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Whether bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// By gzip.
    Gzip,
}

/// How lines stand in a JSON body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonFormat {
    /// An array of objects, `application/json`.
    #[default]
    Array,
    /// An object a line, `application/x-ndjson`.
    Ndjson,
}

/// What connections are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Anybody on the way can read it.
    #[default]
    Tcp,
    /// TLS 1.2 or 1.3; the receiver's certificate must be for `host`.
    Tls,
}

/// How objects in storage are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveFormat {
    /// gzip.
    #[default]
    Gz,
    /// Zstandard.
    Zst,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a target cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting or a secret is not what it must be.
    #[error("`{field}` {problem}")]
    Invalid {
        /// Its name, such as `url` or `headers.x-team`.
        field: String,
        /// What is wrong and what would be right. Has no secret in it.
        problem: String,
    },
    /// The file of certificate authorities cannot be used.
    #[error("`ca_file` {path}: {problem}")]
    CaFile {
        /// Where it was looked for.
        path: String,
        /// Why.
        problem: String,
    },
    /// The host has no address.
    #[error("no address is known for `{host}`: {problem}")]
    Unresolved {
        /// The host.
        host: String,
        /// Why.
        problem: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

const fn gzip() -> Compression {
    Compression::Gzip
}

const fn tls() -> Transport {
    Transport::Tls
}

const fn facility() -> u8 {
    16
}

fn structured_data_id() -> String {
    "ekiden@32473".to_owned()
}

const fn message_bytes_max() -> usize {
    8192
}

const fn fluent_port() -> u16 {
    24224
}

fn fluent_tag() -> String {
    "ekiden".to_owned()
}

fn region() -> String {
    "us-east-1".to_owned()
}

//! A log line on its way out.

use std::sync::Arc;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts up over the whole log store; what the caller goes on from.
    pub sequence: u64,
    /// When it was written, in milliseconds since 1970.
    pub time_ms: u64,
    /// When it was stored, in milliseconds since 1970.
    pub observed_ms: u64,
    /// Which of the two outputs it came from, if it is known.
    pub output: Option<Output>,
    /// The process of the instance that wrote it, if it is known.
    pub process: Option<Arc<str>>,
    /// What it shares with other lines. Lines of one stream had better share one `Arc`: it is compared first
    /// by address.
    pub source: Arc<Source>,
    /// Without the line break at its end; may have others within.
    pub text: String,
}

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The log group.
    pub group: String,
    /// The log stream.
    pub stream: String,
    /// What kind of log it is.
    pub kind: Kind,
    /// The service it is about, if it is about one.
    pub service: Option<Service>,
    /// The instance that wrote it, if one did.
    pub instance: Option<String>,
}

/// A service, as receivers know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// What the user called it.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
}

/// The kinds of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What the service's processes write.
    Application,
    /// What happened to the service: deployments and events.
    Service,
    /// Requests.
    Access,
    /// Builds.
    Build,
}

impl Kind {
    /// Its name, such as `application`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Service => "service",
            Self::Access => "access",
            Self::Build => "build",
        }
    }
}

/// The outputs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// Its name, such as `stdout`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

//! What agent and shim say to each other: frames of [`ekiden_engine::frame`] on a Unix socket.
//!
//! Both begin with [`Hello`]. The agent asks, the shim answers each request once, in order, and sends
//! [`FromShim::Exited`] unasked as its last word. A shim lives as long as its instance, so that it may
//! be older than the agent: it answers what it does not know with [`FromShim::NotOffered`].
//!
//! The first connection is the socket pair the shim is started with: its first frame after the
//! hello is the [`StartOrder`], and the network namespace's descriptor comes with it.

use std::path::PathBuf;

use ekiden_model::{instance::ExitCause, secret_env::SecretEnv, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Group, ShimGroup};

/// The version spoken here.
pub(crate) const SHIM_PROTOCOL: u32 = 1;

/// The longest order: a spec's arguments and environment fit, see [`crate::host`].
pub(crate) const ORDER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The first message of each side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    /// The release of the program that speaks, for the log.
    pub(crate) release: String,
}

impl Hello {
    pub(crate) fn ours() -> Self {
        Self {
            protocol: SHIM_PROTOCOL,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Everything a shim needs to start its container. No `Debug`: what is configured may be private.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StartOrder {
    pub(crate) host_name: String,
    pub(crate) args: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    /// More variables, none of which is in `env`. They come by the socket only, and the shim forgets
    /// them when the container's program runs.
    #[serde(default)]
    pub(crate) secret_env: SecretEnv,
    pub(crate) cwd: String,
    pub(crate) user: String,
    /// Unpacked layers, the topmost first.
    pub(crate) layers: Vec<PathBuf>,
    /// The instance's own directory, with `upper`, `work` and `root` in it.
    pub(crate) directory: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) seccomp: PathBuf,
    pub(crate) group: Group,
    pub(crate) shims: ShimGroup,
    /// The host's id of root inside; the host's own root when absent.
    pub(crate) uid_base: Option<u32>,
    pub(crate) resolv_conf: String,
    pub(crate) hosts: String,
    /// Set for one that builds.
    #[serde(default)]
    pub(crate) build: Option<BuildOrder>,
}

/// What an instance that builds finds below `/run/ekiden`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildOrder {
    /// The directory that is mounted at [`ekiden_model::instance::BUILD_CACHE`].
    pub(crate) cache: PathBuf,
    /// The certificates that its programs are told to trust, in PEM.
    pub(crate) authorities: Option<String>,
}

/// What the agent asks.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub(crate) enum ToShim {
    /// Start the container: only once, as the first request.
    Start(Box<StartOrder>),
    /// How is it?
    Status,
    /// Ask it to end with `signal`, and kill it after `grace_ms`.
    Stop { grace_ms: u64, signal: i32 },
    /// Kill it now; `cause` is what the exit record shall say.
    Kill { cause: Option<ExitCause> },
    /// Run another program in the container. Its place in the protocol; not offered by version 1.
    Exec {},
}

/// What the shim answers or says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub(crate) enum FromShim {
    /// The container's process runs.
    Running { pid: i32, started_at: Timestamp },
    /// Done as asked.
    Done,
    /// This shim is older than the request.
    NotOffered { message: String },
    /// The container has ended, and the record of it is on disk. The last word.
    Exited(ExitRecord),
}

/// How a container ended: the content of `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) cause: ExitCause,
    pub(crate) at: Timestamp,
}

impl ExitRecord {
    /// Its name in the instance's directory.
    pub(crate) const FILE: &'static str = "exit.json";
}

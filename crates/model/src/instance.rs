//! What an instance is asked to be, and what is seen of it.
//!
//! These are the words that pass between the control plane and whatever runs instances. They say
//! nothing of processes or of one host: an engine may be this machine, a simulation or a cluster.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstanceId, ServiceId},
    image::Digest,
    name::ServiceName,
    secret_env::SecretEnv,
    time::Timestamp,
};

/// The n-th immutable configuration of a service, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u32);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything an engine needs to run one instance. Immutable: another instance gets another spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Identity; starting the same id twice is starting it once.
    pub id: InstanceId,
    /// The service it is a copy of.
    pub service: ServiceId,
    /// That service's name, for logs and for the instance's own environment.
    pub service_name: ServiceName,
    /// The revision it runs.
    pub revision: RevisionNumber,
    /// The image's manifest digest; the image has been prepared by the engine before.
    pub image: Digest,
    /// The process and its arguments, complete: `args[0]` is looked up in the instance's `PATH`.
    pub args: Vec<String>,
    /// The whole environment but the secrets, `PORT` and Ekiden's own variables included.
    pub env: BTreeMap<String, String>,
    /// More variables, over those of the same names, whose values are in no file and are shown to
    /// nobody but the instance's own process. Absent in specs that were written without.
    #[serde(default, skip_serializing_if = "SecretEnv::is_empty")]
    pub secret_env: SecretEnv,
    /// Absolute working directory; created when the image lacks it.
    pub cwd: String,
    /// `user[:group]` by name or number as in an image's configuration; empty is `0:0`.
    pub user: String,
    /// The signal that asks it to stop, by number; 15 unless the image says otherwise.
    pub stop_signal: i32,
    /// The port the application listens on.
    pub port: u16,
    /// What it may use.
    pub limits: Limits,
    /// Who root inside is, outside.
    pub user_namespace: UserNamespace,
    /// Whether it is more than what its service has to have: an engine that is nearly full keeps its
    /// room for those that are not. Absent in specs that were written without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
    /// Set for one that builds: it serves nothing, and what it leaves can be made an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildOptions>,
}

/// What is different about an instance that builds. Its root file system is kept until it is removed;
/// its log goes with it; it has its service's dependency caches, which outlive it, at [`BUILD_CACHE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOptions {
    /// The newest time that a file of its image has, in seconds since the Unix epoch
    /// (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
    pub epoch: u64,
    /// How many bytes its service's caches may have; all go when they have more.
    pub cache_bytes_max: u64,
}

/// Where an instance that builds finds the caches of its service.
pub const BUILD_CACHE: &str = "/run/ekiden/cache";

/// Where an instance that builds finds the certificates of the authorities that its programs are told to
/// trust.
pub const BUILD_AUTHORITIES: &str = "/run/ekiden/ca-certificates.crt";

/// What one instance may use of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time per second, in thousandths of a CPU; at least 10.
    pub cpu_millis: u32,
    /// Memory, page cache of its own files included; the kernel kills above it.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids_max: u32,
    /// What it may write to its own file system.
    pub disk_bytes: u64,
}

/// Who root inside an instance is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespace {
    /// An unprivileged user of its own: the default.
    #[default]
    Private,
    /// The host's root, with the same reduced capabilities: for images that cannot do without.
    Host,
}

/// How much a running instance may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It starts: as much CPU as there is, whatever its limit.
    Boosted,
    /// What its limits say.
    #[default]
    Active,
    /// Next to no CPU: it is asked for nothing.
    Throttled,
    /// No CPU at all, and its memory is given back as far as the host can.
    Frozen,
}

/// One instance as an engine last saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceObservation {
    /// Which one.
    pub id: InstanceId,
    /// The service it is a copy of.
    pub service: ServiceId,
    /// The revision it runs.
    pub revision: RevisionNumber,
    /// When the engine accepted it.
    pub created_at: Timestamp,
    /// Where it is in its life.
    pub state: InstanceState,
    /// How much it may do; an older engine does not say.
    #[serde(default)]
    pub activity: Activity,
    /// Whether it builds, and is none of its service's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub builds: bool,
}

/// Where an instance is in its life, as its engine knows it. Health is not the engine's to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum InstanceState {
    /// Accepted; its process does not run yet.
    Creating,
    /// Its process runs.
    Running {
        /// Where its port can be reached from the control plane and the edge.
        address: IpAddr,
        /// When its process was started.
        started_at: Timestamp,
    },
    /// It was asked to stop and has not ended yet.
    Stopping {
        /// Where it could be reached; it may still answer what it has begun.
        address: IpAddr,
    },
    /// It is over; kept until it is removed.
    Exited(Exit),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What ended it.
    pub cause: ExitCause,
    /// When.
    pub at: Timestamp,
    /// Why it was asked to stop, if it was.
    pub stopped_for: Option<StopReason>,
}

/// What ended an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum ExitCause {
    /// Its first process exited with this code.
    Code {
        /// 0 to 255.
        code: u8,
    },
    /// Its first process was killed by this signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The kernel killed it because it exceeded its memory limit.
    OutOfMemory,
    /// It exceeded what it may write to its file system, and was killed.
    OutOfDisk,
    /// It could not be started; the sentence says why and what to do.
    StartFailed {
        /// For people.
        message: String,
    },
    /// It vanished with its host or its shim; nothing is known of how.
    Lost,
}

/// Why the control plane asked an instance to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Another revision serves now, or the service needs fewer, is paused or deleted.
    NotNeeded,
    /// It failed its health check while running.
    Unhealthy,
    /// It did not become healthy in time.
    StartTimeout,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boosted => "boosted",
            Self::Active => "active",
            Self::Throttled => "throttled",
            Self::Frozen => "frozen",
        })
    }
}

impl Exit {
    /// How it failed, and what its owner can do next; `None` when it was not needed any more.
    #[must_use]
    pub fn failure(&self) -> Option<(String, &'static str)> {
        match self.stopped_for {
            None => Some((self.cause.to_string(), self.cause.hint())),
            Some(StopReason::Unhealthy) => Some((
                "failed its health check and was stopped".to_owned(),
                "see the application's last log lines",
            )),
            Some(StopReason::StartTimeout) => Some((
                "did not become healthy in time and was stopped".to_owned(),
                "check that the application listens on the configured port, and its last log lines",
            )),
            Some(StopReason::NotNeeded) => None,
        }
    }
}

impl ExitCause {
    /// What its owner can do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Code { code: 0 } => {
                "the start command must run a server in the foreground, and not return"
            }
            Self::Code { code: 126 | 127 } => "check the start command: the shell could not run it",
            Self::OutOfMemory => "give the service more memory",
            Self::OutOfDisk => {
                "write less to the instance's own file system; it is not kept anyway"
            }
            Self::Code { .. } | Self::Signal { .. } => "see the application's last log lines",
            Self::StartFailed { .. } => {
                "check the start command and the image; if they are right, look at the host with `ekiden doctor`"
            }
            Self::Lost => {
                "another takes its place; if it stays away, look at the host with `ekiden doctor`"
            }
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "exited with code {code}"),
            Self::Signal { signal } => write!(f, "was killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("ran out of memory and was killed"),
            Self::OutOfDisk => f.write_str("wrote more than its disk limit and was killed"),
            Self::StartFailed { message } => write!(f, "could not be started: {message}"),
            Self::Lost => f.write_str("was lost with its host"),
        }
    }
}

//! What is on disk of an instance, in `instances/<id>/`: enough for an agent that has just started.
//!
//! `spec.json` is written when it is accepted, `stop.json` when it is asked to stop, and `exit.json`, by
//! its shim as a rule, when it has ended. `upper`, `work` and `root` are its file system's.

use std::path::{Path, PathBuf};

use ekiden_model::{
    id::InstanceId,
    instance::{InstanceSpec, StopReason, UserNamespace},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{AgentConfig, UID_BASE, UIDS},
    log,
};

/// An instance as it was accepted, without its secret variables: an instance that is found again runs
/// already, or is over. No `Debug`: what its owner configured may be private all the same.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) spec: InstanceSpec,
    /// Its place: no two instances have the same addresses and user ids at one time.
    pub(crate) slot: u32,
    pub(crate) created_at: Timestamp,
}

/// That it was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopRecord {
    pub(crate) reason: StopReason,
    pub(crate) grace_ms: u64,
    pub(crate) at: Timestamp,
}

/// Where an instance's files are.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) directory: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Record {
    pub(crate) fn paths(&self, config: &AgentConfig) -> Paths {
        let id = self.spec.id;
        Paths {
            directory: directory(config, id),
            logs: match self.spec.build {
                None => log::directory(&config.logs_dir(), self.spec.service, id),
                Some(_) => log::build_directory(&config.logs_dir(), self.spec.service, id),
            },
            socket: config.shims_dir().join(format!("{id}.sock")),
        }
    }

    /// The host's id of root inside, unless that is the host's own root.
    pub(crate) fn uid_base(&self) -> Option<u32> {
        match self.spec.user_namespace {
            UserNamespace::Private => Some(UID_BASE + self.slot * UIDS),
            UserNamespace::Host => None,
        }
    }
}

impl Paths {
    pub(crate) fn spec(&self) -> PathBuf {
        spec_in(&self.directory)
    }

    pub(crate) fn stop(&self) -> PathBuf {
        self.directory.join("stop.json")
    }

    /// Directories that hold the instance's files, and are of no use once it has ended.
    pub(crate) fn trees(&self) -> [PathBuf; 3] {
        ["upper", "work", "root"].map(|name| self.directory.join(name))
    }
}

/// Where an instance's directory is.
pub(crate) fn directory(config: &AgentConfig, id: InstanceId) -> PathBuf {
    config.instances_dir().join(id.to_string())
}

/// Where the record is in an instance's directory.
pub(crate) fn spec_in(directory: &Path) -> PathBuf {
    directory.join("spec.json")
}

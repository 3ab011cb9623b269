//! `status.json`: what the supervisor says about the roles, and how it is read.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// The whole file. Replaced whole whenever something in it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Ekiden's version.
    pub version: String,
    /// Setting `name`.
    pub name: String,
    /// The supervisor's process.
    pub pid: u32,
    /// When the supervisor was started: seconds since the Unix epoch.
    pub since: u64,
    /// The same in milliseconds: two reloads in one second are two.
    #[serde(default)]
    pub since_ms: u64,
    /// Every role.
    pub roles: Vec<RoleStatus>,
}

/// One role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleStatus {
    /// Its name.
    pub role: String,
    /// What it does.
    pub state: RoleState,
    /// Its process, if there is one.
    pub pid: Option<u32>,
    /// When that was started: seconds since the Unix epoch.
    pub since: Option<u64>,
    /// How often it was started anew since Ekiden was started.
    pub restarts: u32,
    /// How its last process ended.
    pub last_end: Option<String>,
}

/// What a role does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleState {
    /// Its process runs and does not serve yet.
    Starting,
    /// It serves.
    Ready,
    /// It ended, and is started again soon.
    Waiting,
}

impl RoleState {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
        }
    }
}

impl Status {
    /// Reads it; `None` if no server has written one, or it has been stopped.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether every role serves.
    pub fn serves(&self) -> bool {
        self.roles.iter().all(|role| role.state == RoleState::Ready)
    }

    /// Whether the supervisor that wrote it still runs. Roles may run without one for a moment.
    pub fn supervisor_runs(&self) -> bool {
        // The state follows the name, which is in parentheses (proc_pid_stat(5)).
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    }
}

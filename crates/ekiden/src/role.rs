//! The roles, and the beginning of a process that is one.

use std::{
    fmt, fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    process::ExitCode,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::{
    channel::{Channel, Start, ToRole, Wait},
    config::Config,
    link::Link,
    log, wiring,
};

/// A part of Ekiden that is a process of its own under the supervisor.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The front door.
    Edge,
    /// The brain.
    Control,
    /// The hands on this host.
    Agent,
}

impl Role {
    /// Every role, in the order they are stopped: first who takes requests, last who runs them.
    pub const ALL: [Self; 3] = [Self::Edge, Self::Control, Self::Agent];

    /// As in commands, paths and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Control => "control",
            Self::Agent => "agent",
        }
    }

    /// The user and group it runs as.
    pub fn user(self, config: &Config) -> u32 {
        match self {
            Self::Edge => config.users.edge as u32,
            Self::Control => config.users.control as u32,
            Self::Agent => 0,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a process of this program with these settings is: two that are equal do the same.
///
/// The program is told by its version and its file's identity, which another build does not share.
///
/// # Errors
/// The program's own file cannot be looked at.
pub fn fingerprint(config: &Config) -> io::Result<String> {
    let file = fs::metadata("/proc/self/exe")?;
    let config = serde_json::to_string(config)?;
    Ok(format!(
        "{} {}:{}:{}.{} {config}",
        env!("CARGO_PKG_VERSION"),
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
    ))
}

/// The whole life of a role's process. It was started with the supervisor's line as standard
/// input and, unless it is the agent, without any privilege.
pub fn main(role: Role) -> ExitCode {
    match run(role) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{role} cannot go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role) -> anyhow::Result<()> {
    let channel = take_channel().context("roles are started by `ekiden server`, not by hand")?;
    if role != Role::Agent {
        // Before any other thread, so that every thread has it (PR_SET_NO_NEW_PRIVS(2const)).
        rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")?;
    }
    // Out of the terminal's reach: an interrupt there is for the supervisor to act on.
    rustix::process::setsid().context("cannot begin a session")?;
    rustix::thread::set_name(&std::ffi::CString::new(format!("ekiden-{role}"))?)?;
    let (start, own_socket, sockets) = receive_start(&channel)?;
    if start.role != role {
        bail!("started as {role} and told to be {}", start.role);
    }
    log::start(&start.config.log, None);
    let kept = sockets
        .iter()
        .map(OwnedFd::try_clone)
        .collect::<io::Result<Vec<_>>>()?;
    let link = Link::start(channel, own_socket, kept, &start)?;
    wiring::run(start, sockets, &link)
}

/// Takes the line from standard input and leaves /dev/null there.
fn take_channel() -> io::Result<Channel> {
    let stdin = rustix::stdio::stdin();
    if rustix::net::sockopt::socket_type(stdin)? != rustix::net::SocketType::SEQPACKET {
        return Err(io::Error::other(
            "standard input is not a supervisor's line",
        ));
    }
    let channel = stdin.try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?.as_fd())?;
    Ok(channel.into())
}

fn receive_start(channel: &Channel) -> anyhow::Result<(Start, OwnedFd, Vec<OwnedFd>)> {
    let message = channel
        .receive(Wait::Yes)
        .context("cannot read the supervisor's line")?;
    let Some((ToRole::Start(start), mut descriptors)) = message else {
        bail!("the supervisor did not say what to be");
    };
    if descriptors.len() != start.listeners.len() + 1 {
        bail!(
            "{} descriptors came for {} listeners",
            descriptors.len(),
            start.listeners.len()
        );
    }
    let own_socket = descriptors.remove(0);
    Ok((*start, own_socket, descriptors))
}

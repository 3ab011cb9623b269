//! One process that is a role, as its supervisor sees it.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitStatus, pidfd_open, pidfd_send_signal},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::{
    channel::{self, Channel, FromRole, Hello, Start, ToRole, Wait},
    config::Config,
    layout,
    log::LogFile,
    role::Role,
};

/// How long a role that runs may take to answer a new supervisor; it has a thread for that.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// The stack of a thread that watches a role, in bytes.
const STACK_BYTES: usize = 256 * 1024;

/// A role cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its own socket cannot be made.
    #[error("cannot make the socket `{}`", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be made. An unprivileged role needs a program file that everybody may
    /// execute.
    #[error("cannot start {role} as user {user}; is the program file executable for everybody?")]
    Process {
        /// Which role.
        role: Role,
        /// As whom.
        user: u32,
        /// Why.
        source: io::Error,
    },
    /// It died before it took what it needs.
    #[error("cannot tell {role} what to do")]
    Tell {
        /// Which role.
        role: Role,
        /// Why.
        source: io::Error,
    },
}

/// A role that runs, started by this supervisor or by one before it.
#[derive(Debug)]
pub struct RoleProcess {
    /// Which.
    pub role: Role,
    /// Its process.
    pub pid: Pid,
    /// Whether it has said that it serves.
    pub ready: bool,
    /// How often the role was started anew, this process included.
    pub restarts: u32,
    /// When it was started.
    pub since: SystemTime,
    /// When this supervisor came to know it.
    pub known: Instant,
    /// How it ended, once this supervisor has reaped it.
    pub end: Option<WaitStatus>,
    channel: Arc<Channel>,
    pidfd: Arc<OwnedFd>,
}

/// What a role does, as its supervisor hears it.
#[derive(Debug)]
pub enum Event {
    /// It serves.
    Ready(Pid),
    /// Its process has ended.
    Ended(Pid),
}

impl RoleProcess {
    /// Starts and watches `start.role`. Its listeners, in the order of `start.listeners`, are `listeners`.
    ///
    /// # Errors
    /// Nothing runs then.
    pub fn spawn(
        start: Start,
        listeners: &[std::os::fd::BorrowedFd<'_>],
        log: Option<&LogFile>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, SpawnError> {
        let (role, user) = (start.role, start.role.user(&start.config));
        let restarts = start.restarts;
        let path = layout::role_socket(&start.config, role.name());
        let own_socket =
            channel::bind(&path).map_err(|source| SpawnError::Socket { path, source })?;
        let fail = |source| SpawnError::Process { role, user, source };
        let (ours, theirs) = Channel::pair().map_err(fail)?;
        let pid = spawn_process(role, user, theirs, log).map_err(fail)?;
        let process = Self::new(role, pid, ours, restarts, SystemTime::now()).map_err(fail)?;
        let mut descriptors = vec![own_socket.as_fd()];
        descriptors.extend(listeners);
        process
            .channel
            .send(&ToRole::Start(Box::new(start)), &descriptors)
            .and_then(|()| process.watch(events))
            .map_err(|source| {
                process.kill();
                SpawnError::Tell { role, source }
            })?;
        Ok(process)
    }

    /// Finds the role if it runs, takes it over, and takes back the sockets it has kept. `None` if
    /// it does not run.
    ///
    /// # Errors
    /// Somebody listens on the role's socket and does not answer as a role does.
    pub fn adopt(config: &Config, role: Role) -> io::Result<Option<(Self, Hello, Vec<OwnedFd>)>> {
        let path = layout::role_socket(config, role.name());
        let channel = match Channel::connect(&path) {
            Ok(channel) => channel,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // The role itself called listen(2), so the kernel vouches for this.
        let pid = channel.peer()?.pid;
        channel.send(&ToRole::Adopt, &[])?;
        if !readable(&channel, HELLO_TIME)? {
            return Err(io::Error::other(format!(
                "{role}, pid {pid}, does not answer; end it with `kill -9 {pid}`",
                pid = pid.as_raw_nonzero()
            )));
        }
        let Some((FromRole::Hello(hello), sockets)) = channel.receive(Wait::No)? else {
            return Ok(None); // it died just now
        };
        if hello.role != role || hello.listeners.len() != sockets.len() {
            return Err(io::Error::other(format!(
                "what answers at {} is no {role}",
                path.display()
            )));
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(hello.since);
        let mut process = Self::new(role, pid, channel, hello.restarts, since)?;
        process.ready = hello.ready;
        Ok(Some((process, hello, sockets)))
    }

    /// Reports what it does until it ends, from a thread of its own.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn watch(&self, events: mpsc::Sender<Event>) -> io::Result<()> {
        let (pid, channel, pidfd) = (self.pid, Arc::clone(&self.channel), Arc::clone(&self.pidfd));
        let watch = move || {
            if let Err(error) = watch(pid, &channel, &pidfd, &events) {
                warn!(%error, pid = pid.as_raw_nonzero(), "cannot watch a role");
            }
        };
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn(watch).map(drop)
    }

    /// Asks it to finish and end; returns when it has, or kills it after `limit`.
    pub async fn retire(&self, limit: Duration) {
        let asked = self.channel.send(&ToRole::Stop, &[]);
        let pidfd = Arc::clone(&self.pidfd);
        let ended = tokio::task::spawn_blocking(move || readable(&*pidfd, limit)).await;
        if asked.is_err() || !matches!(ended, Ok(Ok(true))) {
            warn!(role = %self.role, "did not stop in time; killing it");
            self.kill();
        }
    }

    /// Ends it at once.
    pub fn kill(&self) {
        // It fails only for a process that has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn new(
        role: Role,
        pid: Pid,
        channel: Channel,
        restarts: u32,
        since: SystemTime,
    ) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(Self {
            role,
            pid,
            ready: false,
            restarts,
            since,
            known: Instant::now(),
            end: None,
            channel: Arc::new(channel),
            pidfd: Arc::new(pidfd),
        })
    }
}

/// How a process ended, in words.
pub fn describe_end(end: Option<WaitStatus>) -> String {
    let Some(end) = end else {
        return "ended; how is not known, an earlier supervisor had started it".to_owned();
    };
    match (end.exit_status(), end.terminating_signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}{}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// Starts the process. Everything it needs comes over the line: nothing secret or long is in its
/// arguments, and an unprivileged role has no environment.
fn spawn_process(role: Role, user: u32, line: Channel, log: Option<&LogFile>) -> io::Result<Pid> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("ekiden")
        .args(["role", role.name()])
        .stdin(OwnedFd::from(line))
        .stdout(output(log)?)
        .stderr(output(log)?)
        .current_dir("/");
    if role == Role::Agent {
        command.env_remove("NOTIFY_SOCKET");
    } else {
        // As root the standard library empties the supplementary groups too (CommandExt::uid).
        command.env_clear().uid(user).gid(user);
    }
    let child = command.spawn()?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("a process without id"))
}

fn output(log: Option<&LogFile>) -> io::Result<Stdio> {
    Ok(match log {
        Some(log) => log.handle()?.into(),
        None => rustix::stdio::stderr()
            .try_clone_to_owned()
            .map(fs::File::from)?
            .into(),
    })
}

fn readable(descriptor: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&limit))? > 0)
}

/// Blocks its thread until the process has ended.
fn watch(
    pid: Pid,
    channel: &Channel,
    pidfd: &OwnedFd,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let mut open = true;
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        if open {
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if !fds[0].revents().is_empty() {
            // Nobody listens any more when the supervisor itself is ending.
            let _ = events.blocking_send(Event::Ended(pid));
            return Ok(());
        }
        match channel.receive::<FromRole>(Wait::No) {
            Ok(Some((FromRole::Ready, _))) => {
                let _ = events.blocking_send(Event::Ready(pid));
            }
            Ok(Some((FromRole::Hello(_), _))) => debug!("a role says hello twice"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => open = false,
        }
    }
}

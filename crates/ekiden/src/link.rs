//! A role's side of its line to the supervisor.
//!
//! One thread, apart from whatever the role does, so that a busy role still answers: it passes on
//! the request to stop, and it hands the listening sockets to a new supervisor when the old one is
//! gone. In the agent it also starts that new supervisor: the agent is root, outlives the
//! supervisor, and without one nobody would start a role that dies.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    channel::{Channel, FromRole, Hello, Respawn, Start, ToRole, Wait},
    role,
};

/// How long a supervisor may be gone before the agent starts one: somebody else may do so first.
const RESPAWN_WAIT_MIN: Duration = Duration::from_millis(300);

/// The longest time between two attempts to start one.
const RESPAWN_WAIT_MAX: Duration = Duration::from_secs(30);

/// Supervisors that may wait to be accepted.
const BACKLOG: i32 = 4;

/// The stack of the link's thread, in bytes; it holds one message at a time on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// What the role itself sees of the line.
#[derive(Debug)]
pub struct Link {
    /// Cancelled when the role is to finish what is at hand and end.
    pub stop: CancellationToken,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    supervisor: Option<Channel>,
    ready: bool,
}

struct Thread {
    own_socket: OwnedFd,
    kept: Vec<OwnedFd>,
    hello: Hello,
    respawn: Option<Respawner>,
    stop: CancellationToken,
    shared: Arc<Mutex<Shared>>,
}

struct Respawner {
    how: Respawn,
    wait: Duration,
    at: Option<Instant>,
    child: Option<Child>,
}

impl Link {
    /// Starts the thread.
    ///
    /// # Errors
    /// The role's own socket cannot be listened on, or there can be no thread.
    pub fn start(
        channel: Channel,
        own_socket: OwnedFd,
        kept: Vec<OwnedFd>,
        start: &Start,
    ) -> io::Result<Self> {
        rustix::net::listen(&own_socket, BACKLOG)?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Mutex::new(Shared {
            supervisor: Some(channel),
            ready: false,
        }));
        let thread = Thread {
            own_socket,
            kept,
            hello: Hello {
                role: start.role,
                fingerprint: role::fingerprint(&start.config)?,
                ready: false,
                restarts: start.restarts,
                since: unix_now(),
                listeners: start.listeners.clone(),
            },
            respawn: start.respawn.clone().map(Respawner::new),
            stop: stop.clone(),
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("link".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || thread.run())?;
        Ok(Self { stop, shared })
    }

    /// Tells the supervisor, and any later one, that the role serves.
    pub fn ready(&self) {
        let mut shared = lock(&self.shared);
        shared.ready = true;
        if let Some(supervisor) = &shared.supervisor {
            // A supervisor that is gone will be followed by one that asks.
            let _ = supervisor.send(&FromRole::Ready, &[]);
        }
    }
}

impl Thread {
    fn run(mut self) {
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(error) => {
                    warn!(%error, "the line to the supervisor failed");
                    thread::sleep(RESPAWN_WAIT_MIN);
                }
            }
        }
    }

    /// Waits for one thing to happen and acts on it.
    fn turn(&mut self) -> io::Result<()> {
        // Cloned, so that the lock is not held while waiting; the number of descriptors stays.
        let supervisor = lock(&self.shared)
            .supervisor
            .as_ref()
            .map(|channel| channel.as_fd().try_clone_to_owned().map(Channel::from))
            .transpose()?;
        let mut fds = vec![PollFd::new(&self.own_socket, PollFlags::IN)];
        if let Some(channel) = &supervisor {
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        match poll(&mut fds, self.timeout().as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            result => result?,
        };
        let (called, spoken) = (
            !fds[0].revents().is_empty(),
            fds.get(1).is_some_and(|fd| !fd.revents().is_empty()),
        );
        drop(fds);
        if let Some(channel) = supervisor.filter(|_| spoken) {
            self.hear(&channel);
        }
        if called {
            self.answer()?;
        }
        self.respawn_if_due();
        Ok(())
    }

    fn timeout(&self) -> Option<Timespec> {
        let at = self.respawn.as_ref()?.at?;
        let left = at.saturating_duration_since(Instant::now());
        // Whole milliseconds, rounded up: a little late rather than in a tight loop.
        Timespec::try_from(left + Duration::from_millis(1)).ok()
    }

    fn hear(&mut self, channel: &Channel) {
        match channel.receive::<ToRole>(Wait::No) {
            Ok(Some((ToRole::Stop, _))) => {
                info!("asked to stop");
                self.respawn = None;
                self.stop.cancel();
            }
            Ok(Some((ToRole::Start(_) | ToRole::Adopt, _))) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => {
                warn!("the supervisor is gone; going on without");
                lock(&self.shared).supervisor = None;
                if let Some(respawn) = &mut self.respawn {
                    respawn.at = Some(Instant::now() + respawn.wait);
                }
            }
        }
    }

    /// Takes in a new supervisor.
    fn answer(&mut self) -> io::Result<()> {
        let connection: Channel =
            rustix::net::accept_with(&self.own_socket, rustix::net::SocketFlags::CLOEXEC)?.into();
        if !connection.peer()?.uid.is_root() {
            warn!("somebody who is not root wanted to be the supervisor");
            return Ok(());
        }
        rustix::net::sockopt::set_socket_timeout(
            &connection,
            rustix::net::sockopt::Timeout::Recv,
            Some(RESPAWN_WAIT_MIN),
        )?;
        let Some((ToRole::Adopt, _)) = connection.receive::<ToRole>(Wait::Yes)? else {
            return Ok(());
        };
        let mut shared = lock(&self.shared);
        self.hello.ready = shared.ready;
        let kept: Vec<_> = self.kept.iter().map(AsFd::as_fd).collect();
        connection.send(&FromRole::Hello(self.hello.clone()), &kept)?;
        shared.supervisor = Some(connection);
        if let Some(respawn) = &mut self.respawn {
            respawn.at = None;
            respawn.wait = RESPAWN_WAIT_MIN;
        }
        info!("a new supervisor took over");
        Ok(())
    }

    fn respawn_if_due(&mut self) {
        if let Some(respawn) = &mut self.respawn
            && respawn.at.is_some_and(|at| at <= Instant::now())
        {
            respawn.start();
        }
    }
}

impl Respawner {
    fn new(how: Respawn) -> Self {
        Self {
            how,
            wait: RESPAWN_WAIT_MIN,
            at: None,
            child: None,
        }
    }

    /// Starts a supervisor, unless the one of the last attempt still lives: it may be waiting for
    /// another that somebody else started, and then ends by itself.
    fn start(&mut self) {
        self.at = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(RESPAWN_WAIT_MAX);
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(None))
        {
            return;
        }
        let program = match self.how.program.exists() {
            true => self.how.program.as_path(),
            false => "/proc/self/exe".as_ref(),
        };
        let spawned = Command::new(program)
            .args(&self.how.arguments)
            .current_dir(&self.how.directory)
            .stdin(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => {
                warn!(pid = child.id(), "started a new supervisor");
                self.child = Some(child);
            }
            Err(error) => warn!(%error, "cannot start a new supervisor; trying again"),
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

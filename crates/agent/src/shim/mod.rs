//! The shim: one small process for each instance, the parent of its container.
//!
//! It takes the container's output down, says how it ended, and passes on requests to end it. It
//! outlives agent and control, who find it again by its socket; when it dies, its container dies with
//! it. One thread, no runtime, one `poll` loop: its memory is paid once per instance, and a process
//! with one thread may fork and go on in ordinary Rust.
//!
//! It starts as `<program> shim` with a socket as standard input, which brings the order and the
//! network namespace. It ends when its container has ended, after the record of that is on disk.

mod connection;
mod container;
mod failure;
pub(crate) mod protocol;
mod root;
mod user;

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(crate) use container::{TRUSTING, make_user_namespace, reap};
pub(crate) use failure::{Failure, Step};
pub(crate) use root::mount_devices;

use connection::Connection;
use container::Container;
use ekiden_engine::LogStream;
use ekiden_model::{instance::ExitCause, secret_env::SecretEnv, time::Timestamp};
use protocol::{ExitRecord, FromShim, StartOrder, ToShim};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use crate::{
    durable,
    log::write::{LogWriter, PARTIAL_AFTER},
    sys,
};

/// The most connections at one time; the agent uses one. More are closed at once.
const CONNECTIONS_MAX: usize = 8;

/// Read from a pipe at a time.
const CHUNK_BYTES: usize = 32 * 1024;

/// What is still taken from each pipe after the container's end: what a pipe holds (pipe(7)), with
/// room for a larger one that the container asked for.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// Programs that are shells.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];

/// A longer wait for SIGKILL than this is no wait but a mistake: one day.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs a shim: what `<program> shim` does, before anything else has been started. Never returns.
pub fn main() -> ! {
    sys::set_process_name(c"ekiden-shim");
    // A terminal or a service manager means the agent, not its instances.
    sys::ignore_signals(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGQUIT,
        libc::SIGPIPE,
    ]);
    let _ = rustix::process::setsid();
    let code = match run() {
        Ok(()) => 0,
        Err(_) => 1, // nobody reads what it would say; the agent sees the end
    };
    process::exit(code);
}

fn run() -> io::Result<()> {
    let stream = UnixStream::from(sys::take_stdin()?);
    sys::duplicate_to(fs::File::open("/dev/null")?.as_fd(), 0)?;
    let (mut order, network) = connection::receive_order(&stream)?;
    std::env::set_current_dir("/")?;
    match start(&order, network) {
        Ok((container, listener, log)) => {
            // The program has its copy; nobody else is to have one.
            order.secret_env = SecretEnv::default();
            let agent = Connection::new(stream)?;
            let shim = Shim::new(order, container, listener, agent, log);
            // After its word to the agent, who waits for it.
            shim.order.shims.take_this_process();
            shim.serve()
        }
        Err(failure) => end(
            &order,
            ExitCause::StartFailed { message: failure.0 },
            &mut [Connection::new(stream)?],
        ),
    }
}

fn start(
    order: &StartOrder,
    network: OwnedFd,
) -> Result<(Container, UnixListener, LogWriter), Failure> {
    let starting = container::begin(order, network);
    // While the child mounts.
    let listener = listen(&order.socket).step("listen on the shim's socket")?;
    let mut log = LogWriter::open(&order.logs, Instant::now()).step("open the log")?;
    match starting.and_then(container::Starting::finish) {
        Ok(container) => Ok((container, listener, log)),
        Err(failure) => {
            let said = format!("could not be started: {}\n", failure.0);
            log.take(LogStream::Ekiden, said.as_bytes(), micros(), Instant::now());
            Err(failure)
        }
    }
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Puts the record on disk, then says so, in this order; then nothing is left to do.
fn end(order: &StartOrder, cause: ExitCause, agents: &mut [Connection]) -> io::Result<()> {
    let record = ExitRecord {
        cause,
        at: Timestamp::from_millis(micros() / 1000),
    };
    let written = durable::write_json(&order.directory.join(ExitRecord::FILE), &record);
    for agent in agents {
        agent.send(&FromShim::Exited(record.clone()));
    }
    let _ = fs::remove_file(&order.socket);
    written
}

struct Shim {
    order: StartOrder,
    container: Container,
    listener: UnixListener,
    agents: Vec<Connection>,
    log: LogWriter,
    /// Both outputs, until they are closed.
    outputs: Vec<(LogStream, fs::File)>,
    started_at: Timestamp,
    /// Since when a line has been waiting for its end.
    pending_since: Option<Instant>,
    /// When SIGKILL follows the stop signal.
    kill_at: Option<Instant>,
    /// We sent SIGKILL, so that its cause is known; what the record shall say when it was asked for.
    killed: bool,
    killed_for: Option<ExitCause>,
}

/// What a poll can report besides the agents, in this order.
const PROCESS: usize = 0;
const LISTENER: usize = 1;
const FIXED: usize = 2;

impl Shim {
    fn new(
        order: StartOrder,
        container: Container,
        listener: UnixListener,
        agent: Connection,
        log: LogWriter,
    ) -> Self {
        let output = |stream, fd: &OwnedFd| {
            rustix::io::ioctl_fionbio(fd, true)?;
            Ok::<_, io::Error>((stream, fs::File::from(fd.try_clone()?)))
        };
        let outputs = [
            (LogStream::Stdout, &container.stdout),
            (LogStream::Stderr, &container.stderr),
        ]
        .into_iter()
        .filter_map(|(stream, fd)| output(stream, fd).ok())
        .collect();
        let started_at = Timestamp::from_millis(micros() / 1000);
        let mut shim = Self {
            order,
            container,
            listener,
            agents: vec![agent],
            log,
            outputs,
            started_at,
            pending_since: None,
            kill_at: None,
            killed: false,
            killed_for: None,
        };
        let running = shim.running();
        shim.agents[0].send(&running);
        shim
    }

    fn serve(mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let ready = self.wait()?;
            let outputs = self.outputs.len();
            for place in (0..outputs).rev() {
                if ready[FIXED + place] {
                    self.read_output(place, &mut chunk);
                }
            }
            if ready[PROCESS] {
                return self.finish(&mut chunk);
            }
            for place in (0..self.agents.len()).rev() {
                if ready[FIXED + outputs + place] {
                    self.answer(place);
                }
            }
            if ready[LISTENER] {
                self.accept();
            }
            self.keep_time();
        }
    }

    /// Waits for something to do; says what is ready, in the order of [`PROCESS`], [`LISTENER`],
    /// outputs, agents.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let input = PollFlags::IN;
        let mut fds = vec![
            PollFd::new(&self.container.pidfd, input),
            PollFd::new(&self.listener, input),
        ];
        fds.extend(
            self.outputs
                .iter()
                .map(|(_, file)| PollFd::new(file, input)),
        );
        fds.extend(
            self.agents
                .iter()
                .map(|agent| PollFd::new(agent.stream(), input)),
        );
        let timeout = self.next_deadline().map(|deadline| {
            let wait = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the deadline has passed when it ends.
            let wait = wait + Duration::from_millis(1);
            Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let pending = self.pending_since.map(|since| since + PARTIAL_AFTER);
        [pending, self.kill_at].into_iter().flatten().min()
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        }
        if !self.log.has_pending() {
            self.pending_since = None;
        } else if self
            .pending_since
            .is_some_and(|since| since + PARTIAL_AFTER <= now)
        {
            self.log.write_pending(true, micros(), now);
            self.pending_since = None;
        } else {
            self.pending_since.get_or_insert(now);
        }
    }

    /// Reads once; an output that is at its end is closed.
    fn read_output(&mut self, place: usize, chunk: &mut [u8]) -> usize {
        let (stream, file) = &mut self.outputs[place];
        let stream = *stream;
        match file.read(chunk) {
            Ok(0) => {
                self.outputs.remove(place);
                0
            }
            Ok(length) => {
                self.log
                    .take(stream, &chunk[..length], micros(), Instant::now());
                length
            }
            // Nothing there now, or interrupted: poll says when there is.
            Err(_) => 0,
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.agents.len() < CONNECTIONS_MAX
            && let Ok(agent) = Connection::new(stream)
        {
            self.agents.push(agent);
        }
    }

    fn answer(&mut self, place: usize) {
        let Some(requests) = self.agents[place].receive() else {
            self.agents.remove(place);
            return;
        };
        for request in requests {
            let answer = match request {
                Ok(ToShim::Status) => self.running(),
                Ok(ToShim::Stop { grace_ms, signal }) => {
                    self.stop(Duration::from_millis(grace_ms), signal);
                    FromShim::Done
                }
                Ok(ToShim::Kill { cause }) => {
                    self.killed_for = cause;
                    self.kill();
                    FromShim::Done
                }
                Ok(ToShim::Exec {}) => not_offered("exec is not offered by this version"),
                Ok(ToShim::Start(_)) => not_offered("this shim has started its container"),
                Err(error) => not_offered(&format!("not understood: {error}")),
            };
            if !self.agents[place].send(&answer) {
                self.agents.remove(place);
                return;
            }
        }
    }

    /// Sends the stop signal once; a second request can only make the wait shorter.
    fn stop(&mut self, grace: Duration, signal: i32) {
        let kill_at = Instant::now() + grace.min(GRACE_MAX);
        if self.kill_at.is_none() && !self.killed {
            match Signal::from_named_raw(signal) {
                // A shell that waits for its program hears nothing and passes nothing on (dash(1), and
                // pid_namespaces(7): its first process gets only the signals that it handles).
                Some(signal) if is_shell(&self.order.args) => self.order.group.signal(signal),
                // It can only have ended.
                Some(signal) => drop(pidfd_send_signal(&self.container.pidfd, signal)),
                None => return self.kill(),
            }
        }
        self.kill_at = Some(self.kill_at.map_or(kill_at, |already| already.min(kill_at)));
    }

    /// Kills the first process, and with it the kernel kills all in its pid namespace
    /// (pid_namespaces(7)).
    fn kill(&mut self) {
        self.killed = true;
        self.kill_at = None;
        let _ = pidfd_send_signal(&self.container.pidfd, Signal::KILL);
    }

    fn running(&self) -> FromShim {
        FromShim::Running {
            pid: self.container.pid,
            started_at: self.started_at,
        }
    }

    /// The container has ended: what is still in its pipes, the record, the last word.
    fn finish(mut self, chunk: &mut [u8]) -> io::Result<()> {
        let status = waitid(
            WaitId::PidFd(self.container.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        )?;
        for place in (0..self.outputs.len()).rev() {
            let mut drained = 0;
            while drained < DRAIN_BYTES_MAX {
                match self.read_output(place, chunk) {
                    0 => break,
                    length => drained += length,
                }
            }
        }
        self.log.finish(micros(), Instant::now());
        let (code, signal) = match &status {
            Some(status) => (status.exit_status(), status.terminating_signal()),
            None => (None, None),
        };
        let cause = self.cause(code, signal);
        end(&self.order, cause, &mut self.agents)
    }

    fn cause(&mut self, code: Option<i32>, signal: Option<i32>) -> ExitCause {
        if let Some(cause) = self
            .killed_for
            .take()
            .filter(|_| signal == Some(libc::SIGKILL))
        {
            return cause;
        }
        // A shell that ran the victim reports 128 + 9.
        let looks_killed = signal == Some(libc::SIGKILL) || code == Some(128 + libc::SIGKILL);
        if looks_killed && !self.killed && self.order.group.oom_kills() > 0 {
            return ExitCause::OutOfMemory;
        }
        match (code, signal) {
            (Some(code), _) => ExitCause::Code { code: code as u8 },
            (None, Some(signal)) => ExitCause::Signal { signal },
            (None, None) => ExitCause::Lost,
        }
    }
}

/// Whether a command is a shell that runs another.
fn is_shell(args: &[String]) -> bool {
    let [program, option, ..] = args else {
        return false;
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    SHELLS.contains(&name) && option == "-c"
}

fn not_offered(message: &str) -> FromShim {
    FromShim::NotOffered {
        message: message.to_owned(),
    }
}

fn micros() -> u64 {
    // Before 1970 there is no time.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros() as u64
}

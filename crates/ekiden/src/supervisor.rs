//! The supervisor: holds the listening sockets, starts the roles, restarts what dies.
//!
//! It reads no request and decides nothing about services, so there is little that can break it.
//! When it is killed all the same, the roles go on serving; the next supervisor finds them by
//! their sockets below `run_dir`, gets the listening sockets back, and watches them like its own
//! children. A role of another build or with other settings is replaced; the front door goes on
//! meanwhile, because the new edge accepts before the old one has finished.

use std::{
    collections::BTreeMap,
    env, io,
    os::unix::process::CommandExt,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use ekiden_cli::status::{RoleState, RoleStatus, Status};
use rustix::process::{Pid, WaitOptions, wait};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    backoff::Backoff,
    channel::{Respawn, Start},
    config::Config,
    durable, layout,
    listeners::Listeners,
    lock::DataLock,
    log::{self, LogFile},
    notify,
    process::{Event, RoleProcess, describe_end},
    role::{self, Role},
};

/// How long a role may take from its start until it serves; then it is killed and started anew.
/// Control migrates its database meanwhile.
pub const READY_LIMIT: Duration = Duration::from_secs(120);

/// How long a role that holds no requests may take to stop.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Beyond the drain limit, how long the edge may take to stop.
pub const EDGE_STOP_EXTRA: Duration = Duration::from_secs(5);

/// What the roles say and nobody has heard yet.
const EVENTS_MAX: usize = 64;

/// How often the log's length is looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);

/// How long a program may take to say whether it would serve with the settings of now.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Runs until told to stop by SIGTERM, SIGINT, or SIGHUP if nobody made it ignore that. Instances go
/// on running.
///
/// SIGUSR2 has the program of now take this one's place in the same process, with the settings of
/// now. It takes the roles over as it would from a supervisor that was killed, so that the front
/// door goes on; and not at all if it does not understand the settings.
///
/// # Errors
/// Before any role is started: another server runs, a directory or socket cannot be had.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let _lock = DataLock::take(&config.data_dir)?;
        layout::create(&config)?;
        let file = config.log.file.as_deref().map(LogFile::open).transpose();
        let file = file.context("cannot open the log file (setting `log.file`)")?;
        log::start(&config.log, file.as_ref().map(LogFile::handle).transpose()?);
        // What a dead agent or supervisor leaves behind is reaped here (PR_SET_CHILD_SUBREAPER(2const)).
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        raise_file_limit();
        let signals = Signals::new()?;
        let (mut supervisor, events) = Supervisor::new(config, file)?;
        supervisor.take_over().await?;
        supervisor.start_missing();
        match supervisor.serve(events, signals).await {
            End::Stopped => Ok(()),
            // The locks and sockets that this process holds close with the exec, and the same are
            // taken and found again by what follows.
            End::Replaced(own) => Err(std::process::Command::new(&own.program)
                .args(&own.arguments)
                .current_dir(&own.directory)
                .exec())
            .context("the program could not take its own place; the agent starts it anew"),
        }
    })
}

/// Open files of each role: those of the most connections that the front door holds, twice.
const OPEN_FILES: u64 = 1 << 20;

/// Lets the roles have as many open files as the host allows: a login shell's limit is 1024 as a rule,
/// which so many connections would reach. Best effort: without the right to raise the hard limit
/// (`CAP_SYS_RESOURCE`) it is what can be had.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let raise = |most| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(Resource::Nofile, limit)
    };
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES);
    if raise(OPEN_FILES).is_err()
        && let Err(error) = raise(hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Why a supervisor serves no more.
enum End {
    /// It was told to, and has stopped the roles.
    Stopped,
    /// The program of now is to take its place.
    Replaced(Respawn),
}

struct Supervisor {
    config: Config,
    fingerprint: String,
    listeners: Listeners,
    slots: BTreeMap<Role, Slot>,
    events: mpsc::Sender<Event>,
    log: Option<LogFile>,
    since: SystemTime,
    announced: bool,
    /// How this supervisor was started; `None` if that cannot be told.
    own: Option<Respawn>,
}

#[derive(Default)]
struct Slot {
    process: Option<RoleProcess>,
    /// When to start it anew; only without a process.
    at: Option<Instant>,
    backoff: Backoff,
    restarts: u32,
    last_end: Option<String>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    child: Signal,
    reload: Signal,
    /// The terminal is gone; absent under nohup(1), which asks to live on then.
    hangup: Option<Signal>,
    log: Interval,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let mut log = interval(LOG_CHECK);
        log.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
            reload: signal(SignalKind::user_defined2())?,
            hangup: (!ignores_hangup()?)
                .then(|| signal(SignalKind::hangup()))
                .transpose()?,
            log,
        })
    }
}

impl Supervisor {
    fn new(config: Config, log: Option<LogFile>) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let supervisor = Self {
            fingerprint: role::fingerprint(&config)?,
            config,
            listeners: Listeners::default(),
            slots: Role::ALL.map(|role| (role, Slot::default())).into(),
            events,
            log,
            since: SystemTime::now(),
            announced: false,
            own: own(),
        };
        Ok((supervisor, receiver))
    }

    /// Adopts the roles that run, and replaces those that are not what would be started now.
    async fn take_over(&mut self) -> anyhow::Result<()> {
        let before = Status::read(&self.config.status_file()).unwrap_or_default();
        let mut outdated = Vec::new();
        for role in Role::ALL {
            let found = RoleProcess::adopt(&self.config, role)
                .with_context(|| format!("cannot take over the {role} that runs"))?;
            let Some((process, hello, sockets)) = found else {
                self.slot(role).died_before(before.as_ref(), role);
                continue;
            };
            self.listeners.absorb(hello.listeners, sockets);
            let pid = process.pid.as_raw_nonzero().get();
            self.slot(role).restarts = process.restarts;
            if hello.fingerprint == self.fingerprint {
                info!(%role, pid, "took over");
                process.watch(self.events.clone())?;
                self.slot(role).process = Some(process);
            } else {
                info!(%role, pid, "replacing: it is of another build or has other settings");
                outdated.push(process);
            }
        }
        self.listeners.complete(&self.config)?;
        self.replace(outdated).await;
        Ok(())
    }

    /// Starts successors. Only the edge may be there twice: two agents or two controls would undo
    /// each other's work, so each of them begins when the one before has ended, and neither waits
    /// for the other's end.
    async fn replace(&mut self, outdated: Vec<RoleProcess>) {
        let mut retiring = JoinSet::new();
        for old in outdated {
            let (role, limit) = (old.role, self.stop_limit(old.role));
            if role == Role::Edge {
                self.start(role);
                tokio::spawn(async move { old.retire(limit).await });
            } else {
                retiring.spawn(async move {
                    old.retire(limit).await;
                    role
                });
            }
        }
        while let Some(retired) = retiring.join_next().await {
            // One that panicked is started with what is missing.
            if let Ok(role) = retired {
                self.start(role);
            }
        }
    }

    fn start_missing(&mut self) {
        for role in Role::ALL {
            if self.slots[&role].process.is_none() {
                self.start(role);
            }
        }
        self.publish();
    }

    async fn serve(&mut self, mut events: mpsc::Receiver<Event>, mut signals: Signals) -> End {
        info!(version = env!("CARGO_PKG_VERSION"), "the supervisor runs");
        loop {
            let due = self.due();
            tokio::select! { // every arm is cancel-safe per its docs
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                () = hung_up(&mut signals.hangup) => break,
                _ = signals.child.recv() => self.reap(),
                _ = signals.reload.recv() => {
                    if let Some(own) = self.would_serve().await {
                        return End::Replaced(own);
                    }
                }
                _ = signals.log.tick() => self.bound_log(),
                Some(event) = events.recv() => self.handle(event),
                () = sleep_until(due.into()) => self.act_on_time(),
            }
        }
        self.stop(&mut signals).await;
        End::Stopped
    }

    /// Asks the program of now whether it understands the settings of now.
    async fn would_serve(&self) -> Option<Respawn> {
        let Some(own) = self.own.clone() else {
            error!("cannot reload: an argument of this process is not Unicode");
            return None;
        };
        let mut check = tokio::process::Command::new(&own.program);
        check
            .args(&own.arguments)
            .arg("--check")
            .current_dir(&own.directory)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        match tokio::time::timeout(CHECK_LIMIT, check.output()).await {
            Ok(Ok(output)) if output.status.success() => {
                info!(program = %own.program.display(), "reloading");
                return Some(own);
            }
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                error!(
                    "cannot reload, everything stays as it is: {}",
                    said.trim_end()
                );
            }
            Ok(Err(error)) => {
                error!(program = %own.program.display(), %error, "cannot reload: the program does not start");
            }
            Err(_) => error!("cannot reload: the program does not say whether it would serve"),
        }
        None
    }

    /// Stops the roles in the order of [`Role::ALL`]; another signal makes it a kill.
    async fn stop(&mut self, signals: &mut Signals) {
        info!("stopping the roles; instances go on running");
        for role in Role::ALL {
            let limit = self.stop_limit(role);
            let Some(process) = self.slot(role).process.take() else {
                continue;
            };
            tokio::select! {
                () = process.retire(limit) => {}
                _ = signals.terminate.recv() => process.kill(),
                _ = signals.interrupt.recv() => process.kill(),
            }
        }
        if let Err(error) = std::fs::remove_file(self.config.status_file()) {
            warn!(%error, "cannot remove status.json");
        }
        info!("stopped");
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ready(pid) => {
                if let Some(process) = self.process(pid) {
                    process.ready = true;
                    info!(role = %process.role, pid = pid.as_raw_nonzero(), "serves");
                }
            }
            Event::Ended(pid) => {
                self.reap();
                self.ended(pid);
            }
        }
        self.publish();
    }

    /// Takes in the ends of children: of roles, and of whatever they left behind.
    fn reap(&mut self) {
        while let Ok(Some((pid, end))) = wait(WaitOptions::NOHANG) {
            if let Some(process) = self.process(pid) {
                process.end = Some(end);
            }
        }
    }

    fn ended(&mut self, pid: Pid) {
        let Some(process) = self.process(pid) else {
            return;
        };
        let (role, served) = (process.role, process.ready);
        let lived = process.since.elapsed().unwrap_or_default();
        let end = describe_end(process.end);
        let slot = self.slot(role);
        let wait = slot.backoff.after(lived, served);
        slot.process = None;
        slot.restarts += 1;
        slot.at = Some(Instant::now() + wait);
        warn!(%role, pid = pid.as_raw_nonzero(), end, restart_in_ms = wait.as_millis(), "a role ended");
        slot.last_end = Some(end);
        if wait.is_zero() {
            self.start(role);
        }
    }

    fn start(&mut self, role: Role) {
        let (purposes, sockets) = self.listeners.of(role);
        let start = Start {
            role,
            config: self.config.clone(),
            restarts: self.slots[&role].restarts,
            respawn: self
                .own
                .clone()
                .filter(|_| role == Role::Agent && !by_systemd()),
            listeners: purposes,
        };
        let spawned = RoleProcess::spawn(start, &sockets, self.log.as_ref(), self.events.clone());
        match spawned {
            Ok(process) => {
                info!(%role, pid = process.pid.as_raw_nonzero(), "started");
                let slot = self.slot(role);
                slot.process = Some(process);
                slot.at = None;
            }
            Err(error) => {
                error!(%role, "{:#}", anyhow::Error::new(error));
                let slot = self.slot(role);
                slot.at = Some(
                    Instant::now()
                        + slot
                            .backoff
                            .after(Duration::ZERO, false)
                            .max(crate::backoff::WAIT_MIN),
                );
            }
        }
    }

    /// When something is to be done if nothing happens before.
    fn due(&self) -> Instant {
        let starts = self.slots.values().filter_map(|slot| slot.at);
        let limits = self.unready().map(|process| process.known + READY_LIMIT);
        starts
            .chain(limits)
            .min()
            .unwrap_or_else(|| Instant::now() + LOG_CHECK)
    }

    fn act_on_time(&mut self) {
        let now = Instant::now();
        for process in self
            .unready()
            .filter(|process| process.known + READY_LIMIT <= now)
        {
            warn!(role = %process.role, "does not serve in time; killing it");
            process.kill();
        }
        let waiting: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.at.is_some_and(|at| at <= now))
            .map(|(role, _)| *role)
            .collect();
        for role in waiting {
            self.start(role);
        }
        self.publish();
    }

    /// Makes the state visible, and tells systemd the first time everything serves.
    fn publish(&mut self) {
        let path = self.config.status_file();
        let written = serde_json::to_vec_pretty(&self.status())
            .map_err(io::Error::from)
            .and_then(|bytes| durable::replace(&path, &bytes));
        if let Err(error) = written {
            warn!(%error, "cannot write status.json");
        }
        if !self.announced && self.slots.values().all(Slot::serves) {
            self.announced = true;
            info!(
                took_ms = self.since.elapsed().unwrap_or_default().as_millis(),
                "all roles serve"
            );
            if let Err(error) = notify::ready() {
                warn!(%error, "cannot tell systemd that all roles serve");
            }
        }
    }

    fn status(&self) -> Status {
        let roles = self
            .slots
            .iter()
            .map(|(role, slot)| slot.status(*role))
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.config.name.clone(),
            pid: std::process::id(),
            since: unix(self.since),
            since_ms: self
                .since
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            roles,
        }
    }

    fn bound_log(&self) {
        if let Some(Err(error)) = self.log.as_ref().map(LogFile::bound) {
            warn!(%error, "cannot bound the log file");
        }
    }

    fn stop_limit(&self, role: Role) -> Duration {
        match role {
            Role::Edge => self.config.service.drain_limit + EDGE_STOP_EXTRA,
            Role::Control | Role::Agent => STOP_LIMIT,
        }
    }

    fn unready(&self) -> impl Iterator<Item = &RoleProcess> {
        self.slots
            .values()
            .filter_map(|slot| slot.process.as_ref())
            .filter(|process| !process.ready)
    }

    fn slot(&mut self, role: Role) -> &mut Slot {
        self.slots.entry(role).or_default()
    }

    fn process(&mut self, pid: Pid) -> Option<&mut RoleProcess> {
        self.slots
            .values_mut()
            .filter_map(|slot| slot.process.as_mut())
            .find(|process| process.pid == pid)
    }
}

impl Slot {
    /// Counts the death of a role that a supervisor before this one had started.
    fn died_before(&mut self, before: Option<&Status>, role: Role) {
        let roles = before
            .map(|status| status.roles.as_slice())
            .unwrap_or_default();
        if let Some(found) = roles.iter().find(|found| found.role == role.name()) {
            self.restarts = found.restarts + 1;
            self.last_end = Some("ended while there was no supervisor".to_owned());
        }
    }

    fn serves(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.ready)
    }

    fn status(&self, role: Role) -> RoleStatus {
        let process = self.process.as_ref();
        RoleStatus {
            role: role.name().to_owned(),
            state: match process {
                Some(process) if process.ready => RoleState::Ready,
                Some(_) => RoleState::Starting,
                None => RoleState::Waiting,
            },
            pid: process.map(|process| process.pid.as_raw_nonzero().get().cast_unsigned()),
            since: process.map(|process| unix(process.since)),
            restarts: self.restarts,
            last_end: self.last_end.clone(),
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP was ignored when this process was started (proc_pid_status(5), `SigIgn`).
fn ignores_hangup() -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    Ok(ignored.unwrap_or_default() & 1 != 0)
}

/// Whether systemd started this supervisor, and starts it again.
fn by_systemd() -> bool {
    // systemd.exec(5): set for the main process of a unit, and inherited by what it starts.
    let own_pid = std::process::id().to_string();
    env::var_os("NOTIFY_SOCKET").is_some()
        || env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own_pid)
}

/// How this supervisor was started. To be asked at its start: a program that is replaced later has
/// another name.
fn own() -> Option<Respawn> {
    let arguments: Option<Vec<_>> = env::args_os()
        .skip(1)
        .map(|argument| argument.into_string().ok())
        .collect();
    Some(Respawn {
        program: env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
        arguments: arguments?,
        directory: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
    })
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

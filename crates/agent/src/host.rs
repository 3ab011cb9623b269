//! The host engine itself: which instances there are, and what may be asked of them.
//!
//! One table under a lock that is held for a few lines at a time; one task for each instance
//! ([`crate::instance`]) that alone acts on it. The table is what was found on disk when the agent
//! started and what the tasks have said since.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ekiden_engine::{
    COLLECT_WAIT_MS_MAX, CollectQuery, CollectedLines, EngineError, LogPage, LogQuery,
};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    instance::{
        Activity, Exit, ExitCause, InstanceObservation, InstanceSpec, InstanceState, StopReason,
    },
    time::Timestamp,
    usage::InstanceUsage,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    builds::{self, Dockerfiles},
    cgroup::{CgroupError, Cgroups},
    config::{AgentConfig, ConfigError},
    disk::{self, DiskLimit},
    durable,
    images::Images,
    instance::{self, Command, Origin},
    log::{self, collect::Tails},
    network::{Network, NetworkError},
    record::{self, Record, StopRecord},
    seccomp, tree,
    usage::{self, Metered},
};

/// Instances that are being started at one time; more wait.
const STARTS_MAX: usize = 16;

/// Instances whose groups and trees are being removed at one time; more wait. It blocks as long as the
/// kernel takes, and what starts needs the threads as well.
const REMOVALS_MAX: usize = 16;

/// Arguments and environment of a spec together, in bytes: half of what Linux takes with its default
/// stack limit (execve(2)).
const SPEC_BYTES_MAX: usize = 1024 * 1024;

/// One argument or variable: the kernel's `MAX_ARG_STRLEN` less its end.
const STRING_BYTES_MAX: usize = 128 * 1024 - 1;

/// Of the places for instances, one of so many is kept for those that their services have to have.
const SPARED_PLACES: u32 = 16;

/// How long an instance is taken to need until it uses the memory it will, and what it is taken to
/// use more by then, in bytes: many that start at one time do not all see the same memory free.
const YOUNG: Duration = Duration::from_secs(2);
const YOUNG_BYTES: u64 = 16 << 20;

/// Less memory than this cannot even hold the container's own start.
const MEMORY_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Builds are ended when the disk has fewer free bytes than this.
const BUILDS_FREE_BYTES_MIN: u64 = 512 << 20;

/// How many times the bytes that the caches of a service may have they have while it builds, before the
/// build is ended. When it is over, they are within bounds or gone.
const CACHE_OVERRUN: u64 = 2;

/// How often logs are looked at while somebody waits for lines.
const COLLECT_EVERY: Duration = Duration::from_millis(200);

/// Requests waiting for one instance's task.
const COMMANDS_MAX: usize = 16;

/// How long an agent that has just started looks for the shims of the instances it finds.
const FIND_MAX: Duration = Duration::from_secs(30);

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It is not root.
    #[error("the agent must run as root: it makes namespaces, mounts and cgroups")]
    NotRoot,
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Cgroups.
    #[error("cannot limit instances")]
    Cgroup(#[from] CgroupError),
    /// The network.
    #[error("cannot connect instances")]
    Network(#[from] NetworkError),
    /// A file or directory of ours.
    #[error("cannot {doing} `{}`", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: std::path::PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// One Ekiden's instances on this host.
pub(crate) struct Host<I> {
    pub(crate) config: AgentConfig,
    pub(crate) cgroups: Cgroups,
    pub(crate) network: Network,
    pub(crate) images: I,
    pub(crate) disk: DiskLimit,
    pub(crate) starts: Semaphore,
    pub(crate) removals: Semaphore,
    pub(crate) dockerfiles: Dockerfiles,
    table: Mutex<BTreeMap<InstanceId, Entry>>,
    /// Places that are taken by what is no instance. Locked within `table` only.
    reserved: Mutex<BTreeSet<u32>>,
    /// Counts changes of the table.
    changed: watch::Sender<u64>,
    /// Bytes of the host's memory that are kept free.
    memory_reserve: u64,
    usage: watch::Sender<Arc<[InstanceUsage]>>,
    tails: Arc<Tails>,
}

struct Entry {
    record: Arc<Record>,
    state: InstanceState,
    activity: Activity,
    stop: Option<StopRecord>,
    commands: mpsc::Sender<Command>,
    /// True once it is more than accepted.
    settled: watch::Sender<bool>,
}

impl<I: Images> Host<I> {
    /// Makes the host ready, finds the instances of the agent before, and removes what belongs to
    /// none.
    ///
    /// # Errors
    /// When the host lacks something without which no instance could be started.
    pub(crate) async fn open(config: AgentConfig, images: I) -> Result<Arc<Self>, AgentError> {
        config.check()?;
        if !rustix::process::geteuid().is_root() {
            return Err(AgentError::NotRoot);
        }
        let prepared = spawn_blocking(move || prepare(config)).await;
        let Prepared {
            config,
            cgroups,
            network,
            disk,
        } = prepared.map_err(|source| panicked("prepare the host", source))??;
        info!(
            cgroups = cgroups.describe(),
            disk_limit = disk.describe(),
            "host is ready"
        );
        let host = Arc::new(Self {
            memory_reserve: config.memory_reserve_of(usage::memory_total().unwrap_or(0)),
            usage: watch::Sender::new(Arc::default()),
            tails: Arc::new(Tails::new(config.logs_dir())),
            config,
            cgroups,
            network,
            images,
            disk,
            starts: Semaphore::new(STARTS_MAX),
            removals: Semaphore::new(REMOVALS_MAX),
            dockerfiles: Dockerfiles::default(),
            table: Mutex::default(),
            reserved: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        host.find_instances().await;
        tokio::spawn(watch_disk(Arc::downgrade(&host)));
        tokio::spawn(usage::watch(Arc::downgrade(&host)));
        Ok(host)
    }

    /// Lets go of all instances, which live on.
    pub(crate) fn close(&self) {
        // Their tasks end when nobody can command them any more.
        self.table().clear();
    }

    /// As [`ekiden_engine::Engine::start`].
    pub(crate) async fn start(self: &Arc<Self>, spec: InstanceSpec) -> Result<(), EngineError> {
        check(&spec)?;
        let mut settled = self.admit(spec)?;
        // It ends with the entry, and an instance that is gone again was started before.
        let _ = settled.wait_for(|settled| *settled).await;
        Ok(())
    }

    /// As [`ekiden_engine::Engine::stop`].
    pub(crate) async fn stop(
        &self,
        id: InstanceId,
        reason: StopReason,
        grace_ms: u64,
    ) -> Result<(), EngineError> {
        let stop = StopRecord {
            reason,
            grace_ms,
            at: now(),
        };
        let Some(record) = self.live(id) else {
            return Ok(());
        };
        let path = record.paths(&self.config).stop();
        blocking(move || {
            // The first reason is the reason; later calls may shorten the wait.
            match durable::read_json::<StopRecord>(&path)? {
                None => durable::write_json(&path, &stop),
                Some(_) => Ok(()),
            }
        })
        .await
        .map_err(|error| host_error("record the request to stop", &error))?;
        let commands = self.update(id, |entry| {
            entry.stop.get_or_insert(stop);
            if let InstanceState::Running { address, .. } = entry.state {
                entry.state = InstanceState::Stopping { address };
            }
            entry.commands.clone()
        });
        if let Some(commands) = commands {
            // A task that is gone has nothing left to stop.
            let _ = commands.send(Command::Stop { grace_ms }).await;
        }
        Ok(())
    }

    /// As [`ekiden_engine::Engine::set_activity`].
    pub(crate) async fn set_activity(
        &self,
        id: InstanceId,
        activity: Activity,
    ) -> Result<(), EngineError> {
        let commands = {
            let table = self.table();
            let running = table.get(&id).filter(|entry| {
                matches!(entry.state, InstanceState::Running { .. }) && entry.activity != activity
            });
            running.map(|entry| entry.commands.clone())
        };
        let Some(commands) = commands else {
            return Ok(());
        };
        let (done, set) = oneshot::channel();
        let _ = commands.send(Command::SetActivity { activity, done }).await;
        // A task that is gone has an instance no more.
        set.await.unwrap_or(Ok(()))
    }

    /// It may do so much now.
    pub(crate) fn set_activity_seen(&self, id: InstanceId, activity: Activity) {
        self.update(id, |entry| entry.activity = activity);
    }

    /// As [`ekiden_engine::Engine::remove`].
    pub(crate) async fn remove(&self, id: InstanceId) -> Result<(), EngineError> {
        self.dockerfiles.end_one(id).await;
        let commands = self.table().get(&id).map(|entry| entry.commands.clone());
        let Some(commands) = commands else {
            return Ok(());
        };
        let (done, removed) = oneshot::channel();
        let _ = commands.send(Command::Remove { done }).await;
        // A task that is gone has removed it for another caller.
        removed.await.unwrap_or(Ok(()))
    }

    /// As [`ekiden_engine::Engine::logs`].
    pub(crate) async fn logs(&self, query: LogQuery) -> Result<LogPage, EngineError> {
        let logs = self.config.logs_dir();
        let page = spawn_blocking(move || log::read::page(&logs, &query)).await;
        page.unwrap_or_else(|error| Err(host_error("read logs", &io::Error::other(error))))
    }

    /// As [`ekiden_engine::Engine::collect_logs`].
    pub(crate) async fn collect_logs(
        &self,
        query: CollectQuery,
    ) -> Result<Vec<CollectedLines>, EngineError> {
        let wait = Duration::from_millis(query.wait_ms.min(COLLECT_WAIT_MS_MAX));
        let deadline = tokio::time::Instant::now() + wait;
        self.tails.take(&query.taken);
        loop {
            let (tails, live) = (self.tails.clone(), self.writers());
            let looked = blocking(move || Ok(tails.look(&live))).await;
            let lines = looked.map_err(|error| host_error("collect logs", &error))?;
            if !lines.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(lines);
            }
            sleep(COLLECT_EVERY).await;
        }
    }

    /// The instances that may still write lines of their service.
    fn writers(&self) -> BTreeMap<InstanceId, ServiceId> {
        let table = self.table();
        let writing = table.values().filter(|entry| {
            !matches!(entry.state, InstanceState::Exited(_)) && entry.record.spec.build.is_none()
        });
        let writing = writing.map(|entry| (entry.record.spec.id, entry.record.spec.service));
        writing.collect()
    }

    /// As [`ekiden_engine::Engine::forget_service`].
    pub(crate) async fn forget_service(&self, service: ServiceId) -> Result<(), EngineError> {
        self.dockerfiles.end(|_, of| of == service).await;
        self.forget_dockerfiles(service).await;
        let building: Vec<_> = {
            let table = self.table();
            let of = table.values().map(|entry| &entry.record.spec);
            let builds = of.filter(|spec| spec.service == service && spec.build.is_some());
            builds.map(|spec| spec.id).collect()
        };
        for build in building {
            self.remove(build).await?;
        }
        let config = self.config.clone();
        let forgotten = blocking(move || {
            log::read::forget(&config.logs_dir(), service)?;
            builds::forget_cache(&config, service)
        });
        forgotten
            .await
            .map_err(|error| host_error("remove logs and caches", &error))
    }

    /// Every instance, in the order of ids.
    pub(crate) fn observe(&self) -> Vec<InstanceObservation> {
        let seen = |entry: &Entry| InstanceObservation {
            id: entry.record.spec.id,
            service: entry.record.spec.service,
            revision: entry.record.spec.revision,
            created_at: entry.record.created_at,
            state: entry.state.clone(),
            activity: entry.activity,
            builds: entry.record.spec.build.is_some(),
        };
        self.table().values().map(seen).collect()
    }

    /// Changes whenever [`Self::observe`] would say something else.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The instances that run.
    pub(crate) fn metered(&self) -> Vec<Metered> {
        let table = self.table();
        let running = table
            .values()
            .filter(|entry| matches!(entry.state, InstanceState::Running { .. }));
        let metered = running.map(|entry| Metered {
            id: entry.record.spec.id,
            group: self.cgroups.group(entry.record.spec.id),
            activity: entry.activity,
        });
        metered.collect()
    }

    /// Makes known what they use.
    pub(crate) fn tell_usage(&self, instances: Vec<InstanceUsage>) {
        self.usage.send_replace(instances.into());
    }

    /// As [`ekiden_engine::Engine::usage`].
    pub(crate) fn usage(&self) -> watch::Receiver<Arc<[InstanceUsage]>> {
        self.usage.subscribe()
    }

    /// Its process runs.
    pub(crate) fn set_running(&self, id: InstanceId, started_at: Timestamp) {
        self.update(id, |entry| {
            let address = IpAddr::from(self.network.addresses(entry.record.slot).ipv4);
            entry.state = match entry.stop {
                None => InstanceState::Running {
                    address,
                    started_at,
                },
                Some(_) => InstanceState::Stopping { address },
            };
        });
    }

    /// It is over.
    pub(crate) fn set_exited(&self, id: InstanceId, cause: ExitCause, at: Timestamp) {
        self.update(id, |entry| {
            let stopped_for = entry.stop.map(|stop| stop.reason);
            entry.state = InstanceState::Exited(Exit {
                cause,
                at,
                stopped_for,
            });
        });
    }

    /// Whether it was asked to stop, and how long that still may take.
    pub(crate) fn stop_asked(&self, id: InstanceId) -> Option<u64> {
        let stop = self.table().get(&id)?.stop?;
        Some(
            stop.grace_ms
                .saturating_sub(now().since(stop.at).as_millis() as u64),
        )
    }

    /// Takes it out of the table; the last thing done with it.
    pub(crate) fn forget(&self, id: InstanceId) {
        self.table().remove(&id);
        self.announce();
    }

    /// The instances that are not over.
    pub(crate) fn live_instances(&self) -> Vec<InstanceId> {
        let table = self.table();
        let live = table
            .values()
            .filter(|entry| !matches!(entry.state, InstanceState::Exited(_)));
        live.map(|entry| entry.record.spec.id).collect()
    }

    /// Puts an instance into the table and gives it a task, unless it is there.
    fn admit(
        self: &Arc<Self>,
        mut spec: InstanceSpec,
    ) -> Result<watch::Receiver<bool>, EngineError> {
        let mut table = self.table();
        if let Some(entry) = table.get(&spec.id) {
            return Ok(entry.settled.subscribe());
        }
        let (places, reserve) = (self.config.slots(), self.memory_reserve);
        self.room(&table).check(places, reserve, spec.spare)?;
        let slot = self.free_slot(&table);
        let slot =
            slot.ok_or_else(|| host_error("find a place", &io::Error::other("all are taken")))?;
        // Its values never come to the record, which is written to disk.
        let secrets = std::mem::take(&mut spec.secret_env);
        let record = Arc::new(Record {
            spec,
            slot,
            created_at: now(),
        });
        let settled = self.insert(&mut table, record, None, Origin::New(secrets));
        drop(table);
        self.announce();
        Ok(settled)
    }

    /// What the host has left.
    fn room(&self, table: &BTreeMap<InstanceId, Entry>) -> Room {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = (table.len() + reserved.len()) as u32;
        Room {
            places_left: self.config.slots().saturating_sub(taken),
            memory_left: usage::memory_available()
                .map(|left| left.saturating_sub(young(table) * YOUNG_BYTES)),
        }
    }

    /// A place that nothing has.
    fn free_slot(&self, table: &BTreeMap<InstanceId, Entry>) -> Option<u32> {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        free_slot(table, &reserved, self.config.slots())
    }

    /// Takes a place for what is no instance, until it is dropped.
    pub(crate) fn reserve(self: &Arc<Self>) -> Result<Place<I>, EngineError> {
        let table = self.table();
        let (places, reserve) = (self.config.slots(), self.memory_reserve);
        self.room(&table).check(places, reserve, true)?;
        let slot = self.free_slot(&table);
        let slot =
            slot.ok_or_else(|| host_error("find a place", &io::Error::other("all are taken")))?;
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.insert(slot);
        drop(reserved);
        let host = Arc::clone(self);
        Ok(Place { slot, host })
    }

    fn insert(
        self: &Arc<Self>,
        table: &mut BTreeMap<InstanceId, Entry>,
        record: Arc<Record>,
        stop: Option<StopRecord>,
        origin: Origin,
    ) -> watch::Receiver<bool> {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let settled = watch::Sender::new(false);
        let receiver = settled.subscribe();
        let state = InstanceState::Creating;
        let activity = match &origin {
            Origin::New(_) => Activity::Boosted,
            // Its group knows.
            Origin::Found => self
                .cgroups
                .group(record.spec.id)
                .activity(&record.spec.limits),
        };
        let entry = Entry {
            record: record.clone(),
            state,
            activity,
            stop,
            commands,
            settled,
        };
        table.insert(record.spec.id, entry);
        tokio::spawn(instance::run(self.clone(), record, origin, received));
        receiver
    }

    /// Takes up what is on disk, waits until each instance's state is known, and removes what is
    /// nobody's.
    async fn find_instances(self: &Arc<Self>) {
        let directory = self.config.instances_dir();
        let found = spawn_blocking(move || read_records(&directory))
            .await
            .unwrap_or_default();
        let settling: Vec<_> = {
            let mut table = self.table();
            found
                .into_iter()
                .map(|(record, stop)| {
                    self.insert(&mut table, Arc::new(record), stop, Origin::Found)
                })
                .collect()
        };
        let count = settling.len();
        let all_settled = async {
            for mut settled in settling {
                let _ = settled.wait_for(|settled| *settled).await;
            }
        };
        if timeout(FIND_MAX, all_settled).await.is_err() {
            warn!("some shims do not answer; their instances are shown as being created");
        }
        info!(count, "found instances of the agent before");
        let host = self.clone();
        // What cannot be removed now is tried again at the next start.
        let _ = spawn_blocking(move || host.remove_strays()).await;
    }

    /// Removes cgroups, sockets and links of instances that are not in the table. Blocks.
    fn remove_strays(&self) {
        let (ids, slots): (Vec<InstanceId>, Vec<u32>) = self
            .table()
            .values()
            .map(|entry| (entry.record.spec.id, entry.record.slot))
            .unzip();
        for id in self
            .cgroups
            .list()
            .into_iter()
            .filter(|id| !ids.contains(id))
        {
            if let Err(error) = self.cgroups.group(id).remove() {
                warn!(instance = %id, %error, "cannot remove a cgroup that belongs to no instance");
            }
        }
        if let Err(error) = self.network.remove_strays(&slots) {
            warn!(%error, "cannot look for links that belong to no instance");
        }
        for entry in fs::read_dir(self.config.shims_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_suffix(".sock")?.parse().ok());
            if id.is_none_or(|id| !ids.contains(&id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Whether the kernel keeps an instance's disk limit. What builds leaves its files, which must be no
    /// project's then.
    pub(crate) fn has_quota(&self, record: &Record) -> bool {
        self.disk == DiskLimit::Quota && record.spec.build.is_none()
    }

    /// What is on record of an instance, and how it is.
    pub(crate) fn record(&self, id: InstanceId) -> Option<(Arc<Record>, InstanceState)> {
        let table = self.table();
        let entry = table.get(&id)?;
        Some((entry.record.clone(), entry.state.clone()))
    }

    /// The record of an instance that has not ended.
    fn live(&self, id: InstanceId) -> Option<Arc<Record>> {
        let table = self.table();
        let entry = table.get(&id)?;
        (!matches!(entry.state, InstanceState::Exited(_))).then(|| entry.record.clone())
    }

    fn update<T>(&self, id: InstanceId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut table = self.table();
        let entry = table.get_mut(&id)?;
        let result = change(entry);
        if !matches!(entry.state, InstanceState::Creating) {
            entry.settled.send_replace(true);
        }
        drop(table);
        self.announce();
        Some(result)
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Entry>> {
        // Every change is one assignment, so that a panic elsewhere leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Host::open`] needs threads for.
struct Prepared {
    config: AgentConfig,
    cgroups: Cgroups,
    network: Network,
    disk: DiskLimit,
}

fn prepare(config: AgentConfig) -> Result<Prepared, AgentError> {
    for directory in [
        config.agent_dir(),
        config.instances_dir(),
        config.logs_dir(),
    ] {
        make_private(&directory)?;
    }
    make_private(&config.shims_dir())?;
    // Builds end with the agent that began them; some may be about to.
    if let Err(error) = tree::remove(&config.builds_dir()) {
        warn!(%error, "what builds have left cannot be removed");
    }
    let filter = config.seccomp();
    seccomp::compile_to(&filter).map_err(|source| AgentError::File {
        doing: "write the system call filter",
        path: filter,
        source,
    })?;
    let cgroups = Cgroups::detect(&config.name)?;
    cgroups.prepare()?;
    let network = Network::prepare(&config)?;
    let disk = DiskLimit::detect(&config.agent_dir());
    Ok(Prepared {
        config,
        cgroups,
        network,
        disk,
    })
}

fn make_private(directory: &Path) -> Result<(), AgentError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o700)))
        .map_err(|source| AgentError::File {
            doing: "make the directory",
            path: directory.to_owned(),
            source,
        })
}

/// The instances on disk. A directory without a readable record was left by a power cut in the middle
/// of a start that was never acknowledged: it is removed. Blocks.
fn read_records(directory: &Path) -> Vec<(Record, Option<StopRecord>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match durable::read_json::<Record>(&record::spec_in(&path)) {
            Ok(Some(record)) => {
                let stop = durable::read_json(&path.join("stop.json")).unwrap_or_default();
                found.push((record, stop));
            }
            other => {
                let error = other.err().map(|error| error.to_string());
                warn!(path = %path.display(), ?error, "removing an instance without a record");
                if let Err(error) = tree::remove(&path) {
                    warn!(path = %path.display(), %error, "cannot remove it");
                }
            }
        }
    }
    found
}

/// See [`Host::reserve`].
pub(crate) struct Place<I> {
    pub(crate) slot: u32,
    host: Arc<Host<I>>,
}

impl<I> Drop for Place<I> {
    fn drop(&mut self) {
        let reserved = self.host.reserved.lock();
        reserved
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.slot);
    }
}

fn free_slot(
    table: &BTreeMap<InstanceId, Entry>,
    reserved: &BTreeSet<u32>,
    slots: u32,
) -> Option<u32> {
    let instances = table.values().map(|entry| entry.record.slot);
    let mut taken: Vec<u32> = instances.chain(reserved.iter().copied()).collect();
    taken.sort_unstable();
    // The first number that is not in its place.
    let free = taken.iter().zip(0..).find(|(slot, place)| *slot != place);
    let free = free.map_or(taken.len() as u32, |(_, place)| place);
    (free < slots).then_some(free)
}

fn check(spec: &InstanceSpec) -> Result<(), EngineError> {
    let variables = || {
        let plain = spec.env.iter();
        plain
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(spec.secret_env.iter())
    };
    let strings = || {
        let pairs = variables().map(|(name, value)| name.len() + value.len() + 1);
        spec.args.iter().map(String::len).chain(pairs)
    };
    let has_zero = |text: &str| text.contains('\0');
    let problem = if strings().sum::<usize>() > SPEC_BYTES_MAX {
        "arguments and environment together are longer than 1 MiB"
    } else if strings().any(|length| length > STRING_BYTES_MAX) {
        "an argument or a variable is longer than 128 KiB"
    } else if spec.args.iter().any(|arg| has_zero(arg))
        || variables().any(|(name, value)| has_zero(name) || has_zero(value))
    {
        "an argument or a variable contains a zero byte"
    } else if variables().any(|(name, _)| name.is_empty() || name.contains('=')) {
        "a variable's name is empty or contains `=`"
    } else if !spec.cwd.is_empty() && !spec.cwd.starts_with('/') || has_zero(&spec.cwd) {
        "the working directory is not absolute"
    } else if spec.limits.memory_bytes < MEMORY_BYTES_MIN {
        "the memory limit is below 8 MiB"
    } else if spec.limits.cpu_millis < 10 || spec.limits.pids_max == 0 {
        "the CPU limit is below 10 thousandths, or no process is allowed"
    } else if !(1..=64).contains(&spec.stop_signal) {
        "the stop signal is not 1 to 64"
    } else {
        return Ok(());
    };
    Err(EngineError::Invalid {
        message: problem.to_owned(),
    })
}

/// What a host has left for instances.
#[derive(Debug, Clone, Copy)]
struct Room {
    places_left: u32,
    /// Bytes; `None` where the kernel does not tell.
    memory_left: Option<u64>,
}

impl Room {
    /// Whether one more may be started, of so many places in all. What is spare leaves twice the
    /// reserve of memory, and a part of the places.
    fn check(self, places: u32, reserve: u64, spare: bool) -> Result<(), EngineError> {
        const MIB: u64 = 1 << 20;
        let (kept_places, kept_memory) = match spare {
            true => (places.div_ceil(SPARED_PLACES), reserve.saturating_mul(2)),
            false => (0, reserve),
        };
        let others = match spare {
            true => " for services that have fewer than their minimum",
            false => "",
        };
        if self.places_left <= kept_places {
            return Err(EngineError::Host {
                message: format!(
                    "{} of {places} places for instances are taken, and {kept_places} are kept{others}: \
                     stop some, or give instances a larger network (`network.ipv4`)",
                    places - self.places_left
                ),
            });
        }
        match self.memory_left {
            Some(left) if left < kept_memory => Err(EngineError::Host {
                message: format!(
                    "the host has {} MiB of memory left, and {} MiB are kept free{others}: stop something, \
                     add memory, or lower `host.memory_reserve`",
                    left / MIB,
                    kept_memory / MIB
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// How many instances are too young to have taken the memory that they will use.
fn young(table: &BTreeMap<InstanceId, Entry>) -> u64 {
    let now = now();
    // A clock that was set back makes nobody young.
    let young = table.values().filter(|entry| {
        let waits = matches!(entry.state, InstanceState::Creating);
        let created_at = entry.record.created_at;
        waits || created_at <= now && now.since(created_at) < YOUNG
    });
    young.count() as u64
}

/// Kills instances that hold more than they may, where the kernel does not keep the limit itself.
async fn watch_disk<I: Images>(host: std::sync::Weak<Host<I>>) {
    let mut watch = disk::Watch::default();
    let mut tick = interval(disk::WATCH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(host) = host.upgrade() else {
            return;
        };
        let directory = host.config.agent_dir();
        let free = blocking(move || Ok(disk::free_bytes(&directory)))
            .await
            .unwrap_or(u64::MAX);
        if free < BUILDS_FREE_BYTES_MIN {
            host.kill_builds().await;
        } else if watch.is_due(free) {
            host.kill_too_large().await;
        }
    }
}

impl<I: Images> Host<I> {
    /// Kills what builds: the disk is nearly full, whoever filled it.
    async fn kill_builds(&self) {
        let commands: Vec<_> = {
            let table = self.table();
            let building = table.values().filter(|entry| {
                entry.record.spec.build.is_some()
                    && !matches!(entry.state, InstanceState::Exited(_))
            });
            building.map(|entry| entry.commands.clone()).collect()
        };
        for commands in commands {
            let cause = ExitCause::OutOfDisk;
            let _ = commands.send(Command::Kill { cause }).await;
        }
    }

    async fn kill_too_large(&self) {
        let live: Vec<_> = self
            .live_instances()
            .into_iter()
            .filter_map(|id| {
                let table = self.table();
                let entry = table.get(&id)?;
                let is_watched = !self.has_quota(&entry.record);
                is_watched.then(|| (entry.record.clone(), entry.commands.clone()))
            })
            .collect();
        for (record, commands) in live {
            let [upper, ..] = record.paths(&self.config).trees();
            let spec = &record.spec;
            let cache = spec.build.map(|build| {
                let directory = builds::cache(&self.config, spec.service);
                (
                    directory,
                    build.cache_bytes_max.saturating_mul(CACHE_OVERRUN),
                )
            });
            let disk_bytes = spec.limits.disk_bytes;
            let measured = blocking(move || match cache {
                None => Ok((tree::measure(&upper), false)),
                // One that builds may have more in it than can be measured.
                Some((cache, bytes_max)) => {
                    let is_full = tree::exceeds(&cache, bytes_max);
                    Ok((0, is_full || tree::exceeds(&upper, disk_bytes)))
                }
            });
            let (held, is_full) = measured.await.unwrap_or_default();
            if held > disk_bytes || is_full {
                warn!(instance = %record.spec.id, held, "instance exceeds its disk limit");
                let _ = commands
                    .send(Command::Kill {
                        cause: ExitCause::OutOfDisk,
                    })
                    .await;
            }
        }
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as u64)
}

pub(crate) fn host_error(doing: &str, error: &io::Error) -> EngineError {
    EngineError::Host {
        message: format!("cannot {doing}: {error}"),
    }
}

fn panicked(doing: &'static str, source: tokio::task::JoinError) -> AgentError {
    AgentError::File {
        doing,
        path: Default::default(),
        source: io::Error::other(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_host_refuses_and_a_nearly_full_one_refuses_what_is_spare() {
        const MIB: u64 = 1 << 20;
        let check = |places_left, mib: Option<u64>, spare| {
            let room = Room {
                places_left,
                memory_left: mib.map(|mib| mib * MIB),
            };
            room.check(250, 100 * MIB, spare)
                .map_err(|error| error.to_string())
        };
        for (places_left, mib) in [(1, 100), (250, 1 << 20)] {
            assert_eq!(check(places_left, Some(mib), false), Ok(()));
        }
        assert_eq!(check(17, Some(200), true), Ok(()));
        assert_eq!(check(17, None, true), Ok(()));
        for (places_left, mib, spare, why) in [
            (0, 9_000, false, "250 of 250 places"),
            (0, 9_000, true, "250 of 250 places"),
            (16, 9_000, true, "16 are kept for services"),
            (
                250,
                99,
                false,
                "99 MiB of memory left, and 100 MiB are kept free:",
            ),
            (250, 199, true, "200 MiB are kept free for services"),
        ] {
            let refused = check(places_left, Some(mib), spare).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}

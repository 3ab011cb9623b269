//! The life of one instance: one task that alone acts on it.
//!
//! Started or found, supervised until it ends, cleaned up, kept until it is removed. The task holds
//! no state that is not on disk or in the shim, so that an agent can be killed at any point and the
//! next one goes on: a start that was cut off is found without a shim, a stop is in `stop.json`, an
//! end is in `exit.json`.

use std::{
    fs, io,
    os::fd::OwnedFd,
    os::unix::fs::{DirBuilderExt, PermissionsExt, lchown},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ekiden_engine::EngineError;
use ekiden_model::{
    instance::{Activity, ExitCause},
    secret_env::SecretEnv,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use crate::{
    builds, disk, durable,
    host::{Host, blocking, now},
    images::Images,
    link::{Gone, NewShim, ShimLink},
    log,
    record::Record,
    resolver,
    shim::protocol::{BuildOrder, ExitRecord, FromShim, StartOrder, ToShim},
    tree,
};

/// How long a shim may take from its order to a running process. On an idle machine it is
/// milliseconds.
const START_MAX: Duration = Duration::from_secs(20);

/// How often a shim's socket is tried, and how long between, before its instance is given up for
/// lost: a shim that got its order as the agent was killed needs a moment to make the socket.
const CONNECT_TRIES: u32 = 10;
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// What may be asked of an instance's task.
pub(crate) enum Command {
    /// End it, politely. Recorded before.
    Stop { grace_ms: u64 },
    /// Let it do so much.
    SetActivity {
        activity: Activity,
        done: oneshot::Sender<Result<(), EngineError>>,
    },
    /// Kill it, for this reason.
    Kill { cause: ExitCause },
    /// Kill it if it still runs, and remove every trace but its logs.
    Remove {
        done: oneshot::Sender<Result<(), EngineError>>,
    },
}

/// How the task comes by its instance.
pub(crate) enum Origin {
    /// It was just accepted, with these secret variables, which are nowhere else.
    New(SecretEnv),
    /// It was found on disk.
    Found,
}

/// Runs an instance's task until it is removed or the agent stops.
pub(crate) async fn run<I: Images>(
    host: Arc<Host<I>>,
    record: Arc<Record>,
    origin: Origin,
    commands: mpsc::Receiver<Command>,
) {
    let began = std::time::Instant::now();
    // Kept until the instance has ended. Without it the start fails and says so; an instance that was
    // found has its layers mounted.
    let hold = host.images.hold(record.spec.image);
    let mut task = Task {
        host,
        record,
        commands,
        removers: Vec::new(),
    };
    let link = match origin {
        Origin::New(secrets) => task.launch(secrets).await,
        Origin::Found => task.find().await,
    };
    // The disk is not waited for: what a power cut can lose of an instance that has just been started
    // is nothing more than that it was lost with the machine.
    let synced = task.sync_record();
    let end = match link {
        Ok(link) => tokio::join!(task.supervise(link, began), synced).0,
        Err(end) => Some(end),
    };
    // Without an end the agent stops and the instance goes on.
    if let Some(end) = end {
        task.settle(end).await;
        // What it has left of an image that it built upon may become one.
        let _hold = task.record.spec.build.and(Some(hold));
        task.wait_for_removal().await;
    }
}

struct Task<I> {
    host: Arc<Host<I>>,
    record: Arc<Record>,
    commands: mpsc::Receiver<Command>,
    /// Who waits for its removal.
    removers: Vec<oneshot::Sender<Result<(), EngineError>>>,
}

impl<I: Images> Task<I> {
    /// Makes everything an instance needs, all at the same time, and gives its shim the order.
    async fn launch(&self, secrets: SecretEnv) -> Result<ShimLink, ExitRecord> {
        let (host, record) = (&self.host, &self.record);
        let failed = |message: String| ExitRecord {
            cause: ExitCause::StartFailed { message },
            at: now(),
        };
        let Ok(_permit) = host.starts.acquire().await else {
            return Err(failed("the agent is stopping".to_owned()));
        };
        let paths = record.paths(&host.config);
        let made = private_directory(&paths.directory);
        made.map_err(|error| failed(format!("cannot make the instance's directory: {error}")))?;
        // Each runs to its end whatever the others do; then the first failure counts, and what the
        // others have made is removed when the instance is settled.
        let (written, trees, group, network, layers, shim, build) = tokio::join!(
            blocking({
                let (record, path) = (record.clone(), paths.spec());
                move || durable::write_json_unsynced(&path, &*record)
            }),
            self.make_trees(),
            blocking({
                let (group, limits) = (host.cgroups.group(record.spec.id), record.spec.limits);
                move || group.create(&limits).map_err(io::Error::other)
            }),
            blocking({
                let (host, slot) = (host.clone(), record.slot);
                move || {
                    host.network
                        .create_namespace(slot)
                        .map_err(io::Error::other)
                }
            }),
            async { host.images.layers(record.spec.image) },
            async { NewShim::spawn(&host.config.shim_program) },
            self.prepare_build(),
        );
        let made = || -> io::Result<(OwnedFd, NewShim)> {
            written.map_err(|error| doing("record the instance", error))?;
            trees.map_err(|error| doing("make the instance's file system", error))?;
            group.map_err(|error| doing("limit the instance", error))?;
            let network = network.map_err(|error| doing("connect the instance", error))?;
            Ok((network, shim.map_err(|error| doing("start a shim", error))?))
        };
        let layers = layers.map_err(|error| failed(error.to_string()))?;
        let (network, shim) = made().map_err(|error| failed(error.to_string()))?;
        let build = build.map_err(|error| failed(error.to_string()))?;
        let order = self.order(layers, secrets, build).await;
        shim.order(order, network)
            .await
            .map_err(|error| failed(format!("cannot give the shim its order: {error}")))
    }

    /// Makes what an instance that builds finds below `/run/ekiden`.
    async fn prepare_build(&self) -> io::Result<Option<BuildOrder>> {
        let Some(build) = self.record.spec.build else {
            return Ok(None);
        };
        let (config, service) = (self.host.config.clone(), self.record.spec.service);
        let prepared = blocking(move || {
            let cache = builds::make_cache(&config, service, build.cache_bytes_max)
                .map_err(|error| doing("make the build's cache", error))?;
            let read = config.build_authorities.map(fs::read_to_string).transpose();
            let authorities = read.map_err(|error| {
                doing("read the certificates of `builds.ca_certificates`", error)
            })?;
            Ok(BuildOrder { cache, authorities })
        });
        prepared.await.map(Some)
    }

    /// Makes the record last.
    fn sync_record(&self) -> impl Future<Output = ()> + use<I> {
        let path = self.record.paths(&self.host.config).spec();
        let id = self.record.spec.id;
        async move {
            if let Err(error) = blocking(move || durable::sync(&path)).await {
                warn!(instance = %id, %error, "cannot sync an instance's record");
            }
        }
    }

    async fn order(
        &self,
        layers: Vec<PathBuf>,
        secrets: SecretEnv,
        build: Option<BuildOrder>,
    ) -> StartOrder {
        let (host, spec) = (&self.host, &self.record.spec);
        let paths = self.record.paths(&host.config);
        let dns = host.config.dns.clone();
        let resolv_conf = blocking(move || Ok(resolver::resolv_conf(&dns)))
            .await
            .unwrap_or_default();
        let host_name = spec.id.short();
        StartOrder {
            args: spec.args.clone(),
            env: spec
                .env
                .iter()
                .filter(|(name, _)| !secrets.contains(name))
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            secret_env: secrets,
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            layers,
            directory: paths.directory,
            logs: paths.logs,
            socket: paths.socket,
            seccomp: host.config.seccomp(),
            group: host.cgroups.group(spec.id),
            shims: host.cgroups.shims(),
            uid_base: self.record.uid_base(),
            resolv_conf,
            hosts: resolver::hosts(&host_name, &host.network.addresses(self.record.slot)),
            host_name,
            build,
        }
    }

    /// Looks for an instance whose record was on disk: its shim, or how it ended.
    async fn find(&self) -> Result<ShimLink, ExitRecord> {
        let paths = self.record.paths(&self.host.config);
        for _ in 0..CONNECT_TRIES {
            if let Some(end) = self.end_on_disk().await {
                return Err(end);
            }
            if let Ok(mut link) = ShimLink::connect(&paths.socket).await
                && link.ask(&ToShim::Status).await.is_ok()
            {
                return Ok(link);
            }
            sleep(CONNECT_PAUSE).await;
        }
        Err(self.lost().await)
    }

    /// Passes on what is asked and what the shim says, until the instance has ended; `None` when the
    /// agent stops before.
    async fn supervise(
        &mut self,
        mut link: ShimLink,
        began: std::time::Instant,
    ) -> Option<ExitRecord> {
        let id = self.record.spec.id;
        let deadline = Instant::now() + START_MAX;
        let mut is_running = false;
        loop {
            tokio::select! {
                // Cancel-safe, all three: two channels and an absolute time.
                said = link.next() => match said? {
                    Ok(FromShim::Running { started_at, .. }) => {
                        if !is_running {
                            let took_ms = began.elapsed().as_millis() as u64;
                            info!(instance = %id, service = %self.record.spec.service, took_ms, "instance runs");
                        }
                        is_running = true;
                        self.host.set_running(id, started_at);
                        if let Some(grace_ms) = self.host.stop_asked(id) {
                            self.stop(&mut link, grace_ms).await;
                        }
                    }
                    Ok(FromShim::Exited(end)) => {
                        link.reap().await;
                        return Some(end);
                    }
                    Ok(FromShim::Done) => {}
                    Ok(FromShim::NotOffered { message }) => {
                        warn!(instance = %id, message, "the shim refused a request");
                    }
                    Err(Gone) => {
                        link.end().await;
                        return Some(match self.end_on_disk().await {
                            Some(end) => end,
                            None => self.lost().await,
                        });
                    }
                },
                command = self.commands.recv() => match command? {
                    Command::Stop { grace_ms } => if is_running {
                        self.stop(&mut link, grace_ms).await;
                    },
                    Command::SetActivity { activity, done } => {
                        // Whoever was asked to stop since then is awake and stays so.
                        let set = match self.host.stop_asked(id) {
                            None => self.set_activity(activity).await,
                            Some(_) => Ok(()),
                        };
                        let _ = done.send(set);
                    }
                    Command::Kill { cause } => self.ask(&mut link, ToShim::Kill { cause: Some(cause) }).await,
                    Command::Remove { done } => {
                        self.removers.push(done);
                        self.ask(&mut link, ToShim::Kill { cause: None }).await;
                    }
                },
                () = sleep_until(deadline), if !is_running => {
                    link.end().await;
                    let message = format!("it did not start within {} seconds", START_MAX.as_secs());
                    return Some(ExitRecord { cause: ExitCause::StartFailed { message }, at: now() });
                }
            }
        }
    }

    /// Asks it to end; only whoever is awake can hear that.
    async fn stop(&self, link: &mut ShimLink, grace_ms: u64) {
        if let Err(error) = self.set_activity(Activity::Active).await {
            warn!(instance = %self.record.spec.id, %error, "cannot wake an instance that is to stop");
        }
        let signal = self.record.spec.stop_signal;
        self.ask(link, ToShim::Stop { grace_ms, signal }).await;
    }

    async fn set_activity(&self, activity: Activity) -> Result<(), EngineError> {
        let (id, limits) = (self.record.spec.id, self.record.spec.limits);
        let group = self.host.cgroups.group(id);
        let set = blocking({
            let group = group.clone();
            move || {
                group
                    .set_activity(&limits, activity)
                    .map_err(io::Error::other)
            }
        });
        set.await.map_err(|error| EngineError::Host {
            message: format!("cannot make instance {id} {activity}: {error}"),
        })?;
        self.host.set_activity_seen(id, activity);
        if activity == Activity::Frozen {
            // Not waited for: whoever wakes it meanwhile ends it.
            spawn_blocking(move || group.reclaim());
        }
        Ok(())
    }

    async fn ask(&self, link: &mut ShimLink, request: ToShim) {
        if let Err(error) = link.ask(&request).await {
            // Its connection ends as well then, and the loop sees that.
            warn!(instance = %self.record.spec.id, %error, "cannot reach the shim");
        }
    }

    /// Records the end where the shim could not, says it, and gives back what only a running instance
    /// needs.
    async fn settle(&self, end: ExitRecord) {
        let (host, record) = (self.host.clone(), self.record.clone());
        let id = record.spec.id;
        info!(instance = %id, service = %record.spec.service, cause = %end.cause, "instance ended");
        let path = record.paths(&host.config).directory.join(ExitRecord::FILE);
        let written = end.clone();
        let recorded = blocking(move || match path.exists() {
            true => Ok(()),
            false => durable::write_json(&path, &written),
        });
        if let Err(error) = recorded.await {
            warn!(instance = %id, %error, "cannot record how the instance ended");
        }
        host.set_exited(id, end.cause, end.at);
        // It is never closed; without a turn it goes on all the same.
        let _turn = self.host.removals.acquire().await;
        let released = blocking(move || {
            let paths = record.paths(&host.config);
            let group = host.cgroups.group(id).remove().map_err(io::Error::other);
            let _ = fs::remove_file(&paths.socket);
            let trees = match &record.spec.build {
                None => paths.trees().iter().try_for_each(|path| tree::remove(path)),
                // It may become a layer.
                Some(_) => Ok(()),
            };
            log::read::trim(
                &host.config.logs_dir(),
                record.spec.service,
                &host.live_instances(),
            );
            group.and(trees)
        });
        if let Err(error) = released.await {
            warn!(instance = %id, %error, "cannot remove all of an instance; it is tried again at its removal");
        }
    }

    /// Keeps an ended instance until somebody has it removed.
    async fn wait_for_removal(mut self) {
        loop {
            if self.removers.is_empty() {
                match self.commands.recv().await {
                    Some(Command::Remove { done }) => self.removers.push(done),
                    Some(
                        Command::SetActivity { .. } | Command::Stop { .. } | Command::Kill { .. },
                    ) => {
                        continue;
                    }
                    None => return, // the agent stops
                }
            }
            let removed = self.remove().await;
            if let Err(error) = &removed {
                warn!(instance = %self.record.spec.id, %error, "cannot remove an instance");
            } else {
                self.host.forget(self.record.spec.id);
            }
            for remover in self.removers.drain(..) {
                // One that has left asks again or does not care.
                let _ = remover.send(removed.clone());
            }
            if removed.is_ok() {
                return;
            }
        }
    }

    async fn remove(&self) -> Result<(), EngineError> {
        let (host, record) = (self.host.clone(), self.record.clone());
        let _turn = self.host.removals.acquire().await;
        let removed = blocking(move || {
            let paths = record.paths(&host.config);
            host.cgroups
                .group(record.spec.id)
                .remove()
                .map_err(io::Error::other)?;
            if record.spec.build.is_some() {
                tree::remove(&paths.logs)?;
            }
            tree::remove(&paths.directory)
        });
        removed.await.map_err(|error| EngineError::Host {
            message: format!("cannot remove instance {}: {error}", self.record.spec.id),
        })
    }

    async fn end_on_disk(&self) -> Option<ExitRecord> {
        let path = self
            .record
            .paths(&self.host.config)
            .directory
            .join(ExitRecord::FILE);
        // One that cannot be read says nothing, and then the instance is lost.
        blocking(move || durable::read_json(&path))
            .await
            .ok()
            .flatten()
    }

    /// Its shim is gone without a word. The kernel has killed the container with it, unless its first
    /// process has changed its user since (prctl(2), PR_SET_PDEATHSIG): what is left is killed here.
    async fn lost(&self) -> ExitRecord {
        let group = self.host.cgroups.group(self.record.spec.id);
        let _ = spawn_blocking(move || group.kill()).await;
        ExitRecord {
            cause: ExitCause::Lost,
            at: now(),
        }
    }

    /// The directories of the overlay, owned by root inside.
    async fn make_trees(&self) -> io::Result<()> {
        let (host, record) = (self.host.clone(), self.record.clone());
        blocking(move || {
            let trees = record.paths(&host.config).trees();
            let owner = record.uid_base().unwrap_or(0);
            for tree in &trees {
                fs::create_dir(tree)?;
                // Whatever the agent's own mask is: `upper` becomes `/`, which everyone passes.
                fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
                lchown(tree, Some(owner), Some(owner))?;
            }
            if host.has_quota(&record) {
                let [upper, work, _] = &trees;
                let bytes = record.spec.limits.disk_bytes;
                disk::limit(&host.config.name, record.slot, &[upper, work], bytes)?;
            }
            Ok(())
        })
        .await
    }
}

fn private_directory(path: &std::path::Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Says what failed, and why down to the root: it becomes one sentence for people.
fn doing(what: &str, error: io::Error) -> io::Error {
    let mut text = format!("cannot {what}: {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    io::Error::other(text)
}

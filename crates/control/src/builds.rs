//! Builds: from a service's source to an image.
//!
//! A build is one function that may be dropped at any instant and called again: it gets the source
//! ([`sources`]), plans ([`ekiden_build`]), and runs the plan's steps ([`steps`]). What a step has made is
//! remembered by everything that goes into it, so that a build that is begun again goes on where it was,
//! and one whose source has hardly changed does hardly anything.
//!
//! What it began and did not end, because it was dropped or its control plane was, is removed by
//! [`Builds::sweep`].

pub(crate) mod log;
mod sources;
mod steps;
pub(crate) mod uploads;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ekiden_build::{
    apprunner_yaml,
    ekiden_yaml::EkidenYaml,
    plan::{Base, DockerfilePlan, Input, Plan, Run},
    planner::{self, CodeValues, Method, Overrides, Request},
    runtime::Runtimes,
};
use ekiden_engine::{DockerfileRecipe, Engine, EngineError, ImageRecipe, MadeImage};
use ekiden_model::{
    id::{InstanceId, OperationId, ServiceId},
    image::{Digest, ImageConfig},
    instance::{BUILD_AUTHORITIES, Limits},
    name::ServiceName,
    narrative::operation_stream,
    revision::PIDS_MAX_DEFAULT,
    secret_env::SecretEnv,
    secret_reference::SecretReference,
    service::{FailureCause, OperationKind, ServiceStatus},
    source::{Built, BuiltFrom, CodeSource, Prepared},
};
use ekiden_store::{Store, StoreError};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{
    log::{Besides, BuildLogs, OpenLog},
    sources::{Sources, Tree},
    steps::{Steps, make, working_dir},
};
use crate::{
    clock,
    config::BuildsConfig,
    keyring::Keyring,
    logs::{GroupKind, LineWriter},
    vault::{ResolveError, Vault},
    worker::Chain,
};

/// How often what no build needs is looked for, besides when instances change.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// How long until an instance that could not be removed is removed again.
const SWEEP_RETRY: Duration = Duration::from_secs(5);

/// Notices of webhooks that are read at one time.
const NOTICES_MAX: usize = 8;

/// Lines that the reason of a failed build quotes.
const LINES_QUOTED: usize = 20;

/// What is built, and for whom.
pub(crate) struct Order {
    pub(crate) service: ServiceId,
    pub(crate) service_name: ServiceName,
    pub(crate) region: String,
    pub(crate) operation: OperationId,
    pub(crate) source: CodeSource,
    /// Of the settings of the service: what runs it when the API says how.
    pub(crate) port: u16,
    pub(crate) env: BTreeMap<String, String>,
}

/// Why there is no image.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// What is wrong with the source, its plan, or what it runs.
    Failed(String),
    /// It took longer than a build may.
    TooLong,
    /// The engine cannot be reached now.
    Engine(EngineError),
    /// The store failed.
    Store(StoreError),
}

/// A failed build, for its operation.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: BuildError,
    /// The last lines of what ran.
    pub(crate) lines: Vec<String>,
}

impl std::convert::From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl std::convert::From<EngineError> for BuildError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Unavailable { .. } => Self::Engine(error),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Builds, for all services.
pub(crate) struct Builds<E> {
    engine: Arc<E>,
    store: Arc<Store>,
    vault: Vault,
    images_changed: Arc<Notify>,
    config: BuildsConfig,
    runtimes: Runtimes,
    pub(crate) sources: Sources,
    pub(crate) logs: Arc<BuildLogs>,
    /// Uploads that may be on their way.
    pub(crate) uploads: Semaphore,
    /// Notices of webhooks that may be on their way.
    pub(crate) notices: Semaphore,
    lines: LineWriter,
    places: Semaphore,
    active: Arc<Active>,
}

impl<E> std::fmt::Debug for Builds<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Builds")
    }
}

impl<E: Engine> Builds<E> {
    /// Builds as configured.
    ///
    /// # Errors
    /// When a runtime cannot be read, or the directory of sources not made.
    #[allow(clippy::too_many_arguments)] // a list of its parts, called once
    pub(crate) fn new(
        engine: Arc<E>,
        store: Arc<Store>,
        vault: Vault,
        keyring: Arc<Keyring>,
        images_changed: Arc<Notify>,
        config: BuildsConfig,
        data_dir: &std::path::Path,
        lines: LineWriter,
    ) -> std::io::Result<Self> {
        let runtimes = Runtimes::with(config.runtimes.clone()).map_err(std::io::Error::other)?;
        Ok(Self {
            sources: Sources::open(
                data_dir.join("sources"),
                Arc::clone(&store),
                keyring,
                &config,
            )?,
            logs: Arc::new(BuildLogs::new(data_dir.join("builds"))),
            uploads: Semaphore::new(uploads::UPLOADS_MAX),
            notices: Semaphore::new(NOTICES_MAX),
            places: Semaphore::new(config.concurrency.max(1)),
            active: Arc::default(),
            engine,
            store,
            vault,
            images_changed,
            config,
            runtimes,
            lines,
        })
    }

    /// Builds what is ordered.
    ///
    /// # Errors
    /// [`Failed`], with the last lines of what ran.
    pub(crate) async fn build(&self, order: Order) -> Result<Prepared, Failed> {
        let stream = operation_stream(OperationKind::StartDeployment, order.operation);
        let besides = Besides {
            lines: self.lines.clone(),
            group: GroupKind::Service
                .group(&order.service_name, order.service)
                .into(),
            stream: stream.into(),
        };
        let log = self
            .logs
            .begin(order.service, order.operation, Some(besides));
        let built = self.build_with(&order, &log).await;
        match &built {
            Ok(_) => log.conclude("Successfully built your application source code."),
            Err(error @ (BuildError::Engine(_) | BuildError::Store(_))) => {
                log.say(format!("{error}; the build begins anew when that is over"));
            }
            Err(error) => {
                let message = error.to_string();
                log.conclude(FailureCause::Build { message }.to_string());
            }
        }
        built.map_err(|error| Failed {
            error,
            lines: log.last(LINES_QUOTED),
        })
    }

    async fn build_with(&self, order: &Order, log: &OpenLog) -> Result<Prepared, BuildError> {
        if self.places.available_permits() == 0 {
            log.say("waiting for other builds to end (`builds.concurrency`)");
        }
        // Never closed.
        let _place = self.places.acquire().await;
        let began = Instant::now();
        let deadline = began + self.config.time_limit;
        let building = async {
            let tree = self.sources.get(order, log).await?;
            let built = self.build_tree(order, &tree, deadline, log).await?;
            log.say(format!(
                "image {} built in {:.1} s",
                built.image.digest.short(),
                began.elapsed().as_secs_f64()
            ));
            Ok(built)
        };
        match tokio::time::timeout_at(deadline, building).await {
            Ok(built) => built,
            Err(_) => Err(BuildError::TooLong),
        }
        .map_err(|error| match error {
            BuildError::TooLong => BuildError::Failed(format!(
                "it was not done within {} (`builds.time_limit`)",
                span(self.config.time_limit)
            )),
            other => other,
        })
    }

    async fn build_tree(
        &self,
        order: &Order,
        tree: &Tree,
        deadline: Instant,
        log: &OpenLog,
    ) -> Result<Prepared, BuildError> {
        let options = tree.options().map_err(BuildError::Failed)?;
        for warning in &options.build.warnings {
            log.say(format!("warning: {warning}"));
        }
        let request = request(order, &options);
        let by_file = request.method.reads_apprunner_yaml(tree);
        if by_file {
            log.say(apprunner_yaml::LOG_READING);
        }
        let mut planned = planner::plan(tree, &request, &self.runtimes)
            .map_err(|error| BuildError::Failed(error.to_string()))?;
        if by_file {
            log.say(apprunner_yaml::LOG_VALID);
        }
        if order.source.values.is_none() {
            let run = planned.plan.run_mut();
            run.env.extend(options.service.env.clone());
            run.secrets.extend(options.service.secrets.clone());
        }
        for line in planned.lines() {
            log.say(line);
        }
        let secrets = self.secrets(order, &options.build.secrets).await?;
        let (made, runtime) = match &planned.plan {
            Plan::Managed(plan) => {
                let mut plan = plan.clone();
                for step in &mut plan.steps {
                    step.env.extend(options.build.env.clone());
                }
                let made = self.managed(order, tree, &plan, &secrets, deadline, log);
                (made.await?, plan.version)
            }
            Plan::Dockerfile(plan) => {
                let made = self.dockerfile(order, tree, plan, secrets, deadline, log);
                (made.await?, format!("Dockerfile {}", plan.path))
            }
        };
        let run = planned.plan.run();
        let is_of_tree = order.source.values.is_none();
        Ok(Prepared {
            image: made.image,
            built: Some(Built {
                from: BuiltFrom {
                    version: tree.version.clone(),
                    summary: tree.summary.clone(),
                    runtime,
                    tree: tree.id.clone(),
                },
                port: is_of_tree.then_some(run.port),
                secrets: match is_of_tree {
                    true => Some(references(&run.secrets)?),
                    false => None,
                },
            }),
        })
    }

    async fn managed(
        &self,
        order: &Order,
        tree: &Tree,
        plan: &ekiden_build::plan::BuildPlan,
        secrets: &SecretEnv,
        deadline: Instant,
        log: &OpenLog,
    ) -> Result<MadeImage, BuildError> {
        let base = match &plan.base {
            Base::Packages { packages } => {
                let packages = packages.clone();
                make(&self.engine, &ImageRecipe::Base { packages }, log)
                    .await?
                    .image
            }
            Base::Image(reference) => self.engine.prepare_image(reference).await?,
        };
        let working_dir = working_dir(&order.source.directory);
        let steps = Steps {
            engine: &self.engine,
            store: &self.store,
            active: &self.active,
            images_changed: &self.images_changed,
            log,
            service: order.service,
            service_name: &order.service_name,
            base: base.digest,
            base_env: &base.config.env,
            working_dir: &working_dir,
            limits: self.config.limits(),
            cache_bytes_max: self.config.cache_bytes_max,
            epoch: tree.files.epoch(),
            secrets,
            deadline,
            reuse: true,
        };
        let config = image_config(&plan.run, &base.config);
        let input = |input: Input| self.input(tree, input, log);
        steps.run(&plan.steps, plan.image, config, input).await
    }

    /// The image of what a step is given of the source, and the newest time in it.
    async fn input(
        &self,
        tree: &Tree,
        input: Input,
        log: &OpenLog,
    ) -> Result<Option<(Digest, u64)>, BuildError> {
        let (digest, epoch) = match input {
            Input::Nothing => return Ok(None),
            Input::Source => (tree.files.digest(), tree.files.epoch()),
            Input::Files(files) => self.sources.subset(tree, &files).await?,
        };
        let recipe = ImageRecipe::Source { digest };
        let made = make(&self.engine, &recipe, log).await?;
        Ok(Some((made.image.digest, epoch)))
    }

    async fn dockerfile(
        &self,
        order: &Order,
        tree: &Tree,
        plan: &DockerfilePlan,
        secrets: SecretEnv,
        deadline: Instant,
        log: &OpenLog,
    ) -> Result<MadeImage, BuildError> {
        let source = ImageRecipe::Source {
            digest: self.sources.context(tree).await?,
        };
        let source = make(&self.engine, &source, log).await?.image.digest;
        let build = self.active.enter(&self.engine);
        let recipe = ImageRecipe::Dockerfile(Box::new(DockerfileRecipe {
            service: order.service,
            build: build.id,
            source,
            dockerfile: plan.path.clone(),
            target: plan.target.clone(),
            args: plan.args.clone(),
            secrets,
            limits: self.config.limits(),
            seconds_max: deadline.saturating_duration_since(Instant::now()).as_secs(),
            cache_bytes_max: self.config.cache_bytes_max,
        }));
        let made = make(&self.engine, &recipe, log).await?;
        let config = dockerfile_config(&plan.run, &made.image.config);
        match config == made.image.config {
            true => Ok(made),
            false => {
                let images = vec![made.image.digest];
                make(&self.engine, &ImageRecipe::Stack { images, config }, log).await
            }
        }
    }

    async fn secrets(
        &self,
        order: &Order,
        wanted: &BTreeMap<String, String>,
    ) -> Result<SecretEnv, BuildError> {
        let references = references(wanted)?;
        let resolved = self.vault.resolve(&order.region, &references).await;
        resolved.map_err(|error| match error {
            ResolveError::Store(error) => BuildError::Store(error),
            ResolveError::Refused(message) => {
                BuildError::Failed(format!("a secret of the build cannot be had: {message}"))
            }
        })
    }

    /// Forgets everything about a service that is gone.
    pub(crate) async fn forget(self: &Arc<Self>, service: ServiceId) {
        let builds = Arc::clone(self);
        let removed = tokio::task::spawn_blocking(move || {
            builds.logs.forget(service);
            builds.sources.forget(service);
        });
        if let Err(error) = removed.await {
            warn!(%service, %error, "what is kept of builds cannot be removed");
        }
        if let Err(error) = self.sources.put_webhook_secret(service, None).await {
            warn!(%service, error = %Chain(&error), "a webhook's secret cannot be forgotten");
        }
        if let Err(error) = self.store.forget_build_steps(service).await {
            warn!(%service, error = %Chain(&error), "build steps cannot be forgotten");
        }
    }

    /// Removes source trees that no service is configured to run.
    async fn sweep_sources(self: &Arc<Self>) {
        // First what there is, then who may have it: none that comes between is taken for gone.
        let mut kept = self.store.built_services().await.unwrap_or_default();
        kept.extend(self.logs.services());
        kept.extend(self.sources.services());
        kept.sort();
        kept.dedup();
        let services = match self.store.services().await {
            Ok(services) => services,
            Err(error) => {
                return warn!(error = %Chain(&error), "old source trees cannot be told from others");
            }
        };
        let alive: HashSet<ServiceId> = services
            .iter()
            .filter(|stored| stored.service.settled != ServiceStatus::Deleted)
            .map(|stored| stored.service.id)
            .collect();
        // What a control plane that was killed as it deleted a service has not come to.
        for gone in kept.into_iter().filter(|id| !alive.contains(id)) {
            self.forget(gone).await;
        }
        let settings = services
            .iter()
            .flat_map(|stored| [&stored.service.settings, stored.service.settings_wanted()]);
        let versions = settings.filter_map(|settings| settings.source.as_ref());
        let needed: HashSet<Digest> = versions
            .filter_map(|source| source.version.parse().ok())
            .collect();
        let names = services
            .iter()
            .filter(|stored| stored.service.deleted_at.is_none());
        let named: HashSet<String> = names
            .map(|stored| format!("{}.{}", stored.region, stored.service.name))
            .collect();
        let builds = Arc::clone(self);
        let swept =
            tokio::task::spawn_blocking(move || builds.sources.sweep(&needed, &named)).await;
        if let Ok(Err(error)) = swept {
            warn!(%error, "old source trees cannot be removed");
        }
    }

    /// Removes instances of builds that are over, and old source trees, until told to stop.
    pub(crate) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut observed = self.engine.observe();
        let mut swept: Option<Instant> = None;
        loop {
            if swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
                swept = Some(Instant::now());
                self.sweep_sources().await;
            }
            let seen = observed.borrow_and_update().clone();
            let building = seen.instances.iter().filter(|instance| instance.builds);
            let strays: Vec<_> = building
                .map(|instance| instance.id)
                .filter(|id| !self.active.has(*id))
                .collect();
            let mut left = false;
            for stray in strays.into_iter().filter(|_| seen.current) {
                if let Err(error) = self.engine.remove(stray).await {
                    warn!(instance = %stray, %error, "what built cannot be removed");
                    left = true;
                }
            }
            let wait = if left { SWEEP_RETRY } else { SWEEP_EVERY };
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                changed = observed.changed() => if changed.is_err() { return }, // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::TooLong => f.write_str("it took too long"),
            Self::Engine(error) => error.fmt(f),
            Self::Store(error) => Chain(error).fmt(f),
        }
    }
}

/// The instances of builds that run.
#[derive(Debug, Default)]
pub(crate) struct Active(Mutex<HashSet<InstanceId>>);

/// An instance that builds; it is removed when this is dropped.
struct ActiveInstance<E: Engine> {
    id: InstanceId,
    active: Arc<Active>,
    engine: Arc<E>,
}

impl Active {
    /// Counts one more, before it is started.
    fn enter<E: Engine>(self: &Arc<Self>, engine: &Arc<E>) -> ActiveInstance<E> {
        let id = InstanceId::from_bytes(clock::random_id());
        self.lock().insert(id);
        ActiveInstance {
            id,
            active: Arc::clone(self),
            engine: Arc::clone(engine),
        }
    }

    fn has(&self, id: InstanceId) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<InstanceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> Drop for ActiveInstance<E> {
    fn drop(&mut self) {
        self.active.lock().remove(&self.id);
        let (engine, id) = (Arc::clone(&self.engine), self.id);
        // What fails is left to the sweep. Without a runtime the process ends, and the next one sweeps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(engine.remove(id).await) });
        }
    }
}

/// A duration for people.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 120 && seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What the planner is asked.
fn request(order: &Order, options: &EkidenYaml) -> Request {
    let options = &options.build;
    let method = match &order.source.values {
        Some(values) => Method::Values(CodeValues {
            runtime: values.runtime.clone(),
            build_command: values.build_command.clone(),
            start_command: values.start_command.clone(),
            port: Some(order.port),
            env: order.env.clone(),
            secrets: BTreeMap::new(),
        }),
        None => options.method.clone(),
    };
    Request {
        method,
        overrides: Overrides {
            packages: options.packages.clone(),
            // What the API says goes over what the source says.
            ..match &order.source.values {
                Some(_) => Overrides::default(),
                None => Overrides {
                    packages: Vec::new(),
                    build_command: options.build_command.clone(),
                    start_command: options.start_command.clone(),
                    port: options.port,
                },
            }
        },
        source_directory: order.source.directory.clone(),
    }
}

fn references(
    texts: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, SecretReference>, BuildError> {
    let parsed = texts.iter().map(|(name, text)| {
        let reference = text.parse::<SecretReference>();
        reference
            .map(|reference| (name.clone(), reference))
            .map_err(|error| BuildError::Failed(format!("secret {name}: {error}")))
    });
    parsed.collect()
}

/// What an image says that is built on a base: it runs a command by a shell, where the source is.
fn image_config(run: &Run, base: &ImageConfig) -> ImageConfig {
    let mut config = ImageConfig {
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        env: base.env.clone(),
        working_dir: run.working_dir.clone(),
        user: String::new(),
        stop_signal: String::new(),
    };
    put_run(run, &mut config);
    config
}

/// What an image says that a Dockerfile describes: its own, but for what was configured over it.
fn dockerfile_config(run: &Run, own: &ImageConfig) -> ImageConfig {
    let mut config = own.clone();
    // They were its steps' only.
    let is_of_build = |pair: &String| {
        let value = pair.split_once('=').map(|(_, value)| value);
        value == Some(BUILD_AUTHORITIES)
    };
    config.env.retain(|pair| !is_of_build(pair));
    if run.command.is_some() {
        config.entrypoint.clear();
    }
    put_run(run, &mut config);
    config
}

fn put_run(run: &Run, config: &mut ImageConfig) {
    if let Some(command) = &run.command {
        config.cmd = ["/bin/sh", "-c", command].map(str::to_owned).into();
    }
    let port = run.port.to_string();
    let port_env = run.port_env.as_ref().map(|name| (name, &port));
    for (name, value) in run.env.iter().chain(port_env) {
        config
            .env
            .retain(|pair| pair.split_once('=').is_none_or(|(other, _)| other != name));
        config.env.push(format!("{name}={value}"));
    }
}

impl BuildsConfig {
    /// What one build may use.
    fn limits(&self) -> Limits {
        Limits {
            cpu_millis: self.cpu_millis,
            memory_bytes: self.memory_bytes,
            pids_max: PIDS_MAX_DEFAULT,
            disk_bytes: self.disk_bytes,
        }
    }
}

//! The worker of one service: its only writer.
//!
//! A worker owns a service from creation to deletion. It takes requests that change the service
//! one after another, looks at what the engine, the probes and the edges show, asks
//! [`ekiden_model::plan`] what to do, and does it. It decides nothing itself.
//!
//! Everything it remembers beyond the store may be lost at any instant: starts in flight are found
//! again among the engine's instances, an image is asked for again, and instances that were in the
//! stored route are taken to be healthy until their probes say otherwise.

mod calls;
mod scaling;
mod seen;
mod starts;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ekiden_engine::{Engine, EngineError, LOG_LINES_MAX, LogQuery};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    instance::{Activity, RevisionNumber, StopReason},
    narrative,
    plan::{self, ImageProgress, InstanceView, Plan, Step, Timing, View},
    revision::Revision,
    route::{Generation, Route},
    scale::Demand,
    scaling::ScalingDefaults,
    secret_env::SecretEnv,
    service::{FAILURE_LOG_LINES_MAX, Failure, ServiceStatus, Transition},
    time::Timestamp,
    usage::InstanceUsage,
};
use ekiden_store::{Store, StoreError, StoredService};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    calls::{CallKind, CallState, Done},
    scaling::{Scaling, Shown},
    starts::Starts,
};
pub(crate) use self::{scaling::Decided, starts::Start};
use crate::{
    builds::Builds,
    clock,
    edges::{EdgeState, Edges},
    keyring::DoesNotOpen,
    metrics::EndedOperations,
    observations::{Observations, ServiceObservation},
    probe::Prober,
    services::Counts,
    telemetry::TelemetryConfig,
    vault::{ResolveError, Vault},
};

/// Requests that may wait for one service's worker; more are told to try again.
pub(crate) const REQUESTS_WAITING_MAX: usize = 64;

/// The first wait after something failed that may work later; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest wait before something that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What every worker works with.
#[derive(Debug)]
pub(crate) struct Tools<E> {
    pub(crate) store: Arc<Store>,
    pub(crate) vault: Vault,
    pub(crate) engine: Arc<E>,
    pub(crate) builds: Arc<Builds<E>>,
    pub(crate) edges: Arc<Edges>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) timing: Timing,
    pub(crate) scaling: ScalingDefaults,
    /// How many services there are; a worker counts its own out when it is deleted.
    pub(crate) counts: Arc<Counts>,
    /// Told when the set of images in use may have changed.
    pub(crate) images_changed: Arc<Notify>,
    /// Told when there may be news.
    pub(crate) news: watch::Sender<()>,
    /// Told of operations that have ended.
    pub(crate) ended: Arc<EndedOperations>,
    /// What instances whose services are observed are told.
    pub(crate) telemetry: TelemetryConfig,
}

/// A change of the service that its owner asked for.
pub(crate) struct Request {
    /// Changes it or refuses; called on a copy, which is stored if it agrees.
    pub(crate) change: Change,
    /// Gets the stored result.
    pub(crate) reply: oneshot::Sender<Result<Arc<StoredService>, RequestError>>,
}

/// See [`Request::change`]. A refusal is the caller's own and travels by its own way.
pub(crate) type Change = Box<dyn FnOnce(&mut StoredService) -> Result<(), Refused> + Send>;

/// The change was refused by the closure that brought it.
#[derive(Debug)]
pub(crate) struct Refused;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// By its own closure.
    #[error("refused")]
    Refused,
    /// By the store; nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a worker shows of its service.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// As stored.
    pub(crate) stored: Arc<StoredService>,
    /// As seen.
    pub(crate) instances: Vec<InstanceView>,
    /// What the edges were last told.
    pub(crate) published: Option<Route>,
    /// What an operation waits for, as a sentence.
    pub(crate) waiting_for: Option<String>,
    /// How it scales.
    pub(crate) scaling: Arc<Shown>,
}

/// Why a round of steps could not be finished.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("revision {0} is not in the store")]
    NoRevision(RevisionNumber),
    #[error("the secret variables of revision {0} cannot be opened")]
    Secrets(RevisionNumber, #[source] DoesNotOpen),
    #[error(transparent)]
    Illegal(#[from] ekiden_model::service::IllegalTransition),
}

pub(crate) struct Worker<E> {
    tools: Arc<Tools<E>>,
    stored: Arc<StoredService>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    revisions: HashMap<RevisionNumber, Arc<Revision>>,
    image: ImageProgress,
    /// The task that asks for the image or builds it; what another one brings is of an operation that is
    /// over.
    preparing: Option<AbortHandle>,
    /// The last lines of the build that failed.
    build_lines: Vec<String>,
    /// The secret variables that were read with the image, until they are sealed onto the revision.
    secrets: SecretEnv,
    published: Option<Route>,
    published_in: Generation,
    observed: watch::Receiver<ServiceObservation>,
    edge: watch::Receiver<EdgeState>,
    demand: watch::Receiver<Option<Demand>>,
    usage: watch::Receiver<Arc<[InstanceUsage]>>,
    scaling: Scaling,
    /// What the engine said to the newest start, if it refused it.
    refused: Option<String>,
    shown: Arc<Shown>,
    starts: Starts,
    /// When the worker was last woken: what it orders then was necessary since.
    woken_at: Instant,
    probers: HashMap<InstanceId, Prober>,
    health_changed: Arc<Notify>,
    /// Instances that this worker started itself: no edge knows them unless they are `routed`.
    started: HashSet<InstanceId>,
    /// Instances that are, or may be, known to an edge.
    routed: HashSet<InstanceId>,
    /// Since when the edges have been known to serve without them.
    unrouted: HashMap<InstanceId, Timestamp>,
    /// Instances that were asked to stop: whatever the observation still shows, they are on their
    /// way out and must not be chosen again.
    stopping: HashMap<InstanceId, StopReason>,
    /// How much instances were last told that they may do, as long as there is a call about it.
    activities: HashMap<InstanceId, Activity>,
    calls: HashMap<(InstanceId, CallKind), CallState>,
    tasks: JoinSet<Done>,
    /// Ids of starts that got no answer: used again, so that a start that did happen is not
    /// doubled.
    unanswered: Vec<(RevisionNumber, InstanceId)>,
    retry_after: Option<Timestamp>,
    failures_in_a_row: u32,
}

impl<E: Engine> Worker<E> {
    /// Takes up a service as the store has it.
    pub(crate) async fn new(
        tools: Arc<Tools<E>>,
        stored: StoredService,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let id = stored.service.id;
        let (published, published_in) = tools.edges.published(id).await;
        let stored = Arc::new(stored);
        let shown = Arc::new(Shown::default());
        let snapshot = Snapshot {
            stored: Arc::clone(&stored),
            instances: Vec::new(),
            published: published.clone(),
            waiting_for: None,
            scaling: Arc::clone(&shown),
        };
        let (sender, receiver) = watch::channel(Arc::new(snapshot));
        let worker = Self {
            observed: tools.observations.subscribe(id),
            edge: tools.edges.state(),
            demand: tools.edges.demands().subscribe(id),
            usage: tools.engine.usage(),
            scaling: Scaling::default(),
            refused: None,
            shown,
            starts: Starts::default(),
            woken_at: Instant::now(),
            tools,
            stored,
            snapshot: sender,
            revisions: HashMap::new(),
            image: ImageProgress::NotAsked,
            preparing: None,
            build_lines: Vec::new(),
            secrets: SecretEnv::default(),
            published,
            published_in,
            probers: HashMap::new(),
            health_changed: Arc::new(Notify::new()),
            started: HashSet::new(),
            routed: HashSet::new(),
            unrouted: HashMap::new(),
            stopping: HashMap::new(),
            activities: HashMap::new(),
            calls: HashMap::new(),
            tasks: JoinSet::new(),
            unanswered: Vec::new(),
            retry_after: None,
            failures_in_a_row: 0,
        };
        (worker, receiver)
    }

    /// Works until the service is deleted or the control plane stops.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        stop: CancellationToken,
    ) {
        self.observed();
        let mut wait = self.rounds().await;
        let mut waits_since = Instant::now();
        loop {
            if self.stored.service.settled == ServiceStatus::Deleted {
                break;
            }
            let edge_matters = self.edge_matters();
            // Waiting only: every arm is cancel-safe per its docs (`recv`, `changed`,
            // `join_next_with_id`, `notified`, `sleep`), and the work is done after the select.
            let event = tokio::select! {
                () = stop.cancelled() => return,
                request = requests.recv() => match request {
                    Some(request) => Event::Request(request),
                    None => return,
                },
                Some(done) = self.tasks.join_next_with_id() => Event::Done(done),
                _ = self.observed.changed() => Event::Observed,
                _ = self.edge.changed(), if edge_matters => Event::Looked,
                () = self.health_changed.notified() => Event::Looked,
                _ = self.demand.changed() => Event::Signal,
                _ = self.usage.changed(), if self.scaling.follows_usage() => Event::Signal,
                () = tokio::time::sleep(wait) => Event::Looked,
            };
            self.woken_at = Instant::now();
            let began = std::mem::replace(&mut waits_since, Instant::now());
            match event {
                // Most changes of demand and usage change nothing else.
                Event::Signal if !self.decide() => {
                    wait = wait.saturating_sub(began.elapsed());
                    wait = self
                        .scales_in()
                        .map_or(wait, |scales_in| scales_in.min(wait));
                    continue;
                }
                Event::Signal => {}
                Event::Request(request) => self.request(request).await,
                Event::Done(Ok((task, Done::Image(_)))) if !self.is_preparing(task) => {}
                // Nobody waits for it any more.
                Event::Done(Err(error)) if error.is_cancelled() => {}
                Event::Done(Ok((_, done))) => self.done(done),
                Event::Done(Err(error)) => warn!(service = %self.id(), %error, "a task broke"),
                Event::Observed => self.observed(),
                Event::Looked => {}
            }
            wait = self.rounds().await;
            waits_since = Instant::now();
        }
        self.tools.builds.forget(self.id()).await;
        self.tools.observations.forget(self.id());
        self.tools.edges.demands().forget(self.id());
        self.tools.images_changed.notify_one();
    }

    fn id(&self) -> ServiceId {
        self.stored.service.id
    }

    /// Plans and steps until nothing can be done now; answers how long to wait at most.
    async fn rounds(&mut self) -> Duration {
        loop {
            self.settle();
            if let Err(error) = self.load_revisions().await {
                return self.hold_off(&error.into());
            }
            self.probe();
            self.repeat_stops();
            let instances = self.instances();
            let wanted = self.scale(&instances);
            let plan = self.plan(&instances, wanted);
            let again = plan.steps.iter().any(|step| {
                matches!(
                    step,
                    Step::Transition(_) | Step::Publish(_) | Step::Unpublish
                )
            });
            let outcome = self.execute(plan.steps).await;
            self.show(instances);
            match outcome {
                Err(error) => return self.hold_off(&error),
                Ok(()) if again => continue,
                Ok(()) => {
                    let retry = self.retry_after.map(|at| at.since(clock::now()));
                    let waits = [
                        plan.look_again_in,
                        retry,
                        self.settles_in(),
                        self.scales_in(),
                    ];
                    // An hour: nothing is lost by looking at a service that does not change.
                    return waits
                        .into_iter()
                        .flatten()
                        .min()
                        .unwrap_or(Duration::from_secs(3600));
                }
            }
        }
    }

    fn plan(&self, instances: &[InstanceView], wanted: Option<u32>) -> Plan {
        plan::plan(&View {
            wanted,
            ..self.view(instances)
        })
    }

    /// What is recorded and seen, but for the number of instances that there should be.
    fn view<'a>(&'a self, instances: &'a [InstanceView]) -> View<'a> {
        let service = &self.stored.service;
        let candidate = service
            .operation
            .as_ref()
            .and_then(|operation| operation.candidate);
        let revision = |number: Option<RevisionNumber>| {
            number
                .and_then(|number| self.revisions.get(&number))
                .map(AsRef::as_ref)
        };
        View {
            now: clock::now(),
            timing: self.tools.timing,
            service,
            active: revision(service.active),
            candidate: revision(candidate),
            wanted: None,
            activity: self.scaling.activity(),
            image: &self.image,
            refused: self.refused.as_deref(),
            engine_current: self.observed.borrow().current,
            instances,
            published: self.published.as_ref(),
            acknowledged: self.acknowledged(),
        }
    }

    fn acknowledged(&self) -> bool {
        self.edge
            .borrow()
            .serving
            .is_some_and(|serving| serving >= self.published_in)
    }

    /// Whether a report of the edges can change what there is to do.
    fn edge_matters(&self) -> bool {
        !self.acknowledged() || self.routed.iter().any(|id| !self.in_route(*id))
    }

    fn in_route(&self, id: InstanceId) -> bool {
        let route = self.published.as_ref();
        route.is_some_and(|route| {
            route
                .upstreams
                .iter()
                .any(|upstream| upstream.instance == id)
        })
    }

    async fn execute(&mut self, steps: Vec<Step>) -> Result<(), StepError> {
        for step in steps {
            match step {
                Step::Transition(transition) => self.record(transition).await?,
                Step::PrepareImage(reference) => self.prepare_image(reference),
                Step::Start { revision, spare } => self.start(revision, spare)?,
                Step::Publish(route) => self.publish(Some(route)).await?,
                Step::Unpublish => self.publish(None).await?,
                Step::SetActivity(instance, activity) => self.set_activity(instance, activity),
                Step::Stop(instance, reason) => self.stop(instance, reason),
                Step::Remove(instance) => self.remove(instance),
                Step::ForgetService => self.tools.engine.forget_service(self.id()).await?,
            }
        }
        self.failures_in_a_row = match self.retry_after {
            Some(_) => self.failures_in_a_row,
            None => 0,
        };
        Ok(())
    }

    async fn record(&mut self, transition: Transition) -> Result<(), StepError> {
        let transition = match transition {
            Transition::Fail(failure) => Transition::Fail(self.with_log_lines(failure).await),
            other => other,
        };
        let name = transition.name();
        let mut next = (*self.stored).clone();
        let mut applied = next.service.apply(transition, clock::now())?;
        if let Some(revision) = &mut applied.revision {
            let vault = &self.tools.vault;
            revision.secrets = vault.seal_env(self.id(), revision.number, &self.secrets);
            if let Some(number) = revision.copy_of {
                let copied = self.tools.store.revision(self.id(), number).await?;
                revision.built = copied.and_then(|copied| copied.built);
            }
        }
        let before = &self.stored.service;
        let news = narrative::narrate(
            Some(before),
            &next.service,
            applied.ended.as_ref(),
            clock::now(),
        );
        let (revision, ended) = (applied.revision.as_ref(), applied.ended.as_ref());
        let store = &self.tools.store;
        store
            .update_service(&next, revision, ended, news.as_ref())
            .await?;
        if news.is_some() {
            self.tools.news.send_replace(());
        }
        if let Some(ended) = &applied.ended {
            self.tools.ended.push(self.id(), ended);
        }
        let was_there = self.stored.service.settled != ServiceStatus::Deleted;
        self.stored = Arc::new(next);
        let service = &self.stored.service;
        if was_there && service.settled == ServiceStatus::Deleted {
            // Before anybody can see it: there is room for another one from then on.
            self.tools.counts.leave(&self.stored.region);
        }
        match &service.operation {
            Some(operation) => info!(
                service = %service.name, operation = %operation.id, kind = %operation.kind,
                phase = %operation.phase, step = name,
                failure = operation.failure.as_ref().map(|f| tracing::field::display(&f.cause)),
                "operation moved"
            ),
            None => info!(service = %service.name, status = %service.settled, "operation ended"),
        }
        if let Some(revision) = applied.revision {
            self.revisions.insert(revision.number, Arc::new(revision));
        }
        self.forget_image();
        self.tools.images_changed.notify_one();
        Ok(())
    }

    /// What was asked for the operation as it was is of no use for what it is now.
    fn forget_image(&mut self) {
        self.image = ImageProgress::NotAsked;
        self.secrets = SecretEnv::default();
        self.build_lines = Vec::new();
        // A build that nobody wants any more ends.
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
        }
    }

    fn is_preparing(&self, task: tokio::task::Id) -> bool {
        let preparing = self.preparing.as_ref();
        preparing.is_some_and(|preparing| preparing.id() == task)
    }

    async fn with_log_lines(&self, failure: Failure) -> Failure {
        let Some(instance) = failure.instance else {
            let lines = self.build_lines.iter().take(FAILURE_LOG_LINES_MAX);
            return Failure {
                log_lines: lines.cloned().collect(),
                ..failure
            };
        };
        let query = LogQuery {
            service: self.id(),
            instance: Some(instance),
            after: None,
            lines_max: (FAILURE_LOG_LINES_MAX as u32).min(LOG_LINES_MAX),
        };
        let log_lines = match self.tools.engine.logs(&query).await {
            Ok(page) => page.lines.into_iter().map(|line| line.text).collect(),
            Err(error) => {
                debug!(%instance, %error, "the last log lines cannot be had");
                Vec::new()
            }
        };
        Failure {
            log_lines,
            ..failure
        }
    }

    async fn publish(&mut self, route: Option<Route>) -> Result<(), StepError> {
        let upstreams = route.as_ref().map_or(0, |route| route.upstreams.len());
        self.published_in = self.tools.edges.publish(self.id(), route.clone()).await?;
        let ids = route
            .iter()
            .flat_map(|route| &route.upstreams)
            .map(|u| u.instance);
        self.routed.extend(ids);
        self.published = route;
        debug!(service = %self.stored.service.name, generation = self.published_in.0, upstreams,
            "route published");
        Ok(())
    }

    /// Waits longer after each failure in a row.
    fn hold_off(&mut self, error: &StepError) -> Duration {
        let doublings = self.failures_in_a_row.min(10);
        let wait = (RETRY_MIN * (1 << doublings)).min(RETRY_MAX);
        self.failures_in_a_row += 1;
        self.retry_after = Some(clock::now().plus(wait));
        let (service, retry_in_ms) = (&self.stored.service.name, wait.as_millis() as u64);
        match doublings {
            0 => warn!(%service, error = %Chain(error), retry_in_ms,
                "a step failed and is tried again"),
            _ => debug!(%service, error = %Chain(error), retry_in_ms,
                "a step failed again and is tried again"),
        }
        wait
    }

    async fn request(&mut self, request: Request) {
        let mut next = (*self.stored).clone();
        let outcome = match (request.change)(&mut next) {
            Err(Refused) => Err(RequestError::Refused),
            Ok(()) => match self.change(&next).await {
                Ok(()) => {
                    if next.service.operation != self.stored.service.operation {
                        self.forget_image();
                    }
                    self.stored = Arc::new(next);
                    Ok(Arc::clone(&self.stored))
                }
                Err(error) => Err(error.into()),
            },
        };
        // Shown before it is answered: whoever asked reads its own write.
        self.snapshot.send_modify(|snapshot| {
            let stored = Arc::clone(&self.stored);
            *snapshot = Arc::new(Snapshot {
                stored,
                ..(**snapshot).clone()
            });
        });
        // The caller may have left; its request stands.
        let _ = request.reply.send(outcome);
    }

    /// Stores what a request has made of the service.
    async fn change(&self, next: &StoredService) -> Result<(), StoreError> {
        let before = &self.stored.service;
        let news = narrative::narrate(Some(before), &next.service, None, clock::now());
        let store = &self.tools.store;
        store
            .update_service(next, None, None, news.as_ref())
            .await?;
        if news.is_some() {
            self.tools.news.send_replace(());
        }
        Ok(())
    }

    fn show(&mut self, instances: Vec<InstanceView>) {
        if self.starts.look(&instances, self.acknowledged()) {
            self.show_starts();
        }
        let waiting_for = self.waiting_for(&instances);
        let snapshot = Snapshot {
            stored: Arc::clone(&self.stored),
            instances,
            published: self.published.clone(),
            waiting_for,
            scaling: Arc::clone(&self.shown),
        };
        self.snapshot.send_replace(Arc::new(snapshot));
    }

    /// What the operation waits for, for people.
    fn waiting_for(&self, instances: &[InstanceView]) -> Option<String> {
        use ekiden_model::service::Phase;
        let operation = self.stored.service.operation.as_ref()?;
        if !self.observed.borrow().current {
            return Some("the agent to answer".to_owned());
        }
        Some(match operation.phase {
            Phase::Accepted => "its turn".to_owned(),
            Phase::Prepare => match self.build_wanted() {
                Some(source) => format!("the build of {}", source.url),
                None => format!("image {}", self.stored.service.image_wanted()),
            },
            Phase::Start => {
                let candidates = instances
                    .iter()
                    .filter(|i| Some(i.revision) == operation.candidate);
                let failure = candidates.filter_map(|i| i.last_failure.as_deref()).next();
                match (&self.refused, failure) {
                    (Some(refused), _) => format!("a place on the host: {refused}"),
                    (None, Some(failure)) => format!("the health check to pass; last: {failure}"),
                    (None, None) => "the health check to pass".to_owned(),
                }
            }
            Phase::Switch => "the edge to take over the new route".to_owned(),
            Phase::Drain => {
                format!(
                    "{} instances to finish their requests and stop",
                    instances.len()
                )
            }
            Phase::Undo => "what was started to be removed".to_owned(),
        })
    }
}

enum Event {
    Request(Request),
    Done(Result<(tokio::task::Id, Done), tokio::task::JoinError>),
    Observed,
    Signal,
    Looked,
}

/// An error with everything that caused it, as one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'a));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

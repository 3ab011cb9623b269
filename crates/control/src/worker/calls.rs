//! What a worker asks of the engine: calls in the background, each made once until its effect is
//! seen or it has failed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ekiden_engine::{Engine, EngineError};
use ekiden_model::{
    id::InstanceId,
    image::ImageReference,
    instance::{Activity, InstanceState, RevisionNumber, StopReason},
    plan::ImageProgress,
    secret_env::SecretEnv,
    secret_reference::SecretReference,
    service::FailureCause,
    source::{CodeSource, Prepared},
    time::Timestamp,
};

use tracing::warn;

use super::{ResolveError, StepError, Worker};
use crate::{
    builds::{self, BuildError, Order},
    clock,
};

/// How long a call that the engine has answered is taken to explain what its observation does not
/// show yet.
const SETTLE: Duration = Duration::from_secs(2);

/// What ended of what the worker had begun.
pub(super) enum Done {
    Image(Result<Box<(Prepared, SecretEnv)>, PrepareError>),
    Call {
        instance: InstanceId,
        kind: CallKind,
        result: Result<(), EngineError>,
    },
}

/// Why a deployment could not be prepared.
pub(super) enum PrepareError {
    Secrets(ResolveError),
    Image(EngineError),
    Build(builds::Failed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CallKind {
    Start(RevisionNumber),
    Stop,
    Remove,
    /// See [`Worker::activities`].
    Activity,
}

/// A call to the engine about one instance.
#[derive(Debug)]
pub(super) enum CallState {
    Running,
    /// Answered; the observation should show it soon.
    Answered(Timestamp),
}

impl<E: Engine> Worker<E> {
    pub(super) fn prepare_image(&mut self, reference: ImageReference) {
        if self.retry_after.is_some() {
            return;
        }
        self.image = ImageProgress::Preparing;
        let references = self.stored.service.settings_wanted().secrets.clone();
        let region = self.stored.region.clone();
        let (engine, vault) = (Arc::clone(&self.tools.engine), self.tools.vault.clone());
        let builds = Arc::clone(&self.tools.builds);
        let order = self.build_order();
        let preparing = async move {
            // First what is at hand: a secret that is missing shows before an image is fetched.
            let resolve = |references: BTreeMap<String, SecretReference>| async {
                let references = references;
                let resolved = vault.resolve(&region, &references).await;
                resolved.map_err(PrepareError::Secrets)
            };
            let secrets = resolve(references).await?;
            let Some(order) = order else {
                let image = engine.prepare_image(&reference).await;
                let image = image.map_err(PrepareError::Image)?;
                return Ok(Box::new((Prepared::from(image), secrets)));
            };
            let prepared = builds.build(order).await.map_err(PrepareError::Build)?;
            let named = prepared.built.as_ref();
            match named.and_then(|built| built.secrets.clone()) {
                Some(references) => {
                    let secrets = resolve(references).await?;
                    Ok(Box::new((prepared, secrets)))
                }
                None => Ok(Box::new((prepared, secrets))),
            }
        };
        let task = self
            .tasks
            .spawn(async move { Done::Image(Box::pin(preparing).await) });
        self.preparing = Some(task);
    }

    /// The code that is to be built, unless an image of it is asked for that is there.
    pub(super) fn build_wanted(&self) -> Option<&CodeSource> {
        let service = &self.stored.service;
        let source = service.settings_wanted().source.as_ref();
        source.filter(|_| service.image_wanted().digest.is_none())
    }

    fn build_order(&self) -> Option<Order> {
        let service = &self.stored.service;
        let settings = service.settings_wanted();
        Some(Order {
            service: service.id,
            service_name: service.name.clone(),
            region: self.stored.region.clone(),
            operation: service.operation.as_ref()?.id,
            source: self.build_wanted()?.clone(),
            port: settings.port,
            env: settings.env.clone(),
        })
    }

    pub(super) fn start(&mut self, number: RevisionNumber, spare: bool) -> Result<(), StepError> {
        if self.retry_after.is_some() {
            return Ok(());
        }
        let revision = self
            .revisions
            .get(&number)
            .ok_or(StepError::NoRevision(number))?;
        let again = self
            .unanswered
            .iter()
            .position(|(other, _)| *other == number);
        let id = match again {
            Some(index) => self.unanswered.swap_remove(index).1,
            None => InstanceId::from_bytes(clock::random_id()),
        };
        self.started.insert(id);
        self.starts.ordered(id, self.woken_at);
        let service = &self.stored.service;
        let mut spec = revision.instance_spec(id, service.id, &service.name);
        spec.spare = spare;
        if revision.settings.observed {
            // What the service says itself stays.
            for (name, value) in self.tools.telemetry.variables(service.name.as_str()) {
                spec.env.entry(name).or_insert(value);
            }
        }
        if let Some(sealed) = &revision.secrets {
            let vault = &self.tools.vault;
            let opened = vault.open_env(service.id, number, sealed);
            spec.secret_env = opened.map_err(|error| StepError::Secrets(number, error))?;
        }
        let engine = Arc::clone(&self.tools.engine);
        self.call(id, CallKind::Start(number), async move {
            engine.start(&spec).await
        });
        Ok(())
    }

    pub(super) fn stop(&mut self, id: InstanceId, reason: StopReason) {
        self.stopping.insert(id, reason);
        let engine = Arc::clone(&self.tools.engine);
        let grace_ms = self.tools.timing.stop_grace.as_millis() as u64;
        self.call(id, CallKind::Stop, async move {
            engine.stop(id, reason, grace_ms).await
        });
    }

    /// Asks again for stops whose effect is not to be seen: a call that failed may have been heard.
    pub(super) fn repeat_stops(&mut self) {
        let unseen: Vec<_> = {
            let observed = self.observed.borrow();
            let runs = observed.instances.iter().filter(|instance| {
                matches!(
                    instance.state,
                    InstanceState::Creating | InstanceState::Running { .. }
                )
            });
            runs.filter_map(|instance| Some((instance.id, *self.stopping.get(&instance.id)?)))
                .collect()
        };
        for (id, reason) in unseen {
            self.stop(id, reason);
        }
    }

    /// Says how much an instance may do, unless the engine is still about the last word on it: two at
    /// a time could be heard in either order.
    pub(super) fn set_activity(&mut self, id: InstanceId, activity: Activity) {
        let call = self.calls.get(&(id, CallKind::Activity));
        if matches!(call, Some(CallState::Running)) || self.retry_after.is_some() {
            return;
        }
        // Before it rests, and after it is awake.
        let rests = [Activity::Throttled, Activity::Frozen].contains(&activity);
        if rests && let Some(prober) = self.probers.get(&id) {
            prober.set_activity(activity);
        }
        self.calls.remove(&(id, CallKind::Activity));
        self.activities.insert(id, activity);
        let engine = Arc::clone(&self.tools.engine);
        self.call(id, CallKind::Activity, async move {
            engine.set_activity(id, activity).await
        });
    }

    pub(super) fn remove(&mut self, id: InstanceId) {
        let engine = Arc::clone(&self.tools.engine);
        self.call(id, CallKind::Remove, async move { engine.remove(id).await });
    }

    /// Makes a call in the background, unless the same one is on its way or has just been answered.
    pub(super) fn call(
        &mut self,
        instance: InstanceId,
        kind: CallKind,
        call: impl Future<Output = Result<(), EngineError>> + Send + 'static,
    ) {
        if self.retry_after.is_some() || self.calls.contains_key(&(instance, kind)) {
            return;
        }
        self.calls.insert((instance, kind), CallState::Running);
        self.tasks.spawn(async move {
            Done::Call {
                instance,
                kind,
                result: call.await,
            }
        });
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Image(Ok(prepared)) => {
                let (image, secrets) = *prepared;
                self.image = ImageProgress::Ready(Box::new(image));
                self.secrets = secrets;
            }
            Done::Image(Err(PrepareError::Image(error @ EngineError::Unavailable { .. }))) => {
                self.image = ImageProgress::NotAsked;
                self.hold_off(&error.into());
            }
            Done::Image(Err(PrepareError::Secrets(ResolveError::Store(error)))) => {
                self.image = ImageProgress::NotAsked;
                self.hold_off(&error.into());
            }
            Done::Image(Err(PrepareError::Build(failed))) => {
                self.image = ImageProgress::NotAsked;
                match failed.error {
                    BuildError::Engine(error) => drop(self.hold_off(&error.into())),
                    BuildError::Store(error) => drop(self.hold_off(&error.into())),
                    error @ (BuildError::Failed(_) | BuildError::TooLong) => {
                        self.build_lines = failed.lines;
                        let message = error.to_string();
                        self.image = ImageProgress::Failed(FailureCause::Build { message });
                    }
                }
            }
            Done::Image(Err(PrepareError::Image(error))) => {
                let message = error.to_string();
                self.image = ImageProgress::Failed(FailureCause::Image { message });
            }
            Done::Image(Err(PrepareError::Secrets(ResolveError::Refused(message)))) => {
                self.image = ImageProgress::Failed(FailureCause::Secrets { message });
            }
            Done::Call {
                instance,
                kind,
                result: Ok(()),
            } => {
                if let CallKind::Start(_) = kind {
                    self.set_refused(None);
                    self.starts.prepared(instance);
                    self.show_starts();
                }
                if kind == CallKind::Activity {
                    self.rest_probes(instance);
                }
                self.calls
                    .insert((instance, kind), CallState::Answered(clock::now()));
            }
            Done::Call {
                instance,
                kind,
                result: Err(error),
            } => {
                if kind == CallKind::Activity && !matches!(error, EngineError::Unavailable { .. }) {
                    // It is tried again when the call has settled, and holds nothing else off.
                    warn!(%instance, %error, "cannot say how much an instance may do");
                    let state = CallState::Answered(clock::now());
                    self.calls.insert((instance, kind), state);
                    self.rest_probes(instance);
                    return;
                }
                self.calls.remove(&(instance, kind));
                if kind == CallKind::Activity {
                    self.activities.remove(&instance);
                    self.rest_probes(instance);
                }
                if let CallKind::Start(revision) = kind {
                    self.set_refused(Some(error.to_string()));
                    self.unanswered.push((revision, instance));
                }
                self.hold_off(&error.into());
            }
        }
    }

    /// Forgets answered calls that the observation shows by now, or should.
    pub(super) fn settle(&mut self) {
        let now = clock::now();
        if self.retry_after.is_some_and(|at| at <= now) {
            self.retry_after = None;
        }
        let observed = self.observed.borrow();
        self.calls.retain(|(id, kind), state| {
            let CallState::Answered(at) = state else {
                return true;
            };
            let seen = observed
                .instances
                .iter()
                .find(|instance| instance.id == *id);
            let shown = match (kind, seen.map(|instance| &instance.state)) {
                (CallKind::Start(_), seen) => seen.is_some(),
                (CallKind::Stop, Some(InstanceState::Creating | InstanceState::Running { .. })) => {
                    false
                }
                (CallKind::Stop, _) => true,
                (CallKind::Remove, seen) => seen.is_none(),
                (CallKind::Activity, _) => {
                    seen.is_none_or(|instance| Some(&instance.activity) == self.activities.get(id))
                }
            };
            !shown && now.since(*at) < SETTLE
        });
        let calls = &self.calls;
        self.activities
            .retain(|id, _| calls.contains_key(&(*id, CallKind::Activity)));
    }

    pub(super) fn settles_in(&self) -> Option<Duration> {
        let answered = |state: &CallState| matches!(state, CallState::Answered(_));
        self.calls.values().any(answered).then_some(SETTLE)
    }
}

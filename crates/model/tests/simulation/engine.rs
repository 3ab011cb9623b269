//! The engine: an agent that may die, and instances that do not die with it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::Duration,
};

use ekiden_model::{
    id::{InstanceId, OperationId, ServiceId},
    image::ImageReference,
    instance::{
        Activity, Exit, ExitCause, InstanceObservation, InstanceState, RevisionNumber, StopReason,
    },
    plan::ImageProgress,
    service::FailureCause,
    time::Timestamp,
};

use crate::{
    behaviour::{Behaviour, Fate, Named, image_of},
    checks::Rule,
    control::{Answer, CallKind},
    random::Random,
    world::{Channel, Event, World},
};

/// What the engine shows: all instances, by service.
pub(crate) type Observation = BTreeMap<ServiceId, Vec<InstanceObservation>>;

#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) up: bool,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Calls that were taken up and not answered; they die with the agent.
    calls: BTreeMap<u64, (u64, ServiceId, Answer)>,
    calls_made: u64,
    addresses_given: u32,
    /// When what images of [`Behaviour::BreaksForGood`] depend on goes away, by revision.
    breaks_at: BTreeMap<(ServiceId, RevisionNumber), Timestamp>,
    will_show: bool,
    /// When the newest call that is on its way arrives: the agent has done with what a dead
    /// control asked before it shows a new one anything.
    pub(crate) calls_until: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) service: ServiceId,
    pub(crate) revision: RevisionNumber,
    pub(crate) behaviour: Behaviour,
    pub(crate) state: InstanceState,
    pub(crate) listens_from: Option<Timestamp>,
    created_at: Timestamp,
    fate: Fate,
    sick_from: Option<Timestamp>,
    stop: Option<StopReason>,
}

/// The life of no control: a start that takes effect long after whoever asked for it is gone.
const LATE: u64 = 0;

/// A call of control; each may be made again.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Prepare {
        operation: OperationId,
        reference: ImageReference,
    },
    Start {
        instance: InstanceId,
        revision: RevisionNumber,
        behaviour: Behaviour,
    },
    Stop {
        instance: InstanceId,
        reason: StopReason,
        grace: Duration,
    },
    Remove {
        instance: InstanceId,
    },
    ForgetService,
}

impl Engine {
    pub(crate) fn alive(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances
            .iter()
            .filter(|(_, instance)| !matches!(instance.state, InstanceState::Exited(_)))
            .map(|(id, instance)| (*id, instance))
    }

    /// Whether a connection to the instance is accepted now.
    pub(crate) fn accepts(&self, id: InstanceId, now: Timestamp) -> bool {
        self.instances.get(&id).is_some_and(|instance| {
            matches!(instance.state, InstanceState::Running { .. })
                && instance.listens_from.is_some_and(|from| from <= now)
        })
    }

    /// Whether a probe of the instance passes now.
    pub(crate) fn answers(&self, id: InstanceId, now: Timestamp) -> bool {
        let sick = |instance: &Instance| instance.sick_from.is_some_and(|from| from <= now);
        self.accepts(id, now) && !self.instances.get(&id).is_some_and(sick)
    }

    /// Whether the instance runs and nobody has asked it to stop.
    pub(crate) fn runs_unasked(&self, id: InstanceId) -> bool {
        let running = |i: &Instance| matches!(i.state, InstanceState::Running { .. });
        self.instances.get(&id).is_some_and(running)
    }

    fn address(&mut self) -> IpAddr {
        self.addresses_given += 1;
        let [_, a, b, c] = self.addresses_given.to_be_bytes();
        Ipv4Addr::new(10, a, b, c).into()
    }
}

impl Instance {
    fn new(
        service: ServiceId,
        revision: RevisionNumber,
        behaviour: Behaviour,
        fate: Fate,
        now: Timestamp,
    ) -> Self {
        Self {
            service,
            revision,
            behaviour,
            state: InstanceState::Creating,
            listens_from: None,
            created_at: now,
            fate,
            sick_from: None,
            stop: None,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, InstanceState::Exited(_))
    }
}

impl World {
    // ---- calls -------------------------------------------------------------------------------

    /// Control makes a call; it arrives after a while.
    pub(crate) fn call(&mut self, life: u64, service: ServiceId, call: Call) {
        let delay = self.delay();
        let at = self.now.plus(Duration::from_millis(delay));
        self.engine.calls_until = self.engine.calls_until.max(at);
        self.at(
            at,
            Event::CallArrives {
                life,
                service,
                call: Box::new(call),
            },
        );
    }

    pub(crate) fn call_arrives(&mut self, life: u64, service: ServiceId, call: Call) {
        let forgotten = self
            .control
            .as_ref()
            .is_none_or(|control| control.life != life);
        if forgotten && life != LATE && !self.goes_on(service, &call) {
            return;
        }
        if !self.engine.up {
            self.answer(life, service, call.failed());
            return;
        }
        match call {
            Call::Prepare {
                operation,
                reference,
            } => self.prepare(life, service, operation, &reference),
            Call::Start {
                instance,
                revision,
                behaviour,
            } => {
                self.start_instance(life, service, instance, revision, behaviour);
            }
            Call::Stop {
                instance,
                reason,
                grace,
            } => {
                self.stop_instance(instance, reason, grace);
                self.take_up(life, service, Answer::call(instance, CallKind::Stop), 0);
            }
            Call::Remove { instance } => {
                self.remove_instance(instance);
                self.take_up(life, service, Answer::call(instance, CallKind::Remove), 5);
            }
            Call::ForgetService => self.take_up(life, service, Answer::Forgotten { ok: true }, 5),
        }
    }

    /// Whether a call takes effect although the control that made it is gone. A start may do so
    /// much later.
    fn goes_on(&mut self, service: ServiceId, call: &Call) -> bool {
        if matches!(call, Call::Start { .. }) && self.random.per_mille(500) {
            let (delay, call) = (self.random.between(1, 5_000), Box::new(call.clone()));
            self.after(
                delay,
                Event::CallArrives {
                    life: LATE,
                    service,
                    call,
                },
            );
            return false;
        }
        self.random.per_mille(500)
    }

    /// The answer is given after a while, unless the agent dies before.
    fn take_up(&mut self, life: u64, service: ServiceId, answer: Answer, work_ms: u64) {
        let call = self.engine.calls_made;
        self.engine.calls_made += 1;
        self.engine.calls.insert(call, (life, service, answer));
        self.after(work_ms, Event::CallEnds { call });
    }

    pub(crate) fn call_ends(&mut self, call: u64) {
        if let Some((life, service, answer)) = self.engine.calls.remove(&call) {
            self.answer(life, service, answer);
        }
    }

    fn answer(&mut self, life: u64, service: ServiceId, answer: Answer) {
        let delay = self.delay();
        self.after(
            delay,
            Event::Answered {
                life,
                service,
                answer: Box::new(answer),
            },
        );
    }

    fn prepare(
        &mut self,
        life: u64,
        service: ServiceId,
        operation: OperationId,
        reference: &ImageReference,
    ) {
        let serial = self.random.below(1 << 20) as u32;
        let progress = match Named::of(reference) {
            Named::Digest(digest) => ImageProgress::Ready(Box::new(image_of(digest).into())),
            Named::Missing => {
                let message = format!("image `{reference}` does not exist");
                ImageProgress::Failed(FailureCause::Image { message })
            }
            Named::Fixed(behaviour) => {
                ImageProgress::Ready(Box::new(behaviour.image(serial).into()))
            }
            Named::Moving => {
                let behaviour = Behaviour::draw(&mut self.random);
                ImageProgress::Ready(Box::new(behaviour.image(serial).into()))
            }
        };
        let takes = match self.random.below(5) {
            0 if !self.is_calm() => self.random.between(1_000, 20_000),
            _ => self.random.between(1, 300),
        };
        let answer = Answer::Image {
            operation,
            progress,
        };
        self.take_up(life, service, answer, takes);
    }

    fn start_instance(
        &mut self,
        life: u64,
        service: ServiceId,
        id: InstanceId,
        revision: RevisionNumber,
        behaviour: Behaviour,
    ) {
        if self.engine.instances.contains_key(&id) {
            self.take_up(
                life,
                service,
                Answer::call(id, CallKind::Start(revision)),
                1,
            );
            return;
        }
        let limit = self.timing.startup_limit;
        let mut fate = behaviour.fate(&mut self.random, limit);
        if self.weather.slow {
            fate.starts_in += self.random.below(2_000);
        }
        let starts_in = fate.starts_in;
        let instance = Instance::new(service, revision, behaviour, fate, self.now);
        self.engine.instances.insert(id, instance);
        self.check_start(service, id, revision);
        self.after(starts_in, Event::ProcessStarts { instance: id });
        self.take_up(
            life,
            service,
            Answer::call(id, CallKind::Start(revision)),
            starts_in,
        );
        self.engine_changed();
    }

    /// Misfortune at the worst moment: while one instance is being stopped, another of its service
    /// dies.
    pub(crate) fn sibling_dies(&mut self, id: InstanceId) {
        if self.is_calm() || !self.random.per_mille(self.weather.spite) {
            return;
        }
        let Some(service) = self
            .engine
            .instances
            .get(&id)
            .map(|instance| instance.service)
        else {
            return;
        };
        let siblings: Vec<_> = self
            .engine
            .alive()
            .filter(|(other, instance)| *other != id && instance.service == service)
            .map(|(other, _)| other)
            .collect();
        for sibling in siblings {
            self.totals
                .count("fault: dies while another is being stopped");
            let delay = self.random.below(20);
            let cause = Box::new(ExitCause::Signal { signal: 9 });
            self.after(
                delay,
                Event::ProcessEnds {
                    instance: sibling,
                    cause,
                },
            );
        }
    }

    pub(crate) fn stray_appears(&mut self) {
        let service = ServiceId::from_bytes(self.random.id());
        let id = instance_id(&mut self.random);
        let fate = Behaviour::Good.fate(&mut self.random, self.timing.startup_limit);
        let revision = RevisionNumber(1);
        let instance = Instance::new(service, revision, Behaviour::Good, fate, self.now);
        self.engine.instances.insert(id, instance);
        self.after(0, Event::ProcessStarts { instance: id });
    }

    fn stop_instance(&mut self, id: InstanceId, reason: StopReason, grace: Duration) {
        let Some(instance) = self.engine.instances.get(&id) else {
            return;
        };
        if instance.is_over() || instance.stop.is_some() {
            return;
        }
        self.check_stop(id);
        let Some(instance) = self.engine.instances.get_mut(&id) else {
            return;
        };
        instance.stop = Some(reason);
        let InstanceState::Running { address, .. } = instance.state else {
            return;
        };
        instance.state = InstanceState::Stopping { address };
        let grace = grace.as_millis() as u64;
        let (after, signal) = match instance.fate.stops_in {
            Some(after) if after < grace => (after, 15),
            Some(_) | None => (grace, 9),
        };
        let cause = Box::new(ExitCause::Signal { signal });
        self.after(
            after,
            Event::ProcessEnds {
                instance: id,
                cause,
            },
        );
        self.engine_changed();
    }

    fn remove_instance(&mut self, id: InstanceId) {
        if self
            .engine
            .instances
            .get(&id)
            .is_some_and(|instance| !instance.is_over())
        {
            self.check_stop(id);
            self.process_ends(id, ExitCause::Signal { signal: 9 });
        }
        self.engine.instances.remove(&id);
        self.engine_changed();
    }

    // ---- processes ---------------------------------------------------------------------------

    pub(crate) fn process_starts(&mut self, id: InstanceId) {
        let address = self.engine.address();
        let now = self.now;
        let Some(instance) = self.engine.instances.get_mut(&id) else {
            return;
        };
        if instance.is_over() {
            return;
        }
        let after = |millis: u64| now.plus(Duration::from_millis(millis));
        if instance.fate.fails_to_start {
            let message = "the start command does not exist".to_owned();
            return self.process_ends(id, ExitCause::StartFailed { message });
        }
        if instance.stop.is_some() {
            return self.process_ends(id, ExitCause::Signal { signal: 15 });
        }
        instance.state = InstanceState::Running {
            address,
            started_at: now,
        };
        instance.listens_from = instance.fate.listens_after.map(after);
        instance.sick_from = instance.fate.sickens_after.map(after);
        let mut ends_after = instance.fate.ends_after.clone();
        if instance.behaviour == Behaviour::BreaksForGood {
            let revision = (instance.service, instance.revision);
            let millis = self.breaks_in(revision);
            ends_after = Some((millis, ExitCause::Code { code: 1 }));
        }
        if let Some((millis, cause)) = ends_after {
            self.after(
                millis,
                Event::ProcessEnds {
                    instance: id,
                    cause: Box::new(cause),
                },
            );
        }
        self.engine_changed();
    }

    /// How long an instance of such an image has until it breaks; a moment, once it has.
    fn breaks_in(&mut self, revision: (ServiceId, RevisionNumber)) -> u64 {
        let good_for = Duration::from_millis(self.random.between(1_000, 60_000));
        let first = self.now.plus(good_for);
        let at = *self.engine.breaks_at.entry(revision).or_insert(first);
        let left = at.since(self.now).as_millis() as u64;
        left.max(self.random.between(1, 20))
    }

    /// The process is gone, and every request that it held.
    pub(crate) fn process_ends(&mut self, id: InstanceId, cause: ExitCause) {
        let now = self.now;
        let Some(instance) = self.engine.instances.get_mut(&id) else {
            return;
        };
        if instance.is_over() {
            return;
        }
        self.totals
            .count(&format!("instance ended: {}", kind_of(&cause)));
        let asked = instance.stop;
        instance.state = InstanceState::Exited(Exit {
            cause,
            at: now,
            stopped_for: asked,
        });
        self.note(|| format!("instance {} ended, asked to: {asked:?}", id.short()));
        self.requests_die_with(id, asked.is_some());
        self.engine_changed();
    }

    // ---- the agent ---------------------------------------------------------------------------

    pub(crate) fn agent_crashes(&mut self) {
        if !self.engine.up {
            return;
        }
        self.engine.up = false;
        for (life, service, answer) in std::mem::take(&mut self.engine.calls).into_values() {
            self.answer(life, service, answer.failed());
        }
        // What it was about to start may come to nothing, with no trace.
        let half_made: Vec<_> = self
            .engine
            .alive()
            .filter(|(_, instance)| matches!(instance.state, InstanceState::Creating))
            .map(|(id, _)| id)
            .collect();
        for id in half_made {
            if self.random.per_mille(500) {
                self.engine.instances.remove(&id);
            }
        }
        let life = self.control_life;
        let observation = Event::ObservationArrives {
            life,
            observation: None,
        };
        self.send(Channel::Observations, observation);
        let downtime = self.downtime();
        self.after(downtime, Event::AgentStarts);
    }

    pub(crate) fn agent_starts(&mut self) {
        self.note(|| "the agent starts".to_owned());
        self.engine.up = true;
        self.engine_changed();
    }

    /// Something changed that control will be shown; changes close to each other are shown at once.
    pub(crate) fn engine_changed(&mut self) {
        if self.engine.will_show {
            return;
        }
        self.engine.will_show = true;
        let delay = self.delay();
        self.after(delay, Event::EngineShows);
    }

    pub(crate) fn engine_shows(&mut self) {
        self.engine.will_show = false;
        if !self.engine.up || self.control.is_none() {
            return;
        }
        let mut observation = Observation::new();
        for (id, instance) in &self.engine.instances {
            observation
                .entry(instance.service)
                .or_default()
                .push(InstanceObservation {
                    id: *id,
                    service: instance.service,
                    revision: instance.revision,
                    created_at: instance.created_at,
                    state: instance.state.clone(),
                    activity: Activity::Boosted,
                    builds: false,
                });
        }
        let life = self.control_life;
        let observation = Some(Rc::new(observation));
        self.send(
            Channel::Observations,
            Event::ObservationArrives { life, observation },
        );
    }

    /// Every stop is checked where it takes effect: by what is, not by what control believes.
    fn check_stop(&mut self, id: InstanceId) {
        if self.edge.has(id) {
            self.violate(Rule::StopsOnlyUnrouted, || {
                format!(
                    "instance {} was stopped while an edge worker may choose it",
                    id.short()
                )
            });
        }
        let drained_for = self.edge.unrouted_for(id, self.now);
        if self.edge.holds(id) && drained_for < self.timing.drain_limit {
            self.violate(Rule::LosesNoRequest, || {
                format!(
                    "instance {} was stopped with a request in it, {} ms into its drain",
                    id.short(),
                    drained_for.as_millis()
                )
            });
        }
    }
}

impl Call {
    /// The answer when the agent is not there.
    fn failed(self) -> Answer {
        match self {
            Self::Prepare { operation, .. } => Answer::Image {
                operation,
                progress: ImageProgress::NotAsked,
            },
            Self::Start {
                instance, revision, ..
            } => Answer::call(instance, CallKind::Start(revision)).failed(),
            Self::Stop { instance, .. } => Answer::call(instance, CallKind::Stop).failed(),
            Self::Remove { instance } => Answer::call(instance, CallKind::Remove).failed(),
            Self::ForgetService => Answer::Forgotten { ok: false },
        }
    }
}

const fn kind_of(cause: &ExitCause) -> &'static str {
    match cause {
        ExitCause::Code { code: 0 } => "exit code 0",
        ExitCause::Code { .. } => "another exit code",
        ExitCause::Signal { signal: 9 } => "killed",
        ExitCause::Signal { signal: 15 } => "stopped",
        ExitCause::Signal { .. } => "another signal",
        ExitCause::OutOfMemory => "out of memory",
        ExitCause::OutOfDisk => "out of disk",
        ExitCause::StartFailed { .. } => "not started",
        ExitCause::Lost => "lost",
    }
}

/// A random instance id.
pub(crate) fn instance_id(random: &mut Random) -> InstanceId {
    InstanceId::from_bytes(random.id())
}

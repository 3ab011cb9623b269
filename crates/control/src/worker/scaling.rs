//! How many instances a worker's service is to have: the demand goes in, a number for the plan comes
//! out, and what was decided is kept for people.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ekiden_engine::Engine;
use ekiden_model::{
    health::Verdict,
    id::InstanceId,
    instance::{Activity, Limits},
    plan::{self, InstanceView, Traffic},
    scale::{Decision, Demand, Fleet, Reason, ScaleSettings, Scaler},
    time::Timestamp,
    usage,
};

use super::{Worker, starts::Start};
use crate::clock;

/// Decisions kept for one service.
pub(crate) const DECISIONS_MAX: usize = 20;

/// What is remembered for the scaling of one service; not longer than it serves.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    scaler: Scaler,
    settings: ScaleSettings,
    fleet: Option<Fleet>,
    wanted: Option<u32>,
    activity: Option<Activity>,
    look_again_at: Option<Timestamp>,
    /// When the minimum changes by itself.
    bounds_change_at: Option<Timestamp>,
    /// Instances that were ready when it was last looked.
    ready: HashSet<InstanceId>,
    /// What one of them may use.
    limits: Option<Limits>,
    /// How long the start took that ended last.
    start_time: Duration,
}

/// A service's scaling, for people. Of this life of control.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<ScalingView>);

/// See [`Shown`].
#[derive(Debug, Clone, Default)]
pub(crate) struct ScalingView {
    /// What was decided last; `None` while nothing is known or nothing serves.
    pub(crate) now: Option<Decided>,
    /// The decisions that changed the number, the newest last.
    pub(crate) decisions: VecDeque<Decided>,
    /// The last starts, the newest last.
    pub(crate) starts: VecDeque<Start>,
    /// What the engine said to the newest start, if it refused it.
    pub(crate) refused: Option<String>,
}

/// A decision with what it was made from.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) at: Timestamp,
    pub(crate) wanted: u32,
    pub(crate) reason: Reason,
    pub(crate) activity: Activity,
    pub(crate) demand: Demand,
    pub(crate) fleet: Fleet,
}

impl Scaling {
    /// How much the service's instances may do; `None` until it is decided.
    pub(super) const fn activity(&self) -> Option<Activity> {
        self.activity
    }

    /// Whether what instances use can change what is decided.
    pub(super) fn follows_usage(&self) -> bool {
        let targets = [self.settings.cpu_target, self.settings.memory_target];
        targets.iter().any(Option::is_some)
    }
}

impl Shown {
    pub(crate) fn view(&self) -> ScalingView {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last starts, the newest last.
    pub(crate) fn starts(&self) -> VecDeque<Start> {
        let view = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        view.starts.clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ScalingView)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<E: Engine> Worker<E> {
    /// Looks at demand and instances and decides.
    pub(super) fn scale(&mut self, instances: &[InstanceView]) -> Option<u32> {
        // What the engine does not show now says nothing about what there is.
        if !self.observed.borrow().current {
            return self.scaling.wanted;
        }
        let fleet = plan::fleet(&self.view(instances));
        let active = self.stored.service.active;
        let revision = active.and_then(|number| self.revisions.get(&number));
        let (Some(mut fleet), Some(revision)) = (fleet, revision) else {
            self.scaling = Scaling::default();
            self.shown.update(|shown| shown.now = None);
            return None;
        };
        let options = &self.stored.service.scaling;
        let defaults = &self.tools.scaling;
        let now = clock::now();
        self.scaling.settings = options.settings(&revision.settings.scaling, defaults, now);
        self.scaling.bounds_change_at = options.bounds_change_in(now).map(|after| now.plus(after));
        let ready = instances.iter().filter(|instance| {
            instance.verdict == Verdict::Healthy && Some(instance.revision) == active
        });
        for new in ready
            .clone()
            .filter(|instance| instance.traffic == Traffic::Never)
        {
            if !self.scaling.ready.contains(&new.id) {
                self.scaling.start_time = now.since(new.created_at);
            }
        }
        self.scaling.ready = ready.map(|instance| instance.id).collect();
        fleet.start_time = self.scaling.start_time;
        let there = fleet.ready + fleet.starting;
        self.scaling.limits = Some(revision.settings.limits());
        self.scaling.fleet = Some(fleet);
        self.decide();
        if self.scaling.wanted.is_some_and(|wanted| wanted <= there) {
            self.set_refused(None);
        }
        self.scaling.wanted
    }

    /// Decides anew with what the worker last saw; whether there is something to do about it.
    pub(super) fn decide(&mut self) -> bool {
        let demand = *self.demand.borrow_and_update();
        let Scaling {
            scaler,
            settings,
            fleet: Some(fleet),
            ready,
            limits: Some(limits),
            wanted: wanted_before,
            activity: activity_before,
            look_again_at,
            ..
        } = &mut self.scaling
        else {
            return false;
        };
        let Some(demand) = demand else { return false };
        let usages = self.usage.borrow_and_update().clone();
        fleet.load = usage::load(&usages, ready.iter().copied(), limits);
        let at = clock::now();
        let decision = scaler.decide(at, settings, demand, fleet);
        let Decision {
            wanted,
            reason,
            activity,
            look_again_in,
        } = decision;
        let changed = wanted_before.replace(wanted) != Some(wanted);
        let turns = activity_before.replace(activity) != Some(activity);
        let decided = Decided {
            at,
            wanted,
            reason,
            activity,
            demand,
            fleet: fleet.clone(),
        };
        *look_again_at = look_again_in.map(|after| at.plus(after));
        if changed {
            tracing::debug!(service = %self.stored.service.name, wanted, %reason,
                in_flight = demand.in_flight, queued = demand.queued, "scaling decided");
        }
        self.shown.update(|shown| {
            if changed {
                if shown.decisions.len() >= DECISIONS_MAX {
                    shown.decisions.pop_front();
                }
                shown.decisions.push_back(decided.clone());
            }
            shown.now = Some(decided);
        });
        changed || turns
    }

    /// Notes what the engine said to the newest start: nothing, if it did not refuse it.
    pub(super) fn set_refused(&mut self, refused: Option<String>) {
        if self.refused != refused {
            self.refused.clone_from(&refused);
            self.shown.update(|shown| shown.refused = refused);
        }
    }

    /// Lets people see how far starts have come.
    pub(super) fn show_starts(&self) {
        let starts = self.starts.newest();
        self.shown.update(|shown| shown.starts = starts);
    }

    /// How long until the decision is to be looked at again.
    pub(super) fn scales_in(&self) -> Option<Duration> {
        let ats = [self.scaling.look_again_at, self.scaling.bounds_change_at];
        let at = ats.into_iter().flatten().min()?;
        // No sooner than the clock can tell apart.
        Some(at.since(clock::now()).max(Duration::from_millis(1)))
    }
}

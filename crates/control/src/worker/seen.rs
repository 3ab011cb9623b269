//! What a worker sees: the engine's instances, the probes' verdicts and the edges' reports, as one
//! view for the plan.

use std::{collections::HashSet, sync::Arc};

use ekiden_engine::Engine;
use ekiden_model::{
    health::{Health, Verdict},
    id::InstanceId,
    instance::{Activity, InstanceState, RevisionNumber},
    plan::{InstanceView, Traffic},
    time::Timestamp,
};
use ekiden_store::StoreError;

use super::{
    Worker,
    calls::{CallKind, CallState},
};
use crate::{clock, probe::Prober};

impl<E: Engine> Worker<E> {
    /// Takes in what the engine has now. An instance that an earlier worker started may be known to
    /// an edge, whatever the stored route says.
    pub(super) fn observed(&mut self) {
        let current = self.observed.borrow_and_update().clone();
        let ids: HashSet<InstanceId> = current.instances.iter().map(|i| i.id).collect();
        self.probers.retain(|id, _| ids.contains(id));
        if current.current {
            self.started
                .retain(|id| ids.contains(id) || self.calls.keys().any(|(c, _)| c == id));
            self.routed.retain(|id| ids.contains(id));
            self.unrouted.retain(|id, _| ids.contains(id));
            self.stopping.retain(|id, _| ids.contains(id));
            self.unanswered.retain(|(_, id)| !ids.contains(id));
        }
        self.routed.extend(ids.difference(&self.started));
        self.retry_after = None;
    }

    /// Every instance the engine has and every one that is being started.
    pub(super) fn instances(&mut self) -> Vec<InstanceView> {
        let observed = self.observed.borrow().clone();
        let mut views = Vec::with_capacity(observed.instances.len());
        let now = clock::now();
        for instance in observed.instances {
            let health = self.probers.get(&instance.id).map(Prober::health);
            let health = health.unwrap_or_else(Health::starting);
            views.push(InstanceView {
                id: instance.id,
                revision: instance.revision,
                state: self.state(instance.id, instance.state),
                created_at: instance.created_at,
                verdict: health.verdict,
                failing: health.is_failing(),
                last_failure: health.last_failure,
                activity: self.activity(instance.id, instance.activity),
                traffic: self.traffic(instance.id, now),
            });
        }
        for ((id, kind), state) in &self.calls {
            let CallKind::Start(revision) = kind else {
                continue;
            };
            if views.iter().any(|view| view.id == *id) {
                continue;
            }
            let created_at = match state {
                CallState::Running => now,
                CallState::Answered(at) => *at,
            };
            views.push(InstanceView {
                id: *id,
                revision: *revision,
                state: InstanceState::Creating,
                created_at,
                verdict: Verdict::Starting,
                last_failure: None,
                failing: false,
                activity: Activity::Boosted,
                traffic: Traffic::Never,
            });
        }
        views
    }

    /// From the moment it is asked to stop an instance counts as stopping: the observation may be
    /// older than that, and what is on its way out must not be routed again.
    fn state(&self, id: InstanceId, seen: InstanceState) -> InstanceState {
        match seen {
            InstanceState::Running { address, .. } if self.stopping.contains_key(&id) => {
                InstanceState::Stopping { address }
            }
            other => other,
        }
    }

    /// What was asked for last, until the observation shows it.
    fn activity(&self, id: InstanceId, seen: Activity) -> Activity {
        self.activities.get(&id).copied().unwrap_or(seen)
    }

    /// Lets an instance's probes know how much it may do: nobody asks a frozen one how it is.
    pub(super) fn rest_probes(&self, id: InstanceId) {
        let observed = self.observed.borrow();
        let seen = observed.instances.iter().find(|instance| instance.id == id);
        let activity = self.activity(id, seen.map(|seen| seen.activity).unwrap_or_default());
        if let Some(prober) = self.probers.get(&id) {
            prober.set_activity(activity);
        }
    }

    pub(super) fn traffic(&mut self, id: InstanceId, now: Timestamp) -> Traffic {
        if self.in_route(id) {
            self.unrouted.remove(&id);
            return Traffic::Routed;
        }
        if !self.routed.contains(&id) {
            return Traffic::Never;
        }
        let edge = self.edge.borrow();
        match (self.unrouted.get(&id), edge.serving) {
            // An edge that was restarted may serve by an older table until it says otherwise.
            (_, None) => Traffic::Routed,
            (None, Some(serving)) if serving < self.published_in => Traffic::Routed,
            (since, Some(_)) => {
                let since = since.copied().unwrap_or(now);
                let busy = edge.draining.contains(&id);
                self.unrouted.insert(id, since);
                Traffic::Unrouted { since, busy }
            }
        }
    }

    /// Probes every running instance, and no other.
    pub(super) fn probe(&mut self) {
        let observed = self.observed.borrow();
        for instance in &observed.instances {
            let InstanceState::Running {
                address,
                started_at,
            } = instance.state
            else {
                self.probers.remove(&instance.id);
                continue;
            };
            if self.probers.contains_key(&instance.id) {
                continue;
            }
            let Some(revision) = self.revisions.get(&instance.revision) else {
                continue;
            };
            let in_route = self.published.as_ref().is_some_and(|route| {
                route
                    .upstreams
                    .iter()
                    .any(|upstream| upstream.instance == instance.id)
            });
            let health = match in_route {
                true => Health::assumed_healthy(),
                false => Health::starting(),
            };
            let prober = Prober::start(
                revision.settings.health.clone(),
                (address, revision.settings.port).into(),
                started_at,
                health,
                Arc::clone(&self.health_changed),
            );
            prober.set_activity(instance.activity);
            self.probers.insert(instance.id, prober);
        }
    }

    /// Revisions that are planned by or have instances; the others are let go.
    pub(super) async fn load_revisions(&mut self) -> Result<(), StoreError> {
        let service = &self.stored.service;
        let candidate = service
            .operation
            .as_ref()
            .and_then(|operation| operation.candidate);
        let mut needed: HashSet<RevisionNumber> =
            service.active.into_iter().chain(candidate).collect();
        needed.extend(self.observed.borrow().instances.iter().map(|i| i.revision));
        self.revisions.retain(|number, _| needed.contains(number));
        for number in needed {
            if self.revisions.contains_key(&number) {
                continue;
            }
            if let Some(revision) = self.tools.store.revision(service.id, number).await? {
                self.revisions.insert(number, Arc::new(revision));
            }
        }
        Ok(())
    }
}

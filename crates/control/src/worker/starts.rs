//! How long each stage of a start took, for people: what to make faster when it is slow.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use ekiden_model::{
    health::Verdict,
    id::InstanceId,
    plan::{InstanceView, Traffic},
    time::Timestamp,
};
use tokio::time::Instant;

use crate::clock;

/// Starts kept for one service.
pub(crate) const STARTS_MAX: usize = 20;

/// One start, as far as it has come.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) instance: InstanceId,
    /// When it was ordered.
    pub(crate) at: Timestamp,
    /// From the news that made it necessary to the order.
    pub(crate) decide: Duration,
    /// Until its process ran.
    pub(crate) prepare: Option<Duration>,
    /// Until it was healthy.
    pub(crate) listen: Option<Duration>,
    /// Until every edge sent it requests.
    pub(crate) route: Option<Duration>,
}

/// The last starts of a service.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// Oldest first.
    newest: VecDeque<Start>,
    /// When those that go on had come so far.
    since: HashMap<InstanceId, Instant>,
}

impl Starts {
    pub(super) fn ordered(&mut self, instance: InstanceId, news: Instant) {
        let now = Instant::now();
        if self.newest.iter().any(|start| start.instance == instance) {
            return; // it is ordered once more
        }
        if self.newest.len() >= STARTS_MAX
            && let Some(oldest) = self.newest.pop_front()
        {
            self.since.remove(&oldest.instance);
        }
        self.since.insert(instance, now);
        self.newest.push_back(Start {
            instance,
            at: clock::now(),
            decide: now - news,
            prepare: None,
            listen: None,
            route: None,
        });
    }

    pub(super) fn prepared(&mut self, instance: InstanceId) {
        self.comes_to(instance, |start| &mut start.prepare, false);
    }

    /// Looks at the instances; whether there is news.
    pub(super) fn look(&mut self, instances: &[InstanceView], acknowledged: bool) -> bool {
        let mut news = false;
        for view in instances {
            if self.since.contains_key(&view.id) && view.verdict == Verdict::Healthy {
                news |= self.comes_to(view.id, |start| &mut start.listen, false);
                if acknowledged && view.traffic == Traffic::Routed {
                    news |= self.comes_to(view.id, |start| &mut start.route, true);
                }
            }
        }
        news
    }

    pub(super) fn newest(&self) -> VecDeque<Start> {
        self.newest.clone()
    }

    fn comes_to(
        &mut self,
        instance: InstanceId,
        stage: impl Fn(&mut Start) -> &mut Option<Duration>,
        last: bool,
    ) -> bool {
        let start = self
            .newest
            .iter_mut()
            .find(|start| start.instance == instance);
        let (Some(start), Some(since)) = (start, self.since.get_mut(&instance)) else {
            return false;
        };
        let took = stage(start);
        if took.is_some() {
            return false;
        }
        *took = Some(since.elapsed());
        *since = Instant::now();
        if last {
            self.since.remove(&instance);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use ekiden_model::instance::{Activity, InstanceState, RevisionNumber};

    use super::*;

    const ONE: InstanceId = InstanceId::from_bytes([1; 16]);

    fn view(verdict: Verdict, traffic: Traffic) -> InstanceView {
        InstanceView {
            id: ONE,
            revision: RevisionNumber(1),
            state: InstanceState::Creating,
            created_at: clock::now(),
            verdict,
            last_failure: None,
            failing: false,
            activity: Activity::Active,
            traffic,
        }
    }

    #[test]
    fn each_stage_is_noted_once_and_in_its_turn() {
        let mut starts = Starts::default();
        starts.ordered(ONE, Instant::now());
        starts.prepared(ONE);
        assert!(!starts.look(&[view(Verdict::Starting, Traffic::Never)], true));
        assert!(starts.look(&[view(Verdict::Healthy, Traffic::Routed)], false));
        assert!(!starts.look(&[view(Verdict::Healthy, Traffic::Routed)], false));
        let seen = starts.newest();
        assert!(seen[0].prepare.is_some() && seen[0].listen.is_some() && seen[0].route.is_none());
        assert!(starts.look(&[view(Verdict::Healthy, Traffic::Routed)], true));
        assert!(starts.newest()[0].route.is_some() && starts.since.is_empty());
    }

    #[test]
    fn only_the_last_are_kept() {
        let mut starts = Starts::default();
        for number in 0..100 {
            starts.ordered(InstanceId::from_bytes([number; 16]), Instant::now());
        }
        assert_eq!(
            (starts.newest.len(), starts.since.len()),
            (STARTS_MAX, STARTS_MAX)
        );
    }
}

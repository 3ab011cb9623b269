//! Scaling: how many instances a service should have.
//!
//! What is asked for now counts at once; what was asked for within [`ScaleSettings::scale_in_delay`]
//! still counts, so that instances go only when they were not needed for that long. An instance
//! that is starting is one of those that there should be: the demand that it is about to serve
//! orders no second one. Where instances keep failing to start, one at a time is tried.
//!
//! Time is what the scaler was told, and passes no further than it asked to be called again: a
//! clock that is set back or forward takes no instances away and holds none.

use std::{collections::VecDeque, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How long the demand must have been lower before instances are taken away.
pub const SCALE_IN_DELAY: Duration = Duration::from_secs(60);

/// How long nothing may have been asked for before the last instance is stopped.
pub const IDLE_TO_ZERO: Duration = Duration::from_secs(15 * 60);

/// How much of an instance's concurrency is used before there is another, in percent.
pub const UTILISATION: u32 = 100;

/// Peaks that a scaler remembers.
const PEAKS_MAX: usize = 64;

/// Peaks closer together than this part of the delay are one.
const PEAKS_PER_DELAY: u32 = 32;

/// How a service is scaled: its auto scaling configuration, and Ekiden's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSettings {
    /// Kept at all times. With 0 the last instance is stopped when nothing is asked for.
    pub instances_min: u32,
    /// Never more than this; it counts before the minimum. At least 1.
    pub instances_max: u32,
    /// Requests that one instance holds at once. At least 1.
    pub concurrency_per_instance: u32,
    /// How much of the concurrency is used before there is another instance: 1 to 100 percent.
    pub utilisation: u32,
    /// How long the demand must have been lower before instances are taken away.
    pub scale_in_delay: Duration,
    /// With a minimum of 0: how long nothing may have been asked for before the last one is stopped.
    pub idle_to_zero: Duration,
}

/// What is asked of a service now, at all edges together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Requests that instances hold.
    pub in_flight: u32,
    /// Requests that wait for an instance.
    pub queued: u32,
}

/// The instances that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// They serve.
    pub ready: u32,
    /// Ordered, and not ready yet.
    pub starting: u32,
    /// Instances keep failing to start: until then no more than one at a time is tried above the
    /// minimum.
    pub failing_until: Option<Timestamp>,
    /// How long starts took lately, from order to ready.
    pub start_time: Duration,
}

/// What the scaling of one service remembers. Bounded.
#[derive(Debug, Clone, Default)]
pub struct Scaler {
    /// The clock at the last call.
    called: Option<Timestamp>,
    /// How much time has passed, counted by the calls.
    at: Duration,
    /// How soon the last decision asked to be looked at again.
    asked: Option<Duration>,
    /// What was asked for at the last call, and has been until this one.
    requests: u32,
    /// The highest demands, oldest first, each lower than the one before it.
    peaks: VecDeque<Peak>,
    /// When there last was a reason to have an instance: a request, or one that was started without
    /// any. `None` when that is longer ago than the idle delay.
    needed: Option<Duration>,
    /// There was an instance at the last call.
    inhabited: bool,
}

#[derive(Debug, Clone, Copy)]
struct Peak {
    requests: u32,
    began: Duration,
    /// When there last was as much demand as this, or almost.
    ended: Duration,
}

/// How many instances there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Ready and starting ones together.
    pub wanted: u32,
    /// Why as many.
    pub reason: Reason,
    /// When to decide again although nothing has changed.
    pub look_again_in: Option<Duration>,
}

/// Why there should be as many instances as there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Less is asked for than the minimum serves.
    Minimum,
    /// More is asked for than the maximum serves at once.
    Maximum,
    /// As many as what is asked for needs.
    Demand,
    /// Less is asked for now, but not for long enough.
    Holding,
    /// Nothing has been asked for, for long enough.
    Idle,
    /// More are needed, but they keep failing to start.
    FailingToStart,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minimum => "the minimum",
            Self::Maximum => "the maximum, and more is asked for",
            Self::Demand => "what is asked for needs as many",
            Self::Holding => "less is asked for, but not for long enough",
            Self::Idle => "nothing is asked for",
            Self::FailingToStart => "more are needed, but instances fail to start",
        })
    }
}

impl Default for ScaleSettings {
    fn default() -> Self {
        let scaling = crate::revision::Scaling::default();
        Self {
            instances_min: scaling.instances_min,
            instances_max: scaling.instances_max,
            concurrency_per_instance: scaling.concurrency_per_instance,
            utilisation: UTILISATION,
            scale_in_delay: SCALE_IN_DELAY,
            idle_to_zero: IDLE_TO_ZERO,
        }
    }
}

impl ScaleSettings {
    /// Requests that one instance is meant to hold.
    fn requests_per_instance(&self) -> u32 {
        let percent = u64::from(self.utilisation.clamp(1, 100));
        let requests = u64::from(self.concurrency_per_instance) * percent / 100;
        u32::try_from(requests).unwrap_or(u32::MAX).max(1)
    }

    /// The least and the most instances.
    fn bounds(&self) -> (u32, u32) {
        let most = self.instances_max.max(1);
        (self.instances_min.min(most), most)
    }
}

impl Demand {
    fn requests(self) -> u32 {
        self.in_flight.saturating_add(self.queued)
    }
}

impl Scaler {
    /// Remembers nothing: what there is at the first decision counts as needed until then.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what is asked for and decides how many instances there should be.
    ///
    /// To be called when demand, fleet or settings have changed, and when the last decision asked
    /// for it.
    pub fn decide(
        &mut self,
        now: Timestamp,
        settings: &ScaleSettings,
        demand: Demand,
        fleet: &Fleet,
    ) -> Decision {
        self.note(now, settings, demand, fleet);
        let mut decision = self.sized(settings, demand);
        if let Some(left) = failing(now, fleet) {
            let (least, _) = settings.bounds();
            let tried = fleet.ready.saturating_add(fleet.starting.max(1)).max(least);
            if tried < decision.wanted {
                decision.wanted = tried;
                decision.reason = Reason::FailingToStart;
                decision.look_again_in = sooner(decision.look_again_in, Some(left));
            }
        }
        self.asked = decision.look_again_in;
        decision
    }

    /// Lets time pass and remembers the demand.
    fn note(&mut self, now: Timestamp, settings: &ScaleSettings, demand: Demand, fleet: &Fleet) {
        let there = fleet.ready.saturating_add(fleet.starting);
        match self.called {
            Some(called) => self.at += now.since(called).min(self.asked.unwrap_or_default()),
            None => self.requests = settings.requests_per_instance().saturating_mul(there),
        }
        self.called = Some(now);
        // What was asked for at the last call was asked for until now.
        self.peak(self.requests, settings);
        self.peak(demand.requests(), settings);
        let appeared = there > 0 && !self.inhabited;
        self.inhabited = there > 0;
        if self.requests > 0 || demand.requests() > 0 || appeared {
            self.needed = Some(self.at);
        }
        self.requests = demand.requests();
    }

    fn peak(&mut self, requests: u32, settings: &ScaleSettings) {
        let at = self.at;
        let (delay, apart) = (
            settings.scale_in_delay,
            settings.scale_in_delay / PEAKS_PER_DELAY,
        );
        let counts = |peak: &Peak| at - peak.ended < delay;
        while self.peaks.front().is_some_and(|peak| !counts(peak)) {
            self.peaks.pop_front();
        }
        let mut began = at;
        while let Some(lower) = self.peaks.pop_back_if(|peak| peak.requests <= requests) {
            if lower.requests == requests {
                began = lower.began;
            }
        }
        let full = self.peaks.len() >= PEAKS_MAX;
        match self.peaks.back_mut() {
            Some(last) if full || at - last.began < apart => last.ended = at,
            _ => self.peaks.push_back(Peak {
                requests,
                began,
                ended: at,
            }),
        }
    }

    /// How many instances the demand needs, whatever becomes of them.
    fn sized(&mut self, settings: &ScaleSettings, demand: Demand) -> Decision {
        let (least, most) = settings.bounds();
        let need = |requests: u32| requests.div_ceil(settings.requests_per_instance());
        let needed_now = need(demand.requests());
        if least == 0 && demand.requests() == 0 {
            let idle_for = self.needed.map(|needed| self.at - needed);
            let left = idle_for.and_then(|idle| settings.idle_to_zero.checked_sub(idle));
            match left {
                Some(left) if !left.is_zero() => {
                    return self.held(settings, needed_now, (1, most), Some(left));
                }
                _ => {
                    self.needed = None;
                    self.peaks.clear();
                    return Decision {
                        wanted: 0,
                        reason: Reason::Idle,
                        look_again_in: None,
                    };
                }
            }
        }
        self.held(settings, needed_now, (least, most), None)
    }

    /// The higher of what is needed now and what was needed lately, within bounds.
    fn held(
        &self,
        settings: &ScaleSettings,
        needed_now: u32,
        (least, most): (u32, u32),
        look_again_in: Option<Duration>,
    ) -> Decision {
        let highest = self.peaks.front();
        let lately = highest.map_or(0, |peak| {
            peak.requests.div_ceil(settings.requests_per_instance())
        });
        let needed = needed_now.max(lately);
        let wanted = needed.clamp(least, most);
        let holds = wanted > needed_now.clamp(least, most);
        let over = highest.map(|peak| settings.scale_in_delay.saturating_sub(self.at - peak.ended));
        Decision {
            wanted,
            reason: match () {
                () if holds || look_again_in.is_some() => Reason::Holding,
                () if needed_now > most => Reason::Maximum,
                () if needed_now <= least && settings.bounds().0 > 0 => Reason::Minimum,
                () => Reason::Demand,
            },
            look_again_in: match holds {
                true => sooner(look_again_in, over),
                false => look_again_in,
            },
        }
    }
}

/// How long instances still count as failing to start.
fn failing(now: Timestamp, fleet: &Fleet) -> Option<Duration> {
    let left = fleet.failing_until?.since(now);
    (!left.is_zero()).then_some(left)
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(min: u32, max: u32, concurrency: u32) -> ScaleSettings {
        ScaleSettings {
            instances_min: min,
            instances_max: max,
            concurrency_per_instance: concurrency,
            ..ScaleSettings::default()
        }
    }

    fn demand(in_flight: u32, queued: u32) -> Demand {
        Demand { in_flight, queued }
    }

    /// A service whose instances are there as soon as they are wanted.
    struct World {
        scaler: Scaler,
        settings: ScaleSettings,
        now: Timestamp,
        fleet: Fleet,
        last: Decision,
    }

    impl World {
        fn new(settings: ScaleSettings) -> Self {
            Self {
                scaler: Scaler::new(),
                settings,
                now: Timestamp::from_millis(1_000_000_000),
                fleet: Fleet::default(),
                last: Decision {
                    wanted: 0,
                    reason: Reason::Idle,
                    look_again_in: None,
                },
            }
        }

        fn decide(&mut self, demand: Demand) -> Decision {
            self.last = self
                .scaler
                .decide(self.now, &self.settings, demand, &self.fleet);
            self.fleet.ready = self.last.wanted;
            self.last
        }

        /// Lets time pass, looking again whenever it was asked for.
        fn pass(&mut self, time: Duration, demand: Demand) -> Decision {
            let end = self.now.plus(time);
            self.decide(demand);
            while let Some(wait) = self.last.look_again_in
                && self.now.plus(wait) <= end
            {
                assert!(!wait.is_zero());
                self.now = self.now.plus(wait.max(Duration::from_millis(1)));
                self.decide(demand);
            }
            self.now = end;
            self.decide(demand)
        }

        #[track_caller]
        fn check(&mut self, demand: Demand, wanted: u32, reason: Reason) {
            let decision = self.decide(demand);
            assert_eq!((decision.wanted, decision.reason), (wanted, reason));
        }
    }

    #[test]
    fn more_demand_counts_at_once() {
        let mut world = World::new(settings(1, 25, 10));
        world.check(demand(0, 0), 1, Reason::Minimum);
        world.check(demand(10, 0), 1, Reason::Minimum);
        world.check(demand(10, 1), 2, Reason::Demand);
        world.check(demand(10, 190), 20, Reason::Demand);
        world.check(demand(10, 1_000), 25, Reason::Maximum);
    }

    #[test]
    fn instances_go_when_they_were_not_needed_for_the_delay() {
        let mut world = World::new(settings(1, 25, 10));
        world.decide(demand(200, 0));
        assert_eq!(world.pass(SECOND, demand(200, 0)).wanted, 20);
        world.check(demand(1, 0), 20, Reason::Holding);
        assert_eq!(world.pass(SECOND * 59, demand(1, 0)).wanted, 20);
        assert_eq!(world.pass(SECOND * 3, demand(1, 0)).wanted, 1);
        assert_eq!(world.last.look_again_in, None);
    }

    #[test]
    fn one_waiting_request_wakes_one_instance() {
        let mut world = World::new(settings(0, 25, 10));
        world.check(demand(0, 0), 0, Reason::Idle);
        world.check(demand(0, 1), 1, Reason::Demand);
        world.check(demand(0, 10), 1, Reason::Demand);
    }

    #[test]
    fn the_last_instance_goes_after_the_idle_delay_only() {
        let mut world = World::new(settings(0, 25, 10));
        world.decide(demand(0, 1));
        world.check(demand(0, 0), 1, Reason::Holding);
        let almost = IDLE_TO_ZERO - SECOND;
        assert_eq!(world.pass(almost, demand(0, 0)).wanted, 1);
        world.check(demand(1, 0), 1, Reason::Demand);
        assert_eq!(world.pass(almost, demand(0, 0)).wanted, 1);
        let decision = world.pass(SECOND, demand(0, 0));
        assert_eq!((decision.wanted, decision.reason), (0, Reason::Idle));
        assert_eq!(decision.look_again_in, None);
    }

    #[test]
    fn a_minimum_is_kept_however_idle() {
        let mut world = World::new(settings(2, 25, 10));
        world.decide(demand(0, 0));
        assert_eq!(world.pass(IDLE_TO_ZERO * 2, demand(0, 0)).wanted, 2);
    }

    #[test]
    fn an_instance_started_without_demand_is_given_the_idle_delay() {
        let mut world = World::new(settings(0, 25, 10));
        world.check(demand(0, 0), 0, Reason::Idle);
        world.fleet.ready = 1;
        world.check(demand(0, 0), 1, Reason::Holding);
        assert_eq!(world.pass(IDLE_TO_ZERO, demand(0, 0)).wanted, 0);
    }

    #[test]
    fn what_there_is_at_first_counts_as_needed() {
        let mut world = World::new(settings(1, 25, 10));
        world.fleet.ready = 7;
        world.check(demand(1, 0), 7, Reason::Holding);
        assert_eq!(world.pass(SECOND * 61, demand(1, 0)).wanted, 1);
    }

    #[test]
    fn what_starts_is_part_of_what_is_wanted() {
        let mut scaler = Scaler::new();
        let settings = settings(1, 25, 10);
        let mut fleet = Fleet {
            ready: 1,
            ..Fleet::default()
        };
        for ms in 0..500 {
            let now = Timestamp::from_millis(ms);
            let decision = scaler.decide(now, &settings, demand(10, 10), &fleet);
            assert_eq!(decision.wanted, 2);
            fleet.starting = decision.wanted - fleet.ready;
        }
    }

    #[test]
    fn one_at_a_time_while_starts_fail() {
        let mut scaler = Scaler::new();
        let settings = settings(0, 25, 10);
        let until = Timestamp::from_millis(5_000);
        let mut decide = |now, ready, starting| {
            let fleet = Fleet {
                ready,
                starting,
                failing_until: Some(until),
                start_time: SECOND,
            };
            scaler.decide(
                Timestamp::from_millis(now),
                &settings,
                demand(0, 200),
                &fleet,
            )
        };
        let decision = decide(0, 0, 0);
        assert_eq!(
            (decision.wanted, decision.reason),
            (1, Reason::FailingToStart)
        );
        assert_eq!(decision.look_again_in, Some(SECOND * 5));
        assert_eq!(decide(100, 0, 1).wanted, 1);
        assert_eq!(decide(200, 1, 0).wanted, 2);
        assert_eq!(decide(5_000, 1, 0).wanted, 20);
    }

    #[test]
    fn a_clock_set_back_or_forward_changes_nothing() {
        for jump in [0, 1, 900_000_000, 1_100_000_000, u64::MAX] {
            let mut world = World::new(settings(0, 25, 10));
            world.decide(demand(200, 0));
            world.check(demand(1, 0), 20, Reason::Holding);
            world.pass(SECOND * 10, demand(1, 0));
            world.now = Timestamp::from_millis(jump.min(u64::MAX - 10_000_000_000));
            assert!(world.decide(demand(1, 0)).wanted >= 1);
            // At most one wait is taken for passed; what waits is served by as many as before.
            assert_eq!(world.decide(demand(1, 199)).wanted, 20);
            world.check(demand(1, 0), 20, Reason::Holding);
            assert_eq!(world.pass(SECOND * 63, demand(1, 0)).wanted, 1);
        }
    }

    #[test]
    fn absurd_settings_are_bounded() {
        let absurd = ScaleSettings {
            instances_min: u32::MAX,
            instances_max: 0,
            concurrency_per_instance: 0,
            utilisation: 0,
            scale_in_delay: Duration::MAX,
            idle_to_zero: Duration::MAX,
        };
        let mut world = World::new(absurd);
        for requests in [0, 1, u32::MAX, 0] {
            assert_eq!(world.decide(demand(requests, requests)).wanted, 1);
            world.now = Timestamp::from_millis(u64::MAX);
        }
        let mut world = World::new(ScaleSettings {
            scale_in_delay: Duration::ZERO,
            idle_to_zero: Duration::ZERO,
            ..settings(0, u32::MAX, u32::MAX)
        });
        assert_eq!(world.decide(demand(u32::MAX, u32::MAX)).wanted, 1);
        assert_eq!(world.decide(demand(0, 0)).wanted, 0);
    }

    /// One call: how long after the one before (negative: the clock was set back), the demand, what
    /// is starting of what is wanted, and whether starts fail.
    type Call = (i64, u32, u32, u32, bool);

    fn any_settings() -> impl Strategy<Value = ScaleSettings> {
        (
            0..4u32,
            0..60u32,
            0..20u32,
            0..150u32,
            0..100_000u64,
            0..100_000u64,
        )
            .prop_map(
                |(min, max, concurrency, utilisation, delay, idle)| ScaleSettings {
                    instances_min: min,
                    instances_max: max,
                    concurrency_per_instance: concurrency,
                    utilisation,
                    scale_in_delay: Duration::from_millis(delay),
                    idle_to_zero: Duration::from_millis(idle),
                },
            )
    }

    fn any_calls() -> impl Strategy<Value = Vec<Call>> {
        let call = (
            prop_oneof![0..2_000i64, 0..100_000i64, -100_000..0i64],
            0..200u32,
            prop_oneof![Just(0), 0..200u32, Just(u32::MAX)],
            0..5u32,
            prop::bool::weighted(0.1),
        );
        prop::collection::vec(call, 1..120)
    }

    fn replay(settings: &ScaleSettings, calls: &[Call]) -> (Scaler, Timestamp, Fleet) {
        let mut scaler = Scaler::new();
        let (mut now, mut fleet) = (1_000_000_000u64, Fleet::default());
        for &(after, in_flight, queued, starting, failing) in calls {
            now = now.saturating_add_signed(after);
            let at = Timestamp::from_millis(now);
            fleet.failing_until = failing.then(|| at.plus(SECOND));
            let decision = scaler.decide(at, settings, demand(in_flight, queued), &fleet);
            let most = settings.instances_max.max(1);
            assert!(decision.wanted <= most);
            assert!(decision.wanted >= settings.instances_min.min(most));
            assert!(decision.wanted > 0 || in_flight + queued.min(1) == 0);
            assert_ne!(decision.look_again_in, Some(Duration::ZERO));
            assert!(scaler.peaks.len() <= PEAKS_MAX);
            fleet.starting = starting.min(decision.wanted);
            fleet.ready = decision.wanted - fleet.starting;
        }
        (scaler, Timestamp::from_millis(now), fleet)
    }

    proptest! {
        #[test]
        fn wanted_is_within_bounds(settings in any_settings(), calls in any_calls()) {
            replay(&settings, &calls);
        }

        #[test]
        fn more_demand_never_wants_less(
            settings in any_settings(), calls in any_calls(), after in 0..100_000u64,
            less in 0..300u32, more in 0..300u32,
        ) {
            let (scaler, now, fleet) = replay(&settings, &calls);
            let now = now.plus(Duration::from_millis(after));
            let wanted = |requests| {
                scaler.clone().decide(now, &settings, demand(requests, 0), &fleet).wanted
            };
            prop_assert!(wanted(less.min(more)) <= wanted(less.max(more)));
        }

        #[test]
        fn queued_and_in_flight_count_the_same(
            settings in any_settings(), calls in any_calls(), requests in 0..300u32,
        ) {
            let (scaler, now, fleet) = replay(&settings, &calls);
            let wanted = |demand| scaler.clone().decide(now, &settings, demand, &fleet).wanted;
            prop_assert_eq!(wanted(demand(requests, 0)), wanted(demand(0, requests)));
        }

        /// What was needed within the delay is still there.
        #[test]
        fn nothing_goes_that_was_needed_within_the_delay(
            steps in prop::collection::vec((1..5_000u64, 0..300u32), 1..200),
        ) {
            let mut world = World::new(settings(1, 25, 10));
            let mut needs: Vec<(Timestamp, u32)> = Vec::new();
            for (ms, requests) in steps {
                let wanted = world.decide(demand(requests, 0)).wanted;
                needs.push((world.now, requests.div_ceil(10).clamp(1, 25)));
                let since = |at: &Timestamp| world.now.since(*at) < SCALE_IN_DELAY;
                let highest = needs.iter().filter(|(at, _)| since(at)).map(|(_, need)| *need).max();
                prop_assert!(wanted >= highest.unwrap_or_default());
                world.pass(Duration::from_millis(ms), demand(requests, 0));
            }
        }

        /// A demand that goes up and down within the delay moves nothing after its first rise.
        #[test]
        fn a_swing_within_the_delay_moves_nothing(
            low in 0..300u32, high in 0..300u32, up in 1..40_000u64, down in 1..40_000u64,
        ) {
            let mut world = World::new(settings(1, 25, 10));
            let wanted = world.decide(demand(low.max(high), 0)).wanted;
            for _ in 0..20 {
                world.pass(Duration::from_millis(up), demand(low.max(high), 0));
                prop_assert_eq!(world.last.wanted, wanted);
                world.pass(Duration::from_millis(down), demand(low.min(high), 0));
                prop_assert_eq!(world.last.wanted, wanted);
            }
        }

        /// Whatever happened, a service that is left alone comes to its minimum and asks no more.
        #[test]
        fn all_comes_to_rest(settings in any_settings(), calls in any_calls()) {
            let (scaler, now, fleet) = replay(&settings, &calls);
            let mut world = World::new(settings);
            (world.scaler, world.now, world.fleet) = (scaler, now, fleet);
            world.fleet.failing_until = None;
            world.decide(demand(0, 0));
            let rest = world.pass(SECOND * 1_000, demand(0, 0));
            let (least, _) = world.settings.bounds();
            prop_assert_eq!(rest.wanted, least);
            prop_assert_eq!(rest.look_again_in, None);
        }
    }
}

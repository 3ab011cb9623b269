//! Scaling: how many instances a service should have. docs/scaling-rule.md explains the rule and shows
//! what it comes to in a simulation.
//!
//! What is asked for now counts at once, queued requests like those in flight. It is held in two
//! windows: a peak for [`PEAK_HOLD_MIN`] or the time that two starts take, and what lasted, smoothed
//! over [`SMOOTHING`], for [`ScaleSettings::scale_in_delay`]. An instance that is starting is one of
//! those that there should be: the demand that it is about to serve orders no second one, and no
//! more than [`GROWTH_MAX`] are ordered for each that has proven itself. Where instances keep failing
//! to start, one at a time is tried.
//!
//! Time is what the scaler was told, and while something is awaited it passes no further than the
//! scaler asked to be called again: a clock that is set back or forward takes no instances away and
//! holds none.

use std::{collections::VecDeque, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{instance::Activity, time::Timestamp};

/// How long the demand must have been lower before instances are taken away.
pub const SCALE_IN_DELAY: Duration = Duration::from_secs(60);

/// How long nothing may have been asked for before the last instance is stopped.
pub const IDLE_TO_ZERO: Duration = Duration::from_secs(15 * 60);

/// How much of an instance's concurrency is used before there is another, in percent.
pub const UTILISATION: u32 = 100;

/// What instances use is averaged over about this long: a second of work orders no instance.
pub const LOAD_SMOOTHING: Duration = Duration::from_secs(10);

/// What this part of an instance's target would carry needs no instance.
const LOAD_TOLERANCE: f64 = 0.01;

/// Requests in flight are averaged over about this long, to tell what lasts from what does not.
pub const SMOOTHING: Duration = Duration::from_secs(2);

/// The least time that a peak is held for, unless the scale-in delay is shorter.
pub const PEAK_HOLD_MIN: Duration = Duration::from_secs(4);

/// A peak is held for so many times of what a start takes: the dearer a start, the longer.
pub const PEAK_HOLD_STARTS: u32 = 2;

/// Instances that there may be for each that has been ready for as long as a start takes, and one
/// more. A queue that grows while instances start says little of how many will be needed after.
pub const GROWTH_MAX: u32 = 16;

/// The shortest time that a start is taken to need.
const START_TIME_MIN: Duration = Duration::from_millis(1);

/// Values that a window remembers.
const PEAKS_MAX: usize = 64;

/// Values closer together than this part of a window are one.
const PEAKS_PER_WINDOW: u32 = 32;

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
    /// How long a demand that lasted must have been lower before instances are taken away.
    pub scale_in_delay: Duration,
    /// With a minimum of 0: how long nothing may have been asked for before the last one is stopped.
    pub idle_to_zero: Duration,
    /// How long nothing may have been asked for before instances are throttled; never when absent.
    pub throttle_after: Option<Duration>,
    /// How long nothing may have been asked for before instances are frozen; never when absent.
    pub freeze_after: Option<Duration>,
    /// How much of an instance's CPU is used before there is another: 1 to 100 percent.
    pub cpu_target: Option<u32>,
    /// The same of its memory.
    pub memory_target: Option<u32>,
}

/// What is asked of a service now, at all edges together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Requests that instances hold.
    pub in_flight: u32,
    /// Requests that wait for an instance.
    pub queued: u32,
}

/// What all that are ready use together, in percent of what one of them may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// CPU time.
    pub cpu: u32,
    /// Memory.
    pub memory: u32,
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
    /// How much all that are ready may do now.
    pub activity: Activity,
    /// What they use.
    pub load: Load,
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
    demand: Demand,
    /// Requests in flight, smoothed.
    smooth: f64,
    /// What was used at the last call, and has been until this one.
    load: Load,
    /// CPU and memory in use, smoothed.
    smooth_load: [f64; 2],
    /// Requests in flight, smoothed, of the scale-in delay; and those that the load stands for.
    lasting: Peaks,
    /// The demand of the time that peaks are held for.
    short: Peaks,
    /// Instances that have been ready for as long as a start takes.
    proven: u32,
    /// More than these are ready, and since when.
    proving: Option<(u32, Duration)>,
    /// When there last was a reason to have an instance: a request, or one that was started without
    /// any. `None` when that is longer ago than the idle delay.
    needed: Option<Duration>,
    /// When there last was a request, or an instance where there was none.
    quiet_since: Duration,
    /// There was an instance at the last call.
    inhabited: bool,
}

/// The highest values of a window, oldest first, each lower than the one before it.
#[derive(Debug, Clone, Default)]
struct Peaks(VecDeque<Peak>);

#[derive(Debug, Clone, Copy)]
struct Peak {
    requests: u32,
    began: Duration,
    /// When there last were as many, or almost.
    ended: Duration,
}

/// How many instances there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Ready and starting ones together.
    pub wanted: u32,
    /// Why as many.
    pub reason: Reason,
    /// How much those that are ready may do.
    pub activity: Activity,
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
    /// More seem needed, and will be ordered when those that were are seen to be too few.
    Growing,
    /// More are needed, but they keep failing to start.
    FailingToStart,
    /// As many as the CPU time or the memory in use needs.
    Load,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minimum => "the minimum",
            Self::Maximum => "the maximum, and more is needed",
            Self::Demand => "what is asked for needs as many",
            Self::Holding => "less is asked for, but not for long enough",
            Self::Idle => "nothing is asked for",
            Self::Growing => "more seem needed, and these come first",
            Self::FailingToStart => "more are needed, but instances fail to start",
            Self::Load => "what they use needs as many",
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
            throttle_after: None,
            freeze_after: None,
            cpu_target: None,
            memory_target: None,
        }
    }
}

impl ScaleSettings {
    /// Instances that this load is to be spread over.
    fn instances_for(&self, [cpu, memory]: [f64; 2]) -> u32 {
        let need = |used: f64, target: Option<u32>| {
            target.map_or(0.0, |target| used / f64::from(target.clamp(1, 100)))
        };
        // A smoothed value comes close to what it is of, and never there.
        (need(cpu, self.cpu_target).max(need(memory, self.memory_target)) - LOAD_TOLERANCE).ceil()
            as u32
    }

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

impl Load {
    fn parts(self) -> [f64; 2] {
        [self.cpu, self.memory].map(f64::from)
    }
}

/// How far a smoothed value comes to what it is of.
fn part(passed: f64, smoothing: Duration) -> f64 {
    1.0 - (-passed / smoothing.as_secs_f64()).exp()
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
        let hold = peak_hold(settings, fleet);
        self.note(now, settings, demand, fleet, hold);
        let growth_wait = self.prove(fleet);
        let mut decision = self.sized(settings, demand, hold);
        let (least, _) = settings.bounds();
        let there = fleet.ready.saturating_add(fleet.starting);
        let growth = self.proven.saturating_add(1).saturating_mul(GROWTH_MAX);
        decision.limit(growth.max(there).max(least), Reason::Growing, growth_wait);
        if let Some(left) = failing(now, fleet) {
            let tried = fleet.ready.saturating_add(fleet.starting.max(1)).max(least);
            decision.limit(tried, Reason::FailingToStart, Some(left));
        }
        self.rest(settings, demand, &mut decision);
        self.asked = decision.look_again_in;
        decision
    }

    /// Says how much the instances may do, and when that will change.
    fn rest(&self, settings: &ScaleSettings, demand: Demand, decision: &mut Decision) {
        if demand.requests() > 0 {
            return;
        }
        let quiet = self.at - self.quiet_since;
        let depths = [
            (settings.throttle_after, Activity::Throttled),
            (settings.freeze_after, Activity::Frozen),
        ];
        for (after, activity) in depths {
            let Some(after) = after else { continue };
            match after.checked_sub(quiet) {
                Some(left) if !left.is_zero() => {
                    decision.look_again_in = sooner(decision.look_again_in, Some(left));
                }
                _ => decision.activity = activity,
            }
        }
    }

    /// Lets time pass and remembers the demand.
    fn note(
        &mut self,
        now: Timestamp,
        settings: &ScaleSettings,
        demand: Demand,
        fleet: &Fleet,
        hold: Duration,
    ) {
        let there = fleet.ready.saturating_add(fleet.starting);
        let is_first = self.called.is_none();
        if is_first {
            self.at = rested(settings, fleet);
        }
        let before = self.at;
        match self.called {
            Some(called) => {
                let most = self.asked.unwrap_or(settings.scale_in_delay);
                self.at = self.at.saturating_add(now.since(called).min(most));
            }
            None => {
                self.demand.in_flight = settings.requests_per_instance().saturating_mul(there);
                self.smooth = f64::from(self.demand.in_flight);
                self.proven = fleet.ready;
                self.load = fleet.load;
                self.smooth_load = fleet.load.parts();
            }
        }
        self.called = Some(now);
        let passed = (self.at - before).as_secs_f64();
        // What was asked for at the last call was asked for until now.
        let was = f64::from(self.demand.in_flight);
        self.smooth += (was - self.smooth) * part(passed, SMOOTHING);
        for (smooth, was) in self.smooth_load.iter_mut().zip(self.load.parts()) {
            *smooth += (was - *smooth) * part(passed, LOAD_SMOOTHING);
        }
        self.load = fleet.load;
        let delay = settings.scale_in_delay;
        let loaded = settings.instances_for(self.smooth_load);
        let loaded = loaded.saturating_mul(settings.requests_per_instance());
        let lasting = loaded.max(self.smooth.round() as u32);
        self.lasting.note(self.at, delay, lasting);
        self.short.note(self.at, hold, self.demand.requests());
        self.short.note(self.at, hold, demand.requests());
        let appeared = there > 0 && !self.inhabited;
        self.inhabited = there > 0;
        if self.demand.requests() > 0 || demand.requests() > 0 || appeared {
            self.needed = Some(self.at);
            // Whoever rests at the first call has been asked for nothing: that is remembered by it.
            if !is_first || demand.requests() > 0 {
                self.quiet_since = self.at;
            }
        }
        self.demand = demand;
    }

    /// Counts the instances that have been ready for as long as a start takes, and says when there
    /// will be more.
    fn prove(&mut self, fleet: &Fleet) -> Option<Duration> {
        let (ready, takes) = (fleet.ready, fleet.start_time.max(START_TIME_MIN));
        self.proven = self.proven.min(ready);
        let (more, since) = match self.proving {
            Some((more, since)) if more.min(ready) > self.proven => (more.min(ready), since),
            _ => (ready, self.at),
        };
        let mut left = takes.saturating_sub(self.at - since);
        self.proving = Some((more, since));
        if left.is_zero() {
            self.proven = more;
            self.proving = Some((ready, self.at));
            left = takes;
        }
        if ready == self.proven {
            self.proving = None;
        }
        self.proving.map(|_| left)
    }

    /// How many instances the demand needs, whatever becomes of them.
    fn sized(&mut self, settings: &ScaleSettings, demand: Demand, hold: Duration) -> Decision {
        let (least, most) = settings.bounds();
        let need = |requests: u32| requests.div_ceil(settings.requests_per_instance());
        let loaded = settings.instances_for(self.smooth_load);
        let needed_now = need(demand.requests()).max(loaded);
        if least == 0 && demand.requests() == 0 {
            let idle_for = self.needed.map(|needed| self.at - needed);
            let left = idle_for.and_then(|idle| settings.idle_to_zero.checked_sub(idle));
            match left {
                Some(left) if !left.is_zero() => {
                    return self.held(settings, needed_now, (1, most), Some(left), hold);
                }
                _ => {
                    self.needed = None;
                    self.lasting.0.clear();
                    self.short.0.clear();
                    return Decision {
                        wanted: 0,
                        reason: Reason::Idle,
                        activity: Activity::Active,
                        look_again_in: None,
                    };
                }
            }
        }
        let mut decision = self.held(settings, needed_now, (least, most), None, hold);
        if decision.reason == Reason::Demand && loaded > need(demand.requests()) {
            decision.reason = Reason::Load;
        }
        decision
    }

    /// The higher of what is needed now and what was needed lately, within bounds.
    fn held(
        &self,
        settings: &ScaleSettings,
        needed_now: u32,
        (least, most): (u32, u32),
        look_again_in: Option<Duration>,
        hold: Duration,
    ) -> Decision {
        let lately = |peaks: &Peaks, delay: Duration| {
            let highest = peaks.0.front()?;
            let need = highest.requests.div_ceil(settings.requests_per_instance());
            let need = need.clamp(least, most);
            let over = delay.saturating_sub(self.at - highest.ended);
            (need > needed_now.clamp(least, most)).then_some((need, over))
        };
        let held = [
            lately(&self.lasting, settings.scale_in_delay),
            lately(&self.short, hold),
        ];
        let highest = held
            .into_iter()
            .flatten()
            .max_by_key(|(need, over)| (*need, *over));
        match highest {
            Some((wanted, over)) => Decision {
                wanted,
                reason: Reason::Holding,
                activity: Activity::Active,
                look_again_in: sooner(look_again_in, Some(over)),
            },
            None => Decision {
                wanted: needed_now.clamp(least, most),
                reason: match () {
                    () if look_again_in.is_some() => Reason::Holding,
                    () if needed_now > most => Reason::Maximum,
                    () if needed_now <= least && settings.bounds().0 > 0 => Reason::Minimum,
                    () => Reason::Demand,
                },
                activity: Activity::Active,
                look_again_in,
            },
        }
    }
}

impl Decision {
    fn limit(&mut self, most: u32, reason: Reason, look_again_in: Option<Duration>) {
        if self.wanted > most {
            self.wanted = most;
            self.reason = reason;
            self.look_again_in = sooner(self.look_again_in, look_again_in);
        }
    }
}

/// How long instances must have been asked for nothing, to rest as they do.
fn rested(settings: &ScaleSettings, fleet: &Fleet) -> Duration {
    let after = match fleet.activity {
        Activity::Boosted | Activity::Active => None,
        Activity::Throttled => settings.throttle_after,
        Activity::Frozen => settings.freeze_after,
    };
    after.unwrap_or_default()
}

/// How long a peak is held.
fn peak_hold(settings: &ScaleSettings, fleet: &Fleet) -> Duration {
    let starts = fleet.start_time.saturating_mul(PEAK_HOLD_STARTS);
    starts.max(PEAK_HOLD_MIN).min(settings.scale_in_delay)
}

impl Peaks {
    /// Forgets what is older than the window and adds a value.
    fn note(&mut self, at: Duration, window: Duration, requests: u32) {
        let apart = window / PEAKS_PER_WINDOW;
        while self.0.front().is_some_and(|peak| at - peak.ended >= window) {
            self.0.pop_front();
        }
        let mut began = at;
        while let Some(lower) = self.0.pop_back_if(|peak| peak.requests <= requests) {
            if lower.requests == requests {
                began = lower.began;
            }
        }
        let full = self.0.len() >= PEAKS_MAX;
        match self.0.back_mut() {
            Some(last) if full || at - last.began < apart => last.ended = at,
            _ => self.0.push_back(Peak {
                requests,
                began,
                ended: at,
            }),
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
                now: Timestamp::from_millis(1_000_000_000),
                fleet: Fleet {
                    ready: settings.instances_min.min(settings.instances_max.max(1)),
                    ..Fleet::default()
                },
                settings,
                last: Decision {
                    wanted: 0,
                    reason: Reason::Idle,
                    activity: Activity::Active,
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
        assert_eq!(world.pass(SECOND * 20, demand(200, 0)).wanted, 20);
        world.check(demand(1, 0), 20, Reason::Holding);
        assert_eq!(world.pass(SECOND * 59, demand(1, 0)).wanted, 20);
        assert_eq!(world.pass(SECOND * 3, demand(1, 0)).wanted, 1);
        assert_eq!(world.last.look_again_in, None);
    }

    #[test]
    fn a_peak_that_did_not_last_is_held_for_a_few_seconds() {
        let mut world = World::new(settings(1, 25, 10));
        world.decide(demand(10, 190));
        world.check(demand(1, 0), 20, Reason::Holding);
        assert_eq!(world.pass(SECOND * 3, demand(1, 0)).wanted, 20);
        assert_eq!(world.pass(SECOND * 2, demand(1, 0)).wanted, 1);
        // A start that takes longer makes it longer.
        world.fleet.start_time = SECOND * 10;
        world.decide(demand(10, 190));
        assert_eq!(world.pass(SECOND * 19, demand(1, 0)).wanted, 20);
        assert_eq!(world.pass(SECOND * 2, demand(1, 0)).wanted, 1);
    }

    #[test]
    fn a_queue_that_grows_during_a_start_orders_no_more_than_the_growth() {
        let mut scaler = Scaler::new();
        let settings = settings(0, 1_000, 10);
        let mut fleet = Fleet {
            start_time: SECOND * 3,
            ..Fleet::default()
        };
        let mut check = |seconds: u64, fleet: &Fleet, queued, want, look| {
            let now = Timestamp::from_millis(seconds * 1000);
            let decision = scaler.decide(now, &settings, demand(0, queued), fleet);
            assert_eq!((decision.wanted, decision.reason), (want, Reason::Growing));
            assert_eq!(decision.look_again_in, look);
        };
        check(0, &fleet, 200, 16, None);
        fleet.starting = 16;
        check(2, &fleet, 5_000, 16, None);
        (fleet.ready, fleet.starting) = (16, 0);
        check(3, &fleet, 8_000, 16, Some(SECOND * 3));
        check(5, &fleet, 8_000, 16, Some(SECOND));
        check(6, &fleet, 8_000, 17 * 16, None);
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
                ..Fleet::default()
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
            world.pass(SECOND * 20, demand(200, 0));
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
    fn instances_rest_step_by_step_and_wake_at_once() {
        let mut world = World::new(ScaleSettings {
            throttle_after: Some(SECOND * 5),
            freeze_after: Some(SECOND * 60),
            idle_to_zero: SECOND * 900,
            ..settings(0, 3, 10)
        });
        world.fleet.ready = 1;
        let mut at = |time, requests| {
            let decision = world.pass(SECOND * time, demand(requests, 0));
            (decision.wanted, decision.activity)
        };
        assert_eq!(at(100, 1), (1, Activity::Active));
        assert_eq!(at(4, 0), (1, Activity::Active));
        assert_eq!(at(1, 0), (1, Activity::Throttled));
        assert_eq!(at(54, 0), (1, Activity::Throttled));
        assert_eq!(at(1, 0), (1, Activity::Frozen));
        assert_eq!(at(0, 1), (1, Activity::Active));
        assert_eq!(at(61, 0), (1, Activity::Frozen));
        assert_eq!(at(840, 0).0, 0);
    }

    #[test]
    fn whoever_begins_anew_lets_those_rest_that_do() {
        let resting = |activity| {
            let mut world = World::new(ScaleSettings {
                throttle_after: Some(SECOND * 5),
                freeze_after: Some(SECOND * 60),
                ..settings(1, 3, 10)
            });
            world.fleet.activity = activity;
            world
        };
        for activity in [Activity::Active, Activity::Throttled, Activity::Frozen] {
            assert_eq!(resting(activity).decide(demand(0, 0)).activity, activity);
            assert_eq!(
                resting(activity).decide(demand(1, 0)).activity,
                Activity::Active
            );
        }
        // The second depth comes in its time after the first.
        let mut world = resting(Activity::Throttled);
        assert_eq!(
            world.pass(SECOND * 54, demand(0, 0)).activity,
            Activity::Throttled
        );
        assert_eq!(world.pass(SECOND, demand(0, 0)).activity, Activity::Frozen);
        world.decide(demand(1, 0));
        assert_eq!(
            world.pass(SECOND * 4, demand(0, 0)).activity,
            Activity::Active
        );
    }

    #[test]
    fn what_is_used_for_some_time_orders_instances_and_keeps_them() {
        let mut world = World::new(ScaleSettings {
            cpu_target: Some(70),
            memory_target: Some(80),
            ..settings(1, 10, 100)
        });
        world.check(demand(1, 0), 1, Reason::Minimum);
        let mut at = |seconds, cpu, memory| {
            let before = world.pass(SECOND * seconds, demand(1, 0)).wanted;
            world.fleet.load = Load { cpu, memory };
            world.decide(demand(1, 0));
            before
        };
        // A second of work is none, and no more than the target is no reason.
        at(1, 100, 0);
        assert_eq!(at(1, 70, 0), 1);
        assert_eq!(at(600, 100, 0), 1);
        assert_eq!(at(30, 200, 0), 2);
        assert_eq!(at(60, 280, 0), 3);
        // Both count, the higher one decides, and less takes the scale-in delay.
        assert_eq!(at(60, 0, 400), 4);
        assert_eq!(at(60, 0, 0), 5);
        assert_eq!(at(40, 0, 0), 5);
        assert_eq!(at(90, 0, 0), 1);
        assert_eq!(at(1, 420, 0), 1);
        assert_eq!(at(60, 420, 0), 6);
        assert_eq!(world.last.reason, Reason::Load);
        world.fleet.load = Load {
            cpu: 9_999,
            memory: 0,
        };
        world.decide(demand(1, 0));
        assert_eq!(world.pass(SECOND * 60, demand(1, 0)).wanted, 10);
        assert_eq!(world.last.reason, Reason::Maximum);
    }

    #[test]
    fn a_service_that_is_used_by_nobody_goes_to_zero_however_it_works() {
        let mut world = World::new(ScaleSettings {
            cpu_target: Some(50),
            ..settings(0, 10, 100)
        });
        world.fleet.load.cpu = 300;
        world.decide(demand(1, 0));
        assert_eq!(world.pass(SECOND * 60, demand(1, 0)).wanted, 6);
        assert_eq!(world.pass(IDLE_TO_ZERO, demand(0, 0)).wanted, 0);
    }

    #[test]
    fn nobody_rests_unless_it_is_set() {
        let mut world = World::new(settings(1, 3, 10));
        let decision = world.pass(SECOND * 100_000, demand(0, 0));
        assert_eq!(decision.activity, Activity::Active);
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
            throttle_after: Some(Duration::ZERO),
            freeze_after: Some(Duration::MAX),
            cpu_target: Some(0),
            memory_target: Some(u32::MAX),
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
            prop::option::of(0..20_000u64),
        )
            .prop_map(|(min, max, concurrency, utilisation, delay, idle, rest)| {
                ScaleSettings {
                    instances_min: min,
                    instances_max: max,
                    concurrency_per_instance: concurrency,
                    utilisation,
                    scale_in_delay: Duration::from_millis(delay),
                    idle_to_zero: Duration::from_millis(idle),
                    throttle_after: rest.map(Duration::from_millis),
                    freeze_after: rest.map(|rest| Duration::from_millis(rest * 2)),
                    cpu_target: rest.map(|rest| rest as u32 % 120),
                    memory_target: None,
                }
            })
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
            assert!(scaler.lasting.0.len().max(scaler.short.0.len()) <= PEAKS_MAX);
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

        /// What was needed a moment ago is still there, and what lasted for as long as the delay.
        #[test]
        fn nothing_goes_that_was_needed_lately(
            steps in prop::collection::vec((prop_oneof![1..5_000u64, 1..90_000u64], 0..300u32), 1..200),
        ) {
            let mut world = World::new(settings(1, 25, 10));
            let mut needs: Vec<(Timestamp, Timestamp, u32)> = Vec::new();
            for (ms, requests) in steps {
                let now = world.now;
                let wanted = world.decide(demand(requests, 0)).wanted;
                for (from, until, need) in &needs {
                    let lasted = until.since(*from) >= SMOOTHING * 8;
                    let hold = if lasted { SCALE_IN_DELAY } else { PEAK_HOLD_MIN };
                    prop_assert!(now.since(*until) >= hold || wanted >= *need);
                }
                world.pass(Duration::from_millis(ms), demand(requests, 0));
                needs.push((now, world.now, requests.div_ceil(10).clamp(1, 25)));
            }
        }

        /// A demand that lasts and goes down for less than the delay moves nothing.
        #[test]
        fn a_swing_within_the_delay_moves_nothing(
            low in 0..300u32, high in 0..300u32, up in 16_000..90_000u64, down in 1..59_000u64,
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

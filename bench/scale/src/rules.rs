//! The rules that are compared: Ekiden's, Knative's and App Runner's.

use std::{collections::VecDeque, time::Duration};

use ekiden_model::{
    scale::{Demand, Fleet, ScaleSettings, Scaler},
    time::Timestamp,
};

use crate::arrivals::{Micros, SECOND};

/// What a rule sees of a service.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) in_flight: u32,
    pub(crate) queued: u32,
    /// Refused requests, each for as long as it would have been worked on.
    pub(crate) turned_away: u32,
    pub(crate) ready: u32,
    pub(crate) starting: u32,
    pub(crate) start_time: Micros,
    pub(crate) failing_until: Option<Micros>,
}

/// What a rule wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) instances: u32,
    pub(crate) look_again_at: Option<Micros>,
}

/// Decides how many instances there are.
pub(crate) trait Rule {
    /// Called on every change of what is seen, and when it was asked for.
    fn look(&mut self, now: Micros, seen: &Seen) -> Wanted;

    /// Whether a request that finds no room is refused; it waits otherwise.
    fn refuses(&self) -> bool {
        false
    }
}

/// Ekiden's: the very decision that the product takes.
pub(crate) struct Ekiden {
    scaler: Scaler,
    pub(crate) settings: ScaleSettings,
}

impl Ekiden {
    pub(crate) fn new(settings: ScaleSettings) -> Self {
        Self {
            scaler: Scaler::new(),
            settings,
        }
    }
}

impl Rule for Ekiden {
    fn look(&mut self, now: Micros, seen: &Seen) -> Wanted {
        let fleet = Fleet {
            ready: seen.ready,
            starting: seen.starting,
            failing_until: seen.failing_until.map(timestamp),
            start_time: Duration::from_micros(seen.start_time),
            ..Fleet::default()
        };
        let demand = Demand {
            in_flight: seen.in_flight,
            queued: seen.queued,
        };
        let now = timestamp(now);
        let decision = self.scaler.decide(now, &self.settings, demand, &fleet);
        let look_again_at = decision.look_again_in.map(|wait| {
            let millis = wait.as_micros().div_ceil(1000) as u64;
            (now.as_millis() + millis.max(1)) * 1000
        });
        Wanted {
            instances: decision.wanted,
            look_again_at,
        }
    }
}

fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_millis(at / 1000)
}

/// Knative's pod autoscaler (KPA) with its defaults: the average concurrency of a minute over 70 %
/// of what an instance holds, or that of 6 seconds for a minute once it asks for twice of what
/// there is. It looks every 2 seconds, and at once when a request finds no instance.
pub(crate) struct Kpa {
    instances_min: u32,
    instances_max: u32,
    target: f64,
    /// Concurrency times microseconds, by second, the newest last.
    seconds: VecDeque<f64>,
    /// The second that the newest is.
    second: u64,
    noted: Micros,
    concurrency: u32,
    tick: Micros,
    panic: Option<Micros>,
    panic_most: u32,
    active_since: Option<Micros>,
    wanted: u32,
}

impl Kpa {
    const STABLE_SECONDS: usize = 60;
    const PANIC_SECONDS: usize = 6;
    const PANIC_THRESHOLD: f64 = 2.0;
    const TARGET_UTILISATION: f64 = 0.7;
    const TICK: Micros = 2 * SECOND;
    const SCALE_UP_RATE_MAX: f64 = 1000.0;
    const SCALE_DOWN_RATE_MAX: f64 = 2.0;

    pub(crate) fn new(instances_min: u32, instances_max: u32, concurrency: u32) -> Self {
        Self {
            instances_min,
            instances_max,
            // Knative's own lower bound of a target is 0.01.
            target: f64::from(concurrency) * Self::TARGET_UTILISATION,
            seconds: VecDeque::from([0.0]),
            second: 0,
            noted: 0,
            concurrency: 0,
            tick: 0,
            panic: None,
            panic_most: 0,
            active_since: None,
            wanted: instances_min,
        }
    }

    /// Adds up the concurrency there has been until now.
    fn note(&mut self, now: Micros, concurrency: u32) {
        while self.noted < now {
            let second_ends = (self.second + 1) * SECOND;
            let until = now.min(second_ends);
            let took = (until - self.noted) as f64;
            if let Some(newest) = self.seconds.back_mut() {
                *newest += f64::from(self.concurrency) * took;
            }
            self.noted = until;
            if until == second_ends {
                self.second += 1;
                self.seconds.push_back(0.0);
                if self.seconds.len() > Self::STABLE_SECONDS + 1 {
                    self.seconds.pop_front();
                }
            }
        }
        self.concurrency = concurrency;
    }

    /// The average of the last seconds that are whole.
    fn average(&self, seconds: usize) -> f64 {
        let whole = self.seconds.iter().rev().skip(1).take(seconds);
        let count = whole.clone().count().max(1);
        whole.sum::<f64>() / (SECOND as f64 * count as f64)
    }

    fn scale(&mut self, now: Micros, seen: &Seen) {
        let ready = f64::from(seen.ready.max(1));
        let (most, least) = (
            (Self::SCALE_UP_RATE_MAX * ready).ceil(),
            (ready / Self::SCALE_DOWN_RATE_MAX).floor(),
        );
        let desired = |average: f64| (average / self.target).ceil();
        let stable = desired(self.average(Self::STABLE_SECONDS));
        let panic = desired(self.average(Self::PANIC_SECONDS));
        let over = panic / ready >= Self::PANIC_THRESHOLD;
        let stable_window = Self::STABLE_SECONDS as Micros * SECOND;
        match self.panic {
            _ if over => self.panic = Some(now),
            Some(since) if since + stable_window < now => {
                self.panic = None;
                self.panic_most = 0;
            }
            _ => {}
        }
        let mut wanted = stable.clamp(least, most) as u32;
        if self.panic.is_some() {
            self.panic_most = self
                .panic_most
                .max(wanted)
                .max(panic.clamp(least, most) as u32);
            wanted = self.panic_most;
        }
        if wanted == 0 && self.instances_min == 0 {
            // To zero no sooner than a stable window after the first; the grace period behind that
            // is for a route without the activator, and the activator is in that of small services.
            let active = self
                .active_since
                .is_some_and(|since| now < since + stable_window);
            wanted = u32::from(active && self.wanted > 0);
        }
        wanted = wanted.clamp(self.instances_min, self.instances_max);
        if wanted == 0 {
            self.active_since = None;
        } else if self.active_since.is_none() {
            self.active_since = Some(now);
        }
        self.wanted = wanted;
    }
}

impl Rule for Kpa {
    fn look(&mut self, now: Micros, seen: &Seen) -> Wanted {
        self.note(now, seen.in_flight + seen.queued);
        if now >= self.tick {
            self.scale(now, seen);
            self.tick = now - now % Self::TICK + Self::TICK;
        }
        if seen.queued > 0 && self.wanted == 0 {
            self.wanted = 1;
            self.active_since = Some(now);
        }
        Wanted {
            instances: self.wanted,
            look_again_at: Some(self.tick),
        }
    }
}

/// App Runner's, as far as it is known: what is asked for now over what an instance holds, at once;
/// less after a minute; never less than one. Above what there is, requests are refused. What was
/// refused counts as if it had been served, which is more than App Runner is known to see.
pub(crate) struct AppRunner {
    instances_min: u32,
    instances_max: u32,
    concurrency: u32,
    /// Lately needed, the highest first, and until when.
    needed: VecDeque<(u32, Micros)>,
    needs: u32,
}

impl AppRunner {
    const SCALE_IN_DELAY: Micros = 60 * SECOND;

    pub(crate) fn new(instances_min: u32, instances_max: u32, concurrency: u32) -> Self {
        Self {
            instances_min: instances_min.max(1),
            instances_max,
            concurrency,
            needed: VecDeque::new(),
            needs: 0,
        }
    }

    fn note(&mut self, now: Micros, need: u32) {
        while self
            .needed
            .pop_back_if(|(lower, _)| *lower <= need)
            .is_some()
        {}
        self.needed.push_back((need, now + Self::SCALE_IN_DELAY));
    }
}

impl Rule for AppRunner {
    fn look(&mut self, now: Micros, seen: &Seen) -> Wanted {
        while self
            .needed
            .pop_front_if(|(_, until)| *until <= now)
            .is_some()
        {}
        // What was needed at the last look was needed until now.
        self.note(now, self.needs);
        self.needs = (seen.in_flight + seen.queued + seen.turned_away).div_ceil(self.concurrency);
        self.note(now, self.needs);
        let highest = self.needed.front().copied();
        let (need, until) = highest.unwrap_or_default();
        Wanted {
            instances: need.clamp(self.instances_min, self.instances_max),
            look_again_at: (need > self.needs).then_some(until),
        }
    }

    fn refuses(&self) -> bool {
        true
    }
}

//! What goes wrong, when, and that it ends.

use std::time::Duration;

use ekiden_model::{id::InstanceId, instance::ExitCause, time::Timestamp};

use crate::{
    random::Random,
    world::{Event, World},
};

/// A kind of misfortune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    ControlCrash,
    AgentCrash,
    EdgeCrash,
    InstanceKill,
    ShimKill,
    PowerCut,
    DiskFull,
    Slowness,
    ProbesFail,
    /// The engine has an instance of a service that the store does not know, as when the database
    /// was restored from a backup.
    Stray,
}

pub(crate) const FAULTS: [Fault; 10] = [
    Fault::ControlCrash,
    Fault::AgentCrash,
    Fault::EdgeCrash,
    Fault::InstanceKill,
    Fault::ShimKill,
    Fault::PowerCut,
    Fault::DiskFull,
    Fault::Slowness,
    Fault::ProbesFail,
    Fault::Stray,
];

/// Which faults a history has and how often, and which are on now.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) faults_end: Timestamp,
    pub(crate) slow: bool,
    pub(crate) disk_full: bool,
    pub(crate) probes_fail: bool,
    /// Of thousand steps, at how many control dies right there.
    pub(crate) crash_at_step: u64,
    /// Of thousand stops, how many coincide with the death of the service's other instances.
    pub(crate) spite: u64,
    kinds: Vec<Fault>,
    gap_ms: u64,
}

impl Weather {
    /// Each history has some kinds only: a history with everything at once hides what a few do
    /// together. Some have none.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let share = random.pick(&[0, 200, 500, 800]);
        let kinds = FAULTS
            .into_iter()
            .filter(|_| random.per_mille(share))
            .collect();
        Self {
            faults_end: Timestamp::from_millis(random.between(20_000, 150_000)),
            slow: false,
            disk_full: false,
            probes_fail: false,
            crash_at_step: random.pick(&[0, 0, 5, 30]),
            spite: random.pick(&[0, 100, 500]),
            kinds,
            gap_ms: random.pick(&[2_000, 8_000, 25_000]),
        }
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.kinds.clone()
    }

    pub(crate) const fn gap(&self, random: &mut Random) -> u64 {
        random.between(self.gap_ms / 4, self.gap_ms * 2)
    }
}

impl World {
    pub(crate) fn is_calm(&self) -> bool {
        self.now >= self.weather.faults_end
    }

    pub(crate) fn fault_begins(&mut self, fault: Fault) {
        if self.is_calm() {
            return;
        }
        self.note(|| format!("FAULT {fault:?}"));
        self.totals.count(&format!("fault: {fault:?}"));
        self.checks.excuse_all(self.now);
        match fault {
            Fault::ControlCrash => self.control_crashes(),
            Fault::AgentCrash => self.agent_crashes(),
            Fault::EdgeCrash => self.edge_crashes(),
            Fault::InstanceKill => {
                if let Some(id) = self.some_instance() {
                    self.process_ends(id, ExitCause::Signal { signal: 9 });
                }
            }
            Fault::ShimKill => {
                if let Some(id) = self.some_instance() {
                    self.process_ends(id, ExitCause::Lost);
                }
            }
            Fault::PowerCut => {
                self.agent_crashes();
                self.all_lost();
                self.edge_crashes();
                self.control_crashes();
            }
            Fault::DiskFull => self.weather.disk_full = true,
            Fault::Slowness => self.weather.slow = true,
            Fault::ProbesFail => self.weather.probes_fail = true,
            Fault::Stray => self.stray_appears(),
        }
        if matches!(fault, Fault::DiskFull | Fault::Slowness | Fault::ProbesFail) {
            let lasts = self.random.between(50, 15_000);
            self.after(lasts, Event::FaultEnds(fault));
        }
        let gap = self.weather.gap(&mut self.random);
        self.after(gap, Event::FaultBegins(fault));
    }

    pub(crate) fn fault_ends(&mut self, fault: Fault) {
        self.note(|| format!("fault {fault:?} ends"));
        match fault {
            Fault::DiskFull => self.weather.disk_full = false,
            Fault::Slowness => self.weather.slow = false,
            Fault::ProbesFail => self.weather.probes_fail = false,
            Fault::ControlCrash
            | Fault::AgentCrash
            | Fault::EdgeCrash
            | Fault::InstanceKill
            | Fault::ShimKill
            | Fault::PowerCut
            | Fault::Stray => {}
        }
    }

    /// From now on nothing goes wrong by itself. What is down comes back at its time.
    pub(crate) fn calm(&mut self) {
        self.note(|| "CALM".to_owned());
        self.weather.slow = false;
        self.weather.disk_full = false;
        self.weather.probes_fail = false;
        self.weather.crash_at_step = 0;
        self.clients.begin_stage(self.now);
        self.after(LAST_PROBES_MS, Event::Survey);
    }

    /// How long something that died stays down: mostly a moment, now and then long.
    pub(crate) fn downtime(&mut self) -> u64 {
        match self.random.below(10) {
            0 => self.random.between(2_000, 40_000),
            1..=3 => self.random.between(200, 3_000),
            _ => self.random.between(20, 200),
        }
    }

    /// Whether control dies at this very step.
    pub(crate) fn dies_at_step(&mut self) -> bool {
        let chance = self.weather.crash_at_step;
        if chance == 0 || !self.random.per_mille(chance) {
            return false;
        }
        self.note(|| "FAULT control dies between two steps".to_owned());
        self.totals.count("fault: control dies between two steps");
        self.checks.excuse_all(self.now);
        self.control_crashes();
        true
    }

    fn some_instance(&mut self) -> Option<InstanceId> {
        let alive: Vec<_> = self.engine.alive().map(|(id, _)| id).collect();
        (!alive.is_empty()).then(|| self.random.pick(&alive))
    }

    fn all_lost(&mut self) {
        let alive: Vec<_> = self.engine.alive().map(|(id, _)| id).collect();
        for id in alive {
            self.process_ends(id, ExitCause::Lost);
        }
    }
}

/// The longest that anything stays down.
pub(crate) const DOWNTIME_MAX: Duration = Duration::from_secs(40);

/// Within which a probe that was sent while things went wrong has ended.
const LAST_PROBES_MS: u64 = 10_000;

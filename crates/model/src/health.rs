//! Health: what a row of probe results says of an instance.
//!
//! A probe is a TCP connection or an HTTP `GET`; how it is sent is not decided here. A starting
//! instance is probed quickly so that readiness is noticed at once; a healthy one at the interval
//! that its service configured. A restarted control plane assumes that an instance it had routed is
//! healthy until probes say otherwise: forgetting must not look like failing.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How soon a starting instance is probed again, at first: a connection attempt costs less than
/// 0.1 ms, and an application that listens is noticed within half of this.
pub const STARTING_INTERVAL_MIN: Duration = Duration::from_millis(2);

/// How soon a starting instance is probed again when it has been starting for a while.
pub const STARTING_INTERVAL_MAX: Duration = Duration::from_millis(250);

/// What a failed probe begins with that was answered, but not with a status that passes.
pub const ANSWERED: &str = "the answer was status";

/// How a service is checked. Ranges are App Runner's: each number is 1 to 20, times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What counts as an answer.
    pub protocol: HealthProtocol,
    /// Between two probes of a running instance.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Passes in a row that make a starting instance healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make a healthy instance unhealthy.
    pub unhealthy_threshold: u32,
}

/// What counts as an answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthProtocol {
    /// The port accepts a connection.
    Tcp,
    /// `GET path` answers with a status from 200 to 399; redirects are not followed.
    Http {
        /// Begins with `/`.
        path: String,
    },
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: HealthProtocol::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_threshold: 1,
            unhealthy_threshold: 5,
        }
    }
}

impl fmt::Display for HealthProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Http { path } => write!(f, "HTTP {path}"),
        }
    }
}

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeResult {
    /// It answered as it should.
    Passed,
    /// It did not; the sentence says what happened instead.
    Failed(String),
}

/// What is believed of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has not been healthy yet.
    Starting,
    /// It may serve.
    Healthy,
    /// It was healthy and is not any more. Final: it is replaced, not waited for.
    Unhealthy,
}

/// The memory of one instance's probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is believed now.
    pub verdict: Verdict,
    /// What the newest failed probe saw, for people; kept after a pass.
    pub last_failure: Option<String>,
    passed_in_a_row: u32,
    failed_in_a_row: u32,
    /// It failed a probe when it was throttled, and has passed none since.
    suspect: bool,
}

impl Health {
    /// An instance that was just started.
    pub const fn starting() -> Self {
        Self {
            verdict: Verdict::Starting,
            last_failure: None,
            passed_in_a_row: 0,
            failed_in_a_row: 0,
            suspect: false,
        }
    }

    /// An instance that was serving when the control plane was restarted.
    pub const fn assumed_healthy() -> Self {
        Self {
            verdict: Verdict::Healthy,
            last_failure: None,
            passed_in_a_row: 0,
            failed_in_a_row: 0,
            suspect: false,
        }
    }

    /// Whether the newest probe failed.
    pub const fn is_failing(&self) -> bool {
        self.failed_in_a_row > 0 || self.suspect
    }

    /// Takes in one result of an instance that is throttled: a failure may be for want of CPU. It is to
    /// be woken then, and asked again.
    pub fn record_throttled(&mut self, check: &HealthCheck, result: ProbeResult) {
        match result {
            ProbeResult::Passed => self.record(check, result),
            ProbeResult::Failed(reason) => {
                self.suspect = true;
                self.last_failure = Some(reason);
            }
        }
    }

    /// Takes in one result.
    pub fn record(&mut self, check: &HealthCheck, result: ProbeResult) {
        match result {
            ProbeResult::Passed => {
                self.suspect = false;
                self.passed_in_a_row = self.passed_in_a_row.saturating_add(1);
                self.failed_in_a_row = 0;
            }
            ProbeResult::Failed(reason) => {
                self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                self.passed_in_a_row = 0;
                self.last_failure = Some(reason);
            }
        }
        self.verdict = match self.verdict {
            Verdict::Starting if self.passed_in_a_row >= check.healthy_threshold => {
                Verdict::Healthy
            }
            Verdict::Healthy if self.failed_in_a_row >= check.unhealthy_threshold => {
                Verdict::Unhealthy
            }
            // A pass must not bring an instance back that is on its way out.
            verdict @ (Verdict::Starting | Verdict::Healthy | Verdict::Unhealthy) => verdict,
        };
    }

    /// How long to wait before the next probe of an instance that has run since `started_at`.
    ///
    /// A starting instance is probed every 2 ms at first and at a tenth of its age later, at
    /// most every 250 ms: the wait adds at most a tenth to any start.
    pub fn next_probe_in(
        &self,
        check: &HealthCheck,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Duration {
        match self.verdict {
            Verdict::Starting => {
                (now.since(started_at) / 10).clamp(STARTING_INTERVAL_MIN, STARTING_INTERVAL_MAX)
            }
            Verdict::Healthy | Verdict::Unhealthy => check.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            ..HealthCheck::default()
        }
    }

    fn after(results: &str) -> Verdict {
        let mut health = Health::starting();
        for result in results.chars() {
            let result = match result {
                '+' => ProbeResult::Passed,
                _ => ProbeResult::Failed("connection refused".into()),
            };
            health.record(&check(), result);
        }
        health.verdict
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        assert_eq!(after(""), Verdict::Starting);
        assert_eq!(after("+-+-"), Verdict::Starting);
        assert_eq!(after("-----++"), Verdict::Healthy);
        assert_eq!(after("++--+--+"), Verdict::Healthy);
        assert_eq!(after("++---"), Verdict::Unhealthy);
    }

    #[test]
    fn an_unhealthy_instance_stays_unhealthy() {
        assert_eq!(after("++---+++++"), Verdict::Unhealthy);
    }

    #[test]
    fn what_fails_when_it_is_throttled_is_asked_again_and_not_condemned() {
        let mut health = Health::assumed_healthy();
        let failed = || ProbeResult::Failed("no answer within 2 s".into());
        for _ in 0..10 {
            health.record_throttled(&check(), failed());
        }
        assert_eq!(
            (health.verdict, health.is_failing()),
            (Verdict::Healthy, true)
        );
        health.record(&check(), ProbeResult::Passed);
        assert!(!health.is_failing());
        for _ in 0..3 {
            health.record(&check(), failed());
        }
        assert_eq!(health.verdict, Verdict::Unhealthy);
    }

    #[test]
    fn a_starting_instance_is_probed_at_a_tenth_of_its_age() {
        let health = Health::starting();
        let wait = |age_ms: u64| {
            let now = Timestamp::from_millis(1_000_000);
            health.next_probe_in(&check(), Timestamp::from_millis(1_000_000 - age_ms), now)
        };
        assert_eq!(wait(0), Duration::from_millis(2));
        assert_eq!(wait(100), Duration::from_millis(10));
        assert_eq!(wait(1_000), Duration::from_millis(100));
        assert_eq!(wait(60_000), Duration::from_millis(250));
    }
}

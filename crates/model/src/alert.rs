//! Alerts: what is wrong, decided from facts.
//!
//! A fact is judged as bad, good or in between ([`Judgement`]); what lies between a bound and another keeps an
//! alert as it is, so that a number that wavers around one of them does not raise and clear it time and again. An
//! [`AlertState`] then waits until something has been bad, or good, for long enough.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::ServiceId, time::Timestamp};

/// How long a service must be down, or up again, for it to be said.
pub const DOWN_AFTER: Duration = Duration::from_secs(30);

/// So many instances that ended by themselves within [`CRASH_WINDOW`] are a crash loop.
pub const CRASHES_MIN: usize = 5;

/// See [`CRASHES_MIN`]; a crash loop is over when none has ended for as long.
pub const CRASH_WINDOW: Duration = Duration::from_secs(600);

/// Of a budget, in percent: so much is near its end.
pub const BUDGET_NEAR_PERCENT: u64 = 90;

/// Of a budget, in percent: so much is not near its end any more.
pub const BUDGET_FINE_PERCENT: u64 = 85;

/// A certificate that lasts less than this and cannot be renewed is an alert.
pub const EXPIRY_NEAR: Duration = Duration::from_secs(14 * 24 * 3600);

/// A drain is lagging when the oldest of what waits is older.
pub const DRAIN_LAG_MAX: Duration = Duration::from_secs(300);

/// A drain has caught up when the oldest of what waits is younger.
pub const DRAIN_LAG_FINE: Duration = Duration::from_secs(60);

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A service that runs has no healthy instance.
    ServiceDown,
    /// The last deployment of a service failed.
    DeploymentFailed,
    /// The instances of a service end again and again.
    CrashLoop,
    /// A disk, or what a part of it may hold, is nearly full.
    DiskNear,
    /// A certificate runs out soon and is not renewed.
    CertificateNearExpiry,
    /// What is sent elsewhere does not get there fast enough.
    DrainLagging,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::ServiceDown,
        Self::DeploymentFailed,
        Self::CrashLoop,
        Self::DiskNear,
        Self::CertificateNearExpiry,
        Self::DrainLagging,
    ];

    /// As the API and events have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceDown => "SERVICE_DOWN",
            Self::DeploymentFailed => "DEPLOYMENT_FAILED",
            Self::CrashLoop => "CRASH_LOOP",
            Self::DiskNear => "DISK_NEAR",
            Self::CertificateNearExpiry => "CERTIFICATE_NEAR_EXPIRY",
            Self::DrainLagging => "DRAIN_LAGGING",
        }
    }

    /// How long it must be bad before it is raised, and good before it is cleared.
    pub const fn patience(self) -> Duration {
        match self {
            Self::ServiceDown => DOWN_AFTER,
            Self::DeploymentFailed
            | Self::CrashLoop
            | Self::DiskNear
            | Self::CertificateNearExpiry
            | Self::DrainLagging => Duration::ZERO,
        }
    }
}

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// What is wrong.
    pub kind: AlertKind,
    /// With which: a service's id, a certificate's names, a budget or a drain.
    pub subject: String,
}

/// An alert that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub key: AlertKey,
    /// The service, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// What is wrong, why, and what to do, in sentences.
    pub message: String,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is wrong, as these sentences say.
    Bad(String),
    /// Neither: what was stays.
    Between,
    /// It is fine.
    Good,
}

/// How it stands with one alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlertState {
    /// There is none.
    #[default]
    Clear,
    /// It is wrong, but not for long.
    Worsening {
        /// Since when.
        since: Timestamp,
    },
    /// It is raised.
    Raised,
    /// It is raised and fine again, but not for long.
    Improving {
        /// Since when.
        since: Timestamp,
    },
}

/// What a step of an alert leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is raised now, and says this.
    Raise(String),
    /// It is over.
    Clear,
}

impl AlertState {
    /// Takes in a judgement; answers what it has changed.
    pub fn step(
        &mut self,
        judged: Judgement,
        patience: Duration,
        now: Timestamp,
    ) -> Option<Change> {
        let (next, change) = match (*self, judged) {
            (state, Judgement::Between) => (state, None),
            (Self::Clear | Self::Worsening { .. }, Judgement::Good) => (Self::Clear, None),
            (Self::Raised | Self::Improving { .. }, Judgement::Bad(_)) => (Self::Raised, None),
            (state @ (Self::Clear | Self::Worsening { .. }), Judgement::Bad(message)) => {
                let since = match state {
                    Self::Worsening { since } => since,
                    _ => now,
                };
                match now.since(since) >= patience {
                    true => (Self::Raised, Some(Change::Raise(message))),
                    false => (Self::Worsening { since }, None),
                }
            }
            (state @ (Self::Raised | Self::Improving { .. }), Judgement::Good) => {
                let since = match state {
                    Self::Improving { since } => since,
                    _ => now,
                };
                match now.since(since) >= patience {
                    true => (Self::Clear, Some(Change::Clear)),
                    false => (Self::Improving { since }, None),
                }
            }
        };
        *self = next;
        change
    }
}

/// How it stands with the instances of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// Whether its status is `RUNNING`, or was before the operation on its way.
    pub running: bool,
    /// Instances that are wanted.
    pub wanted: u32,
    /// Instances that are healthy.
    pub healthy: u32,
    /// Whether requests fail because of it; `None` when nobody counts them.
    pub requests_failing: Option<bool>,
}

/// Of a service that is to run: down when instances are wanted and none is healthy, unless it is known that no
/// request fails.
#[must_use]
pub fn serving(seen: Serving) -> Judgement {
    if !seen.running || seen.wanted == 0 || seen.healthy > 0 {
        return Judgement::Good;
    }
    if seen.requests_failing == Some(false) {
        return Judgement::Between;
    }
    Judgement::Bad(format!(
        "No instance of the service is healthy; {} wanted. Look at its logs and at `ekiden ps`.",
        match seen.wanted {
            1 => "1 is".to_owned(),
            more => format!("{more} are"),
        }
    ))
}

/// Of when instances ended by themselves, oldest first.
#[must_use]
pub fn crashes(ended: &[Timestamp], now: Timestamp) -> Judgement {
    let recent = ended
        .iter()
        .filter(|at| now.since(**at) < CRASH_WINDOW)
        .count();
    match recent {
        0 => Judgement::Good,
        few if few < CRASHES_MIN => Judgement::Between,
        many => Judgement::Bad(format!(
            "{many} instances of the service ended by themselves within {} minutes. The last lines of its \
             application log say why.",
            CRASH_WINDOW.as_secs() / 60
        )),
    }
}

/// Of what a budget holds and may hold, in bytes. `what` begins the sentence, such as `The log store`.
#[must_use]
pub fn budget(what: &str, used: u64, budget: u64) -> Judgement {
    if budget == 0 {
        return Judgement::Good;
    }
    let percent = u128::from(used) * 100 / u128::from(budget);
    if percent >= u128::from(BUDGET_NEAR_PERCENT) {
        Judgement::Bad(format!(
            "{what} uses {percent} % of its {} MiB. Remove what is not needed, or give it more room.",
            budget >> 20
        ))
    } else if percent >= u128::from(BUDGET_FINE_PERCENT) {
        Judgement::Between
    } else {
        Judgement::Good
    }
}

/// Of a certificate: when it runs out, and how often in a row getting the next one failed.
#[must_use]
pub fn certificate(names: &str, not_after: Timestamp, failures: u32, now: Timestamp) -> Judgement {
    let left = not_after.since(now);
    if left >= EXPIRY_NEAR || failures == 0 {
        return Judgement::Good;
    }
    Judgement::Bad(format!(
        "The certificate of {names} runs out in {} days, and renewing it failed {failures} times. \
         `ekiden certificate ls` says why.",
        left.as_secs() / (24 * 3600)
    ))
}

/// Of a drain: how old the oldest of what waits is.
#[must_use]
pub fn drain(name: &str, lag: Duration) -> Judgement {
    if lag > DRAIN_LAG_MAX {
        Judgement::Bad(format!(
            "The drain {name} is {} minutes behind. See whether its receiver is up and takes what it is sent.",
            lag.as_secs() / 60
        ))
    } else if lag > DRAIN_LAG_FINE {
        Judgement::Between
    } else {
        Judgement::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn bad() -> Judgement {
        Judgement::Bad("why".to_owned())
    }

    #[test]
    fn an_alert_is_raised_and_cleared_once_after_its_patience() {
        let patience = Duration::from_secs(30);
        let mut state = AlertState::default();
        assert_eq!(state.step(bad(), patience, at(0)), None);
        assert_eq!(state.step(Judgement::Good, patience, at(20)), None);
        assert_eq!(state.step(bad(), patience, at(25)), None);
        assert_eq!(state.step(bad(), patience, at(54)), None);
        assert_eq!(
            state.step(bad(), patience, at(55)),
            Some(Change::Raise("why".to_owned()))
        );
        assert_eq!(state.step(bad(), patience, at(60)), None);
        assert_eq!(state.step(Judgement::Good, patience, at(61)), None);
        assert_eq!(state.step(bad(), patience, at(70)), None);
        assert_eq!(state.step(Judgement::Good, patience, at(80)), None);
        assert_eq!(state.step(Judgement::Between, patience, at(109)), None);
        assert_eq!(
            state.step(Judgement::Good, patience, at(110)),
            Some(Change::Clear)
        );
        assert_eq!(state, AlertState::Clear);
    }

    #[test]
    fn without_patience_it_is_at_once_and_in_between_nothing_moves() {
        let mut state = AlertState::default();
        assert_eq!(state.step(Judgement::Between, Duration::ZERO, at(0)), None);
        assert!(state.step(bad(), Duration::ZERO, at(0)).is_some());
        assert_eq!(state.step(Judgement::Between, Duration::ZERO, at(1)), None);
        assert_eq!(state, AlertState::Raised);
        assert_eq!(
            state.step(Judgement::Good, Duration::ZERO, at(2)),
            Some(Change::Clear)
        );
    }

    #[test]
    fn a_service_is_down_when_it_is_to_run_and_nothing_serves() {
        let seen = |running, wanted, healthy, requests_failing| Serving {
            running,
            wanted,
            healthy,
            requests_failing,
        };
        assert!(matches!(serving(seen(true, 1, 0, None)), Judgement::Bad(_)));
        assert!(matches!(
            serving(seen(true, 2, 0, Some(true))),
            Judgement::Bad(_)
        ));
        assert_eq!(serving(seen(true, 1, 0, Some(false))), Judgement::Between);
        for fine in [
            seen(true, 2, 1, None),
            seen(true, 0, 0, None),
            seen(false, 1, 0, None),
        ] {
            assert_eq!(serving(fine), Judgement::Good);
        }
    }

    #[test]
    fn five_ends_within_ten_minutes_are_a_crash_loop_until_none_is_left() {
        let ended: Vec<_> = (0..5).map(|number| at(number * 100)).collect();
        assert!(matches!(crashes(&ended, at(400)), Judgement::Bad(_)));
        assert_eq!(crashes(&ended[..4], at(400)), Judgement::Between);
        assert_eq!(crashes(&ended, at(600)), Judgement::Between);
        assert_eq!(crashes(&ended, at(1000)), Judgement::Good);
    }

    #[test]
    fn bounds_have_a_gap_between_them() {
        assert!(matches!(budget("It", 90, 100), Judgement::Bad(_)));
        assert_eq!(budget("It", 89, 100), Judgement::Between);
        assert_eq!(budget("It", 84, 100), Judgement::Good);
        assert_eq!(budget("It", 84, 0), Judgement::Good);
        assert!(matches!(budget("It", u64::MAX, 1 << 40), Judgement::Bad(_)));
        assert!(matches!(
            drain("d", Duration::from_secs(301)),
            Judgement::Bad(_)
        ));
        assert_eq!(drain("d", Duration::from_secs(61)), Judgement::Between);
        assert_eq!(drain("d", Duration::from_secs(60)), Judgement::Good);
    }

    #[test]
    fn a_certificate_counts_when_it_runs_out_soon_and_renewing_fails() {
        let days = |days: u64| at(days * 24 * 3600);
        assert!(matches!(
            certificate("a", days(13), 1, at(0)),
            Judgement::Bad(_)
        ));
        assert_eq!(certificate("a", days(13), 0, at(0)), Judgement::Good);
        assert_eq!(certificate("a", days(14), 9, at(0)), Judgement::Good);
        assert!(matches!(
            certificate("a", days(1), 3, days(2)),
            Judgement::Bad(_)
        ));
    }
}

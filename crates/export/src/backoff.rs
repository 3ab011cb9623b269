//! How long to wait before what failed is tried again.

use std::time::Duration;

/// The first wait, before jitter.
pub const WAIT_MIN: Duration = Duration::from_millis(500);

/// The longest wait, before jitter.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest wait that a receiver may ask for; one that asks for more is asked again after this.
pub const WAIT_ASKED_MAX: Duration = Duration::from_secs(600);

/// Waits of half a second, doubling to a minute. Pure: the random number is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait now that sending failed once more: between half of the step and the whole of it,
    /// as `random` (0 to 1) says. A receiver that said how long to wait (`asked`) is given at least that.
    pub fn failed(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let step = WAIT_MIN
            .saturating_mul(1 << self.failures.min(16))
            .min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        let random = if random.is_finite() {
            random.clamp(0.0, 1.0)
        } else {
            1.0
        };
        let wait = step.mul_f64(0.5 + random / 2.0);
        asked.map_or(wait, |asked| wait.max(asked.min(WAIT_ASKED_MAX)))
    }

    /// Sending succeeded: the next failure waits shortly again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_half_a_second_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9)
            .map(|_| backoff.failed(None, 1.0).as_millis() as u64)
            .collect();
        assert_eq!(
            waits,
            [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        backoff.succeeded();
        assert_eq!(backoff.failed(None, 1.0), WAIT_MIN);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(Backoff::default().failed(None, 0.0), WAIT_MIN / 2);
        assert_eq!(Backoff::default().failed(None, -7.0), WAIT_MIN / 2);
        assert_eq!(Backoff::default().failed(None, f64::NAN), WAIT_MIN);
    }

    #[test]
    fn receiver_that_asks_for_a_wait_gets_it_within_reason() {
        let asked = |secs| Backoff::default().failed(Some(Duration::from_secs(secs)), 1.0);
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(0), WAIT_MIN);
        assert_eq!(asked(1_000_000), WAIT_ASKED_MAX);
    }

    #[test]
    fn a_day_of_failures_overflows_nothing() {
        let mut backoff = Backoff {
            failures: u32::MAX - 1,
        };
        assert_eq!(backoff.failed(None, 1.0), WAIT_MAX);
        assert_eq!(backoff.failed(None, 1.0), WAIT_MAX);
    }
}

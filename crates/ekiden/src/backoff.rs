//! How long to wait before something that ended is started again.

use std::time::Duration;

/// The first wait; the start before it is at once.
pub const WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

/// The longest wait after a life in which the role served. Every moment without it is a moment that
/// somebody waits, and what it costs to start is little; what it died of may not come again.
pub const WAIT_SERVED_MAX: Duration = Duration::from_millis(200);

/// After a life of this length the next death is like a first one: a role that can live so long is
/// not broken from the start, and starting it again costs less than a second without it.
pub const LIFE_MIN: Duration = Duration::from_secs(1);

/// Deaths in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// How long to wait after a death that ended a life of length `lived`, in which it `served` or
    /// never came so far.
    pub fn after(&mut self, lived: Duration, served: bool) -> Duration {
        let max = if served { WAIT_SERVED_MAX } else { WAIT_MAX };
        if lived >= LIFE_MIN {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        match self.deaths {
            1 => Duration::ZERO,
            deaths => WAIT_MIN.saturating_mul(1 << (deaths - 2).min(16)).min(max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_ten_seconds_and_a_long_life_resets_them() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10)
            .map(|_| backoff.after(Duration::ZERO, false).as_millis())
            .collect();
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(backoff.after(LIFE_MIN, false), Duration::ZERO);
        assert_eq!(backoff.after(Duration::ZERO, false), WAIT_MIN);
    }

    #[test]
    fn a_role_that_served_is_missed_for_a_moment_only() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..5)
            .map(|_| backoff.after(Duration::ZERO, true).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 200, 200]);
    }
}

//! Known peaks: windows of time in which a service has more instances than else, before anybody asks
//! for them.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Peaks of one service.
pub const PEAKS_MAX: usize = 20;

/// The longest peak, in minutes: a week.
pub const MINUTES_MAX: u32 = 7 * 24 * 60;

/// The longest cron expression and name of a time zone, in bytes.
const TEXT_BYTES_MAX: usize = 100;

/// A window that comes again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// When it begins: minute, hour, day of the month, month, day of the week, as crontab(5) has them.
    pub cron: String,
    /// How long it lasts.
    pub minutes: u32,
    /// The least instances meanwhile.
    pub instances_min: u32,
    /// Whose clock the expression means, by its name in the IANA time zone database.
    #[serde(default = "utc")]
    pub time_zone: String,
}

/// Where a peak is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeakState {
    /// Whether it is on.
    pub on: bool,
    /// When that changes at the earliest; `None` if it never begins.
    pub changes_in: Option<Duration>,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl Peak {
    /// Why it cannot be; the sentence names what is wrong.
    ///
    /// # Errors
    /// The expression or the time zone cannot be read, or a number is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let cron = self.cron()?;
        self.zone()?;
        // What never comes is looked for in thousands of years, each time that it is asked for.
        let any = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        if cron.find_next_occurrence(&any, true).is_err() {
            return Err(format!(
                "a peak of `{}` never begins: there is no such day",
                self.cron
            ));
        }
        if !(1..=MINUTES_MAX).contains(&self.minutes) {
            return Err(format!(
                "a peak cannot last {} minutes: expected 1 to {MINUTES_MAX}",
                self.minutes
            ));
        }
        Ok(())
    }

    /// Where it is at a moment. One that cannot be read never begins.
    pub fn state(&self, now: Timestamp) -> PeakState {
        let never = PeakState {
            on: false,
            changes_in: None,
        };
        let (Ok(cron), Some(at)) = (self.cron(), self.at(now)) else {
            return never;
        };
        let millis = |zoned: &Zoned| u64::try_from(zoned.timestamp().as_millisecond()).ok();
        let lasts = Duration::from_secs(u64::from(self.minutes) * 60);
        let began = cron.find_previous_occurrence(&at, true).ok();
        let ends = began
            .and_then(|began| millis(&began))
            .map(|began| Timestamp::from_millis(began).plus(lasts));
        if let Some(ends) = ends.filter(|ends| *ends > now) {
            return PeakState {
                on: true,
                changes_in: Some(ends.since(now)),
            };
        }
        let next = cron.find_next_occurrence(&at, false).ok();
        let begins = next
            .and_then(|next| millis(&next))
            .map(Timestamp::from_millis);
        PeakState {
            on: false,
            changes_in: begins.map(|begins| begins.since(now)),
        }
    }

    fn at(&self, now: Timestamp) -> Option<Zoned> {
        let millis = i64::try_from(now.as_millis()).ok()?;
        let moment = jiff::Timestamp::from_millisecond(millis).ok()?;
        Some(moment.to_zoned(self.zone().ok()?))
    }

    fn cron(&self) -> Result<Cron, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let wrong = |why: String| {
            format!(
                "`{}` is no cron expression of five fields such as `0 8 * * 1-5`: {why}",
                self.cron
            )
        };
        if self.cron.len() > TEXT_BYTES_MAX {
            return Err(wrong(format!("it has more than {TEXT_BYTES_MAX} bytes")));
        }
        parser
            .parse(&self.cron)
            .map_err(|error| wrong(error.to_string()))
    }

    fn zone(&self) -> Result<TimeZone, String> {
        let unknown = || {
            format!(
                "`{}` is no time zone such as `Europe/Berlin`",
                self.time_zone
            )
        };
        if self.time_zone.len() > TEXT_BYTES_MAX {
            return Err(unknown());
        }
        TimeZone::get(&self.time_zone).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peak(cron: &str, minutes: u32, time_zone: &str) -> Peak {
        Peak {
            cron: cron.to_owned(),
            minutes,
            instances_min: 3,
            time_zone: time_zone.to_owned(),
        }
    }

    fn state(peak: &Peak, at: &str) -> (bool, Option<u64>) {
        let at: jiff::Timestamp = at.parse().unwrap();
        let state = peak.state(Timestamp::from_millis(at.as_millisecond() as u64));
        (state.on, state.changes_in.map(|after| after.as_secs() / 60))
    }

    #[test]
    fn it_is_on_from_its_beginning_for_as_long_as_it_lasts() {
        let office = peak("0 8 * * 1-5", 10 * 60, "UTC");
        // The 27th of November 2026 is a Friday.
        for (at, want) in [
            ("2026-11-27T07:59:00Z", (false, Some(1))),
            ("2026-11-27T08:00:00Z", (true, Some(600))),
            ("2026-11-27T17:59:00Z", (true, Some(1))),
            ("2026-11-27T18:00:00Z", (false, Some(62 * 60))),
        ] {
            assert_eq!(state(&office, at), want, "{at}");
        }
        assert_eq!(
            state(&peak("0 0 30 2 *", 5, "UTC"), "2026-11-27T08:00:00Z"),
            (false, None)
        );
    }

    #[test]
    fn the_clock_is_that_of_its_place_also_when_summer_time_ends() {
        let shop = peak("0 9 * * *", 60, "Europe/Berlin");
        assert_eq!(state(&shop, "2026-10-24T06:59:00Z"), (false, Some(1)));
        assert_eq!(state(&shop, "2026-10-24T07:00:00Z"), (true, Some(60)));
        // In the night after that the clocks are set back.
        assert_eq!(state(&shop, "2026-10-25T07:00:00Z"), (false, Some(60)));
        assert_eq!(state(&shop, "2026-10-25T08:00:00Z"), (true, Some(60)));
    }

    proptest! {
        #[test]
        fn whatever_it_is_told_it_answers(
            cron in "[0-9*/,LW#?+@ a-zA-Zé-]{0,24}|([0-9*/,LW#?+-]{1,6} ){4}[0-9*/,LW#?+-]{1,6}",
            minutes in any::<u32>(),
            time_zone in "UTC|Europe/Berlin|[a-zA-Z/.é]{0,12}",
            now in prop_oneof![Just(0), Just(u64::MAX), 0..5_000_000_000_000u64],
        ) {
            let peak = peak(&cron, minutes, &time_zone);
            let now = Timestamp::from_millis(now);
            let state = peak.state(now);
            if state.on {
                prop_assert!(state.changes_in.is_some_and(|after| !after.is_zero()));
            }
            let _ = peak.check();
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_never_begins() {
        for (peak, want) in [
            (
                peak("0 8 * *", 60, "UTC"),
                "`0 8 * *` is no cron expression",
            ),
            (peak("0 0 8 * * *", 60, "UTC"), "five fields"),
            (peak("61 8 * * *", 60, "UTC"), "five fields"),
            (peak(&"1,".repeat(100), 60, "UTC"), "more than 100 bytes"),
            (
                peak("0 8 * * *", 60, "Mars/Base"),
                "`Mars/Base` is no time zone",
            ),
            (peak("0 8 * * *", 0, "UTC"), "0 minutes"),
            (peak("0 0 30 2 *", 60, "UTC"), "never begins"),
        ] {
            let why = peak.check().unwrap_err();
            assert!(why.contains(want), "{why}");
        }
        let broken = peak("nonsense", 60, "UTC");
        assert_eq!(state(&broken, "2026-11-27T08:00:00Z"), (false, None));
    }
}

//! An alarm's state, from its configuration and datapoints. Pure: whoever calls it brings the data and acts on it.
//!
//! As CloudWatch does it: more datapoints are looked at than are evaluated ([`AlarmConfig::range_periods`]), the newest
//! real ones count, and only when there are too few of them are missing ones treated as configured.

use crate::stat::Stat;

/// Periods that are looked at beyond those that are evaluated, so that a late datapoint is not a missing one.
pub const RANGE_PERIODS_MORE: u32 = 2;

/// How a value is compared with the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>=`
    GreaterThanOrEqualToThreshold,
    /// `>`
    GreaterThanThreshold,
    /// `<`
    LessThanThreshold,
    /// `<=`
    LessThanOrEqualToThreshold,
}

/// What a period without data counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TreatMissingData {
    /// As nothing.
    #[default]
    Missing,
    /// As nothing; while there is too little data the state stays.
    Ignore,
    /// As beyond the threshold.
    Breaching,
    /// As within the threshold.
    NotBreaching,
}

/// An alarm's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmState {
    /// Within the threshold.
    Ok,
    /// Beyond it.
    Alarm,
    /// Not known.
    InsufficientData,
}

/// What PutMetricAlarm says.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmConfig {
    /// Seconds of a period, a multiple of 60.
    pub period_s: u32,
    /// Periods that are evaluated; at least 1.
    pub evaluation_periods: u32,
    /// How many of them have to be beyond the threshold; 1 to `evaluation_periods`.
    pub datapoints_to_alarm: u32,
    /// What is compared with.
    pub threshold: f64,
    /// How.
    pub comparison: Comparison,
    /// What a period without data counts as.
    pub treat_missing_data: TreatMissingData,
    /// The statistic, or the extended one, that datapoints are of.
    pub stat: Stat,
}

impl AlarmConfig {
    /// Periods, the newest whole ones, whose datapoints [`evaluate`] wants.
    #[must_use]
    pub const fn range_periods(&self) -> u32 {
        self.evaluation_periods.saturating_add(RANGE_PERIODS_MORE)
    }

    /// The time whose datapoints [`evaluate`] wants at `now_ms`: from, including, and to, excluding. Whole periods.
    #[must_use]
    pub const fn range_ms(&self, now_ms: u64) -> (u64, u64) {
        let period_ms = self.period_s as u64 * 1000;
        if period_ms == 0 {
            return (now_ms, now_ms);
        }
        let end = now_ms - now_ms % period_ms;
        let length = period_ms.saturating_mul(self.range_periods() as u64);
        (end.saturating_sub(length), end)
    }

    const fn is_breaching(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::GreaterThanOrEqualToThreshold => value >= self.threshold,
            Comparison::GreaterThanThreshold => value > self.threshold,
            Comparison::LessThanThreshold => value < self.threshold,
            Comparison::LessThanOrEqualToThreshold => value <= self.threshold,
        }
    }
}

/// The state at `now_ms` of an alarm that was `current`. Datapoints are the beginning of their period in
/// milliseconds and the value of its statistic, in any order; those outside [`AlarmConfig::range_ms`] are left out.
#[must_use]
pub fn evaluate(
    config: &AlarmConfig,
    datapoints: &[(u64, f64)],
    now_ms: u64,
    current: AlarmState,
) -> AlarmState {
    let (from, to) = config.range_ms(now_ms);
    let period_ms = (u64::from(config.period_s) * 1000).max(1);
    let mut found: Vec<(u64, bool)> = datapoints
        .iter()
        .filter(|(at, _)| (from..to).contains(at))
        .map(|(at, value)| (*at, config.is_breaching(*value)))
        .collect();
    found.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));

    let evaluated = config.evaluation_periods.max(1) as usize;
    let needed = (config.datapoints_to_alarm.max(1) as usize).min(evaluated);
    let missing = evaluated.saturating_sub(found.len());
    let breaching = found
        .iter()
        .take(evaluated)
        .filter(|(_, breaching)| *breaching)
        .count();
    match config.treat_missing_data {
        TreatMissingData::Breaching => state_of(breaching + missing >= needed),
        TreatMissingData::NotBreaching => state_of(breaching >= needed),
        TreatMissingData::Missing | TreatMissingData::Ignore if missing == 0 => {
            state_of(breaching >= needed)
        }
        TreatMissingData::Missing | TreatMissingData::Ignore if breaching >= needed => {
            AlarmState::Alarm
        }
        TreatMissingData::Missing | TreatMissingData::Ignore if breaching < found.len() => {
            AlarmState::Ok
        }
        TreatMissingData::Ignore => current,
        // Only breaching ones, and too few of them: an alarm once the oldest is as old as it takes.
        TreatMissingData::Missing => {
            let oldest = found.last().map(|(at, _)| (to - at) / period_ms);
            if oldest.is_some_and(|periods| periods >= needed as u64) {
                AlarmState::Alarm
            } else {
                AlarmState::InsufficientData
            }
        }
    }
}

const fn state_of(is_alarm: bool) -> AlarmState {
    if is_alarm {
        AlarmState::Alarm
    } else {
        AlarmState::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(datapoints_to_alarm: u32, treat_missing_data: TreatMissingData) -> AlarmConfig {
        AlarmConfig {
            period_s: 300,
            evaluation_periods: 3,
            datapoints_to_alarm,
            threshold: 3.0,
            comparison: Comparison::GreaterThanThreshold,
            treat_missing_data,
            stat: Stat::Average,
        }
    }

    /// The newest five datapoints, oldest first: `0` within, `X` beyond, `-` missing; and the states for missing,
    /// ignore, breaching and not breaching: `A`larm, `O`k, `I`nsufficient data, `=` as before.
    #[track_caller]
    fn check(datapoints_to_alarm: u32, datapoints: &str, want: &str) {
        let now_ms = 1_800_000_123_000;
        let newest = now_ms - now_ms % 300_000 - 300_000;
        let found: Vec<(u64, f64)> = (datapoints.chars().rev().enumerate())
            .filter(|(_, datapoint)| *datapoint != '-')
            .map(|(n, datapoint)| {
                let value = if datapoint == 'X' { 3.5 } else { 3.0 };
                (newest - n as u64 * 300_000, value)
            })
            .collect();
        use TreatMissingData::{Breaching, Ignore, Missing, NotBreaching};
        for (treat, want) in [Missing, Ignore, Breaching, NotBreaching]
            .into_iter()
            .zip(want.chars())
        {
            for current in [
                AlarmState::Ok,
                AlarmState::Alarm,
                AlarmState::InsufficientData,
            ] {
                let want = match want {
                    'A' => AlarmState::Alarm,
                    'O' => AlarmState::Ok,
                    'I' => AlarmState::InsufficientData,
                    _ => current,
                };
                let config = config(datapoints_to_alarm, treat);
                let got = evaluate(&config, &found, now_ms, current);
                assert_eq!(got, want, "{datapoints} {treat:?}");
            }
        }
    }

    /// The tables of "Configuring how CloudWatch alarms treat missing data".
    #[test]
    fn missing_data_is_treated_as_cloudwatchs_tables_say() {
        check(3, "0-X-X", "OOOO");
        check(3, "0----", "OOOO");
        check(3, "-----", "I=AO");
        check(3, "0XX-X", "AAAA");
        check(3, "----X", "I=AO");
        check(3, "X----", "A=AO");
        check(3, "--X--", "A=AO");
        check(2, "0-X-X", "AAAA");
        check(2, "00X0X", "AAAA");
        check(2, "0-X--", "OOAO");
        check(2, "----0", "OOAO");
        check(2, "----X", "I=AO");
        check(2, "---XX", "AAAA");
    }

    #[test]
    fn only_the_newest_whole_periods_count() {
        check(1, "XX000", "OOOO");
        let config = config(1, TreatMissingData::Missing);
        assert_eq!(config.range_ms(3_000_001), (1_500_000, 3_000_000));
        let unfinished = [(3_000_000, 9.0), (1_200_000, 9.0)];
        let state = evaluate(&config, &unfinished, 3_000_001, AlarmState::Ok);
        assert_eq!(state, AlarmState::InsufficientData);
    }

    #[test]
    fn values_are_compared_as_told() {
        let now = [(0, 3.0)];
        for (comparison, want) in [
            (Comparison::GreaterThanOrEqualToThreshold, AlarmState::Alarm),
            (Comparison::GreaterThanThreshold, AlarmState::Ok),
            (Comparison::LessThanThreshold, AlarmState::Ok),
            (Comparison::LessThanOrEqualToThreshold, AlarmState::Alarm),
        ] {
            let config = AlarmConfig {
                evaluation_periods: 1,
                comparison,
                ..config(1, TreatMissingData::Missing)
            };
            assert_eq!(evaluate(&config, &now, 300_000, AlarmState::Ok), want);
        }
    }
}

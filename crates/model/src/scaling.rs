//! What a service's owner sets about its scaling beside its auto scaling configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    peak::{PEAKS_MAX, Peak},
    revision::Scaling,
    scale::{IDLE_TO_ZERO, SCALE_IN_DELAY, ScaleSettings, UTILISATION},
    time::Timestamp,
};

/// The longest time that can be set, in seconds: 30 days.
pub const SECONDS_MAX: u32 = 30 * 24 * 3600;

/// Ekiden's own settings of one service: no revision's, and effective at once. What is absent is as
/// the server has it, or the auto scaling configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScalingOptions {
    /// Instances to keep, in the place of `MinSize`; `MaxSize` still counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_min: Option<u32>,
    /// How much of `MaxConcurrency` is used before there is another instance: 1 to 100 percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<u32>,
    /// How long the demand must have been lower before instances are taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_in_seconds: Option<u32>,
    /// With a minimum of 0: how long nothing may have been asked for before the last one is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u32>,
    /// How long nothing may have been asked for before instances are throttled; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_seconds: Option<u32>,
    /// How long nothing may have been asked for before instances are frozen; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_seconds: Option<u32>,
    /// Instances that are neither throttled nor frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_min: Option<u32>,
    /// How much of an instance's CPU is used before there is another: 1 to 100 percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_target: Option<u32>,
    /// The same of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_target: Option<u32>,
    /// When it is to have more instances than else.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list_or_null"
    )]
    pub peaks: Vec<Peak>,
}

/// `null` is the default, as it is of the other settings.
fn list_or_null<'de, D: Deserializer<'de>>(document: D) -> Result<Vec<Peak>, D::Error> {
    Ok(Option::deserialize(document)?.unwrap_or_default())
}

/// What services have that set nothing themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingDefaults {
    /// See [`ScalingOptions::utilisation`].
    pub utilisation: u32,
    /// See [`ScalingOptions::scale_in_seconds`].
    pub scale_in_delay: Duration,
    /// See [`ScalingOptions::idle_seconds`].
    pub idle_to_zero: Duration,
    /// See [`ScalingOptions::throttle_seconds`]; zero is never.
    pub throttle_after: Duration,
    /// See [`ScalingOptions::freeze_seconds`]; zero is never.
    pub freeze_after: Duration,
}

/// How long nothing may have been asked for before instances are throttled.
pub const THROTTLE_AFTER: Duration = Duration::from_secs(5);

impl Default for ScalingDefaults {
    fn default() -> Self {
        Self {
            utilisation: UTILISATION,
            scale_in_delay: SCALE_IN_DELAY,
            idle_to_zero: IDLE_TO_ZERO,
            throttle_after: THROTTLE_AFTER,
            freeze_after: Duration::ZERO,
        }
    }
}

impl ScalingOptions {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Why these cannot be; the sentence names the setting.
    ///
    /// # Errors
    /// A value is out of its range.
    pub fn check(&self) -> Result<(), String> {
        for (name, percent) in [
            ("utilisation", self.utilisation),
            ("cpu_target", self.cpu_target),
            ("memory_target", self.memory_target),
        ] {
            if let Some(percent) = percent
                && !(1..=100).contains(&percent)
            {
                return Err(format!(
                    "`{name}` cannot be {percent}: expected 1 to 100 percent"
                ));
            }
        }
        for (name, seconds) in [
            ("scale_in_seconds", self.scale_in_seconds),
            ("idle_seconds", self.idle_seconds),
        ] {
            if let Some(seconds) = seconds
                && !(1..=SECONDS_MAX).contains(&seconds)
            {
                return Err(format!(
                    "`{name}` cannot be {seconds}: expected 1 to {SECONDS_MAX} seconds"
                ));
            }
        }
        for (name, seconds) in [
            ("throttle_seconds", self.throttle_seconds),
            ("freeze_seconds", self.freeze_seconds),
        ] {
            if let Some(seconds) = seconds
                && seconds > SECONDS_MAX
            {
                return Err(format!(
                    "`{name}` cannot be {seconds}: expected 0, which is never, to {SECONDS_MAX} seconds"
                ));
            }
        }
        if self.peaks.len() > PEAKS_MAX {
            return Err(format!(
                "there cannot be {} `peaks`: expected at most {PEAKS_MAX}",
                self.peaks.len()
            ));
        }
        self.peaks.iter().try_for_each(Peak::check)
    }

    /// The least and the most instances of a revision that scales like this, now.
    pub fn bounds(&self, scaling: &Scaling, now: Timestamp) -> (u32, u32) {
        let most = scaling.instances_max.max(1);
        let least = self.instances_min.unwrap_or(scaling.instances_min);
        let on = self.peaks.iter().filter(|peak| peak.state(now).on);
        let peaks = on.map(|peak| peak.instances_min).max();
        (least.max(peaks.unwrap_or(0)).min(most), most)
    }

    /// How soon [`Self::bounds`] may say something else by itself.
    pub fn bounds_change_in(&self, now: Timestamp) -> Option<Duration> {
        let changes = self
            .peaks
            .iter()
            .filter_map(|peak| peak.state(now).changes_in);
        changes.min()
    }

    /// What is decided by.
    pub fn settings(
        &self,
        scaling: &Scaling,
        defaults: &ScalingDefaults,
        now: Timestamp,
    ) -> ScaleSettings {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let unless_zero = |own: Option<u32>, default: Duration| {
            let after = own.map_or(default, seconds);
            (!after.is_zero()).then_some(after)
        };
        let (instances_min, instances_max) = self.bounds(scaling, now);
        ScaleSettings {
            instances_min,
            instances_max,
            concurrency_per_instance: scaling.concurrency_per_instance.max(1),
            utilisation: self.utilisation.unwrap_or(defaults.utilisation),
            scale_in_delay: self
                .scale_in_seconds
                .map_or(defaults.scale_in_delay, seconds),
            idle_to_zero: self.idle_seconds.map_or(defaults.idle_to_zero, seconds),
            throttle_after: unless_zero(self.throttle_seconds, defaults.throttle_after),
            freeze_after: unless_zero(self.freeze_seconds, defaults.freeze_after),
            cpu_target: self.cpu_target,
            memory_target: self.memory_target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_takes_the_place_of_the_configuration_up_to_its_maximum() {
        let scaling = Scaling {
            instances_min: 1,
            instances_max: 4,
            concurrency_per_instance: 10,
        };
        let bounds = |instances_min| {
            let options = ScalingOptions {
                instances_min,
                ..ScalingOptions::default()
            };
            options.bounds(&scaling, Timestamp::from_millis(0))
        };
        assert_eq!(bounds(None), (1, 4));
        assert_eq!(bounds(Some(0)), (0, 4));
        assert_eq!(bounds(Some(3)), (3, 4));
        assert_eq!(bounds(Some(9)), (4, 4));
    }

    #[test]
    fn a_peak_raises_the_minimum_and_the_maximum_still_counts() {
        let peak = |instances_min| Peak {
            cron: "0 8 * * *".to_owned(),
            minutes: 60,
            instances_min,
            time_zone: "UTC".to_owned(),
        };
        let options = ScalingOptions {
            instances_min: Some(1),
            peaks: vec![peak(3), peak(2)],
            ..ScalingOptions::default()
        };
        let hour = |hour: u64| Timestamp::from_millis(hour * 3_600_000);
        let at = |time, instances_max| {
            let scaling = Scaling {
                instances_max,
                ..Scaling::default()
            };
            options.bounds(&scaling, time).0
        };
        assert_eq!((at(hour(7), 9), at(hour(8), 9), at(hour(9), 9)), (1, 3, 1));
        assert_eq!(at(hour(8), 2), 2);
        assert_eq!(
            options.bounds_change_in(hour(6)),
            Some(Duration::from_secs(7200))
        );
        assert_eq!(ScalingOptions::default().bounds_change_in(hour(6)), None);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let check = |options: ScalingOptions| options.check().unwrap_err();
        let zero = |utilisation| ScalingOptions {
            utilisation: Some(utilisation),
            ..ScalingOptions::default()
        };
        assert!(check(zero(0)).contains("`utilisation` cannot be 0"));
        assert!(check(zero(101)).contains("1 to 100"));
        let never = ScalingOptions {
            idle_seconds: Some(0),
            ..ScalingOptions::default()
        };
        assert!(check(never).contains("`idle_seconds`"));
        assert_eq!(ScalingOptions::default().check(), Ok(()));
    }
}

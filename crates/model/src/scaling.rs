//! What a service's owner sets about its scaling beside its auto scaling configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    revision::Scaling,
    scale::{IDLE_TO_ZERO, SCALE_IN_DELAY, ScaleSettings, UTILISATION},
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
        if let Some(percent) = self.utilisation
            && !(1..=100).contains(&percent)
        {
            return Err(format!(
                "`utilisation` cannot be {percent}: expected 1 to 100 percent"
            ));
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
        Ok(())
    }

    /// The least and the most instances of a revision that scales like this.
    pub fn bounds(&self, scaling: &Scaling) -> (u32, u32) {
        let most = scaling.instances_max.max(1);
        let least = self.instances_min.unwrap_or(scaling.instances_min);
        (least.min(most), most)
    }

    /// What is decided by.
    pub fn settings(&self, scaling: &Scaling, defaults: &ScalingDefaults) -> ScaleSettings {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let unless_zero = |own: Option<u32>, default: Duration| {
            let after = own.map_or(default, seconds);
            (!after.is_zero()).then_some(after)
        };
        let (instances_min, instances_max) = self.bounds(scaling);
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
            options.bounds(&scaling)
        };
        assert_eq!(bounds(None), (1, 4));
        assert_eq!(bounds(Some(0)), (0, 4));
        assert_eq!(bounds(Some(3)), (3, 4));
        assert_eq!(bounds(Some(9)), (4, 4));
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

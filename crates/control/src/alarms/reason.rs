//! Why an alarm is in its state, in CloudWatch's words.

use std::fmt::Write as _;

use ekiden_metrics::alarm::{AlarmConfig, AlarmState, Comparison, TreatMissingData};
use ekiden_model::time::Timestamp;
use ekiden_store::alarms::{Configuration, Watched};
use serde_json::json;

/// Datapoints that a reason shows; it may have 1023 characters.
const DATAPOINTS_SHOWN_MAX: usize = 10;

/// Datapoints that its data has; that may have 4000 characters.
const DATAPOINTS_IN_DATA_MAX: usize = 20;

/// What a state was found by.
pub(super) struct Seen<'a> {
    pub(super) configuration: &'a Configuration,
    pub(super) config: &'a AlarmConfig,
    /// The newest first.
    pub(super) datapoints: &'a [(u64, f64)],
    pub(super) now: Timestamp,
}

impl Seen<'_> {
    fn evaluated(&self) -> &[(u64, f64)] {
        let most = self.config.evaluation_periods as usize;
        &self.datapoints[..self.datapoints.len().min(most)]
    }

    /// For people.
    pub(super) fn reason(&self, state: AlarmState) -> String {
        let periods = self.config.evaluation_periods as usize;
        let missing = periods - self.evaluated().len();
        match state {
            AlarmState::InsufficientData => {
                let missing = missing.max(1);
                format!(
                    "Insufficient Data: {} unknown.",
                    counted(missing, "datapoint")
                )
            }
            AlarmState::Ok | AlarmState::Alarm if self.datapoints.is_empty() => {
                let treated = match self.config.treat_missing_data {
                    TreatMissingData::Breaching => "Breaching",
                    TreatMissingData::NotBreaching => "NonBreaching",
                    TreatMissingData::Ignore => "Ignore",
                    TreatMissingData::Missing => "Missing",
                };
                let plural = if periods == 1 { "" } else { "s" };
                let missing = counted(periods, "missing datapoint");
                format!(
                    "Threshold Crossed: no datapoints were received for {periods} period{plural} and {missing} treated \
                     as [{treated}]."
                )
            }
            AlarmState::Ok => self.crossed(false),
            AlarmState::Alarm => self.crossed(true),
        }
    }

    fn crossed(&self, breaching: bool) -> String {
        let periods = self.config.evaluation_periods;
        let to_alarm = self.config.datapoints_to_alarm;
        let those: Vec<&(u64, f64)> = (self.evaluated().iter())
            .filter(|(_, value)| self.is_breaching(*value) == breaching)
            .collect();
        let mut shown = String::new();
        for (n, (at, value)) in those.iter().take(DATAPOINTS_SHOWN_MAX).enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let _ = write!(
                shown,
                "{comma}{value:?} ({})",
                date(*at, "%d/%m/%y %H:%M:%S")
            );
        }
        if those.len() > DATAPOINTS_SHOWN_MAX {
            shown.push_str(", ...");
        }
        let were = if those.len() == 1 { "was" } else { "were" };
        let (not, least, transition) = if breaching {
            ("", to_alarm, "OK -> ALARM")
        } else {
            ("not ", periods - to_alarm + 1, "ALARM -> OK")
        };
        let plural = if least == 1 { "" } else { "s" };
        let than = match self.config.comparison {
            Comparison::GreaterThanOrEqualToThreshold => "greater than or equal to",
            Comparison::GreaterThanThreshold => "greater than",
            Comparison::LessThanThreshold => "less than",
            Comparison::LessThanOrEqualToThreshold => "less than or equal to",
        };
        format!(
            "Threshold Crossed: {} out of the last {periods} datapoints [{shown}] {were} {not}{than} the threshold \
             ({:?}) (minimum {least} datapoint{plural} for {transition} transition).",
            those.len(),
            self.config.threshold
        )
    }

    fn is_breaching(&self, value: f64) -> bool {
        let threshold = self.config.threshold;
        match self.config.comparison {
            Comparison::GreaterThanOrEqualToThreshold => value >= threshold,
            Comparison::GreaterThanThreshold => value > threshold,
            Comparison::LessThanThreshold => value < threshold,
            Comparison::LessThanOrEqualToThreshold => value <= threshold,
        }
    }

    /// The same as JSON.
    pub(super) fn data(&self) -> String {
        let in_data = &self.evaluated()[..self.evaluated().len().min(DATAPOINTS_IN_DATA_MAX)];
        let values: Vec<f64> = in_data.iter().rev().map(|(_, value)| *value).collect();
        let time = |at| date(at, "%Y-%m-%dT%H:%M:%S%.3f+0000");
        let mut data = json!({
            "version": "1.0",
            "queryDate": time(self.now.as_millis()),
            "period": self.config.period_s,
            "recentDatapoints": values,
            "threshold": self.config.threshold,
            "evaluatedDatapoints": in_data
                .iter()
                .map(|(at, value)| json!({"timestamp": time(*at), "value": value}))
                .collect::<Vec<_>>(),
        });
        if let Some((oldest, _)) = in_data.last() {
            data["startDate"] = time(*oldest).into();
        }
        if let Watched::Metric(metric) = &self.configuration.watched {
            data["statistic"] = metric.stat.clone().into();
            if let Some(unit) = &metric.unit {
                data["unit"] = unit.clone().into();
            }
        }
        data.to_string()
    }
}

/// "1 datapoint was", "3 datapoints were".
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what} was"),
        _ => format!("{count} {what}s were"),
    }
}

/// A time in UTC; milliseconds since 1970 when no calendar has it.
fn date(at_ms: u64, form: &str) -> String {
    let at = i64::try_from(at_ms).ok();
    match at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()) {
        Some(at) => at.strftime(form).to_string(),
        None => at_ms.to_string(),
    }
}

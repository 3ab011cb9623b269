//! `ekiden scale`: how services scale, and why they have as many instances as they have.

use clap::Args;
use ekiden_aws::native::{
    DescribeScalingRequest, InstanceStart, ScalingDecision, ScalingResponse, UpdateScalingRequest,
};
use serde_json::{Map, Value, json};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, table, unix_now},
};

/// What to show or change.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Without an option it shows what is asked for, what was decided and why.\n\n\
    Examples:\n  \
    ekiden scale website\n  \
    ekiden scale website=3              keep at least 3 instances\n  \
    ekiden scale website=               as its configuration says again\n  \
    ekiden scale website --idle 600     with a minimum of 0: to nothing after 10 minutes\n  \
    ekiden scale website --peak '3 from 0 8 * * 1-5 for 600 in Europe/Berlin'"
)]
pub struct Scale {
    /// The service; `NAME=COUNT` is `--min COUNT`, and `NAME=` is `--min default`
    #[arg(value_name = "SERVICE[=COUNT]")]
    service: String,
    /// Instances to keep, in the place of `MinSize`
    #[arg(long, value_name = "COUNT")]
    min: Option<String>,
    /// How much of `MaxConcurrency` is used before there is another instance, in percent
    #[arg(long, value_name = "PERCENT")]
    utilisation: Option<String>,
    /// How long less must have been asked for before instances are taken away
    #[arg(long, value_name = "SECONDS")]
    scale_in: Option<String>,
    /// With a minimum of 0: how long nothing may have been asked for before the last one is stopped
    #[arg(long, value_name = "SECONDS")]
    idle: Option<String>,
    /// How long nothing may have been asked for before instances get next to no CPU; 0 is never
    #[arg(long, value_name = "SECONDS")]
    throttle: Option<String>,
    /// How long nothing may have been asked for before instances get no CPU at all and their memory
    /// is given back; 0 is never
    #[arg(long, value_name = "SECONDS")]
    freeze: Option<String>,
    /// Instances that are neither throttled nor frozen
    #[arg(long, value_name = "COUNT")]
    active: Option<String>,
    /// How much of an instance's CPU is used before there is another, in percent
    #[arg(long, value_name = "PERCENT")]
    cpu_target: Option<String>,
    /// The same of its memory; choose more than an instance without requests uses
    #[arg(long, value_name = "PERCENT")]
    memory_target: Option<String>,
    /// When to keep more instances than else: `COUNT from CRON for MINUTES [in TIME ZONE]`; can be
    /// repeated, and takes the place of the peaks before; `default` is none
    #[arg(long, value_name = "PEAK")]
    peak: Vec<String>,
}

impl Scale {
    /// Does it.
    ///
    /// # Errors
    /// The endpoint refuses or cannot be reached, or there is no such service.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        let (service, min) = match (self.service.split_once('='), &self.min) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    "the minimum is given twice: by `=` and by `--min`".to_owned(),
                ));
            }
            (Some((service, "")), None) => (service, Some("default")),
            (Some((service, min)), None) => (service, Some(min)),
            (None, min) => (self.service.as_str(), min.as_deref()),
        };
        let given = [
            ("instances_min", "--min", min),
            ("utilisation", "--utilisation", self.utilisation.as_deref()),
            ("scale_in_seconds", "--scale-in", self.scale_in.as_deref()),
            ("idle_seconds", "--idle", self.idle.as_deref()),
            ("throttle_seconds", "--throttle", self.throttle.as_deref()),
            ("freeze_seconds", "--freeze", self.freeze.as_deref()),
            ("active_min", "--active", self.active.as_deref()),
            ("cpu_target", "--cpu-target", self.cpu_target.as_deref()),
            (
                "memory_target",
                "--memory-target",
                self.memory_target.as_deref(),
            ),
        ];
        let mut change = Map::new();
        for (key, option, value) in given {
            if let Some(value) = value {
                change.insert(key.to_owned(), number(option, value)?);
            }
        }
        match self.peak.as_slice() {
            [] => {}
            [one] if one == "default" => {
                change.insert("peaks".to_owned(), Value::Null);
            }
            peaks => {
                let peaks = peaks.iter().map(|text| peak(text));
                change.insert("peaks".to_owned(), peaks.collect::<Result<_, _>>()?);
            }
        }
        let service_arn = api.arn(service).await?;
        let response: ScalingResponse = match change.is_empty() {
            true => {
                let request = DescribeScalingRequest { service_arn };
                api.native("DescribeScaling", &request).await?
            }
            false => {
                let settings = Value::Object(change).to_string();
                let request = UpdateScalingRequest {
                    service_arn,
                    settings,
                };
                api.native("UpdateScaling", &request).await?
            }
        };
        Ok(print(format, &response, text)?)
    }
}

/// A whole number, or `default`.
fn number(option: &str, text: &str) -> Result<Value, Failure> {
    match (text, text.parse::<u32>()) {
        ("default", _) => Ok(Value::Null),
        (_, Ok(number)) => Ok(number.into()),
        (_, Err(_)) => Err(Failure::new(format!(
            "`{option}` cannot be `{text}`: expected a whole number or `default`"
        ))),
    }
}

/// `3 from 0 8 * * 1-5 for 600 in Europe/Berlin`.
fn peak(text: &str) -> Result<Value, Failure> {
    let read = || {
        let (count, rest) = text.split_once(" from ")?;
        let (cron, rest) = rest.split_once(" for ")?;
        let (minutes, zone) = match rest.split_once(" in ") {
            Some((minutes, zone)) => (minutes, Some(zone.trim())),
            None => (rest, None),
        };
        let count: u32 = count.trim().parse().ok()?;
        let minutes: u32 = minutes.trim().parse().ok()?;
        let mut peak = json!({"instances_min": count, "cron": cron.trim(), "minutes": minutes});
        if let Some(zone) = zone {
            peak["time_zone"] = zone.into();
        }
        Some(peak)
    };
    read().ok_or_else(|| {
        Failure::new(format!(
            "`--peak` cannot be `{text}`: expected `COUNT from CRON for MINUTES [in TIME ZONE]`, such as \
             `3 from 0 8 * * 1-5 for 600 in Europe/Berlin`"
        ))
    })
}

fn text(scaling: &ScalingResponse) -> String {
    let mut lines = Vec::new();
    match &scaling.now {
        Some(now) => {
            lines.push(format!(
                "instances  {} ready, {} starting, {} wanted",
                now.ready, now.starting, now.wanted
            ));
            lines.push(format!(
                "demand     {} in flight, {} waiting",
                now.in_flight, now.queued
            ));
            lines.push(format!(
                "usage      {} % of an instance's CPU, {} % of its memory, all together",
                now.cpu_percent, now.memory_percent
            ));
            lines.push(format!("because    {}", now.reason));
            lines.push(format!(
                "activity   {}",
                scaling.activity.as_deref().unwrap_or_default()
            ));
        }
        None => lines.push("instances  not known: it does not run, or no edge has told".to_owned()),
    }
    if let Some(refused) = &scaling.refused {
        lines.push(format!("refused    {refused}"));
    }
    lines.push(format!(
        "settings   {} to {} instances of {} requests at {} %; fewer after {} s, none after {} s",
        scaling.instances_min,
        scaling.instances_max,
        scaling.concurrency_per_instance,
        scaling.utilisation,
        scaling.scale_in_seconds,
        scaling.idle_seconds,
    ));
    lines.push(format!(
        "at rest    throttled {}, frozen {}; {} always active",
        after(scaling.throttle_seconds),
        after(scaling.freeze_seconds),
        scaling.active_min
    ));
    let targets = [
        ("CPU", scaling.cpu_target),
        ("memory", scaling.memory_target),
    ];
    let targets = targets
        .into_iter()
        .filter_map(|(of, percent)| Some(format!("{} % of its {of}", percent?)));
    let targets: Vec<_> = targets.collect();
    if !targets.is_empty() {
        lines.push(format!(
            "targets    one uses {}, or there is another",
            targets.join(" and ")
        ));
    }
    if scaling.peak {
        lines.push("peak       on".to_owned());
    }
    lines.push(format!("own        {}", scaling.settings));
    if !scaling.decisions.is_empty() {
        let header = [
            "AGE",
            "WANTED",
            "READY",
            "STARTING",
            "IN FLIGHT",
            "WAITING",
            "BECAUSE",
        ];
        lines.push(String::new());
        lines.push(table(&header, scaling.decisions.iter().map(row)));
    }
    if !scaling.starts.is_empty() {
        let header = ["AGE", "INSTANCE", "DECIDE", "PREPARE", "LISTEN", "ROUTE"];
        lines.push(String::new());
        lines.push(table(&header, scaling.starts.iter().map(start_row)));
    }
    lines.join("\n")
}

fn since(at: u64) -> String {
    age(unix_now().saturating_sub(at))
}

fn start_row(start: &InstanceStart) -> Vec<String> {
    let stages = [
        Some(start.decide_micros),
        start.prepare_micros,
        start.listen_micros,
        start.route_micros,
    ];
    let millis = |micros: Option<u64>| {
        micros.map_or("-".to_owned(), |micros| {
            format!("{:.1} ms", micros as f64 / 1000.0)
        })
    };
    let named = [since(start.at), start.instance_id.clone()];
    named.into_iter().chain(stages.map(millis)).collect()
}

fn after(seconds: u64) -> String {
    match seconds {
        0 => "never".to_owned(),
        seconds => format!("after {seconds} s"),
    }
}

fn row(decision: &ScalingDecision) -> Vec<String> {
    let numbers = [
        decision.wanted,
        decision.ready,
        decision.starting,
        decision.in_flight,
        decision.queued,
    ];
    let numbers = numbers.iter().map(ToString::to_string);
    let at = std::iter::once(since(decision.at));
    at.chain(numbers).chain([decision.reason.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_read_in_words() {
        let read = peak("3 from 0 8 * * 1-5 for 600 in Europe/Berlin").unwrap();
        assert_eq!(
            read,
            json!({"instances_min": 3, "cron": "0 8 * * 1-5", "minutes": 600,
                "time_zone": "Europe/Berlin"})
        );
        let read = peak("1 from */5 * * * * for 1").unwrap();
        assert_eq!(
            read,
            json!({"instances_min": 1, "cron": "*/5 * * * *", "minutes": 1})
        );
        for wrong in [
            "",
            "3",
            "3 from 0 8 * * *",
            "x from 0 8 * * * for 1",
            "3 from a for b",
        ] {
            let why = peak(wrong).unwrap_err().error.to_string();
            assert!(why.contains("COUNT from CRON for MINUTES"), "{why}");
        }
    }
}

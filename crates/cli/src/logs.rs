//! `ekiden logs`: what the instances of a service wrote, what happened to it, and its requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::Args;
use ekiden_aws::native::{GetLogsRequest, GetLogsResponse, LogLine};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    api::{Api, RETRIES_MAX, RETRY_WAIT, may_pass},
    build_log,
    failure::Outcome,
    output::{OutputFormat, print_line},
};

/// How often new lines are asked for.
const POLL: Duration = Duration::from_millis(200);

/// Lines of one page while following.
const PAGE_LINES: u32 = 1000;

/// How many of the newest lines when nothing else says which.
const LINES: u32 = 100;

/// Which lines.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// The service
    pub name: String,

    /// The log of a build instead, all of it: of this operation, or of the newest that built
    #[arg(long, value_name = "OPERATION", num_args = 0..=1,
          conflicts_with_all = ["instance", "lines", "since", "until", "grep", "service", "requests"])]
    pub build: Option<Option<String>>,

    /// What happened to the service instead: its events and deployments
    #[arg(long, conflicts_with_all = ["instance", "requests"])]
    pub service: bool,

    /// The requests to the service instead
    #[arg(long, conflicts_with = "instance")]
    pub requests: bool,

    /// Go on with lines as they come
    #[arg(short, long)]
    pub follow: bool,

    /// Only lines of this instance; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub instance: Option<String>,

    /// Only lines from this time on: 5m, 2h, 1d ago, or a time such as 2026-11-23T16:47, in UTC
    /// unless it says otherwise. All of them, unless `--lines` is given
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<u64>,

    /// Only lines before this time
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "follow")]
    pub until: Option<u64>,

    /// Only lines like this filter pattern of CloudWatch Logs: words that all of them have, or
    /// `{ $.status >= 500 }` of JSON
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,

    /// How many of the newest lines; 100 when no time is given
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines: Option<u32>,
}

impl Logs {
    /// Prints them, oldest first; with `--output json` one document per line.
    ///
    /// # Errors
    /// There is no such service, or the endpoint cannot be reached.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        if let Some(operation) = &self.build {
            let operation = operation.clone();
            return build_log::print(api, &self.name, operation, self.follow, format).await;
        }
        let log = match (self.service, self.requests) {
            (true, _) => Some("service".to_owned()),
            (_, true) => Some("access".to_owned()),
            (false, false) => None,
        };
        let mut request = GetLogsRequest {
            service_arn: api.arn(&self.name).await?,
            log,
            instance_id: self.instance.clone(),
            since: self.since,
            until: self.until,
            filter_pattern: self.grep.clone(),
            after: None,
            max_lines: match self.since {
                Some(_) => self.lines,
                None => Some(self.lines.unwrap_or(LINES)),
            },
        };
        let mut failures = 0;
        loop {
            let page: GetLogsResponse = match api.native("GetLogs", &request).await {
                Ok(page) => page,
                Err(failure) if self.follow && failures < RETRIES_MAX && may_pass(&failure) => {
                    failures += 1;
                    tokio::time::sleep(RETRY_WAIT).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            failures = 0;
            for line in &page.lines {
                print_line(&match format {
                    OutputFormat::Text => text(line),
                    OutputFormat::Json => serde_json::to_string(line)?,
                })?;
            }
            if !page.more {
                if !self.follow {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
            request.after = Some(page.next);
            request.max_lines = Some(PAGE_LINES);
        }
    }
}

/// Milliseconds since the Unix epoch of a time as it is typed.
fn time(text: &str) -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    time_at(text, now.unwrap_or_default().as_millis() as u64)
}

fn time_at(text: &str, now: u64) -> anyhow::Result<u64> {
    if let Some(ago) = ago(text) {
        return Ok(now.saturating_sub(ago));
    }
    let wrong = || anyhow!("write a time as 30s, 5m, 2h or 1d ago, or as 2026-11-23T16:47");
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let civil: DateTime = text.parse().map_err(|_| wrong())?;
            let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
            zoned.timestamp()
        }
    };
    u64::try_from(at.as_millisecond()).context("the time is before 1970")
}

/// Milliseconds of `5m` and the like.
fn ago(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    count.checked_mul(seconds * 1000)
}

/// `2026-11-23T16:47:15.042Z 1a2b3c4d | text`, with the instance, or in other logs the stream; what an
/// application wrote cannot steer the terminal.
fn text(line: &LogLine) -> String {
    let whose = match line.instance_id.get(..8) {
        Some(id) => id.to_owned(),
        None => stream(&line.stream),
    };
    format!(
        "{} {whose} | {}",
        timestamp(line.timestamp),
        printable(&line.text)
    )
}

/// `deployment/1a2b3c4d` of a stream that ends in a whole id.
fn stream(name: &str) -> String {
    let short = name.rsplit_once('/').and_then(|(kind, id)| {
        let short = id.get(..8).filter(|_| id.len() == 32)?;
        Some(format!("{kind}/{short}"))
    });
    printable(&short.unwrap_or_else(|| name.to_owned()))
}

/// A text without anything that a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| match c.is_control() && c != '\t' {
        true => '\u{fffd}',
        false => c,
    });
    shown.collect()
}

/// Milliseconds since the Unix epoch as RFC 3339 in UTC.
pub(crate) fn timestamp(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, date) = civil(day);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: counted in eras
/// of 400 years from a March, so that the day a leap year adds is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(millis), want);
        }
    }

    #[test]
    fn an_application_cannot_steer_the_terminal() {
        let line = |instance: &str, stream: &str| LogLine {
            instance_id: instance.into(),
            timestamp: 0,
            stream: stream.into(),
            text: "a\u{1b}[2Jb\tc".into(),
        };
        let id = "0123456789abcdef0123456789abcdef";
        for (line, whose) in [
            (line(id, "instance/x"), "01234567"),
            (line("", "events"), "events"),
            (line("", &format!("deployment/{id}")), "deployment/01234567"),
            (line("", "x\u{1b}"), "x\u{fffd}"),
        ] {
            let want = format!("1970-01-01T00:00:00.000Z {whose} | a\u{fffd}[2Jb\tc");
            assert_eq!(text(&line), want);
        }
    }

    #[test]
    fn times_are_typed_as_ages_or_dates() {
        let now = 1_800_000_000_000;
        for (typed, want) in [
            ("30s", now - 30_000),
            ("5m", now - 300_000),
            ("2h", now - 7_200_000),
            ("1d", now - 86_400_000),
            ("9999999w", 0),
            ("1970-01-02", 86_400_000),
            ("1970-01-01T00:01", 60_000),
            ("1970-01-01T00:01:00.5Z", 60_500),
            ("1970-01-01T01:01:00+01:00", 60_000),
        ] {
            assert_eq!(time_at(typed, now).unwrap(), want, "{typed}");
        }
        for typed in [
            "",
            "m",
            "5",
            "-5m",
            "5x",
            "é",
            "99999999999999999999m",
            "1969-01-01",
            "2026-13-01",
        ] {
            assert!(time_at(typed, now).is_err(), "{typed}");
        }
    }
}

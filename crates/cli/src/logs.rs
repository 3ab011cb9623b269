//! `ekiden logs`: what the instances of a service wrote.

use std::time::Duration;

use clap::Args;
use ekiden_aws::native::{GetLogsRequest, GetLogsResponse, LogLine};

use crate::{
    api::{Api, RETRIES_MAX, RETRY_WAIT, may_pass},
    build_log,
    failure::Outcome,
    output::{OutputFormat, print_line},
};

/// How often new lines are asked for.
const POLL: Duration = Duration::from_millis(500);

/// Lines of one page while following.
const PAGE_LINES: u32 = 1000;

/// Which lines.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// The service
    pub name: String,

    /// The log of a build instead, all of it: of this operation, or of the newest that built
    #[arg(long, value_name = "OPERATION", num_args = 0..=1, conflicts_with_all = ["instance", "lines"])]
    pub build: Option<Option<String>>,

    /// Go on with lines as they come
    #[arg(short, long)]
    pub follow: bool,

    /// Only lines of this instance
    #[arg(long, value_name = "ID")]
    pub instance: Option<String>,

    /// How many of the newest lines
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines: u32,
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
        let mut request = GetLogsRequest {
            service_arn: api.arn(&self.name).await?,
            instance_id: self.instance.clone(),
            after: None,
            max_lines: Some(self.lines),
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
            if !self.follow {
                return Ok(());
            }
            if page.lines.is_empty() {
                tokio::time::sleep(POLL).await;
            }
            request.after = Some(page.next);
            request.max_lines = Some(PAGE_LINES);
        }
    }
}

/// `2026-11-23T16:47:15.042Z 1a2b3c4d stdout | text`; what an application wrote cannot steer the
/// terminal.
fn text(line: &LogLine) -> String {
    let id = line.instance_id.get(..8).unwrap_or(&line.instance_id);
    format!(
        "{} {id} {:<6} | {}",
        timestamp(line.timestamp),
        line.stream,
        printable(&line.text)
    )
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
        let line = LogLine {
            instance_id: "0123456789abcdef0123456789abcdef".into(),
            timestamp: 0,
            stream: "stdout".into(),
            text: "a\u{1b}[2Jb\tc".into(),
        };
        assert_eq!(
            text(&line),
            "1970-01-01T00:00:00.000Z 01234567 stdout | a\u{fffd}[2Jb\tc"
        );
    }
}

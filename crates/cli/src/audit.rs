//! `ekiden audit`: who did what, when, from where, and with which result.

use clap::Args;
use ekiden_aws::native::{AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse};
use ekiden_aws::{epoch_seconds::EpochSeconds, sigv4::date_time};

use crate::{
    api::Api,
    failure::Outcome,
    output::{OutputFormat, print, table, unix_now},
};

/// Events of one answer.
const PAGE_EVENTS: u32 = 1000;

/// `ekiden audit`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  ekiden audit\n  \
    ekiden audit --service website --since 24h\n  \
    ekiden audit --result AccessDeniedException --output json")]
pub struct Audit {
    /// Only what was done so long ago at most, such as `90s`, `30m`, `24h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    since: Option<u64>,
    /// Only what was done to this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only what was done with this access key, or a session of it
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only what ended so: `Success`, or an error's name
    #[arg(long, value_name = "RESULT")]
    result: Option<String>,
    /// How many to print at most
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    lines: usize,
}

impl Audit {
    /// Prints the newest events.
    ///
    /// # Errors
    /// What the endpoint answered, or that it cannot be reached.
    pub async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        let mut request = ListAuditEventsRequest {
            start_time: self.since.map(|seconds| unix_now().saturating_sub(seconds)),
            service_name: self.service,
            access_key_id: self.key,
            result: self.result,
            ..Default::default()
        };
        let mut events: Vec<AuditEvent> = Vec::new();
        while events.len() < self.lines {
            let left = u32::try_from(self.lines - events.len()).unwrap_or(u32::MAX);
            request.max_results = Some(left.min(PAGE_EVENTS));
            let page: ListAuditEventsResponse = api.native("ListAuditEvents", &request).await?;
            events.extend(page.events);
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                break;
            }
        }
        Ok(print(format, &events, |events| text(events))?)
    }
}

fn text(events: &[AuditEvent]) -> String {
    let rows = events.iter().map(|event| {
        let left_out = match event.left_out {
            0 => String::new(),
            count => format!(" ({count} like it before not written)"),
        };
        vec![
            date_time::format_extended(EpochSeconds(event.timestamp / 1000)).unwrap_or_default(),
            event.action.clone(),
            event.access_key_id.clone().unwrap_or_default(),
            event.source.clone(),
            format!("{}{left_out}", event.result),
            event.resource.clone().unwrap_or_default(),
        ]
    });
    table(
        &["TIME", "ACTION", "KEY", "FROM", "RESULT", "RESOURCE"],
        rows,
    )
}

/// Seconds of a time such as `30m`.
fn duration(text: &str) -> Result<u64, String> {
    let unit = |suffix, seconds: u64| {
        let number: u64 = text.strip_suffix(suffix)?.parse().ok()?;
        number.checked_mul(seconds)
    };
    unit('s', 1)
        .or_else(|| unit('m', 60))
        .or_else(|| unit('h', 3600))
        .or_else(|| unit('d', 86_400))
        .ok_or_else(|| "expected a number and `s`, `m`, `h` or `d`, such as `24h`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(
            ["90s", "30m", "24h", "7d"].map(|text| duration(text).ok()),
            [Some(90), Some(1800), Some(86_400), Some(604_800)]
        );
        for text in ["", "s", "7", "-1h", "1w", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn events_are_a_table() {
        let event = AuditEvent {
            timestamp: 1_440_938_160_999,
            action: "apprunner:PauseService".to_owned(),
            access_key_id: Some("EKIAONE".to_owned()),
            source: "10.0.0.1".to_owned(),
            resource: Some("arn:x".to_owned()),
            result: "AccessDeniedException".to_owned(),
            left_out: 3,
            ..Default::default()
        };
        assert_eq!(
            text(&[event]).lines().nth(1),
            Some(
                "2015-08-30T12:36:00Z  apprunner:PauseService  EKIAONE  10.0.0.1  \
                 AccessDeniedException (3 like it before not written)  arn:x"
            )
        );
    }
}

//! The log of a build: what Ekiden and the commands of the build said.

use std::time::Duration;

use console::style;
use ekiden_aws::{
    client::ClientError,
    native::{BuildLogLine, GetBuildLogRequest, GetBuildLogResponse},
};

use crate::{
    api::{Api, RETRIES_MAX, RETRY_WAIT, may_pass},
    failure::{Failure, Outcome},
    logs::{printable, timestamp},
    operation,
    output::{OutputFormat, print_line},
    progress::Progress,
};

/// How long an answer waits for a line, in seconds: how late the end of an operation is noticed.
const WAIT_SECONDS: u32 = 2;

/// How long to wait for a log that has not begun.
const POLL: Duration = Duration::from_millis(250);

/// Prints a build's log on standard output; with `--output json` one document per line.
///
/// # Errors
/// There is no such service or log, or the endpoint cannot be reached.
pub async fn print(
    api: &Api,
    service: &str,
    operation: Option<String>,
    follow: bool,
    format: OutputFormat,
) -> Outcome {
    let mut request = GetBuildLogRequest {
        service_arn: api.arn(service).await?,
        operation_id: operation,
        from: None,
        wait_seconds: follow.then_some(WAIT_SECONDS),
    };
    let mut failures = 0;
    loop {
        let page: GetBuildLogResponse = match api.native("GetBuildLog", &request).await {
            Ok(page) => page,
            Err(failure) if follow && failures < RETRIES_MAX && may_pass(&failure) => {
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
        if page.over || (!follow && page.lines.is_empty()) {
            return Ok(());
        }
        // One build, even if another one begins meanwhile.
        request.operation_id = Some(page.operation_id);
        request.from = Some(page.next);
    }
}

/// Says a build's log on standard error as it grows, until it or its operation is over. Whether there
/// was anything to say.
///
/// # Errors
/// The endpoint cannot be reached.
pub async fn follow(
    api: &Api,
    arn: &str,
    id: &str,
    progress: &mut Progress,
) -> Result<bool, Failure> {
    let mut request = GetBuildLogRequest {
        service_arn: arn.to_owned(),
        operation_id: Some(id.to_owned()),
        from: None,
        wait_seconds: Some(WAIT_SECONDS),
    };
    let (mut failures, mut said, mut is_over) = (0, false, false);
    loop {
        let answered: Result<GetBuildLogResponse, Failure> =
            api.native("GetBuildLog", &request).await;
        let grew = match answered {
            Ok(page) => {
                failures = 0;
                for line in &page.lines {
                    progress.line(&streamed(line));
                }
                said |= !page.lines.is_empty();
                request.from = Some(page.next);
                if page.over {
                    return Ok(said);
                }
                !page.lines.is_empty()
            }
            Err(failure) if failures < RETRIES_MAX && may_pass(&failure) => {
                failures += 1;
                progress.say(&format!("waiting for the API: {}", failure.sentence()));
                tokio::time::sleep(RETRY_WAIT).await;
                continue;
            }
            // There is no log yet, or there will be none: the operation knows.
            Err(failure) if is_refused(&failure) => {
                tokio::time::sleep(POLL).await;
                false
            }
            Err(failure) => return Err(failure),
        };
        // Once more after its end, for lines that came meanwhile.
        if is_over && !grew {
            return Ok(said);
        }
        is_over = is_over || operation::look(api, arn, id, progress).await?;
    }
}

fn is_refused(failure: &Failure) -> bool {
    matches!(
        failure.error.downcast_ref::<ClientError>(),
        Some(ClientError::Api { status, .. }) if status.is_client_error()
    )
}

/// `==> ` before what Ekiden says, and `  | ` before what a command does, with colours or without.
fn streamed(line: &BuildLogLine) -> String {
    let text = shown(&line.text);
    match line.by_ekiden {
        true => style(format!("==> {text}")).for_stderr().bold().to_string(),
        false => format!("  | {text}"),
    }
}

/// As lines of instances are printed, with who says it in the place of the stream.
fn text(line: &BuildLogLine) -> String {
    let by = if line.by_ekiden { "ekiden" } else { "build" };
    let (at, text) = (timestamp(line.timestamp), shown(&line.text));
    format!("{at} {by:<6} | {text}")
}

/// What a terminal would show in the end of a line: what was written over and colours are left out.
fn shown(text: &str) -> String {
    let last = text.trim_end_matches('\r').rsplit('\r').next();
    printable(&without_escapes(last.unwrap_or_default()))
}

/// Without the control sequences of ECMA-48, 5.4: `ESC [`, parameters, and a final byte from `@` to `~`.
fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain += before;
        let end = after.find(|c| ('@'..='~').contains(&c));
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(by_ekiden: bool, text: &str) -> BuildLogLine {
        BuildLogLine {
            timestamp: 0,
            by_ekiden,
            text: text.to_owned(),
        }
    }

    #[test]
    fn who_says_a_line_is_told_without_colour() {
        console::set_colors_enabled_stderr(false);
        assert_eq!(streamed(&line(true, "done")), "==> done");
        assert_eq!(streamed(&line(false, "done")), "  | done");
        assert_eq!(
            text(&line(false, "done")),
            "1970-01-01T00:00:00.000Z build  | done"
        );
    }

    #[test]
    fn a_command_cannot_steer_the_terminal() {
        for (text, want) in [
            ("\u{1b}[32mok\u{1b}[0m", "ok"),
            ("10 %\r100 %\r", "100 %"),
            ("a\u{1b}]0;title\u{7}", "a\u{fffd}]0;title\u{fffd}"),
            ("a\u{1b}[", "a"),
            ("", ""),
        ] {
            assert_eq!(shown(text), want);
        }
    }
}

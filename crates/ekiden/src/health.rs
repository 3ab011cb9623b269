//! How this Ekiden and this host are: `ekiden status` and `ekiden doctor`.

use std::time::{Duration, Instant};

use ekiden_agent::doctor::{self, Finding, Health};
use ekiden_aws::native::{GetStatusRequest, GetStatusResponse, Traffic};
use ekiden_cli::{
    api::Api,
    command::Context,
    failure::{Failure, Outcome},
    output::{self, age, table, unix_now},
    status::{RoleState, Status},
};
use serde::Serialize;

use crate::config::Config;

/// How often the status is looked at while waiting.
const POLL: Duration = Duration::from_millis(50);

/// What `ekiden status` says.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    status: Status,
    supervisor_runs: bool,
    /// Whether who asks has the key that control wants to see.
    api_asked: bool,
    /// What control says.
    api: Option<GetStatusResponse>,
    api_error: Option<String>,
}

/// One line of the doctor's report.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    state: &'static str,
    why: String,
    mend: String,
}

/// Shows whether everything serves; waits for that if `wait` says so.
///
/// # Errors
/// No server runs, or not everything serves.
pub fn status(config: &Config, context: &Context, wait: Option<Duration>) -> Outcome {
    let end = Instant::now() + wait.unwrap_or_default();
    loop {
        let report = report(config, context);
        match report {
            Ok(report) if report.serves() || Instant::now() >= end => return say(&report, context),
            Err(failure) if Instant::now() >= end => return Err(failure),
            _ => std::thread::sleep(POLL),
        }
    }
}

fn report(config: &Config, context: &Context) -> Result<Report, Failure> {
    let status = Status::read(&config.status_file())?.ok_or_else(|| {
        Failure::new(format!("no server runs on `{}`", config.run_dir.display()))
            .hint("start one with `sudo ekiden server`")
    })?;
    let with_key = context.local_api();
    let api_asked = with_key.is_ok();
    let api = with_key.and_then(|api| ask(&api));
    Ok(Report {
        supervisor_runs: status.supervisor_runs(),
        status,
        api_asked,
        api_error: api.as_ref().err().map(Failure::sentence),
        api: api.ok(),
    })
}

fn ask(api: &Api) -> Result<GetStatusResponse, Failure> {
    ekiden_cli::command::runtime()?.block_on(api.native("GetStatus", &GetStatusRequest {}))
}

impl Report {
    fn serves(&self) -> bool {
        let ready = self
            .status
            .roles
            .iter()
            .all(|role| role.state == RoleState::Ready);
        let current = |api: &GetStatusResponse| api.edge_current && api.engine_current;
        let current = self.api.as_ref().map_or(!self.api_asked, current);
        self.supervisor_runs && ready && current
    }
}

fn say(report: &Report, context: &Context) -> Outcome {
    output::print(context.format, report, text)?;
    if report.serves() {
        return Ok(());
    }
    Err(Failure::new("not everything serves")
        .hint("the log says why; roles are restarted by themselves"))
}

fn text(report: &Report) -> String {
    let (status, now) = (&report.status, unix_now());
    let supervisor = match report.supervisor_runs {
        true => format!(
            "running, pid {}, for {}",
            status.pid,
            age(now.saturating_sub(status.since))
        ),
        false => format!("dead (pid {}); the agent starts a new one", status.pid),
    };
    let rows = status.roles.iter().map(|role| {
        vec![
            role.role.clone(),
            role.state.name().to_owned(),
            role.pid
                .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            role.since
                .map_or_else(|| "-".to_owned(), |since| age(now.saturating_sub(since))),
            role.restarts.to_string(),
            role.last_end.clone().unwrap_or_default(),
        ]
    });
    format!(
        "{} {}: {supervisor}\napi: {}\n\n{}",
        status.name,
        status.version,
        api_text(report),
        table(
            &["ROLE", "STATE", "PID", "AGE", "RESTARTS", "LAST END"],
            rows
        )
    )
}

fn api_text(report: &Report) -> String {
    match &report.api {
        Some(api) => format!(
            "{} services, {} instances; the edge {}, the engine {}\n{}{}{}",
            api.services,
            api.instances,
            if api.edge_current {
                "has the newest routes"
            } else {
                "has old routes"
            },
            if api.engine_current {
                "answers"
            } else {
                "does not answer"
            },
            traffic_text(&api.traffic, unix_now()),
            refused_text(api),
            match api.certificate_warnings {
                0 => String::new(),
                count => format!(
                    "\ncertificates: {count} need attention; `ekiden certificate ls` says why"
                ),
            },
        ),
        None => report.api_error.clone().unwrap_or_default(),
    }
}

fn traffic_text(traffic: &Traffic, now: u64) -> String {
    let causes: Vec<_> = traffic
        .causes
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!(
        "requests: {} in {}, {} of them 5xx{}{}",
        traffic.requests,
        age(now.saturating_sub(traffic.since)),
        traffic.status_5xx,
        if causes.is_empty() { "" } else { "; " },
        causes.join(", ")
    )
}

/// What the API refused, if it did.
fn refused_text(api: &GetStatusResponse) -> String {
    match (api.authentication_failures, api.access_denied) {
        (0, 0) => String::new(),
        (failures, denied) => format!(
            "\nrefused by the api: {failures} failed authentications, {denied} without permission; \
             `ekiden audit` lists them"
        ),
    }
}

/// Says what this host has and lacks, and how to mend it.
///
/// # Errors
/// Something is missing without which nothing can run.
pub fn doctor(config: &Config, context: &Context) -> Outcome {
    let lines: Vec<_> = doctor::check(&config.data_dir)
        .into_iter()
        .map(Line::from)
        .collect();
    output::print(context.format, &lines, |lines| doctor_text(lines))?;
    match lines.iter().any(|line| line.state == "missing") {
        true => Err(Failure::new("this host lacks something that Ekiden needs")
            .hint("mend what is `missing` above")),
        false => Ok(()),
    }
}

fn doctor_text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        text += &format!("{:<8} {}: {}\n", line.state, line.what, line.why);
        if !line.mend.is_empty() {
            text += &format!("         {}\n", line.mend);
        }
    }
    text
}

impl From<Finding> for Line {
    fn from(finding: Finding) -> Self {
        let state = match finding.state {
            Health::Ok => "ok",
            Health::Warn => "warning",
            Health::Missing => "missing",
        };
        Self {
            what: finding.what,
            state,
            why: finding.why,
            mend: finding.mend,
        }
    }
}

//! What was asked of a service and how it went: `operations`, `operation`, `cancel`.

use clap::Args;
use ekiden_aws::{
    apprunner::shapes::{ListOperationsRequest, ListOperationsResponse, OperationSummary},
    native::{
        CancelOperationRequest, CancelOperationResponse, DescribeOperationRequest,
        DescribeOperationResponse, Operation,
    },
};
use serde::Serialize;

use crate::{
    api::Api,
    failure::Outcome,
    operation,
    output::{OutputFormat, age, print, table, unix_now},
    progress::Progress,
};

/// Operations of one page: the most App Runner gives.
const PAGE_OPERATIONS: u32 = 20;

/// Which operations to list.
#[derive(Debug, Clone, Args)]
pub struct Operations {
    /// The service
    pub name: String,

    /// How many at most, newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = PAGE_OPERATIONS)]
    pub count: u32,
}

/// What `operations` shows of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: String,
    r#type: String,
    status: String,
    started_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<u64>,
}

impl Operations {
    /// Lists a service's operations, newest first.
    ///
    /// # Errors
    /// The endpoint refuses or cannot be reached, or there is no such service.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        let arn = api.arn(&self.name).await?;
        let mut rows: Vec<Row> = Vec::new();
        let mut token = None;
        while rows.len() < self.count as usize {
            let left = self.count - rows.len() as u32;
            let request = ListOperationsRequest {
                service_arn: Some(arn.clone()),
                max_results: Some(left.min(PAGE_OPERATIONS).cast_signed()),
                next_token: token,
            };
            let page: ListOperationsResponse = api.call("ListOperations", &request).await?;
            rows.extend(page.operation_summary_list.into_iter().flatten().map(row));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(print(format, &rows, |rows| list_text(rows))?)
    }
}

fn row(summary: OperationSummary) -> Row {
    Row {
        id: summary.id.unwrap_or_default(),
        r#type: summary.r#type.unwrap_or_default(),
        status: summary.status.unwrap_or_default(),
        started_at: summary.started_at.map_or(0, |at| at.0),
        ended_at: summary.ended_at.map(|at| at.0),
    }
}

fn list_text(rows: &[Row]) -> String {
    let now = unix_now();
    let rows = rows.iter().map(|row| {
        let took = row.ended_at.map_or_else(
            || "-".to_owned(),
            |end| age(end.saturating_sub(row.started_at)),
        );
        vec![
            row.id.clone(),
            row.r#type.clone(),
            row.status.clone(),
            age(now.saturating_sub(row.started_at)),
            took,
        ]
    });
    table(&["OPERATION", "TYPE", "STATUS", "AGE", "TOOK"], rows)
}

/// Shows one operation whole: the one of that id, or the newest.
///
/// # Errors
/// As [`Operations::run`], and there is no such operation.
pub async fn show(api: &Api, name: &str, id: Option<String>, format: OutputFormat) -> Outcome {
    let request = DescribeOperationRequest {
        service_arn: api.arn(name).await?,
        operation_id: id,
    };
    let response: DescribeOperationResponse = api.native("DescribeOperation", &request).await?;
    Ok(print(format, &response.operation, show_text)?)
}

fn show_text(operation: &Operation) -> String {
    let mut lines = vec![
        ("operation", operation.id.clone()),
        ("type", operation.r#type.clone()),
        ("status", operation.status.clone()),
    ];
    lines.extend(operation.revision.map(|n| ("revision", n.to_string())));
    lines.extend(rows(operation));
    let mut text: String = lines
        .into_iter()
        .map(|(key, value)| format!("{key:<10} {value}\n"))
        .collect();
    if let Some(failure) = &operation.failure
        && !failure.log_lines.is_empty()
    {
        text += "the last lines of the instance:\n";
        text.extend(failure.log_lines.iter().map(|line| format!("  | {line}\n")));
    }
    text
}

/// Where an operation is, how long each of its steps took, and why it failed: a line each.
pub fn rows(operation: &Operation) -> Vec<(&'static str, String)> {
    let mut rows: Vec<_> = steps(operation)
        .into_iter()
        .map(|step| ("step", step))
        .collect();
    let more = |key, text: &Option<String>| text.clone().map(|text| (key, text));
    rows.extend(more("waits for", &operation.waiting_for));
    if let Some(failure) = &operation.failure {
        let reason = format!("{} (at \"{}\")", failure.reason, failure.step);
        rows.push(("reason", reason));
        rows.extend(more("hint", &failure.hint));
    }
    rows
}

/// Each step with the time it took; the last one goes on, or ended with the operation.
fn steps(operation: &Operation) -> Vec<String> {
    let ends = operation.steps.iter().skip(1).map(|next| next.timestamp);
    let last = operation.ended_at.map(|at| at * 1000);
    operation
        .steps
        .iter()
        .zip(ends.map(Some).chain([last]))
        .map(|(step, end)| match end {
            // The end is in whole seconds, the step is not.
            Some(end) => {
                let millis = end.saturating_sub(step.timestamp);
                format!("{:<16} {}", step.step, duration(millis))
            }
            None => step.step.clone(),
        })
        .collect()
}

fn duration(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1000..=119_999 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => age(millis / 1000),
    }
}

/// Cancels the operation on its way, and waits until it is undone.
///
/// # Errors
/// As [`Operations::run`], and it cannot be cancelled.
pub async fn cancel(api: &Api, name: &str, format: OutputFormat) -> Outcome {
    let arn = api.arn(name).await?;
    let request = CancelOperationRequest {
        service_arn: arn.clone(),
        operation_id: None,
    };
    let response: CancelOperationResponse = api.native("CancelOperation", &request).await?;
    let id = response.operation.id;
    let over = operation::wait_until_over(api, &arn, &id, &mut Progress::new()).await?;
    Ok(print(format, &over, |over| {
        format!("cancelled {} of {name}: {}", over.r#type, over.status)
    })?)
}

#[cfg(test)]
mod tests {
    use ekiden_aws::native::{Failure, OperationStep};

    use super::*;

    #[test]
    fn an_operation_is_shown_with_its_steps_and_its_reason() {
        let step = |step: &str, timestamp| OperationStep {
            step: step.to_owned(),
            timestamp,
        };
        let operation = Operation {
            id: "0f".into(),
            r#type: "UPDATE_SERVICE".into(),
            status: "ROLLBACK_SUCCEEDED".into(),
            revision: Some(2),
            ended_at: Some(15),
            steps: vec![
                step("accepted", 10_000),
                step("prepare image", 10_005),
                step("start instances", 12_505),
                step("undo", 14_505),
            ],
            failure: Some(Failure {
                step: "start instances".into(),
                reason: "the application exited with code 1".into(),
                hint: Some("see the log".into()),
                log_lines: vec!["no module named app".into()],
            }),
            ..Operation::default()
        };
        assert_eq!(
            show_text(&operation),
            "operation  0f\ntype       UPDATE_SERVICE\nstatus     ROLLBACK_SUCCEEDED\n\
             revision   2\n\
             step       accepted         5 ms\nstep       prepare image    2.5 s\n\
             step       start instances  2.0 s\nstep       undo             495 ms\n\
             reason     the application exited with code 1 (at \"start instances\")\n\
             hint       see the log\n\
             the last lines of the instance:\n  | no module named app\n"
        );
    }

    #[test]
    fn the_list_says_how_long_each_took() {
        let row = |ended_at| Row {
            id: "0f".into(),
            r#type: "CREATE_SERVICE".into(),
            status: "SUCCEEDED".into(),
            started_at: unix_now(),
            ended_at,
        };
        let text = list_text(&[row(None), row(Some(unix_now() + 7))]);
        assert!(text.contains("SUCCEEDED  0s   -"), "{text}");
        assert!(text.contains("SUCCEEDED  0s   7s"), "{text}");
    }
}

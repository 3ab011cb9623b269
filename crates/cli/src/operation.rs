//! Waiting for an operation, and saying how it goes.

use std::time::Duration;

use ekiden_aws::native::{
    DescribeOperationRequest, DescribeOperationResponse, Failure as OperationFailure, Operation,
};

use crate::{
    api::{Api, RETRIES_MAX, RETRY_WAIT, may_pass},
    failure::Failure,
    progress::Progress,
};

/// How often an operation is looked at.
const POLL: Duration = Duration::from_millis(250);

/// Waits until an operation has succeeded, and says each of its steps on standard error.
///
/// # Errors
/// The endpoint cannot be reached, or the operation failed: then with its reason and the last log
/// lines.
pub async fn wait(
    api: &Api,
    arn: &str,
    id: &str,
    progress: &mut Progress,
) -> Result<Operation, Failure> {
    let operation = wait_until_over(api, arn, id, progress).await?;
    match operation.status.as_str() {
        "SUCCEEDED" => Ok(operation),
        _ => Err(failed(&operation)),
    }
}

/// Waits until an operation is over, however it ends, and says each of its steps on standard error.
///
/// # Errors
/// The endpoint cannot be reached.
pub async fn wait_until_over(
    api: &Api,
    arn: &str,
    id: &str,
    progress: &mut Progress,
) -> Result<Operation, Failure> {
    let request = DescribeOperationRequest {
        service_arn: arn.to_owned(),
        operation_id: Some(id.to_owned()),
    };
    let mut failures = 0;
    loop {
        match api
            .native::<_, DescribeOperationResponse>("DescribeOperation", &request)
            .await
        {
            Ok(DescribeOperationResponse { operation }) => {
                failures = 0;
                match operation.status.as_str() {
                    "PENDING" | "IN_PROGRESS" | "ROLLBACK_IN_PROGRESS" => {
                        progress.say(&describe(&operation));
                    }
                    _ => return Ok(operation),
                }
            }
            Err(failure) if failures < RETRIES_MAX && may_pass(&failure) => {
                failures += 1;
                progress.say(&format!("waiting for the API: {}", failure.sentence()));
                tokio::time::sleep(RETRY_WAIT).await;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What an operation does now, in a line.
fn describe(operation: &Operation) -> String {
    let step = match operation.step.as_str() {
        "" => "waiting to begin",
        step => step,
    };
    match &operation.waiting_for {
        Some(waiting_for) => format!("{step}: {waiting_for}"),
        None => step.to_owned(),
    }
}

/// Why an operation failed, with the lines its instance wrote last.
fn failed(operation: &Operation) -> Failure {
    let what = operation.r#type.to_lowercase().replace('_', " ");
    let Some(OperationFailure {
        step,
        reason,
        hint,
        log_lines,
    }) = &operation.failure
    else {
        return Failure::new(format!("{what} ended as {}", operation.status));
    };
    let mut sentence = format!("{what} failed at \"{step}\": {reason}");
    if operation.status.starts_with("ROLLBACK_") {
        sentence += "\nthe revision before it goes on serving";
    }
    if !log_lines.is_empty() {
        sentence += "\nthe last lines of the instance:";
        for line in log_lines {
            sentence += &format!("\n  | {line}");
        }
    }
    let failure = Failure::new(sentence);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_operation_is_told_whole() {
        let operation = Operation {
            r#type: "UPDATE_SERVICE".into(),
            status: "ROLLBACK_SUCCEEDED".into(),
            failure: Some(OperationFailure {
                step: "start".into(),
                reason: "exited with code 1 after 40 ms".into(),
                hint: Some("look at the start command".into()),
                log_lines: vec!["no module named app".into()],
            }),
            ..Operation::default()
        };
        let failure = failed(&operation);
        assert_eq!(
            failure.sentence(),
            "update service failed at \"start\": exited with code 1 after 40 ms\n\
             the revision before it goes on serving\nthe last lines of the instance:\n  \
             | no module named app"
        );
        assert_eq!(failure.hint.as_deref(), Some("look at the start command"));
    }

    #[test]
    fn a_running_operation_says_what_it_waits_for() {
        let mut operation = Operation {
            step: "start".into(),
            ..Operation::default()
        };
        assert_eq!(describe(&operation), "start");
        operation.waiting_for = Some("1 of 2 instances".into());
        assert_eq!(describe(&operation), "start: 1 of 2 instances");
    }
}

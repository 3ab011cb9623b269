//! Waiting for an operation, and saying how it goes.

use std::time::Duration;

use ekiden_aws::native::{
    DescribeOperationRequest, DescribeOperationResponse, Failure as OperationFailure, Operation,
};

use crate::{
    api::{Api, RETRIES_MAX, RETRY_WAIT, may_pass},
    build_log,
    failure::Failure,
    progress::Progress,
};

/// How often an operation is looked at.
const POLL: Duration = Duration::from_millis(250);

/// The step in which images are fetched or built.
const STEP_OF_BUILDS: &str = "prepare image";

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

/// As [`wait`], for one that may build: what the build says is said on standard error, too.
///
/// # Errors
/// As [`wait`].
pub async fn wait_with_build(
    api: &Api,
    arn: &str,
    id: &str,
    progress: &mut Progress,
) -> Result<Operation, Failure> {
    let said = build_log::follow(api, arn, id, progress).await?;
    let mut operation = wait_until_over(api, arn, id, progress).await?;
    if operation.status == "SUCCEEDED" {
        return Ok(operation);
    }
    if let Some(failure) = &mut operation.failure
        && failure.step == STEP_OF_BUILDS
        && said
    {
        // They have just been read.
        failure.log_lines.clear();
    }
    Err(failed(&operation))
}

/// Looks once how an operation goes, and says it; whether it is over. Not to be reached is not over.
///
/// # Errors
/// The endpoint refuses.
pub async fn look(
    api: &Api,
    arn: &str,
    id: &str,
    progress: &mut Progress,
) -> Result<bool, Failure> {
    let request = DescribeOperationRequest {
        service_arn: arn.to_owned(),
        operation_id: Some(id.to_owned()),
    };
    let answered: Result<DescribeOperationResponse, Failure> =
        api.native("DescribeOperation", &request).await;
    match answered {
        Ok(DescribeOperationResponse { operation }) if is_on_its_way(&operation) => {
            progress.say(&describe(&operation));
            Ok(false)
        }
        Ok(_) => Ok(true),
        Err(failure) if may_pass(&failure) => Ok(false),
        Err(failure) => Err(failure),
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
                match is_on_its_way(&operation) {
                    true => progress.say(&describe(&operation)),
                    false => return Ok(operation),
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

fn is_on_its_way(operation: &Operation) -> bool {
    let on_its_way = ["PENDING", "IN_PROGRESS", "ROLLBACK_IN_PROGRESS"];
    on_its_way.contains(&operation.status.as_str())
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
        sentence += match step.as_str() {
            STEP_OF_BUILDS => "\nthe last lines of the build:",
            _ => "\nthe last lines of the instance:",
        };
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

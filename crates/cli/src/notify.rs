//! `ekiden notify`: who is told what happens.
//!
//! Each is a webhook, and a rule of EventBridge whose only target it is; both have its name.

use clap::{Subcommand, ValueEnum};
use ekiden_aws::{
    events::shapes::{
        DeleteRuleRequest, PutRuleRequest, PutRuleResponse, PutTargetsRequest, PutTargetsResponse,
        RemoveTargetsRequest, RemoveTargetsResponse, Target,
    },
    native::{
        DeleteWebhookTargetRequest, DeleteWebhookTargetResponse, ListWebhookTargetsRequest,
        ListWebhookTargetsResponse, PutWebhookTargetRequest, PutWebhookTargetResponse,
        TestWebhookTargetRequest, TestWebhookTargetResponse, WebhookTarget,
    },
    protocol::EVENTS,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, print_line, table, unix_now},
};

/// What rules made here are called before the webhook's name.
const RULE_PREFIX: &str = "notify-";

/// The id of the only target.
const TARGET: &str = "webhook";

/// Who is told what happens. Admins only.
#[derive(Debug, Clone, Subcommand)]
pub enum Notify {
    /// Post what happens to an address, signed; the secret is printed this once
    #[command(after_help = "Examples:\n  \
        ekiden notify add ops --url https://ops.example.com/ekiden\n  \
        ekiden notify add web --url https://ops.example.com/web --service website --only failures")]
    Add {
        /// What to call it
        name: String,
        /// Where to
        #[arg(long)]
        url: String,
        /// Only of this service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Which events
        #[arg(long, default_value = "all")]
        only: Only,
        /// Sign with a new secret, if there is one already
        #[arg(long)]
        new_secret: bool,
    },
    /// List them, and whether events arrive
    Ls,
    /// Post nothing there any more
    Rm {
        /// Which
        name: String,
    },
    /// Post an event once, and say whether it was taken
    Test {
        /// Which
        name: String,
    },
}

/// Which events are posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// Operations and statuses that failed, and alerts
    Failures,
    /// All of them
    All,
}

/// What was made. No `Debug`: the secret is in it.
#[derive(Serialize)]
struct Added {
    name: String,
    arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Notify {
    /// Does it.
    ///
    /// # Errors
    /// What the endpoint answered, or that it cannot be reached.
    pub async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Add {
                name,
                url,
                service,
                only,
                new_secret,
            } => {
                let pattern = pattern(service.as_deref(), only);
                let request = PutWebhookTargetRequest {
                    name: name.clone(),
                    url,
                    new_secret,
                };
                let added = add(api, name, request, &pattern).await?;
                print(format, &added, added_text)?;
                if format == OutputFormat::Text && added.secret.is_some() {
                    eprintln!(
                        "requests are signed with the secret (docs/events.md); it is not shown again"
                    );
                }
                Ok(())
            }
            Self::Ls => {
                let request = ListWebhookTargetsRequest {};
                let listed: ListWebhookTargetsResponse =
                    api.native("ListWebhookTargets", &request).await?;
                let now = unix_now();
                Ok(print(format, &listed, |listed| {
                    list_text(&listed.targets, now)
                })?)
            }
            Self::Rm { name } => {
                remove(api, &name).await?;
                Ok(print_line(&format!(
                    "nothing is posted to {name} any more"
                ))?)
            }
            Self::Test { name } => {
                let request = TestWebhookTargetRequest { name: name.clone() };
                let tested: TestWebhookTargetResponse =
                    api.native("TestWebhookTarget", &request).await?;
                match tested.problem {
                    None => Ok(print_line(&format!("{name} took it"))?),
                    Some(problem) => Err(Failure::new(format!(
                        "an event could not be posted to {name}: {problem}"
                    ))),
                }
            }
        }
    }
}

async fn add(
    api: &Api,
    name: String,
    webhook: PutWebhookTargetRequest,
    pattern: &Value,
) -> Result<Added, Failure> {
    let rule = format!("{RULE_PREFIX}{name}");
    let put: PutWebhookTargetResponse = api.native("PutWebhookTarget", &webhook).await?;
    let request = PutRuleRequest {
        name: Some(rule.clone()),
        event_pattern: Some(pattern.to_string()),
        description: Some(format!("made by `ekiden notify add {name}`")),
        ..Default::default()
    };
    let _: PutRuleResponse = api.of(&EVENTS, "PutRule", &request).await?;
    let request = PutTargetsRequest {
        rule: Some(rule),
        targets: Some(vec![Target {
            id: Some(TARGET.to_owned()),
            arn: Some(put.arn.clone()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let targets: PutTargetsResponse = api.of(&EVENTS, "PutTargets", &request).await?;
    let failed = targets.failed_entries.unwrap_or_default();
    if let Some(why) = failed.into_iter().find_map(|entry| entry.error_message) {
        return Err(Failure::new(why));
    }
    Ok(Added {
        name,
        arn: put.arn,
        secret: put.secret,
    })
}

async fn remove(api: &Api, name: &str) -> Outcome {
    let rule = format!("{RULE_PREFIX}{name}");
    let request = RemoveTargetsRequest {
        rule: Some(rule.clone()),
        ids: Some(vec![TARGET.to_owned()]),
        ..Default::default()
    };
    // A rule that is not there needs nothing: the webhook may be of another's making.
    let removed: Result<RemoveTargetsResponse, Failure> =
        api.of(&EVENTS, "RemoveTargets", &request).await;
    if removed.is_ok() {
        let request = DeleteRuleRequest {
            name: Some(rule),
            ..Default::default()
        };
        let _: Value = api.of(&EVENTS, "DeleteRule", &request).await?;
    }
    let request = DeleteWebhookTargetRequest {
        name: name.to_owned(),
    };
    let _: DeleteWebhookTargetResponse = api.native("DeleteWebhookTarget", &request).await?;
    Ok(())
}

/// What an event must be.
fn pattern(service: Option<&str>, only: Only) -> Value {
    let mut pattern = json!({"source": ["aws.apprunner", "ekiden"]});
    if let Some(service) = service {
        pattern["detail"] = json!({"serviceName": [service]});
    }
    match only {
        Only::All => {}
        Only::Failures => {
            pattern["$or"] = json!([
                {"detail": {"operationStatus": [{"suffix": "Failed"}]}},
                {"detail": {"currentServiceStatus": [{"suffix": "_FAILED"}]}},
                {"detail": {"domainStatus": [{"suffix": "_FAILED"}]}},
                {"detail-type": ["Ekiden Alert"]},
            ]);
        }
    }
    pattern
}

fn added_text(added: &Added) -> String {
    let mut text = format!("name    {}\narn     {}", added.name, added.arn);
    if let Some(secret) = &added.secret {
        text.push_str(&format!("\nsecret  {secret}"));
    }
    text
}

fn list_text(targets: &[WebhookTarget], now: u64) -> String {
    let header = [
        "NAME",
        "TO",
        "AGE",
        "WAITING",
        "DELIVERED",
        "LOST",
        "PROBLEM",
    ];
    let row = |target: &WebhookTarget| {
        vec![
            target.name.clone(),
            target.endpoint.clone(),
            age(now.saturating_sub(target.created_at)),
            target.waiting.to_string(),
            target.delivered.to_string(),
            target.lost.to_string(),
            target.problem.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    table(&header, targets.iter().map(row))
}

#[cfg(test)]
mod tests {
    use ekiden_aws::native;

    use super::*;

    #[test]
    fn a_pattern_is_as_narrow_as_asked() {
        assert_eq!(
            pattern(None, Only::All),
            json!({"source": ["aws.apprunner", "ekiden"]})
        );
        let narrow = pattern(Some("web"), Only::Failures);
        assert_eq!(narrow["detail"]["serviceName"][0], "web");
        assert_eq!(narrow["$or"].as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn a_list_says_what_goes_wrong() {
        let target = native::WebhookTarget {
            name: "ops".to_owned(),
            endpoint: "https://a".to_owned(),
            created_at: 10,
            waiting: 3,
            problem: Some("why".to_owned()),
            ..Default::default()
        };
        let text = list_text(&[target], 20);
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("ops") && row.ends_with("why"), "{row}");
    }
}

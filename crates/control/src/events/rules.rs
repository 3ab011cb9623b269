//! Rules that were read: what they are about, and where their events go.

use std::time::Duration;

use ekiden_aws::events::shapes::Target as WireTarget;
use ekiden_model::{event_pattern::EventPattern, time::Timestamp};
use ekiden_store::events::{DeliveryFacts, NewDelivery, StoredRule};
use serde_json::Value;

use super::{
    envelope::{stable_id, timestamp},
    input::{Input, OfRule},
};
use crate::clock;

/// How long an event is sent again, when its target does not say: EventBridge's.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often, when its target does not say: EventBridge's.
const ATTEMPTS_MAX: u32 = 186;

/// What the names of log groups that events may go to begin with: EventBridge's.
pub(crate) const LOG_GROUP_PREFIX: &str = "/aws/events/";

/// A rule that can be gone by.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) stored: StoredRule,
    arn: String,
    pattern: EventPattern,
    targets: Vec<Target>,
}

#[derive(Debug, Clone)]
struct Target {
    id: String,
    arn: String,
    input: Input,
    age_max: Duration,
    attempts_max: u32,
}

impl Rule {
    /// # Errors
    /// It was stored by something that knew more: what is not understood, as a sentence.
    pub(super) fn read(stored: StoredRule, account: &str) -> Result<Self, String> {
        let pattern = EventPattern::parse(&stored.rule.pattern);
        let targets = stored.targets.iter().map(|target| {
            let wire: WireTarget =
                serde_json::from_str(&target.record).map_err(|error| error.to_string())?;
            let policy = wire.retry_policy.clone().unwrap_or_default();
            let seconds = policy.maximum_event_age_in_seconds;
            let retries = policy.maximum_retry_attempts;
            Ok(Target {
                id: target.id.clone(),
                arn: target.arn.clone(),
                input: Input::of(&wire).map_err(|error| error.to_string())?,
                age_max: seconds.map_or(AGE_MAX, |seconds| {
                    Duration::from_secs(u64::from(seconds.unsigned_abs()))
                }),
                attempts_max: retries.map_or(ATTEMPTS_MAX, |retries| retries.unsigned_abs() + 1),
            })
        });
        Ok(Self {
            arn: rule_arn(&stored.region, account, &stored.rule.name),
            pattern: pattern.map_err(|error| error.to_string())?,
            targets: targets.collect::<Result<_, String>>()?,
            stored,
        })
    }

    pub(super) fn region(&self) -> &str {
        &self.stored.region
    }

    /// Its ARN.
    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// Whether an event is for its targets.
    pub(super) fn is_for(&self, event: &Value) -> bool {
        self.stored.rule.state != "DISABLED" && self.pattern.matches(event)
    }

    /// What its targets are sent.
    pub(super) fn deliveries<'a>(
        &'a self,
        lane: &'a str,
        at: Timestamp,
        event: &'a Value,
    ) -> impl Iterator<Item = NewDelivery> + 'a {
        let now = clock::now();
        self.targets.iter().map(move |target| {
            let event_id = event["id"].as_str().unwrap_or_default();
            NewDelivery {
                destination: target.arn.clone(),
                lane: lane.to_owned(),
                facts: DeliveryFacts {
                    id: stable_id(&format!("{event_id}/{}/{}", self.arn, target.id)),
                    at,
                    expires_at: now.plus(target.age_max),
                    attempts_max: target.attempts_max,
                },
                body: target.input.body(
                    event,
                    OfRule {
                        arn: &self.arn,
                        name: &self.stored.rule.name,
                        taken_in_at: &timestamp(now),
                    },
                ),
            }
        })
    }
}

/// A rule's ARN.
pub(crate) fn rule_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:events:{region}:{account}:rule/{name}")
}

/// The ARN by which rules name a webhook.
pub(crate) fn webhook_arn(region: &str, account: &str, name: &str, id: &str) -> String {
    format!("arn:aws:events:{region}:{account}:api-destination/{name}/{id}")
}

/// Where events can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A webhook of a region, by its name and the id that it has or had.
    Webhook {
        region: String,
        name: String,
        id: String,
    },
    /// A group of the log store.
    LogGroup(String),
}

/// Why events cannot be sent there, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidDestination(pub(crate) String);

impl Destination {
    /// Where an ARN leads.
    ///
    /// # Errors
    /// [`InvalidDestination`].
    pub(crate) fn parse(arn: &str, account: &str) -> Result<Self, InvalidDestination> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next().unwrap_or_default();
        let (arn_word, _partition, service, region, of, resource) =
            (next(), next(), next(), next(), next(), next());
        if arn_word != "arn" || resource.is_empty() {
            return Err(InvalidDestination(format!("`{arn}` is not an ARN.")));
        }
        match service {
            "events" | "logs" if of != account => Err(InvalidDestination(format!(
                "`{arn}` is of another account than {account}."
            ))),
            "events" => {
                let named = resource.strip_prefix("api-destination/");
                let (name, id) = named.and_then(|named| named.split_once('/')).ok_or_else(|| {
                    InvalidDestination(format!(
                        "`{arn}` is no API destination; events go to those that `Ekiden.PutWebhookTarget` made."
                    ))
                })?;
                Ok(Self::Webhook {
                    region: region.to_owned(),
                    name: name.to_owned(),
                    id: id.to_owned(),
                })
            }
            "logs" => {
                let group = resource.strip_prefix("log-group:").unwrap_or_default();
                let group = group.strip_suffix(":*").unwrap_or(group);
                match group.strip_prefix(LOG_GROUP_PREFIX) {
                    Some(rest) if !rest.is_empty() => Ok(Self::LogGroup(group.to_owned())),
                    _ => Err(InvalidDestination(format!(
                        "`{arn}` is not a log group whose name begins with `{LOG_GROUP_PREFIX}`."
                    ))),
                }
            }
            other => Err(InvalidDestination(format!(
                "Ekiden cannot send events to `{other}`. It sends them to a webhook (`ekiden notify add`, \
                 or `Ekiden.PutWebhookTarget`) or to a log group whose name begins with `{LOG_GROUP_PREFIX}`."
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_lead_to_webhooks_and_log_groups_and_nowhere_else() {
        let account = "123456789012";
        let of = |arn: &str| Destination::parse(arn, account);
        assert_eq!(
            of(&webhook_arn("eu-west-1", account, "ops", "1-2")),
            Ok(Destination::Webhook {
                region: "eu-west-1".to_owned(),
                name: "ops".to_owned(),
                id: "1-2".to_owned()
            })
        );
        for arn in [
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/events/mine",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/events/mine:*",
        ] {
            let group = "/aws/events/mine".to_owned();
            assert_eq!(of(arn), Ok(Destination::LogGroup(group)));
        }
        for (arn, why) in [
            ("", "is not an ARN"),
            ("arn:aws:sns:eu-west-1", "is not an ARN"),
            (
                "arn:aws:sns:eu-west-1:123456789012:topic",
                "cannot send events to `sns`",
            ),
            (
                "arn:aws:lambda:eu-west-1:123456789012:function:f",
                "`lambda`",
            ),
            (
                "arn:aws:logs:eu-west-1:1:log-group:/aws/events/a",
                "another account",
            ),
            (
                "arn:aws:logs:eu-west-1:123456789012:log-group:/mine",
                "begins with",
            ),
            (
                "arn:aws:events:eu-west-1:123456789012:event-bus/other",
                "no API destination",
            ),
        ] {
            let told = of(arn).unwrap_err().to_string();
            assert!(told.contains(why), "{arn}: {told}");
        }
    }
}

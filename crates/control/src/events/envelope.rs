//! Events as EventBridge has them (specification, section 17.3; EventBridge User Guide, "Events").

use ekiden_aws::arn::Arn;
use ekiden_model::{
    alert::Alert,
    narrative::{News, Outcome, ServiceEvent},
    time::Timestamp,
};
use ekiden_store::alarms::Standing;
use ekiden_store::news::NumberedNews;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::alarms::{StateChange, alarm_arn};

/// The source of App Runner's events.
const APP_RUNNER: &str = "aws.apprunner";

/// The source of those that App Runner has not.
pub(super) const EKIDEN: &str = "ekiden";

/// The events of one piece of news.
pub(super) fn of_news(account: &str, numbered: &NumberedNews) -> Vec<Value> {
    let news = &numbered.news;
    let id = |index: usize| {
        let number = numbered.number;
        stable_id(&format!("news/{}/{number}/{index}", news.service))
    };
    let events = news.events.iter().enumerate();
    events
        .map(|(index, event)| {
            let (detail_type, detail) = of_event(news, event);
            let name = news.name.as_str();
            let arn = Arn::of_service(&numbered.region, account, name, &news.service.to_string());
            let about = About {
                id: &id(index),
                detail_type,
                source: APP_RUNNER,
                account,
                region: &numbered.region,
                at: news.at,
            };
            about.envelope(vec![arn.into()], detail)
        })
        .collect()
}

fn of_event(news: &News, event: &ServiceEvent) -> (&'static str, Value) {
    let mut detail = json!({
        "serviceName": news.name.as_str(),
        "serviceId": news.service.to_string(),
        "severity": "INFO",
    });
    let detail_type = match event {
        ServiceEvent::Status { previous, current } => {
            detail["previousServiceStatus"] = previous.to_string().into();
            detail["currentServiceStatus"] = current.to_string().into();
            detail["message"] = format!("Service status is set to {current}.").into();
            "AppRunner Service Status Change"
        }
        ServiceEvent::Operation {
            id,
            kind,
            outcome,
            message,
            reason,
        } => {
            detail["operationStatus"] = format!("{}{}", kind.event_name(), outcome.name()).into();
            detail["message"] = message.as_str().into();
            detail["operationId"] = id.to_string().into();
            if let Some(reason) = reason {
                detail["reason"] = reason.as_str().into();
            }
            if *outcome == Outcome::Failed {
                detail["severity"] = "ERROR".into();
            }
            "AppRunner Service Operation Status Change"
        }
        ServiceEvent::Domain {
            domain,
            status,
            message,
        } => {
            detail["domainName"] = domain.as_str().into();
            detail["domainStatus"] = status.as_str().into();
            detail["message"] = message.as_str().into();
            "AppRunner Custom Domain Validation Status Update"
        }
    };
    (detail_type, detail)
}

/// Whether an alert is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Raised,
    Cleared,
}

/// The event of an alert in a region. `service` is the name and ARN of the one that it is about.
pub(super) fn of_alert(
    account: &str,
    region: &str,
    alert: &Alert,
    turn: Turn,
    service: Option<(&str, &str)>,
    now: Timestamp,
) -> Value {
    let (state, severity) = match turn {
        Turn::Raised => ("RAISED", "ERROR"),
        Turn::Cleared => ("CLEARED", "INFO"),
    };
    let mut detail = json!({
        "alert": alert.key.kind.as_str(),
        "subject": alert.key.subject,
        "state": state,
        "message": alert.message,
        "raisedAt": timestamp(alert.raised_at),
        "severity": severity,
    });
    if let (Some(id), Some((name, _))) = (alert.service, service) {
        detail["serviceName"] = name.into();
        detail["serviceId"] = id.to_string().into();
    }
    let raised_at = alert.raised_at.as_millis();
    let (kind, subject) = (alert.key.kind.as_str(), &alert.key.subject);
    let about = About {
        id: &stable_id(&format!(
            "alert/{region}/{kind}/{subject}/{raised_at}/{state}"
        )),
        detail_type: "Ekiden Alert",
        source: EKIDEN,
        account,
        region,
        at: now,
    };
    let resources = service.map(|(_, arn)| arn.into());
    about.envelope(resources.into_iter().collect(), detail)
}

/// The event of an alarm whose state has become another one (CloudWatch User Guide, "Alarm events and EventBridge").
pub(super) fn of_alarm(account: &str, change: &StateChange) -> Value {
    let (alarm, region) = (&change.alarm, change.region.as_str());
    let standing = |standing: &Standing| {
        let mut state = json!({
            "value": standing.state,
            "reason": standing.reason,
            "timestamp": timestamp(standing.transitioned_at),
        });
        if let Some(data) = &standing.reason_data {
            state["reasonData"] = data.as_str().into();
        }
        state
    };
    let mut detail = json!({
        "alarmName": alarm.name,
        "state": standing(&alarm.standing),
        "previousState": standing(&change.previous),
        "configuration": {},
    });
    if let Some(description) = &alarm.config.description {
        detail["configuration"]["description"] = description.as_str().into();
    }
    let at = alarm.standing.transitioned_at;
    let name = &alarm.name;
    let about = About {
        id: &stable_id(&format!("alarm/{region}/{name}/{}", at.as_millis())),
        detail_type: "CloudWatch Alarm State Change",
        source: "aws.cloudwatch",
        account,
        region,
        at,
    };
    about.envelope(vec![alarm_arn(region, account, name).into()], detail)
}

/// What tells whether a webhook works.
pub(super) fn test(account: &str, region: &str, now: Timestamp) -> Value {
    let about = About {
        id: &uuid::Uuid::new_v4().to_string(),
        detail_type: "Ekiden Test",
        source: EKIDEN,
        account,
        region,
        at: now,
    };
    let message = "This was sent to see whether events arrive.";
    about.envelope(Vec::new(), json!({"message": message, "severity": "INFO"}))
}

/// An event that a client made.
#[derive(Debug, Clone)]
pub(crate) struct CustomEvent {
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) source: String,
    pub(crate) detail_type: String,
    pub(crate) resources: Vec<String>,
    pub(crate) detail: Map<String, Value>,
}

impl CustomEvent {
    pub(super) fn envelope(&self, account: &str, region: &str) -> Value {
        let about = About {
            id: &self.id,
            detail_type: &self.detail_type,
            source: &self.source,
            account,
            region,
            at: self.at,
        };
        let resources = self.resources.iter().map(|one| one.as_str().into());
        about.envelope(resources.collect(), Value::Object(self.detail.clone()))
    }
}

struct About<'a> {
    id: &'a str,
    detail_type: &'a str,
    source: &'a str,
    account: &'a str,
    region: &'a str,
    at: Timestamp,
}

impl About<'_> {
    fn envelope(&self, resources: Vec<Value>, detail: Value) -> Value {
        json!({
            "version": "0",
            "id": self.id,
            "detail-type": self.detail_type,
            "source": self.source,
            "account": self.account,
            "time": timestamp(self.at),
            "region": self.region,
            "resources": resources,
            "detail": detail,
        })
    }
}

/// A moment to the second, as events have it: `2026-01-02T03:04:05Z`.
pub(crate) fn timestamp(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

/// An id that is the same whenever the same thing is told.
pub(super) fn stable_id(of: &str) -> String {
    let hash = Sha256::digest(of.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use ekiden_model::{
        id::{OperationId, ServiceId},
        service::{OperationKind, ServiceStatus},
    };

    use super::*;

    #[test]
    fn news_become_app_runners_events_with_ids_that_stay() {
        let news = NumberedNews {
            number: 7,
            region: "eu-west-1".to_owned(),
            news: News {
                service: ServiceId::from_bytes([1; 16]),
                name: "shop".parse().unwrap(),
                at: Timestamp::from_millis(1_767_323_045_678),
                lines: Vec::new(),
                events: vec![
                    ServiceEvent::Operation {
                        id: OperationId::from_bytes([2; 16]),
                        kind: OperationKind::StartDeployment,
                        outcome: Outcome::Failed,
                        message: "Deployment failed. For details, see service logs.".to_owned(),
                        reason: Some("Why.".to_owned()),
                    },
                    ServiceEvent::Status {
                        previous: ServiceStatus::OperationInProgress,
                        current: ServiceStatus::Running,
                    },
                ],
            },
        };
        let events = of_news("123456789012", &news);
        let id = "01010101010101010101010101010101";
        assert_eq!(
            events[0],
            json!({
                "version": "0", "id": events[0]["id"],
                "detail-type": "AppRunner Service Operation Status Change",
                "source": "aws.apprunner", "account": "123456789012",
                "time": "2026-01-02T03:04:05Z", "region": "eu-west-1",
                "resources": [format!("arn:aws:apprunner:eu-west-1:123456789012:service/shop/{id}")],
                "detail": {
                    "operationStatus": "DeploymentFailed", "serviceName": "shop", "serviceId": id,
                    "message": "Deployment failed. For details, see service logs.",
                    "severity": "ERROR", "operationId": "02020202020202020202020202020202",
                    "reason": "Why.",
                },
            })
        );
        assert_eq!(events[1]["detail"]["currentServiceStatus"], "RUNNING");
        assert_eq!(
            events[1]["detail"]["message"],
            "Service status is set to RUNNING."
        );
        assert_eq!(events, of_news("123456789012", &news));
        assert_ne!(events[0]["id"], events[1]["id"]);
        assert_eq!(events[0]["id"].as_str().unwrap().len(), 36);
    }
}

//! `ekiden alerts`: what is wrong now.

use ekiden_aws::native::{Alert, ListAlertsRequest, ListAlertsResponse};

use crate::{
    api::Api,
    failure::Outcome,
    output::{OutputFormat, age, print, table, unix_now},
};

/// Lists the alerts that are raised.
///
/// # Errors
/// As [`Api::native`].
pub async fn list(api: &Api, format: OutputFormat) -> Outcome {
    let listed: ListAlertsResponse = api.native("ListAlerts", &ListAlertsRequest {}).await?;
    let now = unix_now();
    Ok(print(format, &listed, |listed| text(&listed.alerts, now))?)
}

fn text(alerts: &[Alert], now: u64) -> String {
    if alerts.is_empty() {
        return "nothing is wrong".to_owned();
    }
    let row = |alert: &Alert| {
        vec![
            age(now.saturating_sub(alert.raised_at)),
            alert.kind.clone(),
            alert
                .service_name
                .clone()
                .unwrap_or_else(|| alert.subject.clone()),
            alert.message.clone(),
        ]
    };
    table(&["AGE", "ALERT", "OF", "WHAT"], alerts.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_named_by_service_or_subject() {
        assert_eq!(text(&[], 0), "nothing is wrong");
        let alert = |service: Option<&str>| Alert {
            kind: "DISK_NEAR".to_owned(),
            subject: "logs".to_owned(),
            service_name: service.map(str::to_owned),
            raised_at: 5,
            message: "It is full.".to_owned(),
            ..Default::default()
        };
        let text = text(&[alert(None), alert(Some("web"))], 10);
        assert!(text.contains("5s   DISK_NEAR  logs  It is full."), "{text}");
        assert!(text.contains("5s   DISK_NEAR  web   It is full."), "{text}");
    }
}

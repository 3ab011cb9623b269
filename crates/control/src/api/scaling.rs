//! How a service scales: what is set, what is asked for, what was decided.

use std::time::Duration;

use ekiden_aws::{
    error::ApiError,
    native::{
        DescribeScalingRequest, InstanceStart, ScalingDecision, ScalingResponse,
        UpdateScalingRequest,
    },
};
use ekiden_engine::Engine;
use ekiden_model::scaling::ScalingOptions;
use ekiden_store::StoredService;
use serde_json::{Map, Value};
use tracing::info;

use super::{
    Api, Caller,
    document::{change_error, parse, written},
};
use crate::{
    clock,
    worker::{Decided, Snapshot, Start},
};

/// The longest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4096;

impl<E: Engine> Api<E> {
    pub(super) async fn describe_scaling(
        &self,
        caller: &Caller,
        request: DescribeScalingRequest,
    ) -> Result<ScalingResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        Ok(self.scaling_of(request.service_arn, &snapshot, &snapshot.stored))
    }

    pub(super) async fn update_scaling(
        &self,
        caller: &Caller,
        request: UpdateScalingRequest,
    ) -> Result<ScalingResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let change = parse(&request.settings, DOCUMENT_BYTES_MAX).map_err(invalid)?;
        let most = self.config.quotas.instances_per_service;
        let now = clock::now();
        let set = move |stored: &mut StoredService| {
            let next = merged(&stored.service.scaling, change)?;
            if let Some(least) = next.instances_min
                && u64::from(least) > most
            {
                return Err(format!(
                    "`instances_min` cannot be {least}: `quota.instances_per_service` is {most}."
                ));
            }
            if stored.service.scaling != next {
                stored.service.scaling = next;
                stored.service.updated_at = now;
            }
            Ok(())
        };
        let id = snapshot.stored.service.id;
        let changed = self.services.change(id, set).await;
        let stored = changed.map_err(|error| change_error(error, invalid))?;
        info!(service = %stored.service.name, "scaling set");
        Ok(self.scaling_of(request.service_arn, &snapshot, &stored))
    }

    fn scaling_of(&self, arn: String, seen: &Snapshot, stored: &StoredService) -> ScalingResponse {
        let service = &stored.service;
        let options = &service.scaling;
        let settings = options.settings(
            &service.settings.scaling,
            &self.config.scaling,
            clock::now(),
        );
        let view = seen.scaling.view();
        let seconds = |after: Option<Duration>| after.unwrap_or_default().as_secs();
        ScalingResponse {
            service_arn: arn,
            settings: written(options).to_string(),
            now: view.now.as_ref().map(wire),
            instances_min: settings.instances_min,
            instances_max: settings.instances_max,
            concurrency_per_instance: settings.concurrency_per_instance,
            utilisation: settings.utilisation,
            scale_in_seconds: settings.scale_in_delay.as_secs(),
            idle_seconds: settings.idle_to_zero.as_secs(),
            throttle_seconds: seconds(settings.throttle_after),
            freeze_seconds: seconds(settings.freeze_after),
            peak: options.peaks.iter().any(|peak| peak.state(clock::now()).on),
            active_min: options.active_min.unwrap_or(0),
            cpu_target: settings.cpu_target,
            memory_target: settings.memory_target,
            activity: view.now.as_ref().map(|now| now.activity.to_string()),
            refused: view.refused,
            decisions: view.decisions.iter().rev().map(wire).collect(),
            starts: view.starts.iter().rev().map(wire_start).collect(),
        }
    }
}

fn wire(decided: &Decided) -> ScalingDecision {
    ScalingDecision {
        at: decided.at.as_secs(),
        wanted: decided.wanted,
        reason: decided.reason.to_string(),
        in_flight: decided.demand.in_flight,
        queued: decided.demand.queued,
        ready: decided.fleet.ready,
        starting: decided.fleet.starting,
        cpu_percent: decided.fleet.load.cpu,
        memory_percent: decided.fleet.load.memory,
    }
}

fn wire_start(start: &Start) -> InstanceStart {
    let micros = |stage: Duration| stage.as_micros() as u64;
    InstanceStart {
        instance_id: start.instance.to_string(),
        at: start.at.as_secs(),
        decide_micros: micros(start.decide),
        prepare_micros: start.prepare.map(micros),
        listen_micros: start.listen.map(micros),
        route_micros: start.route.map(micros),
    }
}

fn invalid(why: String) -> ApiError {
    ApiError::invalid_request(format!("Scaling: {why}"))
}

/// The settings after a change: what the change does not name stays, and `null` is the default.
fn merged(current: &ScalingOptions, change: Map<String, Value>) -> Result<ScalingOptions, String> {
    let mut document = written(current);
    if let Value::Object(members) = &mut document {
        members.extend(change);
    }
    let next: ScalingOptions =
        serde_json::from_value(document).map_err(|error| format!("{error}."))?;
    next.check().map_err(|why| format!("{why}."))?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(current: &ScalingOptions, document: &str) -> Result<ScalingOptions, String> {
        parse(document, DOCUMENT_BYTES_MAX).and_then(|change| merged(current, change))
    }

    #[test]
    fn what_is_not_named_stays_and_null_is_the_default() {
        let none = ScalingOptions::default();
        let three = change(&none, r#"{"instances_min":3,"idle_seconds":60}"#).unwrap();
        assert_eq!(
            (three.instances_min, three.idle_seconds),
            (Some(3), Some(60))
        );
        let taken_back = change(&three, r#"{"instances_min":null}"#).unwrap();
        assert_eq!(
            (taken_back.instances_min, taken_back.idle_seconds),
            (None, Some(60))
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (document, want) in [
            ("[]", "a JSON object"),
            (r#"{"minimum":1}"#, "unknown field `minimum`"),
            (r#"{"instances_min":-1}"#, "-1"),
            (r#"{"utilisation":0}"#, "`utilisation` cannot be 0"),
            (r#"{"cpu_target":101}"#, "`cpu_target` cannot be 101"),
            (
                r#"{"scale_in_seconds":0}"#,
                "`scale_in_seconds` cannot be 0",
            ),
        ] {
            let why = change(&ScalingOptions::default(), document).unwrap_err();
            assert!(why.contains(want), "{document}: {why}");
        }
    }
}

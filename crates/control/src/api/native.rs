//! Ekiden's own operations: what App Runner's API has no words for.

use ekiden_aws::{
    error::ApiError,
    native::{
        DescribeOperationRequest, DescribeOperationResponse, DescribeTrafficRequest,
        DescribeTrafficResponse, Failure as WireFailure, GetStatusRequest, GetStatusResponse,
        Instance as WireInstance, ListInstancesRequest, ListInstancesResponse,
        Operation as WireOperation, OperationStep as WireStep, Traffic as WireTraffic,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    health::Verdict,
    instance::InstanceState,
    plan::{InstanceView, Traffic},
    request_counts::RequestCounts,
    service::{Operation, OperationStep},
    time::Timestamp,
};

use super::{Api, Caller, store_error};
use crate::worker::Snapshot;

impl<E: Engine> Api<E> {
    pub(super) async fn list_instances(
        &self,
        caller: &Caller,
        request: ListInstancesRequest,
    ) -> Result<ListInstancesResponse, ApiError> {
        let snapshots = match request.service_arn.as_deref() {
            Some(arn) => vec![self.find(caller, Some(arn))?],
            None => self.services.list(&caller.region, None, usize::MAX),
        };
        let instances = snapshots
            .iter()
            .flat_map(|snapshot| self.wire_instances(snapshot));
        Ok(ListInstancesResponse {
            instances: instances.collect(),
        })
    }

    pub(super) async fn describe_operation(
        &self,
        caller: &Caller,
        request: DescribeOperationRequest,
    ) -> Result<DescribeOperationResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let service = snapshot.stored.service.id;
        let unknown = || ApiError::resource_not_found("The service has no such operation.");
        let found = match request.operation_id.as_deref() {
            Some(id) => {
                let id = id.parse().map_err(|_| unknown())?;
                self.store.operation(service, id).await
            }
            None => {
                let newest = self.store.operations(service, None, 1).await;
                newest.map(|page| page.into_iter().next().map(|(_, operation)| operation))
            }
        };
        let found = found
            .map_err(|error| store_error(&error))?
            .ok_or_else(unknown)?;
        // Read again: the operation may have ended since it was looked for.
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        Ok(DescribeOperationResponse {
            operation: wire_operation(&snapshot, &found),
        })
    }

    pub(super) async fn describe_traffic(
        &self,
        caller: &Caller,
        request: DescribeTrafficRequest,
    ) -> Result<DescribeTrafficResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let traffic = self.edges.traffic();
        Ok(DescribeTrafficResponse {
            service_arn: request.service_arn,
            traffic: wire_traffic(traffic.since(), traffic.of(snapshot.stored.service.id)),
        })
    }

    pub(super) async fn get_status(
        &self,
        _caller: &Caller,
        _request: GetStatusRequest,
    ) -> Result<GetStatusResponse, ApiError> {
        let certificate_warnings = self.certificate_warnings().await?;
        let whole = self.observations.whole();
        let counts = self.audit.counts();
        let traffic = self.edges.traffic();
        let (all, unrouted) = traffic.whole();
        Ok(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            edge_current: self.edges.state().borrow().serving.is_some(),
            engine_current: whole.current,
            services: self.services.count() as u32,
            instances: whole.instances.len() as u32,
            certificate_warnings,
            traffic: wire_traffic(traffic.since(), all),
            unrouted_traffic: wire_traffic(traffic.since(), unrouted),
            authentication_failures: counts.unauthenticated,
            access_denied: counts.denied,
            audit_events_left_out: counts.left_out,
        })
    }

    fn wire_instances(&self, snapshot: &Snapshot) -> Vec<WireInstance> {
        let mut views: Vec<&InstanceView> = snapshot.instances.iter().collect();
        views.sort_by_key(|view| (view.created_at, view.id));
        let arn = self.arn(&snapshot.stored);
        let name = snapshot.stored.service.name.to_string();
        let wire = |view: &InstanceView| {
            let upstream = snapshot
                .published
                .iter()
                .flat_map(|route| &route.upstreams)
                .find(|upstream| upstream.instance == view.id);
            WireInstance {
                instance_id: view.id.to_string(),
                service_arn: arn.clone(),
                service_name: name.clone(),
                revision: view.revision.0,
                status: instance_status(view).to_owned(),
                routed: upstream.is_some(),
                activity: matches!(view.state, InstanceState::Running { .. })
                    .then(|| view.activity.to_string()),
                address: upstream
                    .map(|upstream| upstream.address.to_string())
                    .or_else(|| instance_address(view)),
                created_at: view.created_at.as_secs(),
                reason: instance_reason(view),
            }
        };
        views.into_iter().map(wire).collect()
    }
}

fn wire_traffic(since: Timestamp, counts: RequestCounts) -> WireTraffic {
    let [status_1xx, status_2xx, status_3xx, status_4xx, status_5xx] = counts.answered;
    WireTraffic {
        since: since.as_secs(),
        requests: counts.requests(),
        status_1xx,
        status_2xx,
        status_3xx,
        status_4xx,
        status_5xx,
        unanswered: counts.unanswered,
        causes: counts.causes,
    }
}

pub(super) fn instance_status(view: &InstanceView) -> &'static str {
    match (&view.state, view.verdict, view.traffic) {
        (InstanceState::Creating, _, _) => "STARTING",
        (InstanceState::Running { .. }, _, Traffic::Unrouted { .. }) => "DRAINING",
        (InstanceState::Running { .. }, Verdict::Starting, _) => "STARTING",
        (InstanceState::Running { .. }, Verdict::Healthy, _) => "RUNNING",
        (InstanceState::Running { .. }, Verdict::Unhealthy, _) => "UNHEALTHY",
        (InstanceState::Stopping { .. }, _, _) => "STOPPING",
        (InstanceState::Exited(_), _, _) => "EXITED",
    }
}

fn instance_address(view: &InstanceView) -> Option<String> {
    match view.state {
        InstanceState::Running { address, .. } | InstanceState::Stopping { address } => {
            Some(address.to_string())
        }
        InstanceState::Creating | InstanceState::Exited(_) => None,
    }
}

fn instance_reason(view: &InstanceView) -> Option<String> {
    match &view.state {
        InstanceState::Exited(exit) => Some(match exit.failure() {
            Some((cause, hint)) => format!("{cause}; {hint}"),
            None => exit.cause.to_string(),
        }),
        InstanceState::Creating
        | InstanceState::Running { .. }
        | InstanceState::Stopping { .. } => {
            let healthy = view.verdict == Verdict::Healthy;
            view.last_failure.clone().filter(|_| !healthy)
        }
    }
}

pub(super) fn wire_operation(snapshot: &Snapshot, operation: &Operation) -> WireOperation {
    let failure = operation.failure.as_ref().map(|failure| WireFailure {
        step: failure.phase.to_string(),
        reason: failure.cause.to_string(),
        hint: failure.hint().map(str::to_owned),
        log_lines: failure.log_lines.clone(),
    });
    let current = snapshot.stored.service.operation.as_ref();
    let is_current = current.is_some_and(|current| current.id == operation.id);
    WireOperation {
        id: operation.id.to_string(),
        r#type: operation.kind.to_string(),
        status: operation.status.to_string(),
        step: operation.phase.to_string(),
        waiting_for: snapshot.waiting_for.clone().filter(|_| is_current),
        revision: operation.candidate.map(|number| number.0),
        started_at: operation.started_at.as_secs(),
        ended_at: operation.ended_at.map(|at| at.as_secs()),
        steps: operation.steps.iter().map(wire_step).collect(),
        failure,
    }
}

fn wire_step(step: &OperationStep) -> WireStep {
    WireStep {
        step: step.phase.to_string(),
        timestamp: step.at.as_millis(),
    }
}

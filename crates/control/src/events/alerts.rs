//! Alerts: facts are gathered, judged by `ekiden_model::alert`, and what changes is stored with its events.
//!
//! Raised alerts are in the store, so that a control plane that starts raises none of them again. What is not raised
//! yet is forgotten with the process: a service that is down has to be so for a while again before it is said.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ekiden_aws::arn::Arn;
use ekiden_engine::Engine;
use ekiden_logs::store::LogStore;
use ekiden_model::{
    alert::{self, Alert, AlertKey, AlertKind, AlertState, Change, Judgement, Serving},
    health::Verdict,
    id::ServiceId,
    instance::InstanceState,
    narrative::{Outcome, instance_ended, remark},
    service::{OperationKind, ServiceStatus},
    time::Timestamp,
};
use ekiden_store::{StoreError, StoredService, events::Because, news::NumberedNews};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Events,
    envelope::{Turn, of_alert},
    told,
};
use crate::{
    certificates::Certificates, clock, config::ControlConfig, ends::Ends,
    observations::Observations, services::Services, worker::Snapshot,
};

/// How often facts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often those are that cost more: budgets, disks, certificates.
const LOOK_WIDER_EVERY: Duration = Duration::from_secs(60);

/// How far each drain is behind, by name. Whoever has drains gives it; until then there are none.
pub(crate) type DrainLags = Arc<dyn Fn() -> Vec<(String, Duration)> + Send + Sync>;

/// Every alert that is raised or may be soon.
pub(crate) struct Alerts<E> {
    events: Arc<Events>,
    services: Arc<Services<E>>,
    observations: Arc<Observations>,
    logs: LogStore,
    data_dir: PathBuf,
    logs_bytes_max: u64,
    registry_bytes_max: u64,
    drains: DrainLags,
    certificates: Arc<Certificates>,
    ends: Arc<Ends>,
    /// What ended until then was told of by control planes before this one.
    ends_told: Timestamp,
    states: Mutex<HashMap<AlertKey, Watched>>,
}

#[derive(Debug, Clone, Default)]
struct Watched {
    state: AlertState,
    raised: Option<Alert>,
}

impl<E: Engine> Alerts<E> {
    /// # Errors
    /// The alerts that are raised cannot be read.
    pub(crate) async fn load(
        events: Arc<Events>,
        services: Arc<Services<E>>,
        observations: Arc<Observations>,
        config: &ControlConfig,
        drains: DrainLags,
        certificates: Arc<Certificates>,
        ends: Arc<Ends>,
    ) -> Result<Self, StoreError> {
        let raised = events.store.alerts().await?.into_iter().map(|alert| {
            let watched = Watched {
                state: AlertState::Raised,
                raised: Some(alert.clone()),
            };
            (alert.key, watched)
        });
        let ends_told = events.store.ends_told().await?.min(clock::now());
        Ok(Self {
            states: Mutex::new(raised.collect()),
            logs: events.logs.clone(),
            events,
            services,
            observations,
            data_dir: config.data_dir.clone(),
            logs_bytes_max: config.logs.total_bytes_max,
            registry_bytes_max: config.registry.budget,
            drains,
            certificates,
            ends,
            ends_told,
        })
    }

    /// Looks at facts until the control plane stops.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut wider_at = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                _ = tick.tick() => {} // cancel-safe per its docs
            }
            let mut looked = self.look().await;
            if looked.is_ok() && wider_at <= tokio::time::Instant::now() {
                wider_at = tokio::time::Instant::now() + LOOK_WIDER_EVERY;
                looked = self.look_wider().await;
            }
            if let Err(error) = looked {
                warn!(
                    error = told(&error),
                    "alerts could not be looked at and are again"
                );
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let now = clock::now();
        let services = self.services.all();
        let ids: HashSet<ServiceId> = services.iter().map(|one| one.stored.service.id).collect();
        self.tell_of_ends(&services, now).await?;
        self.ends.retain(&ids);
        let engine_answers = self.observations.whole().current;
        for snapshot in &services {
            let of = &snapshot.stored;
            if engine_answers {
                let judged = serving(snapshot);
                self.judge(AlertKind::ServiceDown, of, judged, now).await?;
            }
            if let Some(ended) = self.ends.of_service(of.service.id) {
                let judged = alert::crashes(&ended, now);
                self.judge(AlertKind::CrashLoop, of, judged, now).await?;
            } else if engine_answers {
                self.judge(AlertKind::CrashLoop, of, Judgement::Good, now)
                    .await?;
            }
        }
        self.forget_gone(&ids, now).await
    }

    /// Writes into the services' logs which instances ended, each once.
    async fn tell_of_ends(
        &self,
        services: &[Arc<Snapshot>],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let untold = self.ends.take_untold();
        let Some(until) = untold.iter().map(|ended| ended.exit.at).max() else {
            return Ok(());
        };
        let told: Vec<_> = untold
            .iter()
            .filter(|ended| ended.exit.at > self.ends_told)
            .filter_map(|ended| {
                let mut services = services.iter().map(|one| &one.stored);
                let of = services.find(|of| of.service.id == ended.service)?;
                let text = instance_ended(ended.instance, &ended.exit)?;
                let news = remark(of.service.id, &of.service.name, text, ended.exit.at);
                Some((of.region.clone(), news))
            })
            .collect();
        // A clock that was ahead for a while does not silence what ends later.
        let stored = self.events.store.put_ends(&told, until.min(now)).await;
        if let Err(error) = stored {
            self.ends.put_back(untold);
            return Err(error);
        }
        if !told.is_empty() {
            self.services.news_grew();
        }
        Ok(())
    }

    async fn look_wider(&self) -> Result<(), StoreError> {
        let now = clock::now();
        let logs = self.logs.stats().disk_bytes;
        let registry = self.events.store.image_bytes().await?;
        let mut budgets = vec![
            (
                "logs",
                alert::budget("The log store", logs, self.logs_bytes_max),
            ),
            (
                "registry",
                alert::budget("The registry", registry, self.registry_bytes_max),
            ),
        ];
        if let Ok(disk) = rustix::fs::statvfs(&self.data_dir) {
            let size = disk.f_blocks.saturating_mul(disk.f_frsize);
            let left = disk.f_bavail.saturating_mul(disk.f_frsize);
            let judged = alert::budget("The disk of the data", size.saturating_sub(left), size);
            budgets.push(("disk", judged));
        }
        for (subject, judged) in budgets {
            self.judge_of(AlertKind::DiskNear, subject, judged, now)
                .await?;
        }
        for (name, lag) in (self.drains)() {
            let judged = alert::drain(&name, lag);
            self.judge_of(AlertKind::DrainLagging, &name, judged, now)
                .await?;
        }
        self.look_at_certificates(now).await
    }

    /// Of each set of names, the certificate that lasts longest.
    async fn look_at_certificates(&self, now: Timestamp) -> Result<(), StoreError> {
        let attempts = self.events.store.certificate_attempts().await?;
        let last = self.certificates.ends();
        let kind = AlertKind::CertificateNearExpiry;
        let gone: Vec<_> = {
            let states = self.states.lock().await;
            let of_kind = states.keys().filter(|key| key.kind == kind);
            of_kind
                .filter(|key| !last.contains_key(&key.subject))
                .map(|key| key.subject.clone())
                .collect()
        };
        for subject in gone {
            self.judge_of(kind, &subject, Judgement::Good, now).await?;
        }
        for (names, not_after) in last {
            let failures = attempts.get(&names).map_or(0, |one| one.attempts.failures);
            let judged = alert::certificate(&names, not_after, failures, now);
            self.judge_of(kind, &names, judged, now).await?;
        }
        Ok(())
    }

    /// Takes in how an operation of a service ended.
    pub(super) async fn operation(
        &self,
        of: &NumberedNews,
        kind: OperationKind,
        outcome: Outcome,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        use OperationKind as K;
        let judged = match (outcome, kind) {
            (Outcome::Failed, K::CreateService | K::UpdateService | K::StartDeployment) => {
                Judgement::Bad(format!(
                    "The last deployment failed. {}",
                    reason.unwrap_or("`ekiden describe` says why.")
                ))
            }
            (
                Outcome::CompletedSuccessfully,
                K::CreateService | K::UpdateService | K::StartDeployment | K::DeleteService,
            ) => Judgement::Good,
            _ => return Ok(()),
        };
        let Some(snapshot) = self.services.watch(of.news.service) else {
            return Ok(());
        };
        let stored = Arc::clone(&snapshot.borrow().stored);
        self.judge(AlertKind::DeploymentFailed, &stored, judged, of.news.at)
            .await
    }

    /// Clears the alerts of services that are not there any more.
    async fn forget_gone(
        &self,
        services: &HashSet<ServiceId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let gone: Vec<Alert> = {
            let mut states = self.states.lock().await;
            let is_gone = |watched: &Watched| {
                let of = watched.raised.as_ref().and_then(|alert| alert.service);
                of.is_some_and(|id| !services.contains(&id))
            };
            states.retain(|_, watched| watched.state != AlertState::Clear);
            let gone = states.values().filter(|watched| is_gone(watched));
            gone.filter_map(|watched| watched.raised.clone()).collect()
        };
        for alert in gone {
            self.events
                .put(&[], Because::Cleared(&alert.key, None))
                .await?;
            self.states.lock().await.remove(&alert.key);
            tracing::info!(
                alert = alert.key.kind.as_str(),
                subject = alert.key.subject,
                at = now.as_secs(),
                "an alert is over: its service is gone"
            );
        }
        Ok(())
    }

    async fn judge(
        &self,
        kind: AlertKind,
        of: &StoredService,
        judged: Judgement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let subject = of.service.id.to_string();
        self.step(kind, &subject, Some(of), judged, now).await
    }

    async fn judge_of(
        &self,
        kind: AlertKind,
        subject: &str,
        judged: Judgement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.step(kind, subject, None, judged, now).await
    }

    /// Takes a judgement in, and stores what it changes. If that fails, it has changed nothing.
    async fn step(
        &self,
        kind: AlertKind,
        subject: &str,
        of: Option<&StoredService>,
        judged: Judgement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let subject = subject.to_owned();
        let key = AlertKey { kind, subject };
        let mut states = self.states.lock().await;
        let mut watched = states.get(&key).cloned().unwrap_or_default();
        match watched.state.step(judged, kind.patience(), now) {
            None => {}
            Some(Change::Raise(message)) => {
                let alert = Alert {
                    key: key.clone(),
                    service: of.map(|of| of.service.id),
                    raised_at: now,
                    message,
                };
                warn!(
                    alert = kind.as_str(),
                    subject = key.subject,
                    message = alert.message,
                    "an alert is raised"
                );
                self.tell(&alert, Turn::Raised, of, now).await?;
                watched.raised = Some(alert);
            }
            Some(Change::Clear) => {
                tracing::info!(
                    alert = kind.as_str(),
                    subject = key.subject,
                    "an alert is over"
                );
                if let Some(alert) = watched.raised.take() {
                    self.tell(&alert, Turn::Cleared, of, now).await?;
                }
            }
        }
        match watched.state {
            AlertState::Clear => states.remove(&key),
            AlertState::Worsening { .. } | AlertState::Raised | AlertState::Improving { .. } => {
                states.insert(key, watched)
            }
        };
        Ok(())
    }

    /// An alert of a service is an event of its region; of others, of every region that has rules.
    async fn tell(
        &self,
        alert: &Alert,
        turn: Turn,
        of: Option<&StoredService>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let account = &self.events.account;
        let rules = self.events.rules();
        let (regions, lane, arn) = match of {
            Some(of) => {
                let (region, id) = (of.region.clone(), of.service.id.to_string());
                let arn = Arn::of_service(&region, account, of.service.name.as_str(), &id);
                ([region].into(), id, arn)
            }
            None => {
                let regions = rules.iter().map(|rule| rule.region().to_owned());
                let regions: std::collections::BTreeSet<_> = regions.collect();
                (regions, "host".to_owned(), String::new())
            }
        };
        let service = of.map(|of| (of.service.name.as_str(), arn.as_str()));
        let deliveries: Vec<_> = regions
            .iter()
            .flat_map(|region| {
                let event = of_alert(account, region, alert, turn, service, now);
                self.events.deliveries(region, &lane, now, &event)
            })
            .collect();
        let text = match turn {
            Turn::Raised => format!("Alert {}: {}", alert.key.kind.as_str(), alert.message),
            Turn::Cleared => format!("Alert {} is over.", alert.key.kind.as_str()),
        };
        let line = of.map(|of| {
            let (id, name) = (of.service.id, &of.service.name);
            (of.region.as_str(), remark(id, name, text, now))
        });
        let line = line.as_ref().map(|(region, news)| (*region, news));
        let because = match turn {
            Turn::Raised => Because::Raised(alert, line),
            Turn::Cleared => Because::Cleared(&alert.key, line),
        };
        self.events.put(&deliveries, because).await?;
        if line.is_some() {
            self.services.news_grew();
        }
        Ok(())
    }

    /// The alerts that are raised, by kind and subject.
    pub(crate) async fn raised(&self) -> Vec<Alert> {
        let states = self.states.lock().await;
        let raised = states.values().filter_map(|watched| watched.raised.clone());
        let mut raised: Vec<_> = raised.collect();
        raised.sort_by(|one, other| one.key.cmp(&other.key));
        raised
    }
}

fn serving(snapshot: &Snapshot) -> Judgement {
    let service = &snapshot.stored.service;
    let healthy = snapshot.instances.iter().filter(|instance| {
        let running = matches!(instance.state, InstanceState::Running { .. });
        running && instance.verdict == Verdict::Healthy
    });
    let decided = snapshot.scaling.view().now.map(|decided| decided.wanted);
    let running = match &service.operation {
        Some(operation) => {
            operation.kind != OperationKind::CreateService
                && service.settled == ServiceStatus::Running
        }
        None => service.settled == ServiceStatus::Running,
    };
    alert::serving(Serving {
        running,
        wanted: decided.unwrap_or(service.settings.scaling.instances_min),
        healthy: u32::try_from(healthy.count()).unwrap_or(u32::MAX),
        // The edges count failures by cause, but only since control was started.
        requests_failing: None,
    })
}

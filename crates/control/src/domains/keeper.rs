//! The keeper: one task that takes the next step of every association that is not settled.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, PoisonError},
    time::Duration,
};

use ekiden_engine::Engine;
use ekiden_model::{
    domain::{CustomDomain, DomainEvent, DomainStatus, RecordStatus, ValidationRecord},
    domain_name::DomainName,
    id::ServiceId,
    narrative::narrate_domain,
    route::Route,
    service::ServiceStatus,
    time::Timestamp,
};
use ekiden_store::{StoreError, StoredService, domains::Unsettled};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Domains, Validation, dns::NotFound};
use crate::{
    clock,
    services::ChangeError,
    worker::{Chain, Snapshot},
};

/// Domains whose records are looked for at once.
const LOOKS_AT_ONCE_MAX: usize = 16;

/// Domains that anything else is done for at once.
const STEPS_AT_ONCE_MAX: usize = 64;

/// How long a step waits for a service's route, or for the edges, before it is taken again.
const ROUTE_WAIT: Duration = Duration::from_secs(1);

/// How long until a step that failed, or is waiting for an edge, is taken again.
const RETRY: Duration = Duration::from_secs(1);

/// The longest the keeper sleeps: nothing is lost by looking at nothing.
const IDLE: Duration = Duration::from_secs(3600);

/// How long to wait before the next step.
type Next = Duration;

/// What a step ends with.
type Stepped = Result<Next, StoreError>;

/// Steps on their way, and when the others are due. None of it matters: whoever starts with nothing
/// looks at everything once.
#[derive(Default)]
struct Work {
    steps: JoinSet<Stepped>,
    under_way: HashMap<Id, Unsettled>,
    due: HashMap<DomainName, Due>,
}

/// When a domain is looked at again, while it stays where it is.
struct Due {
    of: Unsettled,
    at: Timestamp,
}

impl<E: Engine> Domains<E> {
    /// Moves associations until told to stop.
    ///
    /// A step may be cut off anywhere: each begins by reading what is stored.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut work = Work::default();
        loop {
            let wait = self.begin(&mut work).await;
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                () = self.asked.notified() => {} // cancel-safe per its docs
                Some(ended) = work.steps.join_next_with_id() => work.ended(ended), // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// Begins every step that is due and has room; answers how long to wait at most.
    async fn begin(self: &Arc<Self>, work: &mut Work) -> Duration {
        let unsettled = match self.store.unsettled_domains().await {
            Ok(unsettled) => unsettled,
            Err(error) => {
                warn!(error = %Chain(&error), "custom domains could not be read and are tried again");
                return RETRY;
            }
        };
        self.forget_others(work, &unsettled);
        let now = clock::now();
        let mut wait = IDLE;
        for one in unsettled {
            match work.left(&one, now) {
                None => {}
                Some(left) if !left.is_zero() => wait = wait.min(left),
                Some(_) if work.is_full(one.status) => {}
                Some(_) => {
                    let (domains, name, service) =
                        (Arc::clone(self), one.domain.clone(), one.service);
                    let step = async move { domains.step(&name, service).await };
                    let id = work.steps.spawn(step).id();
                    work.under_way.insert(id, one);
                }
            }
        }
        wait
    }

    /// Forgets when domains were due, and what they waited for, that wait for nothing any more.
    fn forget_others(&self, work: &mut Work, unsettled: &[Unsettled]) {
        let keep: HashSet<&DomainName> = unsettled.iter().map(|one| &one.domain).collect();
        work.due.retain(|name, _| keep.contains(name));
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|name, _| keep.contains(name));
    }

    /// Takes the next step of one association.
    async fn step(&self, name: &DomainName, service: ServiceId) -> Stepped {
        let stored = self.store.domain(name).await?;
        let Some(domain) = stored.filter(|domain| domain.service == service) else {
            return Ok(Duration::ZERO);
        };
        match domain.status {
            DomainStatus::Creating => self.apply(&domain, DomainEvent::RecordsKnown).await,
            DomainStatus::PendingCertificateDnsValidation => self.validate(&domain).await,
            DomainStatus::BindingCertificate => self.bind(&domain).await,
            DomainStatus::Deleting => self.remove(&domain).await,
            DomainStatus::Active | DomainStatus::CreateFailed | DomainStatus::DeleteFailed => {
                Ok(Duration::ZERO)
            }
        }
    }

    /// Looks for the records, and writes down what is new.
    async fn validate(&self, domain: &CustomDomain) -> Stepped {
        let found = self.look(domain).await;
        let now = clock::now();
        let mut trial = domain.clone();
        if trial.looked(&found, now).is_err() || trial == *domain {
            return Ok(domain.look_again_in(now));
        }
        let looked = |domain: &mut CustomDomain| domain.looked(&found, now);
        let moved = self
            .store
            .update_domain(domain.service, &domain.name, looked)
            .await?;
        Ok(match moved.filter(|moved| moved.status == domain.status) {
            Some(waiting) => waiting.look_again_in(now),
            None => {
                log(&trial);
                if moved_on(&trial, domain) {
                    self.tell(&trial).await;
                }
                Duration::ZERO
            }
        })
    }

    /// Says of each record whether it is there.
    async fn look(&self, domain: &CustomDomain) -> Vec<bool> {
        let servers = match self.validation {
            Validation::Assumed => return vec![true; domain.records.len()],
            Validation::Dns(servers) => servers,
        };
        let mut found = Vec::with_capacity(domain.records.len());
        let mut missing = Vec::new();
        for record in &domain.records {
            let outcome = match record.status {
                RecordStatus::Success => Ok(()),
                RecordStatus::PendingValidation | RecordStatus::Failed => {
                    servers.look(record).await
                }
            };
            found.push(outcome.is_ok());
            missing.extend(outcome.err().map(|why| wait_for_record(record, &why)));
        }
        if !missing.is_empty() {
            self.waits(&domain.name, missing.join("; "));
        }
        found
    }

    /// Brings the names to the edges, and then waits for their certificate to be there too.
    async fn bind(&self, domain: &CustomDomain) -> Stepped {
        let names = domain.hosts();
        let add = move |stored: &mut StoredService| {
            let hosts = &mut stored.service.hosts;
            let missing: Vec<_> = names
                .into_iter()
                .filter(|name| !hosts.contains(name))
                .collect();
            hosts.extend(missing);
            Ok(())
        };
        match self.change_hosts(domain.service, add).await? {
            Hosts::Changed => {}
            // Its association goes with it.
            Hosts::OfNobody | Hosts::NotNow => return Ok(RETRY),
        }
        let names = domain.hosts();
        let routed = move |route: &Option<Route>| {
            // A private service publishes none of its names, its own included.
            route.as_ref().is_some_and(|route| {
                route.hosts.is_empty() || names.iter().all(|name| route.hosts.contains(name))
            })
        };
        self.waits(&domain.name, "the front door to serve its names".to_owned());
        if !self.routed(domain.service, routed, Edge::Serves).await {
            return Ok(RETRY);
        }
        // Its route lost them in the same generation; it must not want them back.
        if let Some(before) = domain.moved_from
            && let Hosts::NotNow = self.take_hosts(domain, before).await?
        {
            return Ok(RETRY);
        }
        match self.certificates.with_edges(&domain.hosts()).await {
            Ok(()) => self.apply(domain, DomainEvent::Bound).await,
            Err(what) => {
                self.waits(&domain.name, what);
                Ok(RETRY)
            }
        }
    }

    /// Takes the names away, and then the association.
    async fn remove(&self, domain: &CustomDomain) -> Stepped {
        for service in domain.moved_from.into_iter().chain([domain.service]) {
            match self.take_hosts(domain, service).await? {
                Hosts::Changed | Hosts::OfNobody => {}
                Hosts::NotNow => return Ok(RETRY),
            }
        }
        let names = domain.hosts();
        let without = move |route: &Option<Route>| {
            route
                .as_ref()
                .is_none_or(|route| !names.iter().any(|name| route.hosts.contains(name)))
        };
        self.waits(&domain.name, "its route to be taken away".to_owned());
        for service in domain.moved_from.into_iter().chain([domain.service]) {
            if !self.routed(service, &without, Edge::MayFollow).await {
                return Ok(RETRY);
            }
        }
        if self
            .store
            .forget_domain(domain.service, &domain.name)
            .await?
        {
            info!(domain = %domain.name, service = %domain.service, "custom domain gone");
        }
        Ok(Duration::ZERO)
    }

    /// Has a service's worker give up the names of a domain.
    async fn take_hosts(
        &self,
        domain: &CustomDomain,
        service: ServiceId,
    ) -> Result<Hosts, StoreError> {
        let names = domain.hosts();
        let take = move |stored: &mut StoredService| {
            // The first is the service's own.
            let own = stored.service.hosts.first().cloned();
            let stays = |host: &String| own.as_ref() == Some(host) || !names.contains(host);
            stored.service.hosts.retain(stays);
            Ok(())
        };
        self.change_hosts(service, take).await
    }

    /// Has a service's worker change its host names.
    async fn change_hosts(
        &self,
        service: ServiceId,
        change: impl FnOnce(&mut StoredService) -> Result<(), Infallible> + Send + 'static,
    ) -> Result<Hosts, StoreError> {
        match self.services.change(service, change).await {
            Ok(_) => Ok(Hosts::Changed),
            Err(ChangeError::Busy) => Ok(Hosts::NotNow),
            // A worker ends with its service, but also with the control plane.
            Err(ChangeError::Unknown) => Ok(match self.services.watch(service) {
                Some(snapshot) if !is_deleted(&snapshot.borrow()) => Hosts::NotNow,
                Some(_) | None => Hosts::OfNobody,
            }),
            Err(ChangeError::Store(error)) => Err(error),
        }
    }

    /// Waits a moment until a service's route is as wanted; answers whether it is.
    async fn routed(
        &self,
        service: ServiceId,
        wanted: impl Fn(&Option<Route>) -> bool,
        edge: Edge,
    ) -> bool {
        let Some(mut snapshots) = self.services.watch(service) else {
            return wanted(&None);
        };
        let all = async {
            let published = |snapshot: &Arc<Snapshot>| wanted(&snapshot.published);
            // An error: the worker has ended, and shows what it published last.
            let _ = snapshots.wait_for(published).await.map(drop);
            match edge {
                Edge::MayFollow => {}
                Edge::Serves => {
                    let (_, generation) = self.edges.published(service).await;
                    let mut state = self.edges.state();
                    let serves = state.wait_for(|state| state.serving >= Some(generation));
                    // It cannot end: `self` holds its sender.
                    let _ = serves.await.map(drop);
                }
            }
        };
        let in_time = tokio::time::timeout(ROUTE_WAIT, all).await.is_ok();
        in_time && wanted(&self.edges.published(service).await.0)
    }

    async fn apply(&self, domain: &CustomDomain, event: DomainEvent) -> Stepped {
        let now = clock::now();
        let apply = |domain: &mut CustomDomain| domain.apply(event, now);
        let moved = self
            .store
            .update_domain(domain.service, &domain.name, apply)
            .await?;
        if let Some(moved) = moved {
            log(&moved);
            if moved_on(&moved, domain) {
                self.tell(&moved).await;
            }
        }
        Ok(Duration::ZERO)
    }

    /// Says what became of an association. It is stored already: if this fails, it is not said, but so.
    async fn tell(&self, domain: &CustomDomain) {
        let Some(snapshot) = self.services.watch(domain.service) else {
            return;
        };
        let stored = Arc::clone(&snapshot.borrow().stored);
        let Some(news) = narrate_domain(&stored.service.name, domain, clock::now()) else {
            return;
        };
        match self.store.put_news(&stored.region, &news).await {
            Ok(()) => self.services.news_grew(),
            Err(error) => warn!(domain = %domain.name, error = %Chain(&error),
                "news of a custom domain could not be stored"),
        }
    }

    fn waits(&self, name: &DomainName, what: String) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.insert(name.clone(), what);
    }
}

/// Whether a service's host names were changed.
#[derive(Debug, Clone, Copy)]
enum Hosts {
    /// They are as asked, and stored.
    Changed,
    /// The service is deleted.
    OfNobody,
    /// Its worker cannot be asked now.
    NotNow,
}

/// Whether a change of routes has happened once it is stored, or once the edges serve by it.
#[derive(Debug, Clone, Copy)]
enum Edge {
    MayFollow,
    Serves,
}

impl Work {
    /// How long until a domain is due; `None` while a step of it is on its way.
    fn left(&self, one: &Unsettled, now: Timestamp) -> Option<Duration> {
        if self
            .under_way
            .values()
            .any(|other| other.domain == one.domain)
        {
            return None;
        }
        let due = self.due.get(&one.domain).filter(|due| due.of == *one);
        Some(due.map_or(Duration::ZERO, |due| due.at.since(now)))
    }

    fn is_full(&self, status: DomainStatus) -> bool {
        let looks = |one: &&Unsettled| one.status == DomainStatus::PendingCertificateDnsValidation;
        let looking = self.under_way.values().filter(looks).count();
        match status {
            DomainStatus::PendingCertificateDnsValidation => looking >= LOOKS_AT_ONCE_MAX,
            DomainStatus::Creating
            | DomainStatus::CreateFailed
            | DomainStatus::Active
            | DomainStatus::Deleting
            | DomainStatus::DeleteFailed
            | DomainStatus::BindingCertificate => {
                self.under_way.len() - looking >= STEPS_AT_ONCE_MAX
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, Stepped), JoinError>) {
        let (id, wait) = match ended {
            Ok((id, Ok(wait))) => (id, wait),
            Ok((id, Err(error))) => {
                let domain = self.under_way.get(&id).map(|one| &one.domain);
                warn!(domain = domain.map(tracing::field::display), error = %Chain(&error),
                    "a step of a custom domain failed and is tried again");
                (id, RETRY)
            }
            Err(error) => {
                warn!(%error, "a step of a custom domain broke and is tried again");
                (error.id(), RETRY)
            }
        };
        if let Some(of) = self.under_way.remove(&id) {
            let at = clock::now().plus(wait);
            self.due.insert(of.domain.clone(), Due { of, at });
        }
    }
}

fn is_deleted(snapshot: &Snapshot) -> bool {
    snapshot.stored.service.settled == ServiceStatus::Deleted
}

fn moved_on(now: &CustomDomain, before: &CustomDomain) -> bool {
    now.status != before.status
}

fn log(domain: &CustomDomain) {
    info!(domain = %domain.name, service = %domain.service, status = %domain.status,
        failure = domain.failure, "custom domain moved");
}

fn wait_for_record(record: &ValidationRecord, why: &NotFound) -> String {
    format!("`{}` {why}; wanted: CNAME `{}`", record.name, record.value)
}

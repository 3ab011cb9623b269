//! Pushes to git: deployments of the services that run a branch's code.
//!
//! A webhook, or the time to ask again, only makes one look: what is deployed is what the remote says its
//! branch is at. So a notice that is lost, comes twice or is made up changes nothing, and of many pushes
//! the last one is built.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ekiden_engine::Engine;
use ekiden_model::{
    id::{OperationId, ServiceId},
    service::{CommitDelivery, OperationKind, Service, ServiceStatus},
    source::CodeSource,
};
use ekiden_store::{Store, StoredService};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{api::deploys_by_itself, builds::Builds, clock, services::Services, worker::Chain};

/// Notices that wait to be looked after; whoever brings more is told to come again.
pub(crate) const NOTICES_WAITING_MAX: usize = 1024;

/// Remotes that are asked at one time.
const ASKED_MAX: usize = 8;

/// How often those are asked again who could not be, at the least.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// Revisions that are looked through for a commit: more than are kept.
const REVISIONS_LOOKED_MAX: u32 = 100;

/// How often it is looked whether a service whose operation is waited for is free.
const WAIT_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked who is to be asked, when nobody is.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Deploys what was pushed to git.
pub(crate) struct Commits<E> {
    pub(super) store: Arc<Store>,
    pub(super) services: Arc<Services<E>>,
    pub(super) builds: Arc<Builds<E>>,
    pub(super) poll: Duration,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// There is nothing more to do.
    Done,
    /// The service is busy; it is to be looked at when it is not.
    Busy,
    /// The remote could not be asked.
    Failed,
}

impl<E: Engine> Commits<E> {
    /// Looks after notices and asks remotes, until told to stop.
    pub(super) async fn keep(
        self: Arc<Self>,
        mut notices: mpsc::Receiver<ServiceId>,
        stop: CancellationToken,
    ) {
        let mut looks: JoinSet<(ServiceId, Looked)> = JoinSet::new();
        // Whom a look is on its way for, and whether another one is to follow it.
        let mut looking: HashMap<ServiceId, bool> = HashMap::new();
        let mut due: HashSet<ServiceId> = HashSet::new();
        let mut busy: HashSet<ServiceId> = HashSet::new();
        let mut failing: HashSet<ServiceId> = HashSet::new();
        // Once at the start in any case: a notice that was heard before it may not have been looked after.
        let mut asked: Option<Instant> = None;
        let mut tried: Instant = Instant::now();
        loop {
            let is_time = |at: Instant| !self.poll.is_zero() && at.elapsed() >= self.poll;
            if asked.is_none_or(is_time) {
                asked = Some(Instant::now());
                due.extend(self.followers());
            }
            if tried.elapsed() >= TRY_EVERY {
                tried = Instant::now();
                due.extend(failing.iter().copied());
            }
            let free = busy.iter().copied().filter(|id| !self.is_busy(*id));
            due.extend(free.collect::<Vec<_>>());
            for id in due.iter().copied().collect::<Vec<_>>() {
                if let Some(again) = looking.get_mut(&id) {
                    *again = true;
                    due.remove(&id);
                } else if looks.len() < ASKED_MAX {
                    due.remove(&id);
                    busy.remove(&id);
                    looking.insert(id, false);
                    let commits = Arc::clone(&self);
                    let is_news = !failing.contains(&id);
                    looks.spawn(async move { (id, commits.look(id, is_news).await) });
                }
            }
            let wait = if busy.is_empty() {
                LOOK_EVERY
            } else {
                WAIT_EVERY
            };
            tokio::select! {
                () = stop.cancelled() => return, // what is looked at is looked at again
                Some(looked) = looks.join_next() => { // cancel-safe per its docs
                    let Ok((id, looked)) = looked else { continue };
                    if looking.remove(&id) == Some(true) {
                        due.insert(id);
                    }
                    match looked {
                        Looked::Done => drop(failing.remove(&id)),
                        Looked::Busy => drop(busy.insert(id)),
                        Looked::Failed => drop(failing.insert(id)),
                    }
                }
                Some(id) = notices.recv() => drop(due.insert(id)), // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// The services whose branches are asked for.
    fn followers(&self) -> Vec<ServiceId> {
        let all = self.services.all();
        let follow = all.iter().filter(|snapshot| {
            follows(&snapshot.stored).is_some() && deploys_by_itself(&snapshot.stored)
        });
        follow.map(|snapshot| snapshot.stored.service.id).collect()
    }

    fn is_busy(&self, id: ServiceId) -> bool {
        let watched = self.services.watch(id);
        watched.is_some_and(|snapshot| {
            snapshot.borrow().stored.service.status() == ServiceStatus::OperationInProgress
        })
    }

    /// Asks what a service's branch is at, and deploys it if that is due.
    async fn look(&self, id: ServiceId, is_news: bool) -> Looked {
        let Some(watched) = self.services.watch(id) else {
            return Looked::Done;
        };
        let stored = Arc::clone(&watched.borrow().stored);
        let (Some(source), true) = (follows(&stored), deploys_by_itself(&stored)) else {
            return Looked::Done;
        };
        match may_deploy(&stored.service) {
            Some(true) => {}
            Some(false) => return Looked::Busy,
            None => return Looked::Done,
        }
        let commit = match self.builds.sources.head(source).await {
            Ok(commit) => commit,
            Err(problem) => {
                if is_news {
                    warn!(service = %stored.service.name, problem, "cannot tell whether a branch has moved");
                }
                return Looked::Failed;
            }
        };
        if is_delivered(&stored.service, source, Some(&commit)) {
            return Looked::Done;
        }
        let was_returned = is_delivered(&stored.service, source, None);
        let deploy = match self.is_new(&stored, source, &commit, was_returned).await {
            Ok(is_new) => is_new,
            Err(problem) => {
                warn!(service = %stored.service.name, problem, "cannot tell what a push changes");
                return Looked::Failed;
            }
        };
        match self.deliver(&stored, source.clone(), commit, deploy).await {
            true => Looked::Done,
            false if self.is_busy(id) => Looked::Busy,
            // It is not what it was, or the store failed.
            false => Looked::Failed,
        }
    }

    /// Whether a commit is another than the one that runs, and has other files where the service's are. Of a
    /// service that was returned, a commit that it has run is not new either.
    async fn is_new(
        &self,
        stored: &StoredService,
        source: &CodeSource,
        commit: &str,
        was_returned: bool,
    ) -> Result<bool, String> {
        let service = &stored.service;
        if was_returned {
            let kept = self
                .store
                .revisions(service.id, None, REVISIONS_LOOKED_MAX)
                .await;
            let kept = kept.map_err(|error| Chain(&error).to_string())?;
            let mut built = kept.iter().filter_map(|revision| revision.built.as_ref());
            if built.any(|built| built.version == commit) {
                return Ok(false);
            }
        }
        let Some(number) = service.active else {
            return Ok(true);
        };
        let revision = self.store.revision(service.id, number).await;
        let revision = revision.map_err(|error| Chain(&error).to_string())?;
        let Some(built) = revision.and_then(|revision| revision.built) else {
            return Ok(true);
        };
        if built.version == commit {
            return Ok(false);
        }
        if source.directory.is_empty() {
            return Ok(true);
        }
        let tree = self.builds.sources.tree_of(service.id, source).await?;
        Ok(built.tree.is_none() || built.tree != tree)
    }

    /// Begins a deployment and remembers for which commit, in one; whether the service took it.
    async fn deliver(
        &self,
        seen: &StoredService,
        source: CodeSource,
        commit: String,
        deploy: bool,
    ) -> bool {
        let (id, now) = (OperationId::from_bytes(clock::random_id()), clock::now());
        let name = seen.service.name.clone();
        let of = commit.clone();
        let change = move |stored: &mut StoredService| {
            let service = &mut stored.service;
            if service.settings.source.as_ref() != Some(&source) {
                return Err(());
            }
            if deploy {
                let kind = OperationKind::StartDeployment;
                service.accept(kind, None, id, now).map_err(drop)?;
            }
            service.delivered_commit = Some(CommitDelivery {
                url: source.url.clone(),
                branch: source.version.clone(),
                commit: Some(of),
            });
            // The last look: it may have been turned off.
            match deploys_by_itself(stored) {
                true => Ok(()),
                false => Err(()),
            }
        };
        let changed = self.services.change(seen.service.id, change).await;
        if deploy && changed.is_ok() {
            info!(service = %name, commit, "a push is deployed");
        }
        changed.is_ok()
    }
}

/// The remote whose branch a service follows, if it does.
fn follows(stored: &StoredService) -> Option<&CodeSource> {
    let source = stored.service.settings.source.as_ref();
    source.filter(|source| !source.is_upload())
}

/// Whether a service can be deployed by itself: now, later, or, when it does not run, not at all.
fn may_deploy(service: &Service) -> Option<bool> {
    match service.status() {
        ServiceStatus::Running => Some(true),
        ServiceStatus::OperationInProgress => {
            let operation = service.operation.as_ref();
            // If it ends otherwise, that is seen then.
            let ends_running = operation.is_some_and(|operation| match operation.kind {
                OperationKind::CreateService
                | OperationKind::UpdateService
                | OperationKind::StartDeployment
                | OperationKind::ResumeService => true,
                OperationKind::PauseService | OperationKind::DeleteService => false,
            });
            ends_running.then_some(false)
        }
        ServiceStatus::CreateFailed
        | ServiceStatus::Deleted
        | ServiceStatus::DeleteFailed
        | ServiceStatus::Paused => None,
    }
}

/// Whether it is remembered that a commit was delivered, or, without one, that the next is not to be.
fn is_delivered(service: &Service, source: &CodeSource, commit: Option<&str>) -> bool {
    let known = service.delivered_commit.as_ref();
    known.is_some_and(|known| {
        known.url == source.url
            && known.branch == source.version
            && known.commit.as_deref() == commit
    })
}

//! What follows from a push: deployments of the services that run a tag's image, images that a lifecycle
//! policy ends, and blobs that nothing needs any more.
//!
//! A deployment is due when a service runs, deploys by itself, and its tag stands for another image than
//! the one it runs, unless that was looked at before ([`Service::delivered`]). So a push during an
//! operation is deployed after it, of many the newest, none is forgotten by a restart, and one that fails
//! is not tried again and again. Pushes to git: [`code`].

mod code;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ekiden_engine::Engine;
use ekiden_model::{
    id::{OperationId, ServiceId},
    image::{Digest, ImageReference, ResolvedImage},
    lifecycle::{Candidate, Policy},
    repository::Repository,
    service::{Delivery, OperationKind, Service, ServiceStatus},
    time::Timestamp,
};
use ekiden_registry::Registry;
use ekiden_store::{
    Store, StoreError, StoredService,
    registry::{Reference, RepositoryChange},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::code::{Commits, NOTICES_WAITING_MAX};
use crate::{
    api::deploys_by_itself, builds::Builds, clock, config::RegistryConfig, services::Services,
    worker::Chain,
};

/// How often services are compared with their tags although nothing was pushed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The same while a service is to be deployed when its operation is over.
const WAIT_EVERY: Duration = Duration::from_millis(100);

/// How often lifecycle policies are gone by and unneeded blobs removed.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// Repositories read at a time.
const PAGE: u32 = 100;

/// The least time between two questions to other registries, however few services there are.
const POLL_PAUSE: Duration = Duration::from_secs(1);

/// Deploys what was pushed.
pub(crate) struct Deliveries<E> {
    images: Arc<Registry>,
    store: Arc<Store>,
    engine: Arc<E>,
    services: Arc<Services<E>>,
    config: RegistryConfig,
    commits: Arc<Commits<E>>,
}

/// Tells that there may be a new commit for a service.
pub(crate) type Notices = mpsc::Sender<ServiceId>;

/// What is to be done about a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It runs what its tag stands for, or that was tried.
    Nothing,
    /// It runs it, and that is to be remembered.
    Remember,
    /// It is to be deployed.
    Deploy,
    /// It is to be deployed when its operation is over.
    Later,
}

impl<E: Engine> Deliveries<E> {
    pub(crate) fn new(
        images: Arc<Registry>,
        store: Arc<Store>,
        engine: Arc<E>,
        services: Arc<Services<E>>,
        builds: Arc<Builds<E>>,
        config: RegistryConfig,
        poll_code: Duration,
    ) -> Self {
        let commits = Arc::new(Commits {
            store: Arc::clone(&store),
            services: Arc::clone(&services),
            builds,
            poll: poll_code,
        });
        Self {
            commits,
            images,
            store,
            engine,
            services,
            config,
        }
    }

    /// Begins all of its work, which goes on until told to stop.
    pub(crate) fn spawn(self: Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) -> Notices {
        let (notices, noticed) = mpsc::channel(NOTICES_WAITING_MAX);
        tasks.spawn(Arc::clone(&self.commits).keep(noticed, stop.clone()));
        tasks.spawn(Arc::clone(&self).keep(stop.clone()));
        tasks.spawn(Arc::clone(&self).poll(stop.clone()));
        tasks.spawn(self.collect(stop.clone()));
        notices
    }

    /// Compares services with the tags of the built-in registry.
    async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut moved = self.images.moved();
        // Those whose operation is waited for: they are looked at alone, and often.
        let mut later = HashSet::new();
        let mut looked: Option<Instant> = None;
        loop {
            let is_due = looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
            let all = is_due || moved.has_changed().unwrap_or(false);
            if all {
                moved.borrow_and_update();
                looked = Some(Instant::now());
            }
            later = self.look(all, later).await.unwrap_or_else(|error| {
                warn!(error = %Chain(&error), "services cannot be compared with their tags");
                HashSet::new()
            });
            let wait = match later.is_empty() {
                true => LOOK_EVERY,
                false => WAIT_EVERY,
            };
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                _ = moved.changed() => moved.mark_changed(), // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// Asks other registries what the tags of services stand for, until told to stop.
    async fn poll(self: Arc<Self>, stop: CancellationToken) {
        let every = self.config.poll_others;
        if every.is_zero() {
            return;
        }
        // Those that failed when they were last asked: nobody is told twice.
        let mut failing = HashSet::new();
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: a question may be asked again
                () = self.ask_others(&mut failing) => every.max(POLL_PAUSE),
            };
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// Goes by lifecycle policies and removes what nothing needs.
    async fn collect(self: Arc<Self>, stop: CancellationToken) {
        loop {
            if let Err(error) = expire(&self.store).await {
                warn!(error = %Chain(&error), "lifecycle policies cannot be gone by");
            }
            if let Err(error) = self.images.collect().await {
                warn!(error = %Chain(&error), "the registry cannot remove what nothing needs");
            }
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                () = tokio::time::sleep(COLLECT_EVERY) => {} // a timer
            }
        }
    }

    /// One after another: it may take as long as it does.
    async fn ask_others(&self, failing: &mut HashSet<ImageReference>) {
        let mut asked: HashMap<ImageReference, Option<ResolvedImage>> = HashMap::new();
        for snapshot in self.services.all() {
            let stored = &snapshot.stored;
            let image = &stored.service.settings.image;
            let follows = image.digest.is_none() && !image.is_local();
            if !follows || self.config.repository(image).is_some() || !deploys_by_itself(stored) {
                continue;
            }
            if !asked.contains_key(image) {
                let resolved = self.engine.resolve_image(image).await;
                match &resolved {
                    Ok(_) => drop(failing.remove(image)),
                    Err(error) if failing.insert(image.clone()) => {
                        warn!(%image, %error, "cannot tell whether an image was pushed");
                    }
                    Err(_) => {}
                }
                asked.insert(image.clone(), resolved.ok());
            }
            let Some(Some(resolved)) = asked.get(image) else {
                continue;
            };
            let runs = match self.image_of(&stored.service).await {
                Ok(None) => false,
                Ok(Some(runs)) => runs.is_known(&stored.service) || runs.image == resolved.image,
                Err(error) => {
                    warn!(error = %Chain(&error), "services cannot be compared with their tags");
                    return;
                }
            };
            // What is not done is done the next time.
            self.settle(stored, resolved.named, runs).await;
        }
        failing.retain(|image| asked.contains_key(image));
    }

    /// Compares services with their tags, all or only these; answers whose operation is waited for.
    async fn look(
        &self,
        all: bool,
        only: HashSet<ServiceId>,
    ) -> Result<HashSet<ServiceId>, StoreError> {
        let mut later = HashSet::new();
        for snapshot in self.services.all() {
            let stored = &snapshot.stored;
            let (id, image) = (stored.service.id, &stored.service.settings.image);
            if !all && !only.contains(&id) {
                continue;
            }
            let Some(repository) = self.config.repository(image) else {
                continue;
            };
            let (Some(tag), None) = (&image.tag, image.digest) else {
                continue; // it asks for one image, and no other
            };
            if !deploys_by_itself(stored) {
                continue;
            }
            let Some(pushed) = self.store.tagged_image(repository, tag).await? else {
                continue;
            };
            if due(&stored.service, pushed, false) == Due::Nothing {
                continue;
            }
            let runs = self.runs(&stored.service, repository, pushed).await?;
            if !self.settle(stored, pushed, runs).await {
                later.insert(id);
            }
        }
        Ok(later)
    }

    /// Whether a service runs an image, or one that an index of it names.
    async fn runs(
        &self,
        service: &Service,
        repository: &str,
        pushed: Digest,
    ) -> Result<bool, StoreError> {
        let Some(runs) = self.image_of(service).await? else {
            return Ok(false);
        };
        if runs.image == pushed || runs.is_known(service) {
            return Ok(true);
        }
        let found = self.store.manifest(repository, Reference::Digest(pushed));
        let Some(found) = found.await? else {
            return Ok(false);
        };
        let media_type = Some(found.record.media_type.as_str());
        let read = ekiden_registry::manifest::read(media_type, &found.content, clock::now());
        Ok(read.is_ok_and(|index| index.manifests.contains(&runs.image)))
    }

    /// The image that a service runs.
    async fn image_of(&self, service: &Service) -> Result<Option<Runs>, StoreError> {
        let Some(number) = service.active else {
            return Ok(None);
        };
        let revision = self.store.revision(service.id, number).await?;
        Ok(revision.map(|revision| Runs {
            image: revision.image.digest,
            is_return: revision.copy_of.is_some(),
        }))
    }

    /// Does what is due of a service whose tag stands for `pushed`; whether nothing is left to do.
    async fn settle(&self, stored: &Arc<StoredService>, pushed: Digest, runs: bool) -> bool {
        match due(&stored.service, pushed, runs) {
            Due::Nothing => true,
            Due::Later => false,
            Due::Remember => self.deliver(stored, pushed, false).await,
            Due::Deploy => self.deliver(stored, pushed, true).await,
        }
    }

    /// Begins a deployment and remembers for which image, in one; whether the service took it. It does not
    /// when it is not what was looked at any more.
    async fn deliver(&self, seen: &Arc<StoredService>, pushed: Digest, deploy: bool) -> bool {
        let (id, now) = (OperationId::from_bytes(clock::random_id()), clock::now());
        let before = Arc::clone(seen);
        let change = move |stored: &mut StoredService| {
            let (service, before) = (&mut stored.service, &before.service);
            let is_as_seen = service.settings.image == before.settings.image
                && service.active == before.active
                && service.delivered == before.delivered;
            if !is_as_seen {
                return Err(());
            }
            if deploy {
                let kind = OperationKind::StartDeployment;
                service.accept(kind, None, id, now).map_err(drop)?;
            }
            service.delivered = Some(Delivery {
                image: service.settings.image.clone(),
                named: Some(pushed),
            });
            // The last look: it may have been turned off.
            match deploys_by_itself(stored) {
                true => Ok(()),
                false => Err(()),
            }
        };
        let changed = self.services.change(seen.service.id, change).await;
        if deploy && changed.is_ok() {
            info!(service = %seen.service.name, image = %pushed, "a push is deployed");
        }
        changed.is_ok()
    }
}

/// What a service runs.
#[derive(Debug, Clone, Copy)]
struct Runs {
    image: Digest,
    /// It was returned to.
    is_return: bool,
}

impl Runs {
    /// Whether it stays, although nothing was remembered of it: it was returned to before anything was.
    const fn is_known(self, service: &Service) -> bool {
        self.is_return && service.delivered.is_none()
    }
}

/// What is to be done about a service whose tag stands for `pushed`.
fn due(service: &Service, pushed: Digest, runs: bool) -> Due {
    let image = &service.settings.image;
    let known = service
        .delivered
        .as_ref()
        .filter(|known| known.image == *image);
    if known.is_some_and(|known| known.named == Some(pushed)) {
        return Due::Nothing;
    }
    let was_returned = known.is_some_and(|known| known.named.is_none());
    match service.status() {
        // It may deploy what is pushed now; if not, that is seen when it is over.
        ServiceStatus::OperationInProgress if service.settled == ServiceStatus::Running => {
            Due::Later
        }
        ServiceStatus::Running if runs || was_returned => Due::Remember,
        ServiceStatus::Running => Due::Deploy,
        // Whoever does not run is never deployed by itself.
        ServiceStatus::OperationInProgress
        | ServiceStatus::CreateFailed
        | ServiceStatus::Deleted
        | ServiceStatus::DeleteFailed
        | ServiceStatus::Paused => Due::Nothing,
    }
}

/// Removes the images that policies say are over.
async fn expire(store: &Store) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let repositories = store.repositories(&after, PAGE).await?;
        let Some(last) = repositories.last() else {
            return Ok(());
        };
        after.clone_from(&last.name);
        for repository in repositories {
            let policy = repository.lifecycle.as_deref();
            // One that cannot be read was refused when it came.
            if let Some(Ok(policy)) = policy.map(serde_json::from_str::<Policy>) {
                expire_in(store, &repository, &policy, clock::now()).await?;
            }
        }
    }
}

async fn expire_in(
    store: &Store,
    repository: &Repository,
    policy: &Policy,
    now: Timestamp,
) -> Result<(), StoreError> {
    let name = &repository.name;
    let mut candidates = Vec::new();
    for image in store.images_of(name).await? {
        candidates.push(Candidate {
            digest: image.record.digest,
            referenced: store.is_referenced(name, image.record.digest).await?,
            pushed_at: image.record.pushed_at,
            tags: image.tags,
        });
    }
    for digest in policy.expired(&candidates, now) {
        let tags = candidates.iter().find(|image| image.digest == digest);
        let tags = tags.map_or(&[][..], |image| &image.tags);
        // One that was given a tag meanwhile, or is named by an index, is looked at the next time.
        if store.remove_image(name, digest, tags).await? {
            info!(repository = name, image = %digest, "an image's lifecycle is over");
        }
    }
    let evaluated = |there: Option<Repository>, _, _| match there {
        None => Ok::<_, ()>((RepositoryChange::None, ())),
        Some(mut there) => {
            there.lifecycle_evaluated_at = Some(now);
            Ok((RepositoryChange::Put(Box::new(there)), ()))
        }
    };
    // There is nothing that it could refuse.
    let _ = store.change_repository(name, evaluated).await?;
    Ok(())
}

//! What follows from a push: deployments of the services that run a tag's image, images that a lifecycle
//! policy ends, and blobs that nothing needs any more.
//!
//! A deployment is due when a service runs, deploys by itself, and its tag stands for another image than
//! the one it runs, unless that was looked at before ([`Service::delivered`]). So a push during an
//! operation is deployed after it, of many the newest, none is forgotten by a restart, and one that fails
//! is not tried again and again.

use std::{sync::Arc, time::Duration};

use ekiden_engine::Engine;
use ekiden_model::{
    id::OperationId,
    image::Digest,
    lifecycle::{Candidate, Policy},
    repository::Repository,
    service::{OperationKind, Service, ServiceStatus},
    time::Timestamp,
};
use ekiden_registry::Registry;
use ekiden_store::{
    Store, StoreError, StoredService,
    registry::{Reference, RepositoryChange},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::deploys_by_itself, clock, config::RegistryConfig, services::Services, worker::Chain,
};

/// How often services are compared with their tags although nothing was pushed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The same while a service is to be deployed when its operation is over.
const WAIT_EVERY: Duration = Duration::from_millis(100);

/// How often lifecycle policies are gone by and unneeded blobs removed.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// Repositories read at a time.
const PAGE: u32 = 100;

/// Deploys what was pushed.
pub(crate) struct Deliveries<E> {
    images: Arc<Registry>,
    store: Arc<Store>,
    services: Arc<Services<E>>,
    config: RegistryConfig,
}

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
    pub(crate) const fn new(
        images: Arc<Registry>,
        store: Arc<Store>,
        services: Arc<Services<E>>,
        config: RegistryConfig,
    ) -> Self {
        Self {
            images,
            store,
            services,
            config,
        }
    }

    /// Works until told to stop.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut moved = self.images.moved();
        loop {
            moved.borrow_and_update();
            let wait = self.look().await.unwrap_or_else(|error| {
                warn!(error = %Chain(&error), "services cannot be compared with their tags");
                LOOK_EVERY
            });
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                _ = moved.changed() => {} // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// Compares every service with its tag; answers when to look again.
    async fn look(&self) -> Result<Duration, StoreError> {
        let mut wait = LOOK_EVERY;
        for snapshot in self.services.all() {
            let stored = &snapshot.stored;
            let image = &stored.service.settings.image;
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
            let runs = self.runs(stored, repository, pushed).await?;
            match due(&stored.service, pushed, runs) {
                Due::Nothing => {}
                Due::Later => wait = WAIT_EVERY,
                due @ (Due::Remember | Due::Deploy) => {
                    if !self.deliver(stored, pushed, due == Due::Deploy).await {
                        wait = WAIT_EVERY;
                    }
                }
            }
        }
        Ok(wait)
    }

    /// Whether a service runs an image, or one that an index of it names.
    async fn runs(
        &self,
        stored: &StoredService,
        repository: &str,
        pushed: Digest,
    ) -> Result<bool, StoreError> {
        let service = &stored.service;
        let Some(number) = service.active else {
            return Ok(false);
        };
        if service.delivered == Some(pushed) {
            return Ok(true); // which of the two does not matter then
        }
        let revision = self.store.revision(service.id, number).await?;
        let Some(runs) = revision.map(|revision| revision.image.digest) else {
            return Ok(false);
        };
        if runs == pushed {
            return Ok(true);
        }
        let found = self.store.manifest(repository, Reference::Digest(pushed));
        let content = found.await?.map(|found| found.content).unwrap_or_default();
        let read = ekiden_registry::manifest::read(None, &content, clock::now());
        Ok(read.is_ok_and(|index| index.manifests.contains(&runs)))
    }

    /// Begins a deployment and remembers for which image, in one; whether the service took it.
    async fn deliver(&self, stored: &StoredService, pushed: Digest, deploy: bool) -> bool {
        let (id, now) = (OperationId::from_bytes(clock::random_id()), clock::now());
        let change = move |stored: &mut StoredService| {
            if deploy {
                let kind = OperationKind::StartDeployment;
                stored.service.accept(kind, None, id, now).map_err(drop)?;
            }
            stored.service.delivered = Some(pushed);
            Ok::<_, ()>(())
        };
        let changed = self.services.change(stored.service.id, change).await;
        if deploy && changed.is_ok() {
            info!(service = %stored.service.name, image = %pushed, "a push is deployed");
        }
        changed.is_ok()
    }
}

/// What is to be done about a service whose tag stands for `pushed`.
fn due(service: &Service, pushed: Digest, runs: bool) -> Due {
    if service.delivered == Some(pushed) {
        return Due::Nothing;
    }
    match (service.status(), runs) {
        (ServiceStatus::OperationInProgress, _) => match service.settled {
            // Its operation may end it, or deploys what is pushed now.
            ServiceStatus::Running => Due::Later,
            _ => Due::Nothing,
        },
        (ServiceStatus::Running, true) => Due::Remember,
        (ServiceStatus::Running, false) => Due::Deploy,
        // Whoever does not run is never deployed by itself.
        (_, _) => Due::Nothing,
    }
}

/// Goes by lifecycle policies and removes what nothing needs, until told to stop.
pub(crate) async fn collect(images: Arc<Registry>, store: Arc<Store>, stop: CancellationToken) {
    loop {
        if let Err(error) = expire(&store).await {
            warn!(error = %Chain(&error), "lifecycle policies cannot be gone by");
        }
        if let Err(error) = images.collect().await {
            warn!(error = %Chain(&error), "the registry cannot remove what nothing needs");
        }
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(COLLECT_EVERY) => {} // a timer
        }
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
        store
            .remove_manifest(name, Reference::Digest(digest))
            .await?;
        info!(repository = name, image = %digest, "an image's lifecycle is over");
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

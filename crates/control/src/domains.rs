//! Custom domains: who has which, and the keeper that brings each to its end.
//!
//! Everything about an association is in the store. The API writes that one was asked for, or asked
//! to go; all the rest is the keeper's ([`Domains::keep`]), which looks at what is unsettled and
//! takes the next step of each. It is woken when something was asked and looks again by itself, and
//! a control plane that was killed anywhere goes on by looking.
//!
//! A domain's names become the service's by its `hosts`, which its worker keeps and its route
//! carries; the keeper only asks the worker. The order of writes makes sure that a name never leads
//! to two services, or to one that does not own it:
//!
//! 1. To come: the association is `binding_certificate` (stored), then the names are among the
//!    service's hosts (stored), then in its route (stored under a generation, and sent), then the
//!    edges serve by that generation, then they present a certificate, then it is `active`.
//! 2. To go: it is `deleting` (stored), then the names are out of the service's hosts, then out of
//!    its route, then the association is gone. Until then the store refuses the names to every
//!    other service. So who had a name loses it in an earlier generation than the one in which
//!    another gets it, and an edge takes generations in their order: whatever it has heard of, a
//!    name has one owner. It need not have heard of either for the next step.
//!
//! A name that one service has by a wildcard and another gets for itself is never without a route
//! in between: the wildcard's stays, and an edge looks at it only when nobody has the name itself.
//! A name that is disassociated from one service and associated with another is nobody's in
//! between, because its owner said so. One that is moved is not: the association is the other
//! service's first (stored), and the generation that gives that one the name takes it from the first
//! ([`Edges::publish`]).
//!
//! `binding_certificate` waits for the route and then for the certificate of the names, if one is
//! wanted, to be with the edges ([`Domains::bind`]).

mod dns;
mod keeper;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ekiden_model::{
    domain::{CustomDomain, DomainEvent, ValidationToken},
    domain_name::DomainName,
    id::ServiceId,
};
use ekiden_store::{
    Store, StoreError,
    domains::{CreateDomainError, Holder},
};
use tokio::sync::Notify;

use self::dns::NameServers;
use crate::{
    DomainValidation, certificates::Certificates, clock, edges::Edges, keyring::Keyring,
    services::Services,
};

/// Every custom domain of the installation.
pub(crate) struct Domains<E> {
    store: Arc<Store>,
    services: Arc<Services<E>>,
    edges: Arc<Edges>,
    keyring: Arc<Keyring>,
    certificates: Arc<Certificates>,
    validation: Validation,
    /// Told when something was asked for.
    asked: Notify,
    /// What each domain waits for, for people; nothing is decided by it.
    waits: Mutex<HashMap<DomainName, String>>,
}

/// How records are found.
#[derive(Debug, Clone, Copy)]
enum Validation {
    Assumed,
    Dns(NameServers),
}

impl From<DomainValidation> for Validation {
    fn from(configured: DomainValidation) -> Self {
        match configured {
            DomainValidation::Assumed => Self::Assumed,
            DomainValidation::Dns => Self::Dns(NameServers::Host),
            DomainValidation::DnsAt(server) => Self::Dns(NameServers::One(server)),
        }
    }
}

impl<E> Domains<E> {
    pub(crate) fn new(
        store: Arc<Store>,
        services: Arc<Services<E>>,
        edges: Arc<Edges>,
        keyring: Arc<Keyring>,
        certificates: Arc<Certificates>,
        validation: DomainValidation,
    ) -> Self {
        Self {
            store,
            services,
            edges,
            keyring,
            certificates,
            validation: validation.into(),
            asked: Notify::new(),
            waits: Mutex::default(),
        }
    }

    /// Stores a new association; the keeper goes on with it.
    pub(crate) async fn associate(
        &self,
        service: ServiceId,
        name: DomainName,
        www: bool,
        count_max: u64,
    ) -> Result<CustomDomain, CreateDomainError> {
        let token = |name: &str| self.token(name);
        let domain = CustomDomain::new(name, www, service, token, clock::now());
        self.store.create_domain(&domain, count_max).await?;
        self.asked.notify_one();
        Ok(domain)
    }

    /// Stores that an association is to go; the keeper goes on with it. `None` if the service has
    /// no such domain.
    pub(crate) async fn disassociate(
        &self,
        service: ServiceId,
        name: &DomainName,
    ) -> Result<Option<CustomDomain>, StoreError> {
        let now = clock::now();
        let gone = |domain: &mut CustomDomain| domain.apply(DomainEvent::Disassociated, now);
        let moved = self.store.update_domain(service, name, gone).await?;
        self.asked.notify_one();
        Ok(moved)
    }

    /// Stores that an association is another service's; the keeper brings its names there. `None` if
    /// `from` has no such domain that is active.
    pub(crate) async fn move_to(
        &self,
        name: &DomainName,
        from: ServiceId,
        to: ServiceId,
        count_max: u64,
    ) -> Result<Option<CustomDomain>, CreateDomainError> {
        let moved = self
            .store
            .move_domain(name, from, to, count_max, clock::now())
            .await?;
        self.asked.notify_one();
        Ok(moved)
    }

    /// A service's domains, oldest first.
    pub(crate) async fn of(&self, service: ServiceId) -> Result<Vec<CustomDomain>, StoreError> {
        self.store.domains_of(service).await
    }

    /// The association that has a host name.
    pub(crate) async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        self.store.domain_holder(name).await
    }

    /// What a domain waits for now, as a sentence.
    pub(crate) fn waits_for(&self, name: &DomainName) -> Option<String> {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.get(name).cloned()
    }

    /// What proves a name. Made of the name and the installation's key, so that a domain that is
    /// associated again, with whichever service, has the records it had.
    fn token(&self, name: &str) -> ValidationToken {
        let label = self.keyring.sign("domain validation", name.as_bytes());
        let zone = self.keyring.sign("domain validation zone", name.as_bytes());
        let (mut token_name, mut value, mut letters) = ([0; 16], [0; 16], [0; 10]);
        token_name.copy_from_slice(&label[..16]);
        value.copy_from_slice(&label[16..]);
        letters.copy_from_slice(&zone[..10]);
        ValidationToken {
            name: token_name,
            value,
            zone: letters,
        }
    }
}

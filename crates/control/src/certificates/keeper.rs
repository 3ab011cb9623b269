//! The keeper: one task that gets what is wanted and is not there, and tells the edges.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use ekiden_model::{
    certificate::{Authority, Due, Source, Wanted},
    id::CertificateId,
    route::EdgeCertificate,
    time::Timestamp,
};
use ekiden_store::{StoreError, certificates::StoredAttempts};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Certificates, Loaded, acme::AcmeError, matches, parse, presented};
use crate::{clock, edges::Presented, worker::Chain};

/// Certificates that are got from other authorities at once.
const ORDERS_AT_ONCE_MAX: usize = 4;

/// How long one attempt may take. It goes on where it was cut off.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(300);

/// How long until the keeper looks again after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// The longest the keeper sleeps.
const IDLE: Duration = Duration::from_secs(3600);

/// Changes of routes within so long are looked at once.
const ROUTES_SETTLE: Duration = Duration::from_millis(200);

/// How long a name that a client asked for is wanted without a certificate.
const ASKED_FOR: Duration = Duration::from_secs(600);

/// New names that clients ask for, per hour; more wait for another hour.
const ON_DEMAND_PER_HOUR: usize = 60;

/// How often authorities are asked when they would renew (RFC 9773, section 4.3.3, suggests hours).
const RENEWAL_ASK: Duration = Duration::from_secs(6 * 3600);

/// How often a certificate's near end is told in the log.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The region whose services have HTTPS before there are any.
const FIRST_REGION: &str = "us-east-1";

/// What the keeper remembers; nothing is lost with it.
#[derive(Default)]
struct Work {
    orders: JoinSet<String>,
    under_way: HashSet<String>,
    warned: HashMap<CertificateId, Instant>,
    renewal_asked: HashMap<CertificateId, Instant>,
}

impl Certificates {
    /// Keeps certificates until told to stop. `names` are those that clients wait for.
    ///
    /// A step may be cut off anywhere: each begins by looking at what is stored.
    pub(crate) async fn keep(
        self: Arc<Self>,
        mut names: mpsc::Receiver<String>,
        stop: CancellationToken,
    ) {
        let mut work = Work::default();
        let mut edges = self.edges.state();
        loop {
            let wait = match self.begin(&mut work).await {
                Ok(wait) => wait,
                Err(error) => {
                    warn!(error = %Chain(&error), "certificates could not be looked after and are tried again");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: every step is found again
                () = self.changed.notified() => {} // cancel-safe per its docs
                Some(name) = names.recv() => self.ask_for(name).await, // cancel-safe per its docs
                Some(ended) = work.orders.join_next() => { // cancel-safe per its docs
                    if let Ok(key) = ended {
                        work.under_way.remove(&key);
                    } else {
                        work.under_way.clear();
                    }
                }
                // It cannot end: `self` holds its sender.
                _ = edges.changed() => tokio::time::sleep(ROUTES_SETTLE).await, // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// Everything that is wanted.
    pub(super) async fn wanted(&self) -> Result<Vec<Wanted>, StoreError> {
        let mut wanted = Vec::new();
        if !self.config.listening {
            return Ok(wanted);
        }
        let hosts = self.edges.hosts().await;
        let below = format!(".{}", self.domain);
        let mut parents = BTreeSet::from([format!("{FIRST_REGION}{below}")]);
        parents.extend(
            hosts
                .iter()
                .filter(|host| host.ends_with(&below))
                .filter_map(|host| {
                    let (_, parent) = host.split_once('.')?;
                    Some(parent.to_owned())
                }),
        );
        let acme = self.config.acme.as_ref();
        let authority = match acme.is_some_and(|acme| acme.default_domain) {
            true => Authority::Acme,
            false => Authority::Local,
        };
        wanted.extend(parents.into_iter().map(|parent| Wanted {
            names: vec![format!("*.{parent}")],
            authority,
            on_demand: false,
        }));
        let domains = self.store.certified_domains().await?;
        wanted.extend(
            domains
                .into_iter()
                .filter_map(|names| self.wanted_for(names)),
        );
        let single = self.on_demand_names(&hosts);
        wanted.extend(single.into_iter().map(|name| Wanted {
            names: vec![name],
            authority: Authority::Acme,
            on_demand: true,
        }));
        Ok(wanted)
    }

    /// Names that clients asked for lately or that have a certificate for it, that still match and
    /// still lead somewhere.
    fn on_demand_names(&self, hosts: &HashSet<String>) -> BTreeSet<String> {
        let Some(acme) = &self.config.acme else {
            return BTreeSet::new();
        };
        let now = clock::now();
        let mut asked = self
            .asked_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, at| now.since(*at) < Duration::from_secs(3600));
        let fresh = asked
            .iter()
            .filter(|(_, at)| now.since(**at) < ASKED_FOR)
            .map(|(name, _)| name.clone());
        let there = self.there();
        let made = there
            .iter()
            .filter(|loaded| loaded.certificate.on_demand)
            .flat_map(|loaded| loaded.certificate.names.iter().cloned());
        fresh
            .chain(made)
            .filter(|name| matches(&acme.on_demand, name) && leads_somewhere(hosts, name))
            .collect()
    }

    /// Takes in that a client waits for a certificate of a name.
    async fn ask_for(&self, name: String) {
        let Some(acme) = &self.config.acme else {
            return;
        };
        if !matches(&acme.on_demand, &name) || !leads_somewhere(&self.edges.hosts().await, &name) {
            return;
        }
        let mut asked = self
            .asked_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if asked.contains_key(&name) || asked.len() < ON_DEMAND_PER_HOUR {
            asked.insert(name, clock::now());
        } else {
            warn!(%name, "too many new names want a certificate; it is tried again within the hour");
        }
    }

    /// Begins everything that is due; answers how long to wait at most.
    async fn begin(self: &Arc<Self>, work: &mut Work) -> Result<Duration, StoreError> {
        let now = clock::now();
        let wanted = self.wanted().await?;
        let attempts = self.store.certificate_attempts().await?;
        let mut next = now.plus(IDLE);
        for one in &wanted {
            let key = one.key();
            let stored = attempts.get(&key).cloned().unwrap_or_default();
            let there: Vec<_> = self
                .there()
                .into_iter()
                .map(|one| one.certificate)
                .collect();
            match one.due(&there, &stored.attempts, now) {
                Due::Never => {}
                Due::At(at) => next = next.min(at),
                Due::Now => match one.authority {
                    Authority::Local => self.issue(one, stored, now).await?,
                    Authority::Acme => {
                        if work.under_way.len() < ORDERS_AT_ONCE_MAX && work.under_way.insert(key) {
                            let (this, one) = (Arc::clone(self), one.clone());
                            work.orders
                                .spawn(async move { this.order(one, stored).await });
                        }
                    }
                },
            }
        }
        self.forget_others(&wanted, attempts.keys(), now).await?;
        self.publish_wanted(&wanted).await;
        self.warn(work, now);
        self.ask_renewal(work);
        Ok(next.since(now).max(Duration::from_millis(100)))
    }

    /// Has the local authority issue one.
    async fn issue(
        &self,
        wanted: &Wanted,
        mut stored: StoredAttempts,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let issued = self.local.issue(&wanted.names, now);
        let made = issued
            .map_err(|error| Chain(&error).to_string())
            .and_then(|(chain, key)| {
                let parsed = parse::read(&chain).map_err(|error| error.to_string())?;
                let certificate = parsed.certificate(Source::Local, wanted.on_demand);
                Ok(Loaded {
                    certificate,
                    chain,
                    key,
                })
            });
        match made {
            Ok(loaded) => self.got(wanted, loaded).await,
            Err(reason) => {
                warn!(names = ?wanted.names, reason, "the local authority cannot issue a certificate");
                stored.attempts.failed(reason, now, rand::random());
                let key = wanted.key();
                self.store
                    .put_certificate_attempts(&key, Some(&stored))
                    .await
            }
        }
    }

    /// Gets one from another authority; answers what it was for.
    async fn order(self: Arc<Self>, wanted: Wanted, stored: StoredAttempts) -> String {
        let key = wanted.key();
        let obtained = tokio::time::timeout(ATTEMPT_LIMIT, self.obtain(&wanted, stored));
        let obtained = obtained
            .await
            .unwrap_or(Err(AcmeError::TooLong(ATTEMPT_LIMIT.as_secs())));
        self.end_challenges(&key).await;
        let done = match obtained {
            Ok(loaded) => self.got(&wanted, loaded).await,
            Err(error) => self.order_failed(&wanted, &error).await,
        };
        if let Err(error) = done {
            warn!(names = ?wanted.names, error = %Chain(&error), "what became of a certificate could not be stored");
        }
        key
    }

    async fn order_failed(&self, wanted: &Wanted, error: &AcmeError) -> Result<(), StoreError> {
        let mut stored = self.attempts(wanted).await?;
        let reason = Chain(error).to_string();
        stored
            .attempts
            .failed(reason.clone(), clock::now(), rand::random());
        stored.sealed = None;
        warn!(names = ?wanted.names, failures = stored.attempts.failures, reason,
            "a certificate could not be had; what is there is served on");
        self.store
            .put_certificate_attempts(&wanted.key(), Some(&stored))
            .await
    }

    /// Takes in a new certificate in the place of those before.
    async fn got(&self, wanted: &Wanted, loaded: Loaded) -> Result<(), StoreError> {
        info!(names = ?wanted.names, certificate = %loaded.certificate.id,
            serial = loaded.certificate.serial, "a new certificate");
        let replaced = |one: &Loaded| {
            one.certificate.source != Source::Imported && one.certificate.names == wanted.names
        };
        let replaces: Vec<_> = self
            .there()
            .iter()
            .filter(|one| replaced(one))
            .map(|one| one.certificate.id)
            .collect();
        self.keep_one(loaded, &replaces, Some(&wanted.key())).await
    }

    /// Forgets certificates that nobody wants and that have ended (until then one may be wanted
    /// again), and attempts that nobody wants to succeed.
    async fn forget_others(
        &self,
        wanted: &[Wanted],
        attempts: impl Iterator<Item = &String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let useless = |loaded: &Loaded| {
            let certificate = &loaded.certificate;
            let is_wanted = wanted.iter().any(|one| one.names == certificate.names);
            certificate.source != Source::Imported && certificate.not_after <= now && !is_wanted
        };
        for loaded in self.there().iter().filter(|loaded| useless(loaded)) {
            let id = loaded.certificate.id;
            self.store.remove_certificate(id).await?;
            self.change(|there| there.retain(|one| one.certificate.id != id));
        }
        let keys: HashSet<_> = wanted.iter().map(Wanted::key).collect();
        for key in attempts.filter(|key| !keys.contains(*key)) {
            self.store.put_certificate_attempts(key, None).await?;
        }
        Ok(())
    }

    /// Tells the edges what to present now.
    pub(super) async fn publish(&self) -> Result<(), StoreError> {
        let wanted = self.wanted().await?;
        self.publish_wanted(&wanted).await;
        Ok(())
    }

    async fn publish_wanted(&self, wanted: &[Wanted]) {
        let mut published = self.published.lock().await;
        let there = self.there();
        let names = presented(&there, wanted, clock::now());
        let first = format!("*.{FIRST_REGION}.{}", self.domain);
        let default = names
            .iter()
            .find(|(_, names)| names.contains(&first))
            .map(|(id, _)| *id);
        let certificates = there.into_iter().filter_map(|loaded| {
            let id = loaded.certificate.id;
            let certificate = EdgeCertificate {
                id,
                names: names.get(&id)?.clone(),
                chain: loaded.chain,
                key: loaded.key,
            };
            Some((id, certificate))
        });
        let challenges = {
            let challenges = self
                .challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            challenges.values().flatten().cloned().collect()
        };
        let acme = self.config.acme.as_ref();
        let next = Presented {
            certificates: certificates.collect(),
            default,
            challenges,
            on_demand: acme.map(|acme| acme.on_demand.clone()).unwrap_or_default(),
        };
        *published = self.edges.present(next).await;
    }

    /// Says in the log which certificates are about to end.
    fn warn(&self, work: &mut Work, now: Timestamp) {
        work.warned.retain(|_, at| at.elapsed() < WARN_EVERY);
        for Loaded { certificate, .. } in self.there() {
            if let Some(warning) = certificate.warning(now)
                && !work.warned.contains_key(&certificate.id)
            {
                warn!(certificate = %certificate.id, names = ?certificate.names, warning,
                    "a certificate needs attention; `ekiden certificate ls` says why");
                work.warned.insert(certificate.id, Instant::now());
            }
        }
    }

    /// Asks the authorities when they would renew.
    fn ask_renewal(self: &Arc<Self>, work: &mut Work) {
        work.renewal_asked
            .retain(|_, at| at.elapsed() < RENEWAL_ASK);
        for loaded in self.there() {
            let id = loaded.certificate.id;
            let Source::Acme { directory } = loaded.certificate.source.clone() else {
                continue;
            };
            if work.renewal_asked.contains_key(&id) || work.orders.len() >= ORDERS_AT_ONCE_MAX {
                continue;
            }
            work.renewal_asked.insert(id, Instant::now());
            let this = Arc::clone(self);
            work.orders.spawn(async move {
                let asked = tokio::time::timeout(ATTEMPT_LIMIT, this.suggested(&directory, loaded));
                if let Ok(Err(error)) = asked.await {
                    tracing::debug!(certificate = %id, error = %Chain(&error), "no time of renewal is suggested");
                }
                String::new()
            });
        }
    }
}

/// Whether a request for a name would find a service.
fn leads_somewhere(hosts: &HashSet<String>, name: &str) -> bool {
    let above = name.split_once('.').map(|(_, above)| format!("*.{above}"));
    hosts.contains(name) || above.is_some_and(|above| hosts.contains(&above))
}

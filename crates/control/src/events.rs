//! Events: what happens here, in EventBridge's shape, and who is told.
//!
//! News of services ([`reader`]), alerts ([`alerts`]) and what clients put become events ([`envelope`]). Each is
//! matched with the rules of its region ([`rules`]), and for every target of a rule that matches, a delivery is
//! stored, in the transaction that also remembers where the event came from. The [`sender`] takes deliveries from
//! there until they arrive, grow too old or are too many: every event arrives at least once, those of one service at
//! one destination in their order, and a service whose events do not arrive holds up no other.

pub(crate) mod alerts;
mod envelope;
mod input;
mod reader;
mod rules;
mod sender;
mod webhook;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ekiden_logs::store::LogStore;
use ekiden_model::time::Timestamp;
use ekiden_store::{
    Store, StoreError,
    events::{Because, NewDelivery},
};
use serde_json::Value;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::webhook::Client;
pub(crate) use self::{
    alerts::Alerts,
    envelope::CustomEvent,
    input::Input,
    reader::read,
    rules::{Destination, Rule, rule_arn},
    webhook::{Secret, check_url},
};
use crate::{alarms::StateChange, keyring::Keyring, worker::Chain};

/// The wait after an event could not be stored.
const RETRY: Duration = Duration::from_secs(1);

/// The longest text that is sent for one event, in bytes: EventBridge's.
pub(crate) const BODY_BYTES_MAX: usize = 256 << 10;

/// Rules, and what is sent because of them.
pub(crate) struct Events {
    store: Arc<Store>,
    keyring: Arc<Keyring>,
    logs: LogStore,
    account: String,
    rules: RwLock<Arc<Vec<Rule>>>,
    client: Client,
    /// Told when there is something to send.
    stored: Notify,
}

impl Events {
    /// # Errors
    /// The rules cannot be read.
    pub(crate) async fn load(
        store: Arc<Store>,
        keyring: Arc<Keyring>,
        logs: LogStore,
        account: String,
    ) -> Result<Self, StoreError> {
        let events = Self {
            store,
            keyring,
            logs,
            account,
            rules: RwLock::default(),
            client: Client::new(),
            stored: Notify::new(),
        };
        // Before anybody can ask for anything: what happens from now on has its events.
        reader::begin(&events.store).await?;
        events.reload().await?;
        Ok(events)
    }

    /// Reads the rules again, after they were changed.
    ///
    /// # Errors
    /// Any; then the ones before stay.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let stored = self.store.event_rules().await?;
        let rules = stored.into_iter().filter_map(|stored| {
            let name = format!("{}/{}", stored.region, stored.rule.name);
            Rule::read(stored, &self.account)
                .inspect_err(|problem| error!(rule = name, problem, "a stored rule cannot be used"))
                .ok()
        });
        let rules = Arc::new(rules.collect());
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// The rules of all regions, by region and name.
    pub(crate) fn rules(&self) -> Arc<Vec<Rule>> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is to be sent because of an event of a region.
    fn deliveries(
        &self,
        region: &str,
        lane: &str,
        at: Timestamp,
        event: &Value,
    ) -> Vec<NewDelivery> {
        let rules = self.rules();
        let of_region = rules.iter().filter(|rule| rule.region() == region);
        of_region
            .filter(|rule| rule.is_for(event))
            .flat_map(|rule| rule.deliveries(lane, at, event))
            .collect()
    }

    /// Stores what is to be sent, and has it sent.
    async fn put(
        &self,
        deliveries: &[NewDelivery],
        because: Because<'_>,
    ) -> Result<(), StoreError> {
        let lost = self.store.put_deliveries(deliveries, because).await?;
        for (destination, count) in lost {
            warn!(
                destination,
                count, "events were lost: too many wait for their destination"
            );
        }
        if !deliveries.is_empty() {
            self.stored.notify_one();
        }
        Ok(())
    }

    /// Takes in events that a client made.
    ///
    /// # Errors
    /// Any; then none was taken in.
    pub(crate) async fn put_custom(
        &self,
        region: &str,
        events: &[CustomEvent],
    ) -> Result<(), StoreError> {
        let mut deliveries = Vec::new();
        for event in events {
            let lane = format!("custom/{}", event.source);
            let envelope = event.envelope(&self.account, region);
            deliveries.extend(self.deliveries(region, &lane, event.at, &envelope));
        }
        match deliveries.is_empty() {
            true => Ok(()),
            false => self.put(&deliveries, Because::Put).await,
        }
    }
}

/// Makes events of alarms whose states change, until the control plane stops.
pub(crate) async fn pass_alarms(
    events: Arc<Events>,
    mut changes: broadcast::Receiver<Arc<StateChange>>,
    stop: CancellationToken,
) {
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            change = changes.recv() => change, // cancel-safe per its docs
        };
        let change = match change {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(count)) => {
                warn!(
                    count,
                    "events of alarms were lost: too many changed at once"
                );
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let event = envelope::of_alarm(&events.account, &change);
        let lane = format!("alarm/{}", change.alarm.name);
        let at = change.alarm.standing.transitioned_at;
        let deliveries = events.deliveries(&change.region, &lane, at, &event);
        if deliveries.is_empty() {
            continue;
        }
        while let Err(error) = events.put(&deliveries, Because::Put).await {
            warn!(
                error = told(&error),
                "an alarm's event could not be stored and is again"
            );
            tokio::select! {
                () = stop.cancelled() => return, // the next control plane does not know of it
                () = tokio::time::sleep(RETRY) => {} // a timer
            }
        }
    }
}

/// What failed, on one line.
fn told(error: &StoreError) -> String {
    Chain(error).to_string()
}

//! Deliveries on their way: each lane's one after another, many lanes at once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ekiden_logs::{
    append::{Append, Missing, Times},
    event::NewEvent,
};
use ekiden_store::{
    StoreError,
    events::{Delivery, Outcome},
};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Events, Secret, envelope,
    rules::{Destination, webhook_arn},
    told,
    webhook::Failed,
};
use crate::{clock, logs, worker::Chain};

/// Lanes that are worked on at once.
const LANES_MAX: usize = 32;

/// Of those, lanes of one destination: one that hangs does not hold up the others.
const LANES_PER_DESTINATION_MAX: usize = 4;

/// Deliveries of a lane before it is another's turn.
const TURN_MAX: usize = 100;

/// The wait after the first failure; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest wait after a failure, unless the receiver asks for more.
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// Attempts with what a receiver says that it will never take.
const REFUSED_ATTEMPTS_MAX: u32 = 5;

/// The wait after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// The longest the sender sleeps: nothing is lost by looking at nothing.
const IDLE: Duration = Duration::from_secs(600);

type Lane = (String, String);

#[derive(Default)]
struct Work {
    lanes: JoinSet<Result<(), StoreError>>,
    under_way: HashMap<Id, Lane>,
}

impl Events {
    /// Sends what is to be sent, until the control plane stops. What is on its way then is sent again by the next.
    pub(crate) async fn send(self: Arc<Self>, stop: CancellationToken) {
        let mut work = Work::default();
        let mut pause = None;
        loop {
            let wait = match pause.take() {
                Some(pause) => pause,
                None => self.begin(&mut work).await,
            };
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: what was not acknowledged is stored
                () = self.stored.notified() => {} // cancel-safe per its docs
                Some(ended) = work.lanes.join_next_with_id() => pause = work.ended(ended), // cancel-safe per its docs
                () = tokio::time::sleep(wait) => {} // a timer
            }
        }
    }

    /// Begins with every lane that is due and has room; answers how long to wait at most.
    async fn begin(self: &Arc<Self>, work: &mut Work) -> Duration {
        let lanes = match self.store.delivery_lanes().await {
            Ok(lanes) => lanes,
            Err(error) => {
                warn!(
                    error = told(&error),
                    "events on their way could not be read"
                );
                return RETRY;
            }
        };
        let now = clock::now();
        let mut wait = IDLE;
        for lane in lanes {
            let key = (lane.destination, lane.lane);
            let left = lane.next_at.since(now);
            if !left.is_zero() {
                wait = wait.min(left);
            } else if work.has_room(&key) {
                let (events, of) = (Arc::clone(self), key.clone());
                let turn = async move { events.turn(&of.0, &of.1).await };
                let id = work.lanes.spawn(turn).id();
                work.under_way.insert(id, key);
            }
        }
        wait
    }

    /// Sends what a lane has, until something has to wait.
    async fn turn(&self, destination: &str, lane: &str) -> Result<(), StoreError> {
        for _ in 0..TURN_MAX {
            let next = self.store.next_delivery(destination, lane).await?;
            let Some(next) = next.filter(|next| next.next_at <= clock::now()) else {
                return Ok(());
            };
            self.attempt(next).await?;
        }
        Ok(())
    }

    async fn attempt(&self, next: Delivery) -> Result<(), StoreError> {
        let (number, attempt) = (next.number, next.attempts + 1);
        let destination = next.delivery.destination.clone();
        let facts = next.delivery.facts.clone();
        let sent = match clock::now() > facts.expires_at {
            true => Err(Failed::new("it became too old")),
            false => self.hand_over(next, attempt).await,
        };
        let Err(failed) = sent else {
            let done = Outcome::Delivered;
            return self
                .store
                .put_delivery_outcome(number, &destination, done)
                .await;
        };
        let problem = failed.problem.as_str();
        let next_at = clock::now().plus(wait_after(attempt, failed.after));
        let hopeless = failed.refused && attempt >= REFUSED_ATTEMPTS_MAX;
        let outcome = match attempt >= facts.attempts_max || next_at > facts.expires_at || hopeless
        {
            true => {
                warn!(
                    destination,
                    delivery = facts.id,
                    attempt,
                    problem,
                    "an event was lost"
                );
                Outcome::Lost(problem)
            }
            false => Outcome::Again(next_at, problem),
        };
        self.store
            .put_delivery_outcome(number, &destination, outcome)
            .await
    }

    async fn hand_over(&self, next: Delivery, attempt: u32) -> Result<(), Failed> {
        let delivery = &next.delivery;
        match Destination::parse(&delivery.destination, &self.account) {
            Err(error) => Err(Failed::new(error.to_string())),
            Ok(Destination::LogGroup(group)) => self.write_down(group, next).await,
            Ok(Destination::Webhook { region, name, id }) => {
                let to = self.webhook_secret(&region, &name, Some(&id)).await?;
                let body = next.delivery.body;
                let id = &next.delivery.facts.id;
                self.client.send(&to, id, attempt, body, clock::now()).await
            }
        }
    }

    /// The place that a webhook's secret is sealed for.
    pub(crate) fn webhook_place(region: &str, name: &str) -> String {
        format!("event webhook/{region}/{name}")
    }

    async fn webhook_secret(
        &self,
        region: &str,
        name: &str,
        id: Option<&str>,
    ) -> Result<Secret, Failed> {
        let found = self.store.event_webhook(region, name).await;
        let found = found.map_err(|error| Failed::new(told(&error)))?;
        let same = |id_of: &str| id.is_none_or(|id| id == id_of);
        let found = found
            .filter(|found| same(&found.webhook.id))
            .ok_or_else(|| Failed::new(format!("there is no webhook `{name}` any more")))?;
        let opened = self
            .keyring
            .open(&Self::webhook_place(region, name), &found.sealed);
        let opened = opened.map_err(|error| Failed::new(error.to_string()))?;
        serde_json::from_slice(&opened)
            .map_err(|_| Failed::new(format!("what is stored of webhook `{name}` cannot be read")))
    }

    /// Sends an event to a webhook once, at once; answers what went wrong.
    pub(crate) async fn test_webhook(&self, region: &str, name: &str) -> Result<(), String> {
        let to = self.webhook_secret(region, name, None).await;
        let to = to.map_err(|failed| failed.problem)?;
        let now = clock::now();
        let event = envelope::test(&self.account, region, now);
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        let sent = self.client.send(&to, &id, 1, event.to_string(), now).await;
        sent.map_err(|failed| failed.problem)
    }

    /// The ARN of a webhook of this account.
    pub(crate) fn webhook_arn(&self, region: &str, name: &str, id: &str) -> String {
        webhook_arn(region, &self.account, name, id)
    }

    /// The stream remembers the newest that is in it, so that none is there twice.
    async fn write_down(&self, group: String, next: Delivery) -> Result<(), Failed> {
        let written = logs::blocking(&self.logs, move |store| {
            let delivery = &next.delivery;
            let stream = stream_name(&delivery.lane);
            let stored = store.source_position(&group, &stream).ok().flatten();
            let stored = stored.and_then(|text| str::from_utf8(&text).ok()?.parse::<u64>().ok());
            if stored.is_some_and(|stored| stored >= next.number) {
                return Ok(());
            }
            let appended = store.append(&Append {
                group: &group,
                stream: &stream,
                missing: Missing::CreateGroup,
                times: Times::Raised,
                now_ms: logs::now_ms(),
                position: Some(next.number.to_string().as_bytes()),
                events: &[NewEvent {
                    time_ms: delivery.facts.at.as_millis() as i64,
                    text: delivery.body.as_bytes(),
                }],
            });
            appended.map(drop)
        });
        let written = written.await;
        written.map_err(|error| Failed::new(Chain(&error).to_string()))
    }
}

/// A lane's, with nothing in it that names of streams cannot have.
fn stream_name(lane: &str) -> String {
    lane.chars()
        .map(|c| if matches!(c, ':' | '*') { '_' } else { c })
        .take(512)
        .collect()
}

/// Half of it is drawn, so that what failed together is not tried again together.
fn wait_after(attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << (attempt - 1).min(20));
    let wait = doubled.min(BACKOFF_MAX);
    let drawn = wait.mul_f64(0.5 + 0.5 * rand::random::<f64>());
    drawn.max(asked.unwrap_or_default())
}

impl Work {
    fn has_room(&self, lane: &Lane) -> bool {
        let of_destination = self.under_way.values().filter(|other| other.0 == lane.0);
        let lanes: HashSet<&Lane> = of_destination.collect();
        self.under_way.len() < LANES_MAX
            && lanes.len() < LANES_PER_DESTINATION_MAX
            && !lanes.contains(lane)
    }

    /// Answers how long to pause, if the store failed.
    fn ended(
        &mut self,
        ended: Result<(Id, Result<(), StoreError>), tokio::task::JoinError>,
    ) -> Option<Duration> {
        let id = match ended {
            Ok((id, Ok(()))) => {
                self.under_way.remove(&id);
                return None;
            }
            Ok((id, Err(error))) => {
                warn!(
                    error = told(&error),
                    "events could not be sent and are sent again"
                );
                id
            }
            Err(error) => {
                warn!(%error, "the sending of events broke and is tried again");
                error.id()
            }
        };
        self.under_way.remove(&id);
        Some(RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_receivers_may_ask_for_more() {
        for (attempt, most) in [(1, 1), (2, 2), (5, 16), (11, 600), (100, 600)] {
            let wait = wait_after(attempt, None);
            assert!(wait <= Duration::from_secs(most), "{attempt} {wait:?}");
            assert!(wait >= Duration::from_secs(most) / 2, "{attempt} {wait:?}");
        }
        let asked = Duration::from_secs(1000);
        assert_eq!(wait_after(1, Some(asked)), asked);
    }

    #[test]
    fn streams_have_names_that_they_can_have() {
        assert_eq!(stream_name("custom/a:b*"), "custom/a_b_");
    }
}

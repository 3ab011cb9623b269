//! Rules, who they send events to, the events on their way there, and the alerts that are raised.
//!
//! Events that are to be sent are stored in the transaction that also remembers where they came from: how far
//! the news were read, or an alert. So each is stored once, and what was stored stays until it was delivered, grew
//! too old, or was one too many for its destination.

use ekiden_model::{
    alert::{Alert, AlertKey},
    narrative::News,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError, Transaction, news,
    rows::{from_json, to_json},
};

/// Events that may be on their way to one destination; the oldest beyond are lost.
pub const DELIVERIES_WAITING_MAX: u32 = 10_000;

/// Bytes of them; the oldest beyond are lost.
pub const DELIVERIES_BYTES_MAX: u64 = 64 << 20;

/// Lanes of one destination that are looked at at one time: more than are worked on at once.
pub const LANES_READ_MAX: u32 = 16;

/// The longest text of what went wrong last with a destination, in characters; the rest is cut.
const PROBLEM_CHARS_MAX: usize = 500;

/// Which events are for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRule {
    /// Of its region's.
    pub name: String,
    /// What it is about, in JSON.
    pub pattern: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As EventBridge has it: `ENABLED`, `DISABLED` and another.
    pub state: String,
    /// Told as it was given; nothing goes by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// A rule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRule {
    /// Where it is.
    pub region: String,
    /// What it is.
    pub rule: EventRule,
    /// Its owner's labels, sorted by key.
    pub tags: Vec<(String, String)>,
    /// Who gets its events, by id.
    pub targets: Vec<StoredTarget>,
}

/// Who gets a rule's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTarget {
    /// Of its rule's.
    pub id: String,
    /// Whom.
    pub arn: String,
    /// All of it, as EventBridge's JSON.
    pub record: String,
}

/// An address that events are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventWebhook {
    /// Of its region's.
    pub name: String,
    /// In its ARN: drawn when it was made.
    pub id: String,
    /// Scheme, host and port of its URL: the rest may be a secret.
    pub endpoint: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An address as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWebhook {
    /// What may be shown.
    pub webhook: EventWebhook,
    /// Its URL and secret, sealed.
    pub sealed: Vec<u8>,
}

/// An event for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Where it goes: an ARN.
    pub destination: String,
    /// Events of one lane arrive in their order.
    pub lane: String,
    /// The rest.
    pub facts: DeliveryFacts,
    /// What is sent.
    pub body: String,
}

/// What is known of an event on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryFacts {
    /// The same whenever it is sent.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// When it is too old to be sent.
    pub expires_at: Timestamp,
    /// How often it is tried at most.
    pub attempts_max: u32,
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Grows, and is not used again.
    pub number: u64,
    /// What it is.
    pub delivery: NewDelivery,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before this is the next attempt.
    pub next_at: Timestamp,
}

/// Where events are to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Where to.
    pub destination: String,
    /// Which.
    pub lane: String,
    /// Not before this.
    pub next_at: Timestamp,
}

/// What became of the events for a destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DestinationCounts {
    /// Events on their way.
    pub waiting: u64,
    /// Events that arrived.
    pub delivered: u64,
    /// Events that grew too old, were refused too often, or were too many.
    pub lost: u64,
    /// What went wrong last; `None` when the last was delivered.
    pub problem: Option<String>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It arrived.
    Delivered,
    /// It is tried again then.
    Again(Timestamp, &'a str),
    /// It is given up.
    Lost(&'a str),
}

/// What is stored with the events that it made.
#[derive(Debug, Clone, Copy)]
pub enum Because<'a> {
    /// A reader of the news has come so far.
    Read(&'a str, u64),
    /// An alert was raised; a line says so.
    Raised(&'a Alert, Option<(&'a str, &'a News)>),
    /// An alert is over; a line says so.
    Cleared(&'a AlertKey, Option<(&'a str, &'a News)>),
    /// Somebody put them.
    Put,
}

/// Why a rule or target was not stored.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// There is no such rule.
    #[error("no such rule")]
    Unknown,
    /// There are as many as there may be.
    #[error("there is no room for another")]
    Full,
    /// Something refers to it still, by these names.
    #[error("it is in use")]
    InUse(Vec<String>),
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RuleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

type TargetRow = (String, String, String, String, String);

impl Store {
    /// Every rule with its targets, by region and name.
    ///
    /// # Errors
    /// Any.
    pub async fn event_rules(&self) -> Result<Vec<StoredRule>, StoreError> {
        let rules: Vec<(String, String, String)> =
            sqlx::query_as("SELECT region, record, tags FROM event_rules ORDER BY region, name")
                .fetch_all(&self.readers)
                .await?;
        let targets: Vec<TargetRow> = sqlx::query_as(
            "SELECT region, rule, id, arn, record FROM event_targets ORDER BY region, rule, id",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut targets = targets.into_iter().peekable();
        let mut stored = Vec::with_capacity(rules.len());
        for (region, record, tags) in rules {
            let rule: EventRule = from_json("event_rules", &record)?;
            let mut of_rule = Vec::new();
            // The two are read one after the other: a target may be of a rule that came in between.
            while let Some((of, name, ..)) = targets.peek()
                && (of, name) <= (&region, &rule.name)
            {
                let Some((of, name, id, arn, record)) = targets.next() else {
                    break;
                };
                if (of, name) == (region.clone(), rule.name.clone()) {
                    of_rule.push(StoredTarget { id, arn, record });
                }
            }
            stored.push(StoredRule {
                tags: from_json("event_rules", &tags)?,
                region,
                rule,
                targets: of_rule,
            });
        }
        Ok(stored)
    }

    /// Stores a rule in the place of the one before, which keeps its tags and targets.
    ///
    /// # Errors
    /// [`RuleError::Full`] when the region has `count_max` others, and the store's.
    pub async fn put_event_rule(
        &self,
        region: &str,
        rule: &EventRule,
        tags: &[(String, String)],
        count_max: u64,
    ) -> Result<(), RuleError> {
        let record = to_json("event_rules", rule)?;
        let tags = to_json("event_rules", &tags)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let others: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM event_rules WHERE region = ? AND name != ?")
                .bind(region)
                .bind(&rule.name)
                .fetch_one(&mut *transaction)
                .await?;
        let updated =
            sqlx::query("UPDATE event_rules SET record = ? WHERE region = ? AND name = ?")
                .bind(&record)
                .bind(region)
                .bind(&rule.name)
                .execute(&mut *transaction)
                .await?;
        if updated.rows_affected() == 0 {
            if others as u64 >= count_max {
                return Err(RuleError::Full);
            }
            sqlx::query("INSERT INTO event_rules (region, name, record, tags) VALUES (?, ?, ?, ?)")
                .bind(region)
                .bind(&rule.name)
                .bind(record)
                .bind(tags)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// Changes a rule and its tags.
    ///
    /// # Errors
    /// [`RuleError::Unknown`], and the store's.
    pub async fn change_event_rule(
        &self,
        region: &str,
        name: &str,
        change: impl FnOnce(&mut EventRule, &mut Vec<(String, String)>) + Send,
    ) -> Result<(), RuleError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let found: Option<(String, String)> =
            sqlx::query_as("SELECT record, tags FROM event_rules WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await?;
        let (record, tags) = found.ok_or(RuleError::Unknown)?;
        let mut rule: EventRule = from_json("event_rules", &record)?;
        let mut tags: Vec<(String, String)> = from_json("event_rules", &tags)?;
        change(&mut rule, &mut tags);
        sqlx::query("UPDATE event_rules SET record = ?, tags = ? WHERE region = ? AND name = ?")
            .bind(to_json("event_rules", &rule)?)
            .bind(to_json("event_rules", &tags)?)
            .bind(region)
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// Forgets a rule; one that is not there is no error.
    ///
    /// # Errors
    /// [`RuleError::InUse`] while it has targets, and the store's.
    pub async fn remove_event_rule(&self, region: &str, name: &str) -> Result<(), RuleError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let targets: Vec<String> =
            sqlx::query_scalar("SELECT id FROM event_targets WHERE region = ? AND rule = ?")
                .bind(region)
                .bind(name)
                .fetch_all(&mut *transaction)
                .await?;
        if !targets.is_empty() {
            return Err(RuleError::InUse(targets));
        }
        sqlx::query("DELETE FROM event_rules WHERE region = ? AND name = ?")
            .bind(region)
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// Adds targets to a rule, in the place of those with the same ids.
    ///
    /// # Errors
    /// [`RuleError::Unknown`]; [`RuleError::Full`] when it would have more than `count_max`; the store's. Then
    /// nothing was stored.
    pub async fn put_event_targets(
        &self,
        region: &str,
        rule: &str,
        targets: &[StoredTarget],
        count_max: u64,
    ) -> Result<(), RuleError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM event_rules WHERE region = ? AND name = ?")
                .bind(region)
                .bind(rule)
                .fetch_optional(&mut *transaction)
                .await?;
        found.ok_or(RuleError::Unknown)?;
        for target in targets {
            sqlx::query(
                "INSERT OR REPLACE INTO event_targets (region, rule, id, arn, record) \
                 VALUES (?, ?, ?, ?, ?)",
            )
            .bind(region)
            .bind(rule)
            .bind(&target.id)
            .bind(&target.arn)
            .bind(&target.record)
            .execute(&mut *transaction)
            .await?;
        }
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM event_targets WHERE region = ? AND rule = ?")
                .bind(region)
                .bind(rule)
                .fetch_one(&mut *transaction)
                .await?;
        if count as u64 > count_max {
            return Err(RuleError::Full);
        }
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// Takes targets from a rule; those that are not there are no error.
    ///
    /// # Errors
    /// [`RuleError::Unknown`], and the store's.
    pub async fn remove_event_targets(
        &self,
        region: &str,
        rule: &str,
        ids: &[String],
    ) -> Result<(), RuleError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM event_rules WHERE region = ? AND name = ?")
                .bind(region)
                .bind(rule)
                .fetch_optional(&mut *transaction)
                .await?;
        found.ok_or(RuleError::Unknown)?;
        for id in ids {
            sqlx::query("DELETE FROM event_targets WHERE region = ? AND rule = ? AND id = ?")
                .bind(region)
                .bind(rule)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// The addresses of a region, by name.
    ///
    /// # Errors
    /// Any.
    pub async fn event_webhooks(&self, region: &str) -> Result<Vec<EventWebhook>, StoreError> {
        let records: Vec<String> =
            sqlx::query_scalar("SELECT record FROM event_webhooks WHERE region = ? ORDER BY name")
                .bind(region)
                .fetch_all(&self.readers)
                .await?;
        records
            .iter()
            .map(|record| from_json("event_webhooks", record))
            .collect()
    }

    /// One address.
    ///
    /// # Errors
    /// Any.
    pub async fn event_webhook(
        &self,
        region: &str,
        name: &str,
    ) -> Result<Option<StoredWebhook>, StoreError> {
        let row: Option<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT record, sealed FROM event_webhooks WHERE region = ? AND name = ?",
        )
        .bind(region)
        .bind(name)
        .fetch_optional(&self.readers)
        .await?;
        let read = |(record, sealed): (String, Vec<u8>)| {
            Ok(StoredWebhook {
                webhook: from_json("event_webhooks", &record)?,
                sealed,
            })
        };
        row.map(read).transpose()
    }

    /// Stores an address in the place of the one before.
    ///
    /// # Errors
    /// [`RuleError::Full`] when the region has `count_max` others, and the store's.
    pub async fn put_event_webhook(
        &self,
        region: &str,
        stored: &StoredWebhook,
        count_max: u64,
    ) -> Result<(), RuleError> {
        let name = &stored.webhook.name;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let others: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM event_webhooks WHERE region = ? AND name != ?",
        )
        .bind(region)
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
        if others as u64 >= count_max {
            return Err(RuleError::Full);
        }
        sqlx::query(
            "INSERT OR REPLACE INTO event_webhooks (region, name, record, sealed) \
             VALUES (?, ?, ?, ?)",
        )
        .bind(region)
        .bind(name)
        .bind(to_json("event_webhooks", &stored.webhook)?)
        .bind(&stored.sealed)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// Forgets an address, the events on their way to it, and what became of the others.
    ///
    /// # Errors
    /// [`RuleError::InUse`] while rules have its ARN as a target; [`RuleError::Unknown`]; the store's.
    pub async fn remove_event_webhook(
        &self,
        region: &str,
        name: &str,
        arn: &str,
    ) -> Result<(), RuleError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let rules: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT rule FROM event_targets WHERE region = ? AND arn = ?",
        )
        .bind(region)
        .bind(arn)
        .fetch_all(&mut *transaction)
        .await?;
        if !rules.is_empty() {
            return Err(RuleError::InUse(rules));
        }
        let gone = sqlx::query("DELETE FROM event_webhooks WHERE region = ? AND name = ?")
            .bind(region)
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        if gone.rows_affected() == 0 {
            return Err(RuleError::Unknown);
        }
        for statement in [
            "DELETE FROM event_deliveries WHERE destination = ?",
            "DELETE FROM event_destinations WHERE destination = ?",
        ] {
            sqlx::query(statement)
                .bind(arn)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await.map_err(StoreError::from)?)
    }

    /// Stores events that are to be sent, with what made them. The oldest that are too many for their
    /// destination are lost; answers how many of each.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn put_deliveries(
        &self,
        deliveries: &[NewDelivery],
        because: Because<'_>,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let mut destinations: Vec<&str> = Vec::new();
        for new in deliveries {
            sqlx::query(
                "INSERT INTO event_deliveries (destination, lane, record, body, bytes) \
                 VALUES (?, ?, ?, ?, ?)",
            )
            .bind(&new.destination)
            .bind(&new.lane)
            .bind(to_json("event_deliveries", &new.facts)?)
            .bind(&new.body)
            .bind(new.body.len() as i64)
            .execute(&mut *transaction)
            .await?;
            if !destinations.contains(&new.destination.as_str()) {
                destinations.push(&new.destination);
            }
        }
        let mut lost = Vec::new();
        for destination in destinations {
            let count = make_room(&mut transaction, destination).await?;
            if count > 0 {
                lost.push((destination.to_owned(), count));
            }
        }
        let line = match because {
            Because::Read(reader, number) => {
                news::put_read(&mut transaction, reader, number).await?;
                None
            }
            Because::Raised(alert, line) => {
                sqlx::query("INSERT OR REPLACE INTO alerts (key, record) VALUES (?, ?)")
                    .bind(alert_key(&alert.key))
                    .bind(to_json("alerts", alert)?)
                    .execute(&mut *transaction)
                    .await?;
                line
            }
            Because::Cleared(key, line) => {
                sqlx::query("DELETE FROM alerts WHERE key = ?")
                    .bind(alert_key(key))
                    .execute(&mut *transaction)
                    .await?;
                line
            }
            Because::Put => None,
        };
        if let Some((region, line)) = line {
            news::put(&mut transaction, region, line).await?;
        }
        transaction.commit().await?;
        Ok(lost)
    }

    /// Where events are to be sent: of each destination [`LANES_READ_MAX`], those that are due first.
    ///
    /// # Errors
    /// Any.
    pub async fn delivery_lanes(&self) -> Result<Vec<Lane>, StoreError> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT destination, lane, next_at FROM (SELECT d.destination, d.lane, d.next_at, d.number, \
             ROW_NUMBER() OVER (PARTITION BY d.destination ORDER BY d.next_at, d.number) AS place \
             FROM event_deliveries d JOIN \
             (SELECT MIN(number) AS number FROM event_deliveries GROUP BY destination, lane) first \
             ON first.number = d.number) WHERE place <= ? ORDER BY next_at, number",
        )
        .bind(LANES_READ_MAX)
        .fetch_all(&self.readers)
        .await?;
        let read = |(destination, lane, next_at): (String, String, i64)| Lane {
            destination,
            lane,
            next_at: Timestamp::from_millis(next_at as u64),
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// The first event of a lane.
    ///
    /// # Errors
    /// Any.
    pub async fn next_delivery(
        &self,
        destination: &str,
        lane: &str,
    ) -> Result<Option<Delivery>, StoreError> {
        let row: Option<(i64, String, String, i64, i64)> = sqlx::query_as(
            "SELECT number, record, body, attempts, next_at FROM event_deliveries \
             WHERE destination = ? AND lane = ? ORDER BY number LIMIT 1",
        )
        .bind(destination)
        .bind(lane)
        .fetch_optional(&self.readers)
        .await?;
        let read = |(number, record, body, attempts, next_at): (i64, String, String, i64, i64)| {
            Ok(Delivery {
                number: number as u64,
                delivery: NewDelivery {
                    destination: destination.to_owned(),
                    lane: lane.to_owned(),
                    facts: from_json("event_deliveries", &record)?,
                    body,
                },
                attempts: attempts as u32,
                next_at: Timestamp::from_millis(next_at as u64),
            })
        };
        row.map(read).transpose()
    }

    /// Stores what came of an attempt.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn put_delivery_outcome(
        &self,
        number: u64,
        destination: &str,
        outcome: Outcome<'_>,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let (delivered, lost, problem) = match outcome {
            Outcome::Delivered => (1, 0, None),
            Outcome::Lost(problem) => (0, 1, Some(problem)),
            Outcome::Again(_, problem) => (0, 0, Some(problem)),
        };
        let changed = match outcome {
            Outcome::Again(next_at, _) => sqlx::query(
                "UPDATE event_deliveries SET attempts = attempts + 1, next_at = ? WHERE number = ?",
            )
            .bind(next_at.as_millis() as i64)
            .bind(number as i64)
            .execute(&mut *transaction)
            .await?,
            Outcome::Delivered | Outcome::Lost(_) => {
                sqlx::query("DELETE FROM event_deliveries WHERE number = ?")
                    .bind(number as i64)
                    .execute(&mut *transaction)
                    .await?
            }
        };
        // One that was one too many meanwhile was counted then.
        if changed.rows_affected() > 0 {
            count(&mut transaction, destination, delivered, lost, problem).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// What became of the events for a destination.
    ///
    /// # Errors
    /// Any.
    pub async fn destination_counts(
        &self,
        destination: &str,
    ) -> Result<DestinationCounts, StoreError> {
        let waiting: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM event_deliveries WHERE destination = ?")
                .bind(destination)
                .fetch_one(&self.readers)
                .await?;
        let row: Option<(i64, i64, Option<String>)> = sqlx::query_as(
            "SELECT delivered, lost, problem FROM event_destinations WHERE destination = ?",
        )
        .bind(destination)
        .fetch_optional(&self.readers)
        .await?;
        let (delivered, lost, problem) = row.unwrap_or_default();
        Ok(DestinationCounts {
            waiting: waiting as u64,
            delivered: delivered as u64,
            lost: lost as u64,
            problem,
        })
    }

    /// The alerts that are raised.
    ///
    /// # Errors
    /// Any.
    pub async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar("SELECT record FROM alerts ORDER BY key")
            .fetch_all(&self.readers)
            .await?;
        records
            .iter()
            .map(|record| from_json("alerts", record))
            .collect()
    }
}

fn alert_key(key: &AlertKey) -> String {
    format!("{}/{}", key.kind.as_str(), key.subject)
}

async fn count(
    transaction: &mut Transaction<'_>,
    destination: &str,
    delivered: i64,
    lost: i64,
    problem: Option<&str>,
) -> Result<(), StoreError> {
    let problem: Option<String> =
        problem.map(|problem| problem.chars().take(PROBLEM_CHARS_MAX).collect());
    sqlx::query(
        "INSERT INTO event_destinations (destination, delivered, lost, problem) VALUES (?, ?, ?, ?) \
         ON CONFLICT (destination) DO UPDATE SET delivered = delivered + excluded.delivered, \
         lost = lost + excluded.lost, problem = excluded.problem",
    )
    .bind(destination)
    .bind(delivered)
    .bind(lost)
    .bind(problem)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Removes the oldest events that are too many for a destination; answers how many.
async fn make_room(
    transaction: &mut Transaction<'_>,
    destination: &str,
) -> Result<u64, StoreError> {
    let mut lost = 0;
    loop {
        let (waiting, bytes): (i64, i64) = sqlx::query_as(
            "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM event_deliveries WHERE destination = ?",
        )
        .bind(destination)
        .fetch_one(&mut **transaction)
        .await?;
        let over = waiting - i64::from(DELIVERIES_WAITING_MAX);
        let remove = match bytes as u64 > DELIVERIES_BYTES_MAX {
            // By tens, so that it takes few rounds.
            true => over.max(10),
            false => over,
        };
        if remove <= 0 {
            break;
        }
        let gone = sqlx::query(
            "DELETE FROM event_deliveries WHERE number IN (SELECT number FROM event_deliveries \
             WHERE destination = ? ORDER BY number LIMIT ?)",
        )
        .bind(destination)
        .bind(remove)
        .execute(&mut **transaction)
        .await?;
        lost += gone.rows_affected();
    }
    if lost > 0 {
        let problem = "more events waited than may";
        count(transaction, destination, 0, lost as i64, Some(problem)).await?;
    }
    Ok(lost)
}

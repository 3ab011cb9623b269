//! Alarms on metrics: what was configured, and the state each is in.
//!
//! Configuration is kept in the words that clients used, so that they read back what they wrote; whoever
//! evaluates an alarm reads them. An alarm is changed by a function within one transaction, as a secret is.

use std::collections::BTreeMap;

use ekiden_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    rows::{from_json, to_json},
    secrets::Found,
};

/// An alarm. Its name is its own within its region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// What it is called, 1 to 255 characters.
    pub name: String,
    /// What it watches, and when that is bad.
    pub config: Configuration,
    /// When its configuration was last changed.
    pub configured_at: Timestamp,
    /// How things stand.
    pub standing: Standing,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
}

/// What PutMetricAlarm says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// For people.
    pub description: Option<String>,
    /// Whether anything is done when the state changes.
    pub actions_enabled: bool,
    /// ARNs of what is done when it becomes `OK`.
    pub ok_actions: Vec<String>,
    /// The same for `ALARM`.
    pub alarm_actions: Vec<String>,
    /// The same for `INSUFFICIENT_DATA`.
    pub insufficient_data_actions: Vec<String>,
    /// Where the datapoints come from.
    pub watched: Watched,
    /// Periods that are evaluated.
    pub evaluation_periods: u32,
    /// How many of them have to be beyond the threshold; all, when it is absent.
    pub datapoints_to_alarm: Option<u32>,
    /// What datapoints are compared with.
    #[serde(with = "exact")]
    pub threshold: f64,
    /// How, such as `GreaterThanThreshold`.
    pub comparison: String,
    /// What a period without data counts as, such as `breaching`.
    pub treat_missing_data: Option<String>,
    /// `evaluate` or `ignore`; nothing here goes by it.
    pub evaluate_low_sample_count_percentile: Option<String>,
}

/// Where an alarm's datapoints come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Watched {
    /// One metric.
    Metric(WatchedMetric),
    /// Metrics and what is calculated from them.
    Queries(Vec<WatchedQuery>),
}

/// A statistic of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedMetric {
    /// The metric's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its dimensions, as they were given.
    pub dimensions: Vec<(String, String)>,
    /// The statistic, such as `Sum` or `p99`.
    pub stat: String,
    /// Seconds of a period.
    pub period_s: u32,
    /// Only in this unit.
    pub unit: Option<String>,
}

/// One of an alarm's queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedQuery {
    /// How expressions call it.
    pub id: String,
    /// The metric; absent when it is an expression.
    pub metric: Option<WatchedMetric>,
    /// The expression.
    pub expression: Option<String>,
    /// What it is called.
    pub label: Option<String>,
    /// Whether it is what the threshold is for, as it was given; of one query of an alarm it is.
    pub return_data: Option<bool>,
    /// Seconds of an expression's period.
    pub period_s: Option<u32>,
}

/// The state of an alarm, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// Why, for people.
    pub reason: String,
    /// The same as JSON.
    pub reason_data: Option<String>,
    /// When the state was last found or set anew.
    pub updated_at: Timestamp,
    /// When it became another one.
    pub transitioned_at: Timestamp,
}

/// What is to be stored of an alarm after a change.
#[derive(Debug, Clone, PartialEq)]
pub enum AlarmChange {
    /// Nothing was changed.
    None,
    /// The alarm as it is now.
    Put(Box<Alarm>),
}

impl Store {
    /// An alarm of a region by its name.
    ///
    /// # Errors
    /// Any.
    pub async fn alarm(&self, region: &str, name: &str) -> Result<Option<Alarm>, StoreError> {
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM alarms WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        record
            .map(|record| from_json("alarms", &record))
            .transpose()
    }

    /// The alarms of a region, by name.
    ///
    /// # Errors
    /// Any.
    pub async fn alarms(&self, region: &str) -> Result<Vec<Alarm>, StoreError> {
        let records: Vec<String> =
            sqlx::query_scalar("SELECT record FROM alarms WHERE region = ? ORDER BY name")
                .bind(region)
                .fetch_all(&self.readers)
                .await?;
        records
            .iter()
            .map(|record| from_json("alarms", record))
            .collect()
    }

    /// The alarms of all regions, each with its region.
    ///
    /// # Errors
    /// Any.
    pub async fn all_alarms(&self) -> Result<Vec<(String, Alarm)>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT region, record FROM alarms ORDER BY region, name")
                .fetch_all(&self.readers)
                .await?;
        rows.into_iter()
            .map(|(region, record)| Ok((region, from_json("alarms", &record)?)))
            .collect()
    }

    /// Changes the alarm of a name, or makes it; `change` gets the one there is. What `change` refuses leaves
    /// everything as it was.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn change_alarm<R, E>(
        &self,
        region: &str,
        name: &str,
        change: impl FnOnce(Found<Alarm>) -> Result<(AlarmChange, R), E>,
    ) -> Result<Result<R, E>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM alarms WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await?;
        let found = match record {
            Some(record) => Found::One(from_json("alarms", &record)?),
            None => {
                let others: i64 =
                    sqlx::query_scalar("SELECT COUNT(*) FROM alarms WHERE region = ?")
                        .bind(region)
                        .fetch_one(&mut *transaction)
                        .await?;
                Found::None {
                    others: others.unsigned_abs(),
                }
            }
        };
        let (change, result) = match change(found) {
            Ok(changed) => changed,
            Err(refused) => return Ok(Err(refused)),
        };
        if let AlarmChange::Put(alarm) = change {
            sqlx::query(
                "INSERT INTO alarms (region, name, record) VALUES (?, ?, ?) \
                 ON CONFLICT (region, name) DO UPDATE SET record = excluded.record",
            )
            .bind(region)
            .bind(name)
            .bind(to_json("alarms", &alarm)?)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
        }
        Ok(Ok(result))
    }

    /// Deletes alarms of a region: all of them, or none when there is one that is not there. Answers those.
    ///
    /// # Errors
    /// Any; then nothing was deleted.
    pub async fn delete_alarms(
        &self,
        region: &str,
        names: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let mut unknown = Vec::new();
        for name in std::collections::BTreeSet::from_iter(names) {
            let deleted = sqlx::query("DELETE FROM alarms WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .execute(&mut *transaction)
                .await?;
            if deleted.rows_affected() == 0 {
                unknown.push(name.clone());
            }
        }
        if unknown.is_empty() {
            transaction.commit().await?;
        }
        Ok(unknown)
    }
}

/// A number as text: read back it is the same to the last bit, which numbers in JSON need not be.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

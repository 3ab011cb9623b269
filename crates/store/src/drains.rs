//! Drains: where lines of logs are sent, and how far each has come.

use ekiden_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError, Transaction,
    rows::{from_json, to_json},
};

/// A drain as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDrain {
    /// Its name; no other has it.
    pub name: String,
    /// What its owner said of it.
    pub facts: DrainFacts,
    /// The secrets of its target, sealed: what opens them is not in the store.
    pub sealed: Vec<u8>,
    /// Whether a receiver has ever taken anything from it as it is now.
    pub proven: bool,
}

/// What its owner said of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainFacts {
    /// The id of the only service whose lines it sends, by which its groups are known; all services' when absent.
    pub service: Option<DrainService>,
    /// Which kinds of its groups, by the last part of their names.
    pub kinds: Vec<String>,
    /// Where to, as JSON: the exporter's own form.
    pub target: serde_json::Value,
    /// Whether it sends.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The service of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainService {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Its ARN.
    pub arn: String,
}

/// How far a drain has come in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainPosition {
    /// The log group.
    pub group: String,
    /// The sequence up to which every line was sent.
    pub sent: u64,
    /// The sequence up to which the batch goes that is on its way, where that matters.
    pub on_its_way: Option<u64>,
}

impl Store {
    /// Every drain, by name.
    ///
    /// # Errors
    /// Any.
    pub async fn drains(&self) -> Result<Vec<StoredDrain>, StoreError> {
        let rows: Vec<(String, String, Vec<u8>, bool)> =
            sqlx::query_as("SELECT name, record, sealed, proven FROM drains ORDER BY name")
                .fetch_all(&self.readers)
                .await?;
        let read = |(name, record, sealed, proven): (String, String, Vec<u8>, bool)| {
            Ok(StoredDrain {
                name,
                facts: from_json("drains", &record)?,
                sealed,
                proven,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// How far a drain has come, by group. A group without a position is at its beginning.
    ///
    /// # Errors
    /// Any.
    pub async fn drain_positions(&self, drain: &str) -> Result<Vec<DrainPosition>, StoreError> {
        let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
            "SELECT log_group, sent, on_its_way FROM drain_positions WHERE drain = ? ORDER BY log_group",
        )
        .bind(drain)
        .fetch_all(&self.readers)
        .await?;
        let read = |(group, sent, on_its_way): (String, i64, Option<i64>)| DrainPosition {
            group,
            sent: sent as u64,
            on_its_way: on_its_way.map(|end| end as u64),
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Stores a drain in the place of the one of its name, with positions that it did not have.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn put_drain(
        &self,
        drain: &StoredDrain,
        positions: &[DrainPosition],
    ) -> Result<(), StoreError> {
        let record = to_json("drains", &drain.facts)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "INSERT INTO drains (name, record, sealed, proven) VALUES (?, ?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET record = excluded.record, sealed = excluded.sealed, \
             proven = excluded.proven",
        )
        .bind(&drain.name)
        .bind(record)
        .bind(&drain.sealed)
        .bind(drain.proven)
        .execute(&mut *transaction)
        .await?;
        put_positions(&mut transaction, &drain.name, positions).await?;
        Ok(transaction.commit().await?)
    }

    /// Stores how far a drain has come; groups that are not named stay as they are, and those in `gone` are
    /// forgotten. Of a drain that is not there nothing is stored.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn put_drain_positions(
        &self,
        drain: &str,
        positions: &[DrainPosition],
        gone: &[String],
        proven: bool,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let known = sqlx::query("UPDATE drains SET proven = proven OR ? WHERE name = ?")
            .bind(proven)
            .bind(drain)
            .execute(&mut *transaction)
            .await?;
        if known.rows_affected() == 0 {
            return Ok(());
        }
        put_positions(&mut transaction, drain, positions).await?;
        for group in gone {
            sqlx::query("DELETE FROM drain_positions WHERE drain = ? AND log_group = ?")
                .bind(drain)
                .bind(group)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets a drain and how far it has come; answers whether there was one.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn remove_drain(&self, name: &str) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let gone = sqlx::query("DELETE FROM drains WHERE name = ?")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(gone.rows_affected() > 0)
    }
}

async fn put_positions(
    transaction: &mut Transaction<'_>,
    drain: &str,
    positions: &[DrainPosition],
) -> Result<(), StoreError> {
    for position in positions {
        sqlx::query(
            "INSERT INTO drain_positions (drain, log_group, sent, on_its_way) VALUES (?, ?, ?, ?) \
             ON CONFLICT (drain, log_group) DO UPDATE SET sent = excluded.sent, \
             on_its_way = excluded.on_its_way",
        )
        .bind(drain)
        .bind(&position.group)
        .bind(position.sent as i64)
        .bind(position.on_its_way.map(|end| end as i64))
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

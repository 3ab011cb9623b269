//! Secrets: their records, and their values, which are sealed before they come here.
//!
//! A secret is changed by a function that is handed what is stored and answers what is to be stored,
//! within one transaction: two changes at one time are one after the other.

use std::collections::BTreeSet;

use ekiden_model::{secret::Secret, time::Timestamp};

use crate::{
    Store, StoreError, Transaction,
    rows::{from_json, to_json},
};

/// What there is of a name, when it is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// This.
    One(T),
    /// Nothing.
    None {
        /// How many of other names its region has.
        others: u64,
    },
}

/// What is to be stored of a secret after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretChange {
    /// Nothing was changed.
    None,
    /// The secret as it is now, and a value that was added: its version, and the sealed bytes. Values
    /// of versions that it has no more are forgotten.
    Put(Box<Secret>, Option<(String, Vec<u8>)>),
    /// It is gone, with all its values.
    Remove,
}

impl Store {
    /// A secret of a region by its name.
    ///
    /// # Errors
    /// Any.
    pub async fn secret(&self, region: &str, name: &str) -> Result<Option<Secret>, StoreError> {
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM secrets WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        record
            .map(|record| from_json("secrets", &record))
            .transpose()
    }

    /// Every secret of a region after a name, by name; those that wait to be deleted included.
    ///
    /// # Errors
    /// Any.
    pub async fn secrets(
        &self,
        region: &str,
        after: Option<&str>,
    ) -> Result<Vec<Secret>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM secrets WHERE region = ? AND name > ? ORDER BY name",
        )
        .bind(region)
        .bind(after.unwrap_or_default())
        .fetch_all(&self.readers)
        .await?;
        records
            .iter()
            .map(|record| from_json("secrets", record))
            .collect()
    }

    /// The sealed value of one version of a secret.
    ///
    /// # Errors
    /// Any.
    pub async fn secret_value(
        &self,
        secret: &str,
        version: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(
            sqlx::query_scalar("SELECT sealed FROM secret_values WHERE secret = ? AND version = ?")
                .bind(secret)
                .bind(version)
                .fetch_optional(&self.readers)
                .await?,
        )
    }

    /// Changes the secret of a name, or makes it; `change` gets the one there is. What `change` refuses
    /// leaves everything as it was.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn change_secret<R, E>(
        &self,
        region: &str,
        name: &str,
        change: impl FnOnce(Found<Secret>) -> Result<(SecretChange, R), E>,
    ) -> Result<Result<R, E>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM secrets WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await?;
        let found = match record {
            Some(record) => Found::One(from_json("secrets", &record)?),
            None => {
                let others: i64 =
                    sqlx::query_scalar("SELECT COUNT(*) FROM secrets WHERE region = ?")
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
        match change {
            SecretChange::None => return Ok(Ok(result)),
            SecretChange::Put(secret, value) => {
                put(&mut transaction, region, &secret, value).await?;
            }
            SecretChange::Remove => {
                sqlx::query("DELETE FROM secrets WHERE region = ? AND name = ?")
                    .bind(region)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(Ok(result))
    }

    /// Forgets secrets whose time to be restored is over; answers how many.
    ///
    /// # Errors
    /// Any.
    pub async fn purge_secrets(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let purged = sqlx::query("DELETE FROM secrets WHERE purge_at <= ?")
            .bind(now.as_millis() as i64)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(purged.rows_affected())
    }
}

async fn put(
    transaction: &mut Transaction<'_>,
    region: &str,
    secret: &Secret,
    value: Option<(String, Vec<u8>)>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO secrets (id, region, name, record, purge_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET record = excluded.record, purge_at = excluded.purge_at",
    )
    .bind(&secret.id)
    .bind(region)
    .bind(&secret.name)
    .bind(to_json("secrets", secret)?)
    .bind(secret.purge_at.map(|at| at.as_millis() as i64))
    .execute(&mut **transaction)
    .await?;
    if let Some((version, sealed)) = value {
        sqlx::query("INSERT INTO secret_values (secret, version, sealed) VALUES (?, ?, ?)")
            .bind(&secret.id)
            .bind(version)
            .bind(sealed)
            .execute(&mut **transaction)
            .await?;
    }
    let kept: BTreeSet<&str> = secret.versions.iter().map(|v| v.id.as_str()).collect();
    sqlx::query(
        "DELETE FROM secret_values WHERE secret = ? \
         AND version NOT IN (SELECT value FROM json_each(?))",
    )
    .bind(&secret.id)
    .bind(to_json("secrets", &kept)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

//! Access keys: who may speak to the API, and as what.

use ekiden_model::{access::Role, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    rows::{from_json, to_json},
};

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The public half.
    pub id: String,
    /// The secret half, sealed: what opens it is not in the store.
    pub sealed_secret: Vec<u8>,
    /// What is known of it.
    pub facts: AccessKeyFacts,
    /// When it was last used, as of a minute ago.
    pub last_used: Option<LastUsed>,
}

/// What its maker said about an access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyFacts {
    /// What it may do.
    pub role: Role,
    /// Whether it may do anything now.
    pub enabled: bool,
    /// What it is for, in its maker's words.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A use of an access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUsed {
    /// When.
    pub at: Timestamp,
    /// The address it came from.
    pub source: String,
}

impl Store {
    /// Every access key.
    ///
    /// # Errors
    /// Any.
    pub async fn access_keys(&self) -> Result<Vec<AccessKey>, StoreError> {
        let rows: Vec<(String, Vec<u8>, String, Option<String>)> =
            sqlx::query_as("SELECT id, secret, record, last_used FROM access_keys ORDER BY id")
                .fetch_all(&self.readers)
                .await?;
        rows.into_iter()
            .map(|(id, sealed_secret, record, last_used)| {
                let last_used = last_used.as_deref();
                Ok(AccessKey {
                    id,
                    sealed_secret,
                    facts: from_json("access_keys", &record)?,
                    last_used: last_used
                        .map(|text| from_json("access_keys", text))
                        .transpose()?,
                })
            })
            .collect()
    }

    /// Stores a new access key, or an old one's facts anew; its secret never changes.
    ///
    /// # Errors
    /// Any.
    pub async fn put_access_key(&self, key: &AccessKey) -> Result<(), StoreError> {
        let record = to_json("access_keys", &key.facts)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "INSERT INTO access_keys (id, secret, record) VALUES (?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET record = excluded.record",
        )
        .bind(&key.id)
        .bind(&key.sealed_secret)
        .bind(record)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Forgets an access key.
    ///
    /// # Errors
    /// Any.
    pub async fn delete_access_key(&self, id: &str) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query("DELETE FROM access_keys WHERE id = ?")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes when keys were last used; of keys that are gone nothing is noted.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn note_last_used(&self, used: &[(String, LastUsed)]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        for (id, last_used) in used {
            sqlx::query("UPDATE access_keys SET last_used = ? WHERE id = ?")
                .bind(to_json("access_keys", last_used)?)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}

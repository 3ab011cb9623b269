//! Auto scaling configurations: named, numbered revisions of how a service scales.

use ekiden_model::{revision::Scaling, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    rows::{from_json, to_json},
};

/// One revision of an auto scaling configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoScalingConfiguration {
    /// Its owner's.
    pub name: String,
    /// Counted from 1 within its name and region, never given twice.
    pub revision: u32,
    /// 32 hexadecimal digits.
    pub id: String,
    /// The numbers.
    pub scaling: Scaling,
    /// Its owner's labels.
    pub tags: Vec<(String, String)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Store {
    /// Stores a new revision and gives it the next number of its name, which is answered.
    ///
    /// # Errors
    /// Any.
    pub async fn create_auto_scaling(
        &self,
        region: &str,
        mut configuration: AutoScalingConfiguration,
    ) -> Result<AutoScalingConfiguration, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let newest: Option<u32> = sqlx::query_scalar(
            "SELECT MAX(revision) FROM auto_scaling_configurations WHERE region = ? AND name = ?",
        )
        .bind(region)
        .bind(&configuration.name)
        .fetch_one(&mut *transaction)
        .await?;
        configuration.revision = newest.unwrap_or(0) + 1;
        sqlx::query(
            "INSERT INTO auto_scaling_configurations (region, name, revision, record) \
             VALUES (?, ?, ?, ?)",
        )
        .bind(region)
        .bind(&configuration.name)
        .bind(configuration.revision)
        .bind(to_json("auto_scaling_configurations", &configuration)?)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(configuration)
    }

    /// Every revision of a region that is not deleted, by name and number.
    ///
    /// # Errors
    /// Any.
    pub async fn auto_scalings(
        &self,
        region: &str,
    ) -> Result<Vec<AutoScalingConfiguration>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM auto_scaling_configurations WHERE region = ? AND deleted = 0 \
             ORDER BY name, revision",
        )
        .bind(region)
        .fetch_all(&self.readers)
        .await?;
        records
            .iter()
            .map(|record| from_json("auto_scaling_configurations", record))
            .collect()
    }

    /// Stores that a revision is deleted.
    ///
    /// # Errors
    /// Any.
    pub async fn delete_auto_scaling(
        &self,
        region: &str,
        configuration: &AutoScalingConfiguration,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "UPDATE auto_scaling_configurations SET deleted = 1, record = ? \
             WHERE region = ? AND name = ? AND revision = ?",
        )
        .bind(to_json("auto_scaling_configurations", configuration)?)
        .bind(region)
        .bind(&configuration.name)
        .bind(configuration.revision)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}

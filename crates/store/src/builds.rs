//! What builds have made, and what they open repositories with.

use ekiden_model::{id::ServiceId, image::Digest, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    rows::{from_json, to_json},
};

/// Results of steps that are remembered of one service, the last used first.
pub const BUILD_STEPS_KEPT_MAX: u32 = 12;

/// What a step of a build has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStep {
    /// The image that it ran on.
    pub on: Digest,
    /// The image that it left.
    pub image: Digest,
    /// What of it is below the application's directory, if anything.
    pub part: Option<Digest>,
}

impl Store {
    /// What a step has made, by its key; it counts as used now.
    ///
    /// # Errors
    /// Any.
    pub async fn build_step(
        &self,
        service: ServiceId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<BuildStep>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let record: Option<String> = sqlx::query_scalar(
            "UPDATE build_steps SET used_at = ? WHERE service = ? AND key = ? RETURNING record",
        )
        .bind(now.as_millis() as i64)
        .bind(service.to_string())
        .bind(key)
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        record
            .map(|record| from_json("build_steps", &record))
            .transpose()
    }

    /// Remembers what a step has made; the least used of its service are forgotten beyond
    /// [`BUILD_STEPS_KEPT_MAX`].
    ///
    /// # Errors
    /// Any.
    pub async fn put_build_step(
        &self,
        service: ServiceId,
        key: &str,
        step: &BuildStep,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let record = to_json("build_steps", step)?;
        let service = service.to_string();
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "INSERT INTO build_steps (service, key, record, used_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (service, key) DO UPDATE SET record = excluded.record, \
             used_at = excluded.used_at",
        )
        .bind(&service)
        .bind(key)
        .bind(record)
        .bind(now.as_millis() as i64)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM build_steps WHERE service = ?1 AND key NOT IN (SELECT key FROM build_steps \
             WHERE service = ?1 ORDER BY used_at DESC, key LIMIT ?2)",
        )
        .bind(&service)
        .bind(BUILD_STEPS_KEPT_MAX)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The services whose steps are remembered.
    ///
    /// # Errors
    /// Any.
    pub async fn built_services(&self) -> Result<Vec<ServiceId>, StoreError> {
        let services: Vec<String> = sqlx::query_scalar("SELECT DISTINCT service FROM build_steps")
            .fetch_all(&self.readers)
            .await?;
        Ok(services.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Forgets what the steps of a service have made.
    ///
    /// # Errors
    /// Any.
    pub async fn forget_build_steps(&self, service: ServiceId) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query("DELETE FROM build_steps WHERE service = ?")
            .bind(service.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A sealed secret, by its owner: an ARN.
    ///
    /// # Errors
    /// Any.
    pub async fn source_secret(&self, owner: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(
            sqlx::query_scalar("SELECT sealed FROM source_secrets WHERE owner = ?")
                .bind(owner)
                .fetch_optional(&self.readers)
                .await?,
        )
    }

    /// Stores a sealed secret in the place of the one before, or takes it away.
    ///
    /// # Errors
    /// Any.
    pub async fn put_source_secret(
        &self,
        owner: &str,
        sealed: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        match sealed {
            Some(sealed) => sqlx::query(
                "INSERT INTO source_secrets (owner, sealed) VALUES (?, ?) \
                 ON CONFLICT (owner) DO UPDATE SET sealed = excluded.sealed",
            )
            .bind(owner)
            .bind(sealed),
            None => sqlx::query("DELETE FROM source_secrets WHERE owner = ?").bind(owner),
        }
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The images of all build steps that are remembered, from a row's record.
pub(crate) fn images_of(record: &str) -> Result<impl Iterator<Item = Digest>, StoreError> {
    let step: BuildStep = from_json("build_steps", record)?;
    let images = [Some(step.on), Some(step.image), step.part];
    Ok(images.into_iter().flatten())
}

//! Custom domains: which service has which, and where each association is.

use ekiden_model::{
    domain::{CustomDomain, DomainStatus, IllegalMove},
    domain_name::DomainName,
    id::ServiceId,
    name::ServiceName,
    time::Timestamp,
};
use sqlx::SqliteExecutor;

use crate::{
    Store, StoreError,
    rows::{from_json, to_json},
};

/// The association that has a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its domain: the host name, or the domain whose www name that is.
    pub domain: DomainName,
    /// Whose it is.
    pub service_name: ServiceName,
    /// Where that service is.
    pub region: String,
}

/// An association that something is still to happen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// Its domain.
    pub domain: DomainName,
    /// Whose it is.
    pub service: ServiceId,
    /// Where it is.
    pub status: DomainStatus,
}

/// Why a new association was not stored.
#[derive(Debug, thiserror::Error)]
pub enum CreateDomainError {
    /// One of its names belongs to another association.
    #[error("`{name}` belongs to the custom domain `{}`", holder.domain)]
    Taken {
        /// Which name.
        name: String,
        /// Whose it is.
        holder: Holder,
    },
    /// Its service has as many as it may.
    #[error("the service has {count} custom domains already")]
    Full {
        /// How many.
        count: u64,
    },
    /// Its service is deleted.
    #[error("the service is deleted")]
    ServiceGone,
    /// The store failed; nothing was stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateDomainError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Stores a new association, unless its service has `count_max` already.
    ///
    /// # Errors
    /// [`CreateDomainError`]; then nothing was stored.
    pub async fn create_domain(
        &self,
        domain: &CustomDomain,
        count_max: u64,
    ) -> Result<(), CreateDomainError> {
        let record = to_json("custom_domains", domain)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let service = domain.service.to_string();
        let alive: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM services WHERE id = ? AND deleted_at IS NULL")
                .bind(&service)
                .fetch_optional(&mut *transaction)
                .await?;
        if alive.is_none() {
            return Err(CreateDomainError::ServiceGone);
        }
        for name in domain.hosts() {
            if let Some(holder) = holder(&mut *transaction, &name).await? {
                return Err(CreateDomainError::Taken { name, holder });
            }
        }
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM custom_domains WHERE service = ?")
                .bind(&service)
                .fetch_one(&mut *transaction)
                .await?;
        let count = count.unsigned_abs();
        if count >= count_max {
            return Err(CreateDomainError::Full { count });
        }
        sqlx::query(
            "INSERT INTO custom_domains (domain, service, status, record, created_at) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(domain.name.as_str())
        .bind(&service)
        .bind(domain.status.as_str())
        .bind(record)
        .bind(domain.created_at.as_millis() as i64)
        .execute(&mut *transaction)
        .await?;
        for name in domain.hosts() {
            sqlx::query("INSERT INTO custom_domain_names (name, domain) VALUES (?, ?)")
                .bind(name)
                .bind(domain.name.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The association that a host name belongs to, if there is one that is not gone.
    ///
    /// # Errors
    /// Any.
    pub async fn domain_holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        holder(&self.readers, name).await
    }

    /// One association.
    ///
    /// # Errors
    /// Any.
    pub async fn domain(&self, name: &DomainName) -> Result<Option<CustomDomain>, StoreError> {
        read(&self.readers, name).await
    }

    /// A service's associations, oldest first.
    ///
    /// # Errors
    /// Any.
    pub async fn domains_of(&self, service: ServiceId) -> Result<Vec<CustomDomain>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM custom_domains WHERE service = ? ORDER BY created_at, domain",
        )
        .bind(service.to_string())
        .fetch_all(&self.readers)
        .await?;
        records
            .iter()
            .map(|record| from_json("custom_domains", record))
            .collect()
    }

    /// Every association that something is still to happen to, oldest first.
    ///
    /// # Errors
    /// Any.
    pub async fn unsettled_domains(&self) -> Result<Vec<Unsettled>, StoreError> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT domain, service, status FROM custom_domains \
             WHERE status NOT IN ('active', 'create_failed', 'delete_failed') ORDER BY created_at",
        )
        .fetch_all(&self.readers)
        .await?;
        let read = |(domain, service, status): (String, String, String)| {
            let unsettled = Unsettled {
                domain: domain.parse().map_err(corrupt)?,
                service: service.parse().map_err(corrupt)?,
                status: status.parse().map_err(corrupt)?,
            };
            Ok(unsettled)
        };
        rows.into_iter().map(read).collect()
    }

    /// Moves an association, unless `change` refuses: from what is stored to what is stored, so
    /// that two who move it at once cannot undo each other. Answers what is stored now; `None` if
    /// it was refused, or the service has no such domain any more.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn update_domain(
        &self,
        service: ServiceId,
        name: &DomainName,
        change: impl FnOnce(&mut CustomDomain) -> Result<(), IllegalMove> + Send,
    ) -> Result<Option<CustomDomain>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let stored = read(&mut *transaction, name).await?;
        let Some(mut domain) = stored.filter(|domain| domain.service == service) else {
            return Ok(None);
        };
        if change(&mut domain).is_err() {
            return Ok(None);
        }
        sqlx::query("UPDATE custom_domains SET status = ?, record = ? WHERE domain = ?")
            .bind(domain.status.as_str())
            .bind(to_json("custom_domains", &domain)?)
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(domain))
    }

    /// Makes an association another service's. Answers what is stored now; `None` if `from` has no
    /// such domain, or it is not active.
    ///
    /// # Errors
    /// [`CreateDomainError`]: `to` is deleted or has `count_max` domains; then nothing was stored.
    pub async fn move_domain(
        &self,
        name: &DomainName,
        from: ServiceId,
        to: ServiceId,
        count_max: u64,
        now: Timestamp,
    ) -> Result<Option<CustomDomain>, CreateDomainError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let stored = read(&mut *transaction, name).await?;
        let Some(mut domain) = stored.filter(|domain| domain.service == from) else {
            return Ok(None);
        };
        if domain.move_to(to, now).is_err() {
            return Ok(None);
        }
        let alive: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM services WHERE id = ? AND deleted_at IS NULL")
                .bind(to.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
        if alive.is_none() {
            return Err(CreateDomainError::ServiceGone);
        }
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM custom_domains WHERE service = ?")
                .bind(to.to_string())
                .fetch_one(&mut *transaction)
                .await?;
        let count = count.unsigned_abs();
        if count >= count_max {
            return Err(CreateDomainError::Full { count });
        }
        sqlx::query(
            "UPDATE custom_domains SET service = ?, status = ?, record = ? WHERE domain = ?",
        )
        .bind(to.to_string())
        .bind(domain.status.as_str())
        .bind(to_json("custom_domains", &domain)?)
        .bind(name.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(domain))
    }

    /// Which service a host name is of by its association, if it has one.
    ///
    /// # Errors
    /// Any.
    pub async fn domain_owner(&self, name: &str) -> Result<Option<ServiceId>, StoreError> {
        let service: Option<String> = sqlx::query_scalar(
            "SELECT d.service FROM custom_domain_names n \
             JOIN custom_domains d ON d.domain = n.domain WHERE n.name = ?",
        )
        .bind(name)
        .fetch_optional(&self.readers)
        .await?;
        service
            .map(|service| service.parse().map_err(corrupt))
            .transpose()
    }

    /// Forgets an association that is being deleted; its names are free from then on. Answers
    /// whether there was one.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn forget_domain(
        &self,
        service: ServiceId,
        name: &DomainName,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let gone = sqlx::query(
            "DELETE FROM custom_domains WHERE domain = ? AND service = ? AND status = ?",
        )
        .bind(name.as_str())
        .bind(service.to_string())
        .bind(DomainStatus::Deleting.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(gone.rows_affected() > 0)
    }
}

async fn read(
    from: impl SqliteExecutor<'_>,
    name: &DomainName,
) -> Result<Option<CustomDomain>, StoreError> {
    let record: Option<String> =
        sqlx::query_scalar("SELECT record FROM custom_domains WHERE domain = ?")
            .bind(name.as_str())
            .fetch_optional(from)
            .await?;
    record
        .map(|record| from_json("custom_domains", &record))
        .transpose()
}

async fn holder(from: impl SqliteExecutor<'_>, name: &str) -> Result<Option<Holder>, StoreError> {
    let row: Option<(String, String, String)> = sqlx::query_as(
        "SELECT d.domain, s.name, s.region FROM custom_domain_names n \
         JOIN custom_domains d ON d.domain = n.domain JOIN services s ON s.id = d.service \
         WHERE n.name = ?",
    )
    .bind(name)
    .fetch_optional(from)
    .await?;
    row.map(|(domain, service_name, region)| {
        Ok(Holder {
            domain: domain.parse().map_err(corrupt)?,
            service_name: service_name.parse().map_err(corrupt)?,
            region,
        })
    })
    .transpose()
}

/// A column that does not hold what was written there.
fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        table: "custom_domains",
        source: serde::de::Error::custom(error),
    }
}

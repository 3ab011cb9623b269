//! What a control plane must not forget, in SQLite.
//!
//! Every write is one `IMMEDIATE` transaction on one connection, synced before it is acknowledged
//! (`journal_mode = WAL`, `synchronous = FULL`: SQLite documentation, "PRAGMA synchronous"), so a
//! power cut loses nothing that was answered. Reads have their own connections and never wait for
//! a writer. Nothing here decides anything: services are moved by the functions of the `model`
//! crate and stored whole.
//!
//! A store belongs to one control plane at a time. Each takes a new epoch at its start, and every
//! write of an older epoch is refused: a control plane that was thought dead cannot write late.

pub mod access_keys;
pub mod alarms;
pub mod builds;
pub mod certificates;
pub mod domains;
pub mod drains;
pub mod events;
pub mod news;
pub mod parameters;
mod references;
pub mod registry;
pub mod resources;
mod rows;
pub mod secrets;

use std::{path::Path, str::FromStr, time::Duration};

use ekiden_model::{
    id::{OperationId, ServiceId},
    image::Digest,
    instance::RevisionNumber,
    name::ServiceName,
    narrative::News,
    revision::Revision,
    route::{Generation, Route},
    service::{Operation, OperationKind, Phase, Service},
    time::Timestamp,
};
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;

use crate::rows::{from_json, to_json};

/// How long a statement waits for a lock before it fails. Only backups and people lock a store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections for reading.
const READERS_MAX: u32 = 4;

/// Operations kept per service; older ones are forgotten when a new one ends.
pub const OPERATIONS_KEPT_MAX: u32 = 1000;

/// The newest revisions that are kept per service, whatever became of them; those that the service
/// remembers as having served are kept beside them.
pub const REVISIONS_KEPT_MAX: u32 = 10;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Durable state.
#[derive(Debug)]
pub struct Store {
    options: SqliteConnectOptions,
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
    epoch: i64,
}

/// A service with what belongs to it and no decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredService {
    /// The name space it lives in, such as `us-east-1`.
    pub region: String,
    /// The facts.
    pub service: Service,
    /// Its owner's labels, sorted by key.
    pub tags: Vec<(String, String)>,
}

/// Why the store could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another service of the region has the name.
    #[error("a service named `{name}` exists already in {region}")]
    NameTaken {
        /// The name.
        name: ServiceName,
        /// The region.
        region: String,
    },
    /// A service would begin to use a resource that is not there, perhaps since a moment ago.
    #[error("there is no {kind} with the id {resource} (any more)")]
    ReferenceGone {
        /// The resource's kind, as ARNs spell it.
        kind: &'static str,
        /// Its id.
        resource: String,
    },
    /// A service would be deleted before what is a part of it.
    #[error("the service `{name}` has parts that must be deleted first")]
    HasParts {
        /// The service.
        name: ServiceName,
    },
    /// A newer control plane has taken the store.
    #[error("another control plane has taken over the database")]
    Superseded,
    /// The file cannot be used.
    #[error("cannot open the database `{path}`")]
    Open {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file's schema cannot be brought up to date.
    #[error("cannot bring the database `{path}` up to date")]
    Migrate {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// The disk is full: nothing was written.
    #[error("the disk that holds the database is full: free some space and try again")]
    DiskFull,
    /// Anything else that SQLite says.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A record cannot be read: it was written by a newer release, or is damaged.
    #[error("a record of table `{table}` cannot be read")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        /// SQLite's result codes SQLITE_FULL and SQLITE_IOERR_WRITE ("Result and Error Codes").
        const FULL: [&str; 2] = ["13", "778"];
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some(code) if FULL.contains(&code) => Self::DiskFull,
            _ => Self::Database(error),
        }
    }
}

impl Store {
    /// Opens the store at `path`, makes it if there is none, brings its schema up to date, and
    /// takes a new epoch.
    ///
    /// # Errors
    /// [`StoreError::Open`] and [`StoreError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let text = path.display().to_string();
        let open = |source| StoreError::Open {
            path: text.clone(),
            source,
        };
        let options = SqliteConnectOptions::from_str("sqlite:")
            .map_err(open)?
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let mut writer = SqliteConnection::connect_with(&options.clone().create_if_missing(true))
            .await
            .map_err(open)?;
        // Not `run`: its future is not `Send` for every lifetime, and the control plane's must be.
        MIGRATIONS
            .run_direct(None, &mut writer, false)
            .await
            .map_err(|source| StoreError::Migrate {
                path: text.clone(),
                source,
            })?;
        let epoch = sqlx::query_scalar(
            "UPDATE counters SET value = value + 1 WHERE name = 'epoch' RETURNING value",
        )
        .fetch_one(&mut writer)
        .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_lazy_with(options.clone().read_only(true));
        Ok(Self {
            options,
            writer: Mutex::new(writer),
            readers,
            epoch,
        })
    }

    /// Every service, deleted ones that are still remembered included, oldest first.
    ///
    /// # Errors
    /// Any.
    pub async fn services(&self) -> Result<Vec<StoredService>, StoreError> {
        let rows: Vec<rows::ServiceRow> = sqlx::query_as(
            "SELECT s.region, s.record, s.tags, o.record AS operation FROM services s \
             LEFT JOIN operations o ON o.id = s.operation ORDER BY s.created_at, s.id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(rows::ServiceRow::read).collect()
    }

    /// Stores a new service with the operation that creates it, and what is said of that.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::ReferenceGone`], and any.
    pub async fn create_service(
        &self,
        stored: &StoredService,
        news: Option<&News>,
    ) -> Result<(), StoreError> {
        let service = &stored.service;
        let record = to_json("services", &rows::without_operation(service))?;
        let tags = to_json("services", &stored.tags)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let inserted = sqlx::query(
            "INSERT INTO services (id, region, name, record, tags, created_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(service.id.to_string())
        .bind(&stored.region)
        .bind(service.name.as_str())
        .bind(record)
        .bind(tags)
        .bind(service.created_at.as_millis() as i64)
        .execute(&mut *transaction)
        .await;
        if let Err(error) = inserted {
            let taken = error
                .as_database_error()
                .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
            return Err(match taken {
                true => StoreError::NameTaken {
                    name: service.name.clone(),
                    region: stored.region.clone(),
                },
                false => error.into(),
            });
        }
        if let Some(operation) = &service.operation {
            put_operation(&mut transaction, service.id, operation).await?;
        }
        link_operation(&mut transaction, service).await?;
        references::put(&mut transaction, stored).await?;
        if let Some(news) = news {
            news::put(&mut transaction, &stored.region, news).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Stores a service that was moved, with the revision that the move made, the operation that it ended
    /// and what is said of it.
    ///
    /// # Errors
    /// [`StoreError::ReferenceGone`], [`StoreError::HasParts`], and any; then nothing was stored.
    pub async fn update_service(
        &self,
        stored: &StoredService,
        revision: Option<&Revision>,
        ended: Option<&Operation>,
        news: Option<&News>,
    ) -> Result<(), StoreError> {
        let service = &stored.service;
        let record = to_json("services", &rows::without_operation(service))?;
        let tags = to_json("services", &stored.tags)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        if begins_to_go(service) && resources::has_parts(&mut transaction, service.id).await? {
            return Err(StoreError::HasParts {
                name: service.name.clone(),
            });
        }
        sqlx::query("UPDATE services SET record = ?, tags = ?, deleted_at = ? WHERE id = ?")
            .bind(record)
            .bind(tags)
            .bind(service.deleted_at.map(|at| at.as_millis() as i64))
            .bind(service.id.to_string())
            .execute(&mut *transaction)
            .await?;
        if let Some(revision) = revision {
            put_revision(&mut transaction, service.id, revision).await?;
        }
        for operation in ended.into_iter().chain(&service.operation) {
            put_operation(&mut transaction, service.id, operation).await?;
        }
        link_operation(&mut transaction, service).await?;
        references::put(&mut transaction, stored).await?;
        if ended.is_some() {
            forget_old(&mut transaction, service).await?;
        }
        if let Some(news) = news {
            news::put(&mut transaction, &stored.region, news).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets services that were deleted before `before`, with all that belonged to them; answers
    /// which.
    ///
    /// # Errors
    /// Any.
    pub async fn forget_deleted(&self, before: Timestamp) -> Result<Vec<ServiceId>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let ids: Vec<String> =
            sqlx::query_scalar("DELETE FROM services WHERE deleted_at < ? RETURNING id")
                .bind(before.as_millis() as i64)
                .fetch_all(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// One revision of a service.
    ///
    /// # Errors
    /// Any.
    pub async fn revision(
        &self,
        service: ServiceId,
        number: RevisionNumber,
    ) -> Result<Option<Revision>, StoreError> {
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM revisions WHERE service = ? AND number = ?")
                .bind(service.to_string())
                .bind(number.0)
                .fetch_optional(&self.readers)
                .await?;
        record
            .map(|record| from_json("revisions", &record))
            .transpose()
    }

    /// A service's revisions that are kept, newest first: at most `count`, older than `before` if
    /// given.
    ///
    /// # Errors
    /// Any.
    pub async fn revisions(
        &self,
        service: ServiceId,
        before: Option<RevisionNumber>,
        count: u32,
    ) -> Result<Vec<Revision>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM revisions WHERE service = ? AND number < ? \
             ORDER BY number DESC LIMIT ?",
        )
        .bind(service.to_string())
        .bind(before.map_or(u32::MAX, |number| number.0))
        .bind(count)
        .fetch_all(&self.readers)
        .await?;
        let read = |record: &String| from_json("revisions", record);
        records.iter().map(read).collect()
    }

    /// The image of every revision that is kept, and those of build steps: what must not be collected.
    ///
    /// # Errors
    /// Any.
    pub async fn images(&self) -> Result<Vec<Digest>, StoreError> {
        let images: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT r.image FROM revisions r JOIN services s ON s.id = r.service \
             WHERE s.deleted_at IS NULL",
        )
        .fetch_all(&self.readers)
        .await?;
        let steps: Vec<String> = sqlx::query_scalar(
            "SELECT b.record FROM build_steps b JOIN services s ON s.id = b.service \
             WHERE s.deleted_at IS NULL",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut digests: Vec<Digest> = images
            .iter()
            .filter_map(|image| image.parse().ok())
            .collect();
        for step in steps {
            digests.extend(builds::images_of(&step)?);
        }
        Ok(digests)
    }

    /// A service's operations, newest first: at most `count`, older than `before` if given. The
    /// number with each is its place, to go on from.
    ///
    /// # Errors
    /// Any.
    pub async fn operations(
        &self,
        service: ServiceId,
        before: Option<i64>,
        count: u32,
    ) -> Result<Vec<(i64, Operation)>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT sequence, record FROM operations WHERE service = ? AND sequence < ? \
             ORDER BY sequence DESC LIMIT ?",
        )
        .bind(service.to_string())
        .bind(before.unwrap_or(i64::MAX))
        .bind(count)
        .fetch_all(&self.readers)
        .await?;
        let read =
            |(sequence, record): (i64, String)| Ok((sequence, from_json("operations", &record)?));
        rows.into_iter().map(read).collect()
    }

    /// One operation of a service.
    ///
    /// # Errors
    /// Any.
    pub async fn operation(
        &self,
        service: ServiceId,
        id: OperationId,
    ) -> Result<Option<Operation>, StoreError> {
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM operations WHERE service = ? AND id = ?")
                .bind(service.to_string())
                .bind(id.to_string())
                .fetch_optional(&self.readers)
                .await?;
        record
            .map(|record| from_json("operations", &record))
            .transpose()
    }

    /// What the edge was last told, and the generation of that.
    ///
    /// # Errors
    /// Any.
    pub async fn routes(&self) -> Result<(Generation, Vec<Route>), StoreError> {
        let generation: i64 =
            sqlx::query_scalar("SELECT value FROM counters WHERE name = 'generation'")
                .fetch_one(&self.readers)
                .await?;
        let records: Vec<String> = sqlx::query_scalar("SELECT record FROM routes ORDER BY service")
            .fetch_all(&self.readers)
            .await?;
        let routes: Result<_, _> = records
            .iter()
            .map(|record| from_json("routes", record))
            .collect();
        Ok((Generation(generation as u64), routes?))
    }

    /// Stores services' routes, or that they have none, under one new generation, which is answered.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn put_routes(
        &self,
        routes: &[(ServiceId, Option<&Route>)],
    ) -> Result<Generation, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        for (service, route) in routes {
            match route.map(|route| to_json("routes", route)).transpose()? {
                Some(record) => {
                    sqlx::query(
                        "INSERT INTO routes (service, record) VALUES (?, ?) \
                         ON CONFLICT (service) DO UPDATE SET record = excluded.record",
                    )
                    .bind(service.to_string())
                    .bind(record)
                    .execute(&mut *transaction)
                    .await?;
                }
                None => {
                    sqlx::query("DELETE FROM routes WHERE service = ?")
                        .bind(service.to_string())
                        .execute(&mut *transaction)
                        .await?;
                }
            }
        }
        let generation: i64 = sqlx::query_scalar(
            "UPDATE counters SET value = value + 1 WHERE name = 'generation' RETURNING value",
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Generation(generation as u64))
    }

    /// Stores one service's route, as [`Store::put_routes`].
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn put_route(
        &self,
        service: ServiceId,
        route: Option<&Route>,
    ) -> Result<Generation, StoreError> {
        self.put_routes(&[(service, route)]).await
    }

    /// Begins a write. A transaction that begins by reading and then writes would fail at once, and
    /// not wait, when another wrote in between (SQLite documentation, "Isolation"): hence
    /// `IMMEDIATE`.
    async fn begin<'a>(
        &self,
        writer: &'a mut SqliteConnection,
    ) -> Result<Transaction<'a>, StoreError> {
        let mut transaction = self.begin_immediate(writer).await?;
        let current: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'epoch'")
            .fetch_one(&mut *transaction)
            .await?;
        match current == self.epoch {
            true => Ok(transaction),
            false => Err(StoreError::Superseded),
        }
    }

    /// SQLite itself rolls a transaction back when the disk is full (SQLite documentation,
    /// "Transaction", 2.3); sqlx goes on counting it as open and refuses every later one. Only
    /// another connection forgets it.
    async fn begin_immediate<'a>(
        &self,
        writer: &'a mut SqliteConnection,
    ) -> Result<Transaction<'a>, StoreError> {
        if writer.is_in_transaction() {
            // A transaction that was just dropped is rolled back in turn, before a ping.
            writer.ping().await?;
        }
        if writer.is_in_transaction() {
            *writer = SqliteConnection::connect_with(&self.options).await?;
        }
        Ok(writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Whether its deletion was accepted, and nothing of it done.
fn begins_to_go(service: &Service) -> bool {
    service.operation.as_ref().is_some_and(|operation| {
        operation.kind == OperationKind::DeleteService && operation.phase == Phase::Accepted
    })
}

type Transaction<'a> = sqlx::Transaction<'a, sqlx::Sqlite>;

async fn put_operation(
    transaction: &mut Transaction<'_>,
    service: ServiceId,
    operation: &Operation,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operations (id, service, record) VALUES (?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET record = excluded.record",
    )
    .bind(operation.id.to_string())
    .bind(service.to_string())
    .bind(to_json("operations", operation)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn put_revision(
    transaction: &mut Transaction<'_>,
    service: ServiceId,
    revision: &Revision,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO revisions (service, number, image, record) VALUES (?, ?, ?, ?)")
        .bind(service.to_string())
        .bind(revision.number.0)
        .bind(revision.image.digest.to_string())
        .bind(to_json("revisions", revision)?)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn link_operation(
    transaction: &mut Transaction<'_>,
    service: &Service,
) -> Result<(), StoreError> {
    let operation = service
        .operation
        .as_ref()
        .map(|operation| operation.id.to_string());
    sqlx::query("UPDATE services SET operation = ? WHERE id = ?")
        .bind(operation)
        .bind(service.id.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Keeps history bounded.
async fn forget_old(
    transaction: &mut Transaction<'_>,
    service: &Service,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM operations WHERE service = ?1 AND sequence <= (SELECT sequence \
         FROM operations WHERE service = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(service.id.to_string())
    .bind(OPERATIONS_KEPT_MAX)
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "DELETE FROM revisions WHERE service = ?1 AND number IS NOT ?2 \
         AND number NOT IN (SELECT value FROM json_each(?4)) AND number <= (SELECT number \
         FROM revisions WHERE service = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?3)",
    )
    .bind(service.id.to_string())
    .bind(service.active.map(|number| number.0))
    .bind(REVISIONS_KEPT_MAX)
    .bind(to_json("services", &service.served)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_was_full_is_written_to_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("ekiden.db"))
            .await
            .expect("a store");
        let mut writer = store.writer.lock().await;
        // As small as it may be: what it is already ("PRAGMA max_page_count").
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&mut *writer)
            .await
            .expect("a pragma");
        let mut transaction = store.begin(&mut writer).await.expect("a transaction");
        let insert = "INSERT INTO counters (name, value) VALUES (hex(zeroblob(1000000)), 1)";
        let full = sqlx::query(insert)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from);
        assert!(matches!(full, Err(StoreError::DiskFull)), "{full:?}");
        drop(transaction);
        let mut transaction = store.begin(&mut writer).await.expect("another transaction");
        sqlx::query(insert)
            .execute(&mut *transaction)
            .await
            .expect("there is room now");
        transaction.commit().await.expect("it is written");
    }
}

//! What owners make beside services: connections, VPC connectors and the like, and the revisions of
//! auto scaling and observability configurations.
//!
//! They are one table, because they are named, numbered, looked up, listed, tagged and deleted
//! alike; a [`Kind`] says what its records hold and whether they have revisions. Whoever changes
//! one gives a function that is called inside the write transaction, sees the resource as it is at
//! that moment, whether a service uses it included, and may refuse: so two changes at once, or a
//! change and a service that begins to use the resource, cannot pass each other.
//!
//! A deleted resource is remembered for a while, so that clients see that it is gone, and then
//! forgotten by [`Store::forget_deleted_resources`]. The numbers of revisions are never forgotten.
//!
//! Some resources every region has from the beginning. They are read as if they were in the table,
//! and put there by the first change of their kind in the region: reading writes nothing.

use ekiden_model::{
    id::{ResourceId, ServiceId},
    time::Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Sqlite, query::QueryAs, sqlite::SqliteArguments};

use crate::{
    Store, StoreError, Transaction,
    rows::{from_json, to_json},
};

/// What is particular to one kind of resources: the type is what its records hold.
pub trait Kind: Serialize + DeserializeOwned + Send + Sync + Unpin {
    /// The kind as ARNs spell it, such as `vpcconnector`.
    const NAME: &'static str;

    /// Whether a name has revisions.
    const NUMBERING: Numbering;

    /// Whether something is still to be done about it that does not wait for its owner: see
    /// [`Store::pending_resources`].
    fn is_pending(&self) -> bool {
        false
    }
}

/// What making a resource of a name that exists already means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// It is refused.
    Single,
    /// It makes the next revision. No number is given twice, not even after all was deleted.
    Revisions,
}

/// A resource to be made.
#[derive(Debug, Clone)]
pub struct New<K> {
    /// Its owner's.
    pub name: String,
    /// Drawn by the caller.
    pub id: ResourceId,
    /// What it is.
    pub record: K,
    /// Its owner's labels, sorted by key.
    pub tags: Vec<(String, String)>,
    /// When it is made.
    pub created_at: Timestamp,
    /// The service that it is a part of. That must have no operation on its way, and cannot be
    /// deleted before its parts are.
    pub service: Option<ServiceId>,
}

/// How many there may be; what is there already stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Names of the kind in the region. Those that every region has do not count.
    pub names: u64,
    /// Revisions of one name that are not deleted.
    pub revisions: u64,
    /// Parts of this kind of one service.
    pub per_service: u64,
}

/// A resource as it is, or was when it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource<K> {
    /// Its owner's.
    pub name: String,
    /// Counted from 1 within the name; 1 for kinds without revisions.
    pub revision: u32,
    /// Unique within its kind and region.
    pub id: ResourceId,
    /// What it is.
    pub record: K,
    /// Its owner's labels, sorted by key.
    pub tags: Vec<(String, String)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// Whether it is its region's default of the kind.
    pub is_default: bool,
    /// Whether it is the newest revision of its name that is not deleted.
    pub is_latest: bool,
    /// Whether a service uses it.
    pub in_use: bool,
}

/// How a resource is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which<'a> {
    /// Exactly; a deleted one is found while it is remembered.
    Id(ResourceId),
    /// By name and number; a deleted one is found while it is remembered and no other is there.
    Numbered(&'a str, u32),
    /// The newest of a name that is not deleted.
    Newest(&'a str),
    /// The region's default.
    Default,
}

/// Which resources to list; those that are deleted never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter<'a> {
    /// Only of this name.
    pub name: Option<&'a str>,
    /// Only the newest of each name, and the default whichever it is.
    pub latest_only: bool,
    /// Only parts of this service.
    pub service: Option<ServiceId>,
    /// Only those whose record has this text at this path, such as `$.vpc_endpoint_id`.
    pub member: Option<(&'a str, &'a str)>,
}

/// A service that uses a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Identity.
    pub id: ServiceId,
    /// Name.
    pub name: String,
    /// When it was created; users are listed in this order.
    pub created_at: Timestamp,
}

/// Why a resource was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The kind has no revisions, and the name is taken.
    #[error("the name is taken")]
    NameTaken,
    /// As many names as there may be.
    #[error("there is no room for another name")]
    NamesFull,
    /// As many revisions of the name as there may be.
    #[error("there is no room for another revision")]
    RevisionsFull,
    /// The service has as many as it may have.
    #[error("the service has no room for another")]
    ServiceFull,
    /// The service it would be a part of is not there.
    #[error("no such service")]
    ServiceUnknown,
    /// The service it would be a part of has an operation on its way.
    #[error("the service has an operation on its way")]
    ServiceBusy,
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a resource was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<R> {
    /// There is none.
    #[error("no such resource")]
    Unknown,
    /// The change itself refused.
    #[error("refused")]
    Refused(R),
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl<R> From<sqlx::Error> for ChangeError<R> {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Makes a resource, or the next revision of one, if there is room.
    ///
    /// # Errors
    /// [`CreateError`]; a name that is taken comes before a bound that is reached.
    pub async fn create_resource<K: Kind>(
        &self,
        region: &str,
        new: &New<K>,
        room: Room,
    ) -> Result<Resource<K>, CreateError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        put_given::<K>(&mut transaction, region).await?;
        if let Some(service) = new.service {
            check_service::<K>(&mut transaction, region, service, room).await?;
        }
        check_room::<K>(&mut transaction, region, &new.name, room).await?;
        let revision = match K::NUMBERING {
            Numbering::Single => 1,
            Numbering::Revisions => next_number::<K>(&mut transaction, region, &new.name).await?,
        };
        sqlx::query(
            "INSERT INTO resources \
             (region, kind, name, revision, id, record, tags, service, pending, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(region)
        .bind(K::NAME)
        .bind(&new.name)
        .bind(revision)
        .bind(new.id.to_string())
        .bind(to_json("resources", &new.record)?)
        .bind(to_json("resources", &new.tags)?)
        .bind(new.service.map(|service| service.to_string()))
        .bind(new.record.is_pending())
        .bind(new.created_at.as_millis().cast_signed())
        .execute(&mut *transaction)
        .await?;
        let made = Selection::new(Which::Id(new.id))
            .read(region, &mut *transaction)
            .await?
            .pop();
        transaction.commit().await?;
        made.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// One resource.
    ///
    /// # Errors
    /// Any.
    pub async fn resource<K: Kind>(
        &self,
        region: &str,
        which: Which<'_>,
    ) -> Result<Option<Resource<K>>, StoreError> {
        let found = Selection::new(which).read(region, &self.readers).await?;
        Ok(found.into_iter().next())
    }

    /// Resources that are not deleted, by name and number: at most `count`, after a place if given.
    ///
    /// # Errors
    /// Any.
    pub async fn resources<K: Kind>(
        &self,
        region: &str,
        filter: Filter<'_>,
        after: Option<(&str, u32)>,
        count: u32,
    ) -> Result<Vec<Resource<K>>, StoreError> {
        let (name, revision) = after.unwrap_or(("", 0));
        let (path, text) = filter.member.unzip();
        let sql = format!(
            "{SELECT} WHERE h.deleted_at IS NULL AND (h.name, h.revision) > (?3, ?4) \
             AND (?5 IS NULL OR h.name = ?5) AND (NOT ?6 OR is_latest OR h.is_default) \
             AND (?7 IS NULL OR h.service = ?7) \
             AND (?8 IS NULL OR json_extract(h.record, ?8) = ?9) \
             ORDER BY h.name, h.revision LIMIT ?10"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(region)
            .bind(K::NAME)
            .bind(name)
            .bind(revision)
            .bind(filter.name)
            .bind(filter.latest_only)
            .bind(filter.service.map(|service| service.to_string()))
            .bind(path)
            .bind(text)
            .bind(count)
            .fetch_all(&self.readers)
            .await?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Changes a resource: `change` gets it as it is, and what it makes of its record, its tags, its
    /// deletion and its being the default is stored. There is one default at a time: making one
    /// takes it from the other.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed then.
    pub async fn change_resource<K: Kind, R>(
        &self,
        region: &str,
        id: ResourceId,
        change: impl FnOnce(&mut Resource<K>) -> Result<(), R> + Send,
    ) -> Result<Resource<K>, ChangeError<R>> {
        let one = |found: &mut [Resource<K>]| match found.first_mut() {
            Some(resource) => change(resource),
            None => Ok(()),
        };
        let changed = self
            .change_selection(region, Selection::new(Which::Id(id)), one)
            .await?;
        changed.into_iter().next().ok_or(ChangeError::Unknown)
    }

    /// Changes all revisions of a name that are not deleted, oldest first, together.
    ///
    /// # Errors
    /// As [`Store::change_resource`].
    pub async fn change_revisions<K: Kind, R>(
        &self,
        region: &str,
        name: &str,
        change: impl FnOnce(&mut [Resource<K>]) -> Result<(), R> + Send,
    ) -> Result<Vec<Resource<K>>, ChangeError<R>> {
        let changed = self
            .change_selection(region, Selection::revisions(name), change)
            .await?;
        match changed.is_empty() {
            false => Ok(changed),
            true => Err(ChangeError::Unknown),
        }
    }

    async fn change_selection<K: Kind, R>(
        &self,
        region: &str,
        selection: Selection<'_>,
        change: impl FnOnce(&mut [Resource<K>]) -> Result<(), R> + Send,
    ) -> Result<Vec<Resource<K>>, ChangeError<R>> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        put_given::<K>(&mut transaction, region).await?;
        let mut found: Vec<Resource<K>> = selection.read(region, &mut *transaction).await?;
        change(&mut found).map_err(ChangeError::Refused)?;
        for resource in &found {
            put(&mut transaction, region, resource).await?;
        }
        // Read again: which is the latest may be another one now.
        let mut changed = Vec::with_capacity(found.len());
        for resource in found {
            let again = Selection::new(Which::Id(resource.id));
            changed.extend(again.read(region, &mut *transaction).await?);
        }
        transaction.commit().await?;
        Ok(changed)
    }

    /// Every resource of a kind about which something is still to be done, with its region.
    ///
    /// # Errors
    /// Any.
    pub async fn pending_resources<K: Kind>(
        &self,
    ) -> Result<Vec<(String, ResourceId)>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT region, id FROM resources WHERE kind = ? AND pending")
                .bind(K::NAME)
                .fetch_all(&self.readers)
                .await?;
        rows.into_iter()
            .map(|(region, id)| Ok((region, parse_id(&id)?)))
            .collect()
    }

    /// Services that use a resource, oldest first: at most `count`, after a place if given.
    ///
    /// # Errors
    /// Any.
    pub async fn resource_users<K: Kind>(
        &self,
        region: &str,
        id: ResourceId,
        after: Option<(Timestamp, ServiceId)>,
        count: u32,
    ) -> Result<Vec<User>, StoreError> {
        let (at, after) = after.unzip();
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT s.id, s.name, s.created_at FROM service_references f \
             JOIN services s ON s.id = f.service \
             WHERE f.region = ? AND f.kind = ? AND f.resource = ? \
             AND (s.created_at, s.id) > (?, ?) ORDER BY s.created_at, s.id LIMIT ?",
        )
        .bind(region)
        .bind(K::NAME)
        .bind(id.to_string())
        .bind(at.map_or(-1, |at| at.as_millis().cast_signed()))
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(count)
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter()
            .map(|(id, name, at)| {
                Ok(User {
                    id: parse_id(&id)?,
                    name,
                    created_at: Timestamp::from_millis(at.cast_unsigned()),
                })
            })
            .collect()
    }

    /// Forgets resources that were deleted before `before`; answers how many.
    ///
    /// # Errors
    /// Any.
    pub async fn forget_deleted_resources(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let forgotten = sqlx::query("DELETE FROM resources WHERE deleted_at < ?")
            .bind(before.as_millis().cast_signed())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// A region's resources of a kind (`?1` and `?2`), with those that every region has and that are
/// not in the table yet.
const SELECT: &str = "\
    SELECT h.name, h.revision, h.id, h.record, h.tags, h.is_default, h.created_at, h.deleted_at, \
    h.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM resources o \
        WHERE o.region = ?1 AND o.kind = ?2 AND o.name = h.name AND o.revision > h.revision \
        AND o.deleted_at IS NULL) AS is_latest, \
    EXISTS (SELECT 1 FROM service_references f \
        WHERE f.region = ?1 AND f.kind = ?2 AND f.resource = h.id) AS in_use \
    FROM (SELECT name, revision, id, record, tags, service, is_default, created_at, deleted_at \
        FROM resources WHERE region = ?1 AND kind = ?2 \
        UNION ALL \
        SELECT name, revision, id, record, '[]', NULL, 1, 0, NULL FROM resources_given g \
        WHERE g.kind = ?2 AND NOT EXISTS (SELECT 1 FROM resources r \
            WHERE r.region = ?1 AND r.kind = ?2 AND r.id = g.id)) h";

/// The end of a query that begins with [`SELECT`], and what is bound from `?3` on.
struct Selection<'a> {
    rest: &'static str,
    text: Option<String>,
    name: Option<&'a str>,
    number: Option<u32>,
}

impl<'a> Selection<'a> {
    fn new(which: Which<'a>) -> Self {
        let empty = Self {
            rest: "",
            text: None,
            name: None,
            number: None,
        };
        match which {
            Which::Id(id) => Self {
                rest: " WHERE h.id = ?3",
                text: Some(id.to_string()),
                ..empty
            },
            Which::Numbered(name, number) => Self {
                rest: " WHERE h.name = ?4 AND h.revision = ?5 \
                       ORDER BY h.deleted_at IS NOT NULL, h.deleted_at DESC LIMIT 1",
                name: Some(name),
                number: Some(number),
                ..empty
            },
            Which::Newest(name) => Self {
                rest: " WHERE h.name = ?4 AND h.deleted_at IS NULL \
                       ORDER BY h.revision DESC LIMIT 1",
                name: Some(name),
                ..empty
            },
            Which::Default => Self {
                rest: " WHERE h.is_default",
                ..empty
            },
        }
    }

    fn revisions(name: &'a str) -> Self {
        Self {
            rest: " WHERE h.name = ?4 AND h.deleted_at IS NULL ORDER BY h.revision",
            text: None,
            name: Some(name),
            number: None,
        }
    }

    async fn read<'e, K: Kind>(
        &self,
        region: &str,
        executor: impl sqlx::Executor<'e, Database = Sqlite>,
    ) -> Result<Vec<Resource<K>>, StoreError> {
        let sql = format!("{SELECT}{}", self.rest);
        let query: QueryAs<'_, Sqlite, Row, SqliteArguments> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql));
        let rows = query
            .bind(region)
            .bind(K::NAME)
            .bind(&self.text)
            .bind(self.name)
            .bind(self.number)
            .fetch_all(executor)
            .await?;
        rows.into_iter().map(Row::read).collect()
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    name: String,
    revision: u32,
    id: String,
    record: String,
    tags: String,
    is_default: bool,
    created_at: i64,
    deleted_at: Option<i64>,
    is_latest: bool,
    in_use: bool,
}

impl Row {
    fn read<K: Kind>(self) -> Result<Resource<K>, StoreError> {
        let at = |millis: i64| Timestamp::from_millis(millis.cast_unsigned());
        Ok(Resource {
            name: self.name,
            revision: self.revision,
            id: parse_id(&self.id)?,
            record: from_json("resources", &self.record)?,
            tags: from_json("resources", &self.tags)?,
            created_at: at(self.created_at),
            deleted_at: self.deleted_at.map(at),
            is_default: self.is_default,
            is_latest: self.is_latest,
            in_use: self.in_use,
        })
    }
}

fn parse_id<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_value(text.into()).map_err(|source| StoreError::Corrupt {
        table: "resources",
        source,
    })
}

/// Puts what every region has into the table, so that it can be changed.
async fn put_given<K: Kind>(
    transaction: &mut Transaction<'_>,
    region: &str,
) -> Result<(), StoreError> {
    for sql in [
        "INSERT OR IGNORE INTO resources \
         (region, kind, name, revision, id, record, tags, is_default, created_at) \
         SELECT ?1, kind, name, revision, id, record, '[]', 1, 0 FROM resources_given \
         WHERE kind = ?2",
        "INSERT OR IGNORE INTO revision_numbers (region, kind, name, newest) \
         SELECT ?1, kind, name, revision FROM resources_given WHERE kind = ?2",
    ] {
        sqlx::query(sql)
            .bind(region)
            .bind(K::NAME)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn check_service<K: Kind>(
    transaction: &mut Transaction<'_>,
    region: &str,
    service: ServiceId,
    room: Room,
) -> Result<(), CreateError> {
    let busy: Option<bool> = sqlx::query_scalar(
        "SELECT operation IS NOT NULL FROM services \
         WHERE id = ? AND region = ? AND deleted_at IS NULL",
    )
    .bind(service.to_string())
    .bind(region)
    .fetch_optional(&mut **transaction)
    .await?;
    match busy {
        None => return Err(CreateError::ServiceUnknown),
        Some(true) => return Err(CreateError::ServiceBusy),
        Some(false) => {}
    }
    let parts: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM resources \
         WHERE service = ? AND region = ? AND kind = ? AND deleted_at IS NULL",
    )
    .bind(service.to_string())
    .bind(region)
    .bind(K::NAME)
    .fetch_one(&mut **transaction)
    .await?;
    match parts.cast_unsigned() < room.per_service {
        true => Ok(()),
        false => Err(CreateError::ServiceFull),
    }
}

async fn check_room<K: Kind>(
    transaction: &mut Transaction<'_>,
    region: &str,
    name: &str,
    room: Room,
) -> Result<(), CreateError> {
    let revisions: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM resources \
         WHERE region = ? AND kind = ? AND name = ? AND deleted_at IS NULL",
    )
    .bind(region)
    .bind(K::NAME)
    .bind(name)
    .fetch_one(&mut **transaction)
    .await?;
    match (K::NUMBERING, revisions.cast_unsigned()) {
        (Numbering::Single | Numbering::Revisions, 0) => {}
        (Numbering::Single, _) => return Err(CreateError::NameTaken),
        (Numbering::Revisions, count) if count < room.revisions => return Ok(()),
        (Numbering::Revisions, _) => return Err(CreateError::RevisionsFull),
    }
    let names: i64 = sqlx::query_scalar(
        "SELECT COUNT(DISTINCT name) FROM resources \
         WHERE region = ?1 AND kind = ?2 AND deleted_at IS NULL \
         AND name NOT IN (SELECT name FROM resources_given WHERE kind = ?2)",
    )
    .bind(region)
    .bind(K::NAME)
    .fetch_one(&mut **transaction)
    .await?;
    match names.cast_unsigned() < room.names {
        true => Ok(()),
        false => Err(CreateError::NamesFull),
    }
}

async fn next_number<K: Kind>(
    transaction: &mut Transaction<'_>,
    region: &str,
    name: &str,
) -> Result<u32, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO revision_numbers (region, kind, name, newest) VALUES (?, ?, ?, 1) \
         ON CONFLICT DO UPDATE SET newest = newest + 1 RETURNING newest",
    )
    .bind(region)
    .bind(K::NAME)
    .bind(name)
    .fetch_one(&mut **transaction)
    .await?)
}

async fn put<K: Kind>(
    transaction: &mut Transaction<'_>,
    region: &str,
    resource: &Resource<K>,
) -> Result<(), StoreError> {
    if resource.is_default {
        sqlx::query(
            "UPDATE resources SET is_default = 0 \
             WHERE region = ? AND kind = ? AND is_default AND id <> ?",
        )
        .bind(region)
        .bind(K::NAME)
        .bind(resource.id.to_string())
        .execute(&mut **transaction)
        .await?;
    }
    sqlx::query(
        "UPDATE resources SET record = ?, tags = ?, is_default = ?, pending = ?, deleted_at = ? \
         WHERE region = ? AND kind = ? AND id = ?",
    )
    .bind(to_json("resources", &resource.record)?)
    .bind(to_json("resources", &resource.tags)?)
    .bind(resource.is_default)
    .bind(resource.record.is_pending() && resource.deleted_at.is_none())
    .bind(resource.deleted_at.map(|at| at.as_millis().cast_signed()))
    .bind(region)
    .bind(K::NAME)
    .bind(resource.id.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Whether a service has parts that must be deleted before it.
pub(crate) async fn has_parts(
    transaction: &mut Transaction<'_>,
    service: ServiceId,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM resources WHERE service = ? AND deleted_at IS NULL)",
    )
    .bind(service.to_string())
    .fetch_one(&mut **transaction)
    .await?)
}

//! The registry's repositories, manifests, tags, and which blobs there are.
//!
//! Bytes of blobs are files, kept by whoever calls: a blob is put here when its file is whole, and its
//! file goes when it is here no more. Everything else about images is here.

use std::time::Duration;

use ekiden_model::{
    image::Digest,
    repository::{ManifestRecord, Repository},
    time::Timestamp,
};
use sqlx::Row;

use crate::{
    Store, StoreError, Transaction,
    rows::{from_json, to_json},
};

/// How often it is noted that a blob was asked for.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A manifest, and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewManifest {
    /// What is known of it.
    pub record: ManifestRecord,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Blobs that the repository must have: configuration and layers.
    pub blobs: Vec<Digest>,
    /// What an index names: manifests that the repository must have, or blobs, as of a build's cache.
    pub manifests: Vec<Digest>,
}

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is there, and the tag if there was one.
    Done {
        /// Whether the tag was another image's, or nobody's, before.
        tag_moved: bool,
    },
    /// There is no such repository.
    NoRepository,
    /// It names a blob that the repository does not have.
    NoBlob(Digest),
    /// It names a manifest that the repository does not have.
    NoManifest(Digest),
    /// The tag stays with the image that has it.
    TagIsKept,
}

/// What a tag or a digest stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// The image that has it now.
    Tag(&'a str),
    /// This one.
    Digest(Digest),
}

/// A manifest with its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// What is known of it.
    pub record: ManifestRecord,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// What a repository has of one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTags {
    /// What is known of it.
    pub record: ManifestRecord,
    /// Its tags, sorted.
    pub tags: Vec<String>,
}

/// What is to become of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryChange {
    /// It is as it was.
    None,
    /// It is there and is like this.
    Put(Box<Repository>),
    /// It is gone with all that it has.
    Remove,
}

impl Store {
    /// A repository by its name.
    ///
    /// # Errors
    /// Any.
    pub async fn repository(&self, name: &str) -> Result<Option<Repository>, StoreError> {
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM repositories WHERE name = ?")
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        record
            .map(|record| from_json("repositories", &record))
            .transpose()
    }

    /// At most `most` repositories after a name, by name.
    ///
    /// # Errors
    /// Any.
    pub async fn repositories(
        &self,
        after: &str,
        most: u32,
    ) -> Result<Vec<Repository>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM repositories WHERE name > ? ORDER BY name LIMIT ?",
        )
        .bind(after)
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        records
            .iter()
            .map(|record| from_json("repositories", record))
            .collect()
    }

    /// Changes the repository of a name, or makes it: `change` gets the one that there is, how many
    /// images it has, and how many repositories there are. What it refuses leaves everything as it was.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn change_repository<R, E>(
        &self,
        name: &str,
        change: impl FnOnce(Option<Repository>, u64, u64) -> Result<(RepositoryChange, R), E>,
    ) -> Result<Result<R, E>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM repositories WHERE name = ?")
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await?;
        let there = record
            .map(|record| from_json("repositories", &record))
            .transpose()?;
        let images: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM manifests WHERE repository = ?")
            .bind(name)
            .fetch_one(&mut *transaction)
            .await?;
        let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM repositories")
            .fetch_one(&mut *transaction)
            .await?;
        let (change, result) = match change(there, images.unsigned_abs(), all.unsigned_abs()) {
            Ok(changed) => changed,
            Err(refused) => return Ok(Err(refused)),
        };
        match change {
            RepositoryChange::None => return Ok(Ok(result)),
            RepositoryChange::Put(repository) => {
                sqlx::query(
                    "INSERT INTO repositories (name, record, created_at) VALUES (?, ?, ?) \
                     ON CONFLICT (name) DO UPDATE SET record = excluded.record",
                )
                .bind(name)
                .bind(to_json("repositories", &repository)?)
                .bind(repository.created_at.as_millis() as i64)
                .execute(&mut *transaction)
                .await?;
            }
            RepositoryChange::Remove => {
                sqlx::query("DELETE FROM repositories WHERE name = ?")
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(Ok(result))
    }

    /// The size of a blob that a repository has.
    ///
    /// # Errors
    /// Any.
    pub async fn repository_blob(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<u64>, StoreError> {
        let size: Option<i64> = sqlx::query_scalar(
            "SELECT b.size FROM repository_blobs r JOIN blobs b ON b.digest = r.digest \
             WHERE r.repository = ? AND r.digest = ?",
        )
        .bind(repository)
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        Ok(size.map(i64::unsigned_abs))
    }

    /// Gives a repository a blob whose file is whole; false when there is no such repository.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn put_repository_blob(
        &self,
        repository: &str,
        digest: Digest,
        size: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        if !has_repository(&mut transaction, repository).await? {
            return Ok(false);
        }
        let digest = digest.to_string();
        sqlx::query("INSERT INTO blobs (digest, size) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(&digest)
            .bind(size as i64)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO repository_blobs (repository, digest, linked_at) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET linked_at = excluded.linked_at",
        )
        .bind(repository)
        .bind(&digest)
        .bind(now.as_millis() as i64)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Gives a repository a blob that another one has; `None` when that one has it not, or this one is
    /// not there.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn mount_repository_blob(
        &self,
        repository: &str,
        from: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let Some(size) = self.repository_blob(from, digest).await? else {
            return Ok(None);
        };
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        // It may have gone since.
        let mounted = sqlx::query(
            "INSERT INTO repository_blobs (repository, digest, linked_at) \
             SELECT r.name, f.digest, ? FROM repositories r, repository_blobs f \
             WHERE r.name = ? AND f.repository = ? AND f.digest = ? \
             ON CONFLICT DO UPDATE SET linked_at = excluded.linked_at",
        )
        .bind(now.as_millis() as i64)
        .bind(repository)
        .bind(from)
        .bind(digest.to_string())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok((mounted.rows_affected() > 0).then_some(size))
    }

    /// Notes that a repository was asked for a blob, unless that was noted lately.
    ///
    /// # Errors
    /// Any.
    pub async fn touch_repository_blob(
        &self,
        repository: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let noted: Option<i64> = sqlx::query_scalar(
            "SELECT linked_at FROM repository_blobs WHERE repository = ? AND digest = ?",
        )
        .bind(repository)
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        let noted = noted.map(|at| Timestamp::from_millis(at.unsigned_abs()));
        if noted.is_none_or(|at| now.since(at) < TOUCH_EVERY) {
            return Ok(());
        }
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "UPDATE repository_blobs SET linked_at = ? WHERE repository = ? AND digest = ?",
        )
        .bind(now.as_millis() as i64)
        .bind(repository)
        .bind(digest.to_string())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Takes a blob from a repository; false when it had it not. Whether a manifest names it is not
    /// looked at: whoever deletes a blob has asked for it.
    ///
    /// # Errors
    /// Any.
    pub async fn remove_repository_blob(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let removed =
            sqlx::query("DELETE FROM repository_blobs WHERE repository = ? AND digest = ?")
                .bind(repository)
                .bind(digest.to_string())
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// Stores a manifest, and gives it a tag, if everything that it names is there.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn put_manifest(
        &self,
        repository: &str,
        manifest: &NewManifest,
        tag: Option<&str>,
        now: Timestamp,
    ) -> Result<Put, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM repositories WHERE name = ?")
                .bind(repository)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(record) = record else {
            return Ok(Put::NoRepository);
        };
        let settings: Repository = from_json("repositories", &record)?;
        for digest in &manifest.blobs {
            let query = "SELECT 1 FROM repository_blobs WHERE repository = ? AND digest = ?";
            if !is_there(&mut transaction, query, repository, *digest).await? {
                return Ok(Put::NoBlob(*digest));
            }
        }
        for digest in &manifest.manifests {
            let manifest = "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?";
            let blob = "SELECT 1 FROM repository_blobs WHERE repository = ? AND digest = ?";
            if !is_there(&mut transaction, manifest, repository, *digest).await?
                && !is_there(&mut transaction, blob, repository, *digest).await?
            {
                return Ok(Put::NoManifest(*digest));
            }
        }
        let digest = manifest.record.digest.to_string();
        let mut tag_moved = false;
        if let Some(tag) = tag {
            let holder = tagged(&mut transaction, repository, tag).await?;
            tag_moved = holder.as_deref() != Some(&digest);
            if tag_moved && holder.is_some() && settings.keeps(tag) {
                return Ok(Put::TagIsKept);
            }
        }
        insert_manifest(&mut transaction, repository, manifest, now).await?;
        if let Some(tag) = tag {
            sqlx::query(
                "INSERT INTO repository_tags (repository, tag, digest, tagged_at) \
                 VALUES (?, ?, ?, ?) ON CONFLICT (repository, tag) DO UPDATE \
                 SET digest = excluded.digest, tagged_at = excluded.tagged_at",
            )
            .bind(repository)
            .bind(tag)
            .bind(&digest)
            .bind(now.as_millis() as i64)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(Put::Done { tag_moved })
    }

    /// A manifest.
    ///
    /// # Errors
    /// Any.
    pub async fn manifest(
        &self,
        repository: &str,
        reference: Reference<'_>,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let query = match reference {
            Reference::Tag(tag) => sqlx::query(
                "SELECT m.record, m.content FROM repository_tags t JOIN manifests m \
                 ON m.repository = t.repository AND m.digest = t.digest \
                 WHERE t.repository = ? AND t.tag = ?",
            )
            .bind(repository)
            .bind(tag.to_owned()),
            Reference::Digest(digest) => sqlx::query(
                "SELECT record, content FROM manifests WHERE repository = ? AND digest = ?",
            )
            .bind(repository)
            .bind(digest.to_string()),
        };
        let Some(row) = query.fetch_optional(&self.readers).await? else {
            return Ok(None);
        };
        Ok(Some(StoredManifest {
            record: from_json("manifests", row.try_get("record")?)?,
            content: row.try_get("content")?,
        }))
    }

    /// What a tag stands for now.
    ///
    /// # Errors
    /// Any.
    pub async fn tagged_image(
        &self,
        repository: &str,
        tag: &str,
    ) -> Result<Option<Digest>, StoreError> {
        let digest: Option<String> = sqlx::query_scalar(
            "SELECT digest FROM repository_tags WHERE repository = ? AND tag = ?",
        )
        .bind(repository)
        .bind(tag)
        .fetch_optional(&self.readers)
        .await?;
        Ok(digest.and_then(|digest| digest.parse().ok()))
    }

    /// Takes a tag from its image, or an image with all its tags, whoever names it; the digest that it was
    /// of.
    ///
    /// # Errors
    /// Any.
    pub async fn remove_manifest(
        &self,
        repository: &str,
        reference: Reference<'_>,
    ) -> Result<Option<Digest>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let removed: Option<String> =
            match reference {
                Reference::Tag(tag) => sqlx::query_scalar(
                    "DELETE FROM repository_tags WHERE repository = ? AND tag = ? RETURNING digest",
                )
                .bind(repository)
                .bind(tag.to_owned())
                .fetch_optional(&mut *transaction)
                .await?,
                Reference::Digest(digest) => sqlx::query_scalar(
                    "DELETE FROM manifests WHERE repository = ? AND digest = ? RETURNING digest",
                )
                .bind(repository)
                .bind(digest.to_string())
                .fetch_optional(&mut *transaction)
                .await?,
            };
        transaction.commit().await?;
        Ok(removed.and_then(|digest| digest.parse().ok()))
    }

    /// Takes a tag from its image, if that is of this digest, and the image with it when the tag was its
    /// last and no index names it; whether the tag was there.
    ///
    /// # Errors
    /// Any.
    pub async fn remove_tag(
        &self,
        repository: &str,
        tag: &str,
        digest: Digest,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let removed = sqlx::query(
            "DELETE FROM repository_tags WHERE repository = ? AND tag = ? AND digest = ?",
        )
        .bind(repository)
        .bind(tag)
        .bind(digest.to_string())
        .execute(&mut *transaction)
        .await?;
        if removed.rows_affected() > 0 {
            remove_untagged(&mut transaction, repository, digest, &[]).await?;
        }
        transaction.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// Removes an image that has just these tags and that no index names; whether it did.
    ///
    /// # Errors
    /// Any.
    pub async fn remove_image(
        &self,
        repository: &str,
        digest: Digest,
        tags: &[String],
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let removed = remove_untagged(&mut transaction, repository, digest, tags).await?;
        transaction.commit().await?;
        Ok(removed)
    }

    /// The tags of an image, sorted; `None` when there is no such image.
    ///
    /// # Errors
    /// Any.
    pub async fn image_tags(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let there: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM manifests WHERE repository = ? AND digest = ?")
                .bind(repository)
                .bind(digest.to_string())
                .fetch_optional(&self.readers)
                .await?;
        if there.is_none() {
            return Ok(None);
        }
        let tags = sqlx::query_scalar(
            "SELECT tag FROM repository_tags WHERE repository = ? AND digest = ? ORDER BY tag",
        )
        .bind(repository)
        .bind(digest.to_string())
        .fetch_all(&self.readers)
        .await?;
        Ok(Some(tags))
    }

    /// Whether another manifest of the repository names this one.
    ///
    /// # Errors
    /// Any.
    pub async fn is_referenced(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<bool, StoreError> {
        let by: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM manifest_references WHERE repository = ? AND digest = ? LIMIT 1",
        )
        .bind(repository)
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        Ok(by.is_some())
    }

    /// At most `most` tags after one, sorted.
    ///
    /// # Errors
    /// Any.
    pub async fn repository_tags(
        &self,
        repository: &str,
        after: &str,
        most: u32,
    ) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT tag FROM repository_tags WHERE repository = ? AND tag > ? \
             ORDER BY tag LIMIT ?",
        )
        .bind(repository)
        .bind(after)
        .bind(most)
        .fetch_all(&self.readers)
        .await?)
    }

    /// Every image of a repository with its tags, in the order in which they were pushed.
    ///
    /// # Errors
    /// Any.
    pub async fn images_of(&self, repository: &str) -> Result<Vec<ImageTags>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.record, (SELECT json_group_array(tag) FROM (SELECT tag FROM repository_tags t \
             WHERE t.repository = m.repository AND t.digest = m.digest ORDER BY tag)) AS tags \
             FROM manifests m WHERE m.repository = ? ORDER BY m.pushed_at, m.digest",
        )
        .bind(repository)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ImageTags {
                    record: from_json("manifests", row.try_get("record")?)?,
                    tags: from_json("repository_tags", row.try_get("tags")?)?,
                })
            })
            .collect()
    }

    /// What is known of the manifests that are about this one, in the order in which they were pushed: at
    /// most `most`, without the first `from`.
    ///
    /// # Errors
    /// Any.
    pub async fn referrers(
        &self,
        repository: &str,
        subject: Digest,
        from: u32,
        most: u32,
    ) -> Result<Vec<ManifestRecord>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM manifests WHERE repository = ? AND subject = ? \
             ORDER BY pushed_at, digest LIMIT ? OFFSET ?",
        )
        .bind(repository)
        .bind(subject.to_string())
        .bind(most)
        .bind(from)
        .fetch_all(&self.readers)
        .await?;
        records
            .iter()
            .map(|record| from_json("manifests", record))
            .collect()
    }

    /// Bytes of all blobs and manifests.
    ///
    /// # Errors
    /// Any.
    pub async fn image_bytes(&self) -> Result<u64, StoreError> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT (SELECT COALESCE(SUM(size), 0) FROM blobs) \
             + (SELECT COALESCE(SUM(LENGTH(content)), 0) FROM manifests)",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(bytes.unsigned_abs())
    }

    /// Every blob.
    ///
    /// # Errors
    /// Any.
    pub async fn blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let digests: Vec<String> = sqlx::query_scalar("SELECT digest FROM blobs")
            .fetch_all(&self.readers)
            .await?;
        Ok(digests
            .iter()
            .filter_map(|digest| digest.parse().ok())
            .collect())
    }

    /// Takes blobs from repositories that were given them before `before` and have no manifest that
    /// names them.
    ///
    /// # Errors
    /// Any.
    pub async fn unlink_unnamed_blobs(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let unlinked = sqlx::query(
            "DELETE FROM repository_blobs WHERE linked_at < ? AND NOT EXISTS \
             (SELECT 1 FROM manifest_references m WHERE m.repository = repository_blobs.repository \
             AND m.digest = repository_blobs.digest)",
        )
        .bind(before.as_millis() as i64)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(unlinked.rows_affected())
    }

    /// Forgets the blobs that no repository has; which.
    ///
    /// # Errors
    /// Any.
    pub async fn forget_unlinked_blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let forgotten: Vec<String> = sqlx::query_scalar(
            "DELETE FROM blobs WHERE NOT EXISTS \
             (SELECT 1 FROM repository_blobs r WHERE r.digest = blobs.digest) RETURNING digest",
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(forgotten
            .iter()
            .filter_map(|digest| digest.parse().ok())
            .collect())
    }

    /// Whether there is such a blob in any repository.
    ///
    /// # Errors
    /// Any.
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, StoreError> {
        let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM blobs WHERE digest = ?")
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await?;
        Ok(there.is_some())
    }
}

async fn has_repository(
    transaction: &mut Transaction<'_>,
    repository: &str,
) -> Result<bool, StoreError> {
    let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM repositories WHERE name = ?")
        .bind(repository)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(there.is_some())
}

async fn is_there(
    transaction: &mut Transaction<'_>,
    query: &'static str,
    repository: &str,
    digest: Digest,
) -> Result<bool, StoreError> {
    let there: Option<i64> = sqlx::query_scalar(query)
        .bind(repository)
        .bind(digest.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(there.is_some())
}

/// Removes an image that has just these tags and that no index names; whether it did.
async fn remove_untagged(
    transaction: &mut Transaction<'_>,
    repository: &str,
    digest: Digest,
    tags: &[String],
) -> Result<bool, StoreError> {
    let has: Vec<String> = sqlx::query_scalar(
        "SELECT tag FROM repository_tags WHERE repository = ? AND digest = ? ORDER BY tag",
    )
    .bind(repository)
    .bind(digest.to_string())
    .fetch_all(&mut **transaction)
    .await?;
    if has != tags {
        return Ok(false);
    }
    let removed = sqlx::query(
        "DELETE FROM manifests WHERE repository = ? AND digest = ? AND NOT EXISTS \
         (SELECT 1 FROM manifest_references r WHERE r.repository = manifests.repository \
         AND r.digest = manifests.digest)",
    )
    .bind(repository)
    .bind(digest.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(removed.rows_affected() > 0)
}

async fn tagged(
    transaction: &mut Transaction<'_>,
    repository: &str,
    tag: &str,
) -> Result<Option<String>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT digest FROM repository_tags WHERE repository = ? AND tag = ?")
            .bind(repository)
            .bind(tag)
            .fetch_optional(&mut **transaction)
            .await?,
    )
}

/// One that is there stays as it was pushed first.
async fn insert_manifest(
    transaction: &mut Transaction<'_>,
    repository: &str,
    manifest: &NewManifest,
    now: Timestamp,
) -> Result<(), StoreError> {
    let record = &manifest.record;
    let digest = record.digest.to_string();
    let inserted = sqlx::query(
        "INSERT INTO manifests (repository, digest, record, content, subject, pushed_at) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(repository)
    .bind(&digest)
    .bind(to_json("manifests", record)?)
    .bind(&manifest.content)
    .bind(record.subject.map(|subject| subject.to_string()))
    .bind(now.as_millis() as i64)
    .execute(&mut **transaction)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(());
    }
    for named in manifest.blobs.iter().chain(&manifest.manifests) {
        sqlx::query(
            "INSERT INTO manifest_references (repository, manifest, digest) VALUES (?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(repository)
        .bind(&digest)
        .bind(named.to_string())
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

//! Certificates, the attempts to get them, and the authorities they come from.

use std::collections::HashMap;

use ekiden_model::{
    certificate::{Attempts, Certificate},
    id::CertificateId,
};

use crate::{
    Store, StoreError,
    rows::{from_json, to_json},
};

/// A certificate as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCertificate {
    /// What is known of it.
    pub certificate: Certificate,
    /// PEM, its own first.
    pub chain: String,
    /// Its key, sealed.
    pub sealed: Vec<u8>,
}

/// How it goes with a wanted certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredAttempts {
    /// How often it failed, and what is under way.
    pub attempts: Attempts,
    /// The key of the one that is ordered, sealed.
    pub sealed: Option<Vec<u8>>,
}

/// An authority: the local one, or an account with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAuthority {
    /// Its certificate in PEM; empty for an account.
    pub chain: String,
    /// Its key, or the account's credentials, sealed.
    pub sealed: Vec<u8>,
}

impl Store {
    /// Every certificate.
    ///
    /// # Errors
    /// Any.
    pub async fn certificates(&self) -> Result<Vec<StoredCertificate>, StoreError> {
        let rows: Vec<(String, String, Vec<u8>)> =
            sqlx::query_as("SELECT record, chain, sealed FROM certificates ORDER BY id")
                .fetch_all(&self.readers)
                .await?;
        let read = |(record, chain, sealed): (String, String, Vec<u8>)| {
            Ok(StoredCertificate {
                certificate: from_json("certificates", &record)?,
                chain,
                sealed,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Stores a certificate, forgets those it replaces, and the attempts to get it (by their key).
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn put_certificate(
        &self,
        stored: &StoredCertificate,
        replaces: &[CertificateId],
        attempts: Option<&str>,
    ) -> Result<(), StoreError> {
        let record = to_json("certificates", &stored.certificate)?;
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "INSERT INTO certificates (id, record, chain, sealed) VALUES (?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET record = excluded.record",
        )
        .bind(stored.certificate.id.to_string())
        .bind(record)
        .bind(&stored.chain)
        .bind(&stored.sealed)
        .execute(&mut *transaction)
        .await?;
        for id in replaces {
            sqlx::query("DELETE FROM certificates WHERE id = ?")
                .bind(id.to_string())
                .execute(&mut *transaction)
                .await?;
        }
        if let Some(names) = attempts {
            sqlx::query("DELETE FROM certificate_attempts WHERE names = ?")
                .bind(names)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets a certificate; answers whether there was one.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn remove_certificate(&self, id: CertificateId) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let gone = sqlx::query("DELETE FROM certificates WHERE id = ?")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(gone.rows_affected() > 0)
    }

    /// How it goes with every wanted certificate, by its key.
    ///
    /// # Errors
    /// Any.
    pub async fn certificate_attempts(
        &self,
    ) -> Result<HashMap<String, StoredAttempts>, StoreError> {
        let rows: Vec<(String, String, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT names, record, sealed FROM certificate_attempts")
                .fetch_all(&self.readers)
                .await?;
        let read = |(names, record, sealed): (String, String, Option<Vec<u8>>)| {
            let attempts = from_json("certificate_attempts", &record)?;
            Ok((names, StoredAttempts { attempts, sealed }))
        };
        rows.into_iter().map(read).collect()
    }

    /// Stores how it goes with one; `None` forgets it.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn put_certificate_attempts(
        &self,
        names: &str,
        stored: Option<&StoredAttempts>,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        match stored {
            Some(stored) => {
                sqlx::query(
                    "INSERT OR REPLACE INTO certificate_attempts (names, record, sealed) \
                     VALUES (?, ?, ?)",
                )
                .bind(names)
                .bind(to_json("certificate_attempts", &stored.attempts)?)
                .bind(&stored.sealed)
                .execute(&mut *transaction)
                .await?;
            }
            None => {
                sqlx::query("DELETE FROM certificate_attempts WHERE names = ?")
                    .bind(names)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// An authority by its name: `local`, or a directory's URL.
    ///
    /// # Errors
    /// Any.
    pub async fn certificate_authority(
        &self,
        name: &str,
    ) -> Result<Option<StoredAuthority>, StoreError> {
        let row: Option<(String, Vec<u8>)> =
            sqlx::query_as("SELECT chain, sealed FROM certificate_authorities WHERE name = ?")
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        Ok(row.map(|(chain, sealed)| StoredAuthority { chain, sealed }))
    }

    /// Stores an authority.
    ///
    /// # Errors
    /// Any; then nothing was changed.
    pub async fn put_certificate_authority(
        &self,
        name: &str,
        stored: &StoredAuthority,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query(
            "INSERT OR REPLACE INTO certificate_authorities (name, chain, sealed) VALUES (?, ?, ?)",
        )
        .bind(name)
        .bind(&stored.chain)
        .bind(&stored.sealed)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// The names of every custom domain that leads, or is about to lead, to a service: one list for
    /// each domain.
    ///
    /// # Errors
    /// Any.
    pub async fn certified_domains(&self) -> Result<Vec<Vec<String>>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM custom_domains WHERE status IN ('binding_certificate', 'active') \
             ORDER BY domain",
        )
        .fetch_all(&self.readers)
        .await?;
        let names = |record: &String| {
            let domain: ekiden_model::domain::CustomDomain = from_json("custom_domains", record)?;
            Ok(domain.hosts())
        };
        records.iter().map(names).collect()
    }
}

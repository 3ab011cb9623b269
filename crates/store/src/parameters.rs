//! Parameters: their records, and their values, which are sealed before they come here.

use std::collections::BTreeSet;

use ekiden_model::parameter::Parameter;

use crate::{
    Store, StoreError, Transaction,
    rows::{from_json, to_json},
    secrets::Found,
};

/// What is to be stored of a parameter after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterChange {
    /// Nothing was changed.
    None,
    /// The parameter as it is now, and a value that was added: its version, and the sealed bytes.
    /// Values of versions that it has no more are forgotten.
    Put(Box<Parameter>, Option<(u64, Vec<u8>)>),
    /// It is gone, with all its values.
    Remove,
}

impl Store {
    /// A parameter of a region by its name.
    ///
    /// # Errors
    /// Any.
    pub async fn parameter(
        &self,
        region: &str,
        name: &str,
    ) -> Result<Option<Parameter>, StoreError> {
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM parameters WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        record
            .map(|record| from_json("parameters", &record))
            .transpose()
    }

    /// Every parameter of a region after a name, by name.
    ///
    /// # Errors
    /// Any.
    pub async fn parameters(
        &self,
        region: &str,
        after: Option<&str>,
    ) -> Result<Vec<Parameter>, StoreError> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM parameters WHERE region = ? AND name > ? ORDER BY name",
        )
        .bind(region)
        .bind(after.unwrap_or_default())
        .fetch_all(&self.readers)
        .await?;
        records
            .iter()
            .map(|record| from_json("parameters", record))
            .collect()
    }

    /// The sealed value of one version of a parameter.
    ///
    /// # Errors
    /// Any.
    pub async fn parameter_value(
        &self,
        parameter: &str,
        version: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT sealed FROM parameter_values WHERE parameter = ? AND version = ?",
        )
        .bind(parameter)
        .bind(version as i64)
        .fetch_optional(&self.readers)
        .await?)
    }

    /// Changes the parameter of a name, or makes it; `change` gets the one there is. What `change`
    /// refuses leaves everything as it was.
    ///
    /// # Errors
    /// Any; then nothing was stored.
    pub async fn change_parameter<R, E>(
        &self,
        region: &str,
        name: &str,
        change: impl FnOnce(Found<Parameter>) -> Result<(ParameterChange, R), E>,
    ) -> Result<Result<R, E>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        let record: Option<String> =
            sqlx::query_scalar("SELECT record FROM parameters WHERE region = ? AND name = ?")
                .bind(region)
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await?;
        let found = match record {
            Some(record) => Found::One(from_json("parameters", &record)?),
            None => {
                let others: i64 =
                    sqlx::query_scalar("SELECT COUNT(*) FROM parameters WHERE region = ?")
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
            ParameterChange::None => return Ok(Ok(result)),
            ParameterChange::Put(parameter, value) => {
                put(&mut transaction, region, &parameter, value).await?;
            }
            ParameterChange::Remove => {
                sqlx::query("DELETE FROM parameters WHERE region = ? AND name = ?")
                    .bind(region)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(Ok(result))
    }
}

async fn put(
    transaction: &mut Transaction<'_>,
    region: &str,
    parameter: &Parameter,
    value: Option<(u64, Vec<u8>)>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO parameters (id, region, name, record) VALUES (?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET record = excluded.record",
    )
    .bind(&parameter.id)
    .bind(region)
    .bind(&parameter.name)
    .bind(to_json("parameters", parameter)?)
    .execute(&mut **transaction)
    .await?;
    if let Some((version, sealed)) = value {
        sqlx::query("INSERT INTO parameter_values (parameter, version, sealed) VALUES (?, ?, ?)")
            .bind(&parameter.id)
            .bind(version as i64)
            .bind(sealed)
            .execute(&mut **transaction)
            .await?;
    }
    let kept: BTreeSet<u64> = parameter.versions.iter().map(|v| v.number).collect();
    sqlx::query(
        "DELETE FROM parameter_values WHERE parameter = ? \
         AND version NOT IN (SELECT value FROM json_each(?))",
    )
    .bind(&parameter.id)
    .bind(to_json("parameters", &kept)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

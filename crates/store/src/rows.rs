//! How records are written and read back.

use ekiden_model::service::Service;
use serde::{Serialize, de::DeserializeOwned};

use crate::{StoreError, StoredService};

/// A service joined with its operation.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ServiceRow {
    region: String,
    record: String,
    tags: String,
    operation: Option<String>,
}

impl ServiceRow {
    pub(crate) fn read(self) -> Result<StoredService, StoreError> {
        let mut service: Service = from_json("services", &self.record)?;
        service.operation = self
            .operation
            .map(|operation| from_json("operations", &operation))
            .transpose()?;
        Ok(StoredService {
            region: self.region,
            service,
            tags: from_json("services", &self.tags)?,
        })
    }
}

/// The operation has a row of its own.
pub(crate) fn without_operation(service: &Service) -> Service {
    Service {
        operation: None,
        ..service.clone()
    }
}

pub(crate) fn to_json<T: Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Corrupt { table, source })
}

pub(crate) fn from_json<T: DeserializeOwned>(
    table: &'static str,
    record: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(record).map_err(|source| StoreError::Corrupt { table, source })
}

//! What a service uses of the resources that its owner made beside it.
//!
//! A reference is written in the same transaction as the service that makes it, and only if the
//! resource is there; a resource is deleted in a transaction that sees every reference. So no
//! service is ever left with a reference to something that was deleted under it.
//!
//! The references are read out of the service's configuration, which is kept in the API's words:
//! these members are what of those words the store understands. Both what is in effect and what an
//! operation is about to put into effect count.

use std::collections::BTreeSet;

use ekiden_model::service::{Service, ServiceStatus};
use serde_json::Value;

use crate::{StoreError, StoredService, Transaction};

/// Where in a configuration an ARN names a resource, and the kind of that resource (specification,
/// section 3.3). Kinds are spelt as in ARNs.
const MEMBERS: [(&str, &str); 4] = [
    ("/AutoScalingConfigurationArn", "autoscalingconfiguration"),
    (
        "/ObservabilityConfiguration/ObservabilityConfigurationArn",
        "observabilityconfiguration",
    ),
    (
        "/NetworkConfiguration/EgressConfiguration/VpcConnectorArn",
        "vpcconnector",
    ),
    (
        "/SourceConfiguration/AuthenticationConfiguration/ConnectionArn",
        "connection",
    ),
];

/// Digits of a resource's id, with which its ARN ends.
const ID_LEN: usize = 32;

/// The kind and the id of every resource that a service uses.
fn references(service: &Service) -> BTreeSet<(&'static str, String)> {
    if service.settled == ServiceStatus::Deleted {
        return BTreeSet::new();
    }
    let change = service
        .operation
        .as_ref()
        .and_then(|operation| operation.change.as_ref());
    let texts = [
        Some(&service.configuration),
        change.map(|change| &change.configuration),
    ];
    texts
        .into_iter()
        .flatten()
        .flat_map(|text| named(text))
        .collect()
}

fn named(configuration: &str) -> Vec<(&'static str, String)> {
    let configuration: Value = serde_json::from_str(configuration).unwrap_or_default();
    let id = |member: &str| {
        let arn = configuration.pointer(member)?.as_str()?;
        let (_, id) = arn.rsplit_once('/')?;
        (id.len() == ID_LEN).then(|| id.to_owned())
    };
    MEMBERS
        .into_iter()
        .filter_map(|(member, kind)| Some((kind, id(member)?)))
        .collect()
}

/// Writes what a service uses. The service itself has been written.
///
/// # Errors
/// [`StoreError::ReferenceGone`] when it begins to use what is not there (any more).
pub(crate) async fn put(
    transaction: &mut Transaction<'_>,
    stored: &StoredService,
) -> Result<(), StoreError> {
    let service = stored.service.id.to_string();
    let now = references(&stored.service);
    let before: Vec<(String, String)> =
        sqlx::query_as("SELECT kind, resource FROM service_references WHERE service = ?")
            .bind(&service)
            .fetch_all(&mut **transaction)
            .await?;
    for (kind, resource) in &before {
        if !now.contains(&(kind.as_str(), resource.clone())) {
            sqlx::query(
                "DELETE FROM service_references WHERE service = ? AND kind = ? AND resource = ?",
            )
            .bind(&service)
            .bind(kind)
            .bind(resource)
            .execute(&mut **transaction)
            .await?;
        }
    }
    for (kind, resource) in now {
        let known = |(k, r): &(String, String)| k == kind && *r == resource;
        if before.iter().any(known) {
            continue;
        }
        if !is_there(transaction, &stored.region, kind, &resource).await? {
            return Err(StoreError::ReferenceGone { kind, resource });
        }
        sqlx::query(
            "INSERT INTO service_references (service, region, kind, resource) VALUES (?, ?, ?, ?)",
        )
        .bind(&service)
        .bind(&stored.region)
        .bind(kind)
        .bind(&resource)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

async fn is_there(
    transaction: &mut Transaction<'_>,
    region: &str,
    kind: &str,
    resource: &str,
) -> Result<bool, StoreError> {
    let found: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM resources \
         WHERE region = ?1 AND kind = ?2 AND id = ?3 AND deleted_at IS NULL) \
         OR EXISTS (SELECT 1 FROM resources_given WHERE kind = ?2 AND id = ?3)",
    )
    .bind(region)
    .bind(kind)
    .bind(resource)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8fe1e10304f84fd2b0df550fe98a71fa";

    #[test]
    fn every_member_that_names_a_resource_is_read() {
        let arn = |kind: &str| format!("arn:aws:apprunner:us-east-1:100000000001:{kind}/name/{ID}");
        let configuration = serde_json::json!({
            "AutoScalingConfigurationArn": arn("autoscalingconfiguration"),
            "ObservabilityConfiguration": {
                "ObservabilityConfigurationArn": arn("observabilityconfiguration") },
            "NetworkConfiguration": {
                "EgressConfiguration": { "VpcConnectorArn": arn("vpcconnector") } },
            "SourceConfiguration": {
                "AuthenticationConfiguration": { "ConnectionArn": arn("connection") },
                "ImageRepository": { "ImageConfiguration": {
                    "RuntimeEnvironmentVariables": { "ARN": arn("thing") } } } },
        });
        let want = MEMBERS.map(|(_, kind)| (kind, ID.to_owned()));
        assert_eq!(named(&configuration.to_string()), want);
    }

    #[test]
    fn what_names_nothing_is_no_reference() {
        for configuration in [
            "",
            "{}",
            r#"{"AutoScalingConfigurationArn":null}"#,
            r#"{"AutoScalingConfigurationArn":"arn:aws:apprunner:us-east-1:1:autoscalingconfiguration/fast"}"#,
            r#"{"NetworkConfiguration":"EgressConfiguration"}"#,
        ] {
            assert_eq!(named(configuration), [], "{configuration}");
        }
    }
}

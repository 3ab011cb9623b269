//! Secrets and parameters in the store: one change after another, and nothing left behind.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ekiden_model::{
    secret::{Secret, SecretVersion, ValueKind},
    time::Timestamp,
};
use ekiden_store::{
    Store,
    secrets::{Found, SecretChange},
};

const REGION: &str = "us-east-1";

fn secret(name: &str, versions: &[&str]) -> Secret {
    let version = |id: &&str| SecretVersion {
        id: (*id).to_owned(),
        stages: Vec::new(),
        kind: ValueKind::Text,
        fingerprint: String::new(),
        created_at: Timestamp::from_millis(1),
    };
    Secret {
        id: format!("id of {name}"),
        name: name.to_owned(),
        suffix: "AbCdEf".to_owned(),
        description: None,
        kms_key: None,
        tags: BTreeMap::new(),
        versions: versions.iter().map(version).collect(),
        created_at: Timestamp::from_millis(1),
        changed_at: Timestamp::from_millis(1),
        deleted_at: None,
        purge_at: None,
    }
}

async fn put(store: &Store, secret: &Secret, value: Option<(&str, &[u8])>) {
    let value = value.map(|(version, sealed)| (version.to_owned(), sealed.to_vec()));
    let change = SecretChange::Put(Box::new(secret.clone()), value);
    let changed = store
        .change_secret(REGION, &secret.name, |_| Ok::<_, ()>((change, ())))
        .await;
    changed.unwrap().unwrap();
}

#[tokio::test]
async fn a_value_is_kept_as_long_as_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    put(&store, &secret("a", &["v1"]), Some(("v1", b"one"))).await;
    put(&store, &secret("a", &["v1", "v2"]), Some(("v2", b"two"))).await;
    let value = |version: &'static str| store.secret_value("id of a", version);
    assert_eq!(value("v1").await.unwrap().as_deref(), Some(&b"one"[..]));
    put(&store, &secret("a", &["v2"]), None).await;
    assert_eq!(value("v1").await.unwrap(), None);
    assert_eq!(value("v2").await.unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(
        store.secret(REGION, "a").await.unwrap(),
        Some(secret("a", &["v2"]))
    );
    assert_eq!(store.secret("eu-west-1", "a").await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_change_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    put(&store, &secret("a", &[]), None).await;
    let refused = store
        .change_secret(REGION, "a", |found| {
            assert_eq!(found, Found::One(secret("a", &[])));
            Err::<(SecretChange, ()), _>("no")
        })
        .await;
    assert_eq!(refused.unwrap(), Err("no"));
    let others = store
        .change_secret(REGION, "b", |found| {
            Ok::<_, ()>((SecretChange::None, found))
        })
        .await;
    assert_eq!(others.unwrap(), Ok(Found::None { others: 1 }));
    assert_eq!(store.secrets(REGION, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_secret_is_gone_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    let mut deleted = secret("a", &["v1"]);
    deleted.deleted_at = Some(Timestamp::from_millis(1000));
    deleted.purge_at = Some(Timestamp::from_millis(2000));
    put(&store, &deleted, Some(("v1", b"one"))).await;
    put(&store, &secret("kept", &[]), None).await;
    let purge = |at| store.purge_secrets(Timestamp::from_millis(at));
    assert_eq!(purge(1999).await.unwrap(), 0);
    assert_eq!(purge(2000).await.unwrap(), 1);
    assert_eq!(store.secret(REGION, "a").await.unwrap(), None);
    assert_eq!(store.secret_value("id of a", "v1").await.unwrap(), None);
    assert_eq!(store.secrets(REGION, None).await.unwrap().len(), 1);
}

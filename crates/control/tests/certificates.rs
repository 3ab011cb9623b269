//! Certificates, over the real API and the real store.

#![allow(clippy::unwrap_used)]

mod support;

use ekiden_aws::native;
use ekiden_store::{Store, certificates::StoredAuthority};

use crate::support::World;

const LOCAL: &str = "local";

async fn authority(world: &World) -> String {
    let request = native::DescribeCertificateAuthorityRequest {};
    let target = "Ekiden.DescribeCertificateAuthority";
    let answer: native::DescribeCertificateAuthorityResponse =
        world.call(target, &request).await.unwrap();
    answer.certificate
}

async fn list(world: &World) -> native::ListCertificatesResponse {
    let request = native::ListCertificatesRequest {};
    let listed = world.call("Ekiden.ListCertificates", &request).await;
    listed.unwrap()
}

/// Waits until the list is as wanted.
async fn listed(
    world: &World,
    is_so: impl Fn(&native::ListCertificatesResponse) -> bool,
) -> native::ListCertificatesResponse {
    support::eventually(async || Some(list(world).await).filter(&is_so)).await
}

#[tokio::test]
async fn an_authority_whose_key_does_not_open_is_kept_and_complained_of() {
    let mut world = World::new().await;
    let before = authority(&world).await;
    let first = listed(&world, |list| !list.certificates.is_empty()).await;
    assert_eq!(first.authority_warning, None);
    world.stop().await;

    let path = world.dir.path().join("control/ekiden.db");
    let store = Store::open(&path).await.unwrap();
    let whole = store.certificate_authority(LOCAL).await.unwrap().unwrap();
    let sealed = vec![0; whole.sealed.len()];
    let damaged = StoredAuthority {
        sealed,
        ..whole.clone()
    };
    let put = store.put_certificate_authority(LOCAL, &damaged).await;
    put.unwrap();
    // One more is wanted, which cannot be issued.
    for one in store.certificates().await.unwrap() {
        assert!(store.remove_certificate(one.certificate.id).await.unwrap());
    }
    drop(store);
    world.start().await;
    assert_eq!(authority(&world).await, before);
    let failed = |list: &native::ListCertificatesResponse| {
        list.missing.iter().any(|one| one.failure.is_some())
    };
    let list = listed(&world, failed).await;
    for said in [&list.authority_warning, &list.missing[0].failure] {
        assert!(said.as_ref().unwrap().contains("`installation.key`"));
    }
    let status: native::GetStatusResponse = world
        .call("Ekiden.GetStatus", &native::GetStatusRequest {})
        .await
        .unwrap();
    assert_eq!(status.certificate_warnings, 2);
    world.stop().await;

    let store = Store::open(&path).await.unwrap();
    let kept = store.certificate_authority(LOCAL).await.unwrap();
    assert_eq!(kept, Some(damaged));
    let put = store.put_certificate_authority(LOCAL, &whole).await;
    put.unwrap();
    let attempts = store.certificate_attempts().await.unwrap();
    for key in attempts.keys() {
        store.put_certificate_attempts(key, None).await.unwrap();
    }
    drop(store);
    world.start().await;
    let last = listed(&world, |list| !list.certificates.is_empty()).await;
    assert_eq!(last.authority_warning, None);
    assert_eq!(authority(&world).await, before);
}

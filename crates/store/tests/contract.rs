//! What every store must do, whatever it keeps its rows in.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ekiden_model::{
    access::Role,
    certificate::{Attempts, Certificate, Source},
    domain::{CustomDomain, DomainEvent, ValidationToken},
    health::HealthCheck,
    id::{CertificateId, OperationId, ServiceId},
    image::{Digest, ImageConfig, PreparedImage},
    instance::{RevisionNumber, UserNamespace},
    narrative::News,
    revision::{Exposure, Scaling, Settings},
    route::{Generation, Route, RouteState},
    service::{Change, OperationKind, Service, Transition},
    time::Timestamp,
};
use ekiden_store::{
    OPERATIONS_KEPT_MAX, REVISIONS_KEPT_MAX, Store, StoreError, StoredService,
    access_keys::{AccessKey, AccessKeyFacts, LastUsed},
    certificates::{StoredAttempts, StoredAuthority, StoredCertificate},
    domains::CreateDomainError,
};
use sqlx::{Connection, SqliteConnection};

struct World {
    dir: tempfile::TempDir,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
        Self { dir, store }
    }

    async fn reopen(&self) -> Store {
        Store::open(&self.dir.path().join("ekiden.db"))
            .await
            .unwrap()
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn settings() -> Settings {
    Settings {
        image: "localhost/app".parse().unwrap(),
        source: None,
        start_command: Vec::new(),
        port: 8080,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        cpu_millis: 1000,
        memory_bytes: 1 << 30,
        health: HealthCheck::default(),
        scaling: Scaling::default(),
        user_namespace: UserNamespace::Private,
        exposure: Exposure::Public,
        observed: false,
    }
}

fn change() -> Change {
    Change {
        settings: settings(),
        configuration: r#"{"Port":"8080"}"#.into(),
        returns_to: None,
    }
}

fn service(number: u8, name: &str) -> StoredService {
    let service = Service::create(
        ServiceId::from_bytes([number; 16]),
        name.parse().unwrap(),
        vec![format!("{name}.test")],
        change(),
        OperationId::from_bytes([number; 16]),
        at(u64::from(number)),
    );
    StoredService {
        region: "us-east-1".into(),
        service,
        tags: vec![("team".into(), "web".into())],
    }
}

fn image() -> PreparedImage {
    PreparedImage {
        digest: Digest::from_sha256([9; 32]),
        config: ImageConfig::default(),
        size_bytes: 1,
    }
}

async fn apply(store: &Store, stored: &mut StoredService, transition: Transition) {
    let applied = stored.service.apply(transition, at(100)).unwrap();
    store
        .update_service(
            stored,
            applied.revision.as_ref(),
            applied.ended.as_ref(),
            None,
        )
        .await
        .unwrap();
}

async fn deploy(store: &Store, stored: &mut StoredService) {
    for transition in [
        Transition::Begin,
        Transition::Deploy(Box::new(image().into())),
        Transition::Switch,
        Transition::Succeed,
    ] {
        apply(store, stored, transition).await;
    }
}

#[tokio::test]
async fn a_service_is_read_back_as_it_was_written_after_every_step() {
    let world = World::new().await;
    let mut stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    assert_eq!(
        world.reopen().await.services().await.unwrap(),
        [stored.clone()]
    );

    let store = world.reopen().await;
    for transition in [
        Transition::Begin,
        Transition::Deploy(Box::new(image().into())),
        Transition::Switch,
        Transition::Succeed,
    ] {
        apply(&store, &mut stored, transition).await;
        assert_eq!(store.services().await.unwrap(), [stored.clone()]);
    }
    let revision = store
        .revision(stored.service.id, RevisionNumber(1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(revision.image, image());
    assert_eq!(store.images().await.unwrap(), [image().digest]);
}

#[tokio::test]
async fn a_name_is_taken_until_its_service_is_deleted() {
    let world = World::new().await;
    let mut first = service(1, "web1");
    world.store.create_service(&first, None).await.unwrap();
    let error = world
        .store
        .create_service(&service(2, "web1"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NameTaken { .. }), "{error:?}");

    deploy(&world.store, &mut first).await;
    let id = OperationId::from_bytes([7; 16]);
    first
        .service
        .accept(OperationKind::DeleteService, None, id, at(101))
        .unwrap();
    apply(&world.store, &mut first, Transition::Begin).await;
    apply(&world.store, &mut first, Transition::Succeed).await;
    world
        .store
        .create_service(&service(2, "web1"), None)
        .await
        .unwrap();

    let elsewhere = StoredService {
        region: "eu-west-1".into(),
        ..service(3, "web1")
    };
    world.store.create_service(&elsewhere, None).await.unwrap();
}

#[tokio::test]
async fn an_older_control_plane_cannot_write_any_more() {
    let world = World::new().await;
    let newer = world.reopen().await;
    let error = world
        .store
        .create_service(&service(1, "web1"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Superseded), "{error:?}");
    newer
        .create_service(&service(1, "web1"), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn operations_are_listed_newest_first_and_from_a_place() {
    let world = World::new().await;
    let mut stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    deploy(&world.store, &mut stored).await;
    for number in 2..=4 {
        let id = OperationId::from_bytes([number; 16]);
        stored
            .service
            .accept(OperationKind::StartDeployment, None, id, at(200))
            .unwrap();
        deploy(&world.store, &mut stored).await;
    }
    let ids = |page: &[(i64, ekiden_model::service::Operation)]| {
        page.iter()
            .map(|(_, operation)| operation.id.short())
            .collect::<Vec<_>>()
    };
    let first = world
        .store
        .operations(stored.service.id, None, 3)
        .await
        .unwrap();
    assert_eq!(ids(&first), ["04040404", "03030303", "02020202"]);
    let rest = world
        .store
        .operations(stored.service.id, Some(first[2].0), 3)
        .await
        .unwrap();
    assert_eq!(ids(&rest), ["01010101"]);
    let one = world
        .store
        .operation(stored.service.id, first[1].1.id)
        .await
        .unwrap();
    assert_eq!(one.as_ref(), Some(&first[1].1));
}

#[tokio::test]
async fn routes_survive_and_generations_only_grow() {
    let world = World::new().await;
    let stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    let route = Route {
        service: stored.service.id,
        service_name: stored.service.name.clone(),
        hosts: stored.service.hosts.clone(),
        private_hosts: Vec::new(),
        state: RouteState::NotDeployed,
        concurrency_per_instance: 1,
        upstreams: Vec::new(),
        ingress: Box::default(),
    };
    let first = world
        .store
        .put_route(stored.service.id, Some(&route))
        .await
        .unwrap();
    let store = world.reopen().await;
    assert_eq!(store.routes().await.unwrap(), (first, vec![route]));
    let second = store.put_route(stored.service.id, None).await.unwrap();
    assert!(second > first);
    assert_eq!(
        store.routes().await.unwrap(),
        (Generation(first.0 + 1), vec![])
    );
}

#[tokio::test]
async fn history_is_bounded_and_the_active_revision_is_kept() {
    let world = World::new().await;
    let mut stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    deploy(&world.store, &mut stored).await;
    // Deployments that fail make revisions too, and never become active.
    for number in 0..REVISIONS_KEPT_MAX + 5 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let id = OperationId::from_bytes(id);
        stored
            .service
            .accept(OperationKind::StartDeployment, None, id, at(200))
            .unwrap();
        let failure = ekiden_model::service::Failure {
            phase: ekiden_model::service::Phase::Start,
            cause: ekiden_model::service::FailureCause::Engine {
                message: "no".into(),
            },
            instance: None,
            log_lines: Vec::new(),
        };
        for transition in [
            Transition::Begin,
            Transition::Deploy(Box::new(image().into())),
            Transition::Fail(failure),
            Transition::Undone,
        ] {
            apply(&world.store, &mut stored, transition).await;
        }
    }
    let kept = |number| {
        world
            .store
            .revision(stored.service.id, RevisionNumber(number))
    };
    assert!(kept(1).await.unwrap().is_some(), "the active one");
    assert!(kept(2).await.unwrap().is_none(), "an old one");
    assert!(
        kept(REVISIONS_KEPT_MAX + 6).await.unwrap().is_some(),
        "the newest"
    );
    assert_eq!(OPERATIONS_KEPT_MAX, 1000);
}

#[tokio::test]
async fn revisions_that_served_outlive_newer_ones_that_failed() {
    let world = World::new().await;
    let mut stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    deploy(&world.store, &mut stored).await;
    for number in 0..REVISIONS_KEPT_MAX as u8 + 5 {
        let id = OperationId::from_bytes([100 + number; 16]);
        stored
            .service
            .accept(OperationKind::StartDeployment, None, id, at(200))
            .unwrap();
        if number < 2 {
            deploy(&world.store, &mut stored).await;
            continue;
        }
        for transition in [
            Transition::Begin,
            Transition::Deploy(Box::new(image().into())),
        ] {
            apply(&world.store, &mut stored, transition).await;
        }
        stored.service.cancel(Some(id), at(201)).unwrap();
        apply(&world.store, &mut stored, Transition::Undone).await;
    }
    let id = stored.service.id;
    let listed = |revisions: Vec<ekiden_model::revision::Revision>| -> Vec<u32> {
        revisions.iter().map(|revision| revision.number.0).collect()
    };
    let all = listed(world.store.revisions(id, None, 100).await.unwrap());
    let newest: Vec<_> = (7..=16).rev().chain([3, 2, 1]).collect();
    assert_eq!(all, newest);
    let before = Some(RevisionNumber(8));
    let page = listed(world.store.revisions(id, before, 2).await.unwrap());
    assert_eq!(page, [7, 3]);
}

/// A database as the first release left it: records without what was added since.
#[tokio::test]
async fn an_old_database_is_read_and_goes_on() {
    let world = World::new().await;
    let words = r#"{"image":"localhost/app:latest","start_command":[],"port":8080,"env":{},
        "cpu_millis":1000,"memory_bytes":1073741824,
        "health":{"protocol":"tcp","interval":{"secs":5,"nanos":0},
        "timeout":{"secs":2,"nanos":0},"healthy_threshold":1,"unhealthy_threshold":5},
        "scaling":{"instances_min":1,"instances_max":25,"concurrency_per_instance":100},
        "user_namespace":"private"}"#;
    let (id, operation_id) = ("01".repeat(16), "02".repeat(16));
    let record = format!(
        r#"{{"id":"{id}","name":"web1","hosts":["web1.test"],"settled":"RUNNING",
        "settings":{words},"configuration":"{{}}","active":1,"revision_newest":1,
        "operation":null,"created_at":1000,"updated_at":2000,"deleted_at":null}}"#
    );
    let operation = format!(
        r#"{{"id":"{operation_id}","kind":"START_DEPLOYMENT","status":"PENDING",
        "phase":"accepted","from":"RUNNING","change":null,"candidate":null,"failure":null,
        "started_at":2000,"phase_since":2000,"ended_at":null}}"#
    );
    let image_record = serde_json::to_string(&image()).unwrap();
    let revision =
        format!(r#"{{"number":1,"settings":{words},"image":{image_record},"created_at":1000}}"#);
    let path = world.dir.path().join("ekiden.db");
    let mut old = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO services (id, region, name, record, tags, created_at) \
         VALUES (?, 'us-east-1', 'web1', ?, '[]', 1000)",
    )
    .bind(&id)
    .bind(record)
    .execute(&mut old)
    .await
    .unwrap();
    sqlx::query("INSERT INTO operations (id, service, record) VALUES (?, ?, ?)")
        .bind(&operation_id)
        .bind(&id)
        .bind(operation)
        .execute(&mut old)
        .await
        .unwrap();
    sqlx::query("UPDATE services SET operation = ?")
        .bind(&operation_id)
        .execute(&mut old)
        .await
        .unwrap();
    sqlx::query("INSERT INTO revisions (service, number, image, record) VALUES (?, 1, ?, ?)")
        .bind(&id)
        .bind(image().digest.to_string())
        .bind(revision)
        .execute(&mut old)
        .await
        .unwrap();
    old.close().await.unwrap();

    let store = world.reopen().await;
    let mut stored = store.services().await.unwrap().remove(0);
    assert_eq!(stored.service.settings, settings());
    deploy(&store, &mut stored).await;
    assert_eq!(
        stored.service.served,
        [RevisionNumber(1), RevisionNumber(2)]
    );
    let revisions = store.revisions(stored.service.id, None, 10).await.unwrap();
    assert_eq!(revisions.len(), 2);
    assert_eq!(revisions[1].configuration, "", "it was not kept");
}

#[tokio::test]
async fn deleted_services_are_forgotten_with_all_that_was_theirs() {
    let world = World::new().await;
    let mut stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    deploy(&world.store, &mut stored).await;
    let id = OperationId::from_bytes([7; 16]);
    stored
        .service
        .accept(OperationKind::DeleteService, None, id, at(101))
        .unwrap();
    apply(&world.store, &mut stored, Transition::Begin).await;
    apply(&world.store, &mut stored, Transition::Succeed).await;
    assert!(world.store.images().await.unwrap().is_empty());
    assert!(
        world
            .store
            .forget_deleted(at(100))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        world.store.forget_deleted(at(101)).await.unwrap(),
        [stored.service.id]
    );
    assert!(world.store.services().await.unwrap().is_empty());
    assert!(
        world
            .store
            .operations(stored.service.id, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

fn domain(name: &str, www: bool, service: u8, seconds: u64) -> CustomDomain {
    CustomDomain::new(
        name.parse().unwrap(),
        www,
        ServiceId::from_bytes([service; 16]),
        |_| ValidationToken {
            name: [1; 16],
            value: [2; 16],
            zone: [3; 10],
        },
        at(seconds),
    )
}

async fn two_services(world: &World) {
    for (number, name) in [(1, "web1"), (2, "web2")] {
        let stored = service(number, name);
        world.store.create_service(&stored, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_domain_is_read_back_as_it_was_written_after_every_move() {
    let world = World::new().await;
    two_services(&world).await;
    let mut want = domain("example.com", true, 1, 5);
    world.store.create_domain(&want, 5).await.unwrap();
    let later = domain("later.example.com", false, 1, 6);
    world.store.create_domain(&later, 5).await.unwrap();
    for event in [
        DomainEvent::RecordsKnown,
        DomainEvent::Validated,
        DomainEvent::Bound,
    ] {
        let unsettled = world.store.unsettled_domains().await.unwrap();
        assert_eq!(unsettled[0].domain, want.name);
        assert_eq!(unsettled[0].status, want.status);
        want.apply(event, at(7)).unwrap();
        let stored = world
            .store
            .update_domain(want.service, &want.name, |domain| {
                domain.apply(event, at(7))
            })
            .await
            .unwrap();
        assert_eq!(stored.as_ref(), Some(&want));
    }
    let store = world.reopen().await;
    assert_eq!(store.domain(&want.name).await.unwrap(), Some(want.clone()));
    assert_eq!(
        store.domains_of(want.service).await.unwrap(),
        [want, later.clone()]
    );
    let unsettled = store.unsettled_domains().await.unwrap();
    assert_eq!(
        unsettled.into_iter().map(|u| u.domain).collect::<Vec<_>>(),
        [later.name]
    );
}

#[tokio::test]
async fn a_move_that_is_refused_or_comes_too_late_changes_nothing() {
    let world = World::new().await;
    two_services(&world).await;
    let want = domain("example.com", true, 1, 5);
    world.store.create_domain(&want, 5).await.unwrap();
    let bound = |domain: &mut CustomDomain| domain.apply(DomainEvent::Bound, at(7));
    let other = ServiceId::from_bytes([2; 16]);
    let known = |domain: &mut CustomDomain| domain.apply(DomainEvent::RecordsKnown, at(7));
    for moved in [
        world
            .store
            .update_domain(want.service, &want.name, bound)
            .await,
        world.store.update_domain(other, &want.name, known).await,
    ] {
        assert_eq!(moved.unwrap(), None);
    }
    assert!(
        !world
            .store
            .forget_domain(want.service, &want.name)
            .await
            .unwrap(),
        "only what is being deleted"
    );
    assert_eq!(world.store.domain(&want.name).await.unwrap(), Some(want));
}

#[tokio::test]
async fn a_host_name_belongs_to_one_association_of_the_installation() {
    let world = World::new().await;
    two_services(&world).await;
    let first = domain("example.com", true, 1, 5);
    world.store.create_domain(&first, 5).await.unwrap();
    for (name, www, taken) in [
        ("example.com", false, "example.com"),
        ("www.example.com", false, "www.example.com"),
    ] {
        let refused = world
            .store
            .create_domain(&domain(name, www, 2, 6), 5)
            .await
            .unwrap_err();
        let CreateDomainError::Taken { name, holder } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(name, taken);
        assert_eq!(holder.domain, first.name);
        assert_eq!(holder.service_name.as_str(), "web1");
    }
    // A wildcard is a name of its own.
    let wildcard = domain("*.example.com", false, 2, 6);
    world.store.create_domain(&wildcard, 5).await.unwrap();

    let gone = |domain: &mut CustomDomain| domain.apply(DomainEvent::Disassociated, at(7));
    world
        .store
        .update_domain(first.service, &first.name, gone)
        .await
        .unwrap()
        .unwrap();
    assert!(
        world
            .store
            .domain_holder("www.example.com")
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        world
            .store
            .forget_domain(first.service, &first.name)
            .await
            .unwrap()
    );
    assert_eq!(
        world.store.domain_holder("www.example.com").await.unwrap(),
        None
    );
    world
        .store
        .create_domain(&domain("example.com", true, 2, 8), 5)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_service_has_no_more_domains_than_it_may() {
    let world = World::new().await;
    two_services(&world).await;
    for number in 0..2 {
        let name = format!("{number}.example.com");
        world
            .store
            .create_domain(&domain(&name, true, 1, 5), 2)
            .await
            .unwrap();
    }
    let full = world
        .store
        .create_domain(&domain("example.com", true, 1, 5), 2)
        .await;
    assert!(
        matches!(full, Err(CreateDomainError::Full { count: 2 })),
        "{full:?}"
    );
    world
        .store
        .create_domain(&domain("example.com", true, 2, 5), 2)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_domains_of_a_deleted_service_are_gone_with_it() {
    let world = World::new().await;
    let mut stored = service(1, "web1");
    world.store.create_service(&stored, None).await.unwrap();
    deploy(&world.store, &mut stored).await;
    let domain = domain("example.com", true, 1, 5);
    world.store.create_domain(&domain, 5).await.unwrap();
    let id = OperationId::from_bytes([7; 16]);
    stored
        .service
        .accept(OperationKind::DeleteService, None, id, at(101))
        .unwrap();
    apply(&world.store, &mut stored, Transition::Begin).await;
    assert!(world.store.domain(&domain.name).await.unwrap().is_some());
    apply(&world.store, &mut stored, Transition::Succeed).await;
    assert_eq!(world.store.domain(&domain.name).await.unwrap(), None);
    assert_eq!(
        world.store.domain_holder("example.com").await.unwrap(),
        None
    );
    let late = world.store.create_domain(&domain, 5).await;
    assert!(
        matches!(late, Err(CreateDomainError::ServiceGone)),
        "{late:?}"
    );
}

#[tokio::test]
async fn access_keys_keep_secret_and_last_use_when_their_facts_change() {
    let world = World::new().await;
    let mut key = AccessKey {
        id: "EKIAONE".to_owned(),
        sealed_secret: vec![0, 1, 255],
        facts: AccessKeyFacts {
            role: Role::Deployer {
                services: vec!["web-*".parse().unwrap()],
            },
            enabled: true,
            description: "CI".to_owned(),
            created_at: at(1),
        },
        last_used: None,
    };
    world.store.put_access_key(&key).await.unwrap();
    let used = LastUsed {
        at: at(2),
        source: "10.0.0.1".to_owned(),
    };
    let uses = [
        (key.id.clone(), used.clone()),
        ("EKIAGONE".to_owned(), used.clone()),
    ];
    world.store.note_last_used(&uses).await.unwrap();
    key.facts.enabled = false;
    let changed = AccessKey {
        sealed_secret: vec![7],
        ..key.clone()
    };
    world.store.put_access_key(&changed).await.unwrap();
    key.last_used = Some(used);
    let store = world.reopen().await;
    assert_eq!(store.access_keys().await.unwrap(), [key]);
    store.delete_access_key("EKIAONE").await.unwrap();
    store.delete_access_key("EKIAONE").await.unwrap();
    assert!(store.access_keys().await.unwrap().is_empty());
}

fn certificate(number: u8) -> StoredCertificate {
    StoredCertificate {
        certificate: Certificate {
            id: CertificateId::from_bytes([number; 16]),
            names: vec![format!("{number}.test")],
            source: Source::Local,
            serial: "0a".into(),
            not_before: at(1),
            not_after: at(100),
            renew_at: at(60),
            revoked_at: None,
            on_demand: false,
        },
        chain: format!("chain {number}"),
        sealed: vec![number],
    }
}

fn attempts(failures: u32) -> StoredAttempts {
    StoredAttempts {
        attempts: Attempts {
            failures,
            reason: Some("no answer".into()),
            next_at: at(9),
            order: None,
        },
        sealed: Some(vec![7]),
    }
}

#[tokio::test]
async fn a_certificate_takes_the_place_of_others_and_of_the_attempts_to_get_it() {
    let world = World::new().await;
    let store = &world.store;
    for number in [2, 1, 3] {
        let put = store.put_certificate(&certificate(number), &[], None).await;
        put.unwrap();
    }
    for key in ["1.test", "2.test"] {
        let put = store
            .put_certificate_attempts(key, Some(&attempts(1)))
            .await;
        put.unwrap();
    }
    let new = certificate(4);
    let replaced = [1, 2].map(|number| certificate(number).certificate.id);
    let put = store.put_certificate(&new, &replaced, Some("1.test")).await;
    put.unwrap();
    // What is recorded of one changes; its chain and key never do.
    let mut revoked = certificate(3);
    revoked.certificate.revoked_at = Some(at(5));
    let other = StoredCertificate {
        chain: "another".into(),
        sealed: vec![99],
        ..revoked.clone()
    };
    store.put_certificate(&other, &[], None).await.unwrap();
    let store = world.reopen().await;
    assert_eq!(store.certificates().await.unwrap(), [revoked, new]);
    let left = store.certificate_attempts().await.unwrap();
    assert_eq!(left, [("2.test".to_owned(), attempts(1))].into());

    let id = certificate(4).certificate.id;
    assert!(store.remove_certificate(id).await.unwrap());
    assert!(!store.remove_certificate(id).await.unwrap());
    assert_eq!(store.certificates().await.unwrap().len(), 1);
}

#[tokio::test]
async fn attempts_and_authorities_are_what_was_put_last() {
    let world = World::new().await;
    let store = &world.store;
    for stored in [attempts(1), attempts(2)] {
        let put = store
            .put_certificate_attempts("a.test", Some(&stored))
            .await;
        put.unwrap();
    }
    let authority = |n: u8| StoredAuthority {
        chain: format!("chain {n}"),
        sealed: vec![n],
    };
    let put = async |name, n| {
        let put = store.put_certificate_authority(name, &authority(n)).await;
        put.unwrap();
    };
    put("local", 1).await;
    put("https://acme.test/", 2).await;
    put("local", 3).await;
    let reopened = world.reopen().await;
    let read = reopened.certificate_attempts().await.unwrap();
    assert_eq!(read, [("a.test".to_owned(), attempts(2))].into());
    for (name, want) in [
        ("local", Some(3)),
        ("https://acme.test/", Some(2)),
        ("https://other.test/", None),
    ] {
        let read = reopened.certificate_authority(name).await.unwrap();
        assert_eq!(read, want.map(authority), "{name}");
    }
    let forget = reopened.put_certificate_attempts("a.test", None).await;
    forget.unwrap();
    assert!(reopened.certificate_attempts().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_control_plane_that_was_replaced_changes_no_certificates() {
    let world = World::new().await;
    let put = world
        .store
        .put_certificate(&certificate(1), &[], None)
        .await;
    put.unwrap();
    let new = world.reopen().await;
    let id = certificate(1).certificate.id;
    let authority = StoredAuthority {
        chain: String::new(),
        sealed: vec![],
    };
    let old = &world.store;
    assert!(
        old.put_certificate(&certificate(2), &[], None)
            .await
            .is_err()
    );
    assert!(old.remove_certificate(id).await.is_err());
    assert!(
        old.put_certificate_attempts("a.test", Some(&attempts(1)))
            .await
            .is_err()
    );
    assert!(
        old.put_certificate_authority("local", &authority)
            .await
            .is_err()
    );
    assert_eq!(new.certificates().await.unwrap(), [certificate(1)]);
    assert!(new.certificate_attempts().await.unwrap().is_empty());
    assert_eq!(new.certificate_authority("local").await.unwrap(), None);
}

#[tokio::test]
async fn names_are_certified_once_their_domain_is_bound_until_it_goes() {
    let world = World::new().await;
    two_services(&world).await;
    let mut domain = domain("example.com", true, 1, 5);
    world.store.create_domain(&domain, 5).await.unwrap();
    let mut seen = Vec::new();
    for event in [
        DomainEvent::RecordsKnown,
        DomainEvent::Validated,
        DomainEvent::Bound,
        DomainEvent::Disassociated,
    ] {
        domain.apply(event, at(7)).unwrap();
        let name = domain.name.clone();
        let moved = world
            .store
            .update_domain(domain.service, &name, |domain| domain.apply(event, at(7)))
            .await;
        assert!(moved.unwrap().is_some());
        seen.push(world.store.certified_domains().await.unwrap());
    }
    let names = vec![domain.hosts()];
    assert_eq!(seen, [vec![], names.clone(), names, vec![]]);
}

#[tokio::test]
async fn news_are_stored_with_the_move_and_read_from_where_a_reader_was() {
    let world = World::new().await;
    let stored = service(1, "web1");
    let told = |at: u64| News {
        service: stored.service.id,
        name: stored.service.name.clone(),
        at: Timestamp::from_millis(at),
        lines: Vec::new(),
        events: Vec::new(),
    };
    let store = &world.store;
    store.create_service(&stored, Some(&told(1))).await.unwrap();
    store
        .update_service(&stored, None, None, Some(&told(2)))
        .await
        .unwrap();
    store
        .update_service(&stored, None, None, None)
        .await
        .unwrap();
    store.put_news("eu-west-1", &told(3)).await.unwrap();
    // What was not stored is not told.
    store
        .create_service(&stored, Some(&told(4)))
        .await
        .unwrap_err();
    let all = store.news_after(0, 10).await.unwrap();
    let seen: Vec<_> = all.iter().map(|one| one.news.at.as_millis()).collect();
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(all[2].region, "eu-west-1");
    assert_eq!(store.news_read("log").await.unwrap(), None);
    store
        .put_news_read("log", Some(all[1].number))
        .await
        .unwrap();
    let from = store.news_read("log").await.unwrap().unwrap();
    let rest = store.news_after(from, 10).await.unwrap();
    assert_eq!(rest, all[2..]);
    assert_eq!(store.news_newest().await.unwrap(), all[2].number);
    store.put_news_read("log", None).await.unwrap();
    assert_eq!(store.news_read("log").await.unwrap(), None);
}

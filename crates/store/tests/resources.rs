//! Resources beside services: what the store promises about them.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, convert::Infallible, path::Path, sync::Arc};

use ekiden_model::{
    health::HealthCheck,
    id::{OperationId, ResourceId, ServiceId},
    image::{Digest, ImageConfig, PreparedImage},
    instance::UserNamespace,
    revision::{Scaling, Settings},
    service::{Change, OperationKind, Service, Transition},
    time::Timestamp,
};
use ekiden_store::{
    Store, StoreError, StoredService,
    resources::{ChangeError, CreateError, Filter, Kind, New, Numbering, Resource, Room, Which},
};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, SqliteConnection};

const REGION: &str = "us-east-1";

/// What a configuration of the kind that has a built-in revision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct AutoScaling(Scaling);

impl Kind for AutoScaling {
    const NAME: &'static str = "autoscalingconfiguration";
    const NUMBERING: Numbering = Numbering::Revisions;
}

/// A kind without revisions, whose members may be a part of a service and may be pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Connector {
    place: String,
    pending: bool,
}

impl Kind for Connector {
    const NAME: &'static str = "vpcconnector";
    const NUMBERING: Numbering = Numbering::Single;

    fn is_pending(&self) -> bool {
        self.pending
    }
}

const ROOM: Room = Room {
    names: 100,
    revisions: 100,
    per_service: 1,
};

async fn store(dir: &Path) -> Store {
    Store::open(&dir.join("ekiden.db")).await.unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn id(number: u8) -> ResourceId {
    ResourceId::from_bytes([number; 16])
}

fn scaling(name: &str, number: u8) -> New<AutoScaling> {
    New {
        name: name.into(),
        id: id(number),
        record: AutoScaling(Scaling::default()),
        tags: vec![("team".into(), "web".into())],
        created_at: at(u64::from(number)),
        service: None,
    }
}

fn connector(name: &str, number: u8) -> New<Connector> {
    New {
        name: name.into(),
        id: id(number),
        record: Connector {
            place: "here".into(),
            pending: false,
        },
        tags: Vec::new(),
        created_at: at(u64::from(number)),
        service: None,
    }
}

async fn delete<K: Kind>(
    store: &Store,
    number: u8,
) -> Result<Resource<K>, ChangeError<Infallible>> {
    let delete = |found: &mut Resource<K>| {
        found.deleted_at = Some(at(50));
        Ok(())
    };
    store.change_resource(REGION, id(number), delete).await
}

fn names<K>(found: &[Resource<K>]) -> Vec<(&str, u32)> {
    found
        .iter()
        .map(|found| (found.name.as_str(), found.revision))
        .collect()
}

fn service(number: u8, configuration: &str) -> StoredService {
    let settings = Settings {
        image: "localhost/app".parse().unwrap(),
        source: None,
        start_command: Vec::new(),
        port: 8080,
        env: BTreeMap::new(),
        cpu_millis: 1000,
        memory_bytes: 1 << 30,
        health: HealthCheck::default(),
        scaling: Scaling::default(),
        user_namespace: UserNamespace::Private,
        exposure: ekiden_model::revision::Exposure::Public,
        observed: false,
        secrets: BTreeMap::new(),
    };
    let service = Service::create(
        ServiceId::from_bytes([number; 16]),
        format!("web{number}").parse().unwrap(),
        Vec::new(),
        Change {
            settings,
            configuration: configuration.to_owned(),
            returns_to: None,
        },
        OperationId::from_bytes([number; 16]),
        at(u64::from(number)),
    );
    StoredService {
        region: REGION.into(),
        service,
        tags: Vec::new(),
    }
}

/// Its first deployment succeeds.
async fn deploy(store: &Store, stored: &mut StoredService) {
    let image = PreparedImage {
        digest: Digest::from_sha256([9; 32]),
        config: ImageConfig::default(),
        size_bytes: 1,
    };
    for transition in [
        Transition::Begin,
        Transition::Deploy(Box::new(image.into())),
        Transition::Switch,
        Transition::Succeed,
    ] {
        let applied = stored.service.apply(transition, at(60)).unwrap();
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
}

/// Its operation fails, so that none is on its way.
async fn settle(store: &Store, stored: &mut StoredService) {
    let failure = ekiden_model::service::Failure {
        phase: ekiden_model::service::Phase::Prepare,
        cause: ekiden_model::service::FailureCause::Image {
            message: "no".into(),
        },
        instance: None,
        log_lines: Vec::new(),
    };
    for transition in [
        Transition::Begin,
        Transition::Fail(failure),
        Transition::Undone,
    ] {
        let applied = stored.service.apply(transition, at(60)).unwrap();
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
}

fn uses_scaling(number: u8) -> String {
    format!(
        r#"{{"AutoScalingConfigurationArn":"arn:aws:apprunner:us-east-1:100000000001:autoscalingconfiguration/fast/1/{}"}}"#,
        id(number)
    )
}

#[tokio::test]
async fn a_resource_is_read_back_as_it_was_made_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let made = store(dir.path())
        .await
        .create_resource(REGION, &connector("main", 1), ROOM)
        .await
        .unwrap();
    assert!(made.is_latest && !made.is_default && !made.in_use);
    let store = store(dir.path()).await;
    let read = store.resource(REGION, Which::Id(id(1))).await.unwrap();
    assert_eq!(read, Some(made));
    let changed: Resource<Connector> = store
        .change_resource(REGION, id(1), |found: &mut Resource<Connector>| {
            found.record.place = "there".into();
            found.tags.push(("a".into(), "b".into()));
            Ok::<(), Infallible>(())
        })
        .await
        .unwrap();
    let read = store.resource(REGION, Which::Newest("main")).await.unwrap();
    assert_eq!(read, Some(changed));
    let elsewhere: Option<Resource<Connector>> =
        store.resource("eu-west-1", Which::Id(id(1))).await.unwrap();
    assert_eq!(elsewhere, None);
    let refused = store
        .change_resource(REGION, id(1), |found: &mut Resource<Connector>| {
            found.record.place = "nowhere".into();
            Err("no")
        })
        .await;
    assert!(matches!(refused, Err(ChangeError::Refused("no"))));
    let unchanged: Resource<Connector> = store
        .resource(REGION, Which::Id(id(1)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(unchanged.record.place, "there");
}

#[tokio::test]
async fn no_number_is_given_twice_not_even_after_all_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    for number in 1..=3 {
        let made = store
            .create_resource(REGION, &scaling("fast", number), ROOM)
            .await
            .unwrap();
        assert_eq!(made.revision, u32::from(number));
    }
    delete::<AutoScaling>(&store, 3).await.unwrap();
    let latest: Resource<AutoScaling> = store
        .resource(REGION, Which::Newest("fast"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((latest.revision, latest.is_latest), (2, true));
    for number in 1..=2 {
        delete::<AutoScaling>(&store, number).await.unwrap();
    }
    let gone = |store: Store| async move {
        let found: Option<Resource<AutoScaling>> =
            store.resource(REGION, Which::Id(id(2))).await.unwrap();
        (store, found)
    };
    let (store, found) = gone(store).await;
    let found = found.unwrap();
    assert_eq!((found.deleted_at, found.is_latest), (Some(at(50)), false));
    assert_eq!(store.forget_deleted_resources(at(50)).await.unwrap(), 0);
    assert_eq!(store.forget_deleted_resources(at(51)).await.unwrap(), 3);
    let (store, found) = gone(store).await;
    assert_eq!(found, None);
    let next = store
        .create_resource(REGION, &scaling("fast", 4), ROOM)
        .await
        .unwrap();
    assert_eq!(next.revision, 4);
}

#[tokio::test]
async fn a_name_without_revisions_is_taken_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let create = |number| {
        let (store, new) = (&store, connector("main", number));
        async move { store.create_resource(REGION, &new, ROOM).await }
    };
    create(1).await.unwrap();
    assert!(matches!(create(2).await, Err(CreateError::NameTaken)));
    delete::<Connector>(&store, 1).await.unwrap();
    assert_eq!(create(3).await.unwrap().revision, 1);
    let found: Resource<Connector> = store
        .resource(REGION, Which::Numbered("main", 1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        found.id,
        id(3),
        "the one that is there, not the deleted one"
    );
}

#[tokio::test]
async fn quotas_hold_when_many_are_made_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()).await);
    let room = Room { names: 10, ..ROOM };
    let creations: Vec<_> = (1..=20)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let new = connector(&format!("connector{number}"), number);
                store.create_resource(REGION, &new, room).await
            })
        })
        .collect();
    let mut made = 0;
    for creation in creations {
        match creation.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, CreateError::NamesFull), "{error:?}"),
        }
    }
    assert_eq!(made, 10);
    // Another revision of a name takes no room among the names, and the built-in name has none.
    let one = Room {
        names: 1,
        revisions: 2,
        ..ROOM
    };
    for (number, name, fits) in [
        (1, "DefaultConfiguration", true),
        (2, "DefaultConfiguration", false),
        (3, "fast", true),
        (4, "fast", true),
        (5, "fast", false),
        (6, "slow", false),
    ] {
        let new = scaling(name, number);
        let made = store.create_resource(REGION, &new, one).await;
        assert_eq!(made.is_ok(), fits, "{number} {name} {made:?}");
    }
}

#[tokio::test]
async fn lists_go_on_from_a_place_whatever_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    for (number, name) in [(1, "b"), (2, "a"), (3, "b"), (4, "c")] {
        store
            .create_resource(REGION, &scaling(name, number), ROOM)
            .await
            .unwrap();
    }
    let list = |filter, after, count| {
        let store = &store;
        async move {
            store
                .resources::<AutoScaling>(REGION, filter, after, count)
                .await
                .unwrap()
        }
    };
    let all = list(Filter::default(), None, u32::MAX).await;
    let every = [
        ("DefaultConfiguration", 1),
        ("a", 1),
        ("b", 1),
        ("b", 2),
        ("c", 1),
    ];
    assert_eq!(names(&all), every);
    let page = list(Filter::default(), Some(("a", 1)), 2).await;
    assert_eq!(names(&page), [("b", 1), ("b", 2)]);
    delete::<AutoScaling>(&store, 2).await.unwrap();
    let page = list(Filter::default(), Some(("a", 1)), 2).await;
    assert_eq!(names(&page), [("b", 1), ("b", 2)]);
    let latest = Filter {
        latest_only: true,
        ..Filter::default()
    };
    let page = list(latest, None, 10).await;
    assert_eq!(
        names(&page),
        [("DefaultConfiguration", 1), ("b", 2), ("c", 1)]
    );
    let named = Filter {
        name: Some("b"),
        ..Filter::default()
    };
    assert_eq!(names(&list(named, None, 10).await), [("b", 1), ("b", 2)]);
}

#[tokio::test]
async fn every_region_has_the_built_in_configuration_and_one_default() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let default = |region| {
        let store = &store;
        async move {
            let found: Resource<AutoScaling> = store
                .resource(region, Which::Default)
                .await
                .unwrap()
                .unwrap();
            found
        }
    };
    let built_in = default("anywhere").await;
    assert_eq!(built_in.name, "DefaultConfiguration");
    assert_eq!(built_in.record, AutoScaling(Scaling::default()));
    assert!(built_in.is_latest);

    store
        .create_resource(REGION, &scaling("fast", 1), ROOM)
        .await
        .unwrap();
    assert_eq!(default(REGION).await.id, built_in.id);
    store
        .change_resource(REGION, id(1), |found: &mut Resource<AutoScaling>| {
            found.is_default = true;
            Ok::<(), Infallible>(())
        })
        .await
        .unwrap();
    assert_eq!(default(REGION).await.id, id(1));
    assert_eq!(default("anywhere").await.id, built_in.id);
    // Visible though it is not the latest of its name.
    store
        .create_resource(REGION, &scaling("fast", 2), ROOM)
        .await
        .unwrap();
    let latest = Filter {
        latest_only: true,
        ..Filter::default()
    };
    let listed = store
        .resources::<AutoScaling>(REGION, latest, None, 10)
        .await
        .unwrap();
    let wanted = [("DefaultConfiguration", 1), ("fast", 1), ("fast", 2)];
    assert_eq!(names(&listed), wanted);
    let revised = store
        .create_resource(REGION, &scaling("DefaultConfiguration", 3), ROOM)
        .await
        .unwrap();
    assert_eq!(revised.revision, 2);
}

#[tokio::test]
async fn what_a_service_uses_is_seen_and_cannot_vanish_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let gone = store
        .create_service(&service(1, &uses_scaling(1)), None)
        .await
        .unwrap_err();
    assert!(matches!(gone, StoreError::ReferenceGone { .. }), "{gone:?}");
    for number in 1..=2 {
        store
            .create_resource(REGION, &scaling("fast", number), ROOM)
            .await
            .unwrap();
    }
    let mut first = service(1, &uses_scaling(1));
    store.create_service(&first, None).await.unwrap();
    let in_use = |number| {
        let store = &store;
        async move {
            let found: Resource<AutoScaling> = store
                .resource(REGION, Which::Id(id(number)))
                .await
                .unwrap()
                .unwrap();
            found.in_use
        }
    };
    assert!(in_use(1).await && !in_use(2).await);
    deploy(&store, &mut first).await;

    // While an update is on its way both are used; when it has failed, the first.
    let change = Change {
        settings: first.service.settings.clone(),
        configuration: uses_scaling(2),
        returns_to: None,
    };
    let operation = OperationId::from_bytes([9; 16]);
    first
        .service
        .accept(
            OperationKind::UpdateService,
            Some(change),
            operation,
            at(70),
        )
        .unwrap();
    store
        .update_service(&first, None, None, None)
        .await
        .unwrap();
    assert!(in_use(1).await && in_use(2).await);
    settle(&store, &mut first).await;
    assert!(in_use(1).await && !in_use(2).await);
    let users = store
        .resource_users::<AutoScaling>(REGION, id(1), None, 10)
        .await
        .unwrap();
    assert_eq!(users.len(), 1);
    let rest = store
        .resource_users::<AutoScaling>(REGION, id(1), Some((at(1), users[0].id)), 10)
        .await
        .unwrap();
    assert_eq!(rest, []);

    let operation = OperationId::from_bytes([10; 16]);
    first
        .service
        .accept(OperationKind::DeleteService, None, operation, at(80))
        .unwrap();
    for transition in [Transition::Begin, Transition::Succeed] {
        let applied = first.service.apply(transition, at(81)).unwrap();
        store
            .update_service(&first, None, applied.ended.as_ref(), None)
            .await
            .unwrap();
    }
    assert!(!in_use(1).await && !in_use(2).await);
}

#[tokio::test]
async fn a_part_of_a_service_needs_it_at_rest_and_is_deleted_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let mut owner = service(1, "{}");
    let part = |number: u8| New {
        service: Some(ServiceId::from_bytes([1; 16])),
        ..connector(&format!("part{number}"), number)
    };
    let unknown = store.create_resource(REGION, &part(1), ROOM).await;
    assert!(matches!(unknown, Err(CreateError::ServiceUnknown)));
    store.create_service(&owner, None).await.unwrap();
    let busy = store.create_resource(REGION, &part(1), ROOM).await;
    assert!(matches!(busy, Err(CreateError::ServiceBusy)));
    settle(&store, &mut owner).await;
    store.create_resource(REGION, &part(1), ROOM).await.unwrap();
    let second = store.create_resource(REGION, &part(2), ROOM).await;
    assert!(matches!(second, Err(CreateError::ServiceFull)));
    let parts = Filter {
        service: Some(owner.service.id),
        member: Some(("$.place", "here")),
        ..Filter::default()
    };
    let found = store
        .resources::<Connector>(REGION, parts, None, 10)
        .await
        .unwrap();
    assert_eq!(names(&found), [("part1", 1)]);

    let operation = OperationId::from_bytes([9; 16]);
    let mut going = owner.clone();
    going
        .service
        .accept(OperationKind::DeleteService, None, operation, at(70))
        .unwrap();
    let refused = store.update_service(&going, None, None, None).await;
    assert!(matches!(refused, Err(StoreError::HasParts { .. })));
    delete::<Connector>(&store, 1).await.unwrap();
    store
        .update_service(&going, None, None, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_pending_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let mut new = connector("main", 1);
    new.record.pending = true;
    store.create_resource(REGION, &new, ROOM).await.unwrap();
    let pending = store.pending_resources::<Connector>().await.unwrap();
    assert_eq!(pending, [(REGION.to_owned(), id(1))]);
    store
        .change_resource(REGION, id(1), |found: &mut Resource<Connector>| {
            found.record.pending = false;
            Ok::<(), Infallible>(())
        })
        .await
        .unwrap();
    assert_eq!(store.pending_resources::<Connector>().await.unwrap(), []);
}

#[tokio::test]
async fn all_revisions_of_a_name_are_changed_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    for number in 1..=3 {
        store
            .create_resource(REGION, &scaling("fast", number), ROOM)
            .await
            .unwrap();
    }
    let refused = store
        .change_revisions(REGION, "fast", |found: &mut [Resource<AutoScaling>]| {
            found[0].deleted_at = Some(at(50));
            Err("no")
        })
        .await;
    assert!(matches!(refused, Err(ChangeError::Refused("no"))));
    let changed = store
        .change_revisions(REGION, "fast", |found: &mut [Resource<AutoScaling>]| {
            found
                .iter_mut()
                .for_each(|one| one.deleted_at = Some(at(50)));
            Ok::<(), Infallible>(())
        })
        .await
        .unwrap();
    assert_eq!(changed.len(), 3);
    let none = store
        .change_revisions(REGION, "fast", |_: &mut [Resource<AutoScaling>]| {
            Ok::<(), Infallible>(())
        })
        .await;
    assert!(matches!(none, Err(ChangeError::Unknown)));
}

#[tokio::test]
async fn a_database_of_the_first_release_keeps_its_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ekiden.db");
    old_database(&path).await;
    let store = store(dir.path()).await;
    let all = store
        .resources::<AutoScaling>(REGION, Filter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(
        names(&all),
        [
            ("DefaultConfiguration", 1),
            ("DefaultConfiguration", 2),
            ("fast", 1)
        ]
    );
    let fast = &all[2];
    assert_eq!(fast.record.0.instances_min, 3);
    assert_eq!(fast.tags, [("team".to_owned(), "web".to_owned())]);
    assert_eq!(fast.created_at, Timestamp::from_millis(5));
    assert!(fast.in_use && fast.is_latest && all[0].is_default);
    let users = store
        .resource_users::<AutoScaling>(REGION, fast.id, None, 10)
        .await
        .unwrap();
    assert_eq!(users[0].name, "web1");
    let gone: Resource<AutoScaling> = store
        .resource(REGION, Which::Id(id(2)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(gone.deleted_at, Some(Timestamp::from_millis(7)));
    // Numbers go on.
    let next = store
        .create_resource(REGION, &scaling("fast", 9), ROOM)
        .await
        .unwrap();
    assert_eq!(next.revision, 3);
}

/// A database as the first migration alone makes it: a service that uses the first revision of
/// `fast`, whose second is deleted, and a revision of the built-in name.
async fn old_database(path: &Path) {
    let url = format!("sqlite:{}?mode=rwc", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let migrations = sqlx::migrate!();
    let first = sqlx::migrate::Migrator {
        migrations: migrations.migrations.iter().take(1).cloned().collect(),
        ..sqlx::migrate::Migrator::DEFAULT
    };
    first
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    for (name, revision, number, deleted) in [
        ("fast", 1, 1, "null"),
        ("fast", 2, 2, "7"),
        ("DefaultConfiguration", 1, 3, "null"),
    ] {
        let record = format!(
            r#"{{"name":"{name}","revision":{revision},"id":"{}","scaling":{{"instances_min":3,"instances_max":25,"concurrency_per_instance":100}},"tags":[["team","web"]],"created_at":5,"deleted_at":{deleted}}}"#,
            id(number)
        );
        sqlx::query(
            "INSERT INTO auto_scaling_configurations (region, name, revision, deleted, record) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(REGION)
        .bind(name)
        .bind(revision)
        .bind(deleted != "null")
        .bind(record)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    let owner = service(1, &uses_scaling(1));
    let mut record = owner.service.clone();
    record.operation = None;
    sqlx::query(
        "INSERT INTO services (id, region, name, record, tags, created_at) \
         VALUES (?, ?, ?, ?, '[]', 1)",
    )
    .bind(owner.service.id.to_string())
    .bind(REGION)
    .bind(owner.service.name.as_str())
    .bind(serde_json::to_string(&record).unwrap())
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
}

//! Events on their way, as they are stored: each once, in order, and bounded.

#![allow(clippy::unwrap_used)]

use ekiden_model::{
    alert::{Alert, AlertKey, AlertKind},
    time::Timestamp,
};
use ekiden_store::{
    Store,
    events::{
        Because, DELIVERIES_BYTES_MAX, DELIVERIES_WAITING_MAX, DeliveryFacts, EventRule,
        NewDelivery, Outcome, RuleError, StoredTarget,
    },
};

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    (dir, store)
}

fn delivery(destination: &str, lane: &str, body: String) -> NewDelivery {
    NewDelivery {
        destination: destination.to_owned(),
        lane: lane.to_owned(),
        facts: DeliveryFacts {
            id: body.chars().take(10).collect(),
            at: Timestamp::from_millis(1),
            expires_at: Timestamp::from_millis(1000),
            attempts_max: 5,
        },
        body,
    }
}

#[tokio::test]
async fn a_lane_gives_its_deliveries_in_order_and_waits_for_the_first() {
    let (_dir, store) = store().await;
    let all = ["1", "2", "3"].map(|body| delivery("a", "x", body.to_owned()));
    store.put_deliveries(&all, Because::Put).await.unwrap();
    let other = [delivery("a", "y", "4".to_owned())];
    store
        .put_deliveries(&other, Because::Read("events", 7))
        .await
        .unwrap();
    assert_eq!(store.news_read("events").await.unwrap(), Some(7));
    let first = store.next_delivery("a", "x").await.unwrap().unwrap();
    assert_eq!((first.delivery.body.as_str(), first.attempts), ("1", 0));
    let later = Timestamp::from_millis(50);
    store
        .put_delivery_outcome(first.number, "a", Outcome::Again(later, "why"))
        .await
        .unwrap();
    let again = store.next_delivery("a", "x").await.unwrap().unwrap();
    assert_eq!(
        (again.number, again.attempts, again.next_at),
        (first.number, 1, later)
    );
    let lanes = store.delivery_lanes().await.unwrap();
    let lanes: Vec<_> = lanes.iter().map(|lane| lane.lane.as_str()).collect();
    assert_eq!(lanes, ["y", "x"]);
    assert_eq!(
        store
            .destination_counts("a")
            .await
            .unwrap()
            .problem
            .as_deref(),
        Some("why")
    );
    for outcome in [Outcome::Delivered, Outcome::Lost("old"), Outcome::Delivered] {
        let next = store.next_delivery("a", "x").await.unwrap().unwrap();
        store
            .put_delivery_outcome(next.number, "a", outcome)
            .await
            .unwrap();
    }
    let counts = store.destination_counts("a").await.unwrap();
    assert_eq!((counts.waiting, counts.delivered, counts.lost), (1, 2, 1));
    assert_eq!(counts.problem, None);
}

#[tokio::test]
async fn the_oldest_that_are_too_many_are_lost_and_counted() {
    let (_dir, store) = store().await;
    let over = 7;
    let all: Vec<_> = (0..DELIVERIES_WAITING_MAX + over)
        .map(|number| delivery("a", "x", number.to_string()))
        .collect();
    let lost = store.put_deliveries(&all, Because::Put).await.unwrap();
    assert_eq!(lost, [("a".to_owned(), u64::from(over))]);
    let first = store.next_delivery("a", "x").await.unwrap().unwrap();
    assert_eq!(first.delivery.body, over.to_string());
    let counts = store.destination_counts("a").await.unwrap();
    assert_eq!(counts.waiting, u64::from(DELIVERIES_WAITING_MAX));
    assert_eq!(counts.lost, u64::from(over));

    let big = "x".repeat(4 << 20);
    let all: Vec<_> = (0..20).map(|_| delivery("b", "x", big.clone())).collect();
    store.put_deliveries(&all, Because::Put).await.unwrap();
    let counts = store.destination_counts("b").await.unwrap();
    assert!(counts.waiting * (4 << 20) <= DELIVERIES_BYTES_MAX);
    assert_eq!(counts.waiting + counts.lost, 20);
}

#[tokio::test]
async fn a_lane_of_many_does_not_hide_other_destinations() {
    let (_dir, store) = store().await;
    let many: Vec<_> = (0..100)
        .map(|lane| delivery("a", &lane.to_string(), "1".to_owned()))
        .collect();
    store.put_deliveries(&many, Because::Put).await.unwrap();
    let other = [delivery("b", "x", "1".to_owned())];
    store.put_deliveries(&other, Because::Put).await.unwrap();
    let lanes = store.delivery_lanes().await.unwrap();
    assert!(lanes.iter().any(|lane| lane.destination == "b"));
    assert!(lanes.len() < 100);
}

#[tokio::test]
async fn rules_keep_their_targets_and_have_bounds() {
    let (_dir, store) = store().await;
    let rule = |name: &str| EventRule {
        name: name.to_owned(),
        pattern: "{}".to_owned(),
        description: None,
        state: "ENABLED".to_owned(),
        role_arn: None,
        created_by: None,
    };
    let target = |id: &str| StoredTarget {
        id: id.to_owned(),
        arn: "arn".to_owned(),
        record: "{}".to_owned(),
    };
    store.put_event_rule("r", &rule("a"), &[], 1).await.unwrap();
    store.put_event_rule("r", &rule("a"), &[], 1).await.unwrap();
    let full = store.put_event_rule("r", &rule("b"), &[], 1).await;
    assert!(matches!(full, Err(RuleError::Full)));
    store.put_event_rule("s", &rule("b"), &[], 1).await.unwrap();
    let targets = [target("1"), target("2")];
    store
        .put_event_targets("r", "a", &targets, 2)
        .await
        .unwrap();
    let full = store.put_event_targets("r", "a", &[target("3")], 2).await;
    assert!(matches!(full, Err(RuleError::Full)));
    let unknown = store.put_event_targets("r", "b", &[target("3")], 2).await;
    assert!(matches!(unknown, Err(RuleError::Unknown)));
    let in_use = store.remove_event_rule("r", "a").await;
    assert!(matches!(in_use, Err(RuleError::InUse(_))));
    let rules = store.event_rules().await.unwrap();
    let counts: Vec<_> = rules.iter().map(|rule| rule.targets.len()).collect();
    assert_eq!(counts, [2, 0]);
}

#[tokio::test]
async fn alerts_are_raised_until_they_are_cleared() {
    let (_dir, store) = store().await;
    let alert = Alert {
        key: AlertKey {
            kind: AlertKind::DiskNear,
            subject: "logs".to_owned(),
        },
        service: None,
        raised_at: Timestamp::from_millis(1),
        message: "It is full.".to_owned(),
    };
    store
        .put_deliveries(&[], Because::Raised(&alert, None))
        .await
        .unwrap();
    assert_eq!(store.alerts().await.unwrap(), std::slice::from_ref(&alert));
    store
        .put_deliveries(&[], Because::Cleared(&alert.key, None))
        .await
        .unwrap();
    assert_eq!(store.alerts().await.unwrap(), []);
}

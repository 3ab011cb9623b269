//! Alarms in the store: as they were put, one change after another, and deleted together.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ekiden_model::time::Timestamp;
use ekiden_store::{
    Store,
    alarms::{Alarm, AlarmChange, Configuration, Standing, Watched, WatchedQuery},
    secrets::Found,
};

fn alarm(name: &str, threshold: f64) -> Alarm {
    let at = Timestamp::from_millis(1);
    Alarm {
        name: name.to_owned(),
        config: Configuration {
            description: Some("why".to_owned()),
            actions_enabled: false,
            ok_actions: vec![],
            alarm_actions: vec!["arn:a".to_owned()],
            insufficient_data_actions: vec![],
            watched: Watched::Queries(vec![WatchedQuery {
                id: "a".to_owned(),
                metric: None,
                expression: Some("1".to_owned()),
                label: None,
                return_data: None,
                period_s: Some(60),
            }]),
            evaluation_periods: 1,
            datapoints_to_alarm: None,
            threshold,
            comparison: "GreaterThanThreshold".to_owned(),
            treat_missing_data: None,
            evaluate_low_sample_count_percentile: None,
        },
        configured_at: at,
        standing: Standing {
            state: "OK".to_owned(),
            reason: String::new(),
            reason_data: None,
            updated_at: at,
            transitioned_at: at,
        },
        tags: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
    }
}

async fn put(store: &Store, region: &str, alarm: &Alarm) -> Found<Alarm> {
    let put = |found| {
        let change = AlarmChange::Put(Box::new(alarm.clone()));
        Ok::<_, ()>((change, found))
    };
    let changed = store.change_alarm(region, &alarm.name, put).await;
    changed.unwrap().unwrap()
}

#[tokio::test]
async fn an_alarm_is_read_as_it_was_put_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    for threshold in [
        0.1,
        -0.0,
        2.348_542_582_773_833e108,
        5e-324,
        1.0 / 3.0,
        8.988_465_674_311_58e307,
        0.300_000_000_000_000_04,
    ] {
        let put_now = alarm("a", threshold);
        put(&store, "here", &put_now).await;
        let read = store.alarm("here", "a").await.unwrap().unwrap();
        assert_eq!(read, put_now);
        assert_eq!(read.config.threshold.to_bits(), threshold.to_bits());
    }
    assert_eq!(store.alarm("there", "a").await.unwrap(), None);
}

#[tokio::test]
async fn a_change_sees_what_there_is_and_may_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    let (a, b) = (alarm("a", 1.0), alarm("b", 1.0));
    assert_eq!(put(&store, "here", &a).await, Found::None { others: 0 });
    assert_eq!(put(&store, "here", &b).await, Found::None { others: 1 });
    assert_eq!(put(&store, "there", &a).await, Found::None { others: 0 });
    assert_eq!(put(&store, "here", &a).await, Found::One(a.clone()));
    let refuse = |_| Err::<(AlarmChange, ()), _>("no");
    let refused = store.change_alarm("here", "a", refuse).await.unwrap();
    assert_eq!(refused, Err("no"));
    let all = store.all_alarms().await.unwrap();
    let all: Vec<(&str, &str)> = all
        .iter()
        .map(|(region, alarm)| (&**region, &*alarm.name))
        .collect();
    assert_eq!(all, [("here", "a"), ("here", "b"), ("there", "a")]);
}

#[tokio::test]
async fn alarms_are_deleted_all_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
    for name in ["a", "b"] {
        put(&store, "here", &alarm(name, 1.0)).await;
    }
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let unknown = store
        .delete_alarms("here", &names(&["a", "c", "a", "b"]))
        .await;
    assert_eq!(unknown.unwrap(), ["c"]);
    assert_eq!(store.alarms("here").await.unwrap().len(), 2);
    let unknown = store.delete_alarms("here", &names(&["a", "a"])).await;
    assert_eq!(unknown.unwrap(), [""; 0]);
    assert_eq!(store.alarms("here").await.unwrap().len(), 1);
}

//! The store as its callers use it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ekiden_logs::{
    append::{Append, Appended, DropCause, Missing, Times},
    cursor::Cursor,
    error::LogError,
    event::{Event, NewEvent},
    group_info::{GroupsQuery, Names, NewGroup, StreamOrder, StreamsQuery},
    query::{Direction, Filter, Page, Query, Streams},
    settings::Settings,
    store::LogStore,
};
use tempfile::TempDir;

const GROUP: &str = "/aws/apprunner/web/0/application";

fn settings() -> Settings {
    Settings {
        group_bytes_max: 64 << 20,
        total_bytes_max: 256 << 20,
        disk_free_bytes_min: 0,
        segment_raw_bytes_max: 16 * 1024,
        ..Settings::default()
    }
}

fn open(directory: &Path) -> LogStore {
    LogStore::open(directory, settings()).unwrap()
}

fn try_append(
    store: &LogStore,
    stream: &str,
    lines: &[(i64, String)],
) -> Result<Appended, LogError> {
    let events: Vec<NewEvent<'_>> = lines
        .iter()
        .map(|(time_ms, text)| NewEvent {
            time_ms: *time_ms,
            text: text.as_bytes(),
        })
        .collect();
    store.append(&Append {
        group: GROUP,
        stream,
        missing: Missing::CreateGroup,
        times: Times::Given,
        now_ms: 1000,
        position: None,
        events: &events,
    })
}

fn append(store: &LogStore, stream: &str, lines: &[(i64, String)]) -> Appended {
    try_append(store, stream, lines).unwrap()
}

fn line(time_ms: i64, text: &str) -> (i64, String) {
    (time_ms, text.to_owned())
}

/// All events of a query, page by page.
fn all(store: &LogStore, query: &Query, filter: &Filter<'_>) -> Vec<Event> {
    let mut query = query.clone();
    let mut events = Vec::new();
    let mut pages = 0;
    loop {
        let page = store.query(&query, filter).unwrap();
        assert!(page.events.len() <= query.events_max);
        events.extend(page.events);
        pages += 1;
        assert!(pages < 100_000, "it does not come to an end");
        match page.next {
            Some(next) => {
                assert_ne!(query.after, Some(next));
                query.after = Some(next);
            }
            None => return events,
        }
    }
}

fn texts(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .map(|event| std::str::from_utf8(&event.text).unwrap())
        .collect()
}

fn wait_sealed(store: &LogStore) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.stats().unsealed > 0 {
        assert!(Instant::now() < deadline, "{:?}", store.stats());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn disk_bytes(directory: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        // What is removed meanwhile is not there.
        if let Ok(meta) = entry.metadata() {
            sum += match meta.is_dir() {
                true => disk_bytes(&entry.path()),
                false => meta.len(),
            };
        }
    }
    sum
}

#[test]
fn what_is_stored_is_found_by_time_stream_and_text_also_after_opening_again() {
    let directory = TempDir::new().unwrap();
    let mut expected = Vec::new();
    let store = open(directory.path());
    let mut random = 1u64;
    for batch in 0..200i64 {
        let stream = format!("s{}", batch % 3);
        let mut lines = Vec::new();
        for number in 0..20i64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let time = batch * 10 + (random >> 60) as i64 - 8;
            lines.push((
                time,
                format!("batch {batch} line {number} value {random:x}"),
            ));
        }
        let appended = append(&store, &stream, &lines);
        for (sequence, (time, text)) in (appended.first_sequence..).zip(lines) {
            expected.push((time, sequence, stream.clone(), text));
        }
    }
    expected.sort();
    let check = |store: &LogStore| {
        for (events_max, scan_bytes_max) in
            [(10_000, u64::MAX), (7, u64::MAX), (100, 1), (10_000, 3000)]
        {
            for direction in [Direction::Forward, Direction::Backward] {
                for streams in [
                    Streams::All,
                    Streams::Prefix("s".to_owned()),
                    Streams::Names(vec!["s1".to_owned(), "none".to_owned()]),
                ] {
                    for (from_ms, to_ms) in
                        [(None, None), (Some(500), Some(700)), (Some(1995), None)]
                    {
                        for literal in [None, Some("line 7 "), Some("absent")] {
                            let query = Query {
                                streams: streams.clone(),
                                direction,
                                events_max,
                                scan_bytes_max,
                                from_ms,
                                to_ms,
                                ..Query::new(GROUP)
                            };
                            let filter = Filter {
                                literal: literal.map(str::as_bytes),
                                ..Filter::all()
                            };
                            let mut want: Vec<_> = expected
                                .iter()
                                .filter(|(time, _, stream, text)| {
                                    from_ms.is_none_or(|from| *time >= from)
                                        && to_ms.is_none_or(|to| *time < to)
                                        && streams.has(stream)
                                        && literal.is_none_or(|literal| text.contains(literal))
                                })
                                .cloned()
                                .collect();
                            if direction == Direction::Backward {
                                want.reverse();
                            }
                            let found: Vec<_> = all(store, &query, &filter)
                                .into_iter()
                                .map(|event| {
                                    let text = String::from_utf8(event.text).unwrap();
                                    (
                                        event.time_ms,
                                        event.sequence,
                                        event.stream.to_string(),
                                        text,
                                    )
                                })
                                .collect();
                            assert!(
                                found == want,
                                "{query:?} {filter:?}: {} of {}",
                                found.len(),
                                want.len()
                            );
                        }
                    }
                }
            }
        }
    };
    check(&store);
    wait_sealed(&store);
    assert!(store.stats().sealed > 5);
    check(&store);
    drop(store);
    check(&open(directory.path()));
}

#[test]
fn a_matcher_is_asked_only_for_lines_with_the_literal() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(
        &store,
        "s",
        &[line(1, "one rare"), line(2, "two"), line(3, "rare rare")],
    );
    let filter = Filter {
        literal: Some(b"rare"),
        matches: &|event| {
            assert!(event.text.windows(4).any(|part| part == b"rare"));
            event.time_ms > 1
        },
    };
    let found = all(&store, &Query::new(GROUP), &filter);
    assert_eq!(texts(&found), ["rare rare"]);
}

#[test]
fn pages_are_bounded_in_bytes_and_give_one_event_at_least() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(
        &store,
        "s",
        &[
            line(1, "aaaa"),
            line(2, &"b".repeat(100)),
            line(3, "c"),
            line(4, "dd"),
        ],
    );
    let mut query = Query {
        bytes_max: 6,
        ..Query::new(GROUP)
    };
    let mut sizes = Vec::new();
    loop {
        let page = store.query(&query, &Filter::all()).unwrap();
        sizes.push(
            page.events
                .iter()
                .map(|event| event.text.len())
                .collect::<Vec<_>>(),
        );
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(sizes, [vec![4], vec![100], vec![1, 2]]);
}

#[test]
fn what_comes_later_is_found_after_the_last_event() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(&store, "s", &[line(5, "a")]);
    let page = store.query(&Query::new(GROUP), &Filter::all()).unwrap();
    assert_eq!(page.next, None);
    let after: Cursor = page.events[0].cursor().to_string().parse().unwrap();
    append(&store, "s", &[line(5, "b"), line(4, "earlier")]);
    let query = Query {
        after: Some(after),
        ..Query::new(GROUP)
    };
    let Page { events, .. } = store.query(&query, &Filter::all()).unwrap();
    assert_eq!(texts(&events), ["b"]);
}

#[test]
fn times_that_go_back_are_raised_when_asked() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let times: Vec<i64> = [10, 5, 12].into_iter().collect();
    for time_ms in times {
        let events = [
            NewEvent {
                time_ms,
                text: b"x",
            },
            NewEvent {
                time_ms: time_ms - 3,
                text: b"y",
            },
        ];
        let result = store.append(&Append {
            group: GROUP,
            stream: "s",
            missing: Missing::CreateGroup,
            times: Times::Raised,
            now_ms: 0,
            position: None,
            events: &events,
        });
        result.unwrap();
    }
    let events = all(&store, &Query::new(GROUP), &Filter::all());
    let times: Vec<i64> = events.iter().map(|event| event.time_ms).collect();
    assert_eq!(times, [10, 10, 10, 10, 12, 12]);
    assert!(events.is_sorted_by_key(|event| event.sequence));
}

#[test]
fn a_source_position_is_there_with_its_lines_after_opening_and_sealing() {
    let directory = TempDir::new().unwrap();
    let mut store = open(directory.path());
    for number in 0..300u32 {
        let text = format!("{number} {}", "x".repeat(200));
        let events = [NewEvent {
            time_ms: 1,
            text: text.as_bytes(),
        }];
        let position = number.to_le_bytes();
        let append = Append {
            group: GROUP,
            stream: "s",
            missing: Missing::CreateGroup,
            times: Times::Given,
            now_ms: 0,
            position: Some(&position),
            events: &events,
        };
        store.append(&append).unwrap();
        if number % 50 == 0 {
            drop(store);
            store = open(directory.path());
        }
        let stored = store.source_position(GROUP, "s").unwrap();
        assert_eq!(stored.as_deref(), Some(&position[..]));
    }
    assert!(matches!(
        store.source_position(GROUP, "t"),
        Err(LogError::NoStream { .. })
    ));
    assert!(matches!(
        store.source_position("none", "t"),
        Err(LogError::NoGroup { .. })
    ));
}

#[test]
fn following_gives_every_line_once_and_says_what_is_lost() {
    let directory = TempDir::new().unwrap();
    let small = Settings {
        group_bytes_max: 1 << 20,
        segment_raw_bytes_max: 8192,
        ..settings()
    };
    let store = LogStore::open(directory.path(), small).unwrap();
    let (mut at, mut seen, mut gone) = (0, 0u64, 0u64);
    let mut last = 0;
    let mut random = 7u64;
    for batch in 0..1200i64 {
        // Not to be compressed, so that the budget is reached.
        let mut text = String::new();
        while text.len() < 3000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(&format!("{:x}", random >> 8));
        }
        let lines = [(batch, text.clone()), (batch, "b".to_owned())];
        let appended = append(&store, &format!("s{}", batch % 5), &lines);
        last = appended.first_sequence + 1;
        // Read by fits and starts, so that some is lost.
        if batch % 400 > 300 {
            let tail = store.read_after(GROUP, at, 3, 1 << 20).unwrap();
            assert!(tail.events.is_sorted_by_key(|event| event.sequence));
            assert!(tail.events.iter().all(|event| event.sequence > at));
            seen += tail.events.len() as u64;
            gone += tail.gap;
            at = tail.last_sequence;
        }
    }
    loop {
        let tail = store.read_after(GROUP, at, 100, 1 << 20).unwrap();
        seen += tail.events.len() as u64;
        gone += tail.gap;
        at = tail.last_sequence;
        if !tail.more {
            break;
        }
    }
    assert_eq!(at, last);
    assert_eq!(store.last_sequence(GROUP).unwrap(), last);
    assert_eq!(seen + gone, 2400);
    assert!(gone > 0);
    let none = store.read_after(GROUP, at + 5, 100, 1 << 20).unwrap();
    assert_eq!((none.last_sequence, none.gap, none.more), (last, 0, false));
}

#[test]
fn a_deleted_stream_gives_no_lines_and_begins_anew() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    for batch in 0..40 {
        append(&store, "a", &[line(batch, &"a".repeat(900))]);
        append(&store, "b", &[line(batch, "b")]);
    }
    store.delete_stream(GROUP, "a").unwrap();
    assert!(matches!(
        store.delete_stream(GROUP, "a"),
        Err(LogError::NoStream { .. })
    ));
    append(&store, "a", &[line(100, "new")]);
    let check = |store: &LogStore| {
        let events = all(store, &Query::new(GROUP), &Filter::all());
        assert_eq!(events.len(), 41);
        assert_eq!(texts(&events).last(), Some(&"new"));
        let tail = store.read_after(GROUP, 0, 100, 1 << 20).unwrap();
        assert_eq!((tail.events.len(), tail.gap, tail.more), (41, 0, false));
        let stream = store.stream(GROUP, "a").unwrap();
        assert_eq!(
            (stream.first_event_ms, stream.last_event_ms),
            (Some(100), Some(100))
        );
    };
    check(&store);
    wait_sealed(&store);
    check(&store);
    drop(store);
    check(&open(directory.path()));
}

#[test]
fn dropped_lines_leave_a_mark_where_they_were() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(&store, "s", &[line(1, "before")]);
    store.note_dropped(GROUP, "s", 100, 40_000, DropCause::TooFast);
    store.note_dropped(GROUP, "s", 20, 8000, DropCause::DiskFull);
    let appended = append(&store, "s", &[line(2, "after")]);
    append(&store, "s", &[line(3, "later")]);
    let events = all(&store, &Query::new(GROUP), &Filter::all());
    let mark = "[Ekiden] 120 lines (48000 bytes) were dropped here: the disk has no room for logs";
    assert_eq!(texts(&events), ["before", mark, "after", "later"]);
    assert_eq!(events[2].sequence, appended.first_sequence);
    let dropped = store.stats().dropped;
    assert_eq!(dropped[&DropCause::TooFast].lines, 100);
    assert_eq!(dropped[&DropCause::DiskFull].bytes, 8000);
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let refuse = Append {
        group: GROUP,
        stream: "s",
        missing: Missing::Refuse,
        times: Times::Given,
        now_ms: 0,
        position: None,
        events: &[],
    };
    assert!(matches!(
        store.append(&refuse),
        Err(LogError::NoGroup { .. })
    ));
    append(&store, "other", &[]);
    assert!(matches!(
        store.append(&refuse),
        Err(LogError::NoStream { .. })
    ));
    let long = line(1, &"x".repeat(1024 * 1024 + 1));
    assert!(matches!(
        try_append(&store, "s", &[long]),
        Err(LogError::TooLong { .. })
    ));
    let fits = line(1, &"x".repeat(1024 * 1024));
    append(&store, "s", std::slice::from_ref(&fits));
    let many = vec![fits; 5];
    assert!(matches!(
        try_append(&store, "s", &many),
        Err(LogError::TooLong { .. })
    ));
    let many = vec![line(1, "x"); 10_001];
    assert!(matches!(
        try_append(&store, "s", &many),
        Err(LogError::Invalid { .. })
    ));
    assert!(matches!(
        try_append(&store, "a:b", &[]),
        Err(LogError::Invalid { .. })
    ));
    assert!(matches!(
        LogStore::open(directory.path(), settings()),
        Err(LogError::Invalid { .. })
    ));
}

#[test]
fn a_full_disk_refuses_and_what_is_stored_stays() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(&store, "s", &[line(1, "kept")]);
    drop(store);
    let full = Settings {
        disk_free_bytes_min: u64::MAX,
        ..settings()
    };
    let store = LogStore::open(directory.path(), full).unwrap();
    assert!(matches!(
        try_append(&store, "s", &[line(2, "x")]),
        Err(LogError::DiskFull)
    ));
    assert_eq!(store.stats().refused_disk_full, 1);
    assert_eq!(
        texts(&all(&store, &Query::new(GROUP), &Filter::all())),
        ["kept"]
    );
}

#[test]
fn groups_are_created_listed_changed_and_deleted() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let long = "x/".repeat(256);
    for name in ["/a/1", "/a/2", "/b/1", "B", &long] {
        let new = NewGroup {
            name: name.to_owned(),
            created_ms: 5,
            retention_days: Some(7),
            tags: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            ..NewGroup::default()
        };
        store.create_group(&new).unwrap();
        assert!(matches!(
            store.create_group(&new),
            Err(LogError::GroupExists { .. })
        ));
    }
    let list = |store: &LogStore, names: Names, after: Option<&str>, limit| {
        let query = GroupsQuery {
            names,
            after: after.map(str::to_owned),
            limit,
        };
        let listing = store.groups(&query);
        let names: Vec<String> = listing.items.into_iter().map(|group| group.name).collect();
        (names.join(" "), listing.more)
    };
    assert_eq!(
        list(&store, Names::Prefix("/a".to_owned()), None, 1),
        ("/a/1".to_owned(), true)
    );
    assert_eq!(
        list(&store, Names::Prefix("/a".to_owned()), Some("/a/1"), 1),
        ("/a/2".to_owned(), false)
    );
    assert_eq!(
        list(&store, Names::Contains("b".to_owned()), None, 9),
        ("/b/1 B".to_owned(), false)
    );
    store.delete_retention("/a/1").unwrap();
    store.put_retention("/a/2", 30).unwrap();
    store.set_kms_key("/a/2", Some("key")).unwrap();
    store
        .set_tags(
            "/a/2",
            &BTreeMap::from([
                ("k".to_owned(), "w".to_owned()),
                ("l".to_owned(), String::new()),
            ]),
        )
        .unwrap();
    store.remove_tags("/a/2", &["l".to_owned()]).unwrap();
    assert!(matches!(
        store.put_retention("/a/2", 0),
        Err(LogError::Invalid { .. })
    ));
    store.delete_group("/b/1").unwrap();
    assert!(matches!(store.group("/b/1"), Err(LogError::NoGroup { .. })));
    let check = |store: &LogStore| {
        assert_eq!(store.group("/a/1").unwrap().retention_days, None);
        let group = store.group("/a/2").unwrap();
        assert_eq!(
            (group.retention_days, group.kms_key_id.as_deref()),
            (Some(30), Some("key"))
        );
        assert_eq!(
            store.tags("/a/2").unwrap(),
            BTreeMap::from([("k".to_owned(), "w".to_owned())])
        );
        assert_eq!(store.group(&long).unwrap().name, long);
        assert_eq!(list(store, Names::All, None, 9).0.split(' ').count(), 4);
        assert_eq!(store.stats().disk_bytes, disk_bytes(directory.path()));
    };
    check(&store);
    drop(store);
    check(&open(directory.path()));
}

#[test]
fn a_group_that_is_created_again_has_later_sequences_and_no_old_lines() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(&store, "s", &[line(1, "old")]);
    let old = store.last_sequence(GROUP).unwrap();
    store.delete_group(GROUP).unwrap();
    store
        .create_group(&NewGroup {
            name: GROUP.to_owned(),
            created_ms: 1001,
            ..NewGroup::default()
        })
        .unwrap();
    append(&store, "s", &[line(1, "new")]);
    let tail = store.read_after(GROUP, old, 9, 99).unwrap();
    assert_eq!(texts(&tail.events), ["new"]);
    assert_eq!(tail.gap, 0);
}

#[test]
fn streams_are_listed_by_name_and_by_last_event() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    append(&store, "a", &[line(30, "x")]);
    append(&store, "b", &[line(10, "x")]);
    append(&store, "c", &[line(20, "xyz")]);
    store.create_stream(GROUP, "d", 7).unwrap();
    assert!(matches!(
        store.create_stream(GROUP, "d", 7),
        Err(LogError::StreamExists { .. })
    ));
    let list = |order, direction, after: Option<&str>, limit| {
        let query = StreamsQuery {
            prefix: None,
            order,
            direction,
            after: after.map(str::to_owned),
            limit,
        };
        let listing = store.streams(GROUP, &query).unwrap();
        let names: String = listing
            .items
            .into_iter()
            .map(|stream| stream.name)
            .collect();
        (names, listing.more)
    };
    use StreamOrder::{LastEvent, Name};
    assert_eq!(
        list(Name, Direction::Forward, None, 2),
        ("ab".to_owned(), true)
    );
    assert_eq!(
        list(Name, Direction::Forward, Some("b"), 2),
        ("cd".to_owned(), false)
    );
    assert_eq!(
        list(LastEvent, Direction::Backward, None, 2),
        ("ac".to_owned(), true)
    );
    assert_eq!(
        list(LastEvent, Direction::Backward, Some("c"), 9),
        ("bd".to_owned(), false)
    );
    let stream = store.stream(GROUP, "c").unwrap();
    assert_eq!(
        (stream.stored_bytes, stream.last_ingestion_ms),
        (3, Some(1000))
    );
    assert_eq!(
        stream.last_sequence,
        Some(store.last_sequence(GROUP).unwrap())
    );
}

#[test]
fn what_is_too_old_goes() {
    const DAY: i64 = 86_400_000;
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    for day in 0..10 {
        for _ in 0..20 {
            append(
                &store,
                "s",
                &[line(day * DAY, &format!("{day} {}", "x".repeat(900)))],
            );
        }
    }
    append(&store, "s", &[line(10 * DAY, "last")]);
    store.put_retention(GROUP, 3).unwrap();
    store.maintain(10 * DAY).unwrap();
    let events = all(&store, &Query::new(GROUP), &Filter::all());
    assert!(events[0].time_ms >= 6 * DAY, "{}", events[0].time_ms / DAY);
    assert!(
        events
            .iter()
            .filter(|event| event.time_ms >= 7 * DAY)
            .count()
            == 61
    );
    assert!(store.stats().removed_by_age > 0);
    store.maintain(100 * DAY).unwrap();
    assert_eq!(all(&store, &Query::new(GROUP), &Filter::all()), []);
    assert_eq!(store.source_position(GROUP, "s").unwrap(), None);
}

#[test]
fn a_budget_is_never_exceeded_and_other_groups_stay() {
    let directory = TempDir::new().unwrap();
    let budget = 1 << 20;
    let small = Settings {
        group_bytes_max: budget,
        total_bytes_max: 8 << 20,
        segment_raw_bytes_max: 1 << 20,
        ..settings()
    };
    let store = LogStore::open(directory.path(), small).unwrap();
    let other = NewEvent {
        time_ms: 1,
        text: b"other",
    };
    store
        .append(&Append {
            group: "other",
            stream: "s",
            missing: Missing::CreateGroup,
            times: Times::Given,
            now_ms: 0,
            position: None,
            events: &[other],
        })
        .unwrap();
    let mut random = 3u64;
    for batch in 0..400i64 {
        let mut text = Vec::new();
        for _ in 0..2000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.extend_from_slice(&random.to_le_bytes());
        }
        store
            .append(&Append {
                group: GROUP,
                stream: "s",
                missing: Missing::CreateGroup,
                times: Times::Given,
                now_ms: 0,
                position: None,
                events: &[NewEvent {
                    time_ms: batch,
                    text: &text,
                }],
            })
            .unwrap();
        let bytes = disk_bytes(directory.path());
        assert!(bytes <= budget + 1024, "{bytes} after {batch}");
    }
    let query = Query {
        bytes_max: usize::MAX,
        ..Query::new(GROUP)
    };
    let events = all(&store, &query, &Filter::all());
    assert!(events.len() > 10, "{}", events.len());
    let times: Vec<i64> = events.iter().map(|event| event.time_ms).collect();
    let first = times[0];
    assert_eq!(
        times,
        (first..400).collect::<Vec<_>>(),
        "the oldest go first"
    );
    assert_eq!(
        texts(&all(&store, &Query::new("other"), &Filter::all())),
        ["other"]
    );
    assert!(store.stats().removed_by_budget > 0);
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.stats().disk_bytes, disk_bytes(directory.path()));
}

#[test]
fn over_the_total_the_oldest_of_the_largest_group_goes() {
    let directory = TempDir::new().unwrap();
    let total = 2 << 20;
    let small = Settings {
        group_bytes_max: 16 << 20,
        total_bytes_max: total,
        segment_raw_bytes_max: 1 << 20,
        ..settings()
    };
    let store = LogStore::open(directory.path(), small).unwrap();
    let mut random = 3u64;
    for batch in 0..600i64 {
        let mut text = Vec::new();
        for _ in 0..1000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.extend_from_slice(&random.to_le_bytes());
        }
        // One group of many writes nearly all.
        let group = match batch % 10 {
            0 => format!("small{}", batch % 40),
            _ => "large".to_owned(),
        };
        store
            .append(&Append {
                group: &group,
                stream: "s",
                missing: Missing::CreateGroup,
                times: Times::Given,
                now_ms: 0,
                position: None,
                events: &[NewEvent {
                    time_ms: batch,
                    text: &text,
                }],
            })
            .unwrap();
        let bytes = disk_bytes(directory.path());
        assert!(bytes <= total, "{bytes} after {batch}");
    }
    for group in ["small0", "small10", "small20", "small30"] {
        assert_eq!(
            all(&store, &Query::new(group), &Filter::all()).len(),
            15,
            "{group}"
        );
    }
    let large = all(&store, &Query::new("large"), &Filter::all());
    assert_eq!(large.last().unwrap().time_ms, 599);
    assert!(large[0].time_ms > 100);
}

#[test]
fn who_waits_is_woken_by_an_append() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let since = store.changed();
    assert_eq!(store.wait_changed(since, Duration::from_millis(1)), since);
    let writer = store.clone();
    let thread = std::thread::spawn(move || append(&writer, "s", &[line(1, "x")]));
    assert_ne!(store.wait_changed(since, Duration::from_secs(30)), since);
    thread.join().unwrap();
}

#[test]
fn many_threads_write_read_and_delete_at_once() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let store = store.clone();
                scope.spawn(move || {
                    for number in 0..500 {
                        append(
                            &store,
                            &format!("s{thread}"),
                            &[line(number, &"x".repeat(300))],
                        );
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let (store, done) = (store.clone(), Arc::clone(&done));
            scope.spawn(move || {
                let mut seen = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let found = match store.query(&Query::new(GROUP), &Filter::all()) {
                        Ok(page) => page.events.len(),
                        Err(LogError::NoGroup { .. }) => 0,
                        Err(error) => panic!("{error:?}"),
                    };
                    assert!(found >= seen, "{found} after {seen}");
                    seen = found;
                    store.maintain(0).unwrap();
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let query = Query {
        bytes_max: usize::MAX,
        ..Query::new(GROUP)
    };
    assert_eq!(all(&store, &query, &Filter::all()).len(), 2000);
    store.delete_group(GROUP).unwrap();
    assert_eq!(store.stats().disk_bytes, 0);
}

#[test]
fn a_thousand_groups_are_opened_fast() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    for number in 0..1000 {
        let events = [NewEvent {
            time_ms: 1,
            text: b"x",
        }];
        let append = Append {
            group: &format!("/group/{number}"),
            stream: "s",
            missing: Missing::CreateGroup,
            times: Times::Given,
            now_ms: 0,
            position: None,
            events: &events,
        };
        store.append(&append).unwrap();
    }
    drop(store);
    let start = Instant::now();
    let store = open(directory.path());
    let took = start.elapsed();
    assert_eq!(store.stats().groups, 1000);
    assert!(took < Duration::from_secs(2), "{took:?}");
    eprintln!("opened in {took:?}");
}

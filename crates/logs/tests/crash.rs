//! The store after its process was killed, and after its files were damaged.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use ekiden_logs::{
    append::{Append, Missing, Times},
    event::{Event, NewEvent},
    query::{Filter, Query},
    settings::Settings,
    store::LogStore,
};
use tempfile::TempDir;

const GROUP: &str = "/group";
const STREAMS: usize = 3;
const CHILD: &str = "EKIDEN_LOGS_CRASH_DIRECTORY";

fn settings(segment_raw_bytes_max: u64) -> Settings {
    Settings {
        group_bytes_max: 4 << 30,
        total_bytes_max: 8 << 30,
        disk_free_bytes_min: 0,
        segment_raw_bytes_max,
        sync_every: Duration::from_secs(3600),
        ..Settings::default()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn all(store: &LogStore) -> Vec<Event> {
    let mut query = Query {
        events_max: usize::MAX,
        bytes_max: usize::MAX,
        scan_bytes_max: u64::MAX,
        ..Query::new(GROUP)
    };
    let mut events = Vec::new();
    loop {
        let page = store.query(&query, &Filter::all()).unwrap();
        events.extend(page.events);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return events,
        }
    }
}

/// Lines number `from` and the `count` after it of a stream, with the number of the next as its position.
fn append(store: &LogStore, stream: usize, from: u64, count: u64, length: usize) {
    let texts: Vec<String> = (from..from + count)
        .map(|number| format!("{number} {}", "padding ".repeat(length / 8)))
        .collect();
    let events: Vec<NewEvent<'_>> = texts
        .iter()
        .zip(from..)
        .map(|(text, number)| NewEvent {
            time_ms: number as i64,
            text: text.as_bytes(),
        })
        .collect();
    let appended = store.append(&Append {
        group: GROUP,
        stream: &format!("s{stream}"),
        missing: Missing::CreateGroup,
        times: Times::Raised,
        now_ms: 0,
        position: Some(&(from + count).to_le_bytes()),
        events: &events,
    });
    appended.unwrap();
}

fn position(store: &LogStore, stream: usize) -> u64 {
    match store.source_position(GROUP, &format!("s{stream}")) {
        Ok(Some(bytes)) => u64::from_le_bytes(bytes.try_into().unwrap()),
        _ => 0,
    }
}

/// Not a test: the process that is killed. It goes on where the store says it was.
#[test]
#[ignore = "run by the test that kills it"]
fn child_that_appends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let store = LogStore::open(Path::new(&directory), settings(20_000)).unwrap();
    let mut random = Random(std::process::id().into());
    let mut next: Vec<u64> = (0..STREAMS)
        .map(|stream| position(&store, stream))
        .collect();
    let mut out = std::io::stdout();
    loop {
        let (stream, count) = (random.below(STREAMS as u64) as usize, 1 + random.below(20));
        append(&store, stream, next[stream], count, 100);
        next[stream] += count;
        writeln!(out, "ack {stream} {}", next[stream]).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged_and_repeats_nothing() {
    let directory = TempDir::new().unwrap();
    let mut random = Random(11);
    let mut acknowledged = [0u64; STREAMS];
    let mut sealed = 0;
    for round in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_appends_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Killed after so many acknowledgements and a random time, which may be in any write.
        let kill_at = random.below(200);
        let mut lines = output.lines();
        let mut seen = 0;
        let mut read = |line: String| {
            let mut parts = line.split(' ');
            if parts.next() == Some("ack") {
                let stream: usize = parts.next().unwrap().parse().unwrap();
                acknowledged[stream] = parts.next().unwrap().parse().unwrap();
                seen += 1;
            }
            seen
        };
        while read(lines.next().expect("the child ended").unwrap()) <= kill_at {}
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts, unless the last line is cut.
        for line in lines.map_while(Result::ok) {
            if line.split(' ').count() == 3 {
                read(line);
            }
        }
        let store = LogStore::open(directory.path(), settings(20_000)).unwrap();
        let events = all(&store);
        let mut next = [0u64; STREAMS];
        let mut last = BTreeMap::new();
        for event in &events {
            let stream: usize = event.stream[1..].parse().unwrap();
            let text = std::str::from_utf8(&event.text).unwrap();
            let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(number, next[stream], "round {round}: {}", event.stream);
            next[stream] += 1;
            let before = last.insert(stream, event.sequence);
            assert!(before.is_none_or(|before| before < event.sequence));
        }
        for stream in 0..STREAMS {
            // The last acknowledgement may have been cut short to a smaller number, so no less.
            assert!(
                next[stream] >= acknowledged[stream],
                "round {round}: {next:?} {acknowledged:?}"
            );
            assert_eq!(position(&store, stream), next[stream], "round {round}");
        }
        assert_eq!(store.stats().damaged, 0);
        let files = fs::read_dir(directory.path().join("%2Fgroup")).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        sealed = names.filter(|name| name.starts_with("SEGMENT")).count();
    }
    assert!(sealed > 20, "{sealed}");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let group = directory.join("%2Fgroup");
    let mut files: Vec<PathBuf> = fs::read_dir(group)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("%2Fgroup")).unwrap();
    for file in files(from) {
        fs::copy(&file, to.join("%2Fgroup").join(file.file_name().unwrap())).unwrap();
    }
}

/// Damages copies of a store in many ways. What is still read is as it was, in order; at most `lost_max`
/// lines are lost when a bit was flipped, none that are before a cut; and the store goes on.
fn damage(from: &Path, settings: &Settings, rounds: u64, lost_max: usize) {
    let whole: BTreeMap<u64, Event> = {
        let directory = TempDir::new().unwrap();
        copy(from, directory.path());
        let store = LogStore::open(directory.path(), settings.clone()).unwrap();
        let events = all(&store);
        events
            .into_iter()
            .map(|event| (event.sequence, event))
            .collect()
    };
    let mut random = Random(5);
    let mut lost_some = false;
    for round in 0..rounds {
        let directory = TempDir::new().unwrap();
        copy(from, directory.path());
        let files = files(directory.path());
        let file = &files[random.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        let length = bytes.len();
        let at = random.below(bytes.len() as u64) as usize;
        let what = random.below(4);
        match what {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            _ => bytes[at] ^= 1 << random.below(8),
        }
        fs::write(file, bytes).unwrap();
        let what = format!("round {round}: {} kind {what} at {at}", file.display());
        let store = LogStore::open(directory.path(), settings.clone()).unwrap();
        let found = all(&store);
        for event in &found {
            assert_eq!(Some(event), whole.get(&event.sequence), "{what}");
        }
        assert!(found.is_sorted_by_key(Event::cursor), "{what}");
        let lost = whole.len() - found.len();
        lost_some |= lost > 0;
        if what.contains("kind 2") || what.contains("kind 3") {
            assert!(lost <= lost_max, "{what}: {lost} lost");
        }
        if what.contains("JOURNAL") && what.contains("kind 0") {
            // The frames are about as long as each other, with `lost_max` lines in each.
            let before = (whole.len() * at / length).saturating_sub(2 * lost_max);
            assert!(found.len() >= before, "{what}: {} found", found.len());
            let last = found.iter().map(|event| event.sequence).max();
            let oldest = whole.first_key_value().map(|(sequence, _)| *sequence);
            let count = found.len() as u64;
            assert_eq!(
                last.map(|last| last + 1),
                oldest.map(|first| first + count).filter(|_| count > 0)
            );
        }
        append(&store, 0, 1_000_000, 1, 8);
        let again = all(&store);
        assert_eq!(again.len(), found.len() + 1, "{what}");
        let new = again.iter().max_by_key(|event| event.sequence).unwrap();
        assert!(new.text.starts_with(b"1000000"), "{what}");
        drop(store);
        let store = LogStore::open(directory.path(), settings.clone()).unwrap();
        assert_eq!(all(&store).len(), again.len(), "{what}");
    }
    assert!(lost_some);
}

#[test]
fn damage_in_a_journal_costs_the_frames_it_is_in() {
    let directory = TempDir::new().unwrap();
    let settings = settings(1 << 20);
    let store = LogStore::open(directory.path(), settings.clone()).unwrap();
    for batch in 0..100 {
        append(&store, batch as usize % STREAMS, batch * 10, 10, 200);
    }
    drop(store);
    damage(directory.path(), &settings, 300, 10);
}

#[test]
fn damage_in_a_segment_costs_the_block_it_is_in() {
    let directory = TempDir::new().unwrap();
    let settings = settings(4 << 20);
    let store = LogStore::open(directory.path(), settings.clone()).unwrap();
    for batch in 0..80 {
        append(&store, batch as usize % STREAMS, batch * 100, 100, 1000);
    }
    store.seal(GROUP).unwrap();
    // 512 KiB of lines of 1000 bytes.
    drop(store);
    damage(directory.path(), &settings, 80, 530);
}

//! Giving lines to whoever stores them: which of them, and how far that has come.
//!
//! What was taken is told by the one who stores, and kept here in memory only: an agent that starts gives
//! everything that there is again, and is told how far that is known. Only an instance that has ended and of
//! which all is taken is marked on disk, with an empty file, so that nobody looks at it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ekiden_engine::{CollectedLine, CollectedLines, LOG_LINES_MAX, LogPosition};
use ekiden_model::id::{InstanceId, ServiceId};

use super::{read, segment};

/// What is given at one time is no more than this, in bytes of text, and one instance's page.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The mark of a log of which all is taken.
const MARK: &str = "taken";

/// How far the logs of instances are taken.
#[derive(Debug)]
pub(crate) struct Tails {
    logs: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the logs that were here before are among them.
    is_found: bool,
    tails: BTreeMap<InstanceId, Tail>,
    /// Whose turn was last: everybody has one before the first has another.
    last: Option<InstanceId>,
}

#[derive(Debug)]
struct Tail {
    service: ServiceId,
    taken: LogPosition,
    lives: bool,
}

impl Tails {
    pub(crate) fn new(logs: PathBuf) -> Self {
        Self {
            logs,
            state: Mutex::default(),
        }
    }

    /// How far logs are stored elsewhere.
    pub(crate) fn take(&self, taken: &[(InstanceId, LogPosition)]) {
        let mut state = self.lock();
        for (id, position) in taken {
            if let Some(tail) = state.tails.get_mut(id) {
                tail.taken = *position;
            }
        }
    }

    /// Lines that are not taken yet; `live` are all instances that may still write. Blocks.
    pub(crate) fn look(&self, live: &BTreeMap<InstanceId, ServiceId>) -> Vec<CollectedLines> {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.is_found, true) {
            find(&self.logs, &mut state.tails);
        }
        for (id, service) in live {
            state.tails.entry(*id).or_insert(Tail {
                service: *service,
                taken: read::BEGINNING,
                lives: true,
            });
        }
        let mut over = BTreeSet::new();
        let mut answer = Vec::new();
        let mut bytes = 0;
        let turns = turns(&state);
        for id in turns {
            let Some(tail) = state.tails.get_mut(&id) else {
                continue;
            };
            // What ends after it was looked at last is looked at once more.
            let ended = !std::mem::replace(&mut tail.lives, live.contains_key(&id));
            let directory = super::directory(&self.logs, tail.service, id);
            match page(&directory, tail, id) {
                Some(page) => {
                    bytes += page.lines.iter().map(|line| line.text.len()).sum::<usize>();
                    answer.push(page);
                    state.last = Some(id);
                    if bytes >= ANSWER_BYTES_MAX {
                        break;
                    }
                }
                None if ended && !live.contains_key(&id) => {
                    // A directory that is gone needs no mark; one without is looked at again.
                    let _ = File::create(directory.join(MARK));
                    over.insert(id);
                }
                None => {}
            }
        }
        state.tails.retain(|id, _| !over.contains(id));
        answer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everybody, beginning after the last whose turn it was.
fn turns(state: &State) -> Vec<InstanceId> {
    let after = state.last.map_or(Bound::Unbounded, Bound::Excluded);
    let until = state.last.map_or(
        Bound::Excluded(InstanceId::from_bytes([0; 16])),
        Bound::Included,
    );
    let behind = state.tails.range((after, Bound::Unbounded));
    let before = state.tails.range((Bound::Unbounded, until));
    behind.chain(before).map(|(id, _)| *id).collect()
}

/// The logs that are here, of services' instances, without those that are marked.
fn find(logs: &Path, tails: &mut BTreeMap<InstanceId, Tail>) {
    let services = fs::read_dir(logs).into_iter().flatten().flatten();
    for entry in services {
        let name = entry.file_name();
        let Some(service) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        for id in read::instances(&entry.path()) {
            if !super::directory(logs, service, id).join(MARK).exists() {
                let (taken, lives) = (read::BEGINNING, false);
                tails.insert(
                    id,
                    Tail {
                        service,
                        taken,
                        lives,
                    },
                );
            }
        }
    }
}

/// The next lines; `None` when there are none.
fn page(directory: &Path, tail: &Tail, instance: InstanceId) -> Option<CollectedLines> {
    let from = tail.taken;
    let has_grown = segment(directory, from.segment)
        .metadata()
        .is_ok_and(|file| file.len() > from.offset);
    // A segment that is gone was written over, and the first comes after the beginning.
    let has_more = has_grown
        || segment(directory, from.segment + 1).exists()
        || (!segment(directory, from.segment).exists() && directory.exists());
    if !has_more {
        return None;
    }
    let mut lines = read::forward(directory, from, LOG_LINES_MAX as usize);
    // As many as fit, and one however long it is.
    let mut bytes = 0;
    let fit = lines.iter().take_while(|(line, _)| {
        bytes += line.text.len();
        bytes <= ANSWER_BYTES_MAX
    });
    let fit = fit.count().max(1);
    lines.truncate(fit);
    let (_, next) = *lines.last()?;
    let lines = lines.into_iter().map(|(line, _)| CollectedLine {
        at_micros: line.at_micros,
        stream: line.stream,
        text: line.text,
    });
    Some(CollectedLines {
        service: tail.service,
        instance,
        from,
        next,
        lines: lines.collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ekiden_engine::LogStream;

    use super::*;
    use crate::log::write::LogWriter;

    const SERVICE: ServiceId = ServiceId::from_bytes([9; 16]);

    fn instance(n: u8) -> InstanceId {
        InstanceId::from_bytes([n; 16])
    }

    fn open(logs: &Path, n: u8) -> LogWriter {
        LogWriter::open(
            &super::super::directory(logs, SERVICE, instance(n)),
            Instant::now(),
        )
        .unwrap()
    }

    fn say(log: &mut LogWriter, text: &str) {
        log.take(LogStream::Stdout, text.as_bytes(), 7, Instant::now());
    }

    fn texts(answer: &[CollectedLines]) -> Vec<&str> {
        let lines = answer.iter().flat_map(|page| &page.lines);
        lines.map(|line| line.text.as_str()).collect()
    }

    fn took(answer: &[CollectedLines]) -> Vec<(InstanceId, LogPosition)> {
        answer
            .iter()
            .map(|page| (page.instance, page.next))
            .collect()
    }

    #[test]
    fn lines_are_given_until_they_are_taken() {
        let logs = tempfile::tempdir().unwrap();
        let tails = Tails::new(logs.path().to_owned());
        let live = BTreeMap::from([(instance(1), SERVICE), (instance(2), SERVICE)]);
        assert_eq!(texts(&tails.look(&live)), Vec::<&str>::new());
        let (mut one, mut two) = (open(logs.path(), 1), open(logs.path(), 2));
        say(&mut one, "a\nb\n");
        say(&mut two, "c\nunfinished");
        let first = tails.look(&live);
        assert_eq!(texts(&first), ["a", "b", "c"]);
        let mut again = tails.look(&live);
        again.sort_by_key(|page| page.instance);
        assert_eq!(again, first);
        tails.take(&took(&first));
        assert!(tails.look(&live).is_empty());
        say(&mut two, " line\n");
        assert_eq!(texts(&tails.look(&live)), ["unfinished line"]);
        // Another agent begins with all of it.
        let other = Tails::new(logs.path().to_owned());
        assert_eq!(
            texts(&other.look(&live)),
            ["a", "b", "c", "unfinished line"]
        );
        other.take(&took(&first));
        assert_eq!(texts(&other.look(&live)), ["unfinished line"]);
    }

    #[test]
    fn an_instance_that_ended_is_given_to_its_last_line_and_not_again() {
        let logs = tempfile::tempdir().unwrap();
        let tails = Tails::new(logs.path().to_owned());
        let live = BTreeMap::from([(instance(1), SERVICE)]);
        let mut one = open(logs.path(), 1);
        say(&mut one, "a\n");
        tails.take(&took(&tails.look(&live)));
        say(&mut one, "the end");
        one.finish(8, Instant::now());
        let none = BTreeMap::new();
        let last = tails.look(&none);
        assert_eq!(texts(&last), ["the end"]);
        tails.take(&took(&last));
        assert!(tails.look(&none).is_empty());
        assert!(tails.lock().tails.is_empty());
        assert!(Tails::new(logs.path().to_owned()).look(&none).is_empty());
    }

    #[test]
    fn one_that_says_much_does_not_keep_others_waiting() {
        let logs = tempfile::tempdir().unwrap();
        let tails = Tails::new(logs.path().to_owned());
        let live = (1..=3).map(|n| (instance(n), SERVICE)).collect();
        let long = format!("{}\n", "x".repeat(9_000)).repeat(900);
        for n in 1..=2 {
            say(&mut open(logs.path(), n), &long);
        }
        say(&mut open(logs.path(), 3), "short\n");
        let mut seen = Vec::new();
        for _ in 0..5 {
            let answer = tails.look(&live);
            for page in &answer {
                let bytes: usize = page.lines.iter().map(|line| line.text.len()).sum();
                assert!(bytes <= ANSWER_BYTES_MAX, "{bytes}");
            }
            seen.extend(answer.iter().map(|page| page.instance));
            tails.take(&took(&answer));
        }
        assert_eq!(seen[..3], [1, 2, 3].map(instance));
    }

    #[test]
    fn what_was_written_over_is_said_and_the_rest_is_given() {
        let logs = tempfile::tempdir().unwrap();
        let tails = Tails::new(logs.path().to_owned());
        let live = BTreeMap::from([(instance(1), SERVICE)]);
        let start = Instant::now();
        let mut log = open(logs.path(), 1);
        let chunk = [[b'z'; 999].as_slice(), b"\n"].concat().repeat(1000);
        for second in 0..40 {
            let now = start + std::time::Duration::from_secs(second);
            log.take(LogStream::Stdout, &chunk, second, now);
        }
        let answer = tails.look(&live);
        assert!(texts(&answer)[0].contains("left out"));
        tails.take(&took(&answer));
        assert!(texts(&tails.look(&live))[0].starts_with("zzz"));
    }
}

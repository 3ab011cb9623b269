//! Lines on their way: which ranges of which groups, and reading them.

use std::{collections::HashMap, sync::Arc};

use ekiden_aws::arn::Arn;
use ekiden_export::{
    line::{Line, Service, Source},
    target::BatchHint,
};
use ekiden_logs::{error::LogError, event::Event, query::Tail, store::LogStore};

use super::{Regions, heads::Head};

/// What the names of instances' streams begin with.
const INSTANCE_PREFIX: &str = "instance/";

/// A group to read from.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) group: Arc<str>,
    pub(super) head: Head,
    /// The sequence after which.
    pub(super) from: u64,
}

/// A range of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) group: Arc<str>,
    /// The sequence before its first line.
    pub(super) from: u64,
    /// The sequence of its last line.
    pub(super) to: u64,
}

/// What is sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) parts: Vec<Part>,
    pub(super) lines: Vec<Line>,
    /// Lines that are gone from its ranges.
    pub(super) lost: u64,
    /// Whether there was more than fits.
    pub(super) more: bool,
}

/// Makes lines of events.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) logs: LogStore,
    pub(super) regions: Regions,
    pub(super) account_id: String,
}

impl Reader {
    /// Reads what comes after each start until the batch is full. A group that is not there any more is left
    /// out. Blocks.
    ///
    /// # Errors
    /// As the store says.
    pub(super) fn gather(&self, starts: &[Start], hint: BatchHint) -> Result<Batch, LogError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for start in starts {
            if batch.lines.len() >= hint.lines_max || bytes >= hint.bytes_max {
                batch.more = true;
                break;
            }
            let lines_left = hint.lines_max - batch.lines.len();
            let Some(tail) =
                self.read_after(&start.group, start.from, lines_left, hint.bytes_max - bytes)?
            else {
                continue;
            };
            bytes += tail
                .events
                .iter()
                .map(|event| event.text.len())
                .sum::<usize>();
            batch.lost += tail.gap;
            batch.more |= tail.more;
            if tail.last_sequence > start.from {
                batch.parts.push(Part {
                    group: Arc::clone(&start.group),
                    from: start.from,
                    to: tail.last_sequence,
                });
            }
            self.add(&mut batch.lines, &start.group, &start.head, tail.events);
        }
        Ok(batch)
    }

    /// Reads the same ranges again; what is gone meanwhile is lost. Blocks.
    ///
    /// # Errors
    /// As the store says.
    pub(super) fn again(&self, parts: Vec<(Part, Option<Head>)>) -> Result<Batch, LogError> {
        let mut batch = Batch::default();
        for (part, head) in parts {
            let mut from = part.from;
            while let Some(head) = &head
                && from < part.to
            {
                let lines_max = usize::try_from(part.to - from).unwrap_or(usize::MAX);
                let Some(mut tail) = self.read_after(&part.group, from, lines_max, usize::MAX)?
                else {
                    break;
                };
                if tail.last_sequence <= from {
                    break;
                }
                let last = tail.last_sequence.min(part.to);
                tail.events.retain(|event| event.sequence <= part.to);
                let there = tail.events.len() as u64;
                batch.lost += tail.gap.min((last - from).saturating_sub(there));
                self.add(&mut batch.lines, &part.group, head, tail.events);
                from = last;
            }
            batch.parts.push(part);
        }
        Ok(batch)
    }

    fn read_after(
        &self,
        group: &str,
        from: u64,
        lines_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Tail>, LogError> {
        match self.logs.read_after(group, from, lines_max, bytes_max) {
            Ok(tail) => Ok(Some(tail)),
            Err(LogError::NoGroup { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn add(&self, lines: &mut Vec<Line>, group: &Arc<str>, head: &Head, events: Vec<Event>) {
        let region = head.id.parse().ok().and_then(|id| (self.regions)(id));
        let service = Service {
            name: head.service.to_string(),
            id: head.id.to_string(),
            // Nobody knows any more where a service was that is forgotten.
            arn: region.map_or_else(String::new, |region| {
                Arn::of_service(&region, &self.account_id, &head.service, &head.id)
            }),
        };
        let mut sources: HashMap<Arc<str>, Arc<Source>> = HashMap::new();
        for event in events {
            let source = sources.entry(event.stream).or_insert_with_key(|stream| {
                Arc::new(Source {
                    group: group.to_string(),
                    stream: stream.to_string(),
                    kind: head.kind,
                    service: Some(service.clone()),
                    instance: stream.strip_prefix(INSTANCE_PREFIX).map(str::to_owned),
                })
            });
            lines.push(Line {
                sequence: event.sequence,
                time_ms: event.time_ms.max(0) as u64,
                observed_ms: event.ingestion_ms.max(0) as u64,
                output: None,
                process: None,
                source: Arc::clone(source),
                text: match String::from_utf8(event.text) {
                    Ok(text) => text,
                    Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
                },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ekiden_export::line::Kind;
    use ekiden_logs::{
        append::{Append, Missing, Times},
        event::NewEvent,
        settings::Settings,
    };

    use super::super::heads;
    use super::*;

    const GROUPS: [&str; 2] = [
        "/aws/apprunner/one/00000000000000000000000000000001/application",
        "/aws/apprunner/two/00000000000000000000000000000002/service",
    ];

    fn reader(dir: &std::path::Path) -> Reader {
        let settings = Settings {
            disk_free_bytes_min: 0,
            ..Settings::default()
        };
        Reader {
            logs: LogStore::open(dir, settings).unwrap(),
            regions: Arc::new(|_| Some("us-east-1".to_owned())),
            account_id: "100000000001".to_owned(),
        }
    }

    fn write(reader: &Reader, group: &str, stream: &str, texts: &[&[u8]]) {
        let event = |text: &&'static [u8]| NewEvent { time_ms: 7, text };
        let texts: Vec<&'static [u8]> = texts.iter().map(|text| &*text.to_vec().leak()).collect();
        let events: Vec<_> = texts.iter().map(event).collect();
        let append = Append {
            group,
            stream,
            missing: Missing::CreateGroup,
            times: Times::Raised,
            now_ms: 9,
            position: None,
            events: &events,
        };
        reader.logs.append(&append).unwrap();
    }

    fn starts(reader: &Reader) -> Vec<Start> {
        let heads = heads::look(&reader.logs, &heads::Heads::default());
        let start = |(group, head): (&Arc<str>, &Head)| Start {
            group: Arc::clone(group),
            head: head.clone(),
            from: 0,
        };
        heads.iter().map(start).collect()
    }

    fn hint(lines_max: usize, bytes_max: usize) -> BatchHint {
        BatchHint {
            lines_max,
            bytes_max,
            wait_max: Duration::ZERO,
        }
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.lines.iter().map(|line| &line.text[..]).collect()
    }

    #[test]
    fn a_batch_has_lines_of_several_groups_and_is_the_same_when_it_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        write(&reader, GROUPS[0], "instance/0a", &[b"a", b"b\xff"]);
        write(&reader, GROUPS[1], "events", &[b"c", b"d", b"e"]);
        let starts = starts(&reader);
        assert_eq!(starts[1].head.last - starts[1].head.floor, 3);
        let batch = reader.gather(&starts, hint(4, 1000)).unwrap();
        assert_eq!(texts(&batch), ["a", "b\u{fffd}", "c", "d"]);
        assert!(batch.more && batch.lost == 0);
        let source = &batch.lines[0].source;
        let service = source.service.as_ref().unwrap();
        assert_eq!(
            (source.kind, source.instance.as_deref()),
            (Kind::Application, Some("0a"))
        );
        assert_eq!(
            service.arn,
            format!(
                "arn:aws:apprunner:us-east-1:100000000001:service/one/{}",
                service.id
            )
        );
        assert_eq!((batch.lines[2].time_ms, batch.lines[2].observed_ms), (7, 9));
        // More was written meanwhile, which is of the next batch.
        write(&reader, GROUPS[0], "instance/0a", &[b"f"]);
        let with_heads = |parts: &[Part]| -> Vec<_> {
            let head = |part: &Part| starts.iter().find(|start| start.group == part.group);
            let both = |part: &Part| (part.clone(), head(part).map(|start| start.head.clone()));
            parts.iter().map(both).collect()
        };
        let again = reader.again(with_heads(&batch.parts)).unwrap();
        assert_eq!((&again.lines, &again.parts), (&batch.lines, &batch.parts));
        // A group that is gone takes its part with it.
        reader.logs.delete_group(GROUPS[0]).unwrap();
        let again = reader.again(with_heads(&batch.parts)).unwrap();
        assert_eq!(
            (texts(&again), &again.parts),
            (vec!["c", "d"], &batch.parts)
        );
    }

    #[test]
    fn a_batch_ends_with_the_line_that_fills_it() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        write(&reader, GROUPS[0], "instance/0a", &[&b"0123456789"[..]; 5]);
        write(&reader, GROUPS[1], "events", &[b"x"]);
        let batch = reader.gather(&starts(&reader), hint(100, 30)).unwrap();
        assert_eq!(batch.lines.len(), 3);
        assert!(batch.more);
        // One line is taken however long it is.
        let batch = reader.gather(&starts(&reader), hint(100, 1)).unwrap();
        assert_eq!(batch.lines.len(), 1);
    }
}

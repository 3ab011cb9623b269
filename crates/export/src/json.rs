//! A line as a JSON object, or as the record of other formats that have fields.

use serde::Serialize;

use crate::{line::Line, timestamp};

/// A line's fields. Those that are not known are left out.
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    /// RFC 3339, UTC, in milliseconds.
    pub(crate) timestamp: String,
    pub(crate) observed_timestamp: String,
    pub(crate) sequence: u64,
    #[serde(flatten)]
    pub(crate) texts: Texts<'a>,
}

/// Those that are text.
#[derive(Serialize)]
pub(crate) struct Texts<'a> {
    pub(crate) group: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<&'static str>,
    pub(crate) message: &'a str,
}

impl<'a> Record<'a> {
    pub(crate) fn new(line: &'a Line) -> Self {
        Self {
            timestamp: timestamp::rfc3339(line.time_ms),
            observed_timestamp: timestamp::rfc3339(line.observed_ms),
            sequence: line.sequence,
            texts: Texts::new(line),
        }
    }
}

impl<'a> Texts<'a> {
    fn new(line: &'a Line) -> Self {
        let source = &*line.source;
        let service = source.service.as_ref();
        Self {
            group: &source.group,
            stream: &source.stream,
            kind: source.kind.as_str(),
            service: service.map(|service| &*service.name),
            service_id: service.map(|service| &*service.id),
            service_arn: service.map(|service| &*service.arn),
            instance: source.instance.as_deref(),
            process: line.process.as_deref(),
            output: line.output.map(|output| output.as_str()),
            message: &line.text,
        }
    }

    /// Names and values of those that are there.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        [
            ("group", Some(self.group)),
            ("stream", Some(self.stream)),
            ("kind", Some(self.kind)),
            ("service", self.service),
            ("service_id", self.service_id),
            ("service_arn", self.service_arn),
            ("instance", self.instance),
            ("process", self.process),
            ("output", self.output),
            ("message", Some(self.message)),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

/// The lines as an array.
pub(crate) fn array(lines: &[Line]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&mut out, line);
    }
    out.push(b']');
    out
}

/// The lines, an object a line.
pub(crate) fn ndjson<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        write(&mut out, line);
        out.push(b'\n');
    }
    out
}

fn write(out: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(out, &Record::new(line))
        .expect("texts and numbers become JSON in memory");
}

//! A line as messages of RFC 5424, each with its length before it (RFC 6587, 3.4.1).
//!
//! ```text
//! 211 <134>1 2026-11-28T02:37:49.000Z <instance> <service> <process> application [ekiden@32473 group="..."] text
//! ```
//!
//! The text is UTF-8 without a byte order mark, which receivers show to their readers. Line breaks and tabs in
//! it stay; other control characters are replaced by their pictures (U+2400 and following), as the protocol asks
//! senders not to send them (6.4) and receivers each have their own way with them.

use bytes::Bytes;

use crate::{
    line::{Line, Output},
    target::{ConfigError, SyslogTarget},
    timestamp,
};

/// Bytes of messages that are written, and remembered, as one; a longer message is one by itself.
const PIECE_BYTES: usize = 64 * 1024;

/// What `message_bytes_max` may be. The longest head has some 3500 bytes, as each value may be escaped.
const MESSAGE_BYTES: std::ops::RangeInclusive<usize> = 4096..=1024 * 1024;

/// Bytes of a value in the structured data, after which it is cut.
const PARAMETER_BYTES_MAX: usize = 200;

/// Room for the length before a message and for the numbers of its part.
const PART_BYTES: usize = 64;

/// The severities of RFC 5424, 6.2.1, that are used; as Docker's driver does.
const ERROR: u8 = 3;
const INFORMATIONAL: u8 = 6;

/// Makes messages as settings say.
pub(super) struct Encoder {
    facility: u8,
    hostname: Option<String>,
    structured_data_id: String,
    message_bytes_max: usize,
}

impl Encoder {
    pub(super) fn new(target: &SyslogTarget) -> Result<Self, ConfigError> {
        let invalid = |field: &str, problem: String| Err(ConfigError::invalid(field, problem));
        if target.facility > 23 {
            let problem = format!("is {}; it must be 0 to 23", target.facility);
            return invalid("facility", problem);
        }
        if !MESSAGE_BYTES.contains(&target.message_bytes_max) {
            let problem = format!(
                "is {}; it must be {} to {}",
                target.message_bytes_max,
                MESSAGE_BYTES.start(),
                MESSAGE_BYTES.end()
            );
            return invalid("message_bytes_max", problem);
        }
        let id = &target.structured_data_id;
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"=]\"".contains(&byte);
        if id.is_empty() || id.len() > 32 || !id.bytes().all(allowed) {
            let problem = "must be 1 to 32 printable ASCII characters other than space, `=`, `]` \
                           and `\"`, such as `ekiden@32473`";
            return invalid("structured_data_id", problem.to_owned());
        }
        if let Some(hostname) = &target.hostname
            && (hostname.is_empty()
                || hostname.len() > 255
                || !hostname.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let problem = "must be 1 to 255 printable ASCII characters without spaces";
            return invalid("hostname", problem.to_owned());
        }
        Ok(Self {
            facility: target.facility,
            hostname: target.hostname.clone(),
            structured_data_id: id.clone(),
            message_bytes_max: target.message_bytes_max,
        })
    }

    /// The lines as pieces of whole messages.
    pub(super) fn encode(&self, lines: &[Line]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        for line in lines {
            let text = visible(&line.text);
            let head = self.head(line);
            let data = self.structured_data(line);
            let room = (self.message_bytes_max)
                .saturating_sub(head.len() + data.len() + PART_BYTES)
                .max(PART_BYTES);
            let parts = split(&text, room);
            for (index, part) in parts.iter().enumerate() {
                let number = match parts.len() {
                    1 => String::new(),
                    all => format!(" part=\"{}/{all}\"", index + 1),
                };
                let message = format!("{head} [{data}{number}] {part}");
                if !piece.is_empty() && piece.len() + message.len() > PIECE_BYTES {
                    pieces.push(Bytes::from(std::mem::take(&mut piece)));
                }
                piece.extend_from_slice(message.len().to_string().as_bytes());
                piece.push(b' ');
                piece.extend_from_slice(message.as_bytes());
            }
        }
        pieces.push(piece.into());
        pieces
    }

    fn head(&self, line: &Line) -> String {
        let source = &*line.source;
        let severity = match line.output {
            Some(Output::Stderr) => ERROR,
            Some(Output::Stdout) | None => INFORMATIONAL,
        };
        let hostname = self.hostname.as_deref().or(source.instance.as_deref());
        let service = source.service.as_ref().map(|service| &*service.name);
        format!(
            "<{}>1 {} {} {} {} {}",
            self.facility * 8 + severity,
            timestamp::rfc3339(line.time_ms),
            field(hostname, 255),
            field(service, 48),
            field(line.process.as_deref(), 128),
            source.kind.as_str(),
        )
    }

    fn structured_data(&self, line: &Line) -> String {
        let source = &*line.source;
        let service = source.service.as_ref();
        let mut data = format!("{} sequence=\"{}\"", self.structured_data_id, line.sequence);
        let parameters = [
            ("group", Some(&*source.group)),
            ("stream", Some(&*source.stream)),
            ("service", service.map(|service| &*service.name)),
            ("serviceId", service.map(|service| &*service.id)),
            ("serviceArn", service.map(|service| &*service.arn)),
            ("instance", source.instance.as_deref()),
            ("process", line.process.as_deref()),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                data.push_str(&format!(" {name}=\"{}\"", parameter(value)));
            }
        }
        data
    }
}

/// A field of the head: printable ASCII, not too long; `-` if there is none.
fn field(value: Option<&str>, bytes_max: usize) -> String {
    match value {
        None | Some("") => "-".to_owned(),
        Some(value) => {
            let printable = |char: char| if char.is_ascii_graphic() { char } else { '_' };
            value.chars().take(bytes_max).map(printable).collect()
        }
    }
}

/// A value of the structured data (RFC 5424, 6.3.3).
fn parameter(value: &str) -> String {
    let value = &value[..value.floor_char_boundary(PARAMETER_BYTES_MAX)];
    let mut out = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '"' | '\\' | ']' => out.extend(['\\', char]),
            char => out.push(picture(char).unwrap_or(char)),
        }
    }
    out
}

/// Text in which control characters other than tabs and line breaks can be seen.
fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    let hidden = |char: char| !matches!(char, '\t' | '\n') && picture(char).is_some();
    if !text.contains(hidden) {
        return text.into();
    }
    let shown = text.chars().map(|char| match char {
        '\t' | '\n' => char,
        char => picture(char).unwrap_or(char),
    });
    shown.collect::<String>().into()
}

/// The picture of a control character of ASCII.
fn picture(char: char) -> Option<char> {
    match char {
        '\0'..='\x1f' => char::from_u32(0x2400 + char as u32),
        '\x7f' => Some('\u{2421}'),
        _ => None,
    }
}

/// A text in parts of at most `bytes_max` (at least 4) that are text; at least one.
fn split(mut text: &str, bytes_max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > bytes_max {
        let (part, rest) = text.split_at(text.floor_char_boundary(bytes_max));
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::line::{Kind, Service, Source};

    fn line(text: &str) -> Line {
        Line {
            sequence: 7,
            time_ms: 1_795_833_469_007,
            observed_ms: 1_795_833_469_008,
            output: Some(Output::Stderr),
            process: Some("web".into()),
            source: Arc::new(Source {
                group: "/aws/apprunner/shop/1/application".to_owned(),
                stream: "instance/1".to_owned(),
                kind: Kind::Application,
                service: Some(Service {
                    name: "shop".to_owned(),
                    id: "1".to_owned(),
                    arn: "arn:x".to_owned(),
                }),
                instance: Some("i 1".to_owned()),
            }),
            text: text.to_owned(),
        }
    }

    fn encoder(settings: &str) -> Result<Encoder, ConfigError> {
        let target = format!(r#"{{"host": "h", "port": 1 {settings}}}"#);
        Encoder::new(&serde_json::from_str(&target).unwrap())
    }

    fn encoded(text: &str) -> String {
        let pieces = encoder("").unwrap().encode(&[line(text)]);
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn line_is_a_message_with_its_length_before_it() {
        let message = "<131>1 2026-11-28T02:37:49.007Z i_1 shop web application [ekiden@32473 \
                       sequence=\"7\" group=\"/aws/apprunner/shop/1/application\" \
                       stream=\"instance/1\" service=\"shop\" serviceId=\"1\" \
                       serviceArn=\"arn:x\" instance=\"i 1\" process=\"web\"] héllo\n\tthere";
        assert_eq!(
            encoded("héllo\n\tthere"),
            format!("{} {message}", message.len())
        );
    }

    #[test]
    fn control_characters_are_seen() {
        assert!(encoded("\x1b[31mred\0\r\x7f").ends_with("] ␛[31mred␀␍␡"));
    }

    #[test]
    fn values_of_structured_data_are_escaped_and_cut() {
        assert_eq!(parameter("a\"b\\c]d\n"), "a\\\"b\\\\c\\]d␊");
        assert_eq!(parameter(&"é".repeat(500)).len(), PARAMETER_BYTES_MAX);
        assert_eq!(field(Some("a b\u{e9}"), 3), "a_b");
        assert_eq!(field(Some(""), 3), "-");
    }

    #[test]
    fn long_line_is_sent_in_numbered_parts_that_are_the_line() {
        let text = "añ".repeat(10_000);
        let all = encoded(&text);
        let mut rest = all.as_str();
        let mut joined = String::new();
        let mut count = 0;
        while !rest.is_empty() {
            let (length, after) = rest.split_once(' ').unwrap();
            let (message, next) = after.split_at(length.parse().unwrap());
            assert!(message.len() <= 8192);
            count += 1;
            let (head, text) = message.split_once("] ").unwrap();
            assert!(head.ends_with(&format!("part=\"{count}/4\"")), "{head}");
            joined.push_str(text);
            rest = next;
        }
        assert_eq!((count, joined), (4, text));
    }

    #[test]
    fn worst_head_leaves_room_for_text() {
        let mut line = line(&"x".repeat(5000));
        let long = "\"".repeat(600);
        line.process = Some(long.as_str().into());
        line.source = Arc::new(Source {
            group: long.clone(),
            stream: long.clone(),
            kind: Kind::Application,
            service: Some(Service {
                name: long.clone(),
                id: long.clone(),
                arn: long.clone(),
            }),
            instance: Some(long),
        });
        let pieces = encoder(r#", "message_bytes_max": 4096"#)
            .unwrap()
            .encode(&[line]);
        let text = String::from_utf8(pieces.concat()).unwrap();
        let longest: usize = text.split_once(' ').unwrap().0.parse().unwrap();
        assert!(longest <= 4096, "{longest}");
    }

    #[test]
    fn pieces_are_of_whole_messages() {
        let lines = vec![line(&"x".repeat(5000)); 100];
        let pieces = encoder("").unwrap().encode(&lines);
        assert!(pieces.len() > 5);
        for piece in &pieces {
            assert!(piece.len() <= PIECE_BYTES + 100);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let length: usize = str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                rest = &rest[space + 1 + length..];
            }
        }
    }

    #[test]
    fn settings_that_no_message_can_have_are_refused() {
        for settings in [
            r#", "facility": 24"#,
            r#", "message_bytes_max": 100"#,
            r#", "message_bytes_max": 100000000"#,
            r#", "structured_data_id": "a b""#,
            r#", "structured_data_id": """#,
            r#", "hostname": "a b""#,
            r#", "hostname": """#,
        ] {
            assert!(encoder(settings).is_err(), "{settings}");
        }
    }
}

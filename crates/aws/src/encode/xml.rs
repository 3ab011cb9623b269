//! Values as the XML of the AWS query protocol.
//!
//! ```text
//! <GetThingResponse xmlns="https://thing.amazonaws.com/doc/2011-06-15/">
//!   <GetThingResult>
//!     <Name>x</Name>
//!     <List><member>1</member></List>
//!     <Map><entry><key>k</key><value>v</value></entry></Map>
//!   </GetThingResult>
//!   <ResponseMetadata><RequestId>...</RequestId></ResponseMetadata>
//! </GetThingResponse>
//! ```

use std::io;

use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

use super::Value;
use crate::{
    error::ApiError,
    protocol::{RequestId, Route},
    sigv4::date_time,
};

/// A success.
pub(super) fn output(route: &Route, request_id: RequestId, value: &Value) -> Vec<u8> {
    let mut document = Document::new();
    let mut root = BytesStart::new(format!("{}Response", route.operation));
    if let Some(query) = &route.api.query {
        root.push_attribute(("xmlns", query.namespace));
    }
    document.within(root, |document| {
        let result = BytesStart::new(format!("{}Result", route.operation));
        document.within(result, |document| document.content(value));
        document.element("ResponseMetadata", |document| {
            document.text("RequestId", &request_id.to_string());
        });
    });
    document.bytes()
}

/// A failure.
pub(super) fn error(request_id: RequestId, error: &ApiError) -> Vec<u8> {
    let mut document = Document::new();
    document.element("ErrorResponse", |document| {
        document.element("Error", |document| {
            document.text("Type", error.whose_fault());
            document.text("Code", error.query_code());
            document.text("Message", error.message());
        });
        document.text("RequestId", &request_id.to_string());
    });
    document.bytes()
}

struct Document(Writer<Vec<u8>>);

impl Document {
    fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner()
    }

    fn event(&mut self, event: Event<'_>) {
        let written: io::Result<()> = self.0.write_event(event);
        written.expect("a vector takes all that is written to it");
    }

    fn within(&mut self, start: BytesStart<'_>, content: impl FnOnce(&mut Self)) {
        let end = start.to_end().into_owned();
        self.event(Event::Start(start));
        content(self);
        self.event(Event::End(end));
    }

    fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.event(Event::Start(BytesStart::new(name)));
        content(self);
        self.event(Event::End(BytesEnd::new(name)));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.element(name, |document| document.characters(text));
    }

    fn characters(&mut self, text: &str) {
        let text = writable(text);
        self.event(Event::Text(BytesText::new(&text)));
    }

    fn content(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(value) => self.characters(&value.to_string()),
            Value::Unsigned(value) => self.characters(&value.to_string()),
            Value::Signed(value) => self.characters(&value.to_string()),
            Value::Fraction(value) => self.characters(&value.to_string()),
            Value::Text(value) => self.characters(value),
            Value::Time(at) => {
                // A time after the year 9999 has no form; its seconds are better than nothing.
                let text = date_time::format_extended(*at).unwrap_or_else(|| at.0.to_string());
                self.characters(&text);
            }
            Value::List(elements) => {
                for element in elements {
                    self.element("member", |document| document.content(element));
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    self.element("entry", |document| {
                        document.text("key", key);
                        document.element("value", |document| document.content(value));
                    });
                }
            }
            Value::Structure(members) => {
                for (name, value) in members {
                    self.element(name, |document| document.content(value));
                }
            }
        }
    }
}

/// What XML cannot have even escaped (XML 1.0, production 2, "Char") is replaced: half an answer is
/// better than one that cannot be read.
fn writable(text: &str) -> String {
    let kept = |c: char| match c {
        '\t' | '\n' | '\r' => c,
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    text.chars().map(kept).collect()
}

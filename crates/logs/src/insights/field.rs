//! What a name in a query stands for.

use super::value::Value;
use crate::pattern::literal::Literals;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Timestamp,
    IngestionTime,
    Log,
    LogStream,
    Message,
    Ptr,
    /// Of a message that is JSON: names and, for arrays, numbers.
    Json(Vec<String>),
    /// What a `parse` made.
    Slot(usize),
    /// A column of `stats`.
    Column(usize),
}

/// What has fields: an event, or a row of `stats`.
pub(super) trait Record {
    fn value(&self, field: &Field) -> Option<Value<'_>>;
}

impl Field {
    /// The fields that CloudWatch makes for every event.
    pub(super) fn of_every_event(name: &str) -> Option<Self> {
        Some(match name {
            "@timestamp" => Self::Timestamp,
            "@ingestionTime" => Self::IngestionTime,
            "@log" => Self::Log,
            "@logStream" => Self::LogStream,
            "@message" => Self::Message,
            "@ptr" => Self::Ptr,
            _ => return None,
        })
    }

    /// What a message must have in it for the field to have a value.
    pub(super) fn literals(&self) -> Literals {
        match self {
            Self::Json(names) => names
                .iter()
                .filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit()))
                .map(|name| Literals::of_json_name(name))
                .fold(Literals::none(), Literals::and),
            _ => Literals::none(),
        }
    }

    /// What a message must have in it for the field to have a value with `text` in it.
    pub(super) fn literals_with(&self, text: &str) -> Literals {
        match self {
            // What is no UTF-8 is seen as this.
            _ if text.contains(char::REPLACEMENT_CHARACTER) => Literals::none(),
            Self::Message => Literals::of_text(text),
            Self::Json(_) => self.literals().and(Literals::of_json_text(text)),
            _ => Literals::none(),
        }
    }
}

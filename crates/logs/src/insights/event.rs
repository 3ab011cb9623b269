//! An event while a query looks at it.

use std::{borrow::Cow, cell::OnceCell};

use serde_json::Value as Json;

use super::{
    EventView,
    field::{Field, Record},
    value::Value,
};
use crate::pattern::{json::document, number::Number};

/// An event, and what was made of it so far.
#[derive(Debug)]
pub(super) struct Event<'a> {
    view: EventView<'a>,
    /// Read when it is asked for.
    json: OnceCell<Option<Json>>,
    slots: Vec<Option<String>>,
}

impl<'a> Event<'a> {
    pub(super) fn new(view: EventView<'a>, slots: usize) -> Self {
        let (json, slots) = (OnceCell::new(), vec![None; slots]);
        Self { view, json, slots }
    }

    pub(super) fn timestamp_ms(&self) -> i64 {
        self.view.timestamp_ms
    }

    pub(super) fn set_slot(&mut self, slot: usize, value: String) {
        self.slots[slot] = Some(value);
    }
}

impl Record for Event<'_> {
    fn value(&self, field: &Field) -> Option<Value<'_>> {
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        match field {
            Field::Timestamp => Some(Value::Time(self.view.timestamp_ms)),
            Field::IngestionTime => Some(Value::Time(self.view.ingestion_ms)),
            Field::Log => text(self.view.log_group),
            Field::LogStream => text(self.view.stream),
            Field::Message => Some(Value::Text(String::from_utf8_lossy(self.view.message))),
            Field::Ptr => text(self.view.ptr),
            Field::Json(names) => {
                let json = self
                    .json
                    .get_or_init(|| document(self.view.message))
                    .as_ref()?;
                shown(find(json, names)?)
            }
            Field::Slot(slot) => text(self.slots.get(*slot)?.as_deref()?),
            Field::Column(_) => None,
        }
    }
}

/// Strings, numbers and booleans are values; arrays and objects have fields of their own.
fn shown(json: &Json) -> Option<Value<'_>> {
    match json {
        Json::String(text) => Some(Value::Text(Cow::Borrowed(text))),
        Json::Number(number) => {
            let text = number.to_string();
            Some(Value::Number(Number::parse(&text)?, Cow::Owned(text)))
        }
        Json::Bool(bool) => Some(Value::Bool(*bool)),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Goes down by names. A name of the document may have points of its own, so several names may be one.
fn find<'a>(json: &'a Json, names: &[String]) -> Option<&'a Json> {
    let Some((first, rest)) = names.split_first() else {
        return Some(json);
    };
    match json {
        Json::Array(elements) => find(elements.get(first.parse::<usize>().ok()?)?, rest),
        Json::Object(members) => {
            let mut name = first.clone();
            for (at, next) in rest.iter().map(Some).chain([None]).enumerate() {
                if let Some(found) = members
                    .get(&name)
                    .and_then(|member| find(member, &rest[at..]))
                {
                    return Some(found);
                }
                if let Some(next) = next {
                    name.push('.');
                    name.push_str(next);
                }
            }
            None
        }
        _ => None,
    }
}

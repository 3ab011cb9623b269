//! What a target is sent of an event: all of it, a part of it, something else, or a text with parts of it in it
//! (EventBridge User Guide, "Input transformation").

use std::collections::BTreeMap;

use ekiden_aws::events::shapes::Target;
use serde_json::Value;

use super::BODY_BYTES_MAX;

/// Steps of a path.
const STEPS_MAX: usize = 32;

/// What a target is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    Whole,
    Constant(String),
    Part(Path),
    Template {
        paths: BTreeMap<String, Path>,
        template: String,
    },
}

/// Why a target's input cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidInput(String);

/// Where in an event something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
}

/// What a template may say of its rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfRule<'a> {
    pub(super) arn: &'a str,
    pub(super) name: &'a str,
    pub(super) taken_in_at: &'a str,
}

impl Input {
    /// # Errors
    /// [`InvalidInput`].
    pub(crate) fn of(target: &Target) -> Result<Self, InvalidInput> {
        let given = [
            target.input.is_some(),
            target.input_path.is_some(),
            target.input_transformer.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(InvalidInput(
                "Only one of Input, InputPath, or InputTransformer must be provided".to_owned(),
            ));
        }
        if let Some(input) = &target.input {
            return match serde_json::from_str::<Value>(input) {
                Ok(_) => Ok(Self::Constant(input.clone())),
                Err(error) => Err(InvalidInput(format!("Input is not JSON: {error}"))),
            };
        }
        if let Some(path) = &target.input_path {
            return Ok(match Path::parse(path)? {
                path if path.0.is_empty() => Self::Whole,
                path => Self::Part(path),
            });
        }
        let Some(transformer) = &target.input_transformer else {
            return Ok(Self::Whole);
        };
        let map = transformer.input_paths_map.clone().unwrap_or_default();
        let mut paths = BTreeMap::new();
        for (name, path) in map {
            if name.to_ascii_uppercase().starts_with("AWS") {
                return Err(InvalidInput(format!(
                    "InputPathsMap has the name `{name}`; those that begin with AWS are taken"
                )));
            }
            paths.insert(name, Path::parse(&path)?);
        }
        let template = transformer.input_template.clone().unwrap_or_default();
        for piece in pieces(&template) {
            if let Piece::Named { name, .. } = piece
                && !paths.contains_key(name)
                && !name.starts_with("aws.events.")
            {
                return Err(InvalidInput(format!(
                    "InputTemplate has `<{name}>`, which InputPathsMap has not"
                )));
            }
        }
        Ok(Self::Template { paths, template })
    }

    /// What is sent of an event. What would be longer than [`BODY_BYTES_MAX`] is replaced by a sentence.
    pub(super) fn body(&self, event: &Value, rule: OfRule<'_>) -> String {
        let body = match self {
            Self::Whole => event.to_string(),
            Self::Constant(text) => text.clone(),
            Self::Part(path) => path.of(event).unwrap_or(&Value::Null).to_string(),
            Self::Template { paths, template } => render(paths, template, event, rule),
        };
        if body.len() > BODY_BYTES_MAX {
            let text =
                format!("what is to be sent of this event has more than {BODY_BYTES_MAX} bytes");
            return serde_json::json!({"id": event["id"], "error": text}).to_string();
        }
        body
    }
}

fn render(
    paths: &BTreeMap<String, Path>,
    template: &str,
    event: &Value,
    rule: OfRule<'_>,
) -> String {
    let mut text = String::new();
    for piece in pieces(template) {
        let (name, quoted) = match piece {
            Piece::Text(plain) => {
                text.push_str(plain);
                continue;
            }
            Piece::Named { name, quoted } => (name, quoted),
        };
        let own;
        let value = match (paths.get(name), name) {
            (Some(path), _) => path.of(event).unwrap_or(&Value::Null),
            (None, "aws.events.event" | "aws.events.event.json") => event,
            (None, "aws.events.rule-arn") => {
                own = Value::from(rule.arn);
                &own
            }
            (None, "aws.events.rule-name") => {
                own = Value::from(rule.name);
                &own
            }
            (None, "aws.events.event.ingestion-time") => {
                own = Value::from(rule.taken_in_at);
                &own
            }
            (None, _) => &Value::Null,
        };
        match (value, quoted) {
            (Value::Null, true) => {}
            (value, false) => text.push_str(&value.to_string()),
            (Value::String(inner), true) => text.push_str(escaped(inner).as_str()),
            (value, true) => text.push_str(&escaped(&value.to_string())),
        }
        if text.len() > BODY_BYTES_MAX {
            break;
        }
    }
    text
}

/// As it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

enum Piece<'a> {
    Text(&'a str),
    Named { name: &'a str, quoted: bool },
}

/// A template's texts and the `<names>` between them.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at, mut quoted) = (0, 0, false);
    let bytes = template.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'<' => {
                let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
                let rest = &bytes[at + 1..];
                let len = rest.iter().take_while(|byte| is_of_name(byte)).count();
                if len > 0 && rest.get(len) == Some(&b'>') {
                    pieces.push(Piece::Text(&template[from..at]));
                    let name = &template[at + 1..at + 1 + len];
                    pieces.push(Piece::Named { name, quoted });
                    at += len + 1;
                    from = at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    pieces.push(Piece::Text(&template[from..]));
    pieces
}

impl Path {
    /// `$`, then `.name`, `['name']` and `[0]` as often as needed.
    fn parse(text: &str) -> Result<Self, InvalidInput> {
        let invalid = || {
            let text: String = text.chars().take(100).collect();
            InvalidInput(format!(
                "`{text}` is not a path such as `$.detail.serviceName` or `$.resources[0]`"
            ))
        };
        let mut rest = text.strip_prefix('$').ok_or_else(invalid)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(invalid());
            }
            if let Some(named) = rest.strip_prefix('.') {
                let end = named.find(['.', '[']).unwrap_or(named.len());
                let (name, after) = named.split_at(end);
                if name.is_empty() || name == "*" {
                    return Err(invalid());
                }
                steps.push(Step::Member(name.to_owned()));
                rest = after;
            } else if let Some(inner) = rest.strip_prefix('[') {
                let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
                if let Some(quote) = quote {
                    let (name, after) = inner[1..].split_once(quote).ok_or_else(invalid)?;
                    steps.push(Step::Member(name.to_owned()));
                    rest = after.strip_prefix(']').ok_or_else(invalid)?;
                } else {
                    let (index, after) = inner.split_once(']').ok_or_else(invalid)?;
                    steps.push(Step::Element(index.parse().map_err(|_| invalid())?));
                    rest = after;
                }
            } else {
                return Err(invalid());
            }
        }
        Ok(Self(steps))
    }

    fn of<'a>(&self, event: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(event, |value, step| match step {
            Step::Member(name) => value.get(name),
            Step::Element(index) => value.get(index),
        })
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::events::shapes::InputTransformer;
    use serde_json::json;

    use super::*;

    const RULE: OfRule<'_> = OfRule {
        arn: "arn",
        name: "mine",
        taken_in_at: "2026-01-02T03:04:05Z",
    };

    fn transformed(paths: &[(&str, &str)], template: &str) -> Result<String, InvalidInput> {
        let owned = |(name, path): &(&str, &str)| ((*name).to_owned(), (*path).to_owned());
        let target = Target {
            input_transformer: Some(InputTransformer {
                input_paths_map: Some(paths.iter().map(owned).collect()),
                input_template: Some(template.to_owned()),
            }),
            ..Target::default()
        };
        Ok(Input::of(&target)?.body(&event(), RULE))
    }

    fn event() -> Value {
        json!({"id": "1", "resources": ["a", "b"], "detail": {"name": "say \"hi\"", "count": 2, "a b": {"c": null}}})
    }

    #[test]
    fn a_template_takes_parts_of_the_event_in() {
        let paths = [
            ("name", "$.detail.name"),
            ("count", "$.detail.count"),
            ("gone", "$.gone"),
        ];
        for (template, body) in [
            (
                r#"{"n": <name>, "c": <count>}"#,
                r#"{"n": "say \"hi\"", "c": 2}"#,
            ),
            (
                r#"{"n": "<name>!", "c": "<count>"}"#,
                r#"{"n": "say \"hi\"!", "c": "2"}"#,
            ),
            (r#""<gone><aws.events.rule-name> <x"#, r#""mine <x"#),
            (r#"[<gone>, <aws.events.rule-arn>]"#, r#"[null, "arn"]"#),
            (r#""\"<name>""#, r#""\"say \"hi\"""#),
        ] {
            assert_eq!(transformed(&paths, template).unwrap(), body, "{template}");
        }
        let whole = transformed(&[], "{\"e\": <aws.events.event>}").unwrap();
        assert_eq!(serde_json::from_str::<Value>(&whole).unwrap()["e"], event());
    }

    #[test]
    fn paths_lead_to_members_and_elements() {
        for (path, body) in [
            ("$", event().to_string()),
            ("$.resources[1]", "\"b\"".to_owned()),
            ("$.detail['a b']", "{\"c\":null}".to_owned()),
            ("$.resources[2]", "null".to_owned()),
        ] {
            let target = Target {
                input_path: Some(path.to_owned()),
                ..Target::default()
            };
            assert_eq!(Input::of(&target).unwrap().body(&event(), RULE), body);
        }
        for path in [
            "", "detail", "$detail", "$.", "$[x]", "$[", "$['a", "$.*", "$..a",
        ] {
            let target = Target {
                input_path: Some(path.to_owned()),
                ..Target::default()
            };
            assert!(Input::of(&target).is_err(), "{path}");
        }
    }

    #[test]
    fn inputs_that_cannot_be_are_refused_and_long_ones_are_cut_off() {
        assert!(transformed(&[], "<a>").unwrap_err().0.contains("`<a>`"));
        assert!(transformed(&[("awsX", "$.a")], "x").is_err());
        let both = Target {
            input: Some("1".to_owned()),
            input_path: Some("$".to_owned()),
            ..Target::default()
        };
        assert!(Input::of(&both).unwrap_err().0.contains("Only one of"));
        let not_json = Target {
            input: Some("{".to_owned()),
            ..Target::default()
        };
        assert!(Input::of(&not_json).is_err());
        let long = json!({"id": "1", "detail": "x".repeat(100_000)});
        let target = Target {
            input_transformer: Some(InputTransformer {
                input_paths_map: Some([("d".to_owned(), "$.detail".to_owned())].into()),
                input_template: Some("<d>".repeat(100)),
            }),
            ..Target::default()
        };
        let body = Input::of(&target).unwrap().body(&long, RULE);
        assert!(body.contains("more than 262144 bytes"), "{}", body.len());
    }
}

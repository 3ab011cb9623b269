//! JSON bodies into inputs, strictly.
//!
//! serde alone is laxer than the protocol: it reads an array where a structure belongs, keeps the
//! last of two members of one name, and repeats values (perhaps secret ones) in its errors. So a
//! body is first read into a tree that refuses the second and bounds the depth, and inputs are then
//! read from the tree:
//!
//! - an empty body is `{}`;
//! - a member that is unknown is ignored, one that is `null` is absent;
//! - a member of another JSON type than the model's, a member that is given twice, bytes that are
//!   not UTF-8, and anything cut off or left over are refused, with the path of the member.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use crate::error::ApiError;

/// How deep objects and arrays may be nested. App Runner's deepest input has 6 levels.
const DEPTH_MAX: usize = 32;

/// Characters of a member's name that an error repeats.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// Reads an input from a request's body.
///
/// # Errors
/// `SerializationException` with the place and the reason, never a value.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text =
        std::str::from_utf8(body).map_err(|_| ApiError::serialization("the body is not UTF-8"))?;
    let text = if text.trim_ascii().is_empty() {
        "{}"
    } else {
        text
    };
    let tree = parse(text).map_err(|error| ApiError::serialization(error.to_string()))?;
    T::deserialize(tree).map_err(|mismatch| ApiError::serialization(mismatch.to_string()))
}

fn parse(text: &str) -> Result<Json, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let tree = Level(0).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(tree)
}

enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Fraction(f64),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// Reads a tree at some depth.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.0 {
            DEPTH_MAX => Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels"))),
            depth => Ok(Self(depth + 1)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(inner)?;
            if members.contains_key(&name) {
                // Whoever looked at the body before us may have believed the other one.
                return Err(de::Error::custom(format!(
                    "`{}` is given twice",
                    shown(&name)
                )));
            }
            members.insert(name, value);
        }
        Ok(Json::Object(members))
    }
}

impl Json {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Signed(_) => "a whole number",
            Self::Fraction(_) => "a number with a fraction",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl<'de> Deserializer<'de> for Json {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Fraction(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::Array(elements) => visitor.visit_seq(Elements(elements.into_iter().enumerate())),
            Self::Object(members) => visitor.visit_map(Members::of(members)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Self::Object(mut members) => {
                members.retain(|_, value| !value.is_null());
                visitor.visit_map(Members::of(members))
            }
            other => Err(Mismatch::new(format!(
                "expected an object, found {}",
                other.kind()
            ))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Self::Text(variant) => visitor.visit_enum(variant.into_deserializer()),
            other => Err(Mismatch::new(format!(
                "expected a string, found {}",
                other.kind()
            ))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Elements(std::iter::Enumerate<std::vec::IntoIter<Json>>);

impl<'de> de::SeqAccess<'de> for Elements {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some((index, element)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(element)
            .map(Some)
            .map_err(|mismatch| mismatch.inside(&index.to_string()))
    }
}

struct Members {
    left: std::collections::btree_map::IntoIter<String, Json>,
    /// The member whose name was read and whose value comes next.
    current: Option<(String, Json)>,
}

impl Members {
    fn of(members: BTreeMap<String, Json>) -> Self {
        Self {
            left: members.into_iter(),
            current: None,
        }
    }
}

impl<'de> de::MapAccess<'de> for Members {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((name, value)) = self.left.next() else {
            return Ok(None);
        };
        let key = seed.deserialize(name.as_str().into_deserializer())?;
        self.current = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let (name, value) = self
            .current
            .take()
            .ok_or_else(|| Mismatch::new("a value without a name".to_owned()))?;
        seed.deserialize(value)
            .map_err(|mismatch| mismatch.inside(&name))
    }
}

/// A tree that is not of the input's type: where, and why.
#[derive(Debug)]
struct Mismatch {
    /// Innermost first.
    path: Vec<String>,
    reason: String,
}

impl Mismatch {
    fn new(reason: String) -> Self {
        Self {
            path: Vec::new(),
            reason,
        }
    }

    fn inside(mut self, name: &str) -> Self {
        self.path.push(shown(name));
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        match path.is_empty() {
            true => f.write_str(&self.reason),
            false => write!(f, "`{}`: {}", path.join("."), self.reason),
        }
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", kind(found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "expected {expected}, found {} out of bounds",
            kind(found)
        ))
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("expected one of {}", expected.join(", ")))
    }
}

/// What was found, without its value.
fn kind(found: de::Unexpected<'_>) -> &'static str {
    use de::Unexpected as U;
    match found {
        U::Bool(_) => "a boolean",
        U::Unsigned(_) | U::Signed(_) => "a whole number",
        U::Float(_) => "a number with a fraction",
        U::Str(_) | U::Char(_) => "a string",
        U::Unit | U::Option => "null",
        U::Seq => "an array",
        U::Map => "an object",
        _ => "something else",
    }
}

fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        apprunner::shapes::{CreateServiceRequest, ListServicesRequest, TagResourceRequest},
        native::DescribeOperationRequest,
    };

    #[track_caller]
    fn refused<T: DeserializeOwned + fmt::Debug>(body: &str, want: &str) {
        let refusal = decode::<T>(body.as_bytes()).unwrap_err();
        assert_eq!(
            (refusal.code(), refusal.message()),
            ("SerializationException", want)
        );
    }

    #[test]
    fn empty_body_is_an_empty_object() {
        for body in ["", " \r\n\t", "{}"] {
            let input: ListServicesRequest = decode(body.as_bytes()).unwrap();
            assert_eq!(input, ListServicesRequest::default());
        }
    }

    #[test]
    fn unknown_members_are_ignored_and_null_is_absent() {
        let body = br#"{"Nobody":{"knows":[null]},"MaxResults":null,"NextToken":"t"}"#;
        let input: ListServicesRequest = decode(body).unwrap();
        assert_eq!(input.max_results, None);
        assert_eq!(input.next_token.as_deref(), Some("t"));
        // A native input's member is not optional in Rust; null is absent all the same.
        let native: DescribeOperationRequest = decode(br#"{"ServiceArn":null}"#).unwrap();
        assert_eq!(native.service_arn, "");
    }

    #[test]
    fn wrong_type_is_refused_with_its_path_and_without_its_value() {
        refused::<ListServicesRequest>("[]", "expected an object, found an array");
        refused::<ListServicesRequest>("null", "expected an object, found null");
        refused::<ListServicesRequest>(
            r#"{"MaxResults":"7"}"#,
            "`MaxResults`: expected i32, found a string",
        );
        refused::<ListServicesRequest>(
            r#"{"MaxResults":7.5}"#,
            "`MaxResults`: expected i32, found a number with a fraction",
        );
        refused::<ListServicesRequest>(
            r#"{"MaxResults":2147483648}"#,
            "`MaxResults`: expected i32, found a whole number out of bounds",
        );
        refused::<TagResourceRequest>(
            r#"{"Tags":[{"Key":"a"},{"Key":4711}]}"#,
            "`Tags.1.Key`: expected a string, found a whole number",
        );
        refused::<TagResourceRequest>(
            r#"{"Tags":[null]}"#,
            "`Tags.0`: expected an object, found null",
        );
        refused::<CreateServiceRequest>(
            r#"{"SourceConfiguration":["x"]}"#,
            "`SourceConfiguration`: expected an object, found an array",
        );
        refused::<CreateServiceRequest>(
            r#"{"SourceConfiguration":{"ImageRepository":{"ImageConfiguration":
                {"RuntimeEnvironmentVariables":{"A":1}}}}}"#,
            "`SourceConfiguration.ImageRepository.ImageConfiguration.\
             RuntimeEnvironmentVariables.A`: expected a string, found a whole number",
        );
    }

    #[test]
    fn member_given_twice_is_refused_wherever_it_is() {
        for body in [
            r#"{"A":1,"A":1}"#,
            r#"{"NextToken":"a","NextToken":"b"}"#,
            r#"{"B":[{"A":1,"A":2}]}"#,
        ] {
            let refusal = decode::<ListServicesRequest>(body.as_bytes()).unwrap_err();
            assert!(refusal.message().contains("is given twice"), "{refusal}");
        }
    }

    #[test]
    fn every_cut_of_a_body_is_refused() {
        let body = r#"{"NextToken":"a\u00e9b","MaxResults":12,"X":[true,{"y":-1.5e3}]}"#;
        decode::<ListServicesRequest>(body.as_bytes()).unwrap();
        for end in 1..body.len() {
            assert!(
                decode::<ListServicesRequest>(&body.as_bytes()[..end]).is_err(),
                "{end}"
            );
        }
        assert!(decode::<ListServicesRequest>(b"{} {}").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested =
            |depth: usize| format!("{{\"X\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        decode::<ListServicesRequest>(nested(DEPTH_MAX - 1).as_bytes()).unwrap();
        for depth in [DEPTH_MAX, 1_000, 1_000_000] {
            let refusal = decode::<ListServicesRequest>(nested(depth).as_bytes()).unwrap_err();
            assert!(refusal.message().contains("nested deeper"), "{refusal}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_and_lone_surrogates_are_refused() {
        refused::<ListServicesRequest>(
            r#"{"NextToken":"\ud800"}"#,
            "unexpected end of hex escape at line 1 column 21",
        );
        let refusal = decode::<ListServicesRequest>(b"{\"NextToken\":\"\xff\"}").unwrap_err();
        assert_eq!(refusal.message(), "the body is not UTF-8");
    }

    proptest! {
        #[test]
        fn decoding_never_panics(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<CreateServiceRequest>(&body);
        }

        #[test]
        fn what_is_encoded_is_decoded(name in "\\PC*", max in any::<i32>(), token in any::<String>()) {
            let input = ListServicesRequest { max_results: Some(max), next_token: Some(token) };
            let body = serde_json::to_vec(&input).unwrap();
            prop_assert_eq!(decode::<ListServicesRequest>(&body).unwrap(), input);
            let tagged = serde_json::json!({"ResourceArn": name});
            let input: TagResourceRequest = decode(tagged.to_string().as_bytes()).unwrap();
            prop_assert_eq!(input.resource_arn, Some(name));
        }
    }
}

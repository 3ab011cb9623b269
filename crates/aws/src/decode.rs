//! Bodies into inputs, strictly, whatever the protocol.
//!
//! serde alone is laxer than the protocols: it reads an array where a structure belongs, keeps the
//! last of two members of one name, and repeats values (perhaps secret ones) in its errors. So a
//! body is first read into a [`Tree`] that refuses the second and bounds depth and number of
//! values, and inputs are then read from the tree:
//!
//! - an empty body is an input without members;
//! - a member that is unknown is ignored, one that is `null` is absent;
//! - a member of another type than the model's, a member that is given twice, bytes that are not
//!   UTF-8, and anything cut off or left over are refused, with the path of the member.

mod cbor;
mod json;
pub(crate) mod query;
mod tree;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

pub use self::tree::{Mismatch, Tree};
use crate::{error::ApiError, protocol::Protocol};

/// Reads a request's body.
///
/// # Errors
/// `SerializationException` with the place and the reason, never a value.
pub fn parse(protocol: Protocol, body: &[u8]) -> Result<Tree, ApiError> {
    let tree = match protocol {
        Protocol::AwsJson10 | Protocol::AwsJson11 => {
            let text = std::str::from_utf8(body)
                .map_err(|_| ApiError::serialization("the body is not UTF-8"))?;
            match text.trim_ascii().is_empty() {
                true => Ok(Tree::Object(BTreeMap::new())),
                false => json::parse(text).map_err(|error| error.to_string()),
            }
        }
        Protocol::AwsQuery => query::parse(body),
        Protocol::RpcV2Cbor => match body.is_empty() {
            true => Ok(Tree::Object(BTreeMap::new())),
            false => cbor::parse(body),
        },
    };
    tree.map_err(ApiError::serialization)
}

/// Reads an input from a request's body.
///
/// # Errors
/// As [`parse`] and [`Tree::read`].
pub fn decode<T: DeserializeOwned>(protocol: Protocol, body: &[u8]) -> Result<T, ApiError> {
    parse(protocol, body)?.read()
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use minicbor::Encoder;
    use proptest::prelude::*;

    use super::{
        tree::{DEPTH_MAX, VALUES_MAX},
        *,
    };
    use crate::{
        apprunner::shapes::{
            AssociateCustomDomainRequest, CreateServiceRequest, ImageConfiguration,
            ListServicesRequest, TagResourceRequest,
        },
        epoch_seconds::EpochSeconds,
        native::DescribeOperationRequest,
    };

    /// JSON, as most tests have it.
    fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
        super::decode(Protocol::AwsJson10, body)
    }

    fn cbor<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
        super::decode(Protocol::RpcV2Cbor, body)
    }

    fn query<T: DeserializeOwned>(body: &str) -> Result<T, ApiError> {
        super::decode(Protocol::AwsQuery, body.as_bytes())
    }

    #[track_caller]
    fn refused_with<T: fmt::Debug>(result: Result<T, ApiError>, want: &str) {
        let refusal = result.unwrap_err();
        assert_eq!(
            (refusal.code(), refusal.message()),
            ("SerializationException", want)
        );
    }

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

    #[test]
    fn number_of_values_is_bounded() {
        let body = format!("{{\"X\":[{}0]}}", "0,".repeat(VALUES_MAX - 3));
        decode::<ListServicesRequest>(body.as_bytes()).unwrap();
        let body = format!("{{\"X\":[{}0]}}", "0,".repeat(VALUES_MAX - 2));
        let refusal = decode::<ListServicesRequest>(body.as_bytes()).unwrap_err();
        assert!(refusal.message().contains("more than"), "{refusal}");

        // An array that declares more elements than memory has, and one that has too many.
        let declared = b"\xa1\x61X\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00";
        refused_with(
            cbor::<ListServicesRequest>(declared),
            "the body ends in the middle of a data item",
        );
        let many = [&b"\xa1\x61X\x9f"[..], &[0; VALUES_MAX], b"\xff"].concat();
        refused_with(cbor::<ListServicesRequest>(&many), "more than 65536 values");
        let many: Vec<String> = (0..=VALUES_MAX).map(|n| format!("a{n}=")).collect();
        refused_with(
            query::<ListServicesRequest>(&many.join("&")),
            "more than 65536 values",
        );
    }

    #[test]
    fn cbor_is_read_as_json_is() {
        let mut body = Encoder::new(Vec::new());
        body.begin_map().unwrap();
        body.str("MaxResults").unwrap().u8(7).unwrap();
        body.str("NextToken").unwrap().begin_str().unwrap();
        body.str("a").unwrap().str("b").unwrap().end().unwrap();
        body.str("Unknown").unwrap().array(2).unwrap();
        body.null().unwrap().f32(1.5).unwrap().end().unwrap();
        let body = body.into_writer();
        let input: ListServicesRequest = cbor(&body).unwrap();
        assert_eq!(input.max_results, Some(7));
        assert_eq!(input.next_token.as_deref(), Some("ab"));
        for end in 1..body.len() {
            assert!(cbor::<ListServicesRequest>(&body[..end]).is_err(), "{end}");
        }
        assert_eq!(
            cbor::<ListServicesRequest>(b"").unwrap(),
            ListServicesRequest::default()
        );
        // Tag 1 is a time, undefined is null.
        assert_eq!(
            cbor::<EpochSeconds>(b"\xc1\x1a\x5f\xbb\x01\x39").unwrap().0,
            0x5fbb_0139
        );
        let input: ListServicesRequest = cbor(b"\xa1\x6aMaxResults\xf7").unwrap();
        assert_eq!(input.max_results, None);
    }

    #[test]
    fn cbor_that_means_nothing_here_is_refused() {
        type Input = ListServicesRequest;
        refused_with(cbor::<Input>(b"\x80"), "expected an object, found an array");
        refused_with(
            cbor::<Input>(b"\xa1\x6aMaxResults\x61\x37"),
            "`MaxResults`: expected i32, found a string",
        );
        refused_with(
            cbor::<Input>(b"\xa1\x69NextToken\x41\x37"),
            "`NextToken`: expected a string, found bytes",
        );
        refused_with(
            cbor::<Input>(b"\xa2\x61A\x01\x61A\x01"),
            "`A` is given twice",
        );
        refused_with(
            cbor::<Input>(b"\xa1\x01\x01"),
            "a map's key is not a string",
        );
        refused_with(
            cbor::<Input>(b"\xa1\x61A\xc2\x41\x01"),
            "a data item of the body has a tag other than 1",
        );
        refused_with(cbor::<Input>(b"\xa1\x61A\x61\xff"), "the body is not CBOR");
        refused_with(
            cbor::<Input>(b"\xa0\xa0"),
            "bytes are left over after the body's data item",
        );
        let deep = [vec![0x81; 1_000_000], vec![0]].concat();
        refused_with(cbor::<Input>(&deep), "nested deeper than 32 levels");
        // -2^64, a break of nothing, a simple value, a text that is bytes inside.
        for body in [
            &b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\xff",
            b"\xf0",
            b"\x7f\x41a\xff",
        ] {
            assert!(cbor::<Input>(body).is_err());
        }
    }

    #[test]
    fn form_parameters_become_what_the_input_wants() {
        let input: AssociateCustomDomainRequest = query(
            "Action=X&Version=1&DomainName=a%2Bb+c&EnableWWWSubdomain=true&&ServiceArn=%C3%BC",
        )
        .unwrap();
        assert_eq!(input.domain_name.as_deref(), Some("a+b c"));
        assert_eq!(input.enable_www_subdomain, Some(true));
        assert_eq!(input.service_arn.as_deref(), Some("\u{fc}"));
        let input: ListServicesRequest = query("MaxResults=-7&NextToken=7").unwrap();
        assert_eq!(input.max_results, Some(-7));
        assert_eq!(input.next_token.as_deref(), Some("7"));

        let body: Vec<String> = (1..=12)
            .map(|n| format!("Tags.member.{n}.Key=k{n}"))
            .collect();
        let input: TagResourceRequest = query(&body.join("&")).unwrap();
        let keys: Vec<_> = input
            .tags
            .unwrap()
            .into_iter()
            .map(|tag| tag.key.unwrap())
            .collect();
        assert_eq!(
            (keys.len(), keys[1].as_str(), keys[11].as_str()),
            (12, "k2", "k12")
        );
        let input: TagResourceRequest = query("Tags=").unwrap();
        assert_eq!(input.tags, Some(Vec::new()));

        let input: ImageConfiguration = query(
            "RuntimeEnvironmentVariables.entry.1.key=a.b&RuntimeEnvironmentVariables.entry.1.value=1",
        )
        .unwrap();
        let variables = input.runtime_environment_variables.unwrap();
        assert_eq!(variables["a.b"], "1");
        let at: BTreeMap<String, EpochSeconds> =
            query("entry.1.key=at&entry.1.value=2020-11-23T19%3A10%3A17.999Z").unwrap();
        assert_eq!(at["at"], EpochSeconds(1_606_158_617));
        assert_eq!(
            query::<ListServicesRequest>("").unwrap(),
            ListServicesRequest::default()
        );
    }

    #[test]
    fn form_that_contradicts_itself_or_the_input_is_refused() {
        type Input = TagResourceRequest;
        refused_with(query::<Input>("A=1&A=1"), "`A` is given twice");
        refused_with(query::<Input>("A=1&A.B=1"), "`A.B` is given twice");
        refused_with(query::<Input>("A.B=1&A=1"), "`A` is given twice");
        refused_with(
            query::<Input>("A=%"),
            "a `%` of the body is not followed by two digits",
        );
        refused_with(
            query::<Input>("A=%4"),
            "a `%` of the body is not followed by two digits",
        );
        refused_with(query::<Input>("A=%ff"), "the body is not UTF-8");
        let path = "a.".repeat(100_000);
        refused_with(query::<Input>(&path), "nested deeper than 32 levels");
        let gap = "`Tags`: expected parameters `member.1`, `member.2` and so on, without a gap";
        for body in [
            "Tags.member.0.Key=a",
            "Tags.member.2.Key=a",
            "Tags.member.1.Key=a&Tags.member.01.Key=a",
            "Tags.member.x.Key=a",
            "Tags.1.Key=a",
            "Tags.member.1.Key=a&Tags.other=1",
            "Tags.member=1",
        ] {
            refused_with(query::<Input>(body), gap);
        }
        refused_with(
            query::<Input>("ResourceArn.X=1"),
            "`ResourceArn`: expected a string, found an object",
        );
        refused_with(
            query::<ListServicesRequest>("MaxResults=7x"),
            "`MaxResults`: expected i32, found a string",
        );
        refused_with(
            query::<ImageConfiguration>("RuntimeEnvironmentVariables.entry.1.key=a"),
            "`RuntimeEnvironmentVariables`: expected each entry to have `key` and `value`",
        );
        refused_with(
            query::<BTreeMap<String, String>>(
                "entry.1.key=a&entry.1.value=1&entry.2.key=a&entry.2.value=2",
            ),
            "`a` is given twice",
        );
    }

    proptest! {
        #[test]
        fn decoding_never_panics(body in prop::collection::vec(any::<u8>(), 0..256)) {
            for protocol in [Protocol::AwsJson10, Protocol::AwsQuery, Protocol::RpcV2Cbor] {
                let _ = super::decode::<CreateServiceRequest>(protocol, &body);
            }
        }

        #[test]
        fn forms_never_panic(body in "([A-Zaekmbry.0-9]{1,12}=[a-z0-9%+]{0,4}&){0,8}") {
            let _ = query::<TagResourceRequest>(&body);
            let _ = query::<ImageConfiguration>(&body);
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

//! The wire against botocore, which the `aws` CLI and boto3 are made of.
//!
//! Where there is no botocore a test says so and passes; if `EKIDEN_SKIPPED_TESTS` names a file, it
//! adds a line there, for whoever counts.

// Clippy lets tests unwrap, but not the functions that tests call.
#![allow(clippy::unwrap_used)]

use std::{
    fs::OpenOptions,
    io::Write,
    process::{Command, Stdio},
};

use bytes::Bytes;
use ekiden_aws::{
    apprunner::shapes::{
        CreateServiceRequest, DescribeServiceResponse, HealthCheckConfiguration,
        IngressConfiguration, ListTagsForResourceResponse, NetworkConfiguration, Service, Tag,
        TagResourceResponse,
    },
    decode::decode,
    epoch_seconds::EpochSeconds,
    error::ApiError,
    protocol::{
        APIS, Protocol, RequestId, Route, STS, Service as ServiceOf, failure, looks_like, route,
        success,
    },
    sigv4::{
        claim::Claim,
        credentials::{Credentials, SecretAccessKey},
        date_time,
        signer::sign,
    },
};
use http::{Request, Response, request::Parts};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the oracle exits with when there is no botocore.
const NO_BOTOCORE: i32 = 3;

/// Requests that are compared.
const REQUESTS: usize = 400;

/// Printed when a request is not as expected, and changed to look at others.
const SEED: usize = 20_150_830;

#[derive(Debug, Deserialize)]
struct Signed {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    region: String,
    token: Option<String>,
}

impl Signed {
    fn parts(&self) -> Parts {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }
}

/// What the oracle says, a JSON value a line; `None` when there is no botocore.
fn oracle(test: &str, arguments: &[&str], input: &str) -> Option<Vec<Value>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/botocore_oracle.py");
    let child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return skipped(test, "no python3");
    };
    // An oracle that ended already says why with its status.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(NO_BOTOCORE) {
        return skipped(test, "no botocore");
    }
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn skipped(test: &str, why: &str) -> Option<Vec<Value>> {
    eprintln!("SKIPPED: {test}: {why}; install it with `pip install botocore`");
    if let Some(path) = std::env::var_os("EKIDEN_SKIPPED_TESTS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
    None
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(text: &str) -> Vec<u8> {
    let sextet = |byte: &u8| ALPHABET.iter().position(|letter| letter == byte).unwrap() as u32;
    let mut bytes = Vec::new();
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits =
            four.iter().fold(0, |bits, byte| bits << 6 | sextet(byte)) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

fn to_base64(bytes: &[u8]) -> String {
    let sextets = |three: &[u8]| {
        let mut padded = [0; 4];
        padded[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(padded);
        (0..4).map(move |place| (bits >> (18 - 6 * place)) as usize & 63)
    };
    let text = bytes.chunks(3).flat_map(|three| {
        let letters = sextets(three).map(|sextet| char::from(ALPHABET[sextet]));
        let padding = std::iter::repeat_n('=', 3 - three.len());
        letters
            .take(three.len() + 1)
            .chain(padding)
            .collect::<Vec<_>>()
    });
    text.collect()
}

#[test]
fn botocores_signatures_are_verified_and_made_the_same() {
    let arguments = ["sign", &REQUESTS.to_string(), &SEED.to_string()];
    let Some(requests) = oracle("botocores_signatures", &arguments, "") else {
        return;
    };
    assert_eq!(requests.len(), REQUESTS);
    for request in requests {
        let request: Signed = serde_json::from_value(request).unwrap();
        let (mut parts, body) = (request.parts(), base64(&request.body));
        let now = date_time::parse(parts.headers["x-amz-date"].to_str().unwrap()).unwrap();
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: SecretAccessKey::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: request.token.clone(),
        };
        let claim = Claim::read(&parts, "apprunner", now).unwrap();
        assert_eq!(claim.session_token(), request.token.as_deref());
        let key = claim.signing_key(&credentials.secret_access_key);
        let identity = claim.verify(&key, &parts, &body);
        assert_eq!(
            identity.map(|identity| identity.region).as_ref(),
            Ok(&request.region),
            "{request:?}"
        );

        let theirs = parts.headers.remove("authorization").unwrap();
        sign(
            &mut parts,
            &body,
            &credentials,
            &request.region,
            "apprunner",
            now,
        )
        .unwrap();
        assert_eq!(parts.headers["authorization"], theirs, "{request:?}");
    }
}

/// The protocols as botocore names them.
const PROTOCOLS: [(&str, Protocol); 3] = [
    ("json", Protocol::AwsJson10),
    ("smithy-rpc-v2-cbor", Protocol::RpcV2Cbor),
    ("query", Protocol::AwsQuery),
];

#[test]
fn botocores_requests_are_read_alike_in_every_protocol() {
    let input = json!({
        "ServiceName": "\u{fc}n\u{ef} & <co>",
        "SourceConfiguration": {
            "AutoDeploymentsEnabled": false,
            "ImageRepository": {
                "ImageIdentifier": "a/b:c",
                "ImageRepositoryType": "ECR",
                "ImageConfiguration": {
                    "RuntimeEnvironmentVariables": {"A.B": "1 + 1 = 2%", "C": ""},
                },
            },
        },
        "HealthCheckConfiguration": {"Interval": 7, "UnhealthyThreshold": 20},
        "Tags": (0..12).map(|n| json!({"Key": format!("k{n}"), "Value": "v"})).collect::<Value>(),
    });
    let Some(requests) = oracle("botocores_requests", &["ask"], &format!("{input}\n")) else {
        return;
    };
    assert_eq!(requests.len(), PROTOCOLS.len());
    for (request, (name, protocol)) in requests.iter().zip(PROTOCOLS) {
        assert_eq!(request["protocol"], name);
        let mut head = Request::post(request["path"].as_str().unwrap());
        for header in request["headers"].as_array().unwrap() {
            head = head.header(header[0].as_str().unwrap(), header[1].as_str().unwrap());
        }
        let parts = head.body(()).unwrap().into_parts().0;
        let body = base64(request["body"].as_str().unwrap());
        if protocol != Protocol::AwsQuery {
            let route = route(&parts, &body, APIS).unwrap();
            assert_eq!(
                (route.api.service, route.operation.as_str(), route.protocol),
                (ServiceOf::AppRunner, "CreateService", protocol)
            );
        }
        assert_eq!(looks_like(&parts.headers), protocol);
        let read: CreateServiceRequest = decode(protocol, &body).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), input, "{name}");
    }
}

#[test]
fn botocore_reads_answers_and_errors_of_every_protocol() {
    let output = DescribeServiceResponse {
        service: Some(Service {
            service_name: Some("ünï & <co>".to_owned()),
            created_at: Some(EpochSeconds(1_606_156_217)),
            health_check_configuration: Some(HealthCheckConfiguration {
                interval: Some(7),
                ..Default::default()
            }),
            network_configuration: Some(NetworkConfiguration {
                ingress_configuration: Some(IngressConfiguration {
                    is_publicly_accessible: Some(false),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let tags = ListTagsForResourceResponse {
        tags: Some(vec![
            Tag {
                key: Some("k".to_owned()),
                value: Some(String::new()),
            },
            Tag::default(),
        ]),
    };
    let id = RequestId::random();
    let mut input = String::new();
    for (name, protocol) in PROTOCOLS {
        let mut of = |operation: &str, response: Response<Bytes>| {
            let headers: Vec<(&str, &str)> = response
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            let line = json!({
                "protocol": name,
                "operation": operation,
                "status": response.status().as_u16(),
                "headers": serde_json::Map::from_iter(headers.iter().map(|(k, v)| ((*k).to_owned(), json!(v)))),
                "body": to_base64(response.body()),
            });
            input.push_str(&format!("{line}\n"));
        };
        let route = |operation: &str| Route {
            api: &STS,
            operation: operation.to_owned(),
            protocol,
        };
        of(
            "DescribeService",
            success(&route("DescribeService"), id, &output),
        );
        of(
            "ListTagsForResource",
            success(&route("ListTagsForResource"), id, &tags),
        );
        of(
            "TagResource",
            success(&route("TagResource"), id, &TagResourceResponse::default()),
        );
        let error = ApiError::resource_not_found("no \"such\" thing");
        of("TagResource", failure(protocol, id, &error));
    }
    let Some(read) = oracle("botocore_reads_answers", &["parse"], &input) else {
        return;
    };
    for (answers, (name, _)) in read.chunks(4).zip(PROTOCOLS) {
        assert_eq!(
            answers[0]["Service"],
            json!({
                "ServiceName": "ünï & <co>",
                "CreatedAt": 1_606_156_217.0,
                "HealthCheckConfiguration": {"Interval": 7},
                "NetworkConfiguration": {"IngressConfiguration": {"IsPubliclyAccessible": false}},
            }),
            "{name}"
        );
        assert_eq!(
            answers[1]["Tags"],
            json!([{"Key": "k", "Value": ""}, {}]),
            "{name}"
        );
        for answer in answers {
            assert_eq!(
                answer["ResponseMetadata"]["RequestId"],
                id.to_string(),
                "{name}"
            );
        }
        assert_eq!(answers[2].as_object().unwrap().len(), 1);
        assert_eq!(answers[3]["Error"]["Code"], "ResourceNotFoundException");
        assert_eq!(answers[3]["Error"]["Message"], "no \"such\" thing");
    }
}

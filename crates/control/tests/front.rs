//! The front of the API over real sockets: protocols, signatures, keys, sessions, permissions, the
//! audit log, and what clients that mean harm send.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use ekiden_aws::{
    apprunner::shapes as wire,
    client::{Client, ClientError},
    epoch_seconds::EpochSeconds,
    native,
    sigv4::{
        credentials::{Credentials, SecretAccessKey},
        signer::sign,
    },
};
use flate2::{Compression, write::GzEncoder};
use http::Request;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use support::{World, source};

const ACCOUNT: &str = "100000000001";
const FORM: (&str, &str) = (
    "content-type",
    "application/x-www-form-urlencoded; charset=utf-8",
);
const JSON: (&str, &str) = ("content-type", "application/x-amz-json-1.0");
const CBOR: [(&str, &str); 2] = [
    ("smithy-protocol", "rpc-v2-cbor"),
    ("content-type", "application/cbor"),
];
const LIST: (&str, &str) = ("x-amz-target", "AppRunner.ListServices");

/// A key as its owner has it.
#[derive(Clone, Debug)]
struct Key {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Key {
    fn of_host(world: &World) -> Self {
        let text = std::fs::read(world.dir.path().join("control/admin-key.json")).unwrap();
        let key: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap();
        Self {
            id: key["access_key_id"].clone(),
            secret: key["secret_access_key"].clone(),
            token: None,
        }
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            access_key_id: self.id.clone(),
            secret_access_key: SecretAccessKey::new(self.secret.clone()),
            session_token: self.token.clone(),
        }
    }

    async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        world: &World,
        target: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        let endpoint = format!("http://{}", world.address());
        let client = Client::new(&endpoint, "us-east-1", self.credentials()).unwrap();
        client.call(target, input).await
    }

    async fn json(&self, world: &World, target: &str, input: Value) -> Result<Value, ClientError> {
        self.call(world, target, &input).await
    }

    /// A request of STS, and what its answer has in `element`.
    async fn sts(&self, world: &World, parameters: &str) -> Answer {
        let body = format!("{parameters}&Version=2011-06-15");
        let unsigned = Unsigned {
            service: "sts",
            headers: vec![FORM],
            body: body.into_bytes(),
            ..Unsigned::default()
        };
        unsigned.sent(world, self).await
    }
}

/// A request before it is signed.
struct Unsigned<'a> {
    path: &'a str,
    service: &'a str,
    region: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
    at: u64,
}

impl Default for Unsigned<'_> {
    fn default() -> Self {
        Self {
            path: "/",
            service: "apprunner",
            region: "us-east-1",
            headers: vec![JSON, LIST],
            body: b"{}".to_vec(),
            at: now(),
        }
    }
}

impl Unsigned<'_> {
    async fn sent(&self, world: &World, key: &Key) -> Answer {
        exchange(world, &self.signed(world, key, |_| {})).await
    }

    /// The bytes of the request, whose head is changed after it was signed.
    fn signed(
        &self,
        world: &World,
        key: &Key,
        change: impl FnOnce(&mut http::request::Parts),
    ) -> Vec<u8> {
        let mut request = Request::post(self.path).header("host", world.address().to_string());
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        let (credentials, at) = (key.credentials(), EpochSeconds(self.at));
        sign(
            &mut parts,
            &self.body,
            &credentials,
            self.region,
            self.service,
            at,
        )
        .unwrap();
        change(&mut parts);
        let mut bytes = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
        for (name, value) in &parts.headers {
            bytes.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
        }
        let end = format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            self.body.len()
        );
        bytes.extend_from_slice(end.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What stands in an XML element that is there once.
    #[track_caller]
    fn element(&self, name: &str) -> String {
        let text = self.text();
        let inner = text.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
        let inner = inner.and_then(|rest| rest.split_once(&format!("</{name}>")));
        inner
            .unwrap_or_else(|| panic!("no {name} in {text}"))
            .0
            .to_owned()
    }

    /// The error's code, whatever the protocol.
    #[track_caller]
    fn code(&self) -> String {
        if self.head.contains("text/xml") {
            return self.element("Code");
        }
        if self.head.contains("application/cbor") {
            let at = b"\x66__type";
            let place = self
                .body
                .windows(at.len())
                .position(|bytes| bytes == at)
                .unwrap();
            // Codes have more than 23 characters or fewer: the text's head is one byte or two.
            let rest = &self.body[place + at.len()..];
            let (length, from) = match rest[0] {
                0x78 => (usize::from(rest[1]), 2),
                head => (usize::from(head - 0x60), 1),
            };
            return String::from_utf8(rest[from..from + length].to_vec()).unwrap();
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["__type"].as_str().unwrap().to_owned()
    }

    fn has_request_id(&self) -> bool {
        self.head.to_lowercase().contains("x-amzn-requestid: ")
    }
}

async fn exchange(world: &World, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    // The server may answer, and close, before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: answer[end + 4..].to_vec(),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

async fn make_key(world: &World, role: &str, services: &[&str]) -> Key {
    let input = json!({"Role": role, "Services": services, "Description": "a test's"});
    let made: native::CreateAccessKeyResponse =
        world.call("Ekiden.CreateAccessKey", &input).await.unwrap();
    Key {
        id: made.access_key.access_key_id,
        secret: made.secret_access_key,
        token: None,
    }
}

async fn events(world: &World, input: Value) -> Vec<native::AuditEvent> {
    let answer: native::ListAuditEventsResponse =
        world.call("Ekiden.ListAuditEvents", &input).await.unwrap();
    answer.events
}

async fn status(world: &World) -> native::GetStatusResponse {
    world.call("Ekiden.GetStatus", &json!({})).await.unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>, code: &str) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Some(code), "{error}");
    error.to_string()
}

fn create(name: &str) -> Value {
    serde_json::to_value(wire::CreateServiceRequest {
        service_name: Some(name.into()),
        source_configuration: Some(source("ok", 7000)),
        ..Default::default()
    })
    .unwrap()
}

const LIST_SERVICES: &str = "AppRunner.ListServices";

#[tokio::test]
async fn a_key_lives_from_create_to_delete() {
    let mut world = World::new().await;
    let viewer = make_key(&world, "viewer", &[]).await;
    viewer.json(&world, LIST_SERVICES, json!({})).await.unwrap();
    let listed: native::ListAccessKeysResponse = world
        .call("Ekiden.ListAccessKeys", &json!({}))
        .await
        .unwrap();
    let of = |id: &str| {
        listed
            .access_keys
            .iter()
            .find(|key| key.access_key_id == id)
            .unwrap()
    };
    let found = of(&viewer.id);
    assert_eq!(
        (found.role.as_str(), found.status.as_str()),
        ("viewer", "Active")
    );
    assert_eq!(found.last_used_from.as_deref(), Some("127.0.0.1"));
    assert_eq!(found.description, "a test's");
    assert_eq!(of(&Key::of_host(&world).id).role, "admin");

    let set = |status: &str| json!({"AccessKeyId": viewer.id, "Status": status});
    let update = "Ekiden.UpdateAccessKey";
    let _: Value = world.call(update, &set("Inactive")).await.unwrap();
    let unknown = "UnrecognizedClientException";
    refused(viewer.json(&world, LIST_SERVICES, json!({})).await, unknown);
    // What is stored survives, and when a key was used is written down at the end.
    world.restart().await;
    refused(viewer.json(&world, LIST_SERVICES, json!({})).await, unknown);
    let _: Value = world.call(update, &set("Active")).await.unwrap();
    viewer.json(&world, LIST_SERVICES, json!({})).await.unwrap();
    world.restart().await;
    viewer.json(&world, LIST_SERVICES, json!({})).await.unwrap();

    let delete = json!({"AccessKeyId": viewer.id});
    let _: Value = world.call("Ekiden.DeleteAccessKey", &delete).await.unwrap();
    refused(viewer.json(&world, LIST_SERVICES, json!({})).await, unknown);
    let again: Result<Value, _> = world.call("Ekiden.DeleteAccessKey", &delete).await;
    refused(again, "ResourceNotFoundException");
    world.stop().await;
    let control = world.dir.path().join("control");
    for secret in [viewer.secret, Key::of_host(&world).secret] {
        for file in ["ekiden.db", "ekiden.db-wal"] {
            let bytes = std::fs::read(control.join(file)).unwrap_or_default();
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{file}");
        }
    }
}

#[tokio::test]
async fn keys_are_made_of_what_makes_sense() {
    let world = World::configured(|config| config.quotas.access_keys = 2).await;
    let long = "x".repeat(257);
    for wrong in [
        json!({}),
        json!({"Role": "root"}),
        json!({"Role": "deployer"}),
        json!({"Role": "deployer", "Services": ["a b"]}),
        json!({"Role": "deployer", "Services": vec!["a"; 33]}),
        json!({"Role": "viewer", "Services": ["a"]}),
        json!({"Role": "viewer", "Description": long}),
    ] {
        let made: Result<Value, _> = world.call("Ekiden.CreateAccessKey", &wrong).await;
        refused(made, "InvalidRequestException");
    }
    make_key(&world, "viewer", &[]).await;
    let made: Result<Value, _> = world
        .call("Ekiden.CreateAccessKey", &json!({"Role": "viewer"}))
        .await;
    refused(made, "ServiceQuotaExceededException");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let id = json!({"AccessKeyId": host.id});
    let state = "InvalidStateException";
    refused(
        host.json(&world, "Ekiden.DeleteAccessKey", id.clone())
            .await,
        state,
    );
    for change in [json!({"Status": "Inactive"}), json!({"Role": "viewer"})] {
        let mut input = change;
        input["AccessKeyId"] = json!(host.id);
        refused(
            host.json(&world, "Ekiden.UpdateAccessKey", input).await,
            state,
        );
    }
    let other = make_key(&world, "admin", &[]).await;
    other
        .json(&world, "Ekiden.DeleteAccessKey", id)
        .await
        .unwrap();
    let id = json!({"AccessKeyId": other.id});
    refused(
        other.json(&world, "Ekiden.DeleteAccessKey", id).await,
        state,
    );
}

#[tokio::test]
async fn a_lost_key_file_is_made_anew_and_a_deleted_key_does_not_come_back() {
    let mut world = World::new().await;
    let lost = Key::of_host(&world);
    world.stop().await;
    std::fs::remove_file(world.dir.path().join("control/admin-key.json")).unwrap();
    world.start().await;
    let found = Key::of_host(&world);
    assert_ne!(lost.id, found.id);
    found.json(&world, LIST_SERVICES, json!({})).await.unwrap();
    lost.json(&world, LIST_SERVICES, json!({})).await.unwrap();
    let id = json!({"AccessKeyId": found.id});
    lost.json(&world, "Ekiden.DeleteAccessKey", id)
        .await
        .unwrap();
    world.restart().await;
    let answer = found.json(&world, LIST_SERVICES, json!({})).await;
    refused(answer, "UnrecognizedClientException");
}

#[tokio::test]
async fn a_deployer_changes_its_services_and_a_viewer_none() {
    let world = World::new().await;
    let deployer = make_key(&world, "deployer", &["web-*"]).await;
    let viewer = make_key(&world, "viewer", &[]).await;
    let made = deployer
        .json(&world, "AppRunner.CreateService", create("web-a"))
        .await
        .unwrap();
    let arn = made["Service"]["ServiceArn"].as_str().unwrap().to_owned();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let denied = "AccessDeniedException";
    let message = refused(
        deployer
            .json(&world, "AppRunner.CreateService", create("other"))
            .await,
        denied,
    );
    assert_eq!(
        message,
        format!(
            "User: arn:aws:iam::{ACCOUNT}:user/ekiden/{} is not authorized to perform: \
             apprunner:CreateService on resource: \
             arn:aws:apprunner:us-east-1:{ACCOUNT}:service/other/*",
            deployer.id
        )
    );
    let input = json!({"ServiceArn": arn});
    let message = refused(
        viewer
            .json(&world, "AppRunner.PauseService", input.clone())
            .await,
        denied,
    );
    assert!(message.ends_with(&format!("apprunner:PauseService on resource: {arn}")));
    viewer
        .json(&world, "AppRunner.DescribeService", input.clone())
        .await
        .unwrap();
    viewer
        .json(&world, "Ekiden.GetStatus", json!({}))
        .await
        .unwrap();
    for target in ["Ekiden.ListAccessKeys", "Ekiden.ListAuditEvents"] {
        for key in [&viewer, &deployer] {
            let message = refused(key.json(&world, target, json!({})).await, denied);
            assert!(message.ends_with("on resource: *"), "{message}");
        }
    }
    // A constraint counts before the permission, the permission before the service's existence.
    let wrong = json!({"ServiceArn": ""});
    let answer = viewer.json(&world, "AppRunner.PauseService", wrong).await;
    refused(answer, "InvalidRequestException");
    let nobody = arn.replace("web-a", "other");
    let answer = deployer.json(
        &world,
        "AppRunner.PauseService",
        json!({"ServiceArn": nobody}),
    );
    refused(answer.await, denied);
    // A name that matches, with the id of another service, leads to neither.
    let other = world
        .create("other", "ok", 7000)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    let disguised = other.replace("/other/", "/web-a/");
    let answer = deployer.json(
        &world,
        "AppRunner.PauseService",
        json!({"ServiceArn": disguised}),
    );
    refused(answer.await, "ResourceNotFoundException");
    deployer
        .json(&world, "AppRunner.PauseService", input)
        .await
        .unwrap();
}

#[tokio::test]
async fn sts_says_who_one_is_and_makes_sessions() {
    let world = World::new().await;
    let viewer = make_key(&world, "viewer", &[]).await;
    let me = viewer.sts(&world, "Action=GetCallerIdentity").await;
    assert_eq!(me.status, 200, "{}", me.text());
    let own = format!("arn:aws:iam::{ACCOUNT}:user/ekiden/{}", viewer.id);
    assert_eq!(
        (
            me.element("Account"),
            me.element("Arn"),
            me.element("UserId")
        ),
        (ACCOUNT.to_owned(), own.clone(), viewer.id.clone())
    );

    let assume = "Action=AssumeRole&RoleArn=arn:aws:iam::123456789012:role/x/ci\
                  &RoleSessionName=build&DurationSeconds=900";
    let assumed = viewer.sts(&world, assume).await;
    let session = session_of(&assumed);
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/ci/build");
    assert_eq!(assumed.element("Arn"), arn);
    let me = session.sts(&world, "Action=GetCallerIdentity").await;
    assert_eq!(me.element("Arn"), arn);
    assert_eq!(me.element("UserId"), format!("{}:build", viewer.id));
    session
        .json(&world, LIST_SERVICES, json!({}))
        .await
        .unwrap();
    let denied = session
        .json(&world, "AppRunner.CreateService", create("web1"))
        .await;
    assert!(refused(denied, "AccessDeniedException").starts_with(&format!("User: {arn} is not")));
    // A session of a session ends with it.
    let again = session.sts(&world, &assume.replace("900", "43200")).await;
    assert_eq!(again.element("Expiration"), assumed.element("Expiration"));

    let plain = session_of(&viewer.sts(&world, "Action=GetSessionToken").await);
    let me = plain.sts(&world, "Action=GetCallerIdentity").await;
    assert_eq!(me.element("Arn"), own);

    // A token is good with its own key only, and a temporary key with its token only.
    let swapped = Key {
        token: plain.token.clone(),
        ..session.clone()
    };
    let without = Key {
        token: None,
        ..session.clone()
    };
    let added = Key {
        token: plain.token.clone(),
        ..viewer.clone()
    };
    for wrong in [&swapped, &without, &added] {
        let answer = wrong.sts(&world, "Action=GetCallerIdentity").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "InvalidClientTokenId")
        );
        let answer = wrong.json(&world, LIST_SERVICES, json!({})).await;
        refused(answer, "UnrecognizedClientException");
    }

    // The parent's role of now counts, and its end is theirs.
    let role = json!({"AccessKeyId": viewer.id, "Role": "deployer", "Services": ["web1"]});
    let _: Value = world.call("Ekiden.UpdateAccessKey", &role).await.unwrap();
    session
        .json(&world, "AppRunner.CreateService", create("web1"))
        .await
        .unwrap();
    let off = json!({"AccessKeyId": viewer.id, "Status": "Inactive"});
    let _: Value = world.call("Ekiden.UpdateAccessKey", &off).await.unwrap();
    for key in [&session, &plain] {
        let answer = key.sts(&world, "Action=GetCallerIdentity").await;
        assert_eq!(answer.code(), "InvalidClientTokenId");
    }
}

fn session_of(answer: &Answer) -> Key {
    assert_eq!(answer.status, 200, "{}", answer.text());
    Key {
        id: answer.element("AccessKeyId"),
        secret: answer.element("SecretAccessKey"),
        token: Some(answer.element("SessionToken")),
    }
}

#[tokio::test]
async fn sts_errors_are_xml_with_the_names_of_the_query_protocol() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    for (parameters, status, code) in [
        ("Action=AssumeRole", 400, "ValidationError"),
        (
            "Action=AssumeRole&RoleArn=x&RoleSessionName=ab",
            400,
            "ValidationError",
        ),
        (
            "Action=GetSessionToken&DurationSeconds=899",
            400,
            "ValidationError",
        ),
        (
            "Action=GetSessionToken&DurationSeconds=x",
            400,
            "MalformedInput",
        ),
        ("Action=GetFederationToken", 404, "InvalidAction"),
        (
            "Action=GetCallerIdentity&A=%ff",
            400,
            "MalformedQueryString",
        ),
    ] {
        let answer = host.sts(&world, parameters).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{parameters}"
        );
        assert!(answer.has_request_id() && answer.text().contains("<RequestId>"));
    }
    let forged = Key {
        secret: "other".to_owned(),
        ..host.clone()
    };
    let answer = forged.sts(&world, "Action=GetCallerIdentity").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "SignatureDoesNotMatch")
    );
    let unsigned = Unsigned {
        headers: vec![FORM],
        body: b"Action=GetCallerIdentity&Version=2011-06-15".to_vec(),
        ..Unsigned::default()
    };
    let bytes = unsigned.signed(&world, &host, |parts| {
        parts.headers.remove("authorization");
    });
    let answer = exchange(&world, &bytes).await;
    assert_eq!(answer.code(), "MissingAuthenticationToken");
    // Signed for App Runner, asked of STS.
    let answer = unsigned.sent(&world, &host).await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
}

#[tokio::test]
async fn app_runner_is_spoken_to_in_cbor_too() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let to = |operation: &'static str, body: &[u8]| Unsigned {
        path: operation,
        headers: CBOR.to_vec(),
        body: body.to_vec(),
        ..Unsigned::default()
    };
    let list = "/service/AppRunner/operation/ListServices";
    let answer = to(list, b"\xa1\x6aMaxResults\x05")
        .sent(&world, &host)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("smithy-protocol: rpc-v2-cbor"));
    assert_eq!(answer.body, b"\xa1\x72ServiceSummaryList\x80");
    for (path, body, code) in [
        (
            list,
            &b"\xa1\x6aMaxResults\x18\x15"[..],
            "InvalidRequestException",
        ),
        (list, b"\xa1\x6aMaxResults", "SerializationException"),
        (
            "/service/AppRunner/operation/Nothing",
            b"\xa0",
            "UnknownOperationException",
        ),
        ("/service/AppRunner", b"\xa0", "UnknownOperationException"),
    ] {
        let answer = to(path, body).sent(&world, &host).await;
        assert_eq!(answer.code(), code);
        assert!(answer.has_request_id());
    }
    // A path that was encoded twice, or has dots, is another path.
    let odd = "/service/AppRunner/operation/%4CistServices";
    assert_eq!(
        to(odd, b"\xa0").sent(&world, &host).await.code(),
        "UnknownOperationException"
    );
    let answer = to("/service/AppRunner/operation/./ListServices", b"\xa0")
        .sent(&world, &host)
        .await;
    assert_eq!(answer.code(), "UnknownOperationException");
}

#[tokio::test]
async fn a_signature_that_is_wrong_in_any_part_is_refused_counted_and_written_down() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let good = Unsigned::default();
    assert_eq!(good.sent(&world, &host).await.status, 200);

    let mismatch = "InvalidSignatureException";
    let mut wrong: Vec<(Vec<u8>, &str)> = Vec::new();
    let mut changed = |change: &dyn Fn(&mut http::request::Parts), code: &'static str| {
        wrong.push((good.signed(&world, &host, |parts| change(parts)), code));
    };
    let reword = |from: &'static str, to: &'static str| {
        move |parts: &mut http::request::Parts| {
            let text = parts.headers["authorization"]
                .to_str()
                .unwrap()
                .replace(from, to);
            parts.headers.insert("authorization", text.parse().unwrap());
        }
    };
    let set = |name: &'static str, value: &'static str| {
        move |parts: &mut http::request::Parts| {
            parts.headers.insert(name, value.parse().unwrap());
        }
    };
    changed(&reword("Signature=", "Signature=0"), mismatch);
    changed(&reword("EKIA", "EKIB"), "UnrecognizedClientException");
    changed(&reword("us-east-1", "us-east-2"), mismatch);
    changed(&reword("/apprunner/", "/sts/"), mismatch);
    changed(&reword("aws4_request", "aws5_request"), mismatch);
    changed(
        &reword("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        "IncompleteSignature",
    );
    changed(
        &reword("Credential=", "Credentials="),
        "IncompleteSignature",
    );
    changed(&reword(";x-amz-date", ""), mismatch);
    changed(&reword(";x-amz-target", ""), mismatch);
    changed(&reword(";host", ""), mismatch);
    changed(&set("x-amz-target", "AppRunner.ListConnections"), mismatch);
    changed(&set("content-type", "application/x-amz-json-1.1"), mismatch);
    changed(&set("x-amz-date", "20150830T123600Z"), mismatch);
    changed(&set("x-amz-security-token", "t"), mismatch);
    changed(&set("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), mismatch);
    changed(&|parts| parts.uri = "/?a=b".parse().unwrap(), mismatch);
    changed(
        &|parts| {
            parts.headers.remove("authorization");
        },
        "MissingAuthenticationTokenException",
    );
    changed(
        &|parts| {
            parts.headers.remove("authorization");
            parts.uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0"
                .parse()
                .unwrap();
        },
        "IncompleteSignature",
    );
    let mut body = good.signed(&world, &host, |_| {});
    let last = body.len() - 1;
    body[last] = b' ';
    wrong.push((body, mismatch));
    for at in [now() - 1000, now() + 1000] {
        let other = Unsigned {
            at,
            ..Unsigned::default()
        };
        wrong.push((other.signed(&world, &host, |_| {}), mismatch));
    }
    let other = Unsigned {
        service: "sts",
        ..Unsigned::default()
    };
    wrong.push((other.signed(&world, &host, |_| {}), mismatch));

    for (request, code) in &wrong {
        let answer = exchange(&world, request).await;
        let shown = String::from_utf8_lossy(request);
        assert_eq!(
            (answer.code().as_str(), answer.has_request_id()),
            (*code, true),
            "{shown}"
        );
    }
    assert_eq!(
        status(&world).await.authentication_failures,
        wrong.len() as u64
    );
    let found = events(&world, json!({"Result": "UnrecognizedClientException"})).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].action, "apprunner:ListServices");
    assert_eq!(
        (found[0].source.as_str(), &found[0].caller_arn),
        ("127.0.0.1", &None)
    );
    assert!(found[0].access_key_id.as_ref().unwrap().starts_with("EKIB"));
}

#[tokio::test]
async fn bodies_that_are_not_of_their_protocol_are_refused_in_it() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let deep_json = format!("{{\"A\":{}", "[".repeat(100_000));
    let bad: [(&str, Vec<u8>); 12] = [
        ("json", b"{\"MaxResults\":".to_vec()),
        (
            "json",
            b"{\"NextToken\":\"a\",\"NextToken\":\"b\"}".to_vec(),
        ),
        ("json", b"{\"NextToken\":\"\xff\"}".to_vec()),
        ("json", deep_json.into_bytes()),
        ("json", format!("[{}1]", "1,".repeat(400_000)).into_bytes()),
        ("cbor", b"\xa2\x61A\x01\x61A\x01".to_vec()),
        ("cbor", b"\xa1\x61A\x61\xff".to_vec()),
        ("cbor", vec![0x81; 500_000]),
        ("cbor", [&b"\x9f"[..], &vec![0; 500_000]].concat()),
        ("form", b"&A.B=1&A=1".to_vec()),
        ("form", [b"&".to_vec(), b"a.".repeat(1000)].concat()),
        (
            "form",
            (0..70_000)
                .map(|n| format!("&a{n}="))
                .collect::<String>()
                .into_bytes(),
        ),
    ];
    for (protocol, body) in bad {
        let answer = match protocol {
            "json" => {
                Unsigned {
                    body,
                    ..Unsigned::default()
                }
                .sent(&world, &host)
                .await
            }
            "cbor" => {
                let unsigned = Unsigned {
                    path: "/service/AppRunner/operation/ListServices",
                    headers: CBOR.to_vec(),
                    body,
                    ..Unsigned::default()
                };
                unsigned.sent(&world, &host).await
            }
            _ => {
                let text = String::from_utf8(body).unwrap();
                host.sts(&world, &format!("Action=GetCallerIdentity{text}"))
                    .await
            }
        };
        let want = if protocol == "form" {
            "MalformedInput"
        } else {
            "SerializationException"
        };
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, want),
            "{protocol}"
        );
    }
    // Over the bound, before anything is known of the request but its head.
    for (headers, code) in [
        (vec![JSON, LIST], "RequestEntityTooLargeException"),
        (vec![FORM], "RequestEntityTooLarge"),
        (CBOR.to_vec(), "RequestEntityTooLargeException"),
    ] {
        let huge = Unsigned {
            headers,
            body: vec![b' '; (1 << 20) + 1],
            ..Unsigned::default()
        };
        let answer = huge.sent(&world, &host).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, code));
    }
    let other = Unsigned {
        headers: vec![("content-type", "text/plain"), LIST],
        ..Unsigned::default()
    };
    assert_eq!(
        other.sent(&world, &host).await.code(),
        "MalformedHttpRequestException"
    );
}

#[tokio::test]
async fn floods_of_headers_and_clients_that_stop_half_way_hurt_nobody() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let names: Vec<String> = (0..100).map(|n| format!("x-flood-{n}")).collect();
    let mut many = Unsigned::default();
    many.headers
        .extend(names.iter().map(|name| (name.as_str(), "1")));
    assert_eq!(many.sent(&world, &host).await.status, 431);
    let long = "1".repeat(64 << 10);
    let mut large = Unsigned::default();
    large.headers.push(("x-flood", &long));
    assert_eq!(large.sent(&world, &host).await.status, 431);

    let whole = Unsigned::default().signed(&world, &host, |_| {});
    let mut stopped = Vec::new();
    for end in [1, 40, whole.len() - 1] {
        // One goes away, one stays and says nothing more.
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream.write_all(&whole[..end]).await.unwrap();
        drop(stream);
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream.write_all(&whole[..end]).await.unwrap();
        stopped.push(stream);
    }
    // A body that ends early is no request.
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(exchange(&world, &whole).await.status, 200);
}

#[tokio::test]
async fn the_audit_log_has_who_did_what_and_lasts() {
    let mut world = World::new().await;
    let host = Key::of_host(&world);
    let arn = world
        .create("web1", "ok", 7000)
        .await
        .service
        .unwrap()
        .service_arn
        .unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let viewer = make_key(&world, "viewer", &[]).await;
    let input = json!({"ServiceArn": arn});
    let denied = viewer
        .json(&world, "AppRunner.DeleteService", input.clone())
        .await;
    refused(denied, "AccessDeniedException");
    let failed: Result<Value, _> = world.call("AppRunner.ResumeService", &input).await;
    assert!(failed.is_ok() || failed.unwrap_err().code().is_some());
    let twice: Result<Value, _> = world.call("AppRunner.CreateService", &create("web1")).await;
    refused(twice, "InvalidRequestException");
    world.restart().await;
    let forged = Key {
        secret: "other".to_owned(),
        ..host.clone()
    };
    refused(
        forged.json(&world, LIST_SERVICES, json!({})).await,
        "InvalidSignatureException",
    );

    let all = events(&world, json!({})).await;
    let seen: Vec<(&str, &str)> = all
        .iter()
        .map(|event| (event.action.as_str(), event.result.as_str()))
        .filter(|(action, _)| *action != "apprunner:ResumeService")
        .collect();
    assert_eq!(
        seen,
        [
            ("apprunner:ListServices", "InvalidSignatureException"),
            ("apprunner:CreateService", "InvalidRequestException"),
            ("apprunner:DeleteService", "AccessDeniedException"),
            ("ekiden:CreateAccessKey", "Success"),
            ("apprunner:CreateService", "Success"),
        ]
    );
    let deleted = events(&world, json!({"AccessKeyId": viewer.id})).await;
    assert_eq!(deleted.len(), 1);
    let event = &deleted[0];
    assert_eq!(event.resource.as_ref(), Some(&arn));
    assert_eq!(event.service_name.as_deref(), Some("web1"));
    assert_eq!(event.region.as_deref(), Some("us-east-1"));
    assert_eq!(event.source, "127.0.0.1");
    assert!(event.caller_arn.as_ref().unwrap().ends_with(&viewer.id));
    assert_eq!(event.request_id.len(), 36);
    assert!(event.timestamp / 1000 <= now());
    assert!(events(&world, json!({"EndTime": 1})).await.is_empty());
    assert_eq!(
        events(&world, json!({"ServiceName": "web1", "MaxResults": 2}))
            .await
            .len(),
        2
    );

    let page: native::ListAuditEventsResponse = world
        .call("Ekiden.ListAuditEvents", &json!({"MaxResults": 3}))
        .await
        .unwrap();
    let rest = events(&world, json!({"NextToken": page.next_token.unwrap()})).await;
    assert_eq!([page.events, rest].concat(), all);
    for wrong in [json!({"MaxResults": 0}), json!({"NextToken": "x"})] {
        let answer: Result<Value, _> = world.call("Ekiden.ListAuditEvents", &wrong).await;
        refused(answer, "InvalidRequestException");
    }
    let written = read_all(&world.dir.path().join("control/audit"));
    assert!(!written.contains(&viewer.secret) && !written.contains("ImageIdentifier"));
}

fn read_all(dir: &Path) -> String {
    let files = std::fs::read_dir(dir).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// What is wrong with an input is said before anything is done, so it shows that it was read.
#[tokio::test(flavor = "multi_thread")]
async fn logs_metrics_and_events_are_asked_for_in_their_protocols() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let json11 = ("content-type", "application/x-amz-json-1.1");
    for (service, target, code) in [
        (
            "logs",
            "Logs_20140328.CreateLogGroup",
            "InvalidParameterException",
        ),
        (
            "logs",
            "Logs_20140328.CreateEverything",
            "UnknownOperationException",
        ),
        ("events", "AWSEvents.PutRule", "ValidationException"),
    ] {
        let unsigned = Unsigned {
            service,
            headers: vec![json11, ("x-amz-target", target)],
            ..Unsigned::default()
        };
        let answer = unsigned.sent(&world, &host).await;
        assert_eq!(answer.code(), code, "{target}");
        assert!(answer.head.contains(json11.1), "{answer:?}");
        assert!(!answer.head.contains("x-amzn-query-error"), "{answer:?}");
    }
    let live = Unsigned {
        service: "logs",
        headers: vec![json11, ("x-amz-target", "Logs_20140328.StartLiveTail")],
        body: br#"{"logGroupIdentifiers":["web"]}"#.to_vec(),
        ..Unsigned::default()
    };
    let answer = live.sent(&world, &host).await;
    assert_eq!(answer.code(), "InvalidOperationException");
    assert!(answer.text().contains("FilterLogEvents"), "{answer:?}");

    let statistics = "/service/GraniteServiceVersion20100801/operation/GetMetricStatistics";
    let target = "GraniteServiceVersion20100801.GetMetricStatistics";
    let query = "Action=GetMetricStatistics&Version=2010-08-01&StartTime=2026-01-31T12:00:00Z";
    for (path, headers, body, code) in [
        (
            "/",
            vec![JSON, ("x-amz-target", target)],
            "{}",
            "ValidationException",
        ),
        (statistics, CBOR.to_vec(), "\u{0}", "SerializationException"),
        (statistics, CBOR.to_vec(), "", "ValidationException"),
        ("/", vec![FORM], query, "ValidationError"),
    ] {
        let is_form = headers[0] == FORM;
        let unsigned = Unsigned {
            path,
            service: "monitoring",
            headers,
            body: body.as_bytes().to_vec(),
            ..Unsigned::default()
        };
        let answer = unsigned.sent(&world, &host).await;
        assert_eq!(answer.code(), code, "{answer:?}");
        assert_eq!(
            answer.head.contains("x-amzn-query-error: "),
            !is_form,
            "{answer:?}"
        );
        if code == "ValidationException" {
            let known_as = "x-amzn-query-error: ValidationError;Sender";
            assert!(answer.head.contains(known_as), "{answer:?}");
        }
    }
}

/// As boto3 sends inputs of `PutMetricData` of 10 KB and more.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_compressed_are_read_within_their_bound() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let gzip = |plain: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let target = (
        "x-amz-target",
        "GraniteServiceVersion20100801.PutMetricData",
    );
    let packed = ("content-encoding", "gzip");
    let form = b"Action=PutMetricData&Version=2010-08-01&MetricData=";
    for (headers, body, code) in [
        (
            vec![JSON, target, packed],
            gzip(br#"{"Namespace":":"}"#),
            "ValidationException",
        ),
        (vec![FORM, packed], gzip(form), "ValidationError"),
        (
            vec![JSON, target, packed],
            b"{}".to_vec(),
            "MalformedHttpRequestException",
        ),
        (
            vec![JSON, target, packed],
            gzip(&vec![b' '; 32 << 20]),
            "RequestEntityTooLargeException",
        ),
    ] {
        let unsigned = Unsigned {
            service: "monitoring",
            headers,
            body,
            ..Unsigned::default()
        };
        assert_eq!(unsigned.sent(&world, &host).await.code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployer_writes_logs_and_metrics_of_its_services_only() {
    let world = World::new().await;
    let deployer = make_key(&world, "deployer", &["web-*"]).await;
    let ask = async |service: &str, target: &str, input: Value| {
        let unsigned = Unsigned {
            service,
            headers: vec![JSON, ("x-amz-target", target)],
            body: input.to_string().into_bytes(),
            ..Unsigned::default()
        };
        let answer = unsigned.sent(&world, &deployer).await;
        answer.text().contains("AccessDeniedException")
    };
    let group = |service: &str| json!({ "logGroupName": format!("/aws/apprunner/{service}/0/application") });
    let create = "Logs_20140328.CreateLogGroup";
    assert!(!ask("logs", create, group("web-a")).await);
    assert!(ask("logs", create, group("other")).await);
    let put = "GraniteServiceVersion20100801.PutMetricData";
    let of = |namespace: &str| json!({ "Namespace": namespace });
    assert!(!ask("monitoring", put, of("web-a")).await);
    assert!(ask("monitoring", put, of("other")).await);
    let rule = json!({ "Name": "web-a", "EventPattern": "{}" });
    assert!(ask("events", "AWSEvents.PutRule", rule).await);
}

/// As the `aws` command and every SDK that follows `AWS_ENDPOINT_URL` begin.
#[tokio::test(flavor = "multi_thread")]
async fn aws_command_is_told_who_it_is() {
    let world = World::new().await;
    let host = Key::of_host(&world);
    let asked = Command::new("aws")
        .args(["sts", "get-caller-identity", "--output", "json"])
        .env("AWS_ENDPOINT_URL", format!("http://{}", world.address()))
        .env("AWS_ACCESS_KEY_ID", &host.id)
        .env("AWS_SECRET_ACCESS_KEY", &host.secret)
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output();
    let Ok(output) = asked else {
        eprintln!(
            "SKIPPED: aws_command_is_told_who_it_is: no aws; install it with `pip install awscli`"
        );
        if let Some(path) = std::env::var_os("EKIDEN_SKIPPED_TESTS") {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            writeln!(file, "aws_command_is_told_who_it_is: no aws").unwrap();
        }
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["Account"], ACCOUNT);
    assert_eq!(
        told["Arn"],
        format!("arn:aws:iam::{ACCOUNT}:user/ekiden/{}", host.id)
    );
}

//! Events over the real API: rules, targets, what webhooks get and in which order, and alerts.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::hmac;
use ekiden_aws::client::ClientError;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use support::{World, eventually};

/// What a receiver got.
#[derive(Debug, Clone)]
struct Got {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Got {
    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A tiny receiver of webhooks. It refuses as many requests as it is told, and those whose body has a certain text.
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    refuse: Arc<AtomicUsize>,
    refused_text: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let refuse = Arc::<AtomicUsize>::default();
        let refused_text = Arc::<Mutex<Option<String>>>::default();
        let (to, count, text) = (
            Arc::clone(&got),
            Arc::clone(&refuse),
            Arc::clone(&refused_text),
        );
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (to, count, text) = (Arc::clone(&to), Arc::clone(&count), Arc::clone(&text));
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        let text = text.lock().unwrap().clone();
                        let is_refused = text.is_some_and(|text| request.body.contains(&text));
                        let next = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                            left.checked_sub(1)
                        });
                        let status = if is_refused || next.is_ok() {
                            "503 Service Unavailable"
                        } else {
                            to.lock().unwrap().push(request);
                            "204 No Content"
                        };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            got,
            refuse,
            refused_text,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/hook/very-secret-path", self.address)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits for an event of which something is true.
    async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(async || {
            let got = self.got();
            got.iter().map(Got::event).find(|event| wanted(event))
        })
        .await
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).unwrap();
    let headers: BTreeMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let len: usize = headers["content-length"].parse().unwrap();
    while bytes.len() < head_len + len {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head_len..head_len + len].to_vec()).unwrap();
    Some(Got { headers, body })
}

async fn events(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world.call(&format!("AWSEvents.{operation}"), &input).await
}

async fn native(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world.call(&format!("Ekiden.{operation}"), &input).await
}

#[track_caller]
fn code(result: Result<Value, ClientError>) -> (String, String) {
    match result.unwrap_err() {
        ClientError::Api { code, message, .. } => (code, message),
        other => panic!("{other:?}"),
    }
}

/// Makes a webhook and a rule that leads to it; answers the secret.
async fn lead(world: &World, name: &str, receiver: &Receiver, pattern: Value) -> String {
    let made = native(
        world,
        "PutWebhookTarget",
        json!({"Name": name, "Url": receiver.url()}),
    )
    .await
    .unwrap();
    put_rule(world, name, pattern).await;
    let targets = json!([{"Id": "1", "Arn": made["Arn"]}]);
    let put = events(
        world,
        "PutTargets",
        json!({"Rule": name, "Targets": targets}),
    )
    .await
    .unwrap();
    assert_eq!(put["FailedEntryCount"], 0, "{put}");
    made["Secret"].as_str().unwrap().to_owned()
}

async fn put_rule(world: &World, name: &str, pattern: Value) {
    let request = json!({"Name": name, "EventPattern": pattern.to_string()});
    events(world, "PutRule", request).await.unwrap();
}

fn status_is(event: &Value, status: &str) -> bool {
    event["detail"]["currentServiceStatus"] == status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_service_arrives_signed_and_in_order() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let secret = lead(
        &world,
        "ops",
        &receiver,
        json!({"source": ["aws.apprunner"]}),
    )
    .await;
    let arn = world.create("shop", "ok", 8080).await.service.unwrap();
    let arn = arn.service_arn.unwrap();
    receiver.until(|event| status_is(event, "RUNNING")).await;
    world.simple("PauseService", &arn).await.unwrap();
    receiver.until(|event| status_is(event, "PAUSED")).await;
    let told: Vec<_> = receiver
        .got()
        .iter()
        .map(|got| {
            let detail = &got.event()["detail"];
            let status = detail
                .get("operationStatus")
                .or(detail.get("currentServiceStatus"));
            status.unwrap().as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        told,
        [
            "CreateServiceStarted",
            "CreateServiceCompletedSuccessfully",
            "RUNNING",
            "PauseServiceStarted",
            "OPERATION_IN_PROGRESS",
            "PauseServiceCompletedSuccessfully",
            "PAUSED",
        ]
    );
    let mut ids = HashSet::new();
    for got in receiver.got() {
        let event = got.event();
        assert_eq!(event["resources"], json!([arn]));
        assert_eq!(event["account"], "100000000001");
        assert_eq!(got.headers["content-type"], "application/json");
        assert!(ids.insert(got.headers["ekiden-delivery"].clone()));
        let (time, signature) = got.headers["ekiden-signature"].split_once(',').unwrap();
        let signed = format!("{}.{}", time.strip_prefix("t=").unwrap(), got.body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let hex: String = hmac::sign(&key, signed.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(signature, format!("v1={hex}"));
    }
    // What came of the last is stored just after it was taken.
    let listed = eventually(async || {
        let listed = native(&world, "ListWebhookTargets", json!({})).await;
        let target = listed.unwrap()["Targets"][0].clone();
        (target["Delivered"] == 7).then_some(target)
    })
    .await;
    assert_eq!(listed["Lost"], 0);
    assert_eq!(listed["Endpoint"], format!("http://{}", receiver.address));
    assert!(!listed.to_string().contains("secret"), "{listed}");
    // Neither is in the database or the audit log as it is.
    for entry in walk(&world.dir.path().join("control")) {
        let bytes = std::fs::read(&entry).unwrap();
        for secret in [secret.as_str(), "very-secret-path"] {
            let is_there = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!is_there, "{}", entry.display());
        }
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        .filter(|path| path.is_file())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_made_again_and_holds_up_its_own_service_only() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    lead(
        &world,
        "ops",
        &receiver,
        json!({"source": ["aws.apprunner"]}),
    )
    .await;
    *receiver.refused_text.lock().unwrap() = Some("CreateServiceStarted\"".to_owned());
    world.create("held", "ok", 8080).await;
    eventually(async || {
        let listed = native(&world, "ListWebhookTargets", json!({}))
            .await
            .unwrap();
        let target = &listed["Targets"][0];
        (target["Waiting"] == 3 && target["Problem"].is_string()).then_some(())
    })
    .await;
    // Its events wait for the first; another's do not.
    *receiver.refused_text.lock().unwrap() = Some("\"held\"".to_owned());
    world.create("free", "ok", 8080).await;
    let free = |event: &Value| event["detail"]["serviceName"] == "free";
    receiver
        .until(|event| free(event) && status_is(event, "RUNNING"))
        .await;
    assert!(receiver.got().iter().all(|got| free(&got.event())));
    *receiver.refused_text.lock().unwrap() = None;
    receiver
        .until(|event| !free(event) && status_is(event, "RUNNING"))
        .await;
    let held: Vec<_> = receiver
        .got()
        .into_iter()
        .filter(|got| !free(&got.event()))
        .collect();
    assert_eq!(held.len(), 3);
    assert_eq!(
        held[0].event()["detail"]["operationStatus"],
        "CreateServiceStarted"
    );
    assert!(held[0].headers["ekiden-attempt"].parse::<u32>().unwrap() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_survives_a_restart() {
    let mut world = World::new().await;
    let receiver = Receiver::new().await;
    lead(
        &world,
        "ops",
        &receiver,
        json!({"source": ["aws.apprunner"]}),
    )
    .await;
    receiver.refuse.store(1, Ordering::SeqCst);
    let arn = world.create("shop", "ok", 8080).await.service.unwrap();
    world.settled(&arn.service_arn.unwrap()).await;
    world.restart().await;
    receiver.until(|event| status_is(event, "RUNNING")).await;
    let ids: Vec<_> = receiver
        .got()
        .iter()
        .map(|got| got.event()["id"].as_str().unwrap().to_owned())
        .collect();
    // At least once: an event that was taken as the control plane stopped may come again, with the same id.
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 3, "{ids:?}");
    world.restart().await;
    let rules = events(&world, "ListRules", json!({})).await.unwrap();
    assert_eq!(rules["Rules"][0]["Name"], "ops");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_clients_go_through_the_same_rules() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let pattern = json!({"source": ["shop"], "detail": {"total": [{"numeric": [">", 10]}]}});
    lead(&world, "orders", &receiver, pattern).await;
    let arn = native(&world, "ListWebhookTargets", json!({}))
        .await
        .unwrap();
    let arn = &arn["Targets"][0]["Arn"];
    let transformer = json!({
        "InputPathsMap": {"total": "$.detail.total"}, "InputTemplate": "{\"sum\": <total>, \"by\": \"<aws.events.rule-name>\"}",
    });
    let target = json!({"Id": "2", "Arn": arn, "InputTransformer": transformer});
    events(
        &world,
        "PutTargets",
        json!({"Rule": "orders", "Targets": [target]}),
    )
    .await
    .unwrap();
    let entry = |source: &str, detail: &str| json!({"Source": source, "DetailType": "order", "Detail": detail});
    let put = events(
        &world,
        "PutEvents",
        json!({"Entries": [
            entry("shop", r#"{"total": 11}"#),
            entry("shop", r#"{"total": 9}"#),
            entry("aws.apprunner", "{}"),
            entry("ekiden", "{}"),
            entry("shop", "[]"),
            entry("", "{}"),
        ]}),
    )
    .await
    .unwrap();
    assert_eq!(put["FailedEntryCount"], 4);
    let codes: Vec<_> = put["Entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["ErrorCode"].as_str().unwrap_or("-").to_owned())
        .collect();
    let not_theirs = "NotAuthorizedForSourceException";
    assert_eq!(
        codes,
        [
            "-",
            "-",
            not_theirs,
            not_theirs,
            "MalformedDetail",
            "InvalidArgument"
        ]
    );
    receiver.until(|event| event["sum"] == 11).await;
    let whole = receiver.until(|event| event["detail"]["total"] == 11).await;
    assert_eq!(whole["id"], put["Entries"][0]["EventId"]);
    let bodies: Vec<_> = receiver.got().into_iter().map(|got| got.body).collect();
    assert!(
        bodies.contains(&r#"{"sum": 11, "by": "orders"}"#.to_owned()),
        "{bodies:?}"
    );
    assert_eq!(bodies.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_targets_are_kept_as_event_bridge_keeps_them() {
    let world = World::new().await;
    let missing = code(events(&world, "PutRule", json!({"Name": "r"})).await);
    assert_eq!(missing.0, "ValidationException");
    let schedule = json!({"Name": "r", "ScheduleExpression": "rate(1 hour)"});
    let schedule = code(events(&world, "PutRule", schedule).await);
    assert!(schedule.1.contains("runs no schedules"), "{}", schedule.1);
    let wrong = json!({"Name": "r", "EventPattern": "{\"a\": {}}"});
    let wrong = code(events(&world, "PutRule", wrong).await);
    assert_eq!(wrong.0, "InvalidEventPatternException");
    assert!(wrong.1.contains("at `a`: empty objects"), "{}", wrong.1);
    let other_bus = json!({"Name": "r", "EventPattern": "{\"a\": [1]}", "EventBusName": "x"});
    let other_bus = code(events(&world, "PutRule", other_bus).await);
    assert_eq!(other_bus.0, "ResourceNotFoundException");

    let pattern = json!({"source": ["aws.apprunner"]}).to_string();
    let put = json!({"Name": "r", "EventPattern": pattern, "Description": "d",
        "Tags": [{"Key": "team", "Value": "web"}], "EventBusName": "default"});
    let arn = events(&world, "PutRule", put.clone()).await.unwrap();
    let arn = &arn["RuleArn"];
    assert_eq!(arn, "arn:aws:events:us-east-1:100000000001:rule/r");
    events(&world, "PutRule", put).await.unwrap();
    let told = events(&world, "DescribeRule", json!({"Name": "r"}))
        .await
        .unwrap();
    assert_eq!(
        told,
        json!({"Name": "r", "Arn": arn, "EventPattern": pattern, "State": "ENABLED", "Description": "d",
            "CreatedBy": "100000000001", "EventBusName": "default"})
    );
    let none = code(events(&world, "DescribeRule", json!({"Name": "none"})).await);
    assert_eq!(none.1, "Rule none does not exist on EventBus default.");
    events(&world, "DisableRule", json!({"Name": "r"}))
        .await
        .unwrap();
    let told = events(&world, "DescribeRule", json!({"Name": "r"}))
        .await
        .unwrap();
    assert_eq!(told["State"], "DISABLED");
    events(&world, "EnableRule", json!({"Name": "r"}))
        .await
        .unwrap();

    let tag = json!({"ResourceARN": arn, "Tags": [{"Key": "a", "Value": "b"}]});
    events(&world, "TagResource", tag).await.unwrap();
    let untag = json!({"ResourceARN": arn, "TagKeys": ["team", "none"]});
    events(&world, "UntagResource", untag).await.unwrap();
    let tags = events(&world, "ListTagsForResource", json!({"ResourceARN": arn})).await;
    assert_eq!(tags.unwrap(), json!({"Tags": [{"Key": "a", "Value": "b"}]}));

    let group = "arn:aws:logs:us-east-1:100000000001:log-group:/aws/events/mine";
    let gone = "arn:aws:events:us-east-1:100000000001:api-destination/none/1";
    let targets = json!([
        {"Id": "log", "Arn": group},
        {"Id": "sns", "Arn": "arn:aws:sns:us-east-1:100000000001:topic"},
        {"Id": "gone", "Arn": gone},
    ]);
    let put = events(
        &world,
        "PutTargets",
        json!({"Rule": "r", "Targets": targets}),
    )
    .await;
    let put = put.unwrap();
    assert_eq!(put["FailedEntryCount"], 2);
    assert_eq!(put["FailedEntries"][0]["TargetId"], "sns");
    let why = put["FailedEntries"][0]["ErrorMessage"].as_str().unwrap();
    assert!(why.contains("cannot send events to `sns`"), "{why}");
    let bad = json!([{"Id": "a", "Arn": group, "Input": "1", "InputPath": "$.a"}]);
    let bad = code(events(&world, "PutTargets", json!({"Rule": "r", "Targets": bad})).await);
    assert!(bad.1.contains("Only one of Input"), "{}", bad.1);
    let many: Vec<_> = (0..6)
        .map(|id| json!({"Id": id.to_string(), "Arn": group}))
        .collect();
    let many = code(events(&world, "PutTargets", json!({"Rule": "r", "Targets": many})).await);
    assert_eq!(many.0, "LimitExceededException");
    let listed = events(&world, "ListTargetsByRule", json!({"Rule": "r"}))
        .await
        .unwrap();
    assert_eq!(listed, json!({"Targets": [{"Id": "log", "Arn": group}]}));
    let names = events(&world, "ListRuleNamesByTarget", json!({"TargetArn": group})).await;
    assert_eq!(names.unwrap(), json!({"RuleNames": ["r"]}));

    let in_use = code(events(&world, "DeleteRule", json!({"Name": "r"})).await);
    assert_eq!(in_use.1, "Rule can't be deleted since it has targets.");
    let remove = json!({"Rule": "r", "Ids": ["log", "none"]});
    events(&world, "RemoveTargets", remove).await.unwrap();
    events(&world, "DeleteRule", json!({"Name": "r"}))
        .await
        .unwrap();
    events(&world, "DeleteRule", json!({"Name": "r"}))
        .await
        .unwrap();
    let none = code(events(&world, "RemoveTargets", json!({"Rule": "r", "Ids": ["a"]})).await);
    assert_eq!(none.0, "ResourceNotFoundException");

    let bus = events(&world, "DescribeEventBus", json!({})).await.unwrap();
    assert_eq!(bus["Name"], "default");
    let buses = events(&world, "ListEventBuses", json!({"NamePrefix": "x"})).await;
    assert_eq!(buses.unwrap(), json!({"EventBuses": []}));
    let event = json!({"id": "1", "account": "1", "source": "s", "time": "t", "region": "r", "resources": [],
        "detail-type": "d"});
    let test =
        |pattern: &str, event: &Value| json!({"EventPattern": pattern, "Event": event.to_string()});
    let tested = events(
        &world,
        "TestEventPattern",
        test("{\"source\": [\"s\"]}", &event),
    )
    .await;
    assert_eq!(tested.unwrap(), json!({"Result": true}));
    let incomplete = test("{\"source\": [\"s\"]}", &json!({"id": "1"}));
    let incomplete = code(events(&world, "TestEventPattern", incomplete).await);
    assert!(
        incomplete.1.contains("account is a required"),
        "{}",
        incomplete.1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_rules_have_pages() {
    let world = World::new().await;
    for number in 0..5 {
        put_rule(&world, &format!("r{number}"), json!({"source": ["a"]})).await;
    }
    let mut names = Vec::new();
    let mut request = json!({"Limit": 2, "NamePrefix": "r"});
    loop {
        let page = events(&world, "ListRules", request.clone()).await.unwrap();
        for rule in page["Rules"].as_array().unwrap() {
            names.push(rule["Name"].as_str().unwrap().to_owned());
        }
        let Some(token) = page.get("NextToken") else {
            break;
        };
        request["NextToken"] = token.clone();
    }
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4"]);
    let other = json!({"NextToken": request["NextToken"], "NamePrefix": "other"});
    assert_eq!(
        code(events(&world, "ListRules", other).await).0,
        "ValidationException"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_keep_their_secret_until_a_new_one_is_wanted_and_are_tested() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let put = |more: Value| {
        let mut request = json!({"Name": "ops", "Url": receiver.url()});
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        native(&world, "PutWebhookTarget", request)
    };
    let first = put(json!({})).await.unwrap();
    let second = put(json!({})).await.unwrap();
    assert_eq!(first["Arn"], second["Arn"]);
    assert!(first["Secret"].is_string() && second.get("Secret").is_none());
    let third = put(json!({"NewSecret": true})).await.unwrap();
    assert_ne!(first["Secret"], third["Secret"]);
    for url in ["", "ftp://a", "http://a:b@c/"] {
        assert!(
            code(put(json!({"Url": url})).await).1.contains("Url"),
            "{url}"
        );
    }
    assert!(
        code(put(json!({"Name": "a b"})).await)
            .1
            .contains("letters")
    );
    let tested = native(&world, "TestWebhookTarget", json!({"Name": "ops"})).await;
    assert_eq!(tested.unwrap(), json!({"Delivered": true}));
    assert_eq!(receiver.got()[0].event()["detail-type"], "Ekiden Test");
    receiver.refuse.store(1, Ordering::SeqCst);
    let tested = native(&world, "TestWebhookTarget", json!({"Name": "ops"}))
        .await
        .unwrap();
    assert_eq!(tested["Delivered"], false);
    assert!(
        tested["Problem"].as_str().unwrap().contains("503"),
        "{tested}"
    );

    put_rule(&world, "r", json!({"source": ["a"]})).await;
    let target = json!([{"Id": "1", "Arn": first["Arn"]}]);
    events(
        &world,
        "PutTargets",
        json!({"Rule": "r", "Targets": target}),
    )
    .await
    .unwrap();
    let in_use = code(native(&world, "DeleteWebhookTarget", json!({"Name": "ops"})).await);
    assert_eq!(in_use.0, "InvalidStateException");
    events(&world, "RemoveTargets", json!({"Rule": "r", "Ids": ["1"]}))
        .await
        .unwrap();
    native(&world, "DeleteWebhookTarget", json!({"Name": "ops"}))
        .await
        .unwrap();
    let gone = code(native(&world, "DeleteWebhookTarget", json!({"Name": "ops"})).await);
    assert_eq!(gone.0, "ResourceNotFoundException");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deployment_is_an_alert_until_the_next_one_succeeds() {
    let mut world = World::new().await;
    let receiver = Receiver::new().await;
    lead(
        &world,
        "alerts",
        &receiver,
        json!({"source": ["ekiden"], "detail": {"alert": ["DEPLOYMENT_FAILED"]}}),
    )
    .await;
    let created = world.create("shop", "ok", 8080).await.service.unwrap();
    let arn = created.service_arn.unwrap();
    world.settled(&arn).await;
    world.update_image(&arn, "missing", 8080).await;
    let raised = receiver
        .until(|event| event["detail"]["state"] == "RAISED")
        .await;
    assert_eq!(raised["detail-type"], "Ekiden Alert");
    assert_eq!(raised["detail"]["alert"], "DEPLOYMENT_FAILED");
    assert_eq!(raised["detail"]["serviceName"], "shop");
    assert_eq!(raised["resources"], json!([arn]));
    world.restart().await;
    let alert = &alerts_of_services(&world).await[0];
    assert_eq!(
        (&alert["Kind"], &alert["ServiceArn"]),
        (&json!("DEPLOYMENT_FAILED"), &json!(arn))
    );
    world.settled(&arn).await;
    world.update_image(&arn, "ok", 8080).await;
    receiver
        .until(|event| event["detail"]["state"] == "CLEARED")
        .await;
    assert_eq!(alerts_of_services(&world).await, [] as [Value; 0]);
    // One that was taken as the control plane stopped may come again.
    let got = receiver.got();
    let ids: HashSet<_> = got
        .iter()
        .map(|got| &got.headers["ekiden-delivery"])
        .collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_group_gets_events_once() {
    let mut world = World::new().await;
    put_rule(&world, "r", json!({"source": [{"prefix": ""}]})).await;
    let group = "/aws/events/mine";
    let arn = format!("arn:aws:logs:us-east-1:100000000001:log-group:{group}");
    let target = json!([{"Id": "1", "Arn": arn, "InputPath": "$.detail"}]);
    events(
        &world,
        "PutTargets",
        json!({"Rule": "r", "Targets": target}),
    )
    .await
    .unwrap();
    for number in 0..3 {
        let detail = json!({"number": number}).to_string();
        let entry = json!({"Source": "mine", "DetailType": "t", "Detail": detail});
        let put = events(&world, "PutEvents", json!({"Entries": [entry]})).await;
        assert_eq!(put.unwrap()["FailedEntryCount"], 0);
    }
    let texts = async |world: &World| -> Vec<String> {
        let filter = json!({"logGroupName": group});
        // There is none before the first event.
        let found: Result<Value, _> = world.call("Logs_20140328.FilterLogEvents", &filter).await;
        let found = found.unwrap_or_else(|_| json!({"events": []}));
        let events = found["events"].as_array().unwrap();
        events
            .iter()
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect()
    };
    // What was not written yet is by the next start, and what was is not again.
    for _ in 0..3 {
        world.restart().await;
        eventually(async || (texts(&world).await.len() >= 3).then_some(())).await;
        assert_eq!(
            texts(&world).await,
            [r#"{"number":0}"#, r#"{"number":1}"#, r#"{"number":2}"#]
        );
    }
}

/// The disk of the host that runs the tests may be nearly full.
async fn alerts_of_services(world: &World) -> Vec<Value> {
    let listed = native(world, "ListAlerts", json!({})).await.unwrap();
    let mut alerts = listed["Alerts"].as_array().unwrap().clone();
    alerts.retain(|alert| alert["ServiceArn"].is_string());
    alerts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_whose_state_changes_is_an_event() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    lead(
        &world,
        "pager",
        &receiver,
        json!({"source": ["aws.cloudwatch"], "detail": {"state": {"value": ["ALARM"]}}}),
    )
    .await;
    let cloudwatch = async |operation: &str, input: Value| {
        let answer: Value = world
            .call(
                &format!("GraniteServiceVersion20100801.{operation}"),
                &input,
            )
            .await
            .unwrap();
        answer
    };
    let alarm = json!({
        "AlarmName": "failures", "AlarmDescription": "too many", "Namespace": "Own", "MetricName": "failures",
        "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 5.0,
        "ComparisonOperator": "GreaterThanThreshold",
    });
    cloudwatch("PutMetricAlarm", alarm).await;
    for state in ["OK", "ALARM"] {
        let set = json!({"AlarmName": "failures", "StateValue": state, "StateReason": "a test"});
        cloudwatch("SetAlarmState", set).await;
    }
    let event = receiver.until(|_| true).await;
    assert_eq!(event["detail-type"], "CloudWatch Alarm State Change");
    assert_eq!(event["detail"]["alarmName"], "failures");
    assert_eq!(event["detail"]["previousState"]["value"], "OK");
    assert_eq!(event["detail"]["state"]["reason"], "a test");
    assert_eq!(event["detail"]["configuration"]["description"], "too many");
    let arn = event["resources"][0].as_str().unwrap();
    assert!(arn.ends_with(":alarm:failures"), "{arn}");
    assert_eq!(receiver.got().len(), 1);
}

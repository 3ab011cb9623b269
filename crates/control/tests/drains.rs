//! Drains as their owners see them: what arrives, and what is said of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use ekiden_aws::{client::ClientError, native};
use ekiden_model::id::InstanceId;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::support::{World, eventually};

/// Takes JSON over HTTP, or refuses it.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

struct Seen {
    /// What every request is answered; what was in it counts if that is 200.
    status: AtomicU16,
    /// How long an answer takes.
    delay_ms: AtomicU64,
    requests: AtomicU64,
    lines: Mutex<Vec<Value>>,
    authorization: Mutex<Option<String>>,
}

impl Seen {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            status: AtomicU16::new(200),
            delay_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            lines: Mutex::default(),
            authorization: Mutex::default(),
        })
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// How often each text arrived, of lines that begin so.
    fn texts(&self, prefix: &str) -> BTreeMap<String, usize> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = BTreeMap::new();
        for line in lines.iter() {
            let text = line["message"].as_str().unwrap();
            if text.starts_with(prefix) {
                *texts.entry(text.to_owned()).or_default() += 1;
            }
        }
        texts
    }
}

impl Receiver {
    async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), Seen::new()).await
    }

    async fn at(address: SocketAddr, seen: Arc<Seen>) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(accept(listener, Arc::clone(&seen)));
        Self {
            address,
            seen,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/logs", self.address)
    }

    /// Ends it with its connections; what it saw stays.
    async fn end(self) -> (SocketAddr, Arc<Seen>) {
        self.task.abort();
        let _ = self.task.await;
        (self.address, self.seen)
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            let _ = serve(stream, &seen).await;
        });
    }
}

async fn serve(stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut head) = (0, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.parse().unwrap(),
                    "authorization" => {
                        *seen.authorization.lock().unwrap() = Some(value.to_owned());
                    }
                    _ => {}
                }
            }
            head.push_str(line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let status = seen.status.load(Ordering::SeqCst);
        if status == 200 {
            let lines: Vec<Value> = serde_json::from_slice(&body).unwrap();
            seen.lines.lock().unwrap().extend(lines);
        }
        seen.requests.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(seen.delay_ms.load(Ordering::SeqCst))).await;
        let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn put(world: &World, request: Value) -> Result<native::Drain, ClientError> {
    let answer: native::PutDrainResponse = world.call("Ekiden.PutDrain", &request).await?;
    Ok(answer.drain)
}

/// A drain to the receiver that has only what services print.
async fn put_to(world: &World, receiver: &Receiver, more: Value) -> native::Drain {
    let target = json!({ "type": "http", "url": receiver.url() });
    let mut request = json!({
        "Name": "mine", "Target": target.to_string(), "Kinds": ["application"],
    });
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    put(world, request).await.unwrap()
}

async fn list(world: &World) -> Vec<native::Drain> {
    let answer: native::ListDrainsResponse =
        world.call("Ekiden.ListDrains", &json!({})).await.unwrap();
    answer.drains
}

async fn status(world: &World) -> native::DrainStatus {
    list(world).await.remove(0).status
}

async fn in_state(world: &World, state: &str) -> native::DrainStatus {
    eventually(async || {
        let status = status(world).await;
        (status.state == state).then_some(status)
    })
    .await
}

/// A service that runs, its ARN and its instance.
async fn service(world: &World, name: &str) -> (String, InstanceId) {
    // Tests run side by side in processes of their own, and their engines have the same addresses.
    let port = 20_000 + (std::process::id() % 10_000) as u16;
    let created = world.create(name, "ok", port).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let request = native::ListInstancesRequest {
        service_arn: Some(arn.clone()),
    };
    let answer: native::ListInstancesResponse =
        world.call("Ekiden.ListInstances", &request).await.unwrap();
    let instance = answer.instances[0].instance_id.parse().unwrap();
    (arn, instance)
}

fn numbered(prefix: &str, from: usize, to: usize) -> Vec<String> {
    (from..to)
        .map(|number| format!("{prefix} {number:06}"))
        .collect()
}

async fn all_arrive(seen: &Seen, wanted: &[String], prefix: &str) {
    let wanted: BTreeSet<&String> = wanted.iter().collect();
    eventually(async || (seen.texts(prefix).len() >= wanted.len()).then_some(())).await;
    assert_eq!(seen.texts(prefix).keys().collect::<BTreeSet<_>>(), wanted);
}

fn each_once(seen: &Seen, prefix: &str) {
    let twice: Vec<_> = seen
        .texts(prefix)
        .into_iter()
        .filter(|(_, count)| *count != 1)
        .collect();
    assert_eq!(twice, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_calm_every_line_arrives_once_with_what_it_is_of() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let (first_arn, first) = service(&world, "first").await;
    let (_, second) = service(&world, "second").await;
    put_to(&world, &receiver, json!({})).await;
    for burst in 0..10 {
        world
            .engine
            .write(first, numbered("one", burst * 300, (burst + 1) * 300));
        world
            .engine
            .write(second, numbered("two", burst * 50, (burst + 1) * 50));
        tokio::time::sleep(Duration::from_millis(150)).await;
        if burst == 5 {
            world.restart().await;
        }
    }
    all_arrive(&receiver.seen, &numbered("one", 0, 3000), "one").await;
    all_arrive(&receiver.seen, &numbered("two", 0, 500), "two").await;
    each_once(&receiver.seen, "");
    {
        let lines = receiver.seen.lines.lock().unwrap();
        let of_first: Vec<_> = lines
            .iter()
            .filter(|line| line["service"] == "first")
            .collect();
        let texts: Vec<_> = of_first
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect();
        assert!(texts.is_sorted(), "in the order in which they were written");
        let line = of_first[0];
        assert_eq!(line["service_arn"], first_arn);
        assert_eq!(line["instance"], first.to_string());
        assert_eq!(line["kind"], "application");
        assert!(line["sequence"].as_u64().unwrap() > 0);
    }
    let status = eventually(async || {
        let status = status(&world).await;
        (status.behind_lines == 0).then_some(status)
    })
    .await;
    assert_eq!(
        (status.state.as_str(), status.behind_seconds),
        ("RUNNING", 0)
    );
    assert!(status.lines_sent > 0 && status.bytes_sent > 0 && status.last_success_at.is_some());
    assert_eq!((status.lines_rejected, status.lines_lost), (0, 0));
    assert_eq!(status.last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_begins_with_what_comes_or_at_the_beginning() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let (_, instance) = service(&world, "website").await;
    let all = Receiver::start().await;
    let target = json!({ "type": "http", "url": all.url() }).to_string();
    let from_beginning = json!({ "Name": "all", "Target": target, "FromBeginning": true });
    world.engine.write(instance, numbered("old", 0, 10));
    put(&world, from_beginning).await.unwrap();
    all_arrive(&all.seen, &numbered("old", 0, 10), "old").await;
    // What happened to the service as well: the kinds that are sent when none are named.
    eventually(async || {
        let lines = all.seen.lines.lock().unwrap();
        lines
            .iter()
            .any(|line| line["kind"] == "service")
            .then_some(())
    })
    .await;
    put_to(&world, &receiver, json!({})).await;
    world.engine.write(instance, numbered("new", 0, 10));
    all_arrive(&receiver.seen, &numbered("new", 0, 10), "new").await;
    assert_eq!(receiver.seen.texts("old"), BTreeMap::new());
    // A service that is made later is sent whole.
    let (_, later) = service(&world, "later").await;
    world.engine.write(later, numbered("later", 0, 10));
    all_arrive(&receiver.seen, &numbered("later", 0, 10), "later").await;
    all_arrive(&all.seen, &numbered("later", 0, 10), "later").await;
    each_once(&all.seen, "old");
    each_once(&all.seen, "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_one_service_sends_that_one_only() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let (arn, mine) = service(&world, "mine").await;
    let (_, other) = service(&world, "other").await;
    let drain = put_to(&world, &receiver, json!({ "ServiceArn": arn })).await;
    assert_eq!(drain.service_arn, Some(arn));
    world.engine.write(other, numbered("other", 0, 10));
    world.engine.write(mine, numbered("mine", 0, 10));
    all_arrive(&receiver.seen, &numbered("mine", 0, 10), "mine").await;
    // Now of all: those that are new to it begin now.
    put_to(&world, &receiver, json!({})).await;
    world.engine.write(other, numbered("more", 0, 10));
    world.engine.write(mine, numbered("mine", 10, 20));
    all_arrive(&receiver.seen, &numbered("more", 0, 10), "more").await;
    all_arrive(&receiver.seen, &numbered("mine", 0, 20), "mine").await;
    assert_eq!(receiver.seen.texts("other"), BTreeMap::new());
    each_once(&receiver.seen, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_missed_waits_for_it() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let (_, instance) = service(&world, "website").await;
    put_to(&world, &receiver, json!({})).await;
    world.engine.write(instance, numbered("n", 0, 100));
    all_arrive(&receiver.seen, &numbered("n", 0, 100), "n").await;
    // The receiver's answer has arrived as well.
    eventually(async || (status(&world).await.behind_lines == 0).then_some(())).await;
    let (address, seen) = receiver.end().await;
    world.engine.write(instance, numbered("n", 100, 3000));
    let failing = in_state(&world, "RETRYING").await;
    assert!(failing.last_error.is_some() && failing.retry_at.is_some());
    eventually(async || {
        let status = status(&world).await;
        (status.behind_lines == 2900 && status.behind_seconds >= 1).then_some(())
    })
    .await;
    // The control plane ends meanwhile: it is known how far it was.
    world.restart().await;
    world.engine.write(instance, numbered("n", 3000, 3100));
    let receiver = Receiver::at(address, seen).await;
    all_arrive(&receiver.seen, &numbered("n", 0, 3100), "n").await;
    each_once(&receiver.seen, "n");
    in_state(&world, "RUNNING").await;
    // Not now, says the receiver.
    receiver.seen.answer(503);
    world.engine.write(instance, numbered("n", 3100, 3200));
    let status = in_state(&world, "RETRYING").await;
    assert!(status.last_error.unwrap().contains("503"));
    receiver.seen.answer(200);
    all_arrive(&receiver.seen, &numbered("n", 0, 3200), "n").await;
    each_once(&receiver.seen, "n");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_control_stops_in_the_middle() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let (_, instance) = service(&world, "website").await;
    put_to(&world, &receiver, json!({})).await;
    // Longer than a stop waits: it is not known whether the lines arrived.
    receiver.seen.delay_ms.store(5000, Ordering::SeqCst);
    world.engine.write(instance, numbered("n", 0, 1500));
    eventually(async || (receiver.seen.requests() > 0).then_some(())).await;
    world.stop().await;
    world.engine.write(instance, numbered("n", 1500, 1600));
    receiver.seen.delay_ms.store(0, Ordering::SeqCst);
    world.start().await;
    all_arrive(&receiver.seen, &numbered("n", 0, 1600), "n").await;
    let sent: usize = receiver.seen.texts("n").values().sum();
    assert!(sent > 1600, "the first batch came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_from_the_first_loses_nothing() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.seen.answer(404);
    let (_, instance) = service(&world, "website").await;
    put_to(&world, &receiver, json!({})).await;
    world.engine.write(instance, numbered("n", 0, 100));
    let status = in_state(&world, "PAUSED").await;
    assert!(status.last_error.unwrap().contains("404"));
    assert_eq!(status.lines_rejected, 0);
    // Whoever mends the target need not wait: the drain goes on at once.
    receiver.seen.answer(200);
    put_to(&world, &receiver, json!({})).await;
    all_arrive(&receiver.seen, &numbered("n", 0, 100), "n").await;
    each_once(&receiver.seen, "n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_left_out_and_counted_but_not_everything() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let (_, instance) = service(&world, "website").await;
    put_to(&world, &receiver, json!({})).await;
    world.engine.write(instance, numbered("good", 0, 10));
    all_arrive(&receiver.seen, &numbered("good", 0, 10), "good").await;
    // That it was taken once is remembered.
    world.restart().await;
    receiver.seen.answer(400);
    for round in 1..=4 {
        world
            .engine
            .write(instance, numbered("bad", round * 10, round * 10 + 10));
        eventually(async || {
            let status = status(&world).await;
            (status.lines_rejected == round as u64 * 10).then_some(())
        })
        .await;
    }
    world.engine.write(instance, numbered("held", 0, 10));
    let status = in_state(&world, "PAUSED").await;
    assert_eq!(status.lines_rejected, 40);
    assert_eq!(status.behind_lines, 10);
    receiver.seen.answer(200);
    all_arrive(&receiver.seen, &numbered("held", 0, 10), "held").await;
    assert_eq!(receiver.seen.texts("bad"), BTreeMap::new());
    in_state(&world, "RUNNING").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_of_a_deleted_service_arrive() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let (arn, instance) = service(&world, "website").await;
    put_to(&world, &receiver, json!({})).await;
    receiver.seen.answer(503);
    world.engine.write(instance, numbered("n", 0, 100));
    in_state(&world, "RETRYING").await;
    world.simple("DeleteService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "DELETED");
    receiver.seen.answer(200);
    all_arrive(&receiver.seen, &numbered("n", 0, 100), "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_drain_sends_later_what_it_did_not() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let (_, instance) = service(&world, "website").await;
    let drain = put_to(&world, &receiver, json!({ "Enabled": false })).await;
    assert_eq!(drain.status.state, "DISABLED");
    let other = Receiver::start().await;
    put_to(&world, &other, json!({ "Name": "other" })).await;
    world.engine.write(instance, numbered("n", 0, 100));
    // By then it would have been sent them too.
    all_arrive(&other.seen, &numbered("n", 0, 100), "n").await;
    assert_eq!(receiver.seen.requests(), 0);
    let _: native::DeleteDrainResponse = world
        .call("Ekiden.DeleteDrain", &json!({ "Name": "other" }))
        .await
        .unwrap();
    put_to(&world, &receiver, json!({})).await;
    all_arrive(&receiver.seen, &numbered("n", 0, 100), "n").await;
    let _: native::DeleteDrainResponse = world
        .call("Ekiden.DeleteDrain", &json!({ "Name": "mine" }))
        .await
        .unwrap();
    assert!(list(&world).await.is_empty());
    let gone = world
        .call::<_, Value>("Ekiden.DeleteDrain", &json!({ "Name": "mine" }))
        .await;
    assert_eq!(gone.unwrap_err().code(), Some("ResourceNotFoundException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_to_the_receiver_and_nowhere_else() {
    const SECRET: &str = "Bearer mouse-and-cheese";
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let (_, instance) = service(&world, "website").await;
    let secrets = json!({ "headers": { "authorization": SECRET } }).to_string();
    let drain = put_to(&world, &receiver, json!({ "Secrets": secrets })).await;
    assert_eq!(drain.secret_names, ["headers.authorization"]);
    // Other settings, the same secrets.
    put_to(
        &world,
        &receiver,
        json!({ "Kinds": ["application", "access"] }),
    )
    .await;
    world.restart().await;
    world.engine.write(instance, numbered("n", 0, 10));
    all_arrive(&receiver.seen, &numbered("n", 0, 10), "n").await;
    assert_eq!(
        receiver.seen.authorization.lock().unwrap().as_deref(),
        Some(SECRET)
    );
    let shown: Value = world.call("Ekiden.ListDrains", &json!({})).await.unwrap();
    assert!(!shown.to_string().contains("mouse"));
    let wrong = json!({ "headers": "mouse" }).to_string();
    let target = json!({ "type": "http", "url": receiver.url() }).to_string();
    for secrets in [wrong, "mouse".to_owned(), json!({ "mouse": 1 }).to_string()] {
        let request = json!({ "Name": "x", "Target": target, "Secrets": secrets });
        let refused = put(&world, request).await.unwrap_err();
        assert!(!refused.to_string().contains("mouse"), "{refused}");
    }
    world.stop().await;
    let mut files = vec![world.dir.path().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(5).any(|window| window == b"mouse");
            assert!(!found, "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_what_came_of_it() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    put_to(&world, &receiver, json!({ "Enabled": false })).await;
    let test = async || -> native::TestDrainResponse {
        let request = json!({ "Name": "mine" });
        world.call("Ekiden.TestDrain", &request).await.unwrap()
    };
    let taken = test().await;
    assert!(taken.taken, "{taken:?}");
    assert_eq!(
        receiver
            .seen
            .texts("[Ekiden] This is a test of the drain mine.")
            .len(),
        1
    );
    receiver.seen.answer(403);
    let refused = test().await;
    assert!(!refused.taken && refused.message.unwrap().contains("403"));
    receiver.end().await;
    let unreachable = test().await;
    assert!(!unreachable.taken && unreachable.message.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_drain_is_refused_with_a_reason() {
    let world = World::new().await;
    let http = json!({ "type": "http", "url": "http://127.0.0.1:9/" }).to_string();
    for (request, reason) in [
        (json!({ "Name": "", "Target": http }), "Name must be"),
        (json!({ "Name": "a b", "Target": http }), "Name must be"),
        (
            json!({ "Name": "a", "Target": "nonsense" }),
            "must be a JSON document",
        ),
        (
            json!({ "Name": "a", "Target": r#"{"type":"pigeon"}"# }),
            "pigeon",
        ),
        (
            json!({ "Name": "a", "Target": r#"{"type":"http","url":"ftp://x"}"# }),
            "url",
        ),
        (
            json!({ "Name": "a", "Target": r#"{"type":"http","url":"http://x","nest":1}"# }),
            "nest",
        ),
        (
            json!({ "Name": "a", "Target": r#"{"type":"s3","bucket":"logs"}"# }),
            "access_key_id",
        ),
        (
            json!({ "Name": "a", "Target": http, "Kinds": [] }),
            "Kinds must have",
        ),
        (
            json!({ "Name": "a", "Target": http, "Kinds": ["build"] }),
            "Kinds must have",
        ),
        (
            json!({ "Name": "a", "Target": http, "Secrets": r#"{"shared_key":"k"}"# }),
            "shared_key",
        ),
        (
            json!({ "Name": "a", "Target": http, "ServiceArn": "arn:x" }),
            "service ARN",
        ),
    ] {
        let refused = put(&world, request.clone()).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Some("InvalidRequestException"),
            "{request}: {refused}"
        );
        assert!(refused.to_string().contains(reason), "{request}: {refused}");
    }
    assert!(list(&world).await.is_empty());
    for number in 0..100 {
        let request = json!({ "Name": format!("d{number}"), "Target": http, "Enabled": false });
        put(&world, request).await.unwrap();
    }
    let full = put(&world, json!({ "Name": "more", "Target": http }))
        .await
        .unwrap_err();
    assert_eq!(full.code(), Some("ServiceQuotaExceededException"));
    // One that is there may be changed.
    put(
        &world,
        json!({ "Name": "d7", "Target": http, "Enabled": false }),
    )
    .await
    .unwrap();
}

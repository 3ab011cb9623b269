//! What the API costs. A measurement and not a test: it prints, and is only run when asked for:
//!
//! ```sh
//! cargo test --release -p ekiden-control --test measure -- --ignored --nocapture
//! ```

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ekiden_aws::{
    epoch_seconds::EpochSeconds,
    sigv4::{
        credentials::{Credentials, SecretAccessKey},
        signer::sign,
    },
};
use http::Request;
use support::World;

/// Requests that are measured, after as many that are not.
const REQUESTS: u32 = 5000;

/// One thread runs the whole control plane here, and the client another, which sends one signed
/// request again and again: the first thread's time is the API's.
#[tokio::test]
#[ignore = "a measurement, for a quiet machine"]
async fn one_signed_describe_service() {
    let world = World::new().await;
    let created = world.create("web1", "ok", 7000).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    world.settled(&arn).await;
    let request = signed(&world, &format!("{{\"ServiceArn\":\"{arn}\"}}"));
    let address = world.address();
    for measured in [false, true] {
        let request = request.clone();
        let (began, cpu) = (Instant::now(), thread_cpu());
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            for _ in 0..REQUESTS {
                stream.write_all(&request).unwrap();
                read_answer(&mut stream);
            }
        });
        client.await.unwrap();
        if measured {
            println!(
                "DescribeService: {:?} of CPU, {:?} in all, per request",
                (thread_cpu() - cpu) / REQUESTS,
                began.elapsed() / REQUESTS
            );
        }
    }
}

fn signed(world: &World, body: &str) -> Vec<u8> {
    let text = std::fs::read(world.dir.path().join("control/admin-key.json")).unwrap();
    let key: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let credentials = Credentials {
        access_key_id: key["access_key_id"].as_str().unwrap().to_owned(),
        secret_access_key: SecretAccessKey::new(key["secret_access_key"].as_str().unwrap()),
        session_token: None,
    };
    let request = Request::post("/")
        .header("host", world.address().to_string())
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AppRunner.DescribeService");
    let mut parts = request.body(()).unwrap().into_parts().0;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = EpochSeconds(now.as_secs());
    sign(
        &mut parts,
        body.as_bytes(),
        &credentials,
        "us-east-1",
        "apprunner",
        now,
    )
    .unwrap();
    let mut head = "POST / HTTP/1.1\r\n".to_owned();
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn read_answer(stream: &mut TcpStream) {
    let (mut answer, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the connection ended");
        answer.extend_from_slice(&part[..count]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let (_, rest) = head.split_once("content-length: ").unwrap();
        let length: usize = rest.lines().next().unwrap().parse().unwrap();
        if answer.len() == end + 4 + length {
            return;
        }
    }
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

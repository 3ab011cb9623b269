//! Health probes: how a question is put to an instance. What the answers mean is decided in
//! `ekiden_model::health`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ekiden_model::{
    health::{ANSWERED, Health, HealthCheck, HealthProtocol, ProbeResult, Verdict},
    instance::Activity,
    time::Timestamp,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::clock;

/// How much of an answer is read to find its status line.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Headers that an answer to a probe may have.
const HEADERS_MAX: usize = 64;

/// The probes of one instance; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Prober {
    health: watch::Receiver<Health>,
    activity: watch::Sender<Activity>,
    task: AbortHandle,
}

impl Prober {
    /// Begins to probe an instance that has run since `started_at`. `changed` is notified when the
    /// verdict changes, or whether it fails, not at every result.
    pub(crate) fn start(
        check: HealthCheck,
        address: SocketAddr,
        started_at: Timestamp,
        health: Health,
        changed: Arc<Notify>,
    ) -> Self {
        let (sender, receiver) = watch::channel(health);
        let (activity, rest) = watch::channel(Activity::Active);
        let probing = probe_forever(check, address, started_at, sender, changed, rest);
        let task = tokio::spawn(probing);
        Self {
            health: receiver,
            activity,
            task: task.abort_handle(),
        }
    }

    /// How much the instance may do from now on. Frozen it is let be: what is believed of it stays, and a
    /// probe on its way says nothing. Throttled it is not condemned.
    pub(crate) fn set_activity(&self, activity: Activity) {
        self.activity
            .send_if_modified(|now| std::mem::replace(now, activity) != activity);
    }

    /// What is believed now.
    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        // A probe holds nothing but its own connection; dropping it in the middle loses nothing.
        self.task.abort();
    }
}

async fn probe_forever(
    check: HealthCheck,
    address: SocketAddr,
    started_at: Timestamp,
    health: watch::Sender<Health>,
    changed: Arc<Notify>,
    mut activity: watch::Receiver<Activity>,
) {
    loop {
        let probed = tokio::select! {
            // A probe holds nothing but its own connection.
            biased;
            _ = activity.wait_for(|now| *now == Activity::Frozen) => None,
            result = probe(&check, address) => Some(result),
        };
        let Some(result) = probed else {
            if activity
                .wait_for(|now| *now != Activity::Frozen)
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(check.interval).await;
            continue;
        };
        let mut moved = false;
        health.send_modify(|health| {
            // Whoever starts fails until it does not: that is no news.
            let news = |health: &Health| {
                (
                    health.verdict,
                    health.verdict == Verdict::Healthy && health.is_failing(),
                )
            };
            let before = news(health);
            match *activity.borrow() {
                Activity::Throttled => health.record_throttled(&check, result),
                _ => health.record(&check, result),
            }
            moved = before != news(health);
        });
        if moved {
            changed.notify_one();
        }
        let wait = health
            .borrow()
            .next_probe_in(&check, started_at, clock::now());
        tokio::time::sleep(wait).await;
    }
}

/// Asks once, within the check's timeout.
async fn probe(check: &HealthCheck, address: SocketAddr) -> ProbeResult {
    let asked = async {
        let connection = TcpStream::connect(address)
            .await
            .map_err(|error| connect_error(&error))?;
        match &check.protocol {
            HealthProtocol::Tcp => Ok(()),
            HealthProtocol::Http { path } => get(connection, path, address).await,
        }
    };
    match tokio::time::timeout(check.timeout, asked).await {
        Ok(Ok(())) => ProbeResult::Passed,
        Ok(Err(reason)) => ProbeResult::Failed(reason),
        Err(_) => ProbeResult::Failed(format!("no answer within {}", seconds(check.timeout))),
    }
}

fn connect_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens on the port".to_owned()
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "the instance cannot be reached".to_owned()
        }
        _ => error.to_string(),
    }
}

/// `GET path`, with no more of HTTP than a probe needs: the status decides, the rest is not read.
async fn get(mut stream: TcpStream, path: &str, address: SocketAddr) -> Result<(), String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: ekiden-health-check\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    match read_status(&mut stream).await? {
        200..=399 => Ok(()),
        status => Err(format!("{ANSWERED} {status}")),
    }
}

async fn read_status(stream: &mut TcpStream) -> Result<u16, String> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&head);
        if let (Ok(_), Some(status)) = (&parsed, response.code) {
            return Ok(status);
        }
        if let Err(error) = parsed {
            return Err(format!("the answer is not HTTP: {error}"));
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Err("the answer has no end of its head".to_owned());
        }
        match stream.read_buf(&mut head).await {
            Ok(0) => return Err("the connection was closed without an answer".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answer_with(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a probe connects");
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        });
        address
    }

    fn http() -> HealthCheck {
        let protocol = HealthProtocol::Http { path: "/up".into() };
        HealthCheck {
            protocol,
            ..HealthCheck::default()
        }
    }

    #[track_caller]
    fn failed(result: ProbeResult, want: &str) {
        match result {
            ProbeResult::Failed(reason) => assert!(reason.contains(want), "{reason}"),
            ProbeResult::Passed => panic!("passed, not: {want}"),
        }
    }

    #[tokio::test]
    async fn status_200_to_399_passes() {
        let ok = answer_with(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(probe(&http(), ok).await, ProbeResult::Passed);
        let moved = answer_with(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n").await;
        assert_eq!(probe(&http(), moved).await, ProbeResult::Passed);
    }

    #[tokio::test]
    async fn failures_say_what_was_seen() {
        let broken = answer_with(b"HTTP/1.1 503 No\r\n\r\n").await;
        failed(probe(&http(), broken).await, "status 503");
        failed(
            probe(&http(), answer_with(b"").await).await,
            "closed without an answer",
        );
        failed(
            probe(&http(), answer_with(b"SSH-2.0-x\r\n").await).await,
            "not HTTP",
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let free = listener
            .local_addr()
            .expect("a bound socket has an address");
        drop(listener);
        failed(
            probe(&HealthCheck::default(), free).await,
            "connection refused",
        );
    }
}

//! Syslog and the Forward protocol, against receivers that are well, slow, down or out of their minds.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "each test program uses a part")]
mod receivers;

use std::{sync::Arc, time::Duration};

use receivers::{drain, lines, nobody, none, retry};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls};

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn syslog(port: u16) -> Value {
    json!({"type": "syslog", "host": "127.0.0.1", "port": port, "transport": "tcp"})
}

fn fluent(port: u16) -> Value {
    json!({"type": "fluent", "host": "127.0.0.1", "port": port})
}

/// The next message of a connection, as counted; `None` at its end.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut length = 0;
    loop {
        match stream.read_u8().await.ok()? {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit - b'0'),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.ok()?;
    Some(String::from_utf8(message).unwrap())
}

async fn sequences(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    for _ in 0..count {
        let message = message(stream).await.unwrap();
        let after = message.split_once("sequence=\"").unwrap().1;
        sequences.push(after.split_once('"').unwrap().0.parse().unwrap());
    }
    sequences
}

#[tokio::test]
async fn syslog_keeps_its_connection_and_sends_each_line_once() {
    let (listener, port) = listen().await;
    let mut drain = drain(syslog(port), none());
    drain.send(&lines(1..3)).await.unwrap();
    drain.send(&lines(3..4)).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(sequences(&mut stream, 3).await, [1, 2, 3]);
    drain.close().await;
    assert_eq!(message(&mut stream).await, None);
}

#[tokio::test]
async fn syslog_sends_the_last_again_when_the_receiver_went_away() {
    let (listener, port) = listen().await;
    let mut drain = drain(syslog(port), none());
    drain.send(&lines(1..3)).await.unwrap();
    // Closed with something unread, as by a kill: what was acknowledged is gone.
    drop(listener.accept().await.unwrap());
    drain.send(&lines(3..4)).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(sequences(&mut stream, 3).await, [1, 2, 3]);
    // And once it stands, each once again.
    drain.send(&lines(4..5)).await.unwrap();
    assert_eq!(sequences(&mut stream, 1).await, [4]);
}

#[tokio::test]
async fn syslog_is_not_taken_until_the_other_kernel_has_it() {
    let (listener, port) = listen().await;
    let mut drain = drain(syslog(port), none());
    let mut batch = lines(1..3);
    batch[0].text = "x".repeat(30 * 1024 * 1024);
    let accepted = tokio::spawn(async move { listener.accept().await.unwrap() });
    retry(
        drain.send(&batch).await,
        "did not take the lines within 0.7 s",
    );
    let _ = accepted.await.unwrap();
}

#[tokio::test]
async fn syslog_receiver_that_is_down_is_tried_again() {
    let mut drain = drain(syslog(nobody().await.port()), none());
    retry(
        drain.send(&lines(1..2)).await,
        "cannot reach `127.0.0.1` port",
    );
}

#[tokio::test]
async fn syslog_receiver_that_chatters_is_not_listened_to() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        let chatter = async { while write.write_all(&[b'?'; 4096]).await.is_ok() {} };
        let mut sink = tokio::io::sink();
        tokio::join!(chatter, async {
            let _ = tokio::io::copy(&mut read, &mut sink).await;
        });
    });
    let mut drain = drain(syslog(port), none());
    drain.send(&lines(1..100)).await.unwrap();
    drain.send(&lines(100..200)).await.unwrap();
}

#[tokio::test]
async fn send_that_is_dropped_leaves_no_half_of_a_message() {
    let (listener, port) = listen().await;
    let mut drain = drain(syslog(port), none());
    let mut batch = lines(1..2);
    batch[0].text = "x".repeat(30 * 1024 * 1024);
    let sending = tokio::time::timeout(Duration::from_millis(100), drain.send(&batch));
    assert!(sending.await.is_err());
    drop(listener.accept().await.unwrap());
    drain.send(&lines(2..3)).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(sequences(&mut stream, 1).await, [2]);
}

/// A certificate for `localhost` and a server with it.
fn tls(directory: &std::path::Path) -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca_file = directory.join("ca.pem");
    std::fs::write(&ca_file, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (
        ca_file.to_str().unwrap().to_owned(),
        TlsAcceptor::from(Arc::new(config)),
    )
}

#[tokio::test]
async fn syslog_over_tls_reaches_only_who_the_authorities_know() {
    let directory = tempfile::tempdir().unwrap();
    let (ca_file, acceptor) = tls(directory.path());
    let (listener, port) = listen().await;
    let receiving = tokio::spawn(async move {
        let (mut got, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                got.extend(sequences(&mut stream, 4).await);
                kept.push(stream);
            }
        }
        (got, kept)
    });
    let target = |host: &str, ca_file: Option<&str>| json!({"type": "syslog", "host": host, "port": port, "ca_file": ca_file});
    let mut unknown = drain(target("localhost", None), none());
    retry(unknown.send(&lines(1..2)).await, "TLS failed");
    let mut misnamed = drain(target("127.0.0.1", Some(&ca_file)), none());
    retry(misnamed.send(&lines(1..2)).await, "TLS failed");
    let mut known = drain(target("localhost", Some(&ca_file)), none());
    known.send(&lines(1..3)).await.unwrap();
    known.send(&lines(3..5)).await.unwrap();
    assert_eq!(receiving.await.unwrap().0, [1, 2, 3, 4]);
}

/// Reads a chunk and answers it; the id of the chunk is the 24 characters after its name.
async fn chunk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), lines: u8) -> String {
    let mut read = Vec::new();
    let end = [b"\xa4size".as_slice(), &[lines]].concat();
    while !read.ends_with(&end) {
        read.push(stream.read_u8().await.unwrap());
    }
    let name = b"\xa5chunk\xb8";
    let at = (read.windows(name.len()).position(|window| window == name)).unwrap() + name.len();
    String::from_utf8(read[at..at + 24].to_vec()).unwrap()
}

async fn acknowledge(stream: &mut TcpStream, chunk: &str) {
    let answer = [b"\x81\xa3ack\xb8", chunk.as_bytes()].concat();
    // In two pieces, as networks do.
    stream.write_all(&answer[..5]).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    stream.write_all(&answer[5..]).await.unwrap();
}

#[tokio::test]
async fn fluent_chunk_is_taken_when_it_is_acknowledged() {
    let (listener, port) = listen().await;
    let receiving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let id = chunk(&mut stream, 2).await;
            acknowledge(&mut stream, &id).await;
        }
        let id = chunk(&mut stream, 1).await;
        drop(stream); // killed before it acknowledged
        let (mut stream, _) = listener.accept().await.unwrap();
        let again = chunk(&mut stream, 1).await;
        assert_ne!(again, id);
        acknowledge(&mut stream, &again).await;
    });
    let mut drain = drain(fluent(port), none());
    drain.send(&lines(1..3)).await.unwrap();
    drain.send(&lines(3..5)).await.unwrap();
    retry(drain.send(&lines(5..6)).await, "closed the connection");
    drain.send(&lines(5..6)).await.unwrap();
    receiving.await.unwrap();
}

#[tokio::test]
async fn fluent_receiver_that_is_down_silent_or_mad_is_tried_again() {
    let mut to_nobody = drain(fluent(nobody().await.port()), none());
    retry(to_nobody.send(&lines(1..2)).await, "cannot reach");
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let answers: [&[u8]; 5] = [
            b"",
            b"\xc1",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x81\xa3ack\xa3abc",
            b"\x92\xa4HELO\x80",
        ];
        let mut kept = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            chunk(&mut stream, 1).await;
            stream.write_all(answer).await.unwrap();
            kept.push(stream);
        }
        std::future::pending::<()>().await;
    });
    let mut drain = drain(fluent(port), none());
    retry(
        drain.send(&lines(1..2)).await,
        "did not acknowledge the lines within 0.7 s",
    );
    retry(
        drain.send(&lines(1..2)).await,
        "other than the Forward protocol",
    );
    retry(
        drain.send(&lines(1..2)).await,
        "other than an acknowledgement",
    );
    retry(drain.send(&lines(1..2)).await, "a chunk that was not sent");
    retry(drain.send(&lines(1..2)).await, "wants a shared key");
}

fn hex_digest(parts: &[&str]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, parts.concat().as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn text(text: &str) -> Vec<u8> {
    [&[0xd9, text.len() as u8], text.as_bytes()].concat()
}

/// Reads texts of MessagePack up to 255 bytes.
async fn texts(stream: &mut TcpStream, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let length = match stream.read_u8().await.unwrap() {
            0xd9 => stream.read_u8().await.unwrap(),
            short => short & 0x1f,
        };
        let mut text = vec![0; length.into()];
        stream.read_exact(&mut text).await.unwrap();
        texts.push(String::from_utf8(text).unwrap());
    }
    texts
}

#[tokio::test]
async fn fluent_shared_key_is_proven_by_both_sides() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        for key in ["hidden", "another"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let hello = b"\x92\xa4HELO\x83\xa5nonce\xa3abc\xa4auth\xa3def\xa9keepalive\xc3";
            stream.write_all(hello).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 0x96);
            let ping = texts(&mut stream, 6).await;
            let [word, host, salt, proof, user, password] = &ping[..] else {
                unreachable!("six were read")
            };
            assert_eq!((&**word, &**host, &**user), ("PING", "ekiden", "me"));
            assert_eq!(*proof, hex_digest(&[salt, "ekiden", "abc", "hidden"]));
            assert_eq!(*password, hex_digest(&["def", "me", "mine"]));
            let proof = hex_digest(&[salt, "server", "abc", key]);
            let pong = [&b"\x95\xa4PONG\xc3\xa0"[..], &text("server"), &text(&proof)].concat();
            stream.write_all(&pong).await.unwrap();
            if key == "hidden" {
                let id = chunk(&mut stream, 1).await;
                acknowledge(&mut stream, &id).await;
            }
        }
    });
    let secrets = json!({"shared_key": "hidden", "username": "me", "password": "mine"});
    let mut drain = drain(fluent(port), secrets);
    drain.send(&lines(1..2)).await.unwrap();
    retry(drain.send(&lines(2..3)).await, "another shared key");
}

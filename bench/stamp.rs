//! The program that benchmarks start: it tells when its `main` began, in nanoseconds since the Unix
//! epoch. With the argument `serve` it then listens on `$PORT`, tells when it did, and answers every
//! request by both times. `run` compiles it as one static file, so that starting it costs as little as can be.

use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() {
    let began = now();
    println!("began {began}");
    if env::args().nth(1).as_deref() != Some("serve") {
        return;
    }
    let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    let listens = now();
    println!("listens {listens}");
    for connection in listener.incoming().flatten() {
        thread::spawn(move || answer(connection, &format!("began {began} listens {listens}")));
    }
}

/// Answers every request of a connection alike.
fn answer(mut connection: TcpStream, text: &str) {
    let mut head = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = connection.read(&mut part) {
        head.extend_from_slice(&part[..length]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if connection.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

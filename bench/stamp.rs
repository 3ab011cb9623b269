//! The program that benchmarks start: it tells when its `main` began, in nanoseconds since the Unix
//! epoch. With the argument `serve` it then listens on `$PORT`, tells when it did, and accepts for
//! ever. `run` compiles it as one static file, so that starting it costs as little as can be.

use std::{
    env,
    net::TcpListener,
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
    println!("listens {}", now());
    for connection in listener.incoming() {
        drop(connection);
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

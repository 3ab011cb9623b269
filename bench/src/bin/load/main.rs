//! An open-loop load generator that checks every answer.
//!
//! Requests begin by the clock, whether or not earlier ones have ended, and each one's latency
//! counts from the moment it was due: a stalled server cannot slow the load down and so hide its
//! stall ("coordinated omission"). Nothing is ever sent twice. A request fails unless its whole
//! answer is right: status, length, content, and the tag that tells it from other answers. The
//! application must be the one in `tests/e2e/apps/web`.
//!
//! The summary goes to standard output as one JSON object when the duration is over or on SIGTERM
//! or SIGINT; running counters go to standard error.

mod connection;
mod kind;
mod payload;
mod report;

use std::{
    cell::RefCell, net::SocketAddr, path::PathBuf, process::ExitCode, rc::Rc, time::Duration,
};

use anyhow::Context;
use clap::Parser;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use connection::{Connection, Failure, Pool};
use kind::{Mix, RequestKind};
use payload::Payload;
use report::{Failed, Report};

/// What to send where, and for how long.
#[derive(Parser)]
#[command(name = "load", about = "Steady, checked load on an Ekiden edge")]
struct Args {
    /// Address of the edge.
    #[arg(long)]
    target: SocketAddr,
    /// Host header; given several times, they take turns.
    #[arg(long, required = true)]
    host: Vec<String>,
    /// Requests that begin each second.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// How many of a hundred requests use a connection of their own.
    #[arg(long, default_value_t = 30)]
    fresh: u32,
    /// How many of a hundred requests have a body of 1 MB, half of them up and half down.
    #[arg(long, default_value_t = 4)]
    large: u32,
    /// Seconds to run; until SIGTERM when absent.
    #[arg(long)]
    duration: Option<u64>,
    /// Seconds after which a request has failed.
    #[arg(long, default_value_t = 40)]
    timeout: u64,
    /// Where to append each failure as a line of JSON when it happens.
    #[arg(long)]
    failures: Option<PathBuf>,
    /// Seconds between running counters.
    #[arg(long, default_value_t = 5)]
    progress: u64,
    /// Exit with 1 when more requests than this failed.
    #[arg(long)]
    max_failures: Option<u64>,
}

/// Requests in flight at once; one more is counted as a failure of kind `overload`.
const IN_FLIGHT_MAX: u64 = 4000;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let summary = LocalSet::new().block_on(&runtime, run(&args))?;
    println!("{}", serde_json::to_string(&summary)?);
    let too_many = args.max_failures.is_some_and(|most| summary.failed > most);
    Ok(if too_many {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What the requests share. One thread runs them all.
struct Shared {
    target: SocketAddr,
    timeout: Duration,
    payload: Payload,
    pool: Pool,
    report: RefCell<Report>,
}

async fn run(args: &Args) -> anyhow::Result<report::Summary> {
    let shared = Rc::new(Shared {
        target: args.target,
        timeout: Duration::from_secs(args.timeout),
        payload: Payload::new(),
        pool: Pool::default(),
        report: RefCell::new(Report::new(args.failures.as_deref())?),
    });
    let progress = tokio::task::spawn_local(tell(shared.clone(), args.progress.max(1)));
    send(args, &shared).await?;
    settle(&shared).await;
    progress.abort();
    Ok(shared.report.borrow().summary())
}

/// Begins requests on time until the end.
async fn send(args: &Args, shared: &Rc<Shared>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut mix = Mix::new(args.fresh, args.large);
    let start = Instant::now();
    let end = args
        .duration
        .map(|seconds| start + Duration::from_secs(seconds));
    for number in 0_u64.. {
        let due = start + Duration::from_secs_f64(number as f64 / f64::from(args.rate.max(1)));
        if end.is_some_and(|end| due >= end) {
            break;
        }
        tokio::select! {
            () = sleep_until(due) => {} // cancel-safe: only time is lost
            _ = terminate.recv() => break, // cancel-safe: the signal is handled here
            _ = interrupt.recv() => break, // as above
        }
        let host = args.host[number as usize % args.host.len()].clone();
        begin(
            shared,
            Request {
                number,
                due,
                host,
                kind: mix.next_kind(),
                fresh: mix.next_fresh(),
            },
        );
    }
    Ok(())
}

struct Request {
    number: u64,
    due: Instant,
    host: String,
    kind: RequestKind,
    fresh: bool,
}

fn begin(shared: &Rc<Shared>, request: Request) {
    let in_flight = shared.report.borrow_mut().began();
    if in_flight > IN_FLIGHT_MAX {
        let failure = Failure::new("overload", "too many requests are in flight".to_owned());
        let failed = Failed::of(&request.host, request.kind.name(), request.fresh, failure);
        shared.report.borrow_mut().failed(failed, request.due);
        return;
    }
    let shared = shared.clone();
    tokio::task::spawn_local(async move {
        let done = timeout(shared.timeout, exchange(&shared, &request)).await;
        let done = done.unwrap_or_else(|_| {
            let seconds = shared.timeout.as_secs();
            Err(Failure::new(
                "timeout",
                format!("no whole answer within {seconds} s"),
            ))
        });
        let mut report = shared.report.borrow_mut();
        match done {
            Ok(instance) => report.succeeded(request.kind.name(), &instance, request.due),
            Err(failure) => {
                let kind = request.kind.name();
                let failed = Failed::of(&request.host, kind, request.fresh, failure);
                report.failed(failed, request.due);
            }
        }
    });
}

/// One request and its answer; the instance that answered.
async fn exchange(shared: &Shared, request: &Request) -> Result<String, Failure> {
    let mut connection = match request.fresh {
        true => Connection::open(shared.target).await?,
        false => match shared.pool.take() {
            Some(connection) => connection,
            None => Connection::open(shared.target).await?,
        },
    };
    let tag = format!("{:x}-{}", std::process::id(), request.number);
    let (head, body) = request
        .kind
        .encode(&request.host, &tag, request.fresh, &shared.payload);
    let answer = connection.exchange(&head, body).await?;
    request.kind.check(&answer, &tag, &shared.payload)?;
    if !request.fresh && answer.keep {
        shared.pool.put(connection);
    }
    Ok(answer.instance.unwrap_or_default())
}

/// Waits for the requests in flight; each has its own limit.
async fn settle(shared: &Shared) {
    let mut tick = interval(Duration::from_millis(10));
    while shared.report.borrow().in_flight() > 0 {
        tick.tick().await;
    }
}

async fn tell(shared: Rc<Shared>, seconds: u64) {
    let mut tick = interval(Duration::from_secs(seconds));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        eprintln!("{}", shared.report.borrow().line());
    }
}

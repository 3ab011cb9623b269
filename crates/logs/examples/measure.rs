//! Measures the log store: `measure ingest|ratio|filter|budget <directory> [megabytes]`.
//!
//! `ingest` writes lines of about 500 bytes in batches of 1000 from one thread and counts the processor time
//! of all threads; `ratio` compares the bytes on disk with `zstd -3` of the same text in one piece; `filter`
//! looks for a rare word, and for the same with `zgrep` in the text compressed by `gzip`; `budget` writes into a
//! budget of a tenth, and fails unless the disk never had more, the oldest went first and another group is whole.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ekiden_logs::{
    append::{Append, Missing, Times},
    event::NewEvent,
    query::{Filter, Query},
    settings::Settings,
    store::LogStore,
};

const GROUP: &str = "/aws/apprunner/web/0123/application";
const BATCH: usize = 1000;
const START_MS: i64 = 1_764_300_000_000;
const RARE: &str = "needle-7f3a9c";

/// Numbers without a pattern, the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[(self.next() % of.len() as u64) as usize]
    }
}

/// A line as a web application may write it.
fn line(random: &mut Random, number: u64, out: &mut String) {
    use std::fmt::Write as _;
    out.clear();
    let level = random.pick(&["INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"]);
    let path = random.pick(&[
        "/api/v1/orders",
        "/api/v1/users",
        "/health",
        "/static/app.js",
        "/login",
    ]);
    let agent = random.pick(&[
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5",
        "curl/8.9.1",
        "python-requests/2.32.3",
    ]);
    let message = random.pick(&[
        "request completed",
        "cache miss, loading from the database",
        "retrying after a timeout of the upstream",
        "user session refreshed",
    ]);
    let (id, user, bytes, micros) = (
        random.next(),
        random.next() % 50_000,
        random.next() % 90_000,
        random.next() % 900_000,
    );
    let (trace, span) = (random.next(), random.next());
    let millis = number / 100;
    let _ = write!(
        out,
        "{{\"timestamp\":\"2025-11-28T{:02}:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"logger\":\"com.example.web.RequestHandler\",\
         \"message\":\"{message}\",\"request_id\":\"{id:016x}\",\"trace_id\":\"{trace:016x}{span:016x}\",\"method\":\"GET\",\
         \"path\":\"{path}/{user}\",\"status\":{},\"duration_us\":{micros},\"bytes\":{bytes},\"remote\":\"10.{}.{}.{}\",\
         \"user_agent\":\"{agent}\",\"thread\":\"worker-{}\"}}",
        millis / 3_600_000 % 24,
        millis / 60_000 % 60,
        millis / 1000 % 60,
        millis % 1000,
        random.pick(&["200", "200", "200", "201", "304", "404", "500"]),
        id % 256,
        trace % 256,
        span % 256,
        id % 16,
    );
    if number % 600_011 == 300_007 {
        out.push_str(RARE);
    }
}

/// Gives the lines in batches, about so many bytes.
fn batches(bytes: u64, mut each: impl FnMut(i64, &[String]) -> Result<()>) -> Result<(u64, u64)> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut batch = vec![String::new(); BATCH];
    let (mut lines, mut sum) = (0u64, 0u64);
    while sum < bytes {
        for text in &mut batch {
            line(&mut random, lines, text);
            lines += 1;
            sum += text.len() as u64 + 1;
        }
        each(START_MS + (lines / 100) as i64, &batch)?;
    }
    Ok((lines, sum))
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn fill(directory: &Path, bytes: u64) -> Result<LogStore> {
    let settings = Settings {
        group_bytes_max: 100 << 30,
        total_bytes_max: 100 << 30,
        ..Settings::default()
    };
    let store = LogStore::open(directory, settings)?;
    // What it costs to make the lines is measured without the store.
    let before = cpu();
    batches(bytes, |_, _| Ok(()))?;
    let making = cpu() - before;
    let (start, before) = (Instant::now(), cpu());
    let mut slowest = Duration::ZERO;
    let (lines, raw) = batches(bytes, |time_ms, batch| {
        let events: Vec<NewEvent<'_>> = batch
            .iter()
            .map(|text| NewEvent {
                time_ms,
                text: text.as_bytes(),
            })
            .collect();
        let at = Instant::now();
        store.append(&Append {
            group: GROUP,
            stream: "instance/0123456789abcdef",
            missing: Missing::CreateGroup,
            times: Times::Raised,
            now_ms: time_ms,
            position: Some(b"position"),
            events: &events,
        })?;
        slowest = slowest.max(at.elapsed());
        store.maintain(time_ms)?;
        Ok(())
    })?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.stats().unsealed > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    store.sync()?;
    let (wall, used) = (start.elapsed(), cpu() - before);
    let own = used.saturating_sub(making);
    println!(
        "ingest: {lines} lines, {:.1} MB, {:.0} bytes a line; wall {:.2} s, processor {:.2} s and {:.2} s for making the lines",
        raw as f64 / 1e6,
        raw as f64 / lines as f64,
        wall.as_secs_f64(),
        own.as_secs_f64(),
        making.as_secs_f64(),
    );
    println!(
        "ingest: {:.0} lines/s per core, {:.0} MB/s per core, slowest append {:.1} ms",
        lines as f64 / own.as_secs_f64(),
        raw as f64 / 1e6 / own.as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
    );
    Ok(store)
}

fn piped(command: &mut Command, bytes: u64) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .context("is it installed?")?;
    let mut input = std::io::BufWriter::new(child.stdin.take().context("no pipe")?);
    batches(bytes, |_, batch| {
        for text in batch {
            input.write_all(text.as_bytes())?;
            input.write_all(b"\n")?;
        }
        Ok(())
    })?;
    drop(input);
    if !child.wait()?.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}

fn ratio(directory: &Path, bytes: u64) -> Result<()> {
    let store = fill(&directory.join("store"), bytes)?;
    let tail = store.stats().disk_bytes;
    store.seal(GROUP)?;
    let disk = store.stats().disk_bytes;
    println!("ratio: {tail} bytes with the newest lines in a journal");
    let plain = directory.join("plain.zst");
    let mut zstd = Command::new("zstd");
    zstd.args(["-3", "-q", "-f", "-o"]).arg(&plain);
    let whole = match piped(&mut zstd, bytes) {
        Ok(()) => std::fs::metadata(&plain)?.len(),
        Err(_) => {
            // The same with the library, when the program is not there.
            let mut text = Vec::new();
            batches(bytes, |_, batch| {
                for line in batch {
                    text.extend_from_slice(line.as_bytes());
                    text.push(b'\n');
                }
                Ok(())
            })?;
            zstd::encode_all(&text[..], 3)?.len() as u64
        }
    };
    println!(
        "ratio: store {disk} bytes, zstd -3 {whole} bytes: {:.3}",
        disk as f64 / whole as f64
    );
    Ok(())
}

fn filter(directory: &Path, bytes: u64) -> Result<()> {
    let store = fill(&directory.join("store"), bytes)?;
    let gzip = directory.join("plain.gz");
    piped(
        Command::new("gzip")
            .arg("-c")
            .stdout(std::fs::File::create(&gzip)?),
        bytes,
    )?;
    for _ in 0..3 {
        let (start, mut query, mut found) = (Instant::now(), Query::new(GROUP), 0);
        query.scan_bytes_max = u64::MAX;
        let filter = Filter {
            literal: Some(RARE.as_bytes()),
            ..Filter::all()
        };
        loop {
            let page = store.query(&query, &filter)?;
            found += page.events.len();
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        let ours = start.elapsed();
        let start = Instant::now();
        let output = Command::new("zgrep")
            .args(["-c", RARE])
            .arg(&gzip)
            .output()?;
        let theirs = start.elapsed();
        println!(
            "filter: {found} lines in {:.2} s; zgrep {} in {:.2} s: {:.2} times as fast",
            ours.as_secs_f64(),
            String::from_utf8_lossy(&output.stdout).trim(),
            theirs.as_secs_f64(),
            theirs.as_secs_f64() / ours.as_secs_f64(),
        );
    }
    Ok(())
}

/// Bytes of all files below a directory, and of files that go meanwhile nothing.
fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += match metadata.is_dir() {
            true => disk_bytes(&entry.path()).unwrap_or(0),
            false => metadata.len(),
        };
    }
    Ok(sum)
}

fn budget(directory: &Path, bytes: u64) -> Result<()> {
    const OTHER: &str = "another/group";
    let bytes_max = bytes / 10;
    let settings = Settings {
        group_bytes_max: bytes_max,
        total_bytes_max: bytes_max + bytes_max / 10,
        ..Settings::default()
    };
    let store = LogStore::open(directory, settings)?;
    let put = |group: &str, time_ms: i64, lines: &[String]| -> Result<()> {
        let event = |text| NewEvent { time_ms, text };
        let events: Vec<_> = lines.iter().map(|line| event(line.as_bytes())).collect();
        store.append(&Append {
            group,
            stream: "instance/0123456789abcdef",
            missing: Missing::CreateGroup,
            times: Times::Raised,
            now_ms: time_ms,
            position: None,
            events: &events,
        })?;
        Ok(())
    };
    let others: Vec<_> = (0..1000).map(|number| format!("other {number}")).collect();
    put(OTHER, START_MS, &others)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut written, mut count, mut most) = (0, 0u64, 0);
    let mut lines = vec![String::new(); BATCH];
    while written < bytes {
        use std::fmt::Write as _;
        for line in &mut lines {
            line.clear();
            let _ = write!(line, "{count:012} ");
            for _ in 0..30 {
                let _ = write!(line, "{:016x}", random.next());
            }
            count += 1;
            written += line.len() as u64;
        }
        put(GROUP, START_MS + (count / 100) as i64, &lines)?;
        store.maintain(START_MS + (count / 100) as i64)?;
        if count.is_multiple_of(20 * BATCH as u64) {
            most = most.max(disk_bytes(directory)?);
        }
    }
    store.sync()?;
    most = most.max(disk_bytes(directory)?);
    if most > bytes_max {
        bail!("{most} bytes of a budget of {bytes_max}");
    }
    let mut numbers = Vec::new();
    each(&store, GROUP, |text| {
        numbers.push(text.get(..12)?.parse::<u64>().ok()?);
        Some(())
    })?;
    let kept: Vec<u64> = (count - numbers.len() as u64..count).collect();
    if numbers != kept {
        bail!("what is kept is not the newest {} lines", kept.len());
    }
    let mut found = Vec::new();
    each(&store, OTHER, |text| {
        found.push(text.to_owned());
        Some(())
    })?;
    if found != others {
        bail!("the other group has lost lines");
    }
    println!(
        "budget: {count} lines of {:.1} GB written into {:.2} GB: never more than {:.2} of it; the newest {} are kept, and \
         all {} of another group",
        written as f64 / 1e9,
        bytes_max as f64 / 1e9,
        most as f64 / bytes_max as f64,
        numbers.len(),
        found.len(),
    );
    Ok(())
}

/// Gives every event of a group, oldest first.
fn each(store: &LogStore, group: &str, mut take: impl FnMut(&str) -> Option<()>) -> Result<()> {
    let mut query = Query::new(group);
    query.scan_bytes_max = u64::MAX;
    loop {
        let page = store.query(&query, &Filter::all())?;
        for event in &page.events {
            let text = std::str::from_utf8(&event.text)?;
            take(text).with_context(|| format!("`{text}` was not written"))?;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, directory, rest @ ..] = &arguments[..] else {
        bail!("usage: measure ingest|ratio|filter|budget <empty directory> [megabytes]");
    };
    let megabytes: u64 = rest.first().map_or(Ok(500), |text| text.parse())?;
    let (directory, bytes) = (Path::new(directory), megabytes * 1_000_000);
    std::fs::create_dir_all(directory)?;
    match what.as_str() {
        "ingest" => fill(directory, bytes).map(|_| ()),
        "ratio" => ratio(directory, bytes),
        "filter" => filter(directory, bytes),
        "budget" => budget(directory, bytes),
        _ => bail!("`{what}` is none of ingest, ratio, filter, budget"),
    }
}

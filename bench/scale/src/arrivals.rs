//! What is asked of services: synthetic shapes, and recorded arrivals.

use std::path::Path;

use anyhow::{Context, bail};

use crate::random::Random;

/// A moment or a length of time in microseconds.
pub(crate) type Micros = u64;

pub(crate) const SECOND: Micros = 1_000_000;

/// What comes in, to one service or to several that share nothing.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) services: Vec<Arrivals>,
    pub(crate) instances_min: u32,
    pub(crate) instances_max: u32,
    pub(crate) concurrency: u32,
    /// When the simulation ends.
    pub(crate) end: Micros,
}

/// What comes in to one service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    /// By arrival.
    pub(crate) requests: Vec<Request>,
    /// Each has one request in flight at a time, from a moment to another.
    pub(crate) clients: Vec<Client>,
}

/// A request that arrives whatever happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) at: Micros,
    /// How long an instance works on it.
    pub(crate) work: Micros,
}

/// Somebody who asks again as soon as they are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) from: Micros,
    pub(crate) until: Micros,
    pub(crate) work_mean: Micros,
}

/// How long an instance works on a request.
#[derive(Debug, Clone, Copy)]
enum Work {
    Exponential(f64),
    LogNormal(f64, f64),
}

impl Work {
    fn draw(self, random: &mut Random) -> Micros {
        let seconds = match self {
            Self::Exponential(mean) => random.exponential(mean),
            Self::LogNormal(mean, sigma) => random.log_normal(mean, sigma),
        };
        ((seconds * SECOND as f64) as Micros).max(100)
    }
}

/// Requests at random, `rate(t)` in a second, which is never more than `rate_max`.
fn poisson(
    seconds: f64,
    rate_max: f64,
    work: Work,
    random: &mut Random,
    rate: impl Fn(f64) -> f64,
) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut at = 0.0;
    loop {
        at += random.exponential(1.0 / rate_max);
        if at >= seconds {
            return requests;
        }
        if random.unit() * rate_max < rate(at) {
            let at = (at * SECOND as f64) as Micros;
            requests.push(Request {
                at,
                work: work.draw(random),
            });
        }
    }
}

fn one(requests: Vec<Request>) -> Vec<Arrivals> {
    vec![Arrivals {
        requests,
        ..Arrivals::default()
    }]
}

/// 1 client, 200 from one minute to four, then 1 again.
pub(crate) fn step_clients() -> Load {
    let client = |from, until| Client {
        from: from * SECOND,
        until: until * SECOND,
        work_mean: SECOND / 10,
    };
    let mut clients = vec![client(0, 420)];
    clients.resize(200, client(60, 240));
    Load {
        name: "step, 1 to 200 clients",
        services: vec![Arrivals {
            clients,
            ..Arrivals::default()
        }],
        instances_min: 1,
        instances_max: 100,
        concurrency: 10,
        end: 420 * SECOND,
    }
}

/// Every synthetic shape.
pub(crate) fn all() -> Vec<Load> {
    let usual = Work::Exponential(0.1);
    let shape = |name, seconds: u64, min, concurrency, services| Load {
        name,
        services,
        instances_min: min,
        instances_max: 100,
        concurrency,
        end: seconds * SECOND,
    };
    let random = &mut Random::new(6);
    let mut loads = vec![step_clients()];
    let rate = |t: f64| match t {
        60.0..240.0 => 1000.0,
        _ => 20.0,
    };
    let step = poisson(420.0, 1000.0, usual, &mut Random::new(5), rate);
    loads.push(shape("step, 20 to 1,000/s", 420, 1, 10, one(step)));
    let rate = |t: f64| 20.0 + 980.0 * (1.0 - (t - 300.0).abs() / 300.0);
    let ramp = poisson(600.0, 1000.0, usual, &mut Random::new(5), rate);
    loads.push(shape("ramp, 20 to 1,000/s and back", 660, 1, 10, one(ramp)));
    let steady = poisson(600.0, 500.0, usual, &mut Random::new(5), |_| 500.0);
    loads.push(shape("steady, 500/s", 600, 1, 10, one(steady)));
    let rate = |t: f64| if t % 60.0 < 5.0 { 1000.0 } else { 20.0 };
    let spikes = poisson(600.0, 1000.0, usual, &mut Random::new(5), rate);
    loads.push(shape("spikes, 5 s in a minute", 600, 1, 10, one(spikes)));
    let mut bursts = poisson(900.0, 20.0, usual, &mut Random::new(5), |_| 20.0);
    for at in (1..6).map(|burst| burst * 150 * SECOND) {
        bursts.extend((0..100).map(|_| Request {
            at,
            work: usual.draw(random),
        }));
    }
    bursts.sort_by_key(|request| request.at);
    loads.push(shape("100 at once, every 150 s", 900, 1, 10, one(bursts)));
    for (name, seconds) in [
        ("a day in 20 minutes", 1200.0),
        ("a day in 2 hours", 7200.0),
    ] {
        let rate = |t: f64| 260.0 - 240.0 * (std::f64::consts::TAU * t / seconds).cos();
        let diurnal = poisson(seconds, 500.0, usual, &mut Random::new(5), rate);
        loads.push(shape(name, seconds as u64, 1, 10, one(diurnal)));
    }
    let rate = |t: f64| if t % 180.0 < 30.0 { 300.0 } else { 0.0 };
    let on_off = poisson(1080.0, 300.0, usual, &mut Random::new(5), rate);
    loads.push(shape("30 s on, 150 s off", 1080, 0, 10, one(on_off)));
    let work = Work::LogNormal(0.25, 1.5);
    let single = poisson(900.0, 20.0, work, &mut Random::new(5), |_| 20.0);
    loads.push(shape("one at a time, long tail", 900, 1, 1, one(single)));
    let sparse = poisson(3600.0, 1.0 / 90.0, usual, &mut Random::new(5), |_| {
        1.0 / 90.0
    });
    loads.push(shape("1 request in 90 s", 3600, 0, 10, one(sparse)));
    loads.push(shape(
        "200 services, Zipf",
        1800,
        0,
        10,
        zipf(&mut Random::new(5)),
    ));
    loads
}

/// 200 services that are asked 20 times in a second together, the n-th 1/n as often as the first.
fn zipf(random: &mut Random) -> Vec<Arrivals> {
    let total: f64 = (1..=200).map(|n| 1.0 / f64::from(n)).sum();
    let service = |n| {
        let rate = 20.0 / total / f64::from(n);
        let work = Work::LogNormal(0.1, 1.0);
        Arrivals {
            requests: poisson(1800.0, rate, work, random, |_| rate),
            ..Arrivals::default()
        }
    };
    (1..=200).map(service).collect()
}

/// Recorded arrivals: a line for each request, `seconds since the first,seconds of work`. A first
/// line without numbers is a heading.
pub(crate) fn recorded(path: &Path, concurrency: u32, instances_min: u32) -> anyhow::Result<Load> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    let requests = parse(&text).with_context(|| format!("failed to read `{}`", path.display()))?;
    let last = requests.last().map_or(0, |request| request.at);
    Ok(Load {
        name: "recorded",
        services: one(requests),
        instances_min,
        instances_max: 100,
        concurrency,
        end: last + 180 * SECOND,
    })
}

/// The longest recording, and the longest request in it.
const RECORDED_SECONDS_MAX: f64 = 31.0 * 86_400.0;

fn parse(text: &str) -> anyhow::Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let mut fields = line.split(',').map(|field| field.trim().parse::<f64>());
        let (at, work) = match (fields.next(), fields.next(), fields.next()) {
            (Some(Ok(at)), Some(Ok(work)), None) => (at, work),
            _ if index == 0 => continue,
            _ => bail!("line {}: `{line}` is not `seconds,seconds`", index + 1),
        };
        if ![at, work]
            .iter()
            .all(|x| (0.0..=RECORDED_SECONDS_MAX).contains(x))
        {
            bail!("line {}: `{line}` is not within 0 and 31 days", index + 1);
        }
        requests.push(Request {
            at: (at * SECOND as f64) as Micros,
            work: ((work * SECOND as f64) as Micros).max(1),
        });
    }
    if requests.is_empty() {
        bail!("there is no request in it");
    }
    requests.sort_by_key(|request| request.at);
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_with_or_without_a_heading() {
        for text in ["2,0.5\n1.5,0.25\n", "at,work\n\n 2 , 0.5\n1.5,0.25"] {
            let requests = parse(text).unwrap();
            let read: Vec<_> = requests.iter().map(|r| (r.at, r.work)).collect();
            assert_eq!(read, [(1_500_000, 250_000), (2_000_000, 500_000)]);
        }
    }

    #[test]
    fn a_recording_that_is_none_is_refused_with_its_line() {
        for (text, why) in [
            ("", "no request"),
            ("at,work", "no request"),
            ("1,2\n1", "line 2: `1`"),
            ("1,2\n1,2,3", "line 2"),
            ("1,2\n-1,2", "line 2"),
            ("1,2\nNaN,2", "line 2"),
            ("1,1e300", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}

//! Simulates scaling: arrivals of many shapes against Ekiden's rule, Knative's and App Runner's.
//!
//! Prints a table with a row for each shape and start time. docs/scaling-rule.md says what it means.

mod arrivals;
mod plot;
mod random;
mod rules;
#[cfg(test)]
mod tests;
mod world;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use ekiden_model::scale::ScaleSettings;

use crate::{
    arrivals::{Load, Micros, SECOND},
    plot::Line,
    rules::{AppRunner, Ekiden, Kpa, Rule},
    world::{Outcome, Starts},
};

/// What the engine's part of a start takes.
const ENGINE_START: Micros = 20_000;

/// Simulates scaling by several rules, and prints queue times and instance-seconds side by side.
#[derive(Parser)]
#[command(name = "scale")]
struct Arguments {
    /// Only shapes whose name contains this.
    #[arg(long, default_value = "")]
    shape: String,
    /// What an application takes from its start to its first answer, in seconds; 0.02 s for the
    /// engine come on top.
    #[arg(long, value_delimiter = ',', default_values_t = [0.05, 0.5, 3.0])]
    boot: Vec<f64>,
    /// Recorded arrivals instead of the shapes: lines `seconds since the first,seconds of work`.
    #[arg(long)]
    recorded: Option<PathBuf>,
    /// Requests that an instance holds at once, for recorded arrivals.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// The minimum of instances, for recorded arrivals.
    #[arg(long, default_value_t = 0)]
    min: u32,
    /// How long Ekiden keeps an idle last instance, in seconds; Knative's is 60.
    #[arg(long, default_value_t = 60.0)]
    idle: f64,
    /// How much of the concurrency Ekiden uses, in percent.
    #[arg(long, default_value_t = ekiden_model::scale::UTILISATION)]
    utilisation: u32,
    /// Where to write the plot of the step of clients.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Another line of that plot, as `bench/scale/step` has measured it: lines `seconds,instances`.
    #[arg(long, requires = "plot")]
    measured: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let loads = match &arguments.recorded {
        Some(path) => vec![arrivals::recorded(
            path,
            arguments.concurrency,
            arguments.min,
        )?],
        None => arrivals::all(),
    };
    println!("{HEADING}");
    for load in loads
        .iter()
        .filter(|load| load.name.contains(&arguments.shape))
    {
        for boot in &arguments.boot {
            let boot = Duration::try_from_secs_f64(*boot).context("`--boot` is not a time")?;
            let starts = Starts::after(ENGINE_START + boot.as_micros() as Micros);
            let settings = ScaleSettings {
                utilisation: arguments.utilisation,
                idle_to_zero: Duration::try_from_secs_f64(arguments.idle)
                    .context("`--idle` is not a time")?,
                ..settings(load)
            };
            println!("{}", row(load, starts, &compare(load, starts, &settings)));
        }
    }
    if let Some(path) = &arguments.plot {
        let measured = arguments.measured.as_deref().map(measured).transpose()?;
        std::fs::write(path, step_plot(measured))
            .with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}

/// Ekiden's own defaults, but to zero as soon as Knative.
fn settings(load: &Load) -> ScaleSettings {
    ScaleSettings {
        instances_min: load.instances_min,
        instances_max: load.instances_max,
        concurrency_per_instance: load.concurrency,
        idle_to_zero: Duration::from_secs(60),
        ..ScaleSettings::default()
    }
}

/// Ekiden's, Knative's, App Runner's.
fn compare(load: &Load, starts: Starts, settings: &ScaleSettings) -> [Outcome; 3] {
    let (min, max, concurrency) = (load.instances_min, load.instances_max, load.concurrency);
    let ekiden = || Box::new(Ekiden::new(settings.clone())) as Box<dyn Rule>;
    let kpa = || Box::new(Kpa::new(min, max, concurrency)) as Box<dyn Rule>;
    let app_runner = || Box::new(AppRunner::new(min, max, concurrency)) as Box<dyn Rule>;
    [
        world::run(load, starts, ekiden),
        world::run(load, starts, kpa),
        world::run(load, starts, app_runner),
    ]
}

const HEADING: &str = "\
Queue time is p50 / p99 / longest in ms, of all requests; instance-seconds are with and without a request.

| arrivals | start | Ekiden: queue time | instance-s | KPA: queue time | instance-s | App Runner: queue time | instance-s | refused | better than Ekiden |
|---|--:|--:|--:|--:|--:|--:|--:|--:|---|";

fn row(load: &Load, starts: Starts, outcomes: &[Outcome; 3]) -> String {
    let ms = |outcome: &Outcome, part| match outcome.quantile(part) {
        Some(micros) => format!("{:.0}", micros as f64 / 1000.0),
        None => "refused".to_owned(),
    };
    let cells = outcomes.iter().map(|outcome| {
        format!(
            "{} / {} / {} | {} + {}",
            ms(outcome, 0.5),
            ms(outcome, 0.99),
            ms(outcome, 1.0),
            outcome.active / SECOND,
            (outcome.total - outcome.active) / SECOND,
        )
    });
    let [ekiden, kpa, app_runner] = outcomes;
    let verdicts = [
        verdict("KPA", ekiden, kpa),
        verdict("App Runner", ekiden, app_runner),
    ];
    let verdicts: Vec<_> = verdicts.into_iter().flatten().collect();
    format!(
        "| {} | {:.2} s | {} | {} | {} |",
        load.name,
        starts.takes as f64 / SECOND as f64,
        cells.collect::<Vec<_>>().join(" | "),
        app_runner.refused,
        verdicts.join("; "),
    )
}

/// Where another rule does better than Ekiden's: its 99th percentile, or its instance-seconds.
fn verdict(name: &str, ekiden: &Outcome, other: &Outcome) -> Option<String> {
    let p99 = |outcome: &Outcome| outcome.quantile(0.99).unwrap_or(Micros::MAX);
    let better = match (p99(other) < p99(ekiden), other.total < ekiden.total) {
        (false, false) => return None,
        (true, false) => "faster",
        (false, true) => "cheaper",
        (true, true) => "faster and cheaper",
    };
    let percent = |more: u64, less: u64| (more as f64 / less as f64 - 1.0) * 100.0;
    let less = percent(ekiden.total, other.total);
    Some(match other.total < ekiden.total {
        true => format!("{name} is {better}: {less:.0} %"),
        false => format!("{name} is {better}"),
    })
}

/// The step of clients by Ekiden's rule and Knative's, and as it was measured.
fn step_plot(measured: Option<Vec<(Micros, u32)>>) -> String {
    let load = arrivals::step_clients();
    let starts = Starts::after(ENGINE_START + SECOND / 2);
    let [ekiden, kpa, _] = compare(&load, starts, &settings(&load));
    let mut lines = vec![
        Line {
            name: "Ekiden",
            points: &ekiden.instances,
        },
        Line {
            name: "Knative KPA",
            points: &kpa.instances,
        },
    ];
    if let Some(points) = &measured {
        lines.push(Line {
            name: "Ekiden, measured",
            points,
        });
    }
    plot::draw(
        "Instances: 1 client, 200 from minute 1 to 4, then 1; 10 requests per instance",
        load.end,
        &lines,
    )
}

/// Reads what was measured.
fn measured(path: &Path) -> anyhow::Result<Vec<(Micros, u32)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    let point = |line: &str| {
        let (at, instances) = line.split_once(',')?;
        let at: f64 = at.parse().ok()?;
        Some(((at * SECOND as f64) as Micros, instances.parse().ok()?))
    };
    let read = |line| point(line).with_context(|| format!("`{line}` is not `seconds,instances`"));
    text.lines().map(read).collect()
}

//! Prometheus' text format, version 0.0.4. Pure: whoever calls it has the numbers.

use std::fmt::Write as _;

/// What an answer in this format says it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the program runs. Its name should end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many are at most so large, for several sizes.
    Histogram,
    /// Quantiles.
    Summary,
}

/// Writes families one after another.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
}

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family. Characters that a name cannot have become underscores. Each name may be begun once.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let name = sanitised(name, true);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family {
            text: &mut self.text,
            name,
        }
    }

    /// Everything.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// A counter's or a gauge's value.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.line("", labels, None, value)
    }

    /// A histogram: upper bounds, ascending, each with how many are at most so large; and all of them.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) -> &mut Self {
        for (bound, below) in buckets.iter().filter(|(bound, _)| bound.is_finite()) {
            self.line("_bucket", labels, Some(("le", *bound)), *below as f64);
        }
        self.line("_bucket", labels, Some(("le", f64::INFINITY)), count as f64);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64)
    }

    /// A summary: quantiles, 0 to 1, each with its value; and all of them.
    pub fn summary(
        &mut self,
        labels: &[(&str, &str)],
        quantiles: &[(f64, f64)],
        sum: f64,
        count: u64,
    ) -> &mut Self {
        for (quantile, value) in quantiles {
            self.line("", labels, Some(("quantile", *quantile)), *value);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64)
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        more: Option<(&str, f64)>,
        value: f64,
    ) -> &mut Self {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels {
            let (name, value) = (sanitised(name, false), escaped(value));
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
            before = ',';
        }
        if let Some((name, value)) = more {
            let _ = write!(self.text, "{before}{name}=\"{}\"", number(value));
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
        self
    }
}

/// As a name may be: letters, digits and underscores, a metric's colons too, and no digit first.
fn sanitised(name: &str, colons: bool) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        let digit = character.is_ascii_digit();
        if digit && out.is_empty() {
            out.push('_');
        }
        let allowed = digit
            || character.is_ascii_alphabetic()
            || character == '_'
            || (colons && character == ':');
        out.push(if allowed { character } else { '_' });
    }
    if out.is_empty() {
        out.push('_');
    }
    out
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let plain = value.to_string();
    if plain.len() <= 24 {
        plain
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    fn example() -> String {
        let mut writer = Writer::new();
        writer
            .family(
                "ekiden_requests_total",
                Kind::Counter,
                "Requests\nanswered \\ all.",
            )
            .sample(&[("service", "a\"b\\c\nd ü"), ("9x-y", "")], 3.0)
            .sample(&[], 1e300);
        writer
            .family("1 ekiden-instances", Kind::Gauge, "Instances.")
            .sample(&[("state", "ready")], -0.5)
            .sample(&[("state", "odd")], f64::NAN);
        writer
            .family("ekiden_latency_seconds", Kind::Histogram, "Latency.")
            .histogram(&[("service", "a")], &[(0.005, 1), (1.0, 2)], 3.25, 3);
        writer
            .family("ekiden_build_seconds", Kind::Summary, "Builds.")
            .summary(&[], &[(0.5, 10.0), (0.99, 30.0)], 40.0, 2);
        writer.finish()
    }

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let want = r##"# HELP ekiden_requests_total Requests\nanswered \\ all.
# TYPE ekiden_requests_total counter
ekiden_requests_total{service="a\"b\\c\nd ü",_9x_y=""} 3
ekiden_requests_total 1e300
# HELP _1_ekiden_instances Instances.
# TYPE _1_ekiden_instances gauge
_1_ekiden_instances{state="ready"} -0.5
_1_ekiden_instances{state="odd"} NaN
# HELP ekiden_latency_seconds Latency.
# TYPE ekiden_latency_seconds histogram
ekiden_latency_seconds_bucket{service="a",le="0.005"} 1
ekiden_latency_seconds_bucket{service="a",le="1"} 2
ekiden_latency_seconds_bucket{service="a",le="+Inf"} 3
ekiden_latency_seconds_sum{service="a"} 3.25
ekiden_latency_seconds_count{service="a"} 3
# HELP ekiden_build_seconds Builds.
# TYPE ekiden_build_seconds summary
ekiden_build_seconds{quantile="0.5"} 10
ekiden_build_seconds{quantile="0.99"} 30
ekiden_build_seconds_sum 40
ekiden_build_seconds_count 2
"##;
        assert_eq!(example(), want);
    }

    #[test]
    fn promtool_finds_nothing_wrong() {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut promtool = match promtool {
            Ok(promtool) => promtool,
            Err(error) => {
                println!("not checked: promtool (Debian's package prometheus): {error}");
                return;
            }
        };
        let mut stdin = promtool.stdin.take().unwrap();
        stdin.write_all(example().as_bytes()).unwrap();
        drop(stdin);
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

//! What is shown, as lines.

use ekiden_aws::native::InstanceUsage;

use super::rates::{Rates, ServiceView, View};
use crate::{logs::printable, output::table};

/// What stands for what is not known.
const UNKNOWN: &str = "-";

/// All of it, however long: for what is no terminal.
pub(super) fn text(view: &View, instances: bool) -> String {
    let mut text = services(view).join("\n");
    if instances {
        for service in &view.services {
            text += "\n\n";
            let table = instance_table(service);
            text += &fit(table, usize::MAX, "instances", untold(service)).join("\n");
        }
    }
    text
}

/// What fits into so many columns and lines: what is to be said first, sums, then tables that say what of
/// them is not shown.
pub(super) fn frame(
    view: &View,
    instances: bool,
    said: &[Option<&str>],
    width: usize,
    height: usize,
) -> Vec<String> {
    let said = said.iter().flatten();
    let mut lines: Vec<_> = said.map(|line| shown(line)).collect();
    lines.push(sums(view));
    lines.push(String::new());
    let room = height.saturating_sub(lines.len());
    lines.extend(fit(services(view), room, "services", 0));
    if instances {
        for service in &view.services {
            lines.push(String::new());
            let room = height.saturating_sub(lines.len());
            lines.extend(fit(
                instance_table(service),
                room,
                "instances",
                untold(service),
            ));
        }
    }
    lines.truncate(height);
    for line in &mut lines {
        *line = line.chars().take(width).collect();
    }
    lines
}

/// The lines of a table, its header first, for which there is room; the last one says what is left out, those included
/// that are in no line.
fn fit(mut table: Vec<String>, room: usize, what: &str, untold: usize) -> Vec<String> {
    if (table.len() > room || untold > 0) && room > 0 {
        let kept = table.len().min(room - 1);
        let left_out = table.len() - kept.max(1) + untold;
        table.truncate(kept);
        table.push(format!("{left_out} more {what} are not shown"));
    }
    table.truncate(room);
    table
}

fn sums(view: &View) -> String {
    let services = &view.services;
    let instances = services.iter().map(|one| {
        let of_one = [
            one.instances_ready,
            one.instances_starting,
            one.instances_other,
        ];
        of_one.map(u64::from).iter().sum::<u64>()
    });
    let rates = services.iter().filter_map(|one| one.rates.as_ref());
    let requests: Vec<_> = rates.map(|rates| rates.requests_per_second).collect();
    let requests = (!requests.is_empty()).then(|| requests.iter().sum());
    let memory = memory(sum(services, |one| one.memory_bytes));
    format!(
        "services {}, instances {}, requests/s {}, CPU {} of {}, memory {}{}, disk of logs {}, of metrics {}",
        services.len(),
        instances.fold(0_u64, u64::saturating_add),
        rate(requests),
        cpu(sum(services, |one| one.cpu_millis)),
        view.host.cpus,
        memory,
        (view.host.memory_bytes)
            .map_or_else(String::new, |all| format!(" of {}", self::memory(all))),
        self::memory(view.host.logs_disk_bytes),
        self::memory(view.host.metrics_disk_bytes),
    )
}

fn sum(services: &[ServiceView], of: impl Fn(&ServiceView) -> u64) -> u64 {
    services.iter().map(of).fold(0, u64::saturating_add)
}

fn services(view: &View) -> Vec<String> {
    if view.services.is_empty() {
        return vec!["no services; `ekiden deploy` makes one".to_owned()];
    }
    let header = [
        "NAME",
        "STATUS",
        "INSTANCES",
        "REQ/S",
        "5XX",
        "P50",
        "P99",
        "IN FLIGHT",
        "WAITING",
        "CPU",
        "MEMORY",
    ];
    lines(&header, view.services.iter().map(row).collect())
}

fn row(service: &ServiceView) -> Vec<String> {
    let rates = service.rates.as_ref();
    let of = |one: fn(&Rates) -> Option<f64>| rates.and_then(one);
    vec![
        shown(&service.service_name),
        shown(&service.status),
        format!(
            "{}/{}/{}",
            service.instances_ready, service.instances_starting, service.instances_other
        ),
        rate(of(|rates| Some(rates.requests_per_second))),
        percent(of(|rates| rates.errors_percent)),
        millis(of(|rates| rates.latency_millis_p50)),
        millis(of(|rates| rates.latency_millis_p99)),
        count(service.in_flight),
        count(service.queued),
        cpu(service.cpu_millis),
        memory(service.memory_bytes),
    ]
}

fn instance_table(service: &ServiceView) -> Vec<String> {
    if service.instances.is_empty() {
        return vec!["no instances".to_owned()];
    }
    let header = [
        "INSTANCE", "STATUS", "ACTIVITY", "CPU", "OF ITS", "MEMORY", "OF ITS",
    ];
    let rows = service
        .instances
        .iter()
        .map(|one| instance_row(service, one));
    lines(&header, rows.collect())
}

/// Instances that are counted and not told of: those that use least CPU.
fn untold(service: &ServiceView) -> usize {
    let of_all = [
        service.instances_ready,
        service.instances_starting,
        service.instances_other,
    ];
    let all = of_all.map(u64::from).iter().sum::<u64>();
    (all as usize).saturating_sub(service.instances.len())
}

fn instance_row(service: &ServiceView, instance: &InstanceUsage) -> Vec<String> {
    let share = |used: Option<f64>, all: f64| {
        let share = used.filter(|_| all > 0.0).map(|used| used / all * 100.0);
        share.map_or_else(|| UNKNOWN.to_owned(), |share| format!("{share:.0} %"))
    };
    let cpu_millis = instance.cpu_millis;
    let memory_bytes = instance.memory_bytes;
    let unknown = || UNKNOWN.to_owned();
    vec![
        shown(&instance.instance_id),
        shown(&instance.status),
        instance.activity.as_deref().map_or_else(unknown, shown),
        cpu_millis.map_or_else(unknown, |millis| cpu(millis.into())),
        share(cpu_millis.map(f64::from), f64::from(service.cpu_millis_max)),
        memory_bytes.map_or_else(unknown, memory),
        share(
            memory_bytes.map(|bytes| bytes as f64),
            service.memory_bytes_max as f64,
        ),
    ]
}

fn lines(header: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    table(header, rows).lines().map(str::to_owned).collect()
}

/// A text of somebody else's in one line, without anything that a terminal obeys.
fn shown(text: &str) -> String {
    printable(text).replace('\t', " ")
}

fn count(count: Option<u32>) -> String {
    count.map_or_else(|| UNKNOWN.to_owned(), |count| count.to_string())
}

fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => UNKNOWN.to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn percent(percent: Option<f64>) -> String {
    percent.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent:.1} %"))
}

fn millis(millis: Option<f64>) -> String {
    match millis {
        None => UNKNOWN.to_owned(),
        Some(millis) if millis < 10.0 => format!("{millis:.1} ms"),
        Some(millis) if millis < 1000.0 => format!("{millis:.0} ms"),
        Some(millis) => format!("{:.1} s", millis / 1000.0),
    }
}

/// In CPUs.
fn cpu(millis: u64) -> String {
    format!("{:.2}", millis as f64 / 1000.0)
}

fn memory(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match mib < 1024.0 {
        true => format!("{mib:.0} MiB"),
        false => format!("{:.1} GiB", mib / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::native::HostUsage;

    use super::*;

    fn web() -> ServiceView {
        let instance = InstanceUsage {
            instance_id: "0123456789abcdef0123456789abcdef".to_owned(),
            status: "RUNNING".to_owned(),
            activity: Some("active".to_owned()),
            cpu_millis: Some(250),
            memory_bytes: Some(64 << 20),
        };
        let started = InstanceUsage {
            instance_id: "f".repeat(32),
            status: "STARTING".to_owned(),
            ..InstanceUsage::default()
        };
        ServiceView {
            service_name: "web".to_owned(),
            status: "RUNNING".to_owned(),
            instances_ready: 1,
            instances_starting: 1,
            rates: Some(Rates {
                seconds: 2.0,
                requests: 400,
                requests_per_second: 200.0,
                errors_per_second: 1.0,
                errors_percent: Some(0.5),
                latency_millis_p50: Some(1.25),
                latency_millis_p99: Some(1234.0),
            }),
            in_flight: Some(3),
            queued: Some(0),
            cpu_millis: 250,
            memory_bytes: 64 << 20,
            cpu_millis_max: 1000,
            memory_bytes_max: 2 << 30,
            instances: vec![instance, started],
            ..ServiceView::default()
        }
    }

    fn named(name: &str) -> ServiceView {
        ServiceView {
            service_name: name.to_owned(),
            status: "PAUSED".to_owned(),
            ..ServiceView::default()
        }
    }

    fn view(services: Vec<ServiceView>) -> View {
        let host = HostUsage {
            cpus: 4,
            memory_bytes: Some(16 << 30),
            logs_disk_bytes: 3 << 20,
            metrics_disk_bytes: 1 << 20,
        };
        View { services, host }
    }

    #[test]
    fn a_service_is_a_line_and_what_is_not_known_a_dash() {
        assert_eq!(
            text(&view(vec![web(), named("idle")]), false),
            "NAME  STATUS   INSTANCES  REQ/S  5XX    P50     P99    IN FLIGHT  WAITING  CPU   MEMORY\n\
             web   RUNNING  1/1/0      200    0.5 %  1.2 ms  1.2 s  3          0        0.25  64 MiB\n\
             idle  PAUSED   0/0/0      -      -      -       -      -          -        0.00  0 MiB"
        );
        assert!(text(&View::default(), false).contains("ekiden deploy"));
    }

    #[test]
    fn instances_are_below_their_service() {
        let text = text(&view(vec![web()]), true);
        let (_, instances) = text.split_once("\n\n").unwrap();
        assert_eq!(
            instances,
            "INSTANCE                          STATUS    ACTIVITY  CPU   OF ITS  MEMORY  OF ITS\n\
             0123456789abcdef0123456789abcdef  RUNNING   active    0.25  25 %    64 MiB  3 %\n\
             ffffffffffffffffffffffffffffffff  STARTING  -         -     -       -       -"
        );
        let mut crowd = web();
        crowd.instances_ready = 150;
        let fitted = |room| fit(instance_table(&crowd), room, "instances", untold(&crowd));
        assert_eq!(fitted(usize::MAX)[3], "149 more instances are not shown");
        assert_eq!(fitted(3)[2], "150 more instances are not shown");
    }

    #[test]
    fn a_frame_has_sums_and_is_no_larger_than_the_terminal() {
        let services = ["a", "b", "c", "d", "e"].map(named).into();
        let view = view(services);
        let said = [Some("http://host, every 2 s"), None];
        let lines = frame(&view, false, &said, 200, 50);
        assert_eq!(lines.len(), 9);
        assert_eq!(
            lines[..3],
            [
                "http://host, every 2 s",
                "services 5, instances 0, requests/s -, CPU 0.00 of 4, memory 0 MiB of 16.0 GiB, \
                 disk of logs 3 MiB, of metrics 1 MiB",
                ""
            ]
        );
        let small = frame(&view, false, &said, 30, 7);
        assert_eq!(
            small[4..],
            [
                "a     PAUSED  0/0/0      -    ",
                "b     PAUSED  0/0/0      -    ",
                "3 more services are not shown"
            ]
        );
        for width in 0..40 {
            for height in 0..12 {
                let lines = frame(&view, true, &said, width, height);
                assert!(lines.len() <= height);
                assert!(lines.iter().all(|line| line.chars().count() <= width));
            }
        }
    }

    #[test]
    fn nothing_that_is_shown_steers_the_terminal() {
        let mut service = web();
        service.service_name = "a\u{1b}[2J\nb\tc".to_owned();
        service.status = "\u{9b}31m".to_owned();
        service.instances[0].status = "\u{7}".to_owned();
        let said = [Some("cannot reach\r\n\u{1b}]0;x"), None];
        let lines = frame(&view(vec![service]), true, &said, 200, 50);
        let steers = |line: &String| line.chars().any(char::is_control);
        assert!(!lines.iter().any(steers), "{lines:?}");
    }

    #[test]
    fn numbers_have_the_unit_that_they_need() {
        let rates = [0.04, 99.94, 1234.5].map(|rate_| rate(Some(rate_)));
        assert_eq!(rates, ["0.0", "99.9", "1234"]);
        let times = [0.34, 9.94, 340.0, 61_000.0].map(|time| millis(Some(time)));
        assert_eq!(times, ["0.3 ms", "9.9 ms", "340 ms", "61.0 s"]);
        let sizes = [0, 1 << 20, 1 << 30, 5 << 29].map(memory);
        assert_eq!(sizes, ["0 MiB", "1 MiB", "1.0 GiB", "2.5 GiB"]);
    }
}

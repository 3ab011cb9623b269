//! The table of settings: the name, form, default and meaning of each.
//!
//! One row is everything there is to know about a setting; the reference page is compared with
//! this table by a test, and so are the defaults.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use ekiden_model::image::ImageReference;

use super::{
    AccessLog, AcmeChallenge, Config, ConfigError, LogFormat, LogLevel, Registry,
    typed::{Entry, Given},
};

/// One setting.
pub struct Setting {
    /// Its place in the file, such as `edge.listen`.
    pub key: &'static str,
    /// Its default as one would type it; empty when it is absent unless given.
    pub default: &'static str,
    /// What it may be, and where it goes.
    pub form: Form,
    /// What it is for, in a sentence.
    pub about: &'static str,
}

/// What a value may be, and the field of [`Config`] that holds it.
pub enum Form {
    /// A whole number within bounds.
    Count(u64, u64, fn(&mut Config) -> &mut u64),
    /// A duration within bounds.
    Time(Duration, Duration, fn(&mut Config) -> &mut Duration),
    /// An amount of bytes within bounds.
    Bytes(u64, u64, fn(&mut Config) -> &mut u64),
    /// A text of the kind described; the function refuses others with `None`.
    Text(&'static str, fn(&mut Config, &str) -> Option<()>),
    /// Texts of the kind described, at most so many.
    List(
        &'static str,
        usize,
        fn(&mut Config, &[String]) -> Option<()>,
    ),
    /// A text of the kind described, of one registry.
    Registry(&'static str, fn(&mut Registry, &str) -> Option<()>),
}

/// The prefix of keys that name a registry's host in the middle.
pub const REGISTRIES: &str = "images.registries.";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "name",
        default: "ekiden",
        form: Form::Text(
            "1 to 10 of `a-z`, `0-9` and `-`, first a letter",
            |config, text| is_name(text).then(|| text.clone_into(&mut config.name)),
        ),
        about: "Tells several Ekidens on one host apart; part of the names of links, groups and tables in the kernel.",
    },
    Setting {
        key: "data_dir",
        default: "/var/lib/ekiden",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.data_dir = path)
        }),
        about: "Everything that must last: the database, images, logs.",
    },
    Setting {
        key: "run_dir",
        default: "/run/ekiden",
        form: Form::Text("an absolute path of at most 57 bytes", |config, text| {
            absolute(text).map(|path| config.run_dir = path)
        }),
        about: "Sockets and `status.json`.",
    },
    Setting {
        key: "edge.listen",
        default: "0.0.0.0:8080",
        form: Form::List(
            "addresses such as `0.0.0.0:8080` or `[::]:8080`",
            8,
            |config, texts| {
                (!texts.is_empty()).then_some(())?;
                parse_all(texts).map(|addresses| config.edge.listen = addresses)
            },
        ),
        about: "Where browsers and other clients of the services connect.",
    },
    Setting {
        key: "edge.listen_tls",
        default: "0.0.0.0:8443",
        form: Form::List(
            "addresses such as `0.0.0.0:8443` or `[::]:8443`",
            8,
            |config, texts| parse_all(texts).map(|addresses| config.edge.listen_tls = addresses),
        ),
        about: "Where clients of the services connect with HTTPS; `[]` for nowhere.",
    },
    Setting {
        key: "edge.workers",
        default: "0",
        form: Form::Count(0, 240, |config| &mut config.edge.workers),
        about: "Threads that serve requests; 0 is one per core. Workers times addresses is at most 240.",
    },
    Setting {
        key: "edge.queue_requests",
        default: "20000",
        form: Form::Count(0, 100_000, |config| &mut config.edge.queue_requests),
        about: "Requests of one service that may wait for a free instance; more are refused with 503.",
    },
    Setting {
        key: "edge.queue_time",
        default: "30s",
        form: Form::Time(SECOND, HOUR, |config| &mut config.edge.queue_time),
        about: "How long a request waits for a free instance before it is refused with 503.",
    },
    Setting {
        key: "edge.header_time",
        default: "10s",
        form: Form::Time(SECOND, HOUR, |config| &mut config.edge.header_time),
        about: "How long a client may take to send the head of a request.",
    },
    Setting {
        key: "edge.keep_alive",
        default: "75s",
        form: Form::Time(SECOND, HOUR, |config| &mut config.edge.keep_alive),
        about: "How long a client's connection without a request is kept.",
    },
    Setting {
        key: "edge.response_idle",
        default: "300s",
        form: Form::Time(SECOND, HOUR, |config| &mut config.edge.response_idle),
        about: "How long an instance may send nothing before its request is given up.",
    },
    Setting {
        key: "edge.access_log",
        default: "",
        form: Form::Text("an absolute path, or `off`", |config, text| {
            config.edge.access_log = match text {
                "off" => AccessLog::Off,
                text => AccessLog::At(absolute(text)?),
            };
            Some(())
        }),
        about: "A file for one JSON line per request, in a directory that is the edge's user's to write; `<data_dir>/edge/access.log` when absent.",
    },
    Setting {
        key: "edge.access_log_bytes",
        default: "100MiB",
        form: Form::Bytes(1 << 20, 1 << 40, |config| &mut config.edge.access_log_bytes),
        about: "At this size the access log becomes `<file>.1`, what that was `<file>.2`, and so on.",
    },
    Setting {
        key: "edge.access_log_files",
        default: "5",
        form: Form::Count(1, 1000, |config| &mut config.edge.access_log_files),
        about: "How many files the access log has, the one that is written included; the oldest is removed.",
    },
    Setting {
        key: "edge.access_log_sample",
        default: "1",
        form: Form::Count(1, 1_000_000, |config| &mut config.edge.access_log_sample),
        about: "One of so many requests is logged; those that the front door answered itself or gave up always are.",
    },
    Setting {
        key: "edge.listen_private",
        default: "",
        form: Form::List(
            "addresses of `edge.listen` or `edge.listen_tls`",
            8,
            |config, texts| {
                parse_all(texts).map(|addresses| config.edge.listen_private = addresses)
            },
        ),
        about: "Which of the addresses serve private services too.",
    },
    Setting {
        key: "edge.proxy_protocol",
        default: "",
        form: Form::List(
            "addresses of `edge.listen` or `edge.listen_tls`",
            16,
            |config, texts| {
                parse_all(texts).map(|addresses| config.edge.proxy_protocol = addresses)
            },
        ),
        about: "At which of the addresses every connection begins with a header of the PROXY protocol; only proxies may reach these.",
    },
    Setting {
        key: "edge.trusted_proxies",
        default: "",
        form: Form::List("networks such as `10.0.0.0/8`", 64, |config, texts| {
            config.edge.trusted_proxies = texts
                .iter()
                .map(|text| network(text))
                .collect::<Option<_>>()?;
            Some(())
        }),
        about: "Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    },
    Setting {
        key: "edge.connections_per_client",
        default: "16000",
        form: Form::Count(0, 1_000_000, |config| {
            &mut config.edge.connections_per_client
        }),
        about: "Connections that one address, or one IPv6 /64, may have; more are closed. 0 is any number, as trusted proxies have.",
    },
    Setting {
        key: "tls.local_domains",
        default: "true",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.tls.local_domains = flag)
        }),
        about: "Custom domains have certificates of Ekiden's own authority (`ekiden ca`) while `acme.directory` is absent; otherwise they are served over HTTP alone.",
    },
    Setting {
        key: "acme.directory",
        default: "",
        form: Form::Text("an `https://` URL", |config, text| {
            url(text).map(|url| config.acme.directory = Some(url))
        }),
        about: "The directory of the ACME authority that custom domains get certificates from, such as `https://acme-v02.api.letsencrypt.org/directory`. Setting it agrees to the authority's terms of service.",
    },
    Setting {
        key: "acme.fallback_directory",
        default: "",
        form: Form::Text("an `https://` URL", |config, text| {
            url(text).map(|url| config.acme.fallback_directory = Some(url))
        }),
        about: "Another authority, tried after three failures in a row, and then in turn.",
    },
    Setting {
        key: "acme.email",
        default: "",
        form: Form::Text("an address", |config, text| {
            text.contains('@')
                .then(|| config.acme.email = Some(text.to_owned()))
        }),
        about: "Whom the authorities may write to.",
    },
    Setting {
        key: "acme.challenge",
        default: "http-01",
        form: Form::Text("`http-01`, `tls-alpn-01` or `dns-01`", |config, text| {
            let challenge = match text {
                "http-01" => AcmeChallenge::Http01,
                "tls-alpn-01" => AcmeChallenge::TlsAlpn01,
                "dns-01" => AcmeChallenge::Dns01,
                _ => return None,
            };
            config.acme.challenge = challenge;
            Some(())
        }),
        about: "How names are proved: on port 80, on port 443, or by a record in the DNS, the only way for wildcards.",
    },
    Setting {
        key: "acme.root",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.acme.root = Some(path))
        }),
        about: "A file with the one root certificate, in PEM, that the authorities' servers are trusted by, readable by control's user; the host's roots when absent.",
    },
    Setting {
        key: "acme.eab_key_id",
        default: "",
        form: Form::Text("1 to 256 bytes", |config, text| {
            short(text).map(|text| config.acme.eab_key_id = Some(text))
        }),
        about: "The id of the account at the authority that a new ACME account is bound to, where it asks for one.",
    },
    Setting {
        key: "acme.eab_key_file",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.acme.eab_key_file = Some(path))
        }),
        about: "A file with that account's key in base64url, readable by control's user.",
    },
    Setting {
        key: "acme.default_domain",
        default: "false",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.acme.default_domain = flag)
        }),
        about: "The services' own names, `*.<region>.<service.domain>`, have certificates by ACME too; needs `dns-01`.",
    },
    Setting {
        key: "acme.on_demand",
        default: "",
        form: Form::List(
            "names such as `shop.example.com` or `*.example.com`",
            100,
            |config, texts| {
                let good = |text: &String| is_domain(text.strip_prefix("*.").unwrap_or(text));
                texts
                    .iter()
                    .all(good)
                    .then(|| config.acme.on_demand = texts.to_vec())
            },
        ),
        about: "Names that get a certificate when a client first asks for them, if they lead to a service.",
    },
    Setting {
        key: "acme.dns_server",
        default: "",
        form: Form::Text("an address such as `192.0.2.53:53`", |config, text| {
            parse(text).map(|address| config.acme.dns_server = Some(address))
        }),
        about: "The name server that takes updates (RFC 2136) of the names' zones, over TCP; for `dns-01`.",
    },
    Setting {
        key: "acme.dns_key_name",
        default: "",
        form: Form::Text("1 to 256 bytes", |config, text| {
            short(text).map(|text| config.acme.dns_key_name = Some(text))
        }),
        about: "The name of the key that updates are signed with (TSIG, HMAC-SHA256); they are not signed when absent.",
    },
    Setting {
        key: "acme.dns_key_file",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.acme.dns_key_file = Some(path))
        }),
        about: "A file with that key in base64, readable by control's user.",
    },
    Setting {
        key: "api.listen",
        default: "127.0.0.1:8470",
        form: Form::Text("an address such as `127.0.0.1:8470`", |config, text| {
            parse::<SocketAddr>(text).map(|address| config.api.listen = address)
        }),
        about: "Where the App Runner API listens, over HTTP: keep it on loopback or a trusted network.",
    },
    Setting {
        key: "api.account_id",
        default: "100000000001",
        form: Form::Text("12 digits", |config, text| {
            is_account(text).then(|| text.clone_into(&mut config.api.account_id))
        }),
        about: "The account in ARNs.",
    },
    Setting {
        key: "api.automatic_connections",
        default: "false",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.api.automatic_connections = flag)
        }),
        about: "Connections are `AVAILABLE` at once; otherwise `ekiden connection complete` does what App Runner's console does.",
    },
    Setting {
        key: "api.strict_references",
        default: "false",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.api.strict_references = flag)
        }),
        about: "Refuse ARNs and ids of roles, keys, subnets and security groups that Ekiden does not know; otherwise well-formed ones are taken.",
    },
    Setting {
        key: "service.domain",
        default: "ekiden.localhost",
        form: Form::Text(
            "a lower-case domain name of at most 200 bytes",
            |config, text| is_domain(text).then(|| text.clone_into(&mut config.service.domain)),
        ),
        about: "A service's host name is `<10 letters and digits>.<region>.<domain>`.",
    },
    Setting {
        key: "service.drain_limit",
        default: "120s",
        form: Form::Time(Duration::ZERO, HOUR, |config| {
            &mut config.service.drain_limit
        }),
        about: "How long a replaced instance, and a stopping edge, may finish the requests they hold.",
    },
    Setting {
        key: "service.stop_grace",
        default: "10s",
        form: Form::Time(Duration::ZERO, HOUR, |config| {
            &mut config.service.stop_grace
        }),
        about: "From an instance's stop signal to the kill that cannot be refused.",
    },
    Setting {
        key: "service.start_limit",
        default: "300s",
        form: Form::Time(SECOND, HOUR, |config| &mut config.service.start_limit),
        about: "How long a new instance may take to become healthy before its deployment fails.",
    },
    Setting {
        key: "service.scale_in_delay",
        default: "60s",
        form: Form::Time(SECOND, DAY, |config| &mut config.service.scale_in_delay),
        about: "How long less must have been asked for before instances are taken away. A service's own: `ekiden scale`.",
    },
    Setting {
        key: "service.idle_to_zero",
        default: "900s",
        form: Form::Time(SECOND, DAY, |config| &mut config.service.idle_to_zero),
        about: "With `MinSize` 0, how long nothing may have been asked for before the last instance is stopped. A service's own: `ekiden scale`.",
    },
    Setting {
        key: "service.throttle_after",
        default: "5s",
        form: Form::Time(Duration::ZERO, DAY, |config| {
            &mut config.service.throttle_after
        }),
        about: "How long nothing may have been asked of a service before its instances get next to no CPU; `0s` is never. A service's own: `ekiden scale`.",
    },
    Setting {
        key: "service.freeze_after",
        default: "0s",
        form: Form::Time(Duration::ZERO, DAY, |config| {
            &mut config.service.freeze_after
        }),
        about: "How long nothing may have been asked of a service before its instances get no CPU at all and their memory is given back; `0s` is never. A service's own: `ekiden scale`.",
    },
    Setting {
        key: "service.assume_domains",
        default: "false",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.service.assume_domains = flag)
        }),
        about: "Custom domains are validated without looking for their records in the DNS.",
    },
    Setting {
        key: "service.validation_dns",
        default: "",
        form: Form::Text("an address such as `192.0.2.53:53`", |config, text| {
            parse(text).map(|address| config.service.validation_dns = Some(address))
        }),
        about: "The name server that is asked for the validation records of custom domains, instead of the host's.",
    },
    Setting {
        key: "quota.services",
        default: "20000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.services),
        about: "Services that are not deleted, in one region. App Runner has 30.",
    },
    Setting {
        key: "quota.connections",
        default: "1000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.connections),
        about: "Connections in one region. App Runner has 10.",
    },
    Setting {
        key: "quota.auto_scaling_configurations",
        default: "1000",
        form: Form::Count(1, 1000000, |config| {
            &mut config.quota.auto_scaling_configurations
        }),
        about: "Names of auto scaling configurations in one region. App Runner has 10.",
    },
    Setting {
        key: "quota.auto_scaling_revisions",
        default: "1000",
        form: Form::Count(1, 1000000, |config| {
            &mut config.quota.auto_scaling_revisions
        }),
        about: "Active revisions of one auto scaling configuration. App Runner has 5.",
    },
    Setting {
        key: "quota.observability_configurations",
        default: "1000",
        form: Form::Count(1, 1000000, |config| {
            &mut config.quota.observability_configurations
        }),
        about: "Names of observability configurations in one region. App Runner has 10.",
    },
    Setting {
        key: "quota.observability_revisions",
        default: "1000",
        form: Form::Count(1, 1000000, |config| {
            &mut config.quota.observability_revisions
        }),
        about: "Active revisions of one observability configuration. App Runner has 10.",
    },
    Setting {
        key: "quota.vpc_connectors",
        default: "1000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.vpc_connectors),
        about: "VPC connectors in one region. App Runner has 10.",
    },
    Setting {
        key: "quota.custom_domains",
        default: "100",
        form: Form::Count(1, 10000, |config| &mut config.quota.custom_domains),
        about: "Custom domains of one service. App Runner has 5.",
    },
    Setting {
        key: "quota.instances_per_service",
        default: "1000",
        form: Form::Count(1, 100000, |config| &mut config.quota.instances_per_service),
        about: "The greatest `MaxSize` and `MinSize` of an auto scaling configuration. App Runner has 25.",
    },
    Setting {
        key: "quota.requests_per_instance",
        default: "10000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.requests_per_instance),
        about: "The greatest `MaxConcurrency` of an auto scaling configuration. App Runner has 200.",
    },
    Setting {
        key: "quota.access_keys",
        default: "1000",
        form: Form::Count(1, 100000, |config| &mut config.quota.access_keys),
        about: "Access keys in all.",
    },
    Setting {
        key: "quota.secrets",
        default: "10000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.secrets),
        about: "Secrets in one region.",
    },
    Setting {
        key: "quota.parameters",
        default: "10000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.parameters),
        about: "Parameters in one region.",
    },
    Setting {
        key: "quota.repositories",
        default: "10000",
        form: Form::Count(1, 1000000, |config| &mut config.quota.repositories),
        about: "Repositories of the built-in registry.",
    },
    Setting {
        key: "sources.prebuilt",
        default: "",
        form: Form::List("`<repository URL>=<image>`", 1000, |config, texts| {
            config.sources.prebuilt = texts
                .iter()
                .map(|text| prebuilt(text))
                .collect::<Option<_>>()?;
            Some(())
        }),
        about: "The image that a service with this source repository runs, instead of one that is built from it.",
    },
    Setting {
        key: "sources.size",
        default: "1GiB",
        form: Form::Bytes(1 << 20, 1 << 40, |config| &mut config.sources.size),
        about: "What a source tree may have, whether it is uploaded or fetched. A larger one is refused.",
    },
    Setting {
        key: "sources.poll",
        default: "60s",
        form: Form::Time(Duration::ZERO, DAY, |config| &mut config.sources.poll),
        about: "How often a git remote is asked whether the branch of a service with automatic deployments has moved; `0s` is never. A webhook tells at once.",
    },
    Setting {
        key: "sources.local",
        default: "",
        form: Form::List("an absolute path", 100, |config, texts| {
            let paths = texts.iter().map(|text| absolute(text));
            config.sources.local = paths.collect::<Option<_>>()?;
            Some(())
        }),
        about: "Directories whose git repositories services may name by their paths; control's user (`users.control`) has to be able to read them.",
    },
    Setting {
        key: "builds.concurrency",
        default: "2",
        form: Form::Count(1, 64, |config| &mut config.builds.concurrency),
        about: "Builds at one time; more wait.",
    },
    Setting {
        key: "builds.time_limit",
        default: "1800s",
        form: Form::Time(SECOND, DAY, |config| &mut config.builds.time_limit),
        about: "How long a build may take, its source included; then it fails.",
    },
    Setting {
        key: "builds.cpu_millis",
        default: "0",
        form: Form::Count(0, 1_000_000, |config| &mut config.builds.cpu_millis),
        about: "Thousandths of a CPU that a build may use; `0` is all that the host has.",
    },
    Setting {
        key: "builds.memory",
        default: "2GiB",
        form: Form::Bytes(64 << 20, 1 << 50, |config| &mut config.builds.memory),
        about: "Memory that a build may use.",
    },
    Setting {
        key: "builds.disk",
        default: "10GiB",
        form: Form::Bytes(64 << 20, 1 << 50, |config| &mut config.builds.disk),
        about: "What a build may write besides its caches.",
    },
    Setting {
        key: "builds.cache",
        default: "2GiB",
        form: Form::Bytes(1 << 20, 1 << 50, |config| &mut config.builds.cache),
        about: "What the dependency caches of one service, and the layers of its Dockerfile, may each have between builds; all go when they have more.",
    },
    Setting {
        key: "builds.runtimes",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.builds.runtimes = Some(path))
        }),
        about: "A directory of files (`*.yaml`) that add runtimes or take the place of Ekiden's own.",
    },
    Setting {
        key: "builds.ca_certificates",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.builds.ca_certificates = Some(path))
        }),
        about: "A file of certificates in PEM that git and the programs of builds are told to trust, for hosts whose way out is a proxy with an authority of its own; what the host trusts when absent.",
    },
    Setting {
        key: "network.ipv4",
        default: "10.201.0.0/16",
        form: Form::Text(
            "a network of /8 to /28 such as `10.201.0.0/16`",
            |config, text| {
                let network = parse::<ipnet::Ipv4Net>(text)?;
                let fits = (8..=28).contains(&network.prefix_len()) && network.trunc() == network;
                fits.then(|| config.network.ipv4 = network)
            },
        ),
        about: "Instances' addresses; must not overlap a network the host uses.",
    },
    Setting {
        key: "network.ipv6",
        default: "",
        form: Form::Text("a /64 such as `fd00:1:2:3::/64`", |config, text| {
            let network = parse::<ipnet::Ipv6Net>(text)?;
            let fits = network.prefix_len() == 64 && network.trunc() == network;
            fits.then(|| config.network.ipv6 = Some(network))
        }),
        about: "The same for IPv6; a unique local network made from `name` when absent.",
    },
    Setting {
        key: "network.dns",
        default: "9.9.9.9, 1.1.1.1",
        form: Form::List("IP addresses", 3, |config, texts| {
            parse_all(texts).map(|addresses| config.network.dns = addresses)
        }),
        about: "Name servers of instances when the host's own listen on its loopback only.",
    },
    Setting {
        key: "host.memory_reserve",
        default: "",
        form: Form::Text(
            "an amount from 0MiB to 1024TiB, such as `512MiB`",
            |config, text| {
                let bytes = parse_bytes(text).filter(|bytes| *bytes <= 1 << 50)?;
                config.host.memory_reserve = Some(bytes);
                Some(())
            },
        ),
        about: "Memory of the host that is kept free: below it no instance is started, and below twice as much no service grows beyond its minimum. A thirty-second of the host's memory, at most 1 GiB, when absent.",
    },
    Setting {
        key: "logs.budget",
        default: "10GiB",
        form: Form::Bytes(32 << 20, 1 << 50, |config| &mut config.logs.budget),
        about: "Disk that all log groups together may take, compressed; over it the oldest lines of the largest group go.",
    },
    Setting {
        key: "logs.group_budget",
        default: "1GiB",
        form: Form::Bytes(32 << 20, 1 << 50, |config| &mut config.logs.group_budget),
        about: "Disk that one log group may take, compressed; over it its oldest lines go, whatever its retention says.",
    },
    Setting {
        key: "logs.disk_reserve",
        default: "512MiB",
        form: Form::Bytes(0, 1 << 50, |config| &mut config.logs.disk_reserve),
        about: "What is left free on the disk: while there is less, no line is stored, and lines wait with their instances.",
    },
    Setting {
        key: "logs.requests",
        default: "true",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.logs.requests = flag)
        }),
        about: "Whether the lines of the access log are stored in their services' log groups as well.",
    },
    Setting {
        key: "telemetry.otlp",
        default: "",
        form: Form::Text(
            "a URL such as `https://collector.example.org:4318`",
            |config, text| {
                config.telemetry.otlp = Some(text.to_owned());
                Some(())
            },
        ),
        about: "A receiver of OTLP/HTTP: spans of sampled requests go to `/v1/traces` below it, and metrics to `/v1/metrics` every minute.",
    },
    Setting {
        key: "telemetry.otlp_headers",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.telemetry.otlp_headers = Some(path))
        }),
        about: "A file, readable by control's user, with headers that the receiver wants: one on each line, `name: value`.",
    },
    Setting {
        key: "telemetry.otlp_authorities",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.telemetry.otlp_authorities = Some(path))
        }),
        about: "A PEM file with the certificate authorities that the receiver is trusted by, instead of the host's.",
    },
    Setting {
        key: "telemetry.sample_per_million",
        default: "50000",
        form: Form::Count(0, 1_000_000, |config| {
            &mut config.telemetry.sample_per_million
        }),
        about: "So many of a million new traces are sampled, while spans are sent somewhere.",
    },
    Setting {
        key: "telemetry.trust_clients",
        default: "true",
        form: Form::Text("`true` or `false`", |config, text| {
            parse(text).map(|flag| config.telemetry.trust_clients = flag)
        }),
        about: "Whether a client that begins a trace says whether it is sampled; otherwise it is sampled like a new one.",
    },
    Setting {
        key: "telemetry.instances",
        default: "",
        form: Form::Text("a URL such as `http://10.0.0.5:4318`", |config, text| {
            config.telemetry.instances = Some(text.to_owned());
            Some(())
        }),
        about: "A receiver of OTLP that instances can reach: those of services whose observability is enabled get it as `OTEL_EXPORTER_OTLP_ENDPOINT`, and their service's name as `OTEL_SERVICE_NAME`, unless they set these themselves.",
    },
    Setting {
        key: "registry.budget",
        default: "50GiB",
        form: Form::Bytes(1 << 30, 1 << 50, |config| &mut config.registry.budget),
        about: "Disk that images in the built-in registry may take, compressed; a push of more is refused.",
    },
    Setting {
        key: "registry.names",
        default: "",
        form: Form::List(
            "registry hosts such as `registry.example.org`, with `*` for any characters",
            16,
            |config, texts| {
                let fits = texts.iter().all(|name| is_host(&name.replace('*', "x")));
                fits.then(|| config.registry.names = texts.to_vec())
            },
        ),
        about: "Further names of the built-in registry in image references, as behind a proxy. The API's own address and ECR's names of `api.account_id` are always its.",
    },
    Setting {
        key: "images.budget",
        default: "20GiB",
        form: Form::Bytes(1 << 30, 1 << 50, |config| &mut config.images.budget),
        about: "Disk that images may take before those that nothing uses are removed.",
    },
    Setting {
        key: "images.poll",
        default: "300s",
        form: Form::Time(Duration::ZERO, DAY, |config| &mut config.images.poll),
        about: "How often a registry is asked whether the tag of a service with automatic deployments was pushed; `0s` is never. The built-in registry tells at once.",
    },
    Setting {
        key: "images.registries.<host>.mirror",
        default: "",
        form: Form::Registry("`[http[s]://]host[:port][/prefix]`", |registry, text| {
            is_mirror(text).then(|| registry.mirror = Some(text.to_owned()))
        }),
        about: "Asked before the registry. `<host>` is as in image references, quoted: `[images.registries.\"registry.example:5000\"]`.",
    },
    Setting {
        key: "images.registries.<host>.plain_http",
        default: "",
        form: Form::Registry("`true` or `false`", |registry, text| {
            parse(text).map(|plain| registry.plain_http = Some(plain))
        }),
        about: "Speak HTTP to the registry, or HTTPS; when absent, HTTP to loopback addresses only.",
    },
    Setting {
        key: "images.registries.<host>.username",
        default: "",
        form: Form::Registry("1 to 256 bytes", |registry, text| {
            (1..=256)
                .contains(&text.len())
                .then(|| registry.username = Some(text.to_owned()))
        }),
        about: "The user to log in as.",
    },
    Setting {
        key: "images.registries.<host>.password_file",
        default: "",
        form: Form::Registry("an absolute path", |registry, text| {
            absolute(text).map(|path| registry.password_file = Some(path))
        }),
        about: "A file, readable by root, that holds the password and nothing else.",
    },
    Setting {
        key: "users.edge",
        default: "64801",
        form: Form::Count(1, 0x0fff_ffff, |config| &mut config.users.edge),
        about: "The user and group the edge runs as; needs no entry in `/etc/passwd`.",
    },
    Setting {
        key: "users.control",
        default: "64802",
        form: Form::Count(1, 0x0fff_ffff, |config| &mut config.users.control),
        about: "The user and group control runs as; must differ from the edge's.",
    },
    Setting {
        key: "log.level",
        default: "info",
        form: Form::Text("`error`, `warn`, `info` or `debug`", |config, text| {
            let level = match text {
                "error" => LogLevel::Error,
                "warn" => LogLevel::Warn,
                "info" => LogLevel::Info,
                "debug" => LogLevel::Debug,
                _ => return None,
            };
            config.log.level = level;
            Some(())
        }),
        about: "The least important line that is written.",
    },
    Setting {
        key: "log.format",
        default: "text",
        form: Form::Text("`text` or `json`", |config, text| {
            let format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return None,
            };
            config.log.format = format;
            Some(())
        }),
        about: "Lines for people or for machines.",
    },
    Setting {
        key: "log.file",
        default: "",
        form: Form::Text("an absolute path", |config, text| {
            absolute(text).map(|path| config.log.file = Some(path))
        }),
        about: "Where the roles log; standard error when absent. At 32 MiB it is moved to `<file>.1`.",
    },
];

impl Setting {
    /// The variable that sets it, if one can.
    pub fn variable(&self) -> Option<String> {
        let settable = !self.key.starts_with(REGISTRIES);
        settable.then(|| format!("EKIDEN_{}", self.key.replace('.', "_").to_uppercase()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(least, most, _) => write!(f, "a whole number from {least} to {most}"),
            Self::Time(least, most, _) => {
                write!(
                    f,
                    "a duration from {} to {}, such as `30s`",
                    brief(*least),
                    brief(*most)
                )
            }
            Self::Bytes(least, most, _) => {
                let amount = |bytes: u64| match bytes >> 30 {
                    0 => format!("{}MiB", bytes >> 20),
                    gib => format!("{gib}GiB"),
                };
                write!(
                    f,
                    "an amount from {} to {}, such as `20GiB`",
                    amount(*least),
                    amount(*most)
                )
            }
            Self::Text(what, _) | Self::Registry(what, _) => f.write_str(what),
            Self::List(what, most, _) => write!(f, "{what}, at most {most}"),
        }
    }
}

/// The table as the reference page has it.
pub fn reference() -> String {
    let mut table =
        "| setting | default | may be | what it is for |\n|---|---|---|---|\n".to_owned();
    for Setting {
        key,
        default,
        form,
        about,
    } in SETTINGS
    {
        let default = match *default {
            "" => "absent".to_owned(),
            default => format!("`{default}`"),
        };
        table += &format!("| `{key}` | {default} | {form} | {about} |\n");
    }
    table
}

/// Finds the setting of a key as typed, and the registry's host if the key has one.
pub fn find(path: &[String]) -> Option<(&'static Setting, Option<&str>)> {
    let (key, host) = match path {
        [images, registries, host, rest] if images == "images" && registries == "registries" => {
            (format!("{REGISTRIES}<host>.{rest}"), Some(host.as_str()))
        }
        path => (path.join("."), None),
    };
    SETTINGS
        .iter()
        .find(|setting| setting.key == key)
        .map(|setting| (setting, host))
}

/// The setting whose name is nearest to `key`, if one is near.
pub fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let registry = key.starts_with(REGISTRIES);
    SETTINGS
        .iter()
        .filter(|setting| setting.key.starts_with(REGISTRIES) == registry)
        .map(|setting| {
            let whole = strsim::jaro_winkler(setting.key, key);
            (
                setting.key,
                whole.max(strsim::jaro_winkler(&last(setting.key), &last(key))),
            )
        })
        .filter(|(_, similarity)| *similarity > 0.8)
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .map(|(key, _)| key)
}

/// Puts one typed value where it belongs.
pub(super) fn apply(config: &mut Config, entry: &Entry) -> Result<(), ConfigError> {
    let Some((setting, host)) = find(&entry.path) else {
        let key = entry.path.join(".");
        let nearest = nearest(&key);
        return Err(ConfigError::Unknown {
            origin: entry.origin.clone(),
            key,
            nearest,
        });
    };
    set(config, setting, host, &entry.given).ok_or_else(|| ConfigError::Value {
        origin: entry.origin.clone(),
        key: entry.path.join("."),
        value: entry.given.to_string(),
        expected: setting.form.to_string(),
    })
}

fn set(config: &mut Config, setting: &Setting, host: Option<&str>, given: &Given) -> Option<()> {
    match (&setting.form, given) {
        (Form::List(_, most, put), given) => {
            let texts = given.texts();
            (texts.len() <= *most).then_some(())?;
            put(config, &texts)
        }
        (_, Given::List(_)) => None,
        (Form::Count(least, most, field), Given::One(text)) => {
            let count = parse(text).filter(|count| (least..=most).contains(&count))?;
            *field(config) = count;
            Some(())
        }
        (Form::Time(least, most, field), Given::One(text)) => {
            let time = parse_time(text).filter(|time| (least..=most).contains(&time))?;
            *field(config) = time;
            Some(())
        }
        (Form::Bytes(least, most, field), Given::One(text)) => {
            let bytes = parse_bytes(text).filter(|bytes| (least..=most).contains(&bytes))?;
            *field(config) = bytes;
            Some(())
        }
        (Form::Text(_, put), Given::One(text)) => put(config, text),
        (Form::Registry(_, put), Given::One(text)) => {
            let host = host.filter(|host| is_host(host))?;
            put(
                config.images.registries.entry(host.to_owned()).or_default(),
                text,
            )
        }
    }
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A network, or an address as one.
fn network(text: &str) -> Option<ipnet::IpNet> {
    let address = parse::<std::net::IpAddr>(text).map(ipnet::IpNet::from);
    address.or_else(|| parse::<ipnet::IpNet>(text).map(|network| network.trunc()))
}

fn parse_all<T: FromStr>(texts: &[String]) -> Option<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}

/// `500ms`, `30s`, `5m`, `1h`.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    parse::<u64>(count)?
        .checked_mul(millis)
        .map(Duration::from_millis)
}

/// `500MiB`, `20GiB`, `1TiB`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let shift = match unit {
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    parse::<u64>(count)?.checked_mul(1 << shift)
}

fn brief(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds => format!("{seconds}s"),
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    path.is_absolute().then_some(path)
}

fn url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://")?;
    (!rest.is_empty() && text.len() <= 2000).then(|| text.to_owned())
}

fn short(text: &str) -> Option<String> {
    (1..=256).contains(&text.len()).then(|| text.to_owned())
}

fn is_name(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=10).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text.bytes().all(allowed)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|c| c.is_ascii_digit())
}

/// Labels as in RFC 1123, section 2.1.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    text.len() <= 200 && text.split('.').all(label)
}

fn is_host(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b".-:[]".contains(&c))
}

/// `<URL>=<image>`: an image has no `=`, a URL may.
fn prebuilt(text: &str) -> Option<(String, String)> {
    let (url, image) = text.rsplit_once('=')?;
    image.parse::<ImageReference>().ok()?;
    (!url.is_empty()).then(|| (url.to_owned(), image.to_owned()))
}

fn is_mirror(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let (host, prefix) = rest
        .unwrap_or(text)
        .split_once('/')
        .unwrap_or((rest.unwrap_or(text), ""));
    is_host(host)
        && prefix
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-._/".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::typed::Origin;

    const REFERENCE: &str = include_str!("../../../../docs/configuration.md");

    #[test]
    fn typing_every_default_changes_nothing() {
        for setting in SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty())
        {
            let path: Vec<String> = setting.key.split('.').map(str::to_owned).collect();
            let mut config = Config::default();
            let entry = Entry {
                path: path.clone(),
                given: Given::One(setting.default.to_owned()),
                origin: Origin::Flag("test".into()),
            };
            apply(&mut config, &entry).unwrap();
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn the_reference_page_lists_every_setting_as_it_is() {
        let reference = reference();
        assert!(
            REFERENCE.contains(&reference),
            "docs/configuration.md must hold what `ekiden settings` prints:\n{reference}"
        );
    }

    #[test]
    fn durations_and_amounts_are_read() {
        assert_eq!(parse_time("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_time("2m"), Some(Duration::from_secs(120)));
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_bytes("3TiB"), Some(3 << 40));
        assert_eq!(parse_bytes("99999999999999TiB"), None);
    }
}

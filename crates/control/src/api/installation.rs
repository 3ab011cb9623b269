//! What the installation allows and knows, as far as a service's configuration is judged by it.

use std::collections::BTreeMap;

use ekiden_aws::error::ApiError;
use ekiden_model::image::ImageReference;

use crate::{References, host::Host};

/// The pairs of CPU units and MiB that App Runner has (specification, section 3.6): they are
/// accepted whatever the host has, so that what runs there can be brought here.
const APP_RUNNER_PAIRS: [(u64, u64); 11] = [
    (256, 512),
    (256, 1024),
    (512, 1024),
    (1024, 2048),
    (1024, 3072),
    (1024, 4096),
    (2048, 4096),
    (2048, 6144),
    (4096, 8192),
    (4096, 10240),
    (4096, 12288),
];

/// CPU units to one CPU.
const UNITS_PER_CPU: f64 = 1024.0;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Installation<'a> {
    /// The machine's size.
    pub(super) host: Host,
    /// The account that is its own.
    pub(super) account_id: &'a str,
    /// What is asked of names of things that AWS would keep.
    pub(super) references: References,
    /// Images that run for source repositories instead of what would be built from them.
    pub(super) prebuilt: &'a BTreeMap<String, ImageReference>,
}

impl Installation<'_> {
    /// Whether one instance can have so much.
    ///
    /// # Errors
    /// `InvalidRequestException` with what the host has.
    pub(super) fn check_size(&self, cpu_units: f64, memory_mib: f64) -> Result<(), ApiError> {
        let is_pair =
            |(cpu, memory): &(u64, u64)| cpu_units == *cpu as f64 && memory_mib == *memory as f64;
        if APP_RUNNER_PAIRS.iter().any(is_pair) {
            return Ok(());
        }
        let cpus = f64::from(self.host.cpus);
        if cpu_units > cpus * UNITS_PER_CPU {
            return Err(ApiError::invalid_request(format!(
                "Cpu {cpu_units} ({} vCPU) is more than this host has: {cpus} CPUs, which are {}.",
                cpu_units / UNITS_PER_CPU,
                cpus * UNITS_PER_CPU
            )));
        }
        match self.host.memory_mib {
            Some(has) if memory_mib > has as f64 => Err(ApiError::invalid_request(format!(
                "Memory {memory_mib} ({} GB) is more than this host has: {has} MiB.",
                memory_mib / 1024.0
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The image that runs for a source repository instead of what would be built from it, if there is
    /// one.
    pub(super) fn prebuilt(&self, url: &str) -> Option<ImageReference> {
        let wanted = normalised(url);
        let found = self
            .prebuilt
            .iter()
            .find(|(url, _)| normalised(url) == wanted);
        found.map(|(_, image)| image.clone())
    }

    /// Whether a role, key or other thing that AWS would keep can be used. Its form was checked.
    ///
    /// # Errors
    /// `InvalidRequestException` with what `refusal` says of it.
    pub(super) fn check_reference(
        &self,
        arn: Option<&str>,
        refusal: impl FnOnce(&str) -> String,
    ) -> Result<(), ApiError> {
        match (arn, self.references) {
            (Some(arn), References::Strict) => Err(ApiError::invalid_request(refusal(arn))),
            (Some(_), References::Lenient) | (None, _) => Ok(()),
        }
    }
}

/// A repository's URL as it is compared: without what does not tell two repositories apart.
fn normalised(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    let url = url.strip_suffix(".git").unwrap_or(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    format!(
        "{}://{}/{path}",
        scheme.to_ascii_lowercase(),
        host.to_ascii_lowercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host {
        cpus: 2,
        memory_mib: Some(4000),
    };

    fn installation(prebuilt: &BTreeMap<String, ImageReference>) -> Installation<'_> {
        Installation {
            host: HOST,
            account_id: "100000000001",
            references: References::Lenient,
            prebuilt,
        }
    }

    #[test]
    fn any_size_within_the_host_is_accepted_and_app_runners_always() {
        let none = BTreeMap::new();
        let check = |cpu, memory| installation(&none).check_size(cpu, memory);
        for (cpu, memory) in APP_RUNNER_PAIRS {
            assert!(check(cpu as f64, memory as f64).is_ok(), "{cpu} {memory}");
        }
        for (cpu, memory) in [(100.0, 64.0), (2048.0, 4000.0), (1536.0, 512.0)] {
            assert!(check(cpu, memory).is_ok(), "{cpu} {memory}");
        }
        let cpu = check(3072.0, 512.0).unwrap_err();
        assert_eq!(
            cpu.message(),
            "Cpu 3072 (3 vCPU) is more than this host has: 2 CPUs, which are 2048."
        );
        let memory = check(1024.0, 4096.5).unwrap_err();
        assert!(memory.message().contains("4000 MiB"), "{memory:?}");
    }

    #[test]
    fn a_repository_is_found_however_its_url_is_written() {
        let image: ImageReference = "localhost/app".parse().unwrap();
        let prebuilt = BTreeMap::from([("https://github.com/Team/app".to_owned(), image)]);
        let found = |url| installation(&prebuilt).prebuilt(url).is_some();
        for url in [
            "https://github.com/Team/app",
            "https://GitHub.com/Team/app.git",
            "HTTPS://github.com/Team/app/",
            "github.com/Team/app",
        ] {
            assert!(found(url), "{url}");
        }
        for url in [
            "https://github.com/team/app",
            "https://github.com/Team/app2",
        ] {
            assert!(!found(url), "{url}");
        }
    }
}

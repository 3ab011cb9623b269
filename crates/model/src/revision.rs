//! Revisions: one immutable image plus configuration of a service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    health::HealthCheck,
    id::{InstanceId, OperationId, ServiceId},
    image::{ImageReference, PreparedImage},
    instance::{InstanceSpec, Limits, RevisionNumber, UserNamespace},
    name::ServiceName,
    secret_env::{SealedEnv, SecretEnv},
    secret_reference::SecretReference,
    source::{BuiltFrom, CodeSource},
    time::Timestamp,
};

/// What an instance may write to its own file system: App Runner's 3 GB.
pub const DISK_BYTES_DEFAULT: u64 = 3 << 30;

/// Processes and threads of one instance.
pub const PIDS_MAX_DEFAULT: u32 = 4096;

/// Names of variables that Ekiden sets; an application cannot.
pub const ENV_RESERVED: [&str; 4] = [
    "PORT",
    "EKIDEN_SERVICE",
    "EKIDEN_REVISION",
    "EKIDEN_INSTANCE",
];

/// The search path of a process whose image names none, as Docker has it.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// SIGTERM (signal(7)).
const SIGTERM: i32 = 15;

/// What a service's owner configured, typed and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The image to run, as configured; a revision pins what it resolved to.
    pub image: ImageReference,
    /// The code that is built, when it is no image that is run: [`Settings::image`] then names what is
    /// built, on this machine only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CodeSource>,
    /// Replaces the image's default arguments; already split into words. Empty: the image's.
    pub start_command: Vec<String>,
    /// Where the application listens.
    pub port: u16,
    /// Variables of the application.
    pub env: BTreeMap<String, String>,
    /// Where the values of its secret variables are, by the variable's name. Read once for each
    /// deployment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretReference>,
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    /// Memory limit.
    pub memory_bytes: u64,
    /// How its instances are checked.
    pub health: HealthCheck,
    /// How many instances it has.
    pub scaling: Scaling,
    /// Who root inside is.
    pub user_namespace: UserNamespace,
    /// Who may reach it.
    #[serde(default)]
    pub exposure: Exposure,
    /// Whether its instances are told where to send what they observe of themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
}

/// Who may reach a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// Everybody who can reach the front door, by the service's host names.
    #[default]
    Public,
    /// Nobody by way of the front door: none of its host names is published.
    Private,
}

/// How many instances a service has and how much each takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Kept at all times while the service runs.
    pub instances_min: u32,
    /// Never more than this.
    pub instances_max: u32,
    /// Requests that one instance holds at once.
    pub concurrency_per_instance: u32,
}

impl Default for Scaling {
    /// App Runner's `DefaultConfiguration`.
    fn default() -> Self {
        Self {
            instances_min: 1,
            instances_max: 25,
            concurrency_per_instance: 100,
        }
    }
}

/// One immutable image plus configuration of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Counted from 1 within its service.
    pub number: RevisionNumber,
    /// What was configured.
    pub settings: Settings,
    /// What the image resolved to.
    pub image: PreparedImage,
    /// The values of its secret variables as they were at its deployment, sealed: every instance of
    /// a revision has the same, whatever became of the secrets since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SealedEnv>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What was configured, in the API's words. Empty in records from before it was kept.
    #[serde(default)]
    pub configuration: String,
    /// The operation that made it; unknown in records from before it was kept.
    #[serde(default)]
    pub operation: Option<OperationId>,
    /// The revision that it repeats, when it was made by returning to one.
    #[serde(default)]
    pub copy_of: Option<RevisionNumber>,
    /// What its image was built from, if it was built for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<BuiltFrom>,
}

impl Settings {
    /// What one instance may use.
    pub const fn limits(&self) -> Limits {
        Limits {
            cpu_millis: self.cpu_millis,
            memory_bytes: self.memory_bytes,
            pids_max: PIDS_MAX_DEFAULT,
            disk_bytes: DISK_BYTES_DEFAULT,
        }
    }
}

impl Revision {
    /// What an engine needs to run one instance of this revision, one that its service has to have;
    /// but its secret variables: whoever can open them adds them.
    pub fn instance_spec(
        &self,
        id: InstanceId,
        service: ServiceId,
        service_name: &ServiceName,
    ) -> InstanceSpec {
        let config = &self.image.config;
        InstanceSpec {
            id,
            service,
            service_name: service_name.clone(),
            revision: self.number,
            image: self.image.digest,
            args: self.args(),
            env: self.env(id, service_name),
            secret_env: SecretEnv::default(),
            cwd: match config.working_dir.as_str() {
                "" => "/".to_owned(),
                dir => dir.to_owned(),
            },
            user: config.user.clone(),
            stop_signal: signal_number(&config.stop_signal).unwrap_or(SIGTERM),
            port: self.settings.port,
            limits: self.settings.limits(),
            user_namespace: self.settings.user_namespace,
            spare: false,
            build: None,
        }
    }

    /// Entrypoint, then the start command if there is one, else the image's default arguments
    /// (App Runner's `StartCommand` takes the place of `CMD`).
    fn args(&self) -> Vec<String> {
        let config = &self.image.config;
        let rest = match self.settings.start_command.is_empty() {
            true => &config.cmd,
            false => &self.settings.start_command,
        };
        config.entrypoint.iter().chain(rest).cloned().collect()
    }

    /// The image's variables, then the service's over them, then Ekiden's own over all.
    fn env(&self, id: InstanceId, service_name: &ServiceName) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([("PATH".to_owned(), PATH_DEFAULT.to_owned())]);
        env.extend(self.image.config.env.iter().filter_map(|pair| {
            pair.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        }));
        env.extend(self.settings.env.clone());
        env.extend([
            ("PORT".to_owned(), self.settings.port.to_string()),
            ("EKIDEN_SERVICE".to_owned(), service_name.to_string()),
            ("EKIDEN_REVISION".to_owned(), self.number.to_string()),
            ("EKIDEN_INSTANCE".to_owned(), id.to_string()),
        ]);
        env
    }
}

/// The number of a signal given as in an image's `StopSignal`: `SIGQUIT`, `QUIT` or `3`
/// (signal(7), x86 and ARM numbers).
fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let number = match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ABRT" => 6,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "CONT" => 18,
        "STOP" => 19,
        "WINCH" => 28,
        "PWR" => 30,
        _ => return rtmin_number(name),
    };
    Some(number)
}

/// `RTMIN+n` as systemd images use it; glibc's SIGRTMIN is 34.
fn rtmin_number(name: &str) -> Option<i32> {
    let offset = name.strip_prefix("RTMIN+")?.parse::<i32>().ok()?;
    (0..=30).contains(&offset).then_some(34 + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, ImageConfig};

    fn revision(config: ImageConfig, start_command: &[&str]) -> Revision {
        Revision {
            number: RevisionNumber(3),
            settings: Settings {
                image: "localhost/app".parse().expect("a good reference"),
                source: None,
                start_command: start_command.iter().map(ToString::to_string).collect(),
                port: 8080,
                env: BTreeMap::from([("MODE".into(), "service".into())]),
                secrets: BTreeMap::new(),
                cpu_millis: 1000,
                memory_bytes: 2 << 30,
                health: HealthCheck::default(),
                scaling: Scaling::default(),
                user_namespace: UserNamespace::Private,
                exposure: Exposure::Public,
                observed: false,
            },
            image: PreparedImage {
                digest: Digest::from_sha256([1; 32]),
                config,
                size_bytes: 1,
            },
            secrets: None,
            created_at: Timestamp::from_millis(1),
            configuration: String::new(),
            operation: None,
            copy_of: None,
            built: None,
        }
    }

    fn spec(revision: &Revision) -> InstanceSpec {
        let name = "web1".parse().expect("a good name");
        revision.instance_spec(
            InstanceId::from_bytes([2; 16]),
            ServiceId::from_bytes([1; 16]),
            &name,
        )
    }

    #[test]
    fn start_command_replaces_cmd_and_keeps_entrypoint() {
        let config = ImageConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["serve".into()],
            ..ImageConfig::default()
        };
        assert_eq!(
            spec(&revision(config.clone(), &[])).args,
            ["/entry", "serve"]
        );
        assert_eq!(
            spec(&revision(config, &["migrate", "-v"])).args,
            ["/entry", "migrate", "-v"]
        );
    }

    #[test]
    fn environment_is_image_then_service_then_ekiden() {
        let config = ImageConfig {
            env: vec!["MODE=image".into(), "PATH=/bin".into(), "PORT=1".into()],
            ..ImageConfig::default()
        };
        let env = spec(&revision(config, &[])).env;
        let want = [
            ("MODE", "service"),
            ("PATH", "/bin"),
            ("PORT", "8080"),
            ("EKIDEN_REVISION", "3"),
        ];
        for (name, value) in want {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn stop_signal_is_read_by_name_and_number() {
        for (text, number) in [
            ("SIGQUIT", Some(3)),
            ("TERM", Some(15)),
            ("37", Some(37)),
            ("SIGRTMIN+3", Some(37)),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
        for text in ["", "SIGNOPE", "0", "65", "-1", "RTMIN+99"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}

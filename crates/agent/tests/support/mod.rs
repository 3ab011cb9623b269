//! A world for one test: an agent of its own, with its own name, network and directories.
//!
//! The agent is a process, so that a test can kill it. The image is busybox.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ekiden_engine::{Engine, EngineError, LogQuery, Observation, remote::AgentClient};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    image::Digest,
    instance::{
        Exit, ExitCause, InstanceObservation, InstanceSpec, InstanceState, Limits, RevisionNumber,
        StopReason, UserNamespace,
    },
    secret_env::SecretEnv,
};
use tempfile::TempDir;
use tokio::time::timeout;

/// However slow the machine is, what takes longer than this will not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const PROGRAM: &str = env!("CARGO_BIN_EXE_ekiden-agent");

/// The only image.
pub(crate) const IMAGE: Digest = Digest::from_sha256([0xab; 32]);

pub(crate) const SERVICE: ServiceId = ServiceId::from_bytes([0x5e; 16]);

/// Whether instances can run here; says so when they cannot, for whoever counts skipped tests.
pub(crate) fn can_run() -> bool {
    let is_root = fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    let has_busybox = Path::new("/bin/busybox").exists();
    if !is_root || !has_busybox {
        eprintln!("SKIPPED: needs root and the package busybox-static");
    }
    is_root && has_busybox
}

pub(crate) struct World {
    pub(crate) name: String,
    directory: TempDir,
    network: String,
    agent: Child,
    pub(crate) client: AgentClient,
    instances: AtomicU32,
}

impl World {
    pub(crate) async fn new() -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let world = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{pid:x}-{world:x}");
        let network = format!(
            "10.{}.{}.0/24",
            128 + (pid >> 8 & 0x3f),
            (pid + world * 97) & 0xff
        );
        let directory = tempfile::tempdir().unwrap();
        make_layer(&directory.path().join("layers").join(IMAGE.hex()));
        let agent = spawn_agent(&name, directory.path(), &network);
        let client = AgentClient::connect(&directory.path().join("run/agent/agent.sock"));
        assert!(
            client.connected(PATIENCE).await,
            "the agent does not answer"
        );
        Self {
            name,
            directory,
            network,
            agent,
            client,
            instances: AtomicU32::new(0),
        }
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.directory.path().join("layers").join(IMAGE.hex())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data/agent")
    }

    pub(crate) fn gateway(&self) -> String {
        self.network.replace(".0/24", ".1")
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.id()
    }

    /// Kills the agent without warning and starts another one.
    pub(crate) async fn restart_agent(&mut self) {
        self.kill_agent().await;
        self.agent = spawn_agent(&self.name, self.directory.path(), &self.network);
        assert!(
            self.client.connected(PATIENCE).await,
            "the new agent does not answer"
        );
    }

    pub(crate) async fn kill_agent(&mut self) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        let mut observed = self.client.observe();
        let gone = observed.wait_for(|seen| !seen.current);
        timeout(PATIENCE, gone).await.unwrap().unwrap();
    }

    pub(crate) fn spec(&self, args: &[&str]) -> InstanceSpec {
        let number = self.instances.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        id[12..].copy_from_slice(&std::process::id().to_be_bytes());
        InstanceSpec {
            id: InstanceId::from_bytes(id),
            service: SERVICE,
            service_name: "test-service".parse().unwrap(),
            revision: RevisionNumber(1),
            image: IMAGE,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: BTreeMap::new(),
            secret_env: SecretEnv::default(),
            cwd: "/".to_owned(),
            user: String::new(),
            stop_signal: 15,
            port: 8080,
            limits: Limits {
                cpu_millis: 1000,
                memory_bytes: 64 << 20,
                pids_max: 64,
                disk_bytes: 1 << 30,
            },
            user_namespace: UserNamespace::Private,
            spare: false,
            build: None,
        }
    }

    /// A shell script in the instance.
    pub(crate) fn script(&self, script: &str) -> InstanceSpec {
        self.spec(&["sh", "-c", script])
    }

    /// Runs a script to its end; what it wrote, and how it ended.
    pub(crate) async fn run(&self, script: &str) -> (String, ExitCause) {
        self.run_spec(&self.script(script)).await
    }

    pub(crate) async fn run_spec(&self, spec: &InstanceSpec) -> (String, ExitCause) {
        self.client.start(spec).await.unwrap();
        let exit = self.exit(spec.id).await;
        (self.output(spec.id).await, exit.cause)
    }

    /// Runs a script that must succeed; what it wrote.
    #[track_caller]
    pub(crate) fn output_of<'a>(
        &'a self,
        script: &'a str,
    ) -> impl Future<Output = String> + use<'a> {
        let caller = std::panic::Location::caller();
        async move {
            let (output, cause) = self.run(script).await;
            assert_eq!(cause, ExitCause::Code { code: 0 }, "{caller}: {output}");
            output
        }
    }

    pub(crate) async fn start(&self, spec: &InstanceSpec) -> std::net::IpAddr {
        self.client.start(spec).await.unwrap();
        self.wait(spec.id, |state| match state {
            InstanceState::Running { address, .. } => Some(*address),
            InstanceState::Exited(exit) => panic!("{exit:?}"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn exit(&self, id: InstanceId) -> Exit {
        self.wait(id, |state| match state {
            InstanceState::Exited(exit) => Some(exit.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn stop(&self, id: InstanceId, grace_ms: u64) {
        self.client
            .stop(id, StopReason::NotNeeded, grace_ms)
            .await
            .unwrap();
    }

    /// Waits until the engine says of an instance what `want` wants.
    pub(crate) async fn wait<T>(
        &self,
        id: InstanceId,
        want: impl Fn(&InstanceState) -> Option<T>,
    ) -> T {
        let find = |seen: &Observation| {
            let instance = seen.instances.iter().find(|instance| instance.id == id)?;
            want(&instance.state)
        };
        let mut observed = self.client.observe();
        let found = observed.wait_for(|seen| find(seen).is_some());
        let found = timeout(PATIENCE, found).await;
        let seen = found.unwrap_or_else(|_| panic!("{:?}", self.client.observe().borrow()));
        find(&seen.unwrap()).unwrap()
    }

    pub(crate) async fn lines(&self, id: InstanceId) -> Vec<ekiden_engine::LogLine> {
        let query = LogQuery {
            service: SERVICE,
            instance: Some(id),
            after: None,
            lines_max: 1000,
        };
        self.client.logs(&query).await.unwrap().lines
    }

    pub(crate) async fn output(&self, id: InstanceId) -> String {
        let lines = self.lines(id).await;
        lines
            .iter()
            .map(|line| format!("{}\n", line.text))
            .collect()
    }

    /// Waits until an instance has written a line that contains this.
    pub(crate) async fn wait_for_line(&self, id: InstanceId, text: &str) {
        let waiting = async {
            while !self.output(id).await.contains(text) {
                // The log cannot be subscribed to.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("no `{text}` in: {}", self.output(id).await);
        }
    }

    /// Removes every instance there is.
    pub(crate) async fn clear(&self) {
        let seen: Vec<InstanceObservation> = self.client.observe().borrow().instances.clone();
        for instance in seen {
            self.remove(instance.id).await.unwrap();
        }
    }

    pub(crate) async fn remove(&self, id: InstanceId) -> Result<(), EngineError> {
        self.client.remove(id).await?;
        let mut observed = self.client.observe();
        let gone = observed.wait_for(|seen| seen.instances.iter().all(|one| one.id != id));
        timeout(PATIENCE, gone).await.unwrap().unwrap();
        Ok(())
    }

    /// The processes of an instance's shim, by the log it holds open.
    pub(crate) fn shim_of(&self, id: InstanceId) -> Option<u32> {
        let log = self
            .data()
            .join("logs")
            .join(SERVICE.to_string())
            .join(id.to_string());
        processes("ekiden-shim").into_iter().find(|pid| {
            let files = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten();
            files
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|file| file.starts_with(&log))
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let directory = self.directory.path();
        let _ = Command::new(PROGRAM)
            .args(["teardown", &self.name])
            .args([directory.join("data"), directory.join("run")])
            .arg(&self.network)
            .status();
    }
}

/// Processes of this name.
pub(crate) fn processes(name: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .collect()
}

/// Waits until something is so that nobody announces.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

fn spawn_agent(name: &str, directory: &Path, network: &str) -> Child {
    Command::new(PROGRAM)
        .args(["run", name])
        .args([directory.join("data"), directory.join("run")])
        .arg(network)
        .arg(directory.join("layers"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn make_layer(layer: &Path) {
    for directory in ["bin", "etc", "tmp", "home/app"] {
        fs::create_dir_all(layer.join(directory)).unwrap();
    }
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    fs::set_permissions(layer.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        layer.join("etc/group"),
        "root:x:0:\napp:x:1000:\nextra:x:77:app\n",
    )
    .unwrap();
}

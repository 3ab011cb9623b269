//! The world that git runs in: a private directory, an environment and a configuration.
//!
//! ```text
//! <scratch>/git-xxxxxx/      0700, gone with the session
//!   config                   the only configuration that git reads, beside the repository's own
//!   credentials              a token, for git's `store` helper
//!   key, known_hosts         for ssh
//! ```
//!
//! The configuration is a file rather than `-c` arguments, because arguments can be read by every process of
//! the host, and because `safe.directory` is taken from files only (git-config(1)).

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{
    Credential, Git,
    error::{GitError, classify, host},
    process::{Deadline, Growth, OnLine, Output, run},
    remote::{Remote, Transport},
};

/// Where programs are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Of those who do not care, GitHub among them.
const USERNAME: &str = "x-access-token";

/// Bytes of a secret: a private key of 16384 bits has 13 KB.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// What holds for every remote. Memory: objects of 16 MiB and more stream through, windows and caches are
/// small. Time: a transfer below 1000 bytes/s for 30 s is given up. Disk: everything stays in packs, nothing
/// is tidied up in the background.
const CONFIG: &str = "\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tbigFileThreshold = 16m
\tpackedGitWindowSize = 16m
\tpackedGitLimit = 256m
\tdeltaBaseCacheLimit = 32m
[pack]
\tthreads = 1
[fetch]
\tunpackLimit = 1
\trecurseSubmodules = false
\twriteCommitGraph = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[http]
\tfollowRedirects = initial
\tlowSpeedLimit = 1000
\tlowSpeedTime = 30
[ssh]
\tvariant = ssh
";

/// One remote with its credential.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) git: &'a Git,
    pub(super) remote: &'a Remote,
    pub(super) deadline: Deadline,
    dir: TempDir,
    has_credential: bool,
    /// What must not be said.
    secret: Option<Zeroizing<String>>,
}

impl<'a> Session<'a> {
    /// Makes the directory. Writes a few small files in place, which takes no time to speak of.
    pub(super) fn open(
        git: &'a Git,
        remote: &'a Remote,
        credential: &Credential,
        deadline: Deadline,
    ) -> Result<Self, GitError> {
        check_credential(remote, credential)?;
        let dir = tempfile::Builder::new()
            .prefix("git-")
            .tempdir_in(&git.scratch)
            .map_err(host("make a private directory for git"))?;
        let mut session = Self {
            git,
            remote,
            deadline,
            dir,
            has_credential: !matches!(credential, Credential::None),
            secret: None,
        };
        session.configure(credential)?;
        Ok(session)
    }

    fn configure(&mut self, credential: &Credential) -> Result<(), GitError> {
        let mut config = CONFIG.to_owned();
        let mut set = |section: &str, key: &str, value: &str| {
            // Writing to a string never fails.
            let _ = write!(config, "[{section}]\n\t{key} = {}\n", config_quoted(value));
        };
        if let Credential::Token { username, secret } = credential {
            let path = self.secret_file(
                "credentials",
                &credential_line(self.remote, username, secret),
            )?;
            let helper = format!("store --file={}", shell_quoted(&path)?);
            set("credential", "helper", &helper);
            self.secret = Some(secret.clone());
        }
        match self.remote.transport() {
            Transport::Https | Transport::Http => {}
            Transport::Ssh => set("core", "sshCommand", &self.ssh_command(credential)?),
            // git refuses repositories of other users, whose owners could change what it does (git-config(1),
            // "safe.directory"). Which are taken is the operator's choice here.
            Transport::Local => {
                set("safe", "directory", self.remote.as_str());
                set(
                    "safe",
                    "directory",
                    &format!("{}/.git", self.remote.as_str()),
                );
            }
        }
        self.secret_file("config", &Zeroizing::new(config))?;
        Ok(())
    }

    /// `core.sshCommand` is run by a shell, so every path is quoted for it; and for ssh, which splits the values
    /// of its options at spaces (ssh_config(5)).
    fn ssh_command(&self, credential: &Credential) -> Result<String, GitError> {
        let (mut key, mut hosts) = (None, None);
        if let Credential::SshKey { pem, known_hosts } = credential {
            // OpenSSH refuses a key without a line's end.
            let pem = Zeroizing::new(format!("{}\n", pem.trim_end()));
            key = Some(self.secret_file("key", &pem)?);
            hosts = match known_hosts {
                Some(lines) => Some(self.secret_file("known_hosts", lines)?),
                None => None,
            };
        }
        // An unknown host's first key is kept, and then no other is taken.
        let strict = if hosts.is_some() { "yes" } else { "accept-new" };
        let hosts = hosts.unwrap_or_else(|| self.git.known_hosts.clone());
        let mut command = format!(
            "ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none \
             -o StrictHostKeyChecking={strict} -o GlobalKnownHostsFile=/dev/null \
             -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 \
             -o ControlMaster=no -o ControlPath=none -o ClearAllForwardings=yes -o ForwardAgent=no \
             -o PermitLocalCommand=no -o UpdateHostKeys=no"
        );
        let identity = key.as_deref().unwrap_or(Path::new("none"));
        for (option, path) in [
            ("UserKnownHostsFile", hosts.as_path()),
            ("IdentityFile", identity),
        ] {
            let plain = shell_quoted(path)?;
            let inner = plain.trim_matches('\'');
            if inner.contains(['"', '%', '$', '\'']) {
                return Err(GitError::Credential(
                    "the data directory has a path that ssh cannot be given: use letters, digits and `-`",
                ));
            }
            let _ = write!(command, " -o '{option}=\"{inner}\"'");
        }
        Ok(command)
    }

    /// A file that only we can read.
    fn secret_file(&self, name: &str, content: &str) -> Result<PathBuf, GitError> {
        let path = self.dir.path().join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()));
        written.map_err(host("write a private file for git"))?;
        Ok(path)
    }

    /// A git command, with nothing in its environment but what is here.
    pub(super) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let dir = self.dir.path();
        let protocols = match self.remote.transport() {
            Transport::Https => "https",
            // A host may send to its own better half.
            Transport::Http => "http:https",
            Transport::Ssh => "ssh",
            Transport::Local => "file",
        };
        let mut command = Command::new("git");
        command
            .args(arguments)
            .env_clear()
            .envs(
                self.git
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env("PATH", PATH)
            .env("HOME", dir)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", dir.join("config"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .current_dir(dir)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, however that is.
    pub(super) async fn try_run(
        &self,
        command: Command,
        growth: Option<Growth<'_>>,
        on_line: OnLine<'_>,
    ) -> Result<Output, GitError> {
        let on_line = |line: String| on_line(self.without_secret(&line));
        let mut output = run(command, self.deadline, growth, &on_line).await?;
        output.stderr = self.without_secret(&output.stderr);
        Ok(output)
    }

    /// Runs a command that must succeed; its answer.
    pub(super) async fn run(&self, command: Command) -> Result<Vec<u8>, GitError> {
        let output = self.try_run(command, None, &|_| {}).await?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(self.failed(&output.stderr)),
        }
    }

    /// The error for a command that failed.
    pub(super) fn failed(&self, stderr: &str) -> GitError {
        classify(
            &self.without_secret(stderr),
            self.remote.as_str(),
            self.has_credential,
            self.git.repository_bytes_max,
        )
    }

    fn without_secret(&self, text: &str) -> String {
        match self.secret.as_deref().filter(|secret| !secret.is_empty()) {
            Some(secret) => text
                .replace(secret.as_str(), "***")
                .replace(percent_encoded(secret).as_str(), "***"),
            None => text.to_owned(),
        }
    }
}

fn check_credential(remote: &Remote, credential: &Credential) -> Result<(), GitError> {
    use Transport as T;
    let problem = match (credential, remote.transport()) {
        (Credential::None, _)
        | (Credential::Token { .. }, T::Https | T::Http)
        | (Credential::SshKey { .. }, T::Ssh) => None,
        (Credential::Token { .. }, T::Ssh) => {
            Some("a token is for https:// addresses: use a key for ssh, or the other address")
        }
        (Credential::SshKey { .. }, T::Https | T::Http) => {
            Some("a key is for ssh addresses: use a token for https://, or the other address")
        }
        (_, T::Local) => Some("a directory on this host takes no credential"),
    };
    let secret = match credential {
        Credential::None => "",
        Credential::Token { secret, .. } => secret.as_str(),
        Credential::SshKey { pem, .. } => pem.as_str(),
    };
    match problem {
        Some(problem) => Err(GitError::Credential(problem)),
        None if secret.len() > SECRET_BYTES_MAX => {
            Err(GitError::Credential("the secret is longer than 64 KiB"))
        }
        None => Ok(()),
    }
}

/// A line of git-credential-store(1)'s file.
fn credential_line(remote: &Remote, username: &str, secret: &str) -> Zeroizing<String> {
    let scheme = match remote.transport() {
        Transport::Http => "http",
        _ => "https",
    };
    let username = match username {
        "" => USERNAME,
        name => name,
    };
    Zeroizing::new(format!(
        "{scheme}://{}:{}@{}\n",
        *percent_encoded(username),
        *percent_encoded(secret),
        remote.host()
    ))
}

fn percent_encoded(text: &str) -> Zeroizing<String> {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            true => encoded.push(char::from(byte)),
            // Writing to a string never fails.
            false => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    Zeroizing::new(encoded)
}

/// A path as one word of a shell.
fn shell_quoted(path: &Path) -> Result<String, GitError> {
    let bad = || io::Error::other("its path is not UTF-8 or has quotes or control characters");
    let text = path.to_str().filter(|text| {
        !text.contains('\'') && !text.contains('\\') && !text.chars().any(char::is_control)
    });
    let text = text.ok_or_else(|| host("use the data directory with git")(bad()))?;
    Ok(format!("'{text}'"))
}

/// A value in a configuration file (git-config(1), "Syntax").
fn config_quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_for_whom_reads_them() {
        assert_eq!(config_quoted("a \"b\" \\c"), r#""a \"b\" \\c""#);
        assert_eq!(shell_quoted(Path::new("/a b;c")).unwrap(), "'/a b;c'");
        assert!(shell_quoted(Path::new("/a'b")).is_err());
        assert_eq!(*percent_encoded("a/ü@:\n"), "a%2F%C3%BC%40%3A%0A");
        let remote = Remote::parse("https://Host:8443/r", &[]).unwrap();
        let line = credential_line(&remote, "", "p:w@/");
        assert_eq!(*line, "https://x-access-token:p%3Aw%40%2F@host:8443\n");
    }
}

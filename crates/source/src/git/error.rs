//! What went wrong, from what git says of it.

use std::{io, time::Duration};

use super::{InvalidRemote, MODULE_DEPTH_MAX, MODULES_MAX};
use crate::snapshot::SnapshotError;

/// Bytes of git's own words that an error quotes.
const QUOTE_BYTES_MAX: usize = 600;

/// Why a repository could not be used. Quotes of git are bounded, printable and without secrets.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program is not there.
    #[error("git is not installed on this host: `apt install git`")]
    GitMissing,
    /// The program that git needs for SSH is not there.
    #[error("ssh is not installed on this host: `apt install openssh-client`")]
    SshMissing,
    /// No such repository, or none that whoever asks may see.
    #[error("the repository `{remote}` was not found, or the credential may not see it: {quote}")]
    NotFound {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// The remote asks who we are.
    #[error("`{remote}` does not exist or needs a credential: {quote}")]
    AuthenticationNeeded {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// The remote knows who we are, and says no.
    #[error("`{remote}` refused the credential: {quote}")]
    AuthenticationRefused {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// The remote is not who it was.
    #[error("the host key of `{remote}` is not the one that is known: {quote}")]
    HostKey {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// The name has no address.
    #[error("the host of `{remote}` is not known: {quote}")]
    HostUnknown {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// Nobody answers.
    #[error("`{remote}` cannot be reached: {quote}")]
    Unreachable {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// The certificate is not good.
    #[error("`{remote}` has no certificate that is trusted here: {quote}")]
    Tls {
        /// Where.
        remote: String,
        /// git's words.
        quote: String,
    },
    /// No such branch, tag or commit.
    #[error("`{remote}` has no branch, tag or commit `{revision}`")]
    RevisionNotFound {
        /// Where.
        remote: String,
        /// What was asked for.
        revision: String,
    },
    /// No such directory in the commit.
    #[error("the repository has no directory `{directory}`")]
    DirectoryNotFound {
        /// What was asked for.
        directory: String,
    },
    /// It took too long.
    #[error("it took longer than {} seconds, the most that is waited", .0.as_secs())]
    Timeout(Duration),
    /// The repository is too large, before it is unpacked.
    #[error("the repository is larger than {} MiB, the most that is fetched", .bytes_max >> 20)]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// The credential is for another kind of address.
    #[error("{0}")]
    Credential(&'static str),
    /// A submodule could not be had.
    #[error("failed to fetch the submodule `{path}`")]
    Module {
        /// Where it lies in the tree.
        path: String,
        /// Why.
        #[source]
        source: Box<GitError>,
    },
    /// A submodule that `.gitmodules` does not tell of.
    #[error("`.gitmodules` does not say where it is")]
    ModuleUnknown,
    /// A submodule's address.
    #[error(transparent)]
    Remote(#[from] InvalidRemote),
    /// Too many submodules.
    #[error("the repository has more than {MODULES_MAX} submodules, the most that are fetched")]
    TooManyModules,
    /// Submodules of submodules of submodules.
    #[error("submodules are nested more than {MODULE_DEPTH_MAX} deep")]
    TooDeep,
    /// The tree can be no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Anything else that git says.
    #[error("git failed: {quote}")]
    Failed {
        /// git's words.
        quote: String,
    },
    /// git does not answer as it should.
    #[error("git gave an answer that is not understood: {0}")]
    Odd(&'static str),
    /// This host is to blame.
    #[error("failed to {action}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An error of this host while something was done.
pub(super) fn host(action: &'static str) -> impl Fn(io::Error) -> GitError {
    move |source| GitError::Host { action, source }
}

/// What stands for a failed git. `bytes_max` is the bound that the repository may have met.
pub(super) fn classify(
    stderr: &str,
    remote: &str,
    has_credential: bool,
    bytes_max: u64,
) -> GitError {
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    let (remote, quote) = (remote.to_owned(), quote(stderr));
    if says(&["cannot run ssh", "ssh: not found", "ssh: command not found"]) {
        return GitError::SshMissing;
    }
    if says(&["File too large", "file size limit", "signal 25"]) {
        return GitError::TooLarge { bytes_max };
    }
    if says(&[
        "Host key verification failed",
        "HOST IDENTIFICATION HAS CHANGED",
    ]) {
        return GitError::HostKey { remote, quote };
    }
    if says(&[
        "Could not resolve host",
        "Name or service not known",
        "Temporary failure in name",
    ]) {
        return GitError::HostUnknown { remote, quote };
    }
    let asks = [
        "could not read Username",
        "could not read Password",
        "terminal prompts disabled",
    ];
    let denies = [
        "Authentication failed",
        "Permission denied",
        "Access denied",
        "returned error: 401",
        "returned error: 403",
        "Too many authentication failures",
        "Load key",
    ];
    if says(&asks) || says(&denies) {
        return match has_credential {
            true => GitError::AuthenticationRefused { remote, quote },
            false => GitError::AuthenticationNeeded { remote, quote },
        };
    }
    if says(&["certificate", "SSL", "TLS", "gnutls"]) {
        return GitError::Tls { remote, quote };
    }
    if says(&[
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "No route to host",
        "Network is unreachable",
        "Failed to connect",
        "Could not connect",
        "Couldn't connect",
        "Operation too slow",
        "timed out",
        "returned error: 5",
    ]) {
        return GitError::Unreachable { remote, quote };
    }
    if says(&[
        "not found",
        "does not appear to be a git repository",
        "does not exist",
        "No such file or directory",
        "could not be found",
    ]) {
        return GitError::NotFound { remote, quote };
    }
    GitError::Failed { quote }
}

/// Whether a server would not give a commit by its id.
pub(super) fn is_unadvertised(stderr: &str) -> bool {
    let texts = [
        "not our ref",
        "unadvertised object",
        "couldn't find remote ref",
        "does not allow request",
    ];
    texts.iter().any(|text| stderr.contains(text))
}

/// The end of what git said, in one line.
fn quote(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let text = lines.join("; ");
    let from = text.ceil_char_boundary(text.len().saturating_sub(QUOTE_BYTES_MAX));
    match text[from..].is_empty() {
        true => "it said nothing".to_owned(),
        false => text[from..].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stderr: &str, has_credential: bool, want: &str) {
        let got = format!("{:?}", classify(stderr, "r", has_credential, 1));
        assert!(got.starts_with(want), "{got}");
    }

    #[test]
    fn gits_words_are_understood() {
        let asks =
            "fatal: could not read Username for 'https://github.com': terminal prompts disabled";
        check(asks, false, "AuthenticationNeeded");
        check(asks, true, "AuthenticationRefused");
        check(
            "remote: Invalid username or token.\nfatal: Authentication failed for 'https://github.com/o/r/'",
            true,
            "AuthenticationRefused",
        );
        check(
            "git@github.com: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            false,
            "AuthenticationNeeded",
        );
        check(
            "remote: Repository not found.\nfatal: repository 'https://github.com/o/r/' not found",
            true,
            "NotFound",
        );
        check(
            "fatal: '/x' does not appear to be a git repository",
            false,
            "NotFound",
        );
        check(
            "fatal: unable to access 'https://h/r/': Could not resolve host: h",
            false,
            "HostUnknown",
        );
        check(
            "ssh: Could not resolve hostname h: Name or service not known",
            false,
            "HostUnknown",
        );
        check(
            "fatal: unable to access 'https://h/': server certificate verification failed. CAfile: none",
            false,
            "Tls",
        );
        check(
            "fatal: unable to access 'http://h/': Failed to connect to h port 80 after 0 ms",
            false,
            "Unreachable",
        );
        check(
            "Host key verification failed.\nfatal: Could not read from remote",
            true,
            "HostKey",
        );
        check(
            "error: cannot run ssh: No such file or directory\nfatal: unable to fork",
            true,
            "SshMissing",
        );
        check("fatal: write error: File too large", false, "TooLarge");
        check(
            "fatal: something new",
            false,
            "Failed { quote: \"fatal: something new\" }",
        );
        check(
            &"x".repeat(5000),
            false,
            &format!("Failed {{ quote: \"{}\" }}", "x".repeat(600)),
        );
        check("", false, "Failed { quote: \"it said nothing\" }");
    }
}

//! Where a repository is, and what of it is wanted: texts of users, before git sees them.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Bytes of an address.
const REMOTE_BYTES_MAX: usize = 2048;

/// Bytes of the name of a branch or tag: what file systems take for one name.
const REVISION_BYTES_MAX: usize = 255;

/// The address of a repository that git may be given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    /// As git gets it: without a user name for HTTP, a canonical path for a directory.
    address: String,
    transport: Transport,
    /// Host and port in lower case; empty for a directory.
    host: String,
}

/// How git reaches a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    Https,
    Http,
    Ssh,
    Local,
}

/// Text that is no address of a repository, or none that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be used as a repository: {problem}")]
pub struct InvalidRemote {
    text: String,
    problem: &'static str,
}

impl Remote {
    /// Reads `https://`, `http://` and `ssh://` addresses and `user@host:path`; and paths and `file://` below the
    /// directories of `allowed_local`. Looks at the file system for the last two only.
    pub fn parse(text: &str, allowed_local: &[PathBuf]) -> Result<Self, InvalidRemote> {
        parse_remote(text, allowed_local).map_err(|problem| InvalidRemote {
            // It may hold a password.
            text: crate::snapshot::shown(&without_password(text)),
            problem,
        })
    }

    /// As git gets it.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// Whether it is a directory of this host.
    pub fn is_local(&self) -> bool {
        self.transport == Transport::Local
    }

    /// Its host, with the port if one is given, in lower case; empty for a directory of this host.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    pub(super) fn is_clear_text(&self) -> bool {
        self.transport == Transport::Http
    }

    /// Whether a secret for one may go to the other: at the same host, and of the same owner, whose name a
    /// path begins with.
    pub(super) fn same_owner(&self, other: &Self) -> bool {
        let owner = |remote: &Self| {
            let (_, rest) = remote.address.split_once(&remote.host)?;
            let mut names = rest.split(['/', ':']).filter(|name| !name.is_empty());
            names.next().map(str::to_owned)
        };
        (self.transport, &self.host) == (other.transport, &other.host)
            && !self.is_local()
            && owner(self) == owner(other)
    }

    /// The address that a submodule of this repository has: `./` and `../` are relative to this one
    /// (gitmodules(5), "submodule.<name>.url").
    pub(super) fn join(
        &self,
        address: &str,
        allowed_local: &[PathBuf],
    ) -> Result<Self, InvalidRemote> {
        let refuse = |problem| InvalidRemote {
            text: crate::snapshot::shown(&without_password(address)),
            problem,
        };
        if !address.starts_with("./") && !address.starts_with("../") {
            let joined = Self::parse(address, allowed_local)?;
            return match joined.is_local() && !self.is_local() {
                true => Err(refuse("a remote repository has no submodules on this host")),
                false => Ok(joined),
            };
        }
        // What must stay: the scheme and host, or the host and its colon.
        let path_at = match self.address.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.find('/').unwrap_or(rest.len());
                scheme.len() + "://".len() + host
            }
            None => self.address.find(':').map_or(0, |at| at + 1),
        };
        let (base, path) = self.address.split_at(path_at);
        let rooted = path.starts_with('/');
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for part in address.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or_else(|| refuse("it leaves its host"))?),
                part => parts.push(part),
            }
        }
        let slash = if rooted { "/" } else { "" };
        Self::parse(&format!("{base}{slash}{}", parts.join("/")), allowed_local)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

fn parse_remote(text: &str, allowed_local: &[PathBuf]) -> Result<Remote, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > REMOTE_BYTES_MAX {
        return Err("it is longer than 2048 bytes");
    }
    if text.starts_with('-') {
        return Err("it begins with `-`");
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return Err("it has spaces, backslashes or control characters");
    }
    let is_helper = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
    };
    if text
        .split_once("::")
        .is_some_and(|(name, _)| is_helper(name))
    {
        return Err("`<helper>::` addresses run other programs");
    }
    match text.split_once("://") {
        Some(("https", rest)) => http(rest, Transport::Https),
        Some(("http", rest)) => http(rest, Transport::Http),
        Some(("ssh", rest)) => ssh(text, rest),
        Some(("file", path)) => local(path, allowed_local),
        Some(("git", _)) => Err("git:// neither encrypts nor proves who answers: use https or ssh"),
        Some(_) => Err("its scheme is none of https, http and ssh"),
        None if text.starts_with('/') => local(text, allowed_local),
        None => scp(text),
    }
}

fn http(rest: &str, transport: Transport) -> Result<Remote, &'static str> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            return Err("it has a password in it: give it as a credential instead");
        }
        // A name alone is what Bitbucket's addresses begin with; the credential has its own.
        Some((_, host)) => host,
        None => authority,
    };
    check_host(host)?;
    check_path(path)?;
    let scheme = match transport {
        Transport::Http => "http",
        _ => "https",
    };
    Ok(Remote {
        address: format!("{scheme}://{host}/{path}"),
        transport,
        host: host.to_ascii_lowercase(),
    })
}

fn ssh(text: &str, rest: &str) -> Result<Remote, &'static str> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority
        .rsplit_once('@')
        .map_or(Ok(authority), |(user, host)| {
            check_user(user).map(|()| host)
        })?;
    check_host(host)?;
    check_path(path)?;
    Ok(Remote {
        address: text.to_owned(),
        transport: Transport::Ssh,
        host: host.to_ascii_lowercase(),
    })
}

/// `[user@]host:path`, as scp has it.
fn scp(text: &str) -> Result<Remote, &'static str> {
    let unknown = "it is no https:// or ssh:// address, and no user@host:path";
    let (authority, path) = text.split_once(':').ok_or(unknown)?;
    if authority.contains('/') {
        return Err(unknown);
    }
    let host = authority
        .rsplit_once('@')
        .map_or(Ok(authority), |(user, host)| {
            check_user(user).map(|()| host)
        })?;
    check_host(host)?;
    check_path(path.strip_prefix('/').unwrap_or(path))?;
    Ok(Remote {
        address: text.to_owned(),
        transport: Transport::Ssh,
        host: host.to_ascii_lowercase(),
    })
}

fn local(path: &str, allowed: &[PathBuf]) -> Result<Remote, &'static str> {
    let denied = "paths on this host are taken only below directories that the operator allows";
    if !path.starts_with('/') {
        return Err("a path must be absolute");
    }
    // Also what is not there is only told to whoever may look there.
    let path = Path::new(path).canonicalize().map_err(|_| denied)?;
    let allows = |directory: &PathBuf| {
        directory
            .canonicalize()
            .is_ok_and(|directory| path.starts_with(directory))
    };
    if !allowed.iter().any(allows) {
        return Err(denied);
    }
    let address = path.to_str().ok_or("the path is not UTF-8")?;
    Ok(Remote {
        address: address.to_owned(),
        transport: Transport::Local,
        host: String::new(),
    })
}

/// A host name or address, with an optional port.
fn check_host(text: &str) -> Result<(), &'static str> {
    let bad = Err("its host is not a name or address with an optional port");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return bad;
            }
            ("v6", rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_good = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    match port_is_good && host.len() <= 253 && host.split('.').all(is_label) {
        true => Ok(()),
        false => bad,
    }
}

fn check_user(user: &str) -> Result<(), &'static str> {
    if user.contains(':') {
        return Err("it has a password in it: give a key as a credential instead");
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match !user.is_empty() && !user.starts_with('-') && user.bytes().all(good) {
        true => Ok(()),
        false => Err("its user is not a plain name"),
    }
}

/// The path on a host, without the slash before it.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.trim_matches('/').is_empty() {
        return Err("it names a host and no repository");
    }
    if path.starts_with('-') {
        return Err("its path begins with `-`");
    }
    if path.contains(['?', '#', '\'', '"', '`', '$', ';', '|', '&', '<', '>']) {
        return Err("its path has characters that no repository's path has");
    }
    match path.split('/').any(|part| part == "..") {
        true => Err("its path has a `..`"),
        false => Ok(()),
    }
}

/// An address as it may be shown, whatever it is.
fn without_password(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if rest[..at].contains(':') => format!("{scheme}***{}", &rest[at..]),
        _ => text.to_owned(),
    }
}

/// A branch, a tag or a commit that somebody asks for, by git's rules for names (git-check-ref-format(1)).
///
/// `HEAD` is the remote's default branch. A name that begins with `refs/` is taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(String);

/// Text that names no branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be a branch, tag or commit: {problem}")]
pub struct InvalidRevision {
    text: String,
    problem: &'static str,
}

impl Revision {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The commit, if it is a whole id.
    pub(super) fn as_commit(&self) -> Option<CommitId> {
        self.0.parse().ok()
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        check_revision(text).map_err(|problem| InvalidRevision {
            text: crate::snapshot::shown(text),
            problem,
        })?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_revision(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > REVISION_BYTES_MAX {
        return Err("it is longer than 255 bytes");
    }
    if text.starts_with('-') {
        return Err("it begins with `-`");
    }
    if text
        .chars()
        .any(|c| c.is_control() || " ~^:?*[\\".contains(c))
    {
        return Err("it has a character that names in git have not");
    }
    if text == "@" || text.contains("..") || text.contains("@{") || text.ends_with('.') {
        return Err("it is an expression and no name");
    }
    let bad = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    match text.split('/').any(bad) {
        true => Err("one of its parts is empty, begins with `.` or ends with `.lock`"),
        false => Ok(()),
    }
}

/// The id of a commit: 40 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitId(String);

impl CommitId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommitId {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == 40 && text.bytes().all(hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidRevision {
                text: crate::snapshot::shown(text),
                problem: "a commit's id has 40 lowercase hexadecimal digits",
            }),
        }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let got = match Remote::parse(text, &[]) {
            Ok(remote) => format!("{:?} {} {}", remote.transport, remote.host, remote.address),
            Err(error) => error.to_string(),
        };
        assert!(got == want || got.ends_with(&format!(": {want}")), "{got}");
    }

    #[test]
    fn addresses_are_those_that_hosts_show() {
        check(
            "https://github.com/o/r.git",
            "Https github.com https://github.com/o/r.git",
        );
        check(
            "https://me@Bitbucket.org/o/r",
            "Https bitbucket.org https://Bitbucket.org/o/r",
        );
        check(
            "http://10.0.0.1:3000/o/r",
            "Http 10.0.0.1:3000 http://10.0.0.1:3000/o/r",
        );
        check("https://[::1]:80/r", "Https [::1]:80 https://[::1]:80/r");
        check(
            "git@github.com:o/r.git",
            "Ssh github.com git@github.com:o/r.git",
        );
        check("host:r", "Ssh host host:r");
        check("ssh://git@h:7999/~u/r", "Ssh h:7999 ssh://git@h:7999/~u/r");
    }

    #[test]
    fn addresses_that_do_something_else_are_refused() {
        check("", "it is empty");
        check("-uhelp", "it begins with `-`");
        check("--upload-pack=touch /tmp/x", "it begins with `-`");
        check(
            "ext::sh -c id",
            "it has spaces, backslashes or control characters",
        );
        check("ext::id", "`<helper>::` addresses run other programs");
        check("fd::17/x", "`<helper>::` addresses run other programs");
        check(
            "https::https://a/b",
            "`<helper>::` addresses run other programs",
        );
        check("::x", "`<helper>::` addresses run other programs");
        check("ftp://h/r", "its scheme is none of https, http and ssh");
        check("HTTPS://h/r", "its scheme is none of https, http and ssh");
        check(
            "git://h/r",
            "git:// neither encrypts nor proves who answers: use https or ssh",
        );
        check("https://h", "it names a host and no repository");
        check(
            "https://-h/r",
            "its host is not a name or address with an optional port",
        );
        check(
            "https:///r",
            "its host is not a name or address with an optional port",
        );
        check(
            "https://h:1:2/r",
            "its host is not a name or address with an optional port",
        );
        check(
            "ssh://-oProxyCommand=id/r",
            "its host is not a name or address with an optional port",
        );
        check("-oProxyCommand=id:r", "it begins with `-`");
        check(
            "git@-oProxyCommand:r",
            "its host is not a name or address with an optional port",
        );
        check("-x@h:r", "it begins with `-`");
        check("ssh://-x@h/r", "its user is not a plain name");
        check("h:-r", "its path begins with `-`");
        check(
            "h:r;id",
            "its path has characters that no repository's path has",
        );
        check("https://h/a/../b", "its path has a `..`");
        check(
            "relative/path",
            "it is no https:// or ssh:// address, and no user@host:path",
        );
        check(
            "../r",
            "it is no https:// or ssh:// address, and no user@host:path",
        );
        check(
            "https://h/a\nb",
            "it has spaces, backslashes or control characters",
        );
        check(
            &format!("https://h/{}", "a".repeat(2048)),
            "it is longer than 2048 bytes",
        );
        let denied = "paths on this host are taken only below directories that the operator allows";
        check("/etc", denied);
        check("/nothing/there", denied);
        check("file:///etc", denied);
        check("file://host/etc", "a path must be absolute");
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        let error = Remote::parse("https://me:hunter2@h/r", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`https://***@h/r` cannot be used as a repository: it has a password in it: give it as a \
             credential instead"
        );
        let error = Remote::parse("ssh://me:hunter2@h/r", &[]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn local_paths_are_canonical_and_below_what_is_allowed() {
        let dir = tempfile::TempDir::new().unwrap();
        let (inside, outside) = (dir.path().join("in/r"), dir.path().join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("in/link")).unwrap();
        let allowed = [dir.path().join("in")];
        let parse = |path: &Path| Remote::parse(path.to_str().unwrap(), &allowed);
        assert!(parse(&inside).unwrap().is_local());
        assert!(parse(&dir.path().join("in/../in/r")).is_ok());
        for path in ["in/link", "out", "in/../out", "in/none"] {
            assert!(parse(&dir.path().join(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn submodules_are_relative_to_their_parent() {
        let join = |base: &str, address: &str| {
            let remote = Remote::parse(base, &[]).unwrap().join(address, &[]);
            remote
                .map(|remote| remote.address)
                .map_err(|error| error.problem)
        };
        let base = "https://h/o/r.git";
        assert_eq!(join(base, "../s.git").unwrap(), "https://h/o/s.git");
        assert_eq!(join(base, "../../p/s").unwrap(), "https://h/p/s");
        assert_eq!(join(base, "./s").unwrap(), "https://h/o/r.git/s");
        assert_eq!(join("git@h:o/r", "../s").unwrap(), "git@h:o/s");
        assert_eq!(join("ssh://h/o/r/", "../s").unwrap(), "ssh://h/o/s");
        assert_eq!(join(base, "git@h:o/s").unwrap(), "git@h:o/s");
        assert_eq!(join(base, "../../../x"), Err("it leaves its host"));
        assert!(join(base, "/etc").is_err());
        assert!(join(base, "ext::id").is_err());
        assert!(join(base, "-u./x").is_err());
    }

    #[test]
    fn names_are_those_of_git() {
        for good in [
            "main",
            "feature/x",
            "v1.2",
            "HEAD",
            "refs/heads/a",
            "ü",
            "a@b",
            "a-b",
        ] {
            assert!(good.parse::<Revision>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=id",
            "a b",
            "a..b",
            "a^",
            "a~1",
            "a:b",
            "@",
            "a@{1}",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.",
            "a\nb",
            "a*",
            "a[",
            "a\\b",
            "a?",
        ] {
            assert!(bad.parse::<Revision>().is_err(), "{bad}");
        }
        assert!("A".repeat(40).parse::<CommitId>().is_err());
    }
}

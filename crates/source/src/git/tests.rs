use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use tempfile::TempDir;

use super::*;
use crate::snapshot::SnapshotFiles;

/// A directory with repositories, and one for us.
struct World {
    dir: TempDir,
    git: Git,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["repos", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut git = Git::new(&dir.path().join("state"));
        git.allowed_local = vec![dir.path().join("repos")];
        Self { dir, git }
    }

    fn repository(&self, name: &str) -> Source {
        let path = self.dir.path().join("repos").join(name);
        fs::create_dir(&path).unwrap();
        let source = Source(path);
        source.git(&["init", "--quiet", "--initial-branch=main"]);
        source
    }

    async fn resolve(&self, source: &Source, revision: &str) -> Result<Commit, GitError> {
        let remote = source.remote(self);
        let revision = revision.parse().unwrap();
        self.git
            .resolve(&remote, &revision, &Credential::None)
            .await
    }

    async fn fetch(&self, source: &Source, directory: &str) -> Result<Fetched, GitError> {
        let commit = self.resolve(source, "HEAD").await?;
        self.fetch_commit(source, &commit, directory).await
    }

    async fn fetch_commit(
        &self,
        source: &Source,
        commit: &Commit,
        directory: &str,
    ) -> Result<Fetched, GitError> {
        let fetch = Fetch {
            remote: &source.remote(self),
            commit,
            credential: &Credential::None,
            directory,
            cache: &self.cache(),
            into: &self.tar(),
        };
        let fetched = self.git.fetch(fetch, |_| {}).await;
        // Nothing private stays, however it ends.
        let left = fs::read_dir(self.dir.path().join("state")).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name());
        assert!(
            names
                .into_iter()
                .all(|name| name == "cache" || name == "tar")
        );
        fetched
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("state/cache")
    }

    fn tar(&self) -> PathBuf {
        self.dir.path().join("state/tar")
    }

    fn files(&self, fetched: &Fetched) -> SnapshotFiles {
        SnapshotFiles::open(fetched.snapshot.clone(), &self.tar()).unwrap()
    }
}

/// Somebody's repository.
struct Source(PathBuf);

impl Source {
    fn remote(&self, world: &World) -> Remote {
        Remote::parse(self.0.to_str().unwrap(), &world.git.allowed_local).unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, b"")
    }

    fn git_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child = Command::new("git")
            .args([
                "-c",
                "protocol.file.allow=always",
                "-c",
                "core.protectNTFS=false",
            ])
            .args(["-c", "core.protectHFS=false"])
            .args(arguments)
            .current_dir(&self.0)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_AUTHOR_DATE", "1600000000 +0000")
            .env("GIT_COMMITTER_NAME", "Bob")
            .env("GIT_COMMITTER_EMAIL", "bob@example.com")
            .env("GIT_COMMITTER_DATE", "1700000001 +0200")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all", "--force"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A commit of a tree that no work tree can have: lines as `git mktree` reads them.
    fn commit_tree(&self, lines: &str) -> String {
        let tree = self.git_with(&["mktree", "--missing"], lines.as_bytes());
        let commit = self.git(&["commit-tree", &tree, "-m", "odd"]);
        self.git(&["update-ref", "refs/heads/main", &commit]);
        commit
    }

    fn blob(&self, content: &str) -> String {
        self.git_with(&["hash-object", "-w", "--stdin"], content.as_bytes())
    }
}

#[tokio::test]
async fn a_revision_is_a_branch_then_a_tag_then_a_commit() {
    let world = World::new();
    let source = world.repository("r");
    let first = source.commit("one");
    source.git(&["tag", "light"]);
    source.git(&["tag", "--annotate", "heavy", "--message", "x"]);
    source.git(&["tag", "both"]);
    source.git(&["checkout", "--quiet", "-b", "feature/x"]);
    let second = source.commit("two");
    source.git(&["branch", "both"]);
    source.git(&["branch", "x/main"]);
    let check = async |revision: &str, id: &str, reference: Option<&str>| {
        let commit = world.resolve(&source, revision).await.unwrap();
        assert_eq!(
            (commit.id.as_str(), commit.reference.as_deref()),
            (id, reference)
        );
    };
    check("main", &first, Some("refs/heads/main")).await;
    check("feature/x", &second, Some("refs/heads/feature/x")).await;
    check("light", &first, Some("refs/tags/light")).await;
    check("heavy", &first, Some("refs/tags/heavy")).await;
    check("both", &second, Some("refs/heads/both")).await;
    check("refs/tags/both", &first, Some("refs/tags/both")).await;
    check("HEAD", &second, Some("refs/heads/feature/x")).await;
    check(&first, &first, None).await;
    // The end of a name is not the name.
    let error = world.resolve(&source, "x").await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has no branch, tag or commit `x`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_commit_becomes_a_snapshot() {
    let world = World::new();
    let source = world.repository("r");
    source.put("README", "read\r\nme $Id$");
    // What a checkout would do with it.
    source.put(
        ".gitattributes",
        "* text eol=lf ident filter=evil\nREADME export-ignore\n",
    );
    source.put("web/run.sh", "#!/bin/sh\n");
    source.put("web/large", vec![7; 3_000_000]);
    source.git(&["config", "filter.evil.smudge", "touch /tmp/ekiden-evil"]);
    symlink("run.sh", source.0.join("web/link")).unwrap();
    source.git(&["config", "core.autocrlf", "false"]);
    fs::set_permissions(
        source.0.join("web/run.sh"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let id = source.commit("Add\tthe web\n\nBody");
    let fetched = world.fetch(&source, "/web/").await.unwrap();
    assert_eq!(fetched.commit.as_str(), id);
    assert_eq!((&*fetched.author, fetched.time), ("Ada", 1_700_000_001));
    assert_eq!(fetched.subject, "Add\\tthe web");
    assert_eq!(fetched.snapshot.epoch, 1_700_000_001);
    assert_eq!(
        fetched.directory_tree,
        source.git(&["rev-parse", "HEAD:web"])
    );
    assert_eq!(fetched.warnings, [""; 0]);
    let files = world.files(&fetched);
    let readme = files.read("README", 100).unwrap().unwrap();
    // What is in the repository; `text` normalised it when it was added.
    let blob = source.git(&["cat-file", "blob", "HEAD:README"]);
    assert_eq!(String::from_utf8(readme).unwrap(), blob);
    assert_eq!(
        files.read("web/large", 3_000_000).unwrap(),
        Some(vec![7; 3_000_000])
    );
    assert!(files.is_file("web/link"));
    let modes = files
        .entries()
        .iter()
        .filter_map(|entry| match &entry.kind {
            crate::snapshot::Kind::File {
                executable: true, ..
            } => Some(entry.path.as_str()),
            _ => None,
        });
    assert_eq!(modes.collect::<Vec<_>>(), ["web/run.sh"]);
    for directory in ["none", "README", "../web", "web/run.sh"] {
        let error = world.fetch(&source, directory).await.unwrap_err();
        assert!(
            matches!(error, GitError::DirectoryNotFound { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn later_fetches_bring_only_what_is_new() {
    let world = World::new();
    let source = world.repository("r");
    source.put("large", random(500_000));
    source.put("a", "one");
    source.commit("one");
    let first = world.fetch(&source, "").await.unwrap();
    source.put("a", "two");
    source.commit("two");
    let before = process::size(&world.cache());
    let second = world.fetch(&source, "").await.unwrap();
    assert!(process::size(&world.cache()) < before + 50_000);
    assert_ne!(first.directory_tree, second.directory_tree);
    assert_eq!(
        world.files(&second).read("a", 9).unwrap(),
        Some(b"two".to_vec())
    );
    // The first is still had, even without the remote.
    fs::rename(&source.0, source.0.with_extension("gone")).unwrap();
    fs::create_dir(&source.0).unwrap();
    let commit = Commit {
        id: first.commit.clone(),
        reference: None,
    };
    assert_eq!(
        world.fetch_commit(&source, &commit, "").await.unwrap(),
        first
    );
    // Locks that a killed git has left do not stop the next one.
    fs::remove_dir(&source.0).unwrap();
    fs::rename(source.0.with_extension("gone"), &source.0).unwrap();
    source.commit("three");
    fs::write(world.cache().join("repository.git/shallow.lock"), "").unwrap();
    world.fetch(&source, "").await.unwrap();
    // Nor does a cache that is no repository any more.
    fs::remove_file(world.cache().join("repository.git/HEAD")).unwrap();
    world.fetch(&source, "").await.unwrap();
}

#[tokio::test]
async fn a_commit_that_is_not_there_is_told_so() {
    let world = World::new();
    let source = world.repository("r");
    source.commit("one");
    let commit = Commit {
        id: "1".repeat(40).parse().unwrap(),
        reference: Some("refs/heads/main".to_owned()),
    };
    let error = world.fetch_commit(&source, &commit, "").await.unwrap_err();
    assert!(
        matches!(error, GitError::RevisionNotFound { .. }),
        "{error}"
    );
    fs::remove_dir_all(source.0.join(".git")).unwrap();
    let error = world.resolve(&source, "main").await.unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn hostile_trees_are_refused_by_name() {
    let world = World::new();
    let source = world.repository("r");
    let blob = source.blob("../../etc/passwd");
    let tree = source.git_with(
        &["mktree"],
        format!("100644 blob {blob}\tconfig\n").as_bytes(),
    );
    for (lines, want) in [
        (format!("120000 blob {blob}\tout\n"), "`out` cannot be part"),
        (
            format!("040000 tree {tree}\t.GIT\n"),
            "`.GIT/config` cannot be part",
        ),
        (
            format!("040000 tree {tree}\t..\n"),
            "`../config` cannot be part",
        ),
        (
            format!("100644 blob {blob}\t.wh.x\n"),
            "`.wh.x` cannot be part",
        ),
        (
            format!("100644 blob {blob}\t\"\\377\"\n"),
            "`\u{fffd}` cannot be part",
        ),
        (
            format!("100644 blob {blob}\t{}\n", "x".repeat(1100)),
            &*format!(
                "`{}` cannot be part of a source tree: its path is too long",
                "x".repeat(200)
            ),
        ),
    ] {
        source.commit_tree(&lines);
        let error = world.fetch(&source, "").await.unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
        assert!(!world.tar().exists());
    }
}

#[tokio::test]
async fn a_tree_of_ten_million_files_is_not_read() {
    let world = World::new();
    let source = world.repository("r");
    let mut line = format!("100644 blob {}", source.blob("x"));
    for _ in 0..7 {
        let lines: String = (0..10).map(|at| format!("{line}\t{at}\n")).collect();
        let tree = source.git_with(&["mktree"], lines.as_bytes());
        line = format!("040000 tree {tree}");
    }
    source.commit_tree(&format!("{line}\tx\n"));
    let error = world.fetch(&source, "").await.unwrap_err();
    assert!(
        error.to_string().contains("more than 200000 files"),
        "{error}"
    );
}

#[tokio::test]
async fn a_large_repository_is_stopped() {
    let mut world = World::new();
    let source = world.repository("r");
    source.put("large", random(8 << 20));
    source.commit("one");
    world.git.repository_bytes_max = 1 << 20;
    let error = world.fetch(&source, "").await.unwrap_err();
    assert!(
        matches!(
            error,
            GitError::TooLarge {
                bytes_max: 1_048_576
            }
        ),
        "{error:?}"
    );
    assert!(!world.cache().exists());
    world.git.repository_bytes_max = REPOSITORY_BYTES_MAX;
    world.git.limits.file_bytes_max = 1 << 20;
    let error = world.fetch(&source, "").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`large` is larger than 1 MiB, the most that one file may have"
    );
}

#[tokio::test]
async fn a_remotes_own_configuration_runs_nothing() {
    let world = World::new();
    let source = world.repository("r");
    source.commit("one");
    let mark = world.dir.path().join("mark");
    let touch = format!("touch {}", mark.display());
    for key in [
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "core.pager",
    ] {
        source.git(&["config", key, &touch]);
    }
    source.put(".git/hooks/post-checkout", format!("#!/bin/sh\n{touch}\n"));
    world.fetch(&source, "").await.unwrap();
    assert!(!mark.exists());
}

#[tokio::test]
async fn lfs_pointers_are_named() {
    let world = World::new();
    let source = world.repository("r");
    for at in 0..7 {
        let oid = "0".repeat(64);
        source.put(
            &format!("f{at}"),
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {at}\n"),
        );
    }
    source.commit("one");
    let fetched = world.fetch(&source, "").await.unwrap();
    assert_eq!(
        fetched.warnings,
        [
            "`f0`, `f1`, `f2`, `f3`, `f4` and 2 more are pointers of Git LFS, which is not supported: \
          their content is not there"
        ]
    );
}

#[tokio::test]
async fn submodules_are_laid_into_the_tree() {
    let world = World::new();
    let (outer, inner, deep) = (
        world.repository("outer"),
        world.repository("inner"),
        world.repository("deep"),
    );
    deep.put("d", "deep");
    deep.commit("deep");
    inner.put("i", "inner");
    inner.commit("inner");
    inner.git(&["submodule", "--quiet", "add", "../deep", "lib/deep"]);
    inner.commit("with deep");
    outer.put("o", "outer");
    outer.commit("outer");
    outer.git(&[
        "submodule",
        "--quiet",
        "add",
        inner.0.to_str().unwrap(),
        "lib",
    ]);
    outer.git(&["submodule", "--quiet", "add", "../deep", "lib-2"]);
    outer.commit("with inner");
    let fetched = world.fetch(&outer, "").await.unwrap();
    let files = world.files(&fetched);
    let paths: Vec<&str> = files
        .entries()
        .iter()
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            ".gitmodules",
            "lib/.gitmodules",
            "lib/i",
            "lib/lib/deep/d",
            "lib-2/d",
            "o"
        ]
    );
    assert_eq!(
        files.read("lib/lib/deep/d", 9).unwrap(),
        Some(b"deep".to_vec())
    );
    // The same again, from the cache.
    assert_eq!(world.fetch(&outer, "").await.unwrap(), fetched);
}

#[tokio::test]
async fn hostile_submodules_are_refused_by_name() {
    let world = World::new();
    let source = world.repository("r");
    let other = world.repository("other");
    let id = other.commit("one");
    let outside = world.dir.path().join("state");
    let gone = format!("{}/none", world.dir.path().join("repos").display());
    for (address, want) in [
        ("ext::sh -c touch% /tmp/x", "it has spaces"),
        ("ext::id", "run other programs"),
        ("-u./payload", "it begins with `-`"),
        ("--upload-pack=id", "it begins with `-`"),
        ("ssh://-oProxyCommand=id/r", "its host is not a name"),
        (outside.to_str().unwrap(), "paths on this host"),
        ("../../state", "paths on this host"),
        ("../../../../../../../../../x", "it leaves its host"),
        (&*gone, "paths on this host"),
    ] {
        let modules = format!("[submodule \"m\"]\n\tpath = m\n\turl = \"{address}\"\n");
        let modules = source.blob(&modules);
        source.commit_tree(&format!(
            "100644 blob {modules}\t.gitmodules\n160000 commit {id}\tm\n"
        ));
        let error = world.fetch(&source, "").await.unwrap_err();
        assert_eq!(error.to_string(), "failed to fetch the submodule `m`");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains(want), "{why}");
    }
    source.commit_tree(&format!("160000 commit {id}\tm\n"));
    let error = world.fetch(&source, "").await.unwrap_err();
    let GitError::Module { path, source: why } = error else {
        panic!("{error}");
    };
    assert!(path == "m" && matches!(*why, GitError::ModuleUnknown));
}

#[tokio::test]
async fn a_submodule_in_itself_comes_to_an_end() {
    let world = World::new();
    let source = world.repository("r");
    let modules = source.blob("[submodule \"m\"]\n\tpath = m\n\turl = ./\n");
    // A commit cannot have its own id, but a chain is as good.
    let mut id = source.commit("end");
    for _ in 0..7 {
        let lines = format!("100644 blob {modules}\t.gitmodules\n160000 commit {id}\tm\n");
        id = source.commit_tree(&lines);
    }
    let mut error = &world.fetch(&source, "").await.unwrap_err();
    while let GitError::Module { source, .. } = error {
        error = source;
    }
    assert!(matches!(error, GitError::TooDeep), "{error}");
}

/// A web server that answers every request with the same, and keeps their heads.
fn serve(answer: &'static str) -> (String, std::sync::Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/o/r.git", listener.local_addr().unwrap());
    let heads = std::sync::Arc::new(Mutex::new(Vec::new()));
    let kept = std::sync::Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap_or(0) > 2 {}
            kept.lock().unwrap().push(head);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, heads)
}

const DENIED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

async fn resolve_at(
    world: &World,
    address: &str,
    credential: &Credential,
) -> Result<Commit, GitError> {
    let remote = Remote::parse(address, &[]).unwrap();
    let revision = "main".parse().unwrap();
    world.git.resolve(&remote, &revision, credential).await
}

#[tokio::test]
async fn a_token_goes_to_the_server_and_nowhere_else() {
    let world = World::new();
    let (address, heads) = serve(DENIED);
    let error = resolve_at(&world, &address, &Credential::None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, GitError::AuthenticationNeeded { .. }),
        "{error:?}"
    );
    let token = Credential::Token {
        username: "u".to_owned(),
        secret: "p:/@\u{fc}".to_owned().into(),
    };
    let error = resolve_at(&world, &address, &token).await.unwrap_err();
    assert!(
        matches!(error, GitError::AuthenticationRefused { .. }),
        "{error:?}"
    );
    assert!(!error.to_string().contains("p:/@"));
    assert!(!format!("{token:?}").contains("p:"));
    let heads = heads.lock().unwrap();
    // base64 of `u:p:/@ü`.
    let sent = heads
        .iter()
        .filter(|head| head.contains("Basic dTpwOi9Aw7w="));
    assert_eq!(sent.count(), 1, "{heads:?}");
    let left = fs::read_dir(world.dir.path().join("state")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn credentials_must_fit_their_address() {
    let world = World::new();
    let token = Credential::Token {
        username: String::new(),
        secret: "t".to_owned().into(),
    };
    let key = Credential::SshKey {
        pem: "k".to_owned().into(),
        known_hosts: None,
    };
    for (address, credential) in [("git@h.invalid:r", &token), ("https://h.invalid/r", &key)] {
        let error = resolve_at(&world, address, credential).await.unwrap_err();
        assert!(matches!(error, GitError::Credential(_)), "{error}");
    }
}

#[tokio::test]
async fn faults_of_the_network_are_told_apart() {
    let world = World::new();
    let key = Credential::SshKey {
        pem: "no key".to_owned().into(),
        known_hosts: Some(String::new()),
    };
    for (address, credential) in [
        ("http://127.0.0.1:1/r", &Credential::None),
        ("ssh://git@127.0.0.1:1/r", &Credential::None),
        ("ssh://git@127.0.0.1:1/r", &key),
    ] {
        let error = resolve_at(&world, address, credential).await.unwrap_err();
        assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
    }
    let (address, _) =
        serve("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let error = resolve_at(&world, &address, &Credential::None)
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }), "{error:?}");
    let tls = address.replace("http:", "https:");
    let error = resolve_at(&world, &tls, &Credential::None)
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Tls { .. }), "{error:?}");
}

/// A server that takes a connection and says nothing; ends when the client is gone.
fn silent() -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/r", listener.local_addr().unwrap());
    let ended = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The request, and then the end: nobody holds the connection any more.
        while stream.read(&mut [0; 1024]).unwrap_or(0) > 0 {}
    });
    (address, ended)
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let mut world = World::new();
    world.git.time_max = Duration::from_millis(700);
    let (address, ended) = silent();
    let error = resolve_at(&world, &address, &Credential::None)
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Timeout(_)), "{error:?}");
    ended.join().unwrap();
}

#[tokio::test]
async fn a_future_that_is_dropped_kills_what_it_started() {
    let world = World::new();
    let (address, ended) = silent();
    let resolve = resolve_at(&world, &address, &Credential::None);
    let soon = tokio::time::timeout(Duration::from_millis(700), resolve);
    assert!(soon.await.is_err());
    ended.join().unwrap();
    let left = fs::read_dir(world.dir.path().join("state")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_data_directory_may_have_spaces() {
    let mut world = World::new();
    let state = world.dir.path().join("my state");
    fs::create_dir(&state).unwrap();
    (world.git.scratch, world.git.known_hosts) = (state.clone(), state.join("known_hosts"));
    let (address, heads) = serve(DENIED);
    let token = Credential::Token {
        username: "u".to_owned(),
        secret: "p".to_owned().into(),
    };
    assert!(resolve_at(&world, &address, &token).await.is_err());
    assert!(
        heads
            .lock()
            .unwrap()
            .iter()
            .any(|head| head.contains("Basic dTpw"))
    );
    let error = resolve_at(&world, "ssh://git@127.0.0.1:1/r", &Credential::None).await;
    assert!(
        matches!(error, Err(GitError::Unreachable { .. })),
        "{error:?}"
    );
}

/// Bytes that do not compress; the same every time.
fn random(count: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn futures_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    let world = World::new();
    let remote = Remote::parse("https://h/r", &[]).unwrap();
    let commit = Commit {
        id: "1".repeat(40).parse().unwrap(),
        reference: None,
    };
    let fetch = Fetch {
        remote: &remote,
        commit: &commit,
        credential: &Credential::None,
        directory: "",
        cache: Path::new("/x"),
        into: Path::new("/y"),
    };
    is_send(&world.git.fetch(fetch, |_| {}));
}

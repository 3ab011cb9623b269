use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    snapshot::{Limits, Snapshot, SnapshotFiles},
    tar::{self, BLOCK, Type},
};

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn scan(root: &Path) -> Folder {
    Folder::scan(root, &Limits::default()).unwrap()
}

fn paths(folder: &Folder) -> Vec<&str> {
    let items = folder.manifest().items.iter();
    items.map(|item| item.path.as_str()).collect()
}

fn upload(root: &Path, previous: Option<&SnapshotFiles>, into: &Path) -> (Snapshot, usize) {
    let folder = scan(root);
    let wanted = missing(folder.manifest(), previous);
    let archive = folder.pack(&wanted, Vec::new()).unwrap();
    let snapshot = assemble(&archive[..], previous, into, Limits::default()).unwrap();
    (snapshot, wanted.len())
}

#[test]
fn only_what_is_new_travels() {
    let (root, kept) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    put(root.path(), "a", "one");
    put(root.path(), "b/c", "two");
    put(root.path(), "b/copy", "one");
    put(root.path(), "empty", "");
    symlink("b/c", root.path().join("l")).unwrap();
    let into = kept.path().join("1");
    let (first, sent) = upload(root.path(), None, &into);
    assert_eq!(sent, 3);
    let files = SnapshotFiles::open(first.clone(), &into).unwrap();
    assert_eq!(files.read("l", 10).unwrap(), Some(b"two".to_vec()));
    // The same again gives the same bytes, from nothing at all.
    let (again, sent) = upload(root.path(), Some(&files), &kept.path().join("2"));
    assert_eq!((again, sent), (first, 0));
    put(root.path(), "b/c", "three");
    let (second, sent) = upload(root.path(), Some(&files), &kept.path().join("3"));
    assert_eq!(sent, 1);
    let files = SnapshotFiles::open(second, &kept.path().join("3")).unwrap();
    assert_eq!(files.read("b/c", 10).unwrap(), Some(b"three".to_vec()));
    assert_eq!(files.read("a", 10).unwrap(), Some(b"one".to_vec()));
    assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 3);
}

#[test]
fn ignore_files_decide_what_is_taken() {
    let root = TempDir::new().unwrap();
    let files = [
        ".git/config",
        "a",
        "a.log",
        "keep.log",
        "node_modules/m",
        "p/__pycache__/c",
        ".venv/x",
        "d/node_modules/m",
        "d/secret",
        "d/.GIT/config",
        "build/o",
        ".env",
        ".dockerignore",
    ];
    for path in files {
        put(root.path(), path, path);
    }
    put(root.path(), ".dockerignore", "a\n");
    put(root.path(), ".gitignore", "*.log\n/build/\n.env\n");
    put(root.path(), "d/.gitignore", "secret\n");
    let folder = scan(root.path());
    let plain = [".dockerignore", ".gitignore", "a", "d/.gitignore"];
    assert_eq!(paths(&folder), plain);
    put(
        root.path(),
        ".ekidenignore",
        "!/node_modules\n!keep.log\n.dockerignore\n",
    );
    let folder = scan(root.path());
    assert_eq!(
        paths(&folder),
        [
            ".ekidenignore",
            ".gitignore",
            "a",
            "d/.gitignore",
            "keep.log",
            "node_modules/m"
        ]
    );
    // Without a repository, too.
    fs::remove_dir_all(root.path().join(".git")).unwrap();
    assert_eq!(paths(&scan(root.path())).len(), 6);
}

#[test]
fn a_folder_in_a_repository_is_under_the_rules_above_it() {
    let above = TempDir::new().unwrap();
    put(above.path(), ".gitignore", "*.key\n");
    put(above.path(), "repo/.gitignore", ".env\n");
    put(above.path(), "repo/web/.env", "secret");
    put(above.path(), "repo/web/a.key", "");
    let web = above.path().join("repo/web");
    assert_eq!(paths(&scan(&web)), [".env", "a.key"]);
    fs::create_dir(above.path().join("repo/.git")).unwrap();
    assert_eq!(paths(&scan(&web)), ["a.key"]);
}

#[test]
fn sockets_are_left_out_with_a_note_and_odd_names_are_refused() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a", "");
    let _socket = UnixListener::bind(root.path().join("s")).unwrap();
    let folder = scan(root.path());
    assert_eq!(folder.notes(), ["`s` is a socket and is left out"]);
    symlink("/etc/passwd", root.path().join("l")).unwrap();
    let error = Folder::scan(root.path(), &Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`l` cannot be part of a source tree: it is a link to an absolute path: make it relative"
    );
    fs::remove_file(root.path().join("l")).unwrap();
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    fs::write(root.path().join(name), "").unwrap();
    let error = Folder::scan(root.path(), &Limits::default()).unwrap_err();
    assert!(
        error.to_string().ends_with("its name is not UTF-8"),
        "{error}"
    );
    let error = Folder::scan(&root.path().join("none"), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn what_is_put_into_a_folder_is_uploaded_in_the_place_of_its_file() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a", "one");
    put(root.path(), "b", "two");
    let mut folder = scan(root.path());
    let epoch = folder.manifest().epoch();
    let all = Limits::default();
    folder.put("b", b"three".to_vec(), &all).unwrap();
    folder.put("c", b"four".to_vec(), &all).unwrap();
    assert_eq!(paths(&folder), ["a", "b", "c"]);
    assert_eq!(folder.manifest().epoch(), epoch);
    let archive = folder
        .pack(&missing(folder.manifest(), None), Vec::new())
        .unwrap();
    let into = root.path().join("t");
    let snapshot = assemble(&archive[..], None, &into, all).unwrap();
    let files = SnapshotFiles::open(snapshot, &into).unwrap();
    for (path, want) in [("a", "one"), ("b", "three"), ("c", "four")] {
        assert_eq!(files.read(path, 10).unwrap(), Some(want.into()), "{path}");
    }
    assert!(folder.put("../c", Vec::new(), &all).is_err());
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_noticed() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a", "one");
    let folder = scan(root.path());
    put(root.path(), "a", "two, longer");
    let error = folder.pack(&missing(folder.manifest(), None), Vec::new());
    assert!(matches!(error, Err(PackError::Changed { .. })));
}

/// An archive with any entries, after a manifest.
fn archive(manifest: &str, contents: &[(&str, &[u8], u64)]) -> Vec<u8> {
    let mut tar = Vec::new();
    let manifest = ("manifest.json", manifest.as_bytes(), manifest.len() as u64);
    for (name, content, bytes) in [&[manifest], contents].concat() {
        tar.extend(tar::header(Type::File, name, "", 0o644, bytes, 0));
        tar.extend(content);
        tar.resize(tar.len() + tar::padding(content.len() as u64), 0);
    }
    tar.extend([0; 2 * BLOCK]);
    zstd::encode_all(&tar[..], 1).unwrap()
}

fn digest(content: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(content).into())
}

fn file(path: &str, content: &[u8]) -> String {
    format!(
        r#"{{"path":"{path}","modified":5,"kind":"file","executable":false,"bytes":{},"digest":"{}"}}"#,
        content.len(),
        digest(content)
    )
}

fn manifest(items: &[String]) -> String {
    format!(r#"{{"format":1,"items":[{}]}}"#, items.join(","))
}

#[track_caller]
fn check(archive: &[u8], limits: Limits, want: &str) {
    let dir = TempDir::new().unwrap();
    let got = match assemble(archive, None, &dir.path().join("t"), limits) {
        Ok(snapshot) => format!("{} entries", snapshot.entries.len()),
        Err(error) => error.to_string(),
    };
    assert!(got.starts_with(want), "{got}");
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, usize::from(got.ends_with("entries")));
}

#[test]
fn a_lying_archive_is_refused() {
    let all = Limits::default();
    let one = manifest(&[file("a", b"one")]);
    let name = digest(b"one").hex();
    check(&archive(&one, &[(&name, b"one", 3)]), all, "1 entries");
    check(
        &archive(&one, &[]),
        all,
        "the content of 1 files was not sent",
    );
    check(
        &archive(&one, &[(&name, b"two", 3)]),
        all,
        "the archive is refused: the content of sha256:",
    );
    check(
        &archive(&one, &[(&name, b"one!", 4)]),
        all,
        &format!("the archive is refused: sha256:{name} has 4 bytes, and the manifest says 3"),
    );
    check(
        &archive(&one, &[(&name, b"one", 3), (&name, b"one", 3)]),
        all,
        &format!("the archive is refused: sha256:{name} is there twice"),
    );
    check(
        &archive(&one, &[("../../etc/passwd", b"one", 3)]),
        all,
        "the archive is refused: an entry is not named by a digest",
    );
    check(
        &archive(&one, &[(&digest(b"x").hex(), b"x", 1)]),
        all,
        "the archive is refused: sha256:",
    );
    let lie = one.replace(r#""bytes":3"#, r#""bytes":2"#);
    check(
        &archive(&lie, &[(&name, b"one", 3)]),
        all,
        "the archive is refused: sha256:",
    );
    let both = manifest(&[file("a", b"one"), file("b", b"one").replace(":3,", ":4,")]);
    check(&archive(&both, &[]), all, "the manifest has two sizes");
    check(b"", all, "the archive is cut off");
    check(
        b"no zstd at all, and long enough",
        all,
        "the archive is refused: it is not good zstd",
    );
    check(
        &zstd::encode_all(&[7; 2048][..], 1).unwrap(),
        all,
        "the archive is refused",
    );
}

#[test]
fn a_manifest_cannot_climb_out() {
    let all = Limits::default();
    for path in ["../a", "/a", ".git/config", "a/.Git/b", "a/../../b", ""] {
        check(
            &archive(&manifest(&[file(path, b"")]), &[]),
            all,
            &format!("`{path}` cannot be part of a source tree"),
        );
    }
    let link =
        |target: &str| format!(r#"{{"path":"l","modified":5,"kind":"link","target":"{target}"}}"#);
    check(&archive(&manifest(&[link("a")]), &[]), all, "1 entries");
    check(
        &archive(&manifest(&[link("../a")]), &[]),
        all,
        "`l` cannot be",
    );
    check(
        &archive(&manifest(&[link("a"), link("b")]), &[]),
        all,
        "`l` cannot be part of a source tree: it is there twice",
    );
    check(&archive("{}", &[]), all, "the manifest is not understood");
    check(
        &archive(r#"{"format":2,"items":[]}"#, &[]),
        all,
        "the manifest has format 2",
    );
}

#[test]
fn every_cut_is_noticed() {
    let one = manifest(&[file("a", b"one"), file("b/c", b"two")]);
    let names = [digest(b"one").hex(), digest(b"two").hex()];
    let whole = archive(&one, &[(&names[0], b"one", 3), (&names[1], b"two", 3)]);
    let dir = TempDir::new().unwrap();
    let into = dir.path().join("t");
    for length in 0..whole.len() {
        let cut = assemble(&whole[..length], None, &into, Limits::default());
        // The frame may still lack its own end, which says nothing more.
        if cut.is_ok() {
            assert!(whole.len() - length <= 8, "{length} of {}", whole.len());
        }
    }
    assert!(assemble(&whole[..], None, &into, Limits::default()).is_ok());
}

#[test]
fn bombs_are_not_read() {
    let small = Limits {
        bytes_max: 1 << 20,
        ..Limits::default()
    };
    // A file that would be within the bounds of nobody.
    let huge = file("a", b"x").replace(r#""bytes":1"#, r#""bytes":99999999999"#);
    check(
        &archive(&manifest(&[huge]), &[]),
        small,
        "`a` is larger than 512 MiB",
    );
    let zeros = vec![0; 2 << 20];
    let large = manifest(&[file("a", &zeros)]);
    let name = digest(&zeros).hex();
    check(
        &archive(&large, &[(&name, &zeros, zeros.len() as u64)]),
        small,
        "the source is larger than 1 MiB",
    );
    // A manifest that says it is large is not even begun.
    let mut tar = tar::header(Type::File, "manifest.json", "", 0o644, 33 << 20, 0);
    tar.extend(vec![b' '; 33 << 20]);
    check(
        &zstd::encode_all(&tar[..], 1).unwrap(),
        small,
        "the manifest is larger than 32 MiB",
    );
    // A window that would take 128 MiB of memory.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).unwrap();
    check(
        &encoder.finish().unwrap(),
        small,
        "the archive is refused: it is not good zstd",
    );
    let many = manifest(&vec![file("a", b""); 200_001]);
    check(
        &archive(&many, &[]),
        small,
        "the manifest is not understood: invalid length 200001",
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let root = TempDir::new().unwrap();
    put(root.path(), "d/secret", "");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    fs::set_permissions(root.path().join("d/secret"), closed).unwrap();
    // Root reads everything.
    if fs::File::open(root.path().join("d/secret")).is_err() {
        let error = Folder::scan(root.path(), &Limits::default()).unwrap_err();
        assert!(error.to_string().ends_with("d/secret`"), "{error}");
    }
}

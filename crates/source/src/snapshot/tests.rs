use std::{fs, io::Write as _, path::Path};

use tempfile::TempDir;

use super::*;

fn write(into: &Path, files: &[(&str, &str)], limits: Limits) -> Result<Snapshot, SnapshotError> {
    let mut writer = Writer::create(into, 1_000_000_000, limits)?;
    for (path, content) in files {
        match content.strip_prefix("-> ") {
            Some(target) => writer.link(path, target)?,
            None => {
                let bytes = content.len() as u64;
                writer.file(path, path.ends_with(".sh"), bytes, &mut content.as_bytes())?;
            }
        }
    }
    writer.finish()
}

fn files(dir: &TempDir, name: &str, list: &[(&str, &str)]) -> SnapshotFiles {
    let tar = dir.path().join(name);
    let snapshot = write(&tar, list, Limits::default()).unwrap();
    SnapshotFiles::open(snapshot, &tar).unwrap()
}

const TREE: &[(&str, &str)] = &[
    ("README", "read me"),
    ("app/main.py", "print()"),
    ("app/run.sh", "#!/bin/sh"),
    ("app-data", "-> app"),
    ("current", "-> app/main.py"),
    ("loop", "-> loop"),
];

#[test]
fn the_tar_file_is_what_tar_takes_it_for() {
    let dir = TempDir::new().unwrap();
    let tar = dir.path().join("t.tar");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let mut list = TREE.to_vec();
    let wide = "ü".repeat(100);
    list.insert(5, (&long, "long"));
    list.push((&wide, "wide"));
    let snapshot = write(&tar, &list, Limits::default()).unwrap();
    assert_eq!(fs::metadata(&tar).unwrap().len(), snapshot.bytes);
    let listed = std::process::Command::new("tar")
        .args([
            "--numeric-owner",
            "--utc",
            "--quoting-style=literal",
            "-tvf",
        ])
        .arg(&tar)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(listed.status.success());
    let text = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let time = "2001-09-09 01:46";
    assert_eq!(lines[0], format!("drwxr-xr-x 0/0 0 {time} app/"));
    assert_eq!(lines[1], format!("-rw-r--r-- 0/0 7 {time} app/README"));
    assert_eq!(lines[2], format!("drwxr-xr-x 0/0 0 {time} app/app/"));
    assert_eq!(lines[4], format!("-rwxr-xr-x 0/0 9 {time} app/app/run.sh"));
    assert_eq!(
        lines[5],
        format!("lrwxrwxrwx 0/0 0 {time} app/app-data -> app")
    );
    assert!(text.contains(&format!("app/{long}\n")) && text.contains(&format!("app/{wide}\n")));
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
}

#[test]
fn files_are_read_by_their_paths_and_through_links() {
    let dir = TempDir::new().unwrap();
    let files = files(&dir, "t", TREE);
    for path in [
        "README",
        "app/main.py",
        "/app/./run.sh",
        "current",
        "app-data/main.py",
    ] {
        assert!(files.is_file(path), "{path}");
    }
    for path in [
        "",
        "app",
        "app-data",
        "loop",
        "none",
        "README/x",
        "../README",
        "app/../..",
    ] {
        assert!(!files.is_file(path), "{path}");
    }
    assert!(files.is_directory("") && files.is_directory("app-data") && !files.is_directory("ap"));
    let read = |path: &str, bytes_max| files.read(path, bytes_max).unwrap();
    assert_eq!(read("app-data/main.py", 7), Some(b"print()".to_vec()));
    assert_eq!(read("app-data/main.py", 6), None);
    assert_eq!(read("app", 100), None);
    let file = |name: &str| Listed::File(name.to_owned());
    let inner = [file("main.py"), file("run.sh")];
    assert_eq!(files.list("app-data"), inner);
    assert_eq!(files.list("nothing"), []);
    let mut all = ["README", "app-data", "current", "loop"].map(file).to_vec();
    all.push(Listed::Directory("app".to_owned()));
    assert_eq!(files.list("."), all);
    let below = files.below("app").unwrap();
    assert_eq!(below.list(""), inner);
    assert!(below.is_file("main.py") && !below.is_file("README") && files.below("x").is_none());
    let own = below
        .write(&dir.path().join("b"), Limits::default())
        .unwrap();
    assert_eq!(own.entries.len(), 2);
}

#[test]
fn a_subset_depends_on_nothing_but_its_files() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (
        files(&dir, "1", TREE),
        files(&dir, "2", &[("app/main.py", "print()"), ("z", "")]),
    );
    let subset =
        |files: &SnapshotFiles, paths: &[&str]| files.subset(paths, &dir.path().join("s")).unwrap();
    let small = subset(&one, &["none", "./app/main.py", "app/main.py", "../x"]);
    assert_eq!(small, subset(&two, &["app/main.py"]));
    assert_eq!(small.epoch, SUBSET_EPOCH);
    assert_eq!(subset(&one, &["current"]).entries[0].path, "current");
}

#[test]
fn a_damaged_tar_file_is_noticed() {
    let dir = TempDir::new().unwrap();
    let tar = dir.path().join("t");
    let snapshot = write(&tar, TREE, Limits::default()).unwrap();
    let mut bytes = fs::read(&tar).unwrap();
    let at = bytes.windows(7).position(|at| at == b"print()").unwrap();
    bytes[at] ^= 1;
    fs::write(&tar, &bytes).unwrap();
    let files = SnapshotFiles::open(snapshot.clone(), &tar).unwrap();
    let error = files.read("app/main.py", 100).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged(_)));
    let error = files.write(&dir.path().join("o"), Limits::default());
    assert!(matches!(error, Err(SnapshotError::Damaged(_))));
    fs::File::options()
        .append(true)
        .open(&tar)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    assert!(SnapshotFiles::open(snapshot, &tar).is_err());
}

#[track_caller]
fn check_refused(list: &[(&str, &str)], limits: Limits, want: &str) {
    let dir = TempDir::new().unwrap();
    let error = write(&dir.path().join("t"), list, limits).unwrap_err();
    assert_eq!(error.to_string(), want);
    // Nothing of it stays.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_can_be_no_tree_is_refused_by_name() {
    let all = Limits::default();
    let refused =
        |path: &str, problem: &str| format!("`{path}` cannot be part of a source tree: {problem}");
    check_refused(
        &[("a", ""), ("a", "")],
        all,
        &refused("a", "it is there twice"),
    );
    check_refused(
        &[("b", ""), ("a", "")],
        all,
        &refused("a", "it is not in the order of a snapshot"),
    );
    check_refused(
        &[("a", "-> x"), ("a/b", "")],
        all,
        &refused("a/b", "it is below something that is no directory"),
    );
    check_refused(
        &[("../a\n", "")],
        all,
        &refused("../a\\n", "its path has a `..`"),
    );
    check_refused(
        &[("l", "-> ../x")],
        all,
        &refused("l", "it is a link that leaves the source tree"),
    );
}

#[test]
fn every_bound_is_kept() {
    let all = Limits::default();
    let few = Limits {
        entries_max: 4,
        ..all
    };
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("t"), &[("a/b", ""), ("a/c", "")], few).unwrap();
    check_refused(
        &[("a/b", ""), ("a/c", ""), ("d", "")],
        few,
        "the source has more than 4 files and directories, the most that are taken",
    );
    let small = Limits {
        file_bytes_max: 1,
        ..all
    };
    check_refused(
        &[("a", "xx")],
        small,
        "`a` is larger than 0 MiB, the most that one file may have",
    );
    let small = Limits {
        bytes_max: 2048,
        ..all
    };
    check_refused(
        &[("a", "x")],
        small,
        "the source is larger than 0 MiB, the most that is taken",
    );
}

#[test]
fn content_must_be_as_long_as_it_was_said() {
    let dir = TempDir::new().unwrap();
    let mut writer = Writer::create(&dir.path().join("t"), 0, Limits::default()).unwrap();
    assert!(writer.file("a", false, 3, &mut &b"xx"[..]).is_err());
}

use std::{
    collections::BTreeMap,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    super::sample::{Tape, is_root},
    *,
};

/// A directory to unpack in, inside one that must stay as it is.
struct Cage {
    outside: TempDir,
}

impl Cage {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("layer")).unwrap();
        std::fs::write(outside.path().join("secret"), "untouched").unwrap();
        Self { outside }
    }

    fn layer(&self) -> PathBuf {
        self.outside.path().join("layer")
    }

    fn unpack(&self, tape: Tape) -> Result<(), UnpackError> {
        let budget = UnpackBudget::new(1 << 20, 1000);
        let result = unpack(tape.end().as_slice(), &self.layer(), &budget);
        self.check_outside();
        result
    }

    /// Goes on after entries that are refused, which no archive can.
    fn apply_each(&self, steps: &[(u8, String, String)]) {
        let budget = UnpackBudget::new(1 << 20, 1000);
        let tree = Tree::open(&self.layer()).unwrap();
        let mut unpacker = Unpacker {
            tree,
            budget: &budget,
            directories: Vec::new(),
        };
        for (kind, path, target) in steps {
            let tape = Tape::new().entry(*kind, path, target, b"", 0).end();
            let mut archive = Archive::new(tape.as_slice());
            let entry = archive.next_entry().unwrap().unwrap();
            match unpacker
                .apply(&entry, &mut archive)
                .map_err(|error| error.named(&entry.path))
            {
                Ok(()) | Err(UnpackError::Refused(_)) => {}
                Err(error) => panic!("{steps:?}: {error:?}"),
            }
        }
        unpacker.finish().unwrap();
        self.check_outside();
    }

    fn check_outside(&self) {
        let mut names: Vec<_> = self
            .outside
            .path()
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["layer", "secret"], "something escaped");
        let secret = std::fs::read_to_string(self.outside.path().join("secret")).unwrap();
        assert_eq!(secret, "untouched");
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.layer().join(path)).unwrap()
    }

    fn metadata(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.layer().join(path)).unwrap()
    }

    fn attribute(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1000];
        let length = fs::lgetxattr(self.layer().join(path), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn is_opaque(&self, path: &str) -> bool {
        self.attribute(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let metadata = self.metadata(path);
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }
}

#[track_caller]
fn check_refused(tape: Tape, want: &str) {
    if !is_root() {
        return;
    }
    match Cage::new().unpack(tape) {
        Err(UnpackError::Refused(problem)) => assert!(problem.contains(want), "{problem}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unpacked(tape: Tape) -> Option<Cage> {
    if !is_root() {
        return None;
    }
    let cage = Cage::new();
    cage.unpack(tape).unwrap();
    Some(cage)
}

#[test]
fn files_keep_content_owner_mode_time_and_attributes() {
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let tape = Tape::new()
        .mode(0o1777)
        .directory("./d/")
        .mode(0o6755)
        .owner(1000, 65535)
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("mtime", b"1234567890.5"),
        ])
        .file("/d/f", b"hello")
        .entry(b'6', "d/p", "", b"", 0);
    let Some(cage) = unpacked(tape) else { return };
    let file = cage.metadata("d/f");
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (1000, 65535, 0o6755)
    );
    assert_eq!(
        (file.mtime(), file.mtime_nsec()),
        (1_234_567_890, 500_000_000)
    );
    assert_eq!(cage.read("d/f"), "hello");
    assert_eq!(
        cage.attribute("d/f", "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(
        cage.attribute("d/f", "user.note").as_deref(),
        Some(&b"kept"[..])
    );
    assert_eq!(cage.attribute("d/f", "trusted.overlay.redirect"), None);
    assert_eq!(cage.attribute("d/f", "user.overlay.opaque"), None);
    let directory = cage.metadata("d");
    assert_eq!(
        (directory.mode() & 0o7777, directory.mtime()),
        (0o1777, 1_600_000_000)
    );
    assert!(cage.metadata("d/p").file_type().is_fifo());
}

#[test]
fn names_that_leave_the_layer_are_refused() {
    check_refused(Tape::new().file("../secret", b"x"), "`..`");
    check_refused(Tape::new().file("a/../../secret", b"x"), "`..`");
    check_refused(Tape::new().file("/../secret", b"x"), "`..`");
    check_refused(Tape::new().hard_link("h", "../secret"), "`..`");
    check_refused(
        Tape::new().pax(&[("path", b"a\0b")]).file("f", b""),
        "zero byte",
    );
    check_refused(Tape::new().pax(&[("path", b"")]).file("f", b""), "empty");
    check_refused(Tape::new().file(".", b"x"), "must be a directory");
}

#[test]
fn links_that_leave_the_layer_lead_back_into_it() {
    let tape = Tape::new()
        .symlink("up", "../../../..")
        .file("up/secret", b"caged")
        .symlink("abs", "/")
        .file("abs/other", b"caged")
        .symlink("magic", "/proc/self/root")
        .file("magic/third", b"caged");
    let Some(cage) = unpacked(tape) else { return };
    assert_eq!(cage.read("secret"), "caged");
    assert_eq!(cage.read("other"), "caged");
    // The link points to a place in the layer, which is made.
    assert_eq!(cage.read("proc/self/root/third"), "caged");
}

#[test]
fn last_components_are_never_followed() {
    let tape = Tape::new()
        .symlink("l", "../secret")
        .file("l", b"new")
        .symlink("h0", "../secret")
        .hard_link("h1", "h0");
    let Some(cage) = unpacked(tape) else { return };
    assert!(cage.metadata("l").is_file());
    assert_eq!(cage.read("l"), "new");
    assert!(cage.metadata("h1").is_symlink());
}

#[test]
fn links_to_directories_of_the_layer_are_followed_as_archives_mean_them() {
    let tape = Tape::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/a", b"a")
        .symlink("run", "/var/run")
        .file("run/pid", b"1")
        .symlink("x/rel", "../usr/lib/sub")
        .file("x/rel/b", b"b");
    let Some(cage) = unpacked(tape) else { return };
    assert_eq!(cage.read("usr/lib/a"), "a");
    assert_eq!(cage.read("var/run/pid"), "1");
    assert_eq!(cage.read("usr/lib/sub/b"), "b");
    assert!(cage.metadata("lib").is_symlink());
}

#[test]
fn circles_and_depths_end() {
    check_refused(
        Tape::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", b""),
        "circle",
    );
    check_refused(Tape::new().symlink("a", "a/b").file("a/x", b""), "circle");
    let deep = format!("{}x", "d/".repeat(300));
    check_refused(
        Tape::new().pax(&[("path", deep.as_bytes())]).file("f", b""),
        "256",
    );
    // Each link leads 200 levels further down.
    let below = "d/".repeat(200);
    let tape = Tape::new()
        .pax(&[("path", format!("{below}x").as_bytes())])
        .file("f", b"")
        .pax(&[("linkpath", below.as_bytes())])
        .symlink("l", "")
        .pax(&[("path", format!("l/{below}y").as_bytes())])
        .file("f", b"");
    check_refused(tape, "256");
    let name = "n".repeat(256);
    check_refused(
        Tape::new().pax(&[("path", name.as_bytes())]).file("f", b""),
        "255",
    );
}

#[test]
fn dangling_links_in_a_row_end() {
    let mut tape = Tape::new();
    for at in 0..10 {
        tape = tape.symlink(&format!("l{at}"), &format!("/l{}/deeper", at + 1));
    }
    check_refused(tape.file("l0/x", b""), "lead nowhere");
}

#[test]
fn devices_are_left_out_of_dev_and_refused_elsewhere() {
    let Some(cage) = unpacked(
        Tape::new()
            .directory("dev")
            .entry(b'3', "dev/null", "", b"", 0),
    ) else {
        return;
    };
    assert!(!cage.layer().join("dev/null").exists());
    check_refused(Tape::new().entry(b'4', "disk", "", b"", 0), "device");
    check_refused(Tape::new().entry(b'3', "etc/hidden", "", b"", 0), "device");
    check_refused(
        Tape::new()
            .symlink("dev", "etc")
            .entry(b'3', "x/mem", "", b"", 0),
        "device",
    );
}

#[test]
fn owners_beyond_an_instances_range_are_refused() {
    check_refused(Tape::new().owner(65536, 0).file("f", b""), "user 65536");
    check_refused(
        Tape::new().pax(&[("gid", b"4294967295")]).file("f", b""),
        "group 4294967295",
    );
}

#[test]
fn whiteouts_become_what_overlayfs_has() {
    let tape = Tape::new()
        .file("gone/.wh.file", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"new")
        .file(".wh..wh.plnk/1.2", b"aufs")
        .file(".wh..wh.aufs", b"aufs");
    let Some(cage) = unpacked(tape) else { return };
    assert!(cage.is_whiteout("gone/file"));
    assert!(cage.is_opaque("opaque") && !cage.is_opaque("gone"));
    assert_eq!(cage.read("opaque/new"), "new");
    assert_eq!(std::fs::read_dir(cage.layer()).unwrap().count(), 2);
    for bad in [".wh.", "d/.wh..", "d/.wh..."] {
        check_refused(Tape::new().file(bad, b""), "hides nothing");
    }
}

#[test]
fn whiteouts_hide_lower_layers_only_whatever_the_order() {
    let tape = Tape::new()
        .file("a/x", b"shown")
        .file(".wh.a", b"")
        .file(".wh.b", b"")
        .file("b/x", b"shown")
        .file(".wh.c", b"")
        .directory("c")
        .file("f", b"shown")
        .file(".wh.f", b"")
        .file(".wh.g", b"")
        .file("g", b"shown");
    let Some(cage) = unpacked(tape) else { return };
    for directory in ["a", "b", "c"] {
        assert!(cage.is_opaque(directory), "{directory}");
    }
    assert_eq!(cage.read("a/x") + &cage.read("b/x"), "shownshown");
    assert_eq!(cage.read("f") + &cage.read("g"), "shownshown");
}

#[test]
fn the_last_of_several_entries_wins() {
    let tape = Tape::new()
        .file("a", b"file")
        .directory("a")
        .file("a/x", b"below")
        .file("b/x", b"below")
        .file("b", b"file")
        .symlink("c", "b")
        .directory("c")
        .directory("d")
        .file("d/kept", b"kept")
        .mode(0o700)
        .directory("d")
        .file("e", b"1")
        .file("e", b"2");
    let Some(cage) = unpacked(tape) else { return };
    assert_eq!(cage.read("a/x"), "below");
    assert_eq!(cage.read("b"), "file");
    assert!(cage.metadata("c").is_dir());
    assert_eq!(
        (
            cage.read("d/kept").as_str(),
            cage.metadata("d").mode() & 0o777
        ),
        ("kept", 0o700)
    );
    assert_eq!(cage.read("e"), "2");
}

#[test]
fn hard_links_are_within_the_layer_and_to_what_came_before() {
    let tape = Tape::new()
        .file("a/x", b"one")
        .hard_link("y", "/a/x")
        .hard_link("./y", "y")
        .symlink("l", "a")
        .hard_link("z", "l/x");
    let Some(cage) = unpacked(tape) else { return };
    assert_eq!(cage.metadata("y").ino(), cage.metadata("a/x").ino());
    assert_eq!(cage.metadata("z").nlink(), 3);
    check_refused(Tape::new().hard_link("y", "missing"), "not in the layer");
    check_refused(Tape::new().hard_link("y", "etc/passwd"), "not in the layer");
    check_refused(Tape::new().directory("d").hard_link("y", "d"), "directory");
    check_refused(
        Tape::new().file("d/x", b"").hard_link("d", "d/x"),
        "not in the layer",
    );
    check_refused(Tape::new().hard_link("y", "/"), "root");
}

#[test]
fn a_file_is_no_directory() {
    check_refused(
        Tape::new().file("f", b"").file("f/x", b""),
        "not a directory",
    );
}

#[test]
fn budgets_end_what_is_too_much() {
    if !is_root() {
        return;
    }
    let cage = Cage::new();
    let few = UnpackBudget::new(1 << 20, 2);
    let tape = Tape::new()
        .directory("a")
        .directory("b")
        .directory("c")
        .end();
    let error = unpack(tape.as_slice(), &cage.layer(), &few).unwrap_err();
    assert!(error.to_string().contains("more than 2 files"), "{error}");
    // A file of holes has next to no data in the archive.
    let mut header = [0; 512];
    header[0] = b's';
    header[156] = b'S';
    header[483..495].copy_from_slice(format!("{:011o}\0", 1u64 << 32).as_bytes());
    let error = Cage::new()
        .unpack(Tape::new().raw(header, b""))
        .unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge(_)), "{error:?}");
}

#[test]
fn holes_stay_holes() {
    let mut header = [0; 512];
    header[0] = b's';
    header[124..136].copy_from_slice(b"00000000006\0");
    header[156] = b'S';
    header[386..398].copy_from_slice(format!("{:011o}\0", 4096).as_bytes());
    header[398..410].copy_from_slice(b"00000000002\0");
    header[410..422].copy_from_slice(format!("{:011o}\0", 500_000).as_bytes());
    header[422..434].copy_from_slice(b"00000000004\0");
    header[483..495].copy_from_slice(format!("{:011o}\0", 1_000_000).as_bytes());
    let Some(cage) = unpacked(Tape::new().raw(header, b"ABwxyz")) else {
        return;
    };
    let content = std::fs::read(cage.layer().join("s")).unwrap();
    assert_eq!(content.len(), 1_000_000);
    assert_eq!(
        (&content[4096..4098], &content[500_000..500_004]),
        (&b"AB"[..], &b"wxyz"[..])
    );
    assert_eq!(content.iter().filter(|&&byte| byte != 0).count(), 6);
    assert!(cage.metadata("s").blocks() * 512 < 100_000);
}

/// One random step of an archive.
fn step() -> impl Strategy<Value = (u8, String, String)> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh..wh..opq",
        "dev",
    ]);
    let path = prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
    let target = prop::collection::vec(
        prop::sample::select(vec!["a", "b", "..", ".", "", "proc", "self"]),
        1..5,
    )
    .prop_map(|parts| parts.join("/"));
    (prop::sample::select(b"0123456".to_vec()), path, target)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever an archive does, it ends, and nothing outside the layer changes.
    #[test]
    fn nothing_escapes(steps in prop::collection::vec(step(), 1..30)) {
        if !is_root() {
            return Ok(());
        }
        let cage = Cage::new();
        cage.apply_each(&steps);
        // Everything made can be removed again.
        std::fs::remove_dir_all(cage.layer()).unwrap();
    }
}

proptest! {
    // Its cases are large.
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// What the tar library writes is what lies there afterwards.
    #[test]
    fn honest_archives_are_unpacked_whole(
        files in prop::collection::btree_map("[a-z]{1,3}(/[A-Z]{1,3}){0,3}/[0-9]{1,120}", prop::collection::vec(any::<u8>(), 0..2000), 0..20)
    ) {
        if !is_root() {
            return Ok(());
        }
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in &files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, data.as_slice()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let cage = Cage::new();
        unpack(bytes.as_slice(), &cage.layer(), &UnpackBudget::new(1 << 20, 1000)).unwrap();
        let read: BTreeMap<String, Vec<u8>> = files
            .keys()
            .map(|path| (path.clone(), std::fs::read(cage.layer().join(path)).unwrap()))
            .collect();
        prop_assert_eq!(read, files);
    }
}

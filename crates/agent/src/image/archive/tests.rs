use proptest::prelude::*;

use super::{
    super::sample::{Tape, is_root},
    *,
};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
    // A small buffer, so that everything crosses its ends.
    let mut archive = Archive::new(io::BufReader::with_capacity(100, bytes));
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        while archive.next_data(|piece| {
            data.extend_from_slice(piece);
            Ok::<_, ArchiveError>(())
        })? {}
        entries.push((entry, data));
    }
    archive.drain()?;
    Ok(entries)
}

#[track_caller]
fn check_refused(bytes: &[u8], want: &str) {
    let error = read(bytes).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

#[test]
fn entries_are_read_as_written() {
    let tape = Tape::new()
        .directory("d/")
        .mode(0o4755)
        .owner(7, 8)
        .file("d/f", b"hello")
        .symlink("l", "/d/f")
        .hard_link("h", "d/f")
        .end();
    let entries = read(&tape).unwrap();
    let kinds: Vec<&EntryKind> = entries.iter().map(|(entry, _)| &entry.kind).collect();
    assert_eq!(
        kinds,
        [
            &EntryKind::Directory,
            &EntryKind::File,
            &EntryKind::Symlink {
                target: b"/d/f".to_vec()
            },
            &EntryKind::HardLink {
                target: b"d/f".to_vec()
            },
        ]
    );
    let (file, data) = &entries[1];
    assert_eq!(
        (file.mode, file.uid, file.gid, data.as_slice()),
        (0o4755, 7, 8, &b"hello"[..])
    );
    assert_eq!(
        file.modified,
        Modified {
            seconds: 1_600_000_000,
            nanoseconds: 0
        }
    );
}

#[test]
fn pax_overrides_and_gnu_long_names_apply_to_the_next_entry_only() {
    let long = format!("{}/x", "n".repeat(200));
    let tape = Tape::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"65535"),
            ("mtime", b"-1.25"),
            ("SCHILY.xattr.user.a", b"\0b=\n"),
        ])
        .file("short", b"")
        .entry(
            b'L',
            "././@LongLink",
            "",
            format!("{long}\0").as_bytes(),
            203,
        )
        .file("short", b"")
        .file("plain", b"")
        .end();
    let entries: Vec<Entry> = read(&tape)
        .unwrap()
        .into_iter()
        .map(|(entry, _)| entry)
        .collect();
    assert_eq!(entries[0].path, long.as_bytes());
    assert_eq!(entries[0].uid, 65535);
    assert_eq!(
        entries[0].modified,
        Modified {
            seconds: -2,
            nanoseconds: 750_000_000
        }
    );
    assert_eq!(
        entries[0].attributes,
        [(b"user.a".to_vec(), b"\0b=\n".to_vec())]
    );
    assert_eq!(entries[1].path, long.as_bytes());
    assert_eq!(
        (entries[2].path.as_slice(), entries[2].uid),
        (&b"plain"[..], 0)
    );
}

#[test]
fn archives_that_lie_or_break_off_are_refused() {
    check_refused(
        &Tape::new().entry(b'0', "f", "", b"x", 5000).cut(),
        "middle of a file",
    );
    check_refused(
        &Tape::new().file("f", b"x").cut()[..700],
        "middle of a file",
    );
    check_refused(
        &Tape::new().file("f", b"").cut()[..300],
        "middle of a header",
    );
    check_refused(&[b'x'; 1024], "checksum");
    check_refused(
        &Tape::new().entry(b'x', "p", "", b"", 2 << 20).end(),
        "longer than 1 MiB",
    );
    check_refused(
        &Tape::new().entry(b'L', "l", "", b"", 5000).end(),
        "longer than 4096",
    );
    check_refused(
        &Tape::new()
            .pax(&[("path", &[b'n'; 5000])])
            .file("f", b"")
            .end(),
        "4096",
    );
    check_refused(
        &Tape::new().pax(&[("path", b"x")]).end(),
        "after an extended header",
    );
    check_refused(
        &Tape::new().entry(b'x', "p", "", b"9 path=xx", 9).end(),
        "pax header",
    );
    check_refused(
        &Tape::new().pax(&[("size", b"-1")]).file("f", b"").end(),
        "number",
    );
    check_refused(
        &Tape::new().pax(&[("uid", b"+1")]).file("f", b"").end(),
        "number",
    );
    check_refused(
        &Tape::new().pax(&[("mtime", b"1.x")]).file("f", b"").end(),
        "time",
    );
    check_refused(
        &Tape::new()
            .pax(&[("GNU.sparse.major", b"1")])
            .file("f", b"")
            .end(),
        "sparse",
    );
    check_refused(
        &Tape::new().entry(b'M', "m", "", b"", 0).end(),
        "unknown type",
    );
}

#[test]
fn a_single_zero_block_or_none_ends_an_archive_too() {
    let cut = Tape::new().file("f", b"x").cut();
    assert_eq!(read(&cut).unwrap().len(), 1);
    assert_eq!(read(&[cut, vec![0; 512]].concat()).unwrap().len(), 1);
    assert!(read(b"").unwrap().is_empty());
}

/// The header of an old GNU sparse file with one segment.
fn sparse_header(offset: u64, length: u64, file_bytes: u64, data_bytes: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[0] = b's';
    header[124..136].copy_from_slice(format!("{data_bytes:011o}\0").as_bytes());
    header[156] = b'S';
    header[257..265].copy_from_slice(b"ustar  \0");
    header[386..398].copy_from_slice(format!("{offset:011o}\0").as_bytes());
    header[398..410].copy_from_slice(format!("{length:011o}\0").as_bytes());
    header[483..495].copy_from_slice(format!("{file_bytes:011o}\0").as_bytes());
    header
}

#[test]
fn sparse_maps_are_read_and_checked() {
    let tape = Tape::new()
        .raw(sparse_header(1000, 4, 5000, 4), b"data")
        .end();
    let (entry, data) = read(&tape).unwrap().remove(0);
    let segments = vec![(1000, 4)];
    assert_eq!(
        entry.kind,
        EntryKind::SparseFile {
            segments,
            file_bytes: 5000
        }
    );
    assert_eq!(data, b"data");
    let lies = |header| Tape::new().raw(header, b"data").end();
    check_refused(&lies(sparse_header(1000, 5, 5000, 4)), "differ");
    check_refused(&lies(sparse_header(4998, 4, 5000, 4)), "behind its end");
    let mut overlapping = sparse_header(1000, 2, 5000, 4);
    overlapping[410..422].copy_from_slice(format!("{:011o}\0", 1001).as_bytes());
    overlapping[422..434].copy_from_slice(format!("{:011o}\0", 2).as_bytes());
    check_refused(&lies(overlapping), "overlaps");
}

/// What the tar program writes in each of its formats is what is read.
#[test]
fn archives_of_gnu_tar_are_read_in_all_its_formats() {
    if !is_root()
        || std::process::Command::new("tar")
            .arg("--version")
            .output()
            .is_err()
    {
        eprintln!("SKIPPED: needs root and tar");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let long = "long-name-".repeat(15);
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(dir.path().join("d/f"), "hello").unwrap();
    std::os::unix::fs::symlink("f", dir.path().join("d/l")).unwrap();
    std::fs::hard_link(dir.path().join("d/f"), dir.path().join("d/h")).unwrap();
    let holes = std::fs::File::create(dir.path().join("d/s")).unwrap();
    holes.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&holes, b"x", 1 << 19).unwrap();
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        // Neither old format has room for a long name.
        let names_fit = !matches!(format, "v7" | "ustar");
        if names_fit {
            std::fs::write(dir.path().join("d").join(&long), "long").unwrap();
        }
        let mut tar = std::process::Command::new("tar");
        tar.arg("-C")
            .arg(dir.path())
            .args(["--format", format, "--sort=name"]);
        if format.ends_with("gnu") {
            tar.arg("--sparse");
        }
        let output = tar.args(["-cf", "-", "d"]).output().unwrap();
        assert!(output.status.success(), "{format}: {output:?}");
        let entries = read(&output.stdout).unwrap();
        let mut names: Vec<String> = entries
            .iter()
            .map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned())
            .collect();
        names.sort();
        let mut want = vec!["d/", "d/f", "d/h", "d/l", "d/s"];
        let long = format!("d/{long}");
        if names_fit {
            want.insert(4, &long);
        }
        assert_eq!(names, want, "{format}");
        let sparse = entries.iter().any(|(entry, _)| {
            matches!(
                entry.kind,
                EntryKind::SparseFile {
                    file_bytes: 1_048_576,
                    ..
                }
            )
        });
        assert_eq!(sparse, format.ends_with("gnu"), "{format}");
        let _ = std::fs::remove_file(dir.path().join(long));
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_entries_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
    }

    /// Headers that pass the checksum and are otherwise anything.
    #[test]
    fn any_header_ends_in_entries_or_a_refusal(
        header in prop::collection::vec(any::<u8>(), 512),
        kind in prop::sample::select(b"01234567LKxgSX\0".to_vec()),
        size in 0u64..3000,
        data in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut header: [u8; 512] = header.try_into().unwrap();
        header[156] = kind;
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        let _ = read(&Tape::new().raw(header, &data).file("after", b"x").end());
    }

    #[test]
    fn times_of_pax_headers_go_forward_from_their_seconds(text in "-?[0-9]{1,12}(\\.[0-9]{0,12})?") {
        let modified = parse_modified(text.as_bytes()).unwrap();
        prop_assert!(modified.nanoseconds < 1_000_000_000);
        let float: f64 = text.trim_end_matches('.').parse().unwrap();
        let got = modified.seconds as f64 + f64::from(modified.nanoseconds) / 1e9;
        prop_assert!((float - got).abs() < 0.001, "{float} {got}");
    }
}

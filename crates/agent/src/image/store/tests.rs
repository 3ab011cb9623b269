use std::{fs, io::Write, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use ekiden_model::image::ImageConfig;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::{
    super::{
        fake_registry::{Behaviour, Door, FakeRegistry},
        manifest::{OCI_INDEX, OCI_MANIFEST},
        progress::ProgressEvent,
        pull::digest_of,
        sample::{SampleImage, Tape, gzip, is_root},
        settings::{ATTEMPTS_MAX, Login, RegistrySettings},
    },
    *,
};

/// Names in a directory, sorted.
fn entries(dir: &std::path::Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// A store of its own, with a registry of its own.
struct World {
    dir: TempDir,
    registry: FakeRegistry,
    store: ImageStore,
}

fn settings() -> ImageSettings {
    ImageSettings {
        retry_delay: Duration::from_millis(1),
        keep_recent: Duration::ZERO,
        ..ImageSettings::default()
    }
}

impl World {
    async fn new() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: ImageSettings) -> Self {
        let (dir, registry) = (tempfile::tempdir().unwrap(), FakeRegistry::start().await);
        let store = ImageStore::open(dir.path().join("images"), settings)
            .await
            .unwrap();
        Self {
            dir,
            registry,
            store,
        }
    }

    async fn pull(&self, name: &str) -> Result<PreparedImage, ImageError> {
        self.store
            .prepare(&self.registry.name(name), &Progress::none())
            .await
    }

    /// Puts an image of these layers at `app:1`, and pulls it with `behaviour` for its last layer.
    async fn pull_with(&self, behaviour: Behaviour, times: usize) -> Result<(), ImageError> {
        let image = sample();
        self.registry.put("app", "1", &image);
        let layer = digest_of(image.layers.last().unwrap());
        self.registry
            .behave(&format!("blobs/{layer}"), behaviour, times);
        self.pull("app:1").await.map(drop)
    }

    /// Nothing is left of a pull that failed, once the store has been opened anew.
    async fn check_empty(&self) {
        assert!(entries(&self.dir.path().join("images/tmp")).is_empty());
        assert!(self.store.list().is_empty());
        self.reopen().await;
        assert!(entries(&self.dir.path().join("images/layers")).is_empty());
    }

    async fn reopen(&self) -> ImageStore {
        ImageStore::open(self.dir.path().join("images"), settings())
            .await
            .unwrap()
    }
}

fn lower() -> Vec<u8> {
    Tape::new()
        .directory("etc")
        .file("etc/name", b"lower")
        .end()
}

/// Large enough to come in several pieces, and not compressible.
fn upper() -> Vec<u8> {
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(300_000)
    .collect();
    Tape::new()
        .file("etc/.wh.name", b"")
        .file("noise", &noise)
        .end()
}

fn sample() -> SampleImage {
    SampleImage::of(&[lower(), upper()])
}

/// Waits until the registry has been asked for something.
async fn until_asked(registry: &FakeRegistry, part: &str) {
    while registry.asked(part).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_pulled_image_is_there_whole_and_survives_a_restart() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = sample();
    world.registry.put("team/app", "1", &image);
    let (events, mut seen) = mpsc::channel(1000);
    let name = world.registry.name("team/app:1");
    let prepared = world
        .store
        .prepare(&name, &Progress::to(events))
        .await
        .unwrap();
    assert_eq!(prepared.digest, image.digest());
    assert_eq!(prepared.size_bytes, (lower().len() + upper().len()) as u64);
    assert_eq!(
        prepared.config,
        ImageConfig {
            entrypoint: vec!["/app".to_owned()],
            cmd: vec!["--serve".to_owned()],
            env: vec!["A=1".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "7:8".to_owned(),
            stop_signal: "SIGQUIT".to_owned(),
        }
    );
    let total = image.layers.iter().map(Vec::len).sum::<usize>() as u64;
    let mut last = None;
    while let Some(event) = seen.recv().await {
        if matches!(event, ProgressEvent::Bytes { .. }) {
            last = Some(event);
        }
    }
    assert_eq!(last, Some(ProgressEvent::Bytes { done: total, total }));
    for store in [world.store.clone(), world.reopen().await] {
        let layers = store.layers(&prepared.digest).unwrap();
        assert_eq!(layers.len(), 2);
        assert_eq!(
            fs::metadata(layers[0].join("noise")).unwrap().len(),
            300_000
        );
        assert_eq!(
            fs::read_to_string(layers[1].join("etc/name")).unwrap(),
            "lower"
        );
        let list = store.list();
        assert_eq!(
            (list[0].digest, list[0].names.as_slice()),
            (image.digest(), std::slice::from_ref(&name))
        );
    }
    let root = fs::metadata(world.dir.path().join("images")).unwrap();
    assert_eq!(root.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_tag_is_asked_for_each_time_and_a_digest_never_again() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let (first, second) = (sample(), SampleImage::of(&[lower()]));
    world.registry.put("app", "1", &first);
    assert_eq!(world.pull("app:1").await.unwrap().digest, first.digest());
    world.registry.put("app", "1", &second);
    assert_eq!(world.pull("app:1").await.unwrap().digest, second.digest());
    // The layer they share came once.
    assert_eq!(
        world
            .registry
            .asked(&digest_of(&second.layers[0]).to_string())
            .len(),
        1
    );
    assert_eq!(world.pull("app:1").await.unwrap().digest, second.digest());
    assert_eq!(world.registry.asked("manifests/1").len(), 3);
    let by_digest = world.registry.name(&format!("app@{}", first.digest()));
    let by_tag = world.registry.name("app:1");
    world.registry.stop().await;
    let prepared = world
        .store
        .prepare(&by_digest, &Progress::none())
        .await
        .unwrap();
    assert_eq!(prepared.digest, first.digest());
    let error = world
        .store
        .prepare(&by_tag, &Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_index_leads_to_this_platform() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let (ours, other) = (sample(), SampleImage::for_platform(&[lower()], "mips"));
    world.registry.put("app", "ours", &ours);
    world.registry.put("app", "other", &other);
    let describe = |image: &SampleImage, architecture: &str| {
        json!({
            "mediaType": OCI_MANIFEST, "digest": image.digest(), "size": image.manifest.len(),
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let here = super::super::manifest::Platform::here().architecture;
    let put = |tag: &str, manifests: &[serde_json::Value]| {
        let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        for name in [tag.to_owned(), digest_of(index.as_bytes()).to_string()] {
            let path = format!("/v2/app/manifests/{name}");
            world.registry.put_at(&path, index.as_bytes(), OCI_INDEX);
        }
        digest_of(index.as_bytes())
    };
    let both = put("both", &[describe(&other, "mips"), describe(&ours, &here)]);
    assert_eq!(world.pull("app:both").await.unwrap().digest, ours.digest());
    // By the index's digest it is known from now on, here and after a restart.
    for store in [world.store.clone(), world.reopen().await] {
        let name = format!("nowhere.invalid/app@{both}").parse().unwrap();
        let prepared = store.prepare(&name, &Progress::none()).await.unwrap();
        assert_eq!(prepared.digest, ours.digest());
    }
    put("foreign", &[describe(&other, "mips")]);
    let error = world.pull("app:foreign").await.unwrap_err().to_string();
    assert!(error.contains("it has linux/mips"), "{error}");
    let error = world.pull("app:other").await.unwrap_err().to_string();
    assert!(error.contains("it has linux/mips"), "{error}");
}

#[tokio::test]
async fn registries_are_opened_with_the_login_of_the_settings() {
    if !is_root() {
        return;
    }
    let mut world = World::new().await;
    world.registry.put("app", "1", &sample());
    let login = Login::new("AWS", "secret");
    let right = login.basic();
    let registry = world.registry.address.to_string();
    let with_login = |login: &Login| {
        let known = RegistrySettings {
            login: Some(login.clone()),
            ..Default::default()
        };
        ImageSettings {
            registries: [(registry.clone(), known)].into(),
            ..settings()
        }
    };
    for door in [Door::Basic(right.clone()), Door::Token(Some(right.clone()))] {
        world.registry.door(door);
        let error = world.pull("app:1").await.unwrap_err();
        assert!(
            matches!(error, ImageError::Denied { status: 401, .. }),
            "{error}"
        );
        let wrong = with_login(&Login::new("AWS", "wrong"));
        let dir = tempfile::tempdir().unwrap();
        world.store = ImageStore::open(dir.path().to_owned(), wrong)
            .await
            .unwrap();
        let error = world.pull("app:1").await.unwrap_err();
        assert!(
            matches!(error, ImageError::Denied { status: 401, .. }),
            "{error}"
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        world.store = ImageStore::open(dir.path().to_owned(), with_login(&login))
            .await
            .unwrap();
        world.pull("app:1").await.unwrap();
        world.store = world.reopen().await;
    }
    assert!(!format!("{:?}", with_login(&login)).contains("secret"));
    // A token for everybody, asked for once.
    world.registry.door(Door::Token(None));
    let before = world.registry.asked("/token").len();
    world.pull("app:1").await.unwrap();
    assert_eq!(world.registry.asked("/token").len(), before + 1);
}

#[tokio::test]
async fn what_a_registry_refuses_is_told() {
    let world = World::new().await;
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    for (status, times) in [(403, 1), (500, usize::MAX)] {
        world.registry.behave(
            &format!("manifests/{status}"),
            Behaviour::Status(status),
            times,
        );
    }
    let error = world.pull("app:403").await.unwrap_err();
    assert!(
        matches!(error, ImageError::Denied { status: 403, .. }),
        "{error}"
    );
    let error = world.pull("app:500").await.unwrap_err();
    assert!(
        matches!(error, ImageError::Status { status: 500, .. }),
        "{error}"
    );
    assert_eq!(
        world.registry.asked("manifests/500").len(),
        ATTEMPTS_MAX as usize
    );
    world
        .registry
        .behave("manifests/429", Behaviour::RetryAfter(0), usize::MAX);
    let error = world.pull("app:429").await.unwrap_err();
    assert!(matches!(error, ImageError::RateLimited { .. }), "{error}");
    let nobody = "127.0.0.1:1/app:1".parse().unwrap();
    let error = world
        .store
        .prepare(&nobody, &Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    let local = "localhost/nothing:1".parse().unwrap();
    let error = world
        .store
        .prepare(&local, &Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::NotHere { .. }), "{error}");
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    world
        .registry
        .behave("manifests/", Behaviour::RetryAfter(0), 2);
    world
        .registry
        .behave("manifests/", Behaviour::Status(503), 1);
    world.registry.behave("blobs/", Behaviour::Status(500), 1);
    world.pull_with(Behaviour::Status(429), 2).await.unwrap();
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    world
        .pull_with(Behaviour::CloseAfter(100_000), 1)
        .await
        .unwrap();
    let layer = digest_of(&sample().layers[1]);
    let asked = world.registry.asked(&layer.to_string());
    assert!(
        asked.len() == 2 && asked[1].ends_with(" 100000"),
        "{asked:?}"
    );
    // A registry without ranges sends it all again.
    let world = World::new().await;
    let part = format!("blobs/{layer}");
    world
        .registry
        .behave(&part, Behaviour::CloseAfter(100_000), 1);
    world.pull_with(Behaviour::NoRange, 1).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_left() {
    let hasty = || ImageSettings {
        idle_timeout: Duration::from_millis(200),
        ..settings()
    };
    let world = World::with(hasty()).await;
    world
        .registry
        .behave("manifests/", Behaviour::Hang, usize::MAX);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Silent { .. }), "{error}");
    if !is_root() {
        return;
    }
    let world = World::with(hasty()).await;
    // Some of it, and then none of the rest.
    let part = format!("blobs/{}", digest_of(&sample().layers[1]));
    world.registry.behave(&part, Behaviour::HangAfter(5_000), 1);
    let error = world
        .pull_with(Behaviour::Hang, usize::MAX)
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Silent { .. }), "{error}");
    world.check_empty().await;
}

#[tokio::test]
async fn a_pull_ends_at_its_deadline() {
    let deadline = Duration::from_millis(100);
    let world = World::with(ImageSettings {
        pull_deadline: deadline,
        ..settings()
    })
    .await;
    world
        .registry
        .behave("manifests/", Behaviour::Hang, usize::MAX);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn bytes_that_are_not_what_they_should_be_are_refused() {
    if !is_root() {
        return;
    }
    let good = sample().layers[1].clone();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    // In the header, in the middle and in the checksum of gzip.
    for at in [0, 5, 20, 150_000, good.len() - 5] {
        let world = World::new().await;
        let error = world
            .pull_with(Behaviour::Instead(flipped(at)), usize::MAX)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ImageError::Corrupt { .. }),
            "byte {at}: {error}"
        );
        world.check_empty().await;
    }
    let world = World::new().await;
    let longer = [good.clone(), b"more".to_vec()].concat();
    let error = world
        .pull_with(Behaviour::Instead(longer), usize::MAX)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    world.check_empty().await;
    let world = World::new().await;
    let shorter = good[..good.len() - 9].to_vec();
    let error = world
        .pull_with(Behaviour::Instead(shorter), usize::MAX)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("after"), "{error}");
    world.check_empty().await;
}

#[tokio::test]
async fn documents_that_are_not_what_they_should_be_are_refused() {
    let world = World::new().await;
    let image = sample();
    world.registry.put("app", "1", &image);
    let config = format!("blobs/{}", digest_of(&image.config));
    world
        .registry
        .behave(&config, Behaviour::Instead(b"{}".to_vec()), 1);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
    world
        .registry
        .behave("manifests/sha256", Behaviour::Instead(b"{}".to_vec()), 1);
    let error = world
        .pull(&format!("app@{}", image.digest()))
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
    world
        .registry
        .behave("manifests/1", Behaviour::Instead(vec![b' '; 5 << 20]), 1);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Protocol { .. }), "{error}");
    world
        .registry
        .behave("manifests/1", Behaviour::Instead(b"<html>".to_vec()), 1);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Invalid { .. }), "{error}");
    world.registry.behave(
        "manifests/1",
        Behaviour::Redirect("/v2/app/manifests/1".into()),
        99,
    );
    let error = world.pull("app:1").await.unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}

/// Pulls an image whose only layer is this archive, packed as told.
async fn pull_layer(world: &World, archive: &[u8], layer: Vec<u8>) -> Result<(), ImageError> {
    let here = super::super::manifest::Platform::here().architecture;
    let image = SampleImage::with_layers(&[archive.to_vec()], vec![layer], &here);
    world.registry.put("app", "1", &image);
    world.pull("app:1").await.map(drop)
}

#[tokio::test]
async fn layers_may_be_plain_gzip_or_zstd_in_several_parts() {
    if !is_root() {
        return;
    }
    let archive = upper();
    let (one, two) = archive.split_at(1000);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    for layer in [
        archive.clone(),
        [gzip(one), gzip(two)].concat(),
        [zstd(one), zstd(two)].concat(),
    ] {
        let world = World::new().await;
        pull_layer(&world, &archive, layer).await.unwrap();
        let digest = world.store.list()[0].digest;
        let layers = world.store.layers(&digest).unwrap();
        assert_eq!(entries(&layers[0]), ["etc", "noise"]);
    }
}

#[tokio::test]
async fn hostile_layers_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let check = async |archive: &[u8], layer: Vec<u8>, settings: ImageSettings, want: &str| {
        let world = World::with(settings).await;
        let error = pull_layer(&world, archive, layer)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
        world.check_empty().await;
    };
    let escape = Tape::new().file("../../escape", b"x").end();
    check(
        &escape,
        gzip(&escape),
        settings(),
        "entry `../../escape`: its name contains `..`",
    )
    .await;
    check(&lower(), gzip(&upper()), settings(), "unpacked layer").await;
    check(b"x", gzip(b"no archive at all"), settings(), "refused").await;
    check(b"x", b"no archive at all".to_vec(), settings(), "refused").await;
    let cut = upper()[..200_000].to_vec();
    check(&cut, gzip(&cut), settings(), "middle of a file").await;
    // Valid gzip that ends early, with the right digest.
    let broken = gzip(&upper())[..10_000].to_vec();
    check(&upper(), broken, settings(), "cannot be decompressed").await;
    let small = ImageSettings {
        image_bytes_max: 100_000,
        ..settings()
    };
    check(
        &upper(),
        zstd::encode_all(&*upper(), 1).unwrap(),
        small.clone(),
        "larger than 100000 bytes",
    )
    .await;
    // Well below the bound when it is packed.
    let zeros = Tape::new().file("z", &vec![0; 1 << 20]).end();
    check(&zeros, gzip(&zeros), small, "larger than 100000 bytes").await;
    let few = ImageSettings {
        image_entries_max: 1,
        ..settings()
    };
    check(&lower(), gzip(&lower()), few, "more than 1 files").await;
}

#[tokio::test]
async fn a_bomb_is_seen_before_it_has_gone_off() {
    if !is_root() {
        return;
    }
    // 400 MiB of zeros are 40 KiB of zstd: the ratio tells, long before the bound of bytes.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let size = 400u64 << 20;
    encoder
        .write_all(&Tape::new().entry(b'0', "z", "", b"", size).cut())
        .unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        encoder.write_all(&zeros).unwrap();
    }
    let layer = encoder.finish().unwrap();
    let world = World::new().await;
    let error = pull_layer(&world, b"whatever", layer)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("times its size"), "{error}");
    world.check_empty().await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_stays() {
    if !is_root() {
        return;
    }
    let disk = SmallDisk::mount();
    let registry = FakeRegistry::start().await;
    registry.put("app", "1", &sample());
    let store = ImageStore::open(disk.dir.path().join("images"), settings())
        .await
        .unwrap();
    let error = store
        .prepare(&registry.name("app:1"), &Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::DiskFull { .. }), "{error}");
    assert!(entries(&disk.dir.path().join("images/tmp")).is_empty());
    registry.put("app", "2", &SampleImage::of(&[lower()]));
    store
        .prepare(&registry.name("app:2"), &Progress::none())
        .await
        .unwrap();
}

/// A file system of 200 KiB.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", dir.path(), "tmpfs", flags, c"size=200k").unwrap();
        Self { dir }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_download() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = sample();
    let layer = digest_of(&image.layers[1]).to_string();
    // Another image with the same layer.
    let other = SampleImage::of(&[upper()]);
    world.registry.put("app", "1", &image);
    world.registry.put("other", "1", &other);
    let (open, gate) = watch::channel(false);
    world
        .registry
        .behave(&layer, Behaviour::Wait(gate), usize::MAX);
    let opener = async {
        until_asked(&world.registry, &layer).await;
        until_asked(
            &world.registry,
            &format!("/v2/other/blobs/{}", digest_of(&other.config)),
        )
        .await;
        open.send(true).unwrap();
    };
    let (one, two, three, ()) = tokio::join!(
        world.pull("app:1"),
        world.pull("app:1"),
        world.pull("other:1"),
        opener
    );
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(three.unwrap().digest, other.digest());
    assert_eq!(world.registry.asked(&layer).len(), 1);
    assert_eq!(world.registry.asked("/v2/app/manifests/1").len(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_end_the_download() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = sample();
    world.registry.put("app", "1", &image);
    let layer = digest_of(&image.layers[1]).to_string();
    let (open, gate) = watch::channel(false);
    world.registry.behave(&layer, Behaviour::Wait(gate), 1);
    tokio::select! {
        _ = world.pull("app:1") => unreachable!("the gate is closed"),
        () = until_asked(&world.registry, &layer) => {}
    }
    open.send(true).unwrap();
    world.pull("app:1").await.unwrap();
    assert_eq!(world.registry.asked(&layer).len(), 1);
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_registry_when_it_does_not_help() {
    if !is_root() {
        return;
    }
    let (mirror, registry) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let (image, other) = (sample(), SampleImage::of(&[lower()]));
    mirror.put("prefix/app", "1", &image);
    registry.put("app", "1", &image);
    registry.put("app", "2", &other);
    let known = RegistrySettings {
        mirror: Some(format!("http://{}/prefix", mirror.address)),
        ..Default::default()
    };
    let registries = [(registry.address.to_string(), known)].into();
    let dir = tempfile::tempdir().unwrap();
    let settings = ImageSettings {
        registries,
        ..settings()
    };
    let store = ImageStore::open(dir.path().to_owned(), settings)
        .await
        .unwrap();
    store
        .prepare(&registry.name("app:1"), &Progress::none())
        .await
        .unwrap();
    assert!(registry.asked("").is_empty());
    store
        .prepare(&registry.name("app:2"), &Progress::none())
        .await
        .unwrap();
    let name = registry.name("app:1");
    mirror.stop().await;
    store.prepare(&name, &Progress::none()).await.unwrap();
    assert_eq!(registry.asked("manifests/1").len(), 1);
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_login() {
    if !is_root() {
        return;
    }
    let (registry, storage) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = sample();
    registry.put("app", "1", &image);
    let login = Login::new("me", "secret");
    registry.door(Door::Basic(login.basic()));
    let layer = digest_of(&image.layers[1]).to_string();
    storage.put_at("/data", &image.layers[1], "application/octet-stream");
    // Storage would refuse whoever shows a token, and open to whoever shows none.
    let to = format!("http://{}/data", storage.address);
    registry.behave(&layer, Behaviour::Redirect(to), 1);
    let known = RegistrySettings {
        login: Some(login),
        ..Default::default()
    };
    let registries = [(registry.address.to_string(), known)].into();
    let dir = tempfile::tempdir().unwrap();
    let settings = ImageSettings {
        registries,
        ..settings()
    };
    let store = ImageStore::open(dir.path().to_owned(), settings)
        .await
        .unwrap();
    store
        .prepare(&registry.name("app:1"), &Progress::none())
        .await
        .unwrap();
    assert_eq!(storage.asked("/data").len(), 1);
    assert_eq!(storage.authorizations(), [None]);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed_and_nothing_else() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    world.registry.put("app", "1", &sample());
    world.pull("app:1").await.unwrap();
    let images = world.dir.path().join("images");
    let layers = entries(&images.join("layers"));
    fs::create_dir_all(images.join("tmp/7/deep")).unwrap();
    fs::create_dir(images.join("layers").join("ab".repeat(32))).unwrap();
    fs::create_dir(images.join("layers/strange")).unwrap();
    fs::write(images.join("blobs").join("cd".repeat(32)), "x").unwrap();
    fs::write(world.dir.path().join("theirs"), "stays").unwrap();
    std::os::unix::fs::symlink(world.dir.path(), images.join("tmp/link")).unwrap();
    let store = world.reopen().await;
    assert_eq!(entries(&images.join("layers")), layers);
    assert!(entries(&images.join("tmp")).is_empty() && entries(&images.join("blobs")).is_empty());
    assert_eq!(entries(world.dir.path()), ["images", "theirs"]);
    assert_eq!(store.list().len(), 1);
    // An image that has lost a layer is none any more, and can be had again.
    fs::remove_dir_all(images.join("layers").join(&layers[0])).unwrap();
    let store = world.reopen().await;
    assert!(store.list().is_empty());
    store
        .prepare(&world.registry.name("app:1"), &Progress::none())
        .await
        .unwrap();
    fs::write(images.join("catalog.json"), "{").unwrap();
    let error = ImageStore::open(images, settings()).await.err().unwrap();
    assert!(matches!(error, ImageError::Host { .. }), "{error}");
}

#[tokio::test]
async fn the_budget_takes_what_nobody_needs() {
    if !is_root() {
        return;
    }
    let layer = |name: &str| Tape::new().file(name, &[b'x'; 50_000]).end();
    let world = World::with(ImageSettings {
        budget_bytes: 120_000,
        ..settings()
    })
    .await;
    let images: Vec<SampleImage> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| SampleImage::of(&[layer(name)]))
        .collect();
    for (at, image) in images.iter().enumerate() {
        world.registry.put("app", &at.to_string(), image);
    }
    let here = |store: &ImageStore| -> Vec<usize> {
        let list = store.list();
        let is_here = |at: &usize| {
            list.iter()
                .any(|image| image.digest == images[*at].digest())
        };
        (0..images.len()).filter(is_here).collect()
    };
    for name in ["app:0", "app:1", "app:2"] {
        world.pull(name).await.unwrap();
    }
    // Nobody has said yet what is needed.
    assert_eq!(here(&world.store), [0, 1, 2]);
    let pin = world.store.pin(&images[0].digest()).unwrap();
    world.store.retain(&[images[1].digest()]);
    world.pull("app:3").await.unwrap();
    assert_eq!(here(&world.store), [0, 1]);
    let layers = world.dir.path().join("images/layers");
    assert_eq!(entries(&layers).len(), 2);
    drop(pin);
    world.pull("app:3").await.unwrap();
    assert_eq!(here(&world.store), [1, 3]);
    assert_eq!(entries(&layers).len(), 2);
    assert!(world.store.pin(&images[0].digest()).is_err());
    assert!(entries(&world.dir.path().join("images/tmp")).is_empty());
}

#[tokio::test]
async fn removal_takes_names_first_and_spares_what_is_needed() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = sample();
    world.registry.put("app", "1", &image);
    world.registry.put("app", "2", &image);
    world.pull("app:1").await.unwrap();
    world.pull("app:2").await.unwrap();
    let (one, two) = (world.registry.name("app:1"), world.registry.name("app:2"));
    let pin = world.store.pin(&image.digest()).unwrap();
    world.store.remove(&one).await.unwrap();
    assert_eq!(world.store.list()[0].names, std::slice::from_ref(&two));
    assert!(matches!(
        world.store.remove(&one).await,
        Err(ImageError::NotHere { .. })
    ));
    assert!(matches!(
        world.store.remove(&two).await,
        Err(ImageError::InUse { users: 1, .. })
    ));
    drop(pin);
    world.store.retain(&[image.digest()]);
    assert!(matches!(
        world.store.remove(&two).await,
        Err(ImageError::BadRequest { .. })
    ));
    world.store.retain(&[]);
    world.store.remove(&two).await.unwrap();
    world.check_empty().await;
}

#[tokio::test]
async fn a_layer_that_occurs_twice_is_mounted_once() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = SampleImage::of(&[lower(), upper(), lower()]);
    world.registry.put("app", "1", &image);
    let prepared = world.pull("app:1").await.unwrap();
    assert_eq!(world.store.layers(&prepared.digest).unwrap().len(), 2);
    assert_eq!(prepared.size_bytes, (lower().len() + upper().len()) as u64);
}

async fn import(
    store: &ImageStore,
    path: &std::path::Path,
    name: Option<&str>,
) -> Result<(ImageReference, PreparedImage), ImageError> {
    let name = name.map(|name| name.parse().unwrap());
    store.import(path.to_owned(), name, &Progress::none()).await
}

fn tar(folder: &std::path::Path, archive: &std::path::Path) {
    let mut builder = tar::Builder::new(fs::File::create(archive).unwrap());
    builder.append_dir_all(".", folder).unwrap();
    builder.finish().unwrap();
}

#[tokio::test]
async fn layouts_are_imported_and_come_out_as_they_came() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = sample();
    let layout = world.dir.path().join("layout");
    image.write_layout(&layout, "hello:1");
    let (name, prepared) = import(&world.store, &layout, None).await.unwrap();
    assert_eq!(
        (name.to_string().as_str(), prepared.digest),
        ("localhost/hello:1", image.digest())
    );
    let archive = world.dir.path().join("layout.tar");
    tar(&layout, &archive);
    let packed = world.dir.path().join("layout.tar.gz");
    fs::write(&packed, gzip(&fs::read(&archive).unwrap())).unwrap();
    import(&world.store, &archive, Some("localhost/a"))
        .await
        .unwrap();
    import(&world.store, &packed, Some("localhost/b:2"))
        .await
        .unwrap();
    let store = world.reopen().await;
    assert_eq!(store.list()[0].names.len(), 3);
    let name = "localhost/b:2".parse().unwrap();
    assert_eq!(
        store.prepare(&name, &Progress::none()).await.unwrap(),
        prepared
    );
    let out = world.dir.path().join("out.tar");
    store.export(&name, out.clone()).await.unwrap();
    let other = ImageStore::open(world.dir.path().join("other"), settings())
        .await
        .unwrap();
    let (_, again) = import(&other, &out, Some("localhost/c")).await.unwrap();
    assert_eq!(again, prepared);
    for store in ["images", "other"] {
        let blobs = world.dir.path().join(store).join("blobs");
        assert_eq!(entries(&blobs).len(), 4);
        for blob in image.blobs() {
            assert_eq!(fs::read(blobs.join(digest_of(blob).hex())).unwrap(), blob);
        }
    }
    let error = store.export(&name, out).await.unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");
    assert!(
        store
            .remove(&"localhost/nothing".parse().unwrap())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_was_pulled_is_not_exported() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    world.registry.put("app", "1", &sample());
    world.pull("app:1").await.unwrap();
    let name = world.registry.name("app:1");
    let error = world
        .store
        .export(&name, world.dir.path().join("x.tar"))
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::NotExportable { .. }), "{error}");
    // Imported as well, it can be.
    let layout = world.dir.path().join("layout");
    sample().write_layout(&layout, "hello");
    import(&world.store, &layout, None).await.unwrap();
    world
        .store
        .export(&name, world.dir.path().join("x.tar"))
        .await
        .unwrap();
}

#[tokio::test]
async fn docker_archives_are_imported() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let image = sample();
    let folder = world.dir.path().join("docker");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), &image.config).unwrap();
    fs::write(folder.join("0.tar"), lower()).unwrap();
    fs::write(folder.join("1.tar"), upper()).unwrap();
    let list = |tags: &[&str]| json!([{ "Config": "config.json", "RepoTags": tags, "Layers": ["0.tar", "1.tar"] }]);
    fs::write(
        folder.join("manifest.json"),
        list(&["team/app:3"]).to_string(),
    )
    .unwrap();
    let archive = world.dir.path().join("docker.tar");
    tar(&folder, &archive);
    let (name, prepared) = import(&world.store, &archive, None).await.unwrap();
    assert_eq!(name.to_string(), "localhost/team/app:3");
    let layers = world.store.layers(&prepared.digest).unwrap();
    assert_eq!(
        fs::read_to_string(layers[1].join("etc/name")).unwrap(),
        "lower"
    );
    // Twice the same file is the same image.
    let (_, again) = import(&world.store, &archive, Some("localhost/x"))
        .await
        .unwrap();
    assert_eq!(again, prepared);
    fs::write(folder.join("manifest.json"), list(&[]).to_string()).unwrap();
    let error = import(&world.store, &folder, None)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("has no name"), "{error}");
    fs::write(folder.join("1.tar"), lower()).unwrap();
    let error = import(&world.store, &folder, Some("localhost/y"))
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
    assert_eq!(entries(&world.dir.path().join("images/layers")).len(), 2);
    assert!(entries(&world.dir.path().join("images/tmp")).is_empty());
}

#[tokio::test]
async fn files_that_hold_no_image_are_refused() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let dir = world.dir.path();
    let check = async |path: &std::path::Path, name: Option<&str>, want: &str| {
        let error = import(&world.store, path, name)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
    };
    check(&dir.join("missing"), None, "No such file").await;
    fs::write(dir.join("text"), "hello").unwrap();
    check(&dir.join("text"), None, "middle of a header").await;
    fs::create_dir(dir.join("empty")).unwrap();
    check(&dir.join("empty"), None, "holds no image").await;
    let layout = dir.join("layout");
    let image = sample();
    image.write_layout(&layout, "hello:1");
    check(&layout, Some("quay.io/hello"), "`localhost/hello:latest`").await;
    let layer = layout
        .join("blobs/sha256")
        .join(digest_of(&image.layers[1]).hex());
    fs::write(&layer, gzip(&lower())).unwrap();
    check(&layout, None, "corrupt").await;
    fs::remove_file(&layer).unwrap();
    check(&layout, None, "missing").await;
    fs::write(layout.join("index.json"), "[]").unwrap();
    check(&layout, None, "index.json").await;
    let descriptor = |name: &str| {
        json!({
            "mediaType": OCI_MANIFEST, "digest": image.digest(), "size": 1,
            "annotations": { "org.opencontainers.image.ref.name": name },
        })
    };
    let two = json!({ "schemaVersion": 2, "manifests": [descriptor("a"), descriptor("b")] });
    fs::write(layout.join("index.json"), two.to_string()).unwrap();
    check(&layout, None, "several images (a, b)").await;
    // What the failures have brought is gone.
    assert!(world.store.list().is_empty());
    for part in ["tmp", "blobs", "layers"] {
        assert!(entries(&dir.join("images").join(part)).is_empty(), "{part}");
    }
}

/// A stand-in for mmdebstrap that writes `archive` and counts its runs.
fn stand_in(dir: &std::path::Path, archive: &[u8]) -> PathBuf {
    fs::write(dir.join("base.tar"), archive).unwrap();
    let script = format!(
        "#!/bin/sh\necho run >> {0}/runs\nprintf '%s\\n' \"$@\" > {0}/arguments\n\
         echo 'I: working' >&2\nfor a; do case $a in *tmp*) cp {0}/base.tar \"$a\";; esac; done\n",
        dir.display()
    );
    let tool = dir.join("tool");
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    tool
}

#[tokio::test]
async fn a_base_image_is_made_once_and_kept_until_asked_for_anew() {
    use super::super::bootstrap::Bootstrap;
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tool = stand_in(dir.path(), &lower());
    let settings = ImageSettings {
        mmdebstrap: tool,
        ..settings()
    };
    let store = ImageStore::open(dir.path().join("images"), settings)
        .await
        .unwrap();
    let mut asked = Bootstrap {
        distribution: "debian:bookworm".to_owned(),
        packages: vec!["python3".to_owned()],
        mirror: None,
        name: "localhost/debian:bookworm".parse().unwrap(),
        refresh: false,
    };
    let runs = || {
        fs::read_to_string(dir.path().join("runs"))
            .unwrap()
            .lines()
            .count()
    };
    let (events, mut seen) = mpsc::channel(100);
    let made = store
        .bootstrap(asked.clone(), &Progress::to(events))
        .await
        .unwrap();
    let mut phases = Vec::new();
    while let Some(event) = seen.recv().await {
        phases.push(event.to_string());
    }
    assert!(phases.contains(&"I: working".to_owned()), "{phases:?}");
    let arguments = fs::read_to_string(dir.path().join("arguments")).unwrap();
    assert!(arguments.starts_with("--variant=minbase\n--format=tar\n--include=python3\n"));
    let again = store
        .bootstrap(asked.clone(), &Progress::none())
        .await
        .unwrap();
    assert_eq!((again, runs()), (made.clone(), 1));
    asked.refresh = true;
    // The same packages give the same digest.
    assert_eq!(
        store
            .bootstrap(asked.clone(), &Progress::none())
            .await
            .unwrap(),
        made
    );
    asked.refresh = false;
    asked.packages.push("curl".to_owned());
    let other = store
        .bootstrap(asked.clone(), &Progress::none())
        .await
        .unwrap();
    assert_eq!((other.digest == made.digest, runs()), (false, 3));
    store
        .export(&asked.name, dir.path().join("base-out.tar"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_or_failing_tool_is_told() {
    use super::super::bootstrap::Bootstrap;
    if !is_root() {
        return;
    }
    let asked = Bootstrap {
        distribution: "debian:bookworm".to_owned(),
        packages: Vec::new(),
        mirror: None,
        name: "localhost/debian:bookworm".parse().unwrap(),
        refresh: false,
    };
    let dir = tempfile::tempdir().unwrap();
    for (tool, want) in [
        (
            "/nonexistent/mmdebstrap",
            "install the package `mmdebstrap`",
        ),
        ("false", "exit code 1"),
    ] {
        let settings = ImageSettings {
            mmdebstrap: tool.into(),
            ..settings()
        };
        let store = ImageStore::open(dir.path().join("images"), settings)
            .await
            .unwrap();
        let error = store
            .bootstrap(asked.clone(), &Progress::none())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
        assert!(entries(&dir.path().join("images/tmp")).is_empty());
    }
}

/// Debian's own registry, fed by skopeo.
#[tokio::test]
async fn a_real_registry_gives_what_a_real_client_pushed() {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !is_root() || !has("docker-registry") || !has("skopeo") {
        eprintln!("SKIPPED: needs root, docker-registry and skopeo");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = RealRegistry::start(dir.path()).await;
    let image = sample();
    image.write_layout(&dir.path().join("layout"), "hello");
    for (tag, more) in [("oci", &[][..]), ("docker", &["--format", "v2s2"][..])] {
        let to = format!("docker://{}/team/hello:{tag}", registry.address);
        let from = format!("oci:{}/layout:hello", dir.path().display());
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .args(more)
            .args([from, to]);
        let pushed = skopeo.output().unwrap();
        assert!(pushed.status.success(), "{pushed:?}");
    }
    let store = ImageStore::open(dir.path().join("images"), settings())
        .await
        .unwrap();
    for tag in ["oci", "docker"] {
        let name = format!("{}/team/hello:{tag}", registry.address)
            .parse()
            .unwrap();
        let prepared = store.prepare(&name, &Progress::none()).await.unwrap();
        assert_eq!(prepared.config.entrypoint, ["/app"]);
        let layers = store.layers(&prepared.digest).unwrap();
        assert_eq!(
            fs::metadata(layers[0].join("noise")).unwrap().len(),
            300_000
        );
    }
    let missing = format!("{}/team/missing:1", registry.address)
        .parse()
        .unwrap();
    let error = store
        .prepare(&missing, &Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
}

struct RealRegistry {
    address: String,
    process: std::process::Child,
}

impl RealRegistry {
    async fn start(dir: &std::path::Path) -> Self {
        // The registry tells no port it chose by itself; one that was just free mostly still is.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}/registry\n\
             http:\n  addr: {address}\n",
            dir.display()
        );
        fs::write(dir.join("registry.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve".into(), dir.join("registry.yml")])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::task::yield_now().await;
        }
        Self { address, process }
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

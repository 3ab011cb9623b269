use super::*;
use crate::cgroup::Cgroups;

fn example(root: &Path) -> Option<DockerfileBuild> {
    // Only a name for files that these tests do not touch.
    let group = Cgroups::detect("dockerfile-test")
        .ok()?
        .group(ekiden_model::id::InstanceId::from_bytes([7; 16]));
    let (log, _) = mpsc::channel(1);
    Some(DockerfileBuild {
        program: "/proc/self/exe".into(),
        context: root.join("source"),
        dockerfile: "docker/Dockerfile".to_owned(),
        target: Some("final".to_owned()),
        args: BTreeMap::from([("A".to_owned(), "b c=d".to_owned())]),
        secrets: BTreeMap::from([("token".to_owned(), Zeroizing::new("s3cret".to_owned()))]),
        storage: root.join("storage"),
        output: root.join("output"),
        local_images: vec![LocalImage {
            name: "localhost/base:1".to_owned(),
            archive: root.join("base.tar"),
        }],
        uid_base: rustix::process::getuid().as_raw(),
        network: File::open("/dev/null").unwrap().into(),
        authorities: None,
        resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
        group,
        deadline: Duration::from_secs(600),
        disk_bytes_max: 1 << 30,
        cache_bytes_max: 1 << 30,
        log,
    })
}

fn tools() -> Tools {
    Tools::find_by(|_| true).unwrap()
}

#[test]
fn commands_are_what_buildah_takes() {
    let root = tempfile::tempdir().unwrap();
    let Some(mut build) = example(root.path()) else {
        return; // a host without cgroups
    };
    let commands = commands(&build, &tools(), true);
    let shown: Vec<String> = commands.iter().map(|command| command.join(" ")).collect();
    let buildah =
        "/usr/bin/buildah --root /storage --runroot /run/containers --storage-driver overlay";
    assert_eq!(
        shown,
        [
            format!("{buildah} rm --all"),
            format!("/bin/sh -c {TAKE} sh oci-archive:/images/0 localhost/base:1 {buildah}"),
            format!(
                "{buildah} build --isolation=oci --runtime=/usr/bin/runc --network=host \
                 --cap-drop=AUDIT_WRITE,MKNOD,NET_RAW \
                 --signature-policy=/etc/containers/policy.json --http-proxy=false --format=oci \
                 --layers --force-rm --pull=true --retry=2 \
                 --security-opt=seccomp=/usr/share/containers/seccomp.json \
                 --build-arg=A=b c=d --secret=id=token,src=/secrets/0 --target=final \
                 --file=/context/docker/Dockerfile --tag=localhost/ekiden-build:latest /context"
            ),
            format!(
                "{buildah} push --quiet --signature-policy=/etc/containers/policy.json \
                 localhost/ekiden-build:latest oci:/output:latest"
            ),
        ]
    );
    build.target = None;
    assert_eq!(super::commands(&build, &tools(), false).len(), 3);
    assert!(!shown.iter().any(|command| command.contains("s3cret")));
}

#[test]
fn missing_programs_are_named_with_what_to_do() {
    let error = Tools::find_by(|path| path.ends_with("buildah")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`runc`") && text.contains("apt install buildah runc"),
        "{text}"
    );
}

#[test]
fn requests_that_buildah_would_take_for_something_else_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let Some(mut build) = example(root.path()) else {
        return;
    };
    check(&build).unwrap();
    let mut refused = |change: &dyn Fn(&mut DockerfileBuild)| {
        let before = (
            build.args.clone(),
            build.target.clone(),
            build.dockerfile.clone(),
        );
        change(&mut build);
        assert!(matches!(
            check(&build),
            Err(DockerfileError::Request { .. })
        ));
        (build.args, build.target, build.dockerfile) = before;
    };
    refused(&|build| drop(build.args.insert("A=B".to_owned(), String::new())));
    refused(&|build| drop(build.args.insert(String::new(), String::new())));
    refused(&|build| drop(build.args.insert("A".to_owned(), "\0".to_owned())));
    refused(&|build| build.target = Some("-x".to_owned()));
    for path in ["", "..", "/etc/passwd", "a/../../b", ".", "a\0"] {
        refused(&|build| build.dockerfile = path.to_owned());
    }
    refused(&|build| {
        let value = Zeroizing::new(String::new());
        build.secrets = BTreeMap::from([("a,src=/etc/shadow".to_owned(), value)]);
    });
}

#[test]
fn dockerfile_is_read_within_its_source_only() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("app");
    fs::create_dir(&source).unwrap();
    fs::write(root.path().join("outside"), "FROM secret").unwrap();
    fs::write(source.join("Dockerfile"), "FROM debian").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, source.join(name)).unwrap();
    link("Dockerfile", "linked");
    link("../outside", "up");
    link("/proc/self/environ", "absolute");
    let read = |path: &str| read_dockerfile(root.path(), path);
    assert_eq!(read("./Dockerfile").unwrap(), "FROM debian");
    assert_eq!(read("linked").unwrap(), "FROM debian");
    for path in ["up", "absolute", "none", "../outside"] {
        assert!(read(path).is_err(), "{path}");
    }
    fs::write(source.join("large"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(read("large").unwrap_err().to_string().contains("1 MiB"));
    let text = read("none").unwrap_err().to_string();
    assert!(
        text.contains("`none`") && text.contains("there is none"),
        "{text}"
    );
}

#[test]
fn storage_is_kept_while_its_owner_stays_the_same() {
    let root = tempfile::tempdir().unwrap();
    let (storage, output) = (root.path().join("s"), root.path().join("o"));
    let me = rustix::process::getuid().as_raw();
    assert!(!prepare(&storage, &output, me).unwrap());
    fs::write(storage.join("layers/kept"), "x").unwrap();
    fs::create_dir_all(storage.join("tmp/buildah-cache/kept")).unwrap();
    fs::write(storage.join("tmp/leftover"), "x").unwrap();
    // The build before has not said that it ended.
    assert!(prepare(&storage, &output, me).unwrap());
    assert!(storage.join("layers/kept").exists());
    assert!(storage.join("tmp/buildah-cache/kept").exists());
    assert!(!storage.join("tmp/leftover").exists());
    fs::write(storage.join(OWNER), "1").unwrap();
    assert!(!prepare(&storage, &output, me).unwrap());
    assert!(!storage.join("layers/kept").exists());
    tidy(&storage, u64::MAX).unwrap();
    assert!(storage.exists());
    tidy(&storage, 0).unwrap();
    assert!(!storage.exists());
}

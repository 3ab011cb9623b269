//! Instances as they are: started, limited, ended, by a real agent on this machine. Needs root.

#![allow(clippy::unwrap_used)]

mod support;

use ekiden_engine::Engine;
use ekiden_model::instance::{ExitCause, InstanceState, StopReason, UserNamespace};
use support::{World, can_run, until};

const OK: ExitCause = ExitCause::Code { code: 0 };

#[tokio::test]
async fn instance_runs_with_its_environment_user_and_directory() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let mut spec = world.script("echo $GREETING; id; pwd; echo $HOME; hostname; cat /etc/hostname");
    spec.env.insert("GREETING".into(), "hello".into());
    spec.user = "app".into();
    spec.cwd = "/srv/new".into();
    let (output, cause) = world.run_spec(&spec).await;
    assert_eq!(cause, OK, "{output}");
    let short = spec.id.short();
    let want = format!(
        "hello\nuid=1000(app) gid=1000(app) groups=77(extra),1000(app)\n/srv/new\n/home/app\n{short}\n{short}\n"
    );
    assert_eq!(output, want);
}

#[tokio::test]
async fn root_inside_is_not_root_outside_and_may_do_little() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let spec = world.script(
        "cat /proc/self/uid_map; echo x > /proc/sys/kernel/hostname; mount -t tmpfs none /mnt; \
         umount /proc; hostname other; unshare -U true; ip link set eth0 down; mknod /tmp/sda b 8 0; \
         cat /proc/kcore | head -c 1; echo b > /proc/sysrq-trigger; echo 1 > /sys/fs/cgroup/x; \
         chown 1000:1000 /tmp && ls -ldn /tmp; grep -E 'Cap(Eff|Bnd)|NoNew|Seccomp:' /proc/self/status; \
         touch /etc/mine && echo ready; sleep 1000",
    );
    world.start(&spec).await;
    world.wait_for_line(spec.id, "ready").await;
    let output = world.output(spec.id).await;
    let refused = output.lines().filter(|line| {
        [
            "Permission denied",
            "Operation not permitted",
            "Read-only",
            "can't",
        ]
        .iter()
        .any(|why| line.contains(why))
    });
    assert!(refused.count() >= 8, "{output}");
    assert!(
        output.contains(" 0  268435456      65536") || output.contains("65536"),
        "{output}"
    );
    assert!(output.contains("1000     1000"), "{output}");
    // CHOWN to SETFCAP, as the launcher lists them.
    assert!(output.contains("CapEff:\t00000000800405fb"), "{output}");
    assert!(output.contains("CapBnd:\t00000000800405fb"), "{output}");
    assert!(
        output.contains("NoNewPrivs:\t1") && output.contains("Seccomp:\t2"),
        "{output}"
    );
    // What it made belongs to nobody on the host.
    let mine = world
        .data()
        .join(format!("instances/{}/upper/etc/mine", spec.id));
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(mine).unwrap());
    assert!(owner >= 0x1000_0000, "{owner}");
}

#[tokio::test]
async fn other_users_have_no_capabilities() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let mut spec =
        world.script("grep -E 'Cap(Eff|Prm|Inh|Amb)' /proc/self/status; echo out > /dev/stdout");
    spec.user = "1234:4321".into();
    let (output, cause) = world.run_spec(&spec).await;
    assert_eq!(cause, OK, "{output}");
    assert_eq!(output.matches("0000000000000000").count(), 4, "{output}");
    assert!(output.ends_with("out\n"), "{output}");
}

#[tokio::test]
async fn host_user_namespace_is_a_way_out_with_the_same_limits() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let mut spec = world.script(
        "cat /proc/self/uid_map; grep CapEff /proc/self/status; mount -t tmpfs none /mnt || echo no",
    );
    spec.user_namespace = UserNamespace::Host;
    let (output, cause) = world.run_spec(&spec).await;
    assert_eq!(cause, OK, "{output}");
    assert!(output.contains("4294967295"), "{output}");
    assert!(
        output.contains("00000000800405fb") && output.ends_with("no\n"),
        "{output}"
    );
}

#[tokio::test]
async fn instance_sees_its_own_limits_and_files() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let output = world
        .output_of(
            "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; \
             cat /etc/resolv.conf /etc/hosts; echo $$; ls /dev /dev/pts; ps | wc -l; \
             cat /sys/class/net/eth0/operstate; ls /proc/self/fd",
        )
        .await;
    assert!(output.starts_with(&format!("{}\n", 64 << 20)), "{output}");
    assert!(
        output.contains("nameserver ") && output.contains("127.0.0.1\tlocalhost"),
        "{output}"
    );
    assert!(output.contains("\n1\n"), "not pid 1: {output}");
    for device in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm", "stdout",
    ] {
        assert!(
            output.lines().any(|line| line == device),
            "no {device}: {output}"
        );
    }
    // Nothing of the shim's is open: 0, 1, 2, and the listing itself.
    assert!(output.ends_with("\n0\n1\n2\n3\n"), "{output}");
}

#[tokio::test]
async fn instances_reach_neither_host_nor_neighbours_nor_metadata() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let served = world.script("echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp");
    let neighbour = world.start(&served).await;
    // The host can reach it, which also shows that it listens.
    let url = format!("{neighbour}:80");
    until("the neighbour listens", || {
        std::net::TcpStream::connect(&url).is_ok()
    })
    .await;
    let on_bridge = std::net::TcpListener::bind((world.gateway(), 0)).unwrap();
    let on_any = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
    let targets = [
        (world.gateway(), port(&on_bridge)),
        (world.gateway(), port(&on_any)),
        (host_address(), port(&on_any)),
        (neighbour.to_string(), 80),
        ("169.254.169.254".to_owned(), 80),
    ];
    for (host, port) in targets {
        let script = format!("nc -w 5 {host} {port} </dev/null && echo reached {host}; true");
        let output = world.output_of(&script).await;
        assert!(!output.contains("reached"), "{output}");
    }
}

/// An address of this host that is not on a bridge of ours.
fn host_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing; without a route there is only the loopback, which is unreachable as well.
    match socket.connect("198.51.100.1:9") {
        Ok(()) => socket.local_addr().unwrap().ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}

#[tokio::test]
async fn memory_limit_is_recognised() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let (output, cause) = world.run("x=x; while true; do x=$x$x; done").await;
    assert_eq!(cause, ExitCause::OutOfMemory, "{output}");
}

#[tokio::test]
async fn fork_bomb_stops_at_its_limit_and_is_stopped() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let spec = world.script("bomb() { bomb | bomb & }; trap '' TERM; while true; do bomb; done 2>&1 | head -n 3; echo full; sleep 1000");
    world.start(&spec).await;
    world.wait_for_line(spec.id, "fork").await;
    world.stop(spec.id, 0).await;
    assert_eq!(
        world.exit(spec.id).await.cause,
        ExitCause::Signal { signal: 9 }
    );
    world.remove(spec.id).await.unwrap();
    assert_eq!(world.output_of("echo fine").await, "fine\n");
}

#[tokio::test]
async fn ends_are_told_apart() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    assert_eq!(world.run("exit 0").await.1, OK);
    assert_eq!(world.run("exit 7").await.1, ExitCause::Code { code: 7 });
    let polite =
        world.script("trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.01; done");
    world.start(&polite).await;
    world.wait_for_line(polite.id, "up").await;
    world.stop(polite.id, 60_000).await;
    let exit = world.exit(polite.id).await;
    assert_eq!(exit.cause, ExitCause::Code { code: 3 });
    assert_eq!(exit.stopped_for, Some(StopReason::NotNeeded));
    assert!(world.output(polite.id).await.contains("bye"));
    let stubborn = world.script("trap '' TERM; echo up; while true; do sleep 1000; done");
    world.start(&stubborn).await;
    world.wait_for_line(stubborn.id, "up").await;
    world.stop(stubborn.id, 100).await;
    assert_eq!(
        world.exit(stubborn.id).await.cause,
        ExitCause::Signal { signal: 9 }
    );
    // Again and for nobody: success.
    world.stop(stubborn.id, 100).await;
    world.clear().await;
    world.stop(stubborn.id, 100).await;
    world.client.remove(stubborn.id).await.unwrap();
}

#[tokio::test]
async fn failed_starts_say_why() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    std::fs::write(
        world.layer().join("bin/foreign"),
        [0x7f, b'E', b'L', b'F', 9, 9],
    )
    .unwrap();
    std::fs::write(world.layer().join("bin/orphan"), "#!/bin/none\n").unwrap();
    for file in ["foreign", "orphan"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(world.layer().join("bin").join(file), mode).unwrap();
    }
    for (command, words) in [
        ("nosuch", "`nosuch` was not found in the image's PATH"),
        ("/no/such", "`/no/such` does not exist"),
        ("/etc/passwd", "may not be executed"),
        ("/etc", "is a directory"),
        ("foreign", "another architecture"),
        ("orphan", "interpreter"),
    ] {
        let (output, cause) = world.run_spec(&world.spec(&[command])).await;
        let ExitCause::StartFailed { message } = cause else {
            panic!("{command}: {cause:?}")
        };
        assert!(message.contains(words), "{message}");
        assert!(output.contains(words), "{output}");
    }
    let mut unknown = world.script("true");
    unknown.user = "nobody-here".into();
    let ExitCause::StartFailed { message } = world.run_spec(&unknown).await.1 else {
        panic!()
    };
    assert!(message.contains("`nobody-here`"), "{message}");
    let mut relative = world.script("true");
    relative.cwd = "here".into();
    assert!(world.client.start(&relative).await.is_err());
}

#[tokio::test]
async fn logs_are_kept_whole_and_bounded() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let (_, cause) = world.run("printf 'no newline'; printf 'err' >&2").await;
    assert_eq!(cause, OK);
    let endless = world.script("yes endless & sleep 1000");
    world.start(&endless).await;
    let logs = world
        .data()
        .join("logs")
        .join(support::SERVICE.to_string())
        .join(endless.id.to_string());
    let written = || {
        let segments = std::fs::read_dir(&logs).unwrap().flatten();
        // Rotation may take one away meanwhile.
        segments
            .filter_map(|segment| std::fs::read_to_string(segment.path()).ok())
            .collect::<String>()
    };
    until("the loss is said", || {
        written().contains(" ekiden F dropped ")
    })
    .await;
    world.stop(endless.id, 0).await;
    world.exit(endless.id).await;
    assert!(written().len() < 20 << 20);
    let query = ekiden_engine::LogQuery {
        service: support::SERVICE,
        instance: None,
        after: Some(ekiden_engine::LogCursor(String::new())),
        lines_max: 2,
    };
    let first = world.client.logs(&query).await.unwrap().lines;
    let texts: Vec<_> = first
        .iter()
        .map(|line| (line.stream, line.text.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (ekiden_engine::LogStream::Stdout, "no newline"),
            (ekiden_engine::LogStream::Stderr, "err")
        ]
    );
    // Logs outlive their instance, until the service is forgotten.
    world.clear().await;
    assert_eq!(world.client.logs(&query).await.unwrap().lines.len(), 2);
    world.client.forget_service(support::SERVICE).await.unwrap();
    assert!(world.client.logs(&query).await.unwrap().lines.is_empty());
}

#[tokio::test]
async fn instance_over_its_disk_limit_is_killed() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let mut spec = world
        .script("echo go; dd if=/dev/zero of=/tmp/big bs=1M count=300 && echo wrote; sleep 1000");
    spec.limits.disk_bytes = 32 << 20;
    spec.limits.memory_bytes = 512 << 20;
    world.client.start(&spec).await.unwrap();
    assert_eq!(world.exit(spec.id).await.cause, ExitCause::OutOfDisk);
}

#[tokio::test]
async fn starting_twice_is_starting_once() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let spec = world.script("echo once; sleep 1000");
    let (one, two, three) = tokio::join!(
        world.client.start(&spec),
        world.client.start(&spec),
        world.client.start(&spec)
    );
    assert_eq!([one, two, three], [const { Ok(()) }; 3]);
    world.wait_for_line(spec.id, "once").await;
    assert_eq!(world.output(spec.id).await, "once\n");
    let runs = |state: &InstanceState| matches!(state, InstanceState::Running { .. }).then_some(());
    world.wait(spec.id, runs).await;
    assert_eq!(world.client.observe().borrow().instances.len(), 1);
}

//! Tables: acknowledged, drained, saved, and served without control.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use ekiden_model::{
    instance::RevisionNumber,
    route::{Generation, Route, RouteState, ToEdge, Upstream},
};

use socket2::{Domain, Socket, Type};

use crate::support::{App, Client, GET, PATIENCE, World, instance, route, saying, wait_until};

#[test]
fn after_the_acknowledgement_no_request_goes_to_an_instance_that_left() {
    let old = App::saying("old");
    let new = App::saying("new");
    let mut world = World::with(4, |_| {});
    let mut clients: Vec<_> = (0..16).map(|_| world.client()).collect();
    for _ in 0..20 {
        world
            .control
            .publish(vec![route(1, "app.test", &[old.address])]);
        for client in &mut clients {
            assert_eq!(client.ask(GET).text(), "old");
        }
        world
            .control
            .publish(vec![route(2, "app.test", &[new.address])]);
        for client in &mut clients {
            assert_eq!(client.ask(GET).text(), "new");
        }
    }
}

#[test]
fn an_instance_that_left_is_draining_until_its_last_request_is_over() {
    let (answer, told) = channel::<()>();
    let told = Mutex::new(told);
    let old = App::new(move |_, mut client| {
        client.message(true);
        told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        client.send(saying("old"));
        client.rest();
    });
    let new = App::saying("new");
    let mut world = World::with(2, |_| {});
    world
        .control
        .publish(vec![route(1, "app.test", &[old.address])]);
    let (mut one, mut two) = (world.client(), world.client());
    one.send(GET);
    two.send(GET);
    wait_until("both arrive", || old.connections() == 2);

    let mut deployed = route(1, "app.test", &[old.address, new.address]);
    deployed.upstreams.remove(0);
    let sent = world.control.send_change(vec![deployed], vec![]);
    assert_eq!(world.control.served(sent), [instance(1, 0)]);
    assert_eq!(world.client().ask(GET).text(), "new");

    answer.send(()).unwrap();
    answer.send(()).unwrap();
    world.control.wait_for_draining(&[]);
    assert_eq!(
        (one.response().text(), two.response().text()),
        ("old", "old")
    );
    // The kept connection to the instance that left was not kept after all.
    assert_eq!(one.ask(GET).text(), "new");
}

#[test]
fn an_instance_that_comes_back_while_it_drains_is_the_same_instance() {
    let (answer, told) = channel::<()>();
    let told = Mutex::new(told);
    let held = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&held);
    let app = App::new(move |_, mut client| {
        while client.message(true).is_some() {
            let now = counted.0.fetch_add(1, Ordering::SeqCst) + 1;
            counted.1.fetch_max(now, Ordering::SeqCst);
            told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            counted.0.fetch_sub(1, Ordering::SeqCst);
            client.send(saying("hello"));
        }
    });
    let mut world = World::new();
    let mut narrow = route(1, "app.test", &[app.address]);
    narrow.concurrency_per_instance = 1;
    world.control.publish(vec![narrow.clone()]);
    let mut first = world.client();
    first.send(GET);
    wait_until("it arrives", || held.0.load(Ordering::SeqCst) == 1);
    assert_eq!(world.control.publish(vec![]), [instance(1, 0)]);
    assert_eq!(world.control.publish(vec![narrow]), []);
    let mut second = world.client();
    second.send(GET);
    answer.send(()).unwrap();
    assert_eq!(first.response().text(), "hello");
    answer.send(()).unwrap();
    assert_eq!(second.response().text(), "hello");
    assert_eq!(
        held.1.load(Ordering::SeqCst),
        1,
        "the second waited for the first's slot"
    );
}

#[test]
fn without_control_the_last_table_is_served_and_control_is_heard_again() {
    let app = App::saying("hello");
    let other = App::saying("other");
    let mut world = World::serving(app.address);
    world.control.restart();
    let mut client = world.client();
    assert_eq!(client.ask(GET).text(), "hello");
    // A change without a table first is refused by hanging up.
    world.control.send(&ToEdge::Change {
        generation: Generation(9),
        set: vec![],
        remove: vec![],
    });
    world.control.restart();
    assert_eq!(client.ask(GET).text(), "hello");
    world.serve(&[other.address]);
    assert_eq!(client.ask(GET).text(), "other");
}

#[test]
fn deployments_under_load_lose_no_request() {
    const DEPLOYMENTS: u8 = 60;
    const POST: &str = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi";
    const CLOSE: &str = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    let mut world = World::with(4, |_| {});
    let mut app = App::saying("hello");
    world
        .control
        .publish(vec![route(1, "app.test", &[app.address])]);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (address, over) = (world.address, Arc::clone(&over));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut asked = 0;
                while !over.load(Ordering::SeqCst) {
                    let request = [GET, POST, CLOSE][(asked + number) % 3];
                    let response = client.ask(request);
                    assert_eq!((response.status(), response.text()), (200, "hello"));
                    if request == CLOSE {
                        client = Client::connect(address);
                    }
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for deployment in 1..=DEPLOYMENTS {
        let next = App::saying("hello");
        let mut deployed = route(1, "app.test", &[next.address]);
        deployed.upstreams[0].instance = instance(1, deployment);
        let sent = world.control.send_change(vec![deployed], vec![]);
        if !world.control.served(sent).is_empty() {
            world.control.wait_for_draining(&[]);
        }
        // Now, and not before, the old one may go.
        drop(std::mem::replace(&mut app, next));
    }
    over.store(true, Ordering::SeqCst);
    let asked: usize = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert!(asked > usize::from(DEPLOYMENTS));
}

#[test]
fn a_table_that_is_repeated_is_acknowledged_and_changes_nothing() {
    let app = App::saying("hello");
    let mut world = World::serving(app.address);
    let mut client = world.client();
    assert_eq!(client.ask(GET).text(), "hello");
    world.serve(&[app.address]);
    assert_eq!(client.ask(GET).text(), "hello");
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_host_name_belongs_to_whom_it_was_given_last() {
    let (one, two) = (App::saying("one"), App::saying("two"));
    let mut world = World::new();
    world
        .control
        .publish(vec![route(1, "app.test", &[one.address])]);
    let sent = world
        .control
        .send_change(vec![route(2, "app.test", &[two.address])], vec![]);
    world.control.served(sent);
    assert_eq!(world.client().ask(GET).text(), "two");
    let sent = world
        .control
        .send_change(vec![], vec![route(1, "", &[]).service]);
    world.control.served(sent);
    assert_eq!(world.client().ask(GET).text(), "two");
}

/// Who answers for a host name, or why nobody does.
fn asked(world: &World, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = world.client().ask(&request);
    match answer.status() {
        200 => answer.text().to_owned(),
        _ => answer.cause(),
    }
}

#[test]
fn a_wildcard_leads_every_name_one_label_below_that_has_no_route_of_its_own() {
    let (wild, exact) = (App::saying("wild"), App::saying("exact"));
    let mut world = World::new();
    world.control.publish(vec![
        route(1, "*.example.test", &[wild.address]),
        route(2, "own.example.test", &[exact.address]),
    ]);
    for (host, want) in [
        ("a.example.test", "wild"),
        ("A.Example.TEST:8080", "wild"),
        ("own.example.test", "exact"),
        ("example.test", "no_such_host"),
        ("a.b.example.test", "no_such_host"),
        ("a.own.example.test", "no_such_host"),
        ("aexample.test", "no_such_host"),
        (".example.test", "no_such_host"),
        ("test", "no_such_host"),
    ] {
        assert_eq!(asked(&world, host), want, "{host}");
    }
}

#[test]
fn an_exact_name_that_comes_and_goes_leaves_its_wildcard_as_it_was() {
    let (wild, exact) = (App::saying("wild"), App::saying("exact"));
    let mut world = World::new();
    world
        .control
        .publish(vec![route(1, "*.example.test", &[wild.address])]);
    assert_eq!(asked(&world, "own.example.test"), "wild");
    let own = route(2, "own.example.test", &[exact.address]);
    let sent = world.control.send_change(vec![own.clone()], vec![]);
    world.control.served(sent);
    assert_eq!(asked(&world, "own.example.test"), "exact");
    let sent = world.control.send_change(vec![], vec![own.service]);
    world.control.served(sent);
    assert_eq!(asked(&world, "own.example.test"), "wild");
}

#[test]
fn a_wildcard_belongs_to_whom_it_was_given_last_and_goes_with_its_service() {
    let (one, two) = (App::saying("one"), App::saying("two"));
    let mut world = World::new();
    world
        .control
        .publish(vec![route(1, "*.example.test", &[one.address])]);
    // It moves: the one who loses it and the one who gets it, in one change.
    let sent = world.control.send_change(
        vec![
            route(2, "*.example.test", &[two.address]),
            route(1, "one.test", &[one.address]),
        ],
        vec![],
    );
    world.control.served(sent);
    assert_eq!(asked(&world, "a.example.test"), "two");
    assert_eq!(asked(&world, "one.test"), "one");
    let gone = vec![route(2, "", &[]).service];
    let sent = world.control.send_change(vec![], gone);
    world.control.served(sent);
    assert_eq!(asked(&world, "a.example.test"), "no_such_host");
}

#[test]
fn a_restarted_edge_serves_by_the_saved_table_before_control_has_spoken() {
    let app = App::saying("hello");
    let mut world = World::with(2, |_| {});
    world
        .control
        .publish(vec![route(1, "app.test", &[app.address])]);
    let dir = world.end();
    let saved: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("routes.json")).unwrap()).unwrap();
    assert_eq!(
        (&saved["version"], &saved["generation"]),
        (&1.into(), &1.into())
    );

    let world = World::in_dir(dir, 3, |_| {});
    assert_eq!(world.client().ask(GET).text(), "hello");
}

#[test]
fn a_saved_table_that_is_older_than_its_services_refuses_nobody_before_control_has_spoken() {
    let app = App::saying("hello");
    let mut world = World::new();
    let empty = Route {
        state: RouteState::NotDeployed,
        ..route(1, "app.test", &[])
    };
    world.control.publish(vec![empty]);
    let dir = world.end();

    let mut world = World::in_dir(dir, 1, |_| {});
    let mut clients = [world.client(), world.client(), world.client()];
    clients[0].send(GET);
    clients[1].send("GET / HTTP/1.1\r\nHost: new.test\r\n\r\n");
    clients[2].send("GET / HTTP/1.1\r\nHost: gone.test\r\n\r\n");
    world.control.publish(vec![
        route(1, "app.test", &[app.address]),
        route(2, "new.test", &[app.address]),
    ]);
    let [known, new, gone] = &mut clients;
    assert_eq!(known.response().text(), "hello");
    assert_eq!(new.response().text(), "hello");
    assert_eq!(gone.response().cause(), "no_such_host");
}

#[test]
fn an_edge_that_stops_before_control_has_spoken_goes_on_waiting_for_it() {
    let app = App::saying("hello");
    let mut world = World::new();
    let mut client = world.client();
    client.send(GET);
    // The edge has taken the connection when it has read all of a head that it can answer.
    let mut other = world.client();
    other.ask("GET /two HTTP/2.7\r\n\r\n");
    world.stop();
    world.serve(&[app.address]);
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_change_that_is_served_is_on_disk_for_the_next_edge() {
    let (old, new) = (App::saying("old"), App::saying("new"));
    let mut world = World::new();
    world.serve(&[old.address]);
    let sent = world
        .control
        .send_change(vec![route(1, "app.test", &[new.address])], vec![]);
    world.control.served(sent);
    // As a killed edge leaves it.
    let copy = tempfile::tempdir().unwrap();
    for name in ["routes.json", "routes.changes"] {
        fs::copy(world.dir().join(name), copy.path().join(name)).unwrap();
    }
    let next = World::in_dir(copy, 1, |_| {});
    assert_eq!(next.client().ask(GET).text(), "new");
}

#[test]
fn a_connection_that_is_not_answered_is_not_waited_for_once_its_instance_has_left() {
    let app = App::saying("hello");
    // A full backlog of a listener that never accepts: the kernel drops what comes.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    silent.bind(&any.into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let _full: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)))
        .collect();
    let mut world = World::with(1, |bounds| bounds.connect_time = 2 * PATIENCE);
    world.serve(&[address]);
    let mut client = world.client();
    client.send(GET);
    // proc_pid_net(5): address and port in hexadecimal, then the state; 02 is SYN_SENT.
    let connecting = format!("0100007F:{:04X} 02", address.port());
    wait_until("the edge connects", || {
        fs::read_to_string("/proc/net/tcp")
            .unwrap()
            .contains(&connecting)
    });
    world.control.publish(vec![Route {
        upstreams: vec![Upstream {
            instance: instance(1, 9),
            revision: RevisionNumber(1),
            address: app.address,
        }],
        ..route(1, "app.test", &[])
    }]);
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_saved_table_that_cannot_be_read_is_as_good_as_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("routes.json"), "{\"version\":1,\"gener").unwrap();
    let app = App::saying("hello");
    let mut world = World::in_dir(dir, 1, |bounds| bounds.control_wait = Duration::ZERO);
    assert_eq!(world.client().ask(GET).cause(), "no_routes");
    world.serve(&[app.address]);
    assert_eq!(world.client().ask(GET).text(), "hello");
}

#[test]
fn a_request_that_waits_in_a_stopping_edge_hears_of_new_instances() {
    let app = App::saying("hello");
    let mut world = World::new();
    world.serve(&[]);
    let mut client = world.client();
    client.send(GET);
    // The edge has read it when it has answered what came after it.
    let mut other = world.client();
    other.ask("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    world.stop();
    assert!(other.is_closed());
    world.serve(&[app.address]);
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_stopping_edge_finishes_its_requests_and_takes_no_more() {
    let (answer, told) = channel::<()>();
    let told = Mutex::new(told);
    let app = App::new(move |_, mut client| {
        client.message(true);
        told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        client.send(saying("hello"));
        client.rest();
    });
    let mut world = World::with(2, |_| {});
    world.serve(&[app.address]);
    let mut idle = world.client();
    idle.ask("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    let mut client = world.client();
    client.send(GET);
    wait_until("it arrives", || app.connections() == 1);
    world.stop();
    assert!(idle.is_closed());
    answer.send(()).unwrap();
    let response = client.response();
    assert_eq!(
        (response.text(), response.field("connection").as_deref()),
        ("hello", Some("close"))
    );
    assert!(client.is_closed());
    world.end();
}

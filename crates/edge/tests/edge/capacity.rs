//! Slots and the queue.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use ekiden_model::route::Route;

use crate::support::{App, Client, GET, PATIENCE, World, refusing, route, saying, wait_until};

/// An application that answers when it is told to, and counts what it holds.
struct Held {
    app: App,
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    answers: Sender<()>,
}

impl Held {
    fn new() -> Self {
        let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (answers, told): (_, Receiver<()>) = channel();
        let told = Mutex::new(told);
        let (holds, peak) = (Arc::clone(&held), Arc::clone(&most));
        let app = App::new(move |_, mut client| {
            while client.message(true).is_some() {
                peak.fetch_max(holds.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let told = told.lock().unwrap().recv_timeout(PATIENCE);
                holds.fetch_sub(1, Ordering::SeqCst);
                if told.is_err() {
                    return;
                }
                client.send(saying("hello"));
            }
        });
        Self {
            app,
            held,
            most,
            answers,
        }
    }

    fn holds(&self, want: usize) {
        wait_until("requests are held", || {
            self.held.load(Ordering::SeqCst) == want
        });
    }
}

fn narrow(apps: &[SocketAddr], concurrency: u32) -> Vec<Route> {
    vec![Route {
        concurrency_per_instance: concurrency,
        ..route(1, "app.test", apps)
    }]
}

#[test]
fn an_instance_never_holds_more_than_it_may_on_however_many_workers() {
    const CONCURRENCY: u32 = 3;
    const CLIENTS: usize = 40;
    let counts: Vec<_> = (0..2)
        .map(|_| Arc::new((AtomicUsize::new(0), AtomicUsize::new(0))))
        .collect();
    let apps: Vec<_> = counts
        .iter()
        .map(|count| {
            let count = Arc::clone(count);
            App::new(move |_, mut client| {
                while client.message(true).is_some() {
                    let now = count.0.fetch_add(1, Ordering::SeqCst) + 1;
                    count.1.fetch_max(now, Ordering::SeqCst);
                    thread::yield_now();
                    count.0.fetch_sub(1, Ordering::SeqCst);
                    client.send(saying("hello"));
                }
            })
        })
        .collect();
    let mut world = World::with(4, |_| {});
    world
        .control
        .publish(narrow(&[apps[0].address, apps[1].address], CONCURRENCY));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = world.client();
            thread::spawn(move || {
                for _ in 0..50 {
                    assert_eq!(client.ask(GET).text(), "hello");
                }
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    for count in counts {
        let most = count.1.load(Ordering::SeqCst);
        assert!((1..=CONCURRENCY as usize).contains(&most), "{most}");
    }
}

#[test]
fn requests_go_to_the_emptier_instance() {
    let apps = [Held::new(), Held::new(), Held::new()];
    let mut world = World::new();
    world.control.publish(narrow(
        &[
            apps[0].app.address,
            apps[1].app.address,
            apps[2].app.address,
        ],
        10,
    ));
    let _clients: Vec<Client> = (0..9)
        .map(|_| {
            let mut client = world.client();
            client.send(GET);
            client
        })
        .collect();
    apps.iter().for_each(|app| app.holds(3));
}

#[test]
fn who_comes_first_is_served_first_and_who_leaves_is_not_served() {
    let app = Held::new();
    let mut world = World::new();
    world.control.publish(narrow(&[app.app.address], 1));
    let mut first = world.client();
    first.send(GET);
    app.holds(1);
    let mut leaving = world.client();
    leaving.send(GET);
    drop(leaving);
    wait_until("it is known to have left", || {
        std::fs::read_to_string(&world.access_log)
            .unwrap()
            .contains("client_left")
    });
    let mut second = world.client();
    second.send(GET);
    app.answers.send(()).unwrap();
    assert_eq!(first.response().text(), "hello");
    app.answers.send(()).unwrap();
    assert_eq!(second.response().text(), "hello");
    assert_eq!(app.most.load(Ordering::SeqCst), 1);
    app.holds(0);
}

#[test]
fn a_full_queue_refuses_and_a_long_wait_is_given_up() {
    let app = Held::new();
    let mut world = World::with(1, |bounds| {
        bounds.queue_requests = 2;
        bounds.queue_time = Duration::from_millis(500);
    });
    world.control.publish(narrow(&[app.app.address], 1));
    let mut holder = world.client();
    holder.send(GET);
    app.holds(1);
    let mut waiting: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = world.client();
            client.send(GET);
            client
        })
        .collect();
    let mut causes: Vec<String> = waiting
        .iter_mut()
        .map(|client| client.response().cause())
        .collect();
    causes.sort();
    assert_eq!(
        causes,
        ["no_capacity_in_time", "no_capacity_in_time", "queue_full"]
    );
    // Whoever was refused may ask again on the same connection.
    app.answers.send(()).unwrap();
    app.answers.send(()).unwrap();
    assert_eq!(waiting[0].ask(GET).text(), "hello");
}

#[test]
fn requests_wait_for_the_first_instance_and_a_new_table_wakes_them() {
    let app = App::saying("hello");
    let mut world = World::with(3, |_| {});
    world.serve(&[]);
    let mut clients: Vec<Client> = (0..30)
        .map(|number| {
            let mut client = world.client();
            client.send(if number % 2 == 0 {
                GET
            } else {
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi"
            });
            client
        })
        .collect();
    world.serve(&[app.address]);
    for client in &mut clients {
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn an_instance_that_died_and_its_replacement_look_like_a_wait() {
    let first = App::saying("first");
    let mut world = World::serving(first.address);
    let mut client = world.client();
    assert_eq!(client.ask(GET).text(), "first");
    // Its address refuses from now on, though the table still has it.
    world.serve(&[refusing()]);
    client.send(GET);
    let second = App::saying("second");
    world.serve(&[second.address]);
    assert_eq!(client.response().text(), "second");
}

#[test]
fn waiting_requests_hear_that_their_service_has_been_paused_or_removed() {
    let mut world = World::new();
    world
        .control
        .publish(vec![route(1, "app.test", &[]), route(2, "other.test", &[])]);
    let (mut one, mut other) = (world.client(), world.client());
    one.send(GET);
    other.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    let paused = Route {
        state: ekiden_model::route::RouteState::Paused,
        ..route(1, "app.test", &[])
    };
    let sent = world
        .control
        .send_change(vec![paused], vec![route(2, "x", &[]).service]);
    world.control.served(sent);
    assert_eq!(one.response().cause(), "paused");
    assert_eq!(other.response().cause(), "no_such_host");
}

#[test]
fn a_waiting_request_follows_its_host_to_another_service() {
    let app = App::saying("moved");
    let mut world = World::new();
    world.control.publish(vec![route(1, "app.test", &[])]);
    let mut client = world.client();
    client.send(GET);
    let emptied = Route {
        hosts: Vec::new(),
        ..route(1, "app.test", &[])
    };
    let sent = world
        .control
        .send_change(vec![emptied, route(2, "app.test", &[app.address])], vec![]);
    world.control.served(sent);
    assert_eq!(client.response().text(), "moved");
}

#[test]
fn control_is_told_of_requests_that_are_held_and_that_wait() {
    let held = Held::new();
    let mut world = World::with(2, |_| ());
    world.control.publish(narrow(&[held.app.address], 1));
    let mut clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    clients[0].send(GET);
    world.control.wait_for_demand(1, 0);
    clients[1].send(GET);
    clients[2].send(GET);
    world.control.wait_for_demand(1, 2);
    // A control that comes back is told everything.
    world.control.restart();
    world.control.publish(narrow(&[held.app.address], 1));
    world.control.wait_for_demand(1, 2);
    drop(clients.pop());
    for client in &mut clients {
        held.answers.send(()).unwrap();
        client.response();
    }
    world.control.wait_for_demand(0, 0);
    // A request that was over before anybody looked is told of all the same.
    held.answers.send(()).unwrap();
    world.client().ask(GET);
    world.control.wait_for_demand(1, 0);
    world.control.wait_for_demand(0, 0);
}

#[test]
fn a_request_for_a_service_of_no_instance_is_told_of_and_served_by_the_first() {
    let app = App::new(|_, mut client| {
        while client.message(true).is_some() {
            client.send(saying("awake"));
        }
    });
    let mut world = World::with(2, |_| ());
    world.serve(&[]);
    let mut client = world.client();
    client.send(GET);
    world.control.wait_for_demand(0, 1);
    world.serve(&[app.address]);
    assert_eq!(client.response().text(), "awake");
}

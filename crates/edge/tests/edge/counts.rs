//! What control is told of requests that are over.

use std::collections::BTreeMap;

use ekiden_model::{
    id::ServiceId,
    request_counts::RequestCounts,
    route::{ROUTE_PROTOCOL_COUNTS, RouteState},
};

use crate::support::{App, GET, World, route, wait_until};

const SERVICE: ServiceId = ServiceId::from_bytes([1; 16]);

fn causes<const N: usize>(causes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    causes.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn requests_are_counted_by_status_and_cause_without_an_access_log_and_across_tables() {
    let app = App::saying("here");
    let mut world = World::configured(|config, _| config.access_log = None);
    world.serve(&[app.address]);
    let mut client = world.client();
    assert_eq!(client.ask(GET).status(), 200);
    assert_eq!(client.ask(GET).status(), 200);
    let elsewhere = "GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n";
    assert_eq!(client.ask(elsewhere).status(), 404);
    assert_eq!(world.client().ask("nonsense\r\n\r\n").status(), 400);
    // A table later the service still has its counters.
    let mut paused = route(1, "app.test", &[]);
    paused.state = RouteState::Paused;
    world.control.publish(vec![paused]);
    assert_eq!(client.ask(GET).status(), 503);
    let own = RequestCounts {
        answered: [0, 2, 0, 0, 1],
        unanswered: 0,
        causes: causes([("paused", 1)]),
    };
    assert_eq!(world.control.counted(Some(SERVICE), 3), own);
    let nobodys = RequestCounts {
        answered: [0, 0, 0, 2, 0],
        unanswered: 0,
        causes: causes([("bad_request", 1), ("no_such_host", 1)]),
    };
    assert_eq!(world.control.counted(None, 2), nobodys);
}

#[test]
fn a_request_without_an_answer_is_counted_as_such() {
    let app = App::new(|_, mut client| {
        client.message(true);
        client.rest();
    });
    let mut world = World::serving(app.address);
    let mut client = world.client();
    client.send(GET);
    wait_until("the request is forwarded", || app.connections() == 1);
    drop(client);
    let counts = RequestCounts {
        answered: [0; 5],
        unanswered: 1,
        causes: causes([("client_left", 1)]),
    };
    assert_eq!(world.control.counted(Some(SERVICE), 1), counts);
}

#[test]
fn what_was_counted_without_control_and_of_a_service_that_left_is_told_once() {
    let app = App::saying("here");
    let mut world = World::serving(app.address);
    world.client().ask(GET);
    assert_eq!(world.control.counted(Some(SERVICE), 1).answered[1], 1);
    let mut client = world.client();
    world.control.restart_after(|| {
        assert_eq!(client.ask(GET).status(), 200);
    });
    world.control.publish(vec![]);
    assert_eq!(world.control.counted(Some(SERVICE), 2).answered[1], 2);
    // At its end an edge tells the rest.
    assert_eq!(client.ask(GET).status(), 404);
    drop(client);
    world.stopped();
    assert_eq!(world.control.counted(None, 1).causes["no_such_host"], 1);
    assert_eq!(world.control.counted(Some(SERVICE), 2).requests(), 2);
}

#[test]
fn a_control_that_knows_no_counts_is_told_none() {
    let app = App::saying("here");
    let mut world = World::new();
    world.control.version = ROUTE_PROTOCOL_COUNTS - 1;
    world.control.restart();
    world.serve(&[app.address]);
    assert_eq!(world.client().ask(GET).status(), 200);
    world.stopped();
    assert!(!world.control.was_told_counts_until_the_end());
}

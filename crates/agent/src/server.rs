//! The agent's socket: serving the engine protocol.
//!
//! Who may speak is decided by the kernel's word on the peer ([`unix(7)`] `SO_PEERCRED`): root, and
//! the users the configuration names. Work on the image store, whose requests name paths, is root's
//! alone. A call goes on when its connection is lost: the caller asks again, and every call may be
//! asked twice.
//!
//! [`unix(7)`]: https://man7.org/linux/man-pages/man7/unix.7.html

use std::{future::Future, io, sync::Arc, time::Duration};

use ekiden_engine::{
    EngineError,
    frame::{read_frame, write_frame},
    remote::{
        Answer, CALLS_MAX, CHANGES_SINCE, Call, Event, Hello, ImageCommand, Request, USAGE_SINCE,
    },
};
use ekiden_model::instance::InstanceObservation;
use tokio::{
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    config::AgentConfig,
    host::{AgentError, Host},
    images::Images,
};

/// Connections at one time: control, and a few commands of the administrator.
const CONNECTIONS_MAX: usize = 64;

/// Events waiting for a connection's socket.
const QUEUE_MAX: usize = 64;

/// How long a peer may take to say hello, and to take an event.
const PEER_MAX: Duration = Duration::from_secs(10);

/// The pause after a failed `accept`, which is out of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs the agent on a socket that somebody else has bound, until `stop` completes. Instances live on
/// then, and the next agent with this configuration finds them.
///
/// # Errors
/// When the host lacks something without which no instance could be started.
pub async fn run<I: Images>(
    config: AgentConfig,
    images: I,
    listener: UnixListener,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let host = Host::open(config, images).await?;
    info!("agent serves");
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            // Cancel-safe: the end stays an end, and a connection stays in the backlog.
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(Box::pin(greet(host.clone(), stream)));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
    host.close();
    info!("agent stopped, its instances go on");
    Ok(())
}

/// Checks who it is and which version is spoken, then serves.
async fn greet<I: Images>(host: Arc<Host<I>>, stream: UnixStream) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => return warn!(%error, "cannot tell who connects"),
    };
    if peer != 0 && !host.config.allowed_uids.contains(&peer) {
        return warn!(
            peer,
            "refused a connection: only root and the configured users may speak"
        );
    }
    let (mut reader, mut writer) = stream.into_split();
    // The client speaks first, so that a client of an older release is answered in its version.
    let greeting = async {
        let hello = read_frame::<Hello>(&mut reader).await?;
        if let Some(hello) = &hello {
            write_frame(&mut writer, &Hello::answer(hello)).await?;
        }
        io::Result::Ok(hello)
    };
    let protocol = match timeout(PEER_MAX, greeting).await {
        Ok(Ok(Some(hello))) => {
            debug!(peer, release = hello.release, "a client said hello");
            hello.protocol
        }
        _ => return debug!(peer, "a client left without a hello"),
    };
    let (events, queue) = mpsc::channel(QUEUE_MAX);
    let writing = tokio::spawn(write_events(writer, queue));
    if let Err(error) = serve(&host, peer, protocol, reader, events).await {
        debug!(peer, %error, "a connection broke");
    }
    // It ends with the last call's answer, or with the socket.
    let _ = writing.await;
}

/// Reads calls until the client closes, then waits for those that are still being worked on.
async fn serve<I: Images>(
    host: &Arc<Host<I>>,
    peer: u32,
    protocol: u32,
    mut reader: OwnedReadHalf,
    events: mpsc::Sender<Event>,
) -> io::Result<()> {
    let mut calls = JoinSet::new();
    let mut subscription = JoinSet::new();
    let ended = loop {
        let call: Call = match read_frame(&mut reader).await {
            Ok(Some(call)) => call,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        while calls.try_join_next().is_some() {}
        if let Request::Subscribe = call.request {
            if subscription.is_empty() {
                subscription.spawn(publish(host.clone(), protocol, events.clone()));
                if protocol >= USAGE_SINCE {
                    subscription.spawn(publish_usage(host.clone(), events.clone()));
                }
            }
        } else if calls.len() >= CALLS_MAX {
            let message = "too many calls at one time".to_owned();
            let result = Err(EngineError::Unavailable { message });
            let _ = events
                .send(Event::Answered {
                    id: call.id,
                    result,
                })
                .await;
        } else {
            calls.spawn(Box::pin(answer(host.clone(), peer, call, events.clone())));
        }
    };
    drop(events);
    subscription.shutdown().await;
    while calls.join_next().await.is_some() {}
    ended
}

async fn answer<I: Images>(host: Arc<Host<I>>, peer: u32, call: Call, events: mpsc::Sender<Event>) {
    let id = call.id;
    let result = match call.request {
        Request::PrepareImage { reference } => host
            .images
            .prepare(&reference)
            .await
            .map(|image| Answer::Image { image }),
        Request::ResolveImage { reference } => host
            .images
            .resolve(&reference)
            .await
            .map(|image| Answer::Resolved { image }),
        Request::MakeImage { recipe } => {
            let events = events.clone();
            // A line that does not fit is a line less.
            let progress = move |text| drop(events.try_send(Event::Progress { id, text }));
            let made = host.make_image(recipe, progress).await;
            made.map(|made| Answer::Made { made })
        }
        Request::Start { spec } => host.start(*spec).await.map(|()| Answer::Done),
        Request::Stop {
            instance,
            reason,
            grace_ms,
        } => host
            .stop(instance, reason, grace_ms)
            .await
            .map(|()| Answer::Done),
        Request::SetActivity { instance, activity } => host
            .set_activity(instance, activity)
            .await
            .map(|()| Answer::Done),
        Request::Remove { instance } => host.remove(instance).await.map(|()| Answer::Done),
        Request::Logs { query } => host.logs(query).await.map(|page| Answer::Logs { page }),
        Request::CollectLogs { query } => {
            let collected = host.collect_logs(query).await;
            collected.map(|lines| Answer::Collected { lines })
        }
        Request::ForgetService { service } => {
            host.forget_service(service).await.map(|()| Answer::Done)
        }
        Request::RetainImages { images } => {
            let host = host.clone();
            let retained = tokio::task::spawn_blocking(move || host.images.retain(&images)).await;
            let failed = |error: tokio::task::JoinError| EngineError::Host {
                message: error.to_string(),
            };
            retained
                .map_err(failed)
                .and_then(|retained| retained)
                .map(|()| Answer::Done)
        }
        Request::Images { command } => work_on_images(&host, peer, id, command, &events).await,
        // Taken by the reader of calls.
        Request::Subscribe => Ok(Answer::Done),
    };
    // A client that has left asks again.
    let _ = events.send(Event::Answered { id, result }).await;
}

async fn work_on_images<I: Images>(
    host: &Host<I>,
    peer: u32,
    id: u64,
    command: ImageCommand,
    events: &mpsc::Sender<Event>,
) -> Result<Answer, EngineError> {
    if peer != 0 {
        let message = "only root may work on the image store: run the command with sudo".to_owned();
        return Err(EngineError::Invalid { message });
    }
    let events = events.clone();
    // A line that does not fit is a line less.
    let progress = move |text| drop(events.try_send(Event::Progress { id, text }));
    host.images.command(command, progress).await
}

/// Sends all instances, and then what changes; changes that come while some are on their way make one.
/// A client of an older release is sent all at each change.
async fn publish<I: Images>(host: Arc<Host<I>>, protocol: u32, events: mpsc::Sender<Event>) {
    let mut changes = host.changes();
    let mut told: Option<Vec<InstanceObservation>> = None;
    loop {
        changes.borrow_and_update();
        let instances = host.observe();
        let event = match &told {
            Some(told) if protocol >= CHANGES_SINCE => difference(told, &instances),
            _ => Event::Observed {
                instances: instances.clone(),
            },
        };
        told = Some(instances);
        if events.send(event).await.is_err() {
            return;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Sends what instances use, each time that it is read; a client that is slow misses readings.
async fn publish_usage<I: Images>(host: Arc<Host<I>>, events: mpsc::Sender<Event>) {
    let mut readings = host.usage();
    while readings.changed().await.is_ok() {
        let instances = readings.borrow_and_update().to_vec();
        if events.send(Event::Used { instances }).await.is_err() {
            return;
        }
    }
}

/// From one list to the next, both in the order of ids.
fn difference(before: &[InstanceObservation], now: &[InstanceObservation]) -> Event {
    let find = |list: &[InstanceObservation], id| list.binary_search_by_key(&id, |one| one.id);
    let is_known =
        |one: &&InstanceObservation| find(before, one.id).is_ok_and(|index| before[index] == **one);
    let changed = now.iter().filter(|one| !is_known(one));
    let gone = before.iter().filter(|one| find(now, one.id).is_err());
    Event::Changed {
        instances: changed.cloned().collect(),
        removed: gone.map(|one| one.id).collect(),
    }
}

async fn write_events(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Event>) {
    while let Some(event) = queue.recv().await {
        match timeout(PEER_MAX, write_frame(&mut writer, &event)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use ekiden_engine::Observation;
    use ekiden_model::{
        id::{InstanceId, ServiceId},
        instance::{Activity, InstanceState, RevisionNumber},
        time::Timestamp,
    };

    use super::*;

    fn instance(id: u8, activity: Activity) -> InstanceObservation {
        InstanceObservation {
            id: InstanceId::from_bytes([id; 16]),
            service: ServiceId::from_bytes([1; 16]),
            revision: RevisionNumber(1),
            created_at: Timestamp::from_millis(0),
            state: InstanceState::Creating,
            activity,
            builds: false,
        }
    }

    #[test]
    fn who_is_told_the_difference_knows_the_whole() {
        let active = |id| instance(id, Activity::Active);
        let before = vec![active(1), active(3), active(5)];
        let now = vec![
            active(1),
            active(2),
            instance(3, Activity::Frozen),
            active(6),
        ];
        let Event::Changed { instances, removed } = difference(&before, &now) else {
            panic!("not a change");
        };
        assert_eq!((instances.len(), removed.len()), (3, 1));
        let mut observation = Observation {
            current: true,
            instances: before,
        };
        observation.change(instances, &removed);
        assert_eq!(observation.instances, now);
    }
}

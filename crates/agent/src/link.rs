//! The agent's end of a connection to a shim.

use std::{
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as BlockingStream,
    },
    path::Path,
    process::Stdio,
    time::Duration,
};

use ekiden_engine::frame::{encode_frame, read_frame, write_frame};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::shim::protocol::{FromShim, Hello, StartOrder, ToShim};

/// A shim is a local process with one thing to do; when it takes longer than this to take a frame it
/// is stuck.
const SEND_MAX: Duration = Duration::from_secs(5);

/// Frames read ahead.
const QUEUE_MAX: usize = 16;

/// The shim has closed its connection, which it does by ending.
#[derive(Debug)]
pub(crate) struct Gone;

/// A shim, being spoken to.
pub(crate) struct ShimLink {
    frames: mpsc::Receiver<Result<FromShim, Gone>>,
    writer: OwnedWriteHalf,
    /// Present when this agent started it.
    process: Option<Child>,
}

/// A shim that has been started and knows nothing yet.
pub(crate) struct NewShim {
    stream: BlockingStream,
    process: Child,
}

impl NewShim {
    /// Starts `<program> shim`. Its end of the socket is its standard input.
    pub(crate) fn spawn(program: &Path) -> io::Result<Self> {
        let (stream, theirs) = BlockingStream::pair()?;
        let process = Command::new(program)
            .arg("shim")
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { stream, process })
    }

    /// Tells it what to do.
    pub(crate) async fn order(self, order: StartOrder, network: OwnedFd) -> io::Result<ShimLink> {
        let Self { stream, process } = self;
        let stream = tokio::task::spawn_blocking(move || {
            stream.set_write_timeout(Some(SEND_MAX))?;
            send_order(&stream, &ToShim::Start(Box::new(order)), network)?;
            stream.set_nonblocking(true)?;
            Ok::<_, io::Error>(stream)
        })
        .await
        .map_err(io::Error::other)??;
        ShimLink::greet(UnixStream::from_std(stream)?, Some(process)).await
    }
}

impl ShimLink {
    /// Finds a shim again by its socket.
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        Self::greet(UnixStream::connect(socket).await?, None).await
    }

    /// What the shim says next, and last that it is gone; `None` when nobody listens any more, as
    /// when the agent's runtime ends: that says nothing of the shim. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<FromShim, Gone>> {
        self.frames.recv().await
    }

    /// Asks for something; the answer comes through [`Self::next`].
    pub(crate) async fn ask(&mut self, request: &ToShim) -> io::Result<()> {
        timeout(SEND_MAX, write_frame(&mut self.writer, request))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Ends the shim itself, and reaps it if it is this agent's child.
    pub(crate) async fn end(self) {
        if let Some(mut process) = self.process {
            // Its last word has been said, or it is to have none.
            let _ = process.start_kill();
            let _ = process.wait().await;
        }
    }

    /// Waits until the shim has gone by itself after its last word, and reaps it.
    pub(crate) async fn reap(self) {
        if let Some(mut process) = self.process
            && timeout(SEND_MAX, process.wait()).await.is_err()
        {
            let _ = process.start_kill();
            let _ = process.wait().await;
        }
    }

    async fn greet(stream: UnixStream, process: Option<Child>) -> io::Result<Self> {
        let (reader, writer) = stream.into_split();
        let (said, frames) = mpsc::channel(QUEUE_MAX);
        let mut link = Self {
            frames,
            writer,
            process,
        };
        let greeted = timeout(SEND_MAX, write_frame(&mut link.writer, &Hello::ours()))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        match greeted {
            // A program that is over at once takes its shim along before we are here. What the shim
            // has said of it is still to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            greeted => greeted?,
        }
        // Ends with the connection, or when the link is dropped and the next frame comes.
        tokio::spawn(read_frames(reader, said));
        Ok(link)
    }
}

/// Reading is not cancel-safe, so it has a task of its own.
async fn read_frames(mut reader: OwnedReadHalf, said: mpsc::Sender<Result<FromShim, Gone>>) {
    let hello: io::Result<Option<Hello>> = read_frame(&mut reader).await;
    if let Ok(Some(hello)) = hello {
        tracing::debug!(
            protocol = hello.protocol,
            release = hello.release,
            "shim said hello"
        );
        loop {
            tokio::select! {
                () = said.closed() => return, // the connection is not wanted any more
                frame = read_frame(&mut reader) => match frame {
                    Ok(Some(frame)) => if said.send(Ok(frame)).await.is_err() { return },
                    Ok(None) | Err(_) => break,
                },
            }
        }
    }
    // Whoever does not listen any more does not care.
    let _ = said.send(Err(Gone)).await;
}

/// One frame, with the descriptor on its first bytes.
fn send_order(mut stream: &BlockingStream, order: &ToShim, network: OwnedFd) -> io::Result<()> {
    let frame = Zeroizing::new(encode_frame(order)?);
    let (length, body) = frame.split_at(4);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [network.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(
        stream,
        &[IoSlice::new(length)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    stream.write_all(body)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_shim_that_has_ended_is_told_from_an_agent_that_ends() {
        let (ours, theirs) = BlockingStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let agent = runtime();
        let mut link = agent
            .block_on(async { ShimLink::greet(UnixStream::from_std(ours)?, None).await })
            .unwrap();
        // Reading ends with the runtime, and the shim goes on.
        drop(agent);
        assert!(runtime().block_on(link.next()).is_none());
        drop(theirs);

        let (ours, theirs) = BlockingStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let said = runtime().block_on(async {
            let mut link = ShimLink::greet(UnixStream::from_std(ours)?, None).await?;
            drop(theirs);
            io::Result::Ok(link.next().await)
        });
        assert!(matches!(said, Ok(Some(Err(Gone)))));
    }
}

//! The shim's end of a connection: frames without a runtime.

use std::{
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use ekiden_engine::frame::encode_frame;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use serde::Serialize;
use zeroize::Zeroizing;

use super::protocol::{FromShim, Hello, ORDER_BYTES_MAX, StartOrder, ToShim};

/// The longest request after the first; they are a few words.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A connection that never makes the shim wait: what does not fit its buffer ends it.
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    greeted: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut connection = Self {
            stream,
            received: Vec::new(),
            greeted: false,
        };
        match connection.send_frame(&Hello::ours()) {
            true => Ok(connection),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Says something; false when the other side is gone or does not read.
    pub(super) fn send(&mut self, message: &FromShim) -> bool {
        self.send_frame(message)
    }

    fn send_frame(&mut self, message: &impl Serialize) -> bool {
        encode_frame(message).is_ok_and(|frame| self.stream.write_all(&frame).is_ok())
    }

    /// The requests that have arrived; `None` when the other side is gone or makes no sense.
    pub(super) fn receive(&mut self) -> Option<Vec<serde_json::Result<ToShim>>> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.received.len() > 2 * REQUEST_BYTES_MAX {
                break; // the rest after these
            }
        }
        let mut requests = Vec::new();
        while let Some((length, rest)) = self.received.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > REQUEST_BYTES_MAX {
                return None;
            }
            let Some(body) = rest.get(..length) else {
                break;
            };
            if self.greeted {
                requests.push(serde_json::from_slice(body));
            } else {
                // Any version: what this shim does not know it says when it is asked.
                serde_json::from_slice::<Hello>(body).ok()?;
                self.greeted = true;
            }
            self.received.drain(..4 + length);
        }
        Some(requests)
    }
}

/// Waits for the first frame: the order, with the network namespace's descriptor.
///
/// # Errors
/// When the agent is gone, or sends something else.
pub(super) fn receive_order(stream: &UnixStream) -> io::Result<(StartOrder, OwnedFd)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut length = [0; 4];
    let network = receive_with_descriptor(stream, &mut length)?
        .ok_or_else(|| invalid("no descriptor came with the order"))?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ORDER_BYTES_MAX {
        return Err(invalid("the order is too long"));
    }
    // Wiped when it has been read: secrets are in it, and a shim lives long.
    let mut body = Zeroizing::new(vec![0; length]);
    (&*stream).read_exact(&mut body)?;
    match serde_json::from_slice(&body)? {
        ToShim::Start(order) => Ok((*order, network)),
        _ => Err(invalid("the first frame is not an order")),
    }
}

fn receive_with_descriptor(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )?;
    if received.bytes != bytes.len() || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let messages = control.drain();
    Ok(messages
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        })
        .next())
}

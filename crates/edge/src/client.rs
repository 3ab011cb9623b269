//! A client as an exchange sees it, whichever protocol it speaks.
//!
//! The exchange knows requests and responses by their HTTP/1 heads: a client of HTTP/2 translates
//! at its edge. So one parser decides what is well-formed, and one exchange decides what is safe.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll},
};

use crate::{
    body::{Sink, Source},
    client_address::Origin,
    dispatch::Request,
    forward::ClientSide,
    head::ResponseHead,
    scratch::Scratch,
    watch::Watch,
    worker::Worker,
};

/// Whoever sent a request and waits for its response.
pub(crate) trait Client: Source + Sink {
    fn worker(&self) -> &Rc<Worker>;

    /// The deadline of the task that serves this client.
    fn watch(&self) -> &Watch;

    /// Who is at the other end.
    fn origin(&self) -> &Origin;

    /// Ready when the client has left while its request is being worked on.
    fn poll_left(
        &mut self,
        scratch: &mut Scratch,
        request: &Request,
        cx: &mut Context<'_>,
    ) -> Poll<()>;

    /// Passes an informational response on, or writes it to `out` to be sent first.
    ///
    /// # Errors
    /// The client has left.
    fn inform(
        &mut self,
        head: &ResponseHead<'_, '_>,
        request: &Request,
        out: &mut Vec<u8>,
    ) -> io::Result<()>;

    /// Begins the response, or writes its head to `out` to be sent first. `read` says whether the
    /// request's body has been read to its end.
    ///
    /// # Errors
    /// The client has left.
    fn respond(
        &mut self,
        head: &ResponseHead<'_, '_>,
        request: &Request,
        read: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<ClientSide>;

    /// Whether what [`Client::respond`] was given cannot be taken back.
    fn has_responded(&self) -> bool;
}

//! What clients are told of who we are: certificates by name, and how a handshake begins.
//!
//! There is one [`Tls`] per edge. What it presents is one immutable [`Snapshot`] that all workers
//! read without a lock and that the control thread replaces whole: a handshake uses the snapshot it
//! found, and a connection that is open is not touched. Which certificate a client gets:
//!
//! 1. one that asks for `acme-tls/1` and nothing else is a certificate authority that looks for a
//!    challenge (RFC 8737), and gets that or a refusal;
//! 2. a name: its own certificate, or that of the wildcard one label above it; without either the
//!    handshake is refused with `unrecognized_name` (RFC 6066, section 3) and counted: a
//!    certificate for another name would only teach people to click warnings away;
//! 3. no name, as with an address in the URL: the default certificate.
//!
//! A name that has no certificate but matches a pattern of [`Snapshot::on_demand`] is asked for: the
//! handshake waits for it, at most [`ON_DEMAND_WAIT`].
//!
//! TLS 1.2 and 1.3. Sessions are resumed by tickets, whose keys are in memory only and change by
//! themselves. Early data is off: it can be replayed (RFC 8446, section 8).

mod saved;
mod snapshot;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

pub(crate) use self::{
    saved::SavedCertificates,
    snapshot::{Certificates, Change, Snapshot},
};

/// How long a handshake waits for a certificate that was asked for because of it.
pub(crate) const ON_DEMAND_WAIT: Duration = Duration::from_secs(15);

/// How long until a name is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Names that were asked for lately; more are not asked for.
const ASKED_MAX: usize = 256;

/// Names on their way to control.
const WANTED_MAX: usize = 64;

/// Tickets given with one handshake of TLS 1.3; one is enough for a client that comes back.
const TICKETS: usize = 1;

/// The protocol of a certificate authority that looks for a challenge (RFC 8737, section 6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The fatal alert `unrecognized_name` as a record (RFC 8446, sections 5.1 and 6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// All about TLS that the workers share.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    presented: Arc<Presented>,
    /// Told when the snapshot has changed.
    changed: watch::Sender<()>,
    /// When names were asked for.
    asked: Mutex<HashMap<String, Instant>>,
    wanted: mpsc::Sender<String>,
    refused: AtomicU64,
}

/// The snapshot, where handshakes find it.
#[derive(Debug)]
struct Presented(ArcSwap<Snapshot>);

/// What the first message of a client leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Go on.
    Serve,
    /// It is for a challenge: end after the handshake.
    Challenge,
    /// Nothing can be presented for the name.
    Refuse,
    /// Nothing yet, but a certificate may be had.
    Ask,
}

impl Tls {
    /// Presents nothing yet. Names that certificates are wanted for come out of the receiver.
    ///
    /// # Errors
    /// The random numbers for the ticket keys cannot be had.
    pub(crate) fn new() -> io::Result<(Arc<Self>, mpsc::Receiver<String>)> {
        let provider = provider();
        let presented = Arc::new(Presented(ArcSwap::default()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&presented) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME_TLS.to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
        config.send_tls13_tickets = TICKETS;
        let (wanted, wanted_names) = mpsc::channel(WANTED_MAX);
        let tls = Self {
            config: Arc::new(config),
            presented,
            changed: watch::Sender::new(()),
            asked: Mutex::default(),
            wanted,
            refused: AtomicU64::new(0),
        };
        Ok((Arc::new(tls), wanted_names))
    }

    /// The configuration of every connection; the same for the life of the process.
    #[cfg_attr(not(test), expect(dead_code, reason = "accept is the way in"))]
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Presents this from the next handshake on.
    pub(crate) fn present(&self, snapshot: Snapshot) {
        self.presented.0.store(Arc::new(snapshot));
        self.changed.send_replace(());
    }

    /// The answer for `http://<host>/.well-known/acme-challenge/<token>`; `host` is as in the
    /// `Host` field.
    pub(crate) fn http01(&self, host: &[u8], token: &str) -> Option<Arc<str>> {
        self.presented.0.load().http01(host, token)
    }

    /// Handshakes that were refused because nothing could be presented for their name.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What to do with a client, by its first message.
    pub(crate) fn choose(&self, hello: &ClientHello<'_>) -> Choice {
        let snapshot = self.presented.0.load();
        if is_acme(hello) {
            let known = hello.server_name().and_then(|name| snapshot.alpn01(name));
            return known.map_or(Choice::Refuse, |_| Choice::Challenge);
        }
        match hello.server_name() {
            Some(name) if snapshot.find(name).is_some() => Choice::Serve,
            Some(name) if snapshot.on_demand(name) => Choice::Ask,
            None if snapshot.default.is_some() => Choice::Serve,
            Some(_) | None => Choice::Refuse,
        }
    }

    /// The handshake of a new connection; `None` if it was one for a challenge, or was refused.
    /// Whoever calls it bounds its time, and leaves [`ON_DEMAND_WAIT`] for a certificate.
    ///
    /// # Errors
    /// The connection failed, or the client broke the protocol or cannot do what is asked.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<Option<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let mut choice = self.choose(&start.client_hello());
        if choice == Choice::Ask {
            let name = start.client_hello().server_name().map(str::to_lowercase);
            choice = self.ask(name.unwrap_or_default()).await;
        }
        match choice {
            Choice::Refuse | Choice::Ask => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    name = start.client_hello().server_name(),
                    refused = self.refused(),
                    "no certificate for this name"
                );
                start.io.write_all(&UNRECOGNIZED_NAME).await?;
                start.io.shutdown().await?;
                Ok(None)
            }
            Choice::Serve => Ok(Some(start.into_stream(Arc::clone(&self.config)).await?)),
            Choice::Challenge => {
                let mut stream = start.into_stream(Arc::clone(&self.config)).await?;
                stream.shutdown().await?;
                Ok(None)
            }
        }
    }

    /// Asks for a certificate and waits for it.
    async fn ask(&self, name: String) -> Choice {
        let mut changed = self.changed.subscribe();
        if !self.may_ask(&name) {
            return Choice::Refuse;
        }
        let arrived = async {
            while self.presented.0.load().find(&name).is_none() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        match timeout(ON_DEMAND_WAIT, arrived).await {
            Ok(()) => Choice::Serve,
            Err(_) => Choice::Refuse,
        }
    }

    /// Sends a name to control, unless it is on its way; false if there are too many.
    fn may_ask(&self, name: &str) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, at| at.elapsed() < ASK_AGAIN);
        if asked.contains_key(name) {
            return true;
        }
        let room = asked.len() < ASKED_MAX && self.wanted.try_send(name.to_owned()).is_ok();
        if room {
            asked.insert(name.to_owned(), Instant::now());
        }
        room
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.0.load();
        match hello.server_name() {
            name if is_acme(&hello) => snapshot.alpn01(name?),
            Some(name) => snapshot.find(name),
            None => snapshot.default.clone(),
        }
    }
}

/// Whether a client is a certificate authority that looks for a challenge: it names that protocol
/// and no other (RFC 8737, section 3).
fn is_acme(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| {
        protocols.next() == Some(ACME_TLS) && protocols.next().is_none()
    })
}

/// Where the cryptography comes from.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;

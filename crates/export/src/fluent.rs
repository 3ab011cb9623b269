//! The Forward protocol of Fluentd and Fluent Bit, version 1: PackedForward with acknowledgement.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rmp::encode;
use tokio::time::timeout;

use crate::{
    compress,
    connection::{Connection, Connector},
    drain::{SendError, Sent},
    json::Record,
    limits::{ANSWER_BYTES_MAX, Limits},
    line::Line,
    msgpack::{self, NoValue, Value},
    secrets::Secrets,
    target::{Compression, ConfigError, Endpoint, FluentTarget},
};

/// Bytes of the id of a chunk, and of a salt.
const RANDOM_BYTES: usize = 16;

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// The type of the extension that is a time in seconds and nanoseconds.
const EVENT_TIME: i8 = 0;

/// Bytes of a tag, of a name and of a key.
const NAME_BYTES_MAX: usize = 255;

/// Sends chunks.
pub(crate) struct Fluent {
    connector: Connector,
    tag: String,
    compression: Compression,
    hostname: String,
    credentials: Option<Credentials>,
    /// Taken while it is in use, so that a send that is dropped leaves no half of a chunk behind.
    connection: Option<Reader>,
    limits: Limits,
}

struct Credentials {
    shared_key: String,
    username: String,
    password: String,
}

/// A connection, and what was read from it and not yet understood.
struct Reader {
    connection: Connection,
    read: Vec<u8>,
}

impl Fluent {
    pub(crate) fn new(
        target: &FluentTarget,
        secrets: &Secrets,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        for (field, value) in [("tag", &target.tag), ("hostname", &target.hostname)] {
            let printable = value.bytes().all(|byte| byte.is_ascii_graphic());
            if value.is_empty() || value.len() > NAME_BYTES_MAX || !printable {
                let problem = format!(
                    "must be 1 to {NAME_BYTES_MAX} printable ASCII characters without spaces"
                );
                return Err(ConfigError::invalid(field, problem));
            }
        }
        let connector = Connector::new(
            &target.host,
            target.port,
            target.transport,
            target.ca_file.as_deref(),
            limits,
        )?;
        Ok(Self {
            connector,
            tag: target.tag.clone(),
            compression: target.compression,
            hostname: target.hostname.clone(),
            credentials: credentials(secrets)?,
            connection: None,
            limits,
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.connector.endpoint().clone()
    }

    pub(crate) async fn send(&mut self, lines: &[Line]) -> Result<Sent, SendError> {
        let mut entries = entries(lines);
        if self.compression == Compression::Gzip {
            entries = compress::gzip(entries).await?.into();
        }
        let chunk = BASE64_STANDARD.encode(random()?);
        let message: Bytes = self.message(&entries, lines.len(), &chunk).into();
        drop(entries);
        let delivered = timeout(self.limits.send, self.deliver(&message, &chunk));
        match delivered.await {
            Ok(Ok(reader)) => {
                self.connection = Some(reader);
                Ok(Sent {
                    bytes: message.len() as u64,
                    ..Sent::default()
                })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SendError::retry(format!(
                "the receiver did not acknowledge the lines within {} s",
                self.limits.send.as_secs_f32()
            ))),
        }
    }

    async fn deliver(&mut self, message: &[u8], chunk: &str) -> Result<Reader, SendError> {
        let mut open = self.connection.take();
        if let Some(reader) = &mut open
            && reader.connection.ended().await.is_some()
        {
            open = None;
        }
        let mut reader = match open {
            Some(reader) => reader,
            None => self.connect().await?,
        };
        reader.write(message).await?;
        let answer = reader.value().await?;
        match answer.get("ack").and_then(Value::bytes) {
            Some(ack) if ack == chunk.as_bytes() => Ok(reader),
            Some(_) => Err(SendError::retry(
                "the receiver acknowledges a chunk that was not sent",
            )),
            None if answer.after("HELO").is_some() => Err(SendError::retry(
                "the receiver wants a shared key; give the secret `shared_key`",
            )),
            None => Err(SendError::retry(
                "the receiver answers with something other than an acknowledgement",
            )),
        }
    }

    fn message(&self, entries: &[u8], lines: usize, chunk: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(entries.len() + self.tag.len() + 128);
        let gzip = self.compression == Compression::Gzip;
        array(&mut out, 3);
        text(&mut out, &self.tag);
        encode::write_bin(&mut out, entries).expect("memory takes what is written");
        map(&mut out, if gzip { 3 } else { 2 });
        text(&mut out, "chunk");
        text(&mut out, chunk);
        text(&mut out, "size");
        encode::write_uint(&mut out, lines as u64).expect("memory takes what is written");
        if gzip {
            text(&mut out, "compressed");
            text(&mut out, "gzip");
        }
        out
    }

    /// Makes a connection, and shows and checks the shared key if there is one.
    async fn connect(&self) -> Result<Reader, SendError> {
        let mut reader = Reader {
            connection: self.connector.connect().await?,
            read: Vec::new(),
        };
        let Some(credentials) = &self.credentials else {
            return Ok(reader);
        };
        let hello = reader.value().await?;
        let options = (hello.after("HELO").and_then(<[_]>::first))
            .ok_or_else(|| SendError::retry("the receiver does not begin with `HELO`"))?;
        let given = |name| options.get(name).and_then(Value::bytes).unwrap_or_default();
        let (nonce, auth) = (given("nonce").to_vec(), given("auth").to_vec());
        let salt = BASE64_STANDARD.encode(random()?);
        reader
            .write(&self.ping(credentials, &salt, &nonce, &auth))
            .await?;
        let answer = reader.value().await?;
        let pong = answer.after("PONG").unwrap_or_default();
        match pong {
            [Value::Bool(true), _, server, proof] => {
                let server = server.bytes().unwrap_or_default();
                let expected = hex_digest(&[
                    salt.as_bytes(),
                    server,
                    &nonce,
                    credentials.shared_key.as_bytes(),
                ]);
                let proof = proof.bytes().unwrap_or_default();
                verify_slices_are_equal(proof, expected.as_bytes())
                    .map_err(|_| SendError::retry("the receiver has another shared key"))?;
                Ok(reader)
            }
            [Value::Bool(false), reason, ..] => {
                let reason = String::from_utf8_lossy(reason.bytes().unwrap_or_default());
                Err(SendError::retry(format!(
                    "the receiver refuses us: {reason}"
                )))
            }
            _ => Err(SendError::retry(
                "the receiver answers with something other than `PONG`",
            )),
        }
    }

    fn ping(&self, credentials: &Credentials, salt: &str, nonce: &[u8], auth: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        array(&mut out, 6);
        text(&mut out, "PING");
        text(&mut out, &self.hostname);
        text(&mut out, salt);
        let proof = [
            salt.as_bytes(),
            self.hostname.as_bytes(),
            nonce,
            credentials.shared_key.as_bytes(),
        ];
        text(&mut out, &hex_digest(&proof));
        if auth.is_empty() {
            text(&mut out, "");
            text(&mut out, "");
        } else {
            let (username, password) = (&credentials.username, &credentials.password);
            let proof = [auth, username.as_bytes(), password.as_bytes()];
            text(&mut out, username);
            text(&mut out, &hex_digest(&proof));
        }
        out
    }

    pub(crate) async fn close(self) {
        if let Some(reader) = self.connection {
            reader.connection.close().await;
        }
    }
}

impl Reader {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let broken = |error| SendError::retry(format!("the connection broke: {error}"));
        self.connection.write(bytes).await.map_err(broken)?;
        self.connection.flush().await.map_err(broken)
    }

    /// The next value the receiver says, of at most [`ANSWER_BYTES_MAX`].
    async fn value(&mut self) -> Result<Value, SendError> {
        loop {
            match msgpack::first(&self.read) {
                Ok((value, length)) => {
                    self.read.drain(..length);
                    return Ok(value);
                }
                Err(NoValue::Short) if self.read.len() < ANSWER_BYTES_MAX => {}
                Err(_) => {
                    return Err(SendError::retry(
                        "the receiver answers with something other than the Forward protocol",
                    ));
                }
            }
            let mut buffer = [0; READ_BYTES];
            let read = self.connection.read(&mut buffer).await.map_err(|error| {
                SendError::retry(format!("the receiver closed the connection: {error}"))
            })?;
            self.read.extend_from_slice(&buffer[..read]);
        }
    }
}

fn credentials(secrets: &Secrets) -> Result<Option<Credentials>, ConfigError> {
    if secrets.username.is_some() != secrets.password.is_some() {
        let problem = "and `password` go together: give both or neither";
        return Err(ConfigError::invalid("username", problem));
    }
    match &secrets.shared_key {
        None if secrets.username.is_some() => Err(ConfigError::invalid(
            "shared_key",
            "is missing; receivers ask for `username` only together with it",
        )),
        None => Ok(None),
        Some(key) if key.is_empty() => Err(ConfigError::invalid("shared_key", "is empty")),
        Some(key) => Ok(Some(Credentials {
            shared_key: key.clone(),
            username: secrets.username.clone().unwrap_or_default(),
            password: secrets.password.clone().unwrap_or_default(),
        })),
    }
}

/// The lines as a stream of `[time, record]`.
fn entries(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        let record = Record::new(line);
        array(&mut out, 2);
        encode::write_ext_meta(&mut out, 8, EVENT_TIME).expect("memory takes what is written");
        let seconds = u32::try_from(line.time_ms / 1000).unwrap_or(u32::MAX);
        let nanos = (line.time_ms % 1000) as u32 * 1_000_000;
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&nanos.to_be_bytes());
        map(&mut out, 2 + record.texts.each().count() as u32);
        text(&mut out, "sequence");
        encode::write_uint(&mut out, line.sequence).expect("memory takes what is written");
        text(&mut out, "observed_timestamp");
        text(&mut out, &record.observed_timestamp);
        for (name, value) in record.texts.each() {
            text(&mut out, name);
            text(&mut out, value);
        }
    }
    out
}

fn array(out: &mut Vec<u8>, count: u32) {
    encode::write_array_len(out, count).expect("memory takes what is written");
}

fn map(out: &mut Vec<u8>, count: u32) {
    encode::write_map_len(out, count).expect("memory takes what is written");
}

fn text(out: &mut Vec<u8>, text: &str) {
    encode::write_str(out, text).expect("memory takes what is written");
}

fn random() -> Result<[u8; RANDOM_BYTES], SendError> {
    let mut bytes = [0; RANDOM_BYTES];
    rand::fill(&mut bytes).map_err(|_| SendError::retry("the host gives no random numbers"))?;
    Ok(bytes)
}

/// SHA-512 of several texts after each other, in hexadecimal.
fn hex_digest(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA512);
    for part in parts {
        context.update(part);
    }
    let digest = context.finish();
    (digest.as_ref().iter())
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

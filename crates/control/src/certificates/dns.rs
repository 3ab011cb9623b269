//! TXT records by dynamic updates (RFC 2136), signed with a shared key (TSIG, RFC 8945).

use std::{fmt, net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode, update_message},
    rr::{
        Name, RData, Record, RecordSet, RecordType, TSigner,
        rdata::{TXT, tsig::TsigAlgorithm},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zeroize::Zeroizing;

use crate::clock;

/// How long one exchange with the name server may take.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How far the two clocks may be apart (RFC 8945, section 10).
const FUDGE_SECONDS: u16 = 300;

/// How long the record may be kept by others: not at all would be refused by some.
const TTL_SECONDS: u32 = 1;

/// Where TXT records are put.
#[derive(Clone)]
pub struct DnsUpdates {
    /// The name server that takes updates, and is asked for the zone of a name.
    pub server: SocketAddr,
    /// The name of the key; updates are not signed without one.
    pub key_name: Option<String>,
    /// The key (HMAC-SHA256).
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for DnsUpdates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsUpdates({})", self.server)
    }
}

/// Why a record could not be put there.
#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    #[error("the name server {server} cannot be asked")]
    Connection {
        server: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("`{0}` is no name that the DNS can have")]
    Name(String),
    #[error("the name server {server} has no zone for `{name}`")]
    NoZone { server: SocketAddr, name: String },
    #[error("the name server {server} refused the update: {code}")]
    Refused {
        server: SocketAddr,
        code: ResponseCode,
    },
    #[error("a message could not be made or read: {0}")]
    Message(String),
}

impl DnsUpdates {
    /// Adds a TXT record beside those that are there.
    pub(super) async fn add(&self, name: &str, value: &str) -> Result<(), DnsError> {
        let (zone, record) = self.record(name, value).await?;
        self.update(update_message::append(record, zone, false, false))
            .await
    }

    /// Removes that record.
    pub(super) async fn remove(&self, name: &str, value: &str) -> Result<(), DnsError> {
        let (zone, record) = self.record(name, value).await?;
        self.update(update_message::delete_by_rdata(record, zone, false))
            .await
    }

    async fn record(&self, name: &str, value: &str) -> Result<(Name, RecordSet), DnsError> {
        let mut owner = Name::from_ascii(name).map_err(|_| DnsError::Name(name.to_owned()))?;
        owner.set_fqdn(true);
        let zone = self.zone(&owner).await?;
        let data = RData::TXT(TXT::new(vec![value.to_owned()]));
        let record = Record::from_rdata(owner, TTL_SECONDS, data);
        Ok((zone, RecordSet::from(record)))
    }

    /// The zone that a name is in: where the server has its start of authority.
    async fn zone(&self, name: &Name) -> Result<Name, DnsError> {
        let mut above = name.clone();
        while above.num_labels() > 0 {
            let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
            message.add_query(Query::query(above.clone(), RecordType::SOA));
            let answer = self.exchange(&message).await?;
            let mut said = answer.answers.iter();
            if said.any(|record| record.record_type() == RecordType::SOA && record.name == above) {
                return Ok(above);
            }
            above = above.base_name();
        }
        Err(DnsError::NoZone {
            server: self.server,
            name: name.to_ascii(),
        })
    }

    async fn update(&self, mut message: Message) -> Result<(), DnsError> {
        if let Some(key_name) = &self.key_name {
            let name = Name::from_ascii(key_name).map_err(|_| DnsError::Name(key_name.clone()))?;
            let algorithm = TsigAlgorithm::HmacSha256;
            let signer = TSigner::new(self.key.to_vec(), algorithm, name, FUDGE_SECONDS)
                .map_err(|error| DnsError::Message(error.to_string()))?;
            message
                .finalize(&signer, clock::now().as_secs())
                .map_err(|error| DnsError::Message(error.to_string()))?;
        }
        let answer = self.exchange(&message).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            code => Err(DnsError::Refused {
                server: self.server,
                code,
            }),
        }
    }

    /// One message there and one back, over TCP (RFC 7766).
    async fn exchange(&self, message: &Message) -> Result<Message, DnsError> {
        let broken = |error: &dyn fmt::Display| DnsError::Message(error.to_string());
        let question = message.to_vec().map_err(|error| broken(&error))?;
        let length = u16::try_from(question.len()).map_err(|error| broken(&error))?;
        let ask = async {
            let mut stream = TcpStream::connect(self.server).await?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend(&question);
            stream.write_all(&framed).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        };
        let answer = match tokio::time::timeout(EXCHANGE_LIMIT, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        let answer = answer.map_err(|source| DnsError::Connection {
            server: self.server,
            source,
        })?;
        let answer = Message::from_vec(&answer).map_err(|error| broken(&error))?;
        match answer.metadata.id == message.metadata.id {
            true => Ok(answer),
            false => Err(broken(&"the answer is to another question")),
        }
    }
}

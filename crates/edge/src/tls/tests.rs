//! Real handshakes over a pipe, with certificates made for the test.

use ekiden_model::{
    id::CertificateId,
    route::{CertificateGeneration, Challenge, EdgeCertificate, PrivateKeyPem, Removed},
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;

/// A certificate for `names`, told from others by its number.
fn certificate(number: u8, names: &[&str]) -> EdgeCertificate {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::new(names.clone())
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    EdgeCertificate {
        id: CertificateId::from_bytes([number; 16]),
        names,
        chain,
        key: PrivateKeyPem(key.serialize_pem().into()),
    }
}

fn change(set: Vec<EdgeCertificate>) -> Change {
    Change {
        generation: CertificateGeneration(1),
        set,
        remove: Removed::These(Vec::new()),
        default: None,
        challenges: Vec::new(),
        on_demand: Vec::new(),
    }
}

struct World {
    tls: Arc<Tls>,
    certificates: Certificates,
    wanted: mpsc::Receiver<String>,
}

impl World {
    fn new(first: Change) -> Self {
        let (tls, wanted) = Tls::new().unwrap();
        let mut world = Self {
            tls,
            certificates: Certificates::default(),
            wanted,
        };
        world.apply(first);
        world
    }

    fn apply(&mut self, change: Change) {
        self.certificates.apply(change, &provider());
        self.tls.present(self.certificates.snapshot(&provider()));
    }
}

/// Takes any certificate: the tests compare it with what was to come.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

type ClientStream = tokio_rustls::client::TlsStream<DuplexStream>;

/// Both ends of a handshake; the client offers `protocols`.
async fn shake(
    tls: &Tls,
    name: &str,
    protocols: &[&[u8]],
) -> (io::Result<ClientStream>, Option<TlsStream<DuplexStream>>) {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let (ours, theirs) = duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (client, server) = tokio::join!(connector.connect(name, theirs), tls.accept(ours));
    (client, server.unwrap())
}

fn presented(client: &ClientStream) -> Vec<u8> {
    client.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn leaf(certificate: &EdgeCertificate) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certificate.chain.as_bytes())
        .unwrap()
        .to_vec()
}

/// What a client that asks for `name` gets, if it is not refused.
async fn got(tls: &Tls, name: &str) -> Option<Vec<u8>> {
    match shake(tls, name, &[b"h2", b"http/1.1"]).await {
        (Ok(client), Some(_)) => Some(presented(&client)),
        (Err(error), None) => {
            assert!(error.to_string().contains("UnrecognisedName"), "{error}");
            None
        }
        (client, server) => panic!("{client:?} {}", server.is_some()),
    }
}

#[tokio::test]
async fn a_name_gets_its_own_certificate_then_the_wildcards_then_none() {
    let (own, wild, default) = (
        certificate(1, &["a.example.com", "example.com"]),
        certificate(2, &["*.example.com"]),
        certificate(3, &["*.default.test"]),
    );
    let world = World::new(Change {
        default: Some(default.id),
        ..change(vec![own.clone(), wild.clone(), default.clone()])
    });
    let tls = &world.tls;
    assert_eq!(got(tls, "a.example.com").await, Some(leaf(&own)));
    assert_eq!(got(tls, "example.com").await, Some(leaf(&own)));
    assert_eq!(got(tls, "b.example.com").await, Some(leaf(&wild)));
    assert_eq!(got(tls, "B.Example.COM").await, Some(leaf(&wild)));
    assert_eq!(got(tls, "c.b.example.com").await, None);
    assert_eq!(got(tls, "default.test").await, None);
    assert_eq!(tls.refused(), 2);
    // An address is no name.
    assert_eq!(got(tls, "192.0.2.1").await, Some(leaf(&default)));
}

#[tokio::test]
async fn another_certificate_is_presented_at_once_and_open_connections_stay() {
    let (old, new) = (
        certificate(1, &["example.com"]),
        certificate(2, &["example.com"]),
    );
    let mut world = World::new(change(vec![old.clone()]));
    let (client, server) = shake(&world.tls, "example.com", &[]).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(presented(&client), leaf(&old));
    world.apply(Change {
        remove: Removed::AllBut(Vec::new()),
        ..change(vec![new.clone()])
    });
    assert_eq!(got(&world.tls, "example.com").await, Some(leaf(&new)));
    server.write_all(b"still there").await.unwrap();
    let mut read = [0; 11];
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still there");
}

#[tokio::test]
async fn the_client_chooses_the_protocol_and_early_data_is_off() {
    let world = World::new(change(vec![certificate(1, &["example.com"])]));
    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let (client, _server) = shake(&world.tls, "example.com", offered).await;
        assert_eq!(client.unwrap().get_ref().1.alpn_protocol(), chosen);
    }
    assert_eq!(world.tls.server_config().max_early_data_size, 0);
}

#[tokio::test]
async fn a_challenge_is_answered_to_who_looks_for_it_and_nobody_else() {
    let own = certificate(1, &["example.com"]);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    let proof = params.self_signed(&key).unwrap();
    let world = World::new(Change {
        challenges: vec![
            Challenge::TlsAlpn01 {
                host: "example.com".to_owned(),
                chain: proof.pem(),
                key: PrivateKeyPem(key.serialize_pem().into()),
            },
            Challenge::Http01 {
                host: "example.com".to_owned(),
                token: "token".to_owned(),
                authorization: "token.print".to_owned(),
            },
        ],
        ..change(vec![own.clone()])
    });
    let tls = &world.tls;
    let (client, server) = shake(tls, "example.com", &[ACME_TLS]).await;
    assert!(server.is_none());
    assert_eq!(presented(&client.unwrap()), proof.der().to_vec());
    assert_eq!(got(tls, "example.com").await, Some(leaf(&own)));
    let (client, _) = shake(tls, "other.example.com", &[ACME_TLS]).await;
    assert!(client.is_err());

    assert_eq!(
        tls.http01(b"Example.com:80", "token").as_deref(),
        Some("token.print")
    );
    assert_eq!(
        tls.http01(b"example.com", "token").as_deref(),
        Some("token.print")
    );
    assert_eq!(tls.http01(b"example.com", "other"), None);
    assert_eq!(tls.http01(b"other.com", "token"), None);
}

#[tokio::test]
async fn a_handshake_waits_for_a_certificate_that_may_be_had() {
    let mut world = World::new(Change {
        on_demand: vec!["*.shops.test".to_owned()],
        ..change(Vec::new())
    });
    assert_eq!(got(&world.tls, "shops.test").await, None);
    let tls = Arc::clone(&world.tls);
    let waiting = tokio::spawn(async move { got(&tls, "One.shops.test").await });
    assert_eq!(world.wanted.recv().await.as_deref(), Some("one.shops.test"));
    let made = certificate(1, &["one.shops.test"]);
    world.apply(change(vec![made.clone()]));
    assert_eq!(waiting.await.unwrap(), Some(leaf(&made)));
}

#[tokio::test]
async fn names_that_may_be_asked_for_are_bounded() {
    let world = World::new(change(Vec::new()));
    let asked = (0..WANTED_MAX * 2)
        .filter(|number| world.tls.may_ask(&format!("{number}.shops.test")))
        .count();
    assert_eq!(asked, WANTED_MAX);
    assert!(world.tls.may_ask("0.shops.test"), "it is on its way");
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_so() {
    let (good, mut bad) = (certificate(1, &["a.test"]), certificate(2, &["b.test"]));
    bad.key = good.key.clone();
    let mut certificates = Certificates::default();
    certificates.apply(change(vec![good, bad.clone()]), &provider());
    assert_eq!(certificates.unusable(), [bad.id]);
    let snapshot = certificates.snapshot(&provider());
    assert!(snapshot.find("a.test").is_some());
    assert!(snapshot.find("b.test").is_none());
}

#[test]
fn what_was_saved_is_private_and_comes_back() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let saved = SavedCertificates::new(dir.path());
    assert!(saved.load().is_none());
    let one = certificate(1, &["a.test"]);
    let mut certificates = Certificates::default();
    certificates.apply(
        Change {
            default: Some(one.id),
            ..change(vec![one])
        },
        &provider(),
    );
    saved.store(&certificates).unwrap();
    let file = dir.path().join("certificates.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut again = Certificates::default();
    again.apply(saved.load().unwrap(), &provider());
    let snapshot = again.snapshot(&provider());
    assert!(snapshot.find("a.test").is_some() && snapshot.default.is_some());
    std::fs::write(&file, "{").unwrap();
    assert!(saved.load().is_none());
}

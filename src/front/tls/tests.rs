//! Handshakes between a listener's settings and a real client.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::{TlsConnector, client};

use self::certificates::{Authority, Pair};
use super::*;

#[path = "../../../tests/it/support/certificates.rs"]
#[allow(dead_code)]
mod certificates;

/// Long before any certificate of the tests ends.
const NOW: imgate_identity::time::UnixTime = imgate_identity::time::UnixTime(1_790_000_000);

struct World {
    dir: TempDir,
    authority: Authority,
    settings: Settings,
}

/// A listener with certificates for these names.
fn world(names: &[&[&str]]) -> World {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let certificates: Vec<Certificate> =
        names.iter().map(|names| load(&dir, &authority.issue(names)).unwrap()).collect();
    let settings = Settings {
        certificates: certificates.into(),
        clients: Clients::Unasked,
        min_version: MinVersion::Tls12,
        handshake_timeout: Duration::from_millis(300),
        protocols: Protocols::Http2,
    };
    World { dir, authority, settings }
}

fn load(dir: &TempDir, pair: &Pair) -> Result<Certificate, BadCertificate> {
    let (chain, key) = pair.write(dir.path(), "pair");
    let folder = Folder::new(dir.path());
    let name = |path: &Path| Path::new(path.file_name().unwrap()).to_owned();
    Certificate::load(&folder, &name(&chain), &name(&key), NOW)
}

impl World {
    fn authorities(&self) -> Authorities {
        let path = self.dir.path().join("ca.pem");
        std::fs::write(&path, self.authority.pem()).unwrap();
        Authorities::load(&Folder::new(self.dir.path()), &path).unwrap()
    }

    fn client(&self, identity: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap()).unwrap();
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![H2.to_vec()];
        Arc::new(config)
    }
}

type Client = client::TlsStream<DuplexStream>;

/// Shakes hands, and says "hi" from the listener's side, so that tickets arrive.
async fn shake(
    acceptor: &Acceptor,
    config: &Arc<ClientConfig>,
    name: &str,
) -> (Result<HandshakeKind, Failure>, io::Result<Client>) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::clone(config));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let greeted = async {
        let mut stream = acceptor.accept(here).await?;
        stream.write_all(b"hi").await.map_err(Failure::Gone)?;
        stream.shutdown().await.map_err(Failure::Gone)?;
        Ok(stream.get_ref().1.handshake_kind().unwrap())
    };
    let asked = async {
        let mut stream = connector.connect(name, there).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        assert_eq!(said, "hi");
        Ok(stream)
    };
    tokio::join!(greeted, asked)
}

/// The first certificate that the listener showed.
fn shown(client: &Client) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn each_name_gets_its_own_certificate_and_any_other_the_first() {
    let w = world(&[&["im.example.com"], &["*.example.org", "example.org"]]);
    let acceptor = Acceptor::new(&w.settings, None).unwrap();
    let of = |i: usize| w.settings.certificates[i].key.cert[0].clone();
    let config = w.client(None);
    for (name, expected) in
        [("im.example.com", 0), ("IM.example.com", 0), ("a.example.org", 1), ("example.org", 1)]
    {
        let client = shake(&acceptor, &config, name).await.1.unwrap();
        assert_eq!(shown(&client), of(expected), "{name}");
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(H2));
    }
    // The client sees the first certificate, and that it is not the one it meant.
    for name in ["elsewhere.example", "a.b.example.org"] {
        let (greeted, asked) = shake(&acceptor, &config, name).await;
        assert!(asked.unwrap_err().to_string().contains("not valid for name"), "{name}");
        assert_eq!(greeted.unwrap_err().as_str(), "refused_by_client", "{name}");
    }
}

#[tokio::test]
async fn a_client_comes_back_with_its_ticket_also_after_a_reload() {
    let mut w = world(&[&["im.example.com"]]);
    let acceptor = Acceptor::new(&w.settings, None).unwrap();
    let config = w.client(None);
    let kinds = async |acceptor: &Acceptor| shake(acceptor, &config, "im.example.com").await.0.unwrap();
    assert_eq!(kinds(&acceptor).await, HandshakeKind::Full);
    assert_eq!(kinds(&acceptor).await, HandshakeKind::Resumed);
    let renewed = load(&w.dir, &w.authority.issue(&["im.example.com"])).unwrap();
    w.settings.certificates = Arc::new([renewed]);
    let acceptor = Acceptor::new(&w.settings, Some(&acceptor)).unwrap();
    assert_eq!(kinds(&acceptor).await, HandshakeKind::Resumed);
    let fresh = w.client(None);
    let client = shake(&acceptor, &fresh, "im.example.com").await.1.unwrap();
    assert_eq!(shown(&client), w.settings.certificates[0].key.cert[0]);
}

#[tokio::test]
async fn a_ticket_from_before_does_not_stand_in_for_a_client_certificate() {
    let mut w = world(&[&["im.example.com"]]);
    let acceptor = Acceptor::new(&w.settings, None).unwrap();
    let config = w.client(None);
    shake(&acceptor, &config, "im.example.com").await.0.unwrap();
    w.settings.clients = Clients::Required(w.authorities());
    let acceptor = Acceptor::new(&w.settings, Some(&acceptor)).unwrap();
    let (greeted, _) = shake(&acceptor, &config, "im.example.com").await;
    assert_eq!(greeted.unwrap_err().as_str(), "client_certificate");
}

#[tokio::test]
async fn client_certificates_are_asked_for_as_configured() {
    let mut w = world(&[&["im.example.com"]]);
    let (known, stranger) = (w.authority.issue(&["device"]), Authority::new().issue(&["device"]));
    for (clients, without, with, with_strange) in [
        (Clients::Unasked, true, true, true),
        (Clients::Optional(w.authorities()), true, true, false),
        (Clients::Required(w.authorities()), false, true, false),
    ] {
        w.settings.clients = clients;
        let acceptor = Acceptor::new(&w.settings, None).unwrap();
        for (identity, passes) in [(None, without), (Some(&known), with), (Some(&stranger), with_strange)] {
            let (greeted, _) = shake(&acceptor, &w.client(identity), "im.example.com").await;
            match greeted {
                Ok(_) => assert!(passes, "{:?}", w.settings.clients),
                Err(why) => assert!(!passes && why.as_str() == "client_certificate", "{why}"),
            }
        }
    }
}

#[tokio::test]
async fn a_handshake_that_comes_to_nothing_says_why() {
    let w = world(&[&["im.example.com"]]);
    let acceptor = Acceptor::new(&w.settings, None).unwrap();
    for (sent, word) in [
        (&b"GET / HTTP/1.1\r\nHost: im.example.com\r\n\r\n"[..], "not_tls"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n", "not_tls"),
        (b"\x16\x03\x01\0\x02", "timeout"),
        (b"\x16\x03\x01\0\x04\x02\0\0\0", "misbehaved"),
    ] {
        let (here, mut there) = tokio::io::duplex(1024);
        there.write_all(sent).await.unwrap();
        assert_eq!(acceptor.accept(here).await.err().unwrap().as_str(), word, "{sent:?}");
    }
    let (here, there) = tokio::io::duplex(1024);
    drop(there);
    assert_eq!(acceptor.accept(here).await.err().unwrap().as_str(), "closed");
}

#[tokio::test]
async fn a_client_with_no_protocol_of_ours_is_told_so() {
    let w = world(&[&["im.example.com"]]);
    let acceptor = Acceptor::new(&w.settings, None).unwrap();
    let mut config = (*w.client(None)).clone();
    config.alpn_protocols = vec![b"spdy/1".to_vec()];
    let (greeted, asked) = shake(&acceptor, &Arc::new(config), "im.example.com").await;
    assert_eq!(greeted.unwrap_err().as_str(), "nothing_in_common");
    assert!(asked.is_err());
}

#[test]
fn a_pair_that_serves_nobody_is_refused() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let issue = |from, to| authority.issue_between(&["im.example.com"], from, to);
    let said = |pair: &Pair| load(&dir, pair).unwrap_err().to_string();
    assert!(said(&issue(2020, 2021)).starts_with("the certificate expired at 2021-01-01T00:00:00Z"));
    assert!(said(&issue(2090, 2091)).starts_with("the certificate is valid from 2090-01-01T00:00:00Z"));
    let (one, other) = (issue(2020, 2090), issue(2020, 2090));
    let mixed = Pair { certificate: one.certificate.clone(), key: other.key };
    assert!(said(&mixed).starts_with("the key is not that of the certificate"));
    let swapped = Pair { certificate: one.key.clone(), key: one.certificate.clone() };
    assert!(said(&swapped).starts_with("no certificate in "));
    let keyless = Pair { certificate: one.certificate.clone(), key: one.certificate.clone() };
    assert!(said(&keyless).starts_with("no private key in "));
    let broken = one.certificate.replacen("MII", "AAA", 1);
    assert!(said(&Pair { certificate: broken, key: one.key.clone() }).contains("malformed"));
    assert!(load(&dir, &one).is_ok());
}

#[test]
fn what_is_shown_of_a_certificate_is_nothing_of_its_key() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let shown =
        format!("{:?}", load(&dir, &authority.issue_between(&["im.example.com"], 2020, 2090)).unwrap());
    assert_eq!(shown, r#"Certificate { names: ["im.example.com"], ends: 2090-01-01T00:00:00Z, .. }"#);
}

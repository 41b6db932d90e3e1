//! Upstreams behind TLS that take nobody without a certificate, and how the gateway knows them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use openim_standin::{Options, Standin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::{WELL, World};
use crate::support::ws::{SWITCH, handshake, read_exactly};
use crate::support::{Client, Sent, leaks, ok};

/// The name in the servers' certificate.
const NAME: &str = "openim.internal";

/// Certificates and keys in a folder: `ca` and `other` vouch, `server` and `gateway` are vouched for by `ca`.
struct Papers(tempfile::TempDir);

impl Papers {
    fn new() -> Self {
        let papers = Self(tempfile::tempdir().unwrap());
        papers.issue("ca", &["-subj", "/CN=authority"]);
        papers.issue("other", &["-subj", "/CN=other authority"]);
        let by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
        let name = format!("subjectAltName=DNS:{NAME}");
        papers.issue("server", &[&by_ca[..], &["-subj", "/CN=server", "-addext", &name]].concat());
        papers.issue("gateway", &[&by_ca[..], &["-subj", "/CN=gateway"]].concat());
        leaks::secret(papers.read("gateway.key").lines().nth(1).unwrap());
        papers
    }

    fn issue(&self, name: &str, more: &[&str]) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-keyout", &key, "-out", &certificate])
            .args(more)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let read = |name: &str| CertificateDer::from_pem_file(Path::new(&self.at(name))).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(read("ca.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::from_pem_file(Path::new(&self.at("server.key"))).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![read("server.pem")], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// An upstream behind TLS: it answers requests, switches on handshakes, and then says back what it hears.
struct Sealed {
    port: u16,
    _tasks: JoinSet<()>,
}

impl Sealed {
    async fn open(papers: &Papers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, mut tasks) = (papers.acceptor(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut piece = [0; 16 * 1024];
                    while let Ok(n @ 1..) = stream.read(&mut piece).await {
                        let heard = &piece[..n];
                        let said = match heard {
                            _ if heard.starts_with(b"GET /sock") => SWITCH.to_vec(),
                            _ if heard.windows(9).any(|w| w == b" HTTP/1.1") => ok(WELL),
                            _ => heard.to_vec(),
                        };
                        if stream.write_all(&said).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, _tasks: tasks }
    }

    /// A gateway that knows it this way.
    async fn known_by(&self, tls: &str) -> World {
        let openim = Standin::start(Options::default()).await.unwrap();
        let upstream = format!("servers: [\"localhost:{}\"], breaker: {{ enabled: false }}", self.port);
        World::around(openim, &format!("{upstream}, tls: {{ {tls} }}")).await
    }
}

#[tokio::test]
async fn an_upstream_behind_tls_is_asked_in_all_three_ways() {
    let papers = Papers::new();
    let sealed = Sealed::open(&papers).await;
    let (ca, own, key) = (papers.at("ca.pem"), papers.at("gateway.pem"), papers.at("gateway.key"));
    let tls = format!("ca: {ca}, server_name: {NAME}, certificate: {own}, key: {key}");
    let w = sealed.known_by(&tls).await;
    for person in 0..6 {
        // The tickets of TLS 1.3 do not keep a connection from being used again.
        assert_eq!(w.ask(person).await.verdict(), (200, 0));
    }
    for n in 0..3 {
        let reply = w.gateway.send(&Sent::new("GET", &format!("/flow/{n}"))).await;
        assert_eq!(reply.verdict(), (200, 0), "stream");
    }
    let mut client = Client::connect(w.gateway.address).await;
    let target = "/sock?sendID=ann&token=x&platformID=2&operationID=op&isBackground=false";
    client.write(&handshake(target).wire()).await;
    assert_eq!(client.read("GET").await.status, 101);
    let (mut stream, _) = client.into_stream();
    for said in [&b"hello"[..], &[7; 40_000]] {
        stream.write_all(said).await.unwrap();
        assert!(read_exactly(&mut stream, said.len()).await == said);
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_gets_no_request() {
    let papers = Papers::new();
    let sealed = Sealed::open(&papers).await;
    let own = format!("certificate: {}, key: {}", papers.at("gateway.pem"), papers.at("gateway.key"));
    let cases = [
        ("another authority", format!("ca: {}, server_name: {NAME}, {own}", papers.at("other.pem"))),
        ("another name", format!("ca: {}, {own}", papers.at("ca.pem"))),
    ];
    for (number, (case, tls)) in cases.into_iter().enumerate() {
        let w = sealed.known_by(&tls).await;
        let refused = ((502, 20402), "tls_failed".to_owned());
        assert_eq!(
            w.reason(&Sent::new("GET", "/gotten"), &format!("op-x-{number}")).await,
            refused,
            "{case}"
        );
        assert_eq!(
            w.reason(&Sent::new("GET", "/flow/x"), &format!("op-f-{number}")).await,
            refused,
            "{case}"
        );
        let target = "/sock?sendID=ann&token=x&platformID=2&operationID=op&isBackground=false";
        assert_eq!(w.gateway.send(&handshake(target)).await.verdict(), (502, 20402), "{case}");
    }
}

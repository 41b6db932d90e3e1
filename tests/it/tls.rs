//! TLS on a listener: which certificate is shown, how it is renewed, who is let in, and what stalls.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::SinkExt as _;
use openim_standin::{Options, Standin};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::certificates::{Authority, Pair};
use crate::support::command::imgate;
use crate::support::ws::target;
use crate::support::{Client, Gateway, HOST, Person, RedisServer, Sent, Setup, eventually, leaks};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// One certificate, as the files that the tests write.
const TLS: &str = "certificate: im.crt, key: im.key";

struct World {
    gateway: Gateway,
    authority: Authority,
    ann: Person,
    yaml: String,
    _openim: Standin,
    _redis: RedisServer,
}

/// A gateway whose listener speaks TLS by these keys, `more` beside them.
async fn world(tls: &str, more: &str) -> World {
    let authority = Authority::new();
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.listeners = format!("{{ address: \"127.0.0.1:0\", tls: {{ {tls} }}{more} }}");
    for (name, pair) in [("im", authority.issue(&[HOST])), ("other", authority.issue(&["*.example.org"]))] {
        setup.files.extend(files(name, &pair));
    }
    setup.files.push(("ca.pem".to_owned(), authority.pem()));
    let yaml = setup.yaml();
    World { gateway: setup.start().await, authority, ann, yaml, _openim: openim, _redis: redis }
}

fn files(name: &str, pair: &Pair) -> [(String, String); 2] {
    let key: String = pair.key.lines().nth(1).unwrap().to_owned();
    leaks::secret(&key);
    [(format!("{name}.crt"), pair.certificate.clone()), (format!("{name}.key"), pair.key.clone())]
}

type Tls = TlsStream<TcpStream>;

impl World {
    fn config(&self, identity: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.authority.pem())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate(&pair.certificate)], key).unwrap()
            }
        })
    }

    async fn connect(&self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Tls> {
        let stream = TcpStream::connect(self.gateway.address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await
    }

    async fn client(&self) -> Client<Tls> {
        Client::over(self.connect(&self.config(None), HOST).await.unwrap())
    }

    fn write(&self, name: &str, pair: &Pair) {
        let dir = self.gateway.config().parent().unwrap().to_owned();
        for (file, text) in files(name, pair) {
            std::fs::write(dir.join(file), text).unwrap();
        }
    }

    async fn reload(&self, result: &str) {
        let metric = format!("imgate_config_reloads_total{{result=\"{result}\"}}");
        let before = self.gateway.metric(&metric).await;
        self.gateway.signal("-HUP");
        eventually("the reload is done", async || self.gateway.metric(&metric).await > before).await;
    }

    /// Waits until so many handshakes have failed for this reason.
    async fn failed(&self, reason: &str, times: f64) {
        let line = format!("imgate_tls_handshake_failures_total{{reason=\"{reason}\"}} {times}");
        eventually(&line, async || self.gateway.admin_get("/metrics").await.text().contains(&line)).await;
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn shown(stream: &Tls) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn signed_requests_and_sockets_work_over_tls() {
    let w = world(TLS, "").await;
    let mut client = w.client().await;
    for _ in 0..3 {
        assert_eq!(client.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    }
    let refused = client.send(&Sent::new("GET", "/nowhere")).await;
    assert_eq!(refused.verdict(), (404, 20201));
    let stream = w.connect(&w.config(None), HOST).await.unwrap();
    let url = format!("wss://{HOST}{}", target("ann", &w.ann.token, 2, ""));
    let (mut socket, _) = client_async(url, stream).await.unwrap();
    socket.send(Message::Close(None)).await.unwrap();
    eventually("the socket is over", async || w.gateway.metric("imgate_tunnels").await == 0.0).await;
    let ends = w.gateway.admin_get("/metrics").await.text();
    assert!(
        ends.contains("imgate_tls_certificate_not_after_timestamp_seconds{certificate=\"im.crt\""),
        "{ends}"
    );
}

#[tokio::test]
async fn each_name_is_shown_its_certificate() {
    let pairs =
        "certificates: [{ certificate: im.crt, key: im.key }, { certificate: other.crt, key: other.key }]";
    let w = world(pairs, "").await;
    let config = w.config(None);
    w.connect(&config, HOST).await.unwrap();
    w.connect(&config, "a.example.org").await.unwrap();
    let error = w.connect(&config, "elsewhere.example").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_connection_lost() {
    let w = Arc::new(world(TLS, "").await);
    let before = shown(&w.connect(&w.config(None), HOST).await.unwrap());
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let (w, stop, done) = (Arc::clone(&w), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut client = w.client().await;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let so_far = done.load(Ordering::Relaxed);
        let renewed = w.authority.issue(&[HOST]);
        w.write("im", &renewed);
        w.reload("ok").await;
        let now = shown(&w.connect(&w.config(None), HOST).await.unwrap());
        assert_eq!(now, certificate(&renewed.certificate));
        assert_ne!(now, before);
        eventually("requests go on", async || done.load(Ordering::Relaxed) > so_far + 4).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_bad_pair_is_refused_with_its_place_and_the_last_good_one_stays() {
    let w = world(TLS, "").await;
    let good = shown(&w.connect(&w.config(None), HOST).await.unwrap());
    let expired = w.authority.issue_between(&[HOST], 2020, 2021);
    let stranger = Pair { certificate: w.authority.issue(&[HOST]).certificate, key: expired.key.clone() };
    for (pair, said) in [
        (expired, "listeners[0].tls.certificate: the certificate expired at 2021-01-01T00:00:00Z"),
        (stranger, "listeners[0].tls.certificate: the key is not that of the certificate"),
    ] {
        w.write("im", &pair);
        w.reload("refused").await;
        let dir = w.gateway.config().parent().unwrap().to_owned();
        let ran = imgate(&dir, &["check", "-c", "imgate.yaml"]);
        assert!(ran.code != 0 && ran.stderr.contains(said), "{}", ran.stderr);
        assert_eq!(shown(&w.connect(&w.config(None), HOST).await.unwrap()), good);
    }
}

#[tokio::test]
async fn openssl_comes_back_with_its_ticket() {
    let w = world(TLS, "").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = format!("session{version}");
        let connect = w.gateway.address.to_string();
        let dir = w.gateway.config().parent().unwrap().to_owned();
        let first = s_client(&dir, &["-connect", &connect, version, "-sess_out", &session]);
        assert!(first.contains("New, TLS"), "{first}");
        let again = s_client(&dir, &["-connect", &connect, version, "-sess_in", &session]);
        assert!(again.contains("Reused, TLS"), "{again}");
    }
    let resumed = "imgate_tls_handshake_seconds_count{kind=\"resumed\"}";
    assert_eq!(w.gateway.metric(resumed).await, 2.0);
}

/// Shakes hands as OpenSSL does, asks for nothing in particular, and waits for the end: TLS 1.3 sends its
/// tickets after the handshake.
fn s_client(dir: &Path, arguments: &[&str]) -> String {
    let ask = format!("printf 'GET /nowhere HTTP/1.1\\r\\nHost: {HOST}\\r\\nConnection: close\\r\\n\\r\\n'");
    let line = format!("{ask} | timeout 20 openssl s_client -ign_eof -CAfile ca.pem {}", arguments.join(" "));
    let ran = Command::new("sh").args(["-c", &line]).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[tokio::test]
async fn curl_gets_http2_where_it_is_spoken() {
    for (more, version) in [(", http2: true", "2"), ("", "1.1")] {
        let w = world(TLS, more).await;
        let port = w.gateway.address.port();
        let dir = w.gateway.config().parent().unwrap().to_owned();
        let ran = Command::new("curl")
            .args(["-sS", "--http2", "--cacert", "ca.pem", "--max-time", "20", "-w", " %{http_version}"])
            .args([
                "--resolve",
                &format!("{HOST}:{port}:127.0.0.1"),
                &format!("https://{HOST}:{port}/nowhere"),
            ])
            .current_dir(&dir)
            .output()
            .unwrap();
        let (said, error) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr));
        assert!(said.contains("20201") && said.ends_with(&format!(" {version}")), "{said} {error}");
    }
}

#[tokio::test]
async fn clients_without_a_certificate_are_not_let_in_where_one_is_asked_for() {
    let w = world(&format!("{TLS}, client_ca: ca.pem"), "").await;
    let device = w.authority.issue(&["device"]);
    let stream = w.connect(&w.config(Some(&device)), HOST).await.unwrap();
    assert_eq!(Client::over(stream).send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    // With TLS 1.3 a client believes itself connected until it is told.
    let stream = w.connect(&w.config(None), HOST).await.unwrap();
    assert!(Client::over(stream).is_closed().await);
    w.failed("client_certificate", 1.0).await;
}

#[tokio::test]
async fn whoever_does_not_shake_hands_is_closed() {
    let w = world(&format!("{TLS}, handshake_timeout: 200ms"), "").await;
    let mut silent = Client::connect(w.gateway.address).await;
    assert!(silent.is_closed().await);
    w.failed("timeout", 1.0).await;
    let mut plain = Client::connect(w.gateway.address).await;
    plain.write(&Sent::new("GET", "/").wire()).await;
    assert!(plain.is_closed().await || plain.is_closed().await);
    w.failed("not_tls", 1.0).await;
    assert_eq!(w.client().await.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
}

#[tokio::test]
async fn a_reload_turns_tls_on_and_off() {
    let w = world(TLS, "").await;
    let plain = w.yaml.replace(&format!(", tls: {{ {TLS} }}"), "");
    assert_ne!(plain, w.yaml);
    let serves_plain =
        async |address: SocketAddr| Client::once(address, &w.ann.post(FRIENDS, BODY)).await.verdict();
    std::fs::write(w.gateway.config(), &plain).unwrap();
    w.reload("ok").await;
    assert_eq!(serves_plain(w.gateway.address).await, (200, 0));
    std::fs::write(w.gateway.config(), &w.yaml).unwrap();
    w.reload("ok").await;
    assert_eq!(w.client().await.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
}

#[tokio::test]
async fn tls_on_a_listener_without_it_is_a_bad_request() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let gateway = Setup::new(&openim, &redis).patient().start().await;
    let mut client = Client::connect(gateway.address).await;
    client.write(b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03 and so on\r\n\r\n").await;
    assert_eq!(client.read("GET").await.status, 400);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn handshakes_begin_at_a_pace() {
    let w = world(TLS, "").await;
    let paced = "limits: { handshakes: { rate: 1/m, burst: 2, wait: 0s } }";
    std::fs::write(w.gateway.config(), format!("{}\n{paced}\n", w.yaml)).unwrap();
    w.reload("ok").await;
    let config = w.config(None);
    // The session of the second resumes that of the first; it takes its turn all the same.
    for _ in 0..2 {
        w.connect(&config, HOST).await.unwrap();
    }
    assert!(w.connect(&config, HOST).await.is_err());
    assert_eq!(w.gateway.metric("imgate_handshakes_refused_total").await, 1.0);
}

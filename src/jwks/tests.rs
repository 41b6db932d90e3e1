//! An issuer on the loopback that is well, ill, slow to change or not to be trusted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant as Wall;

use imgate_identity::jwt::{Algorithm, KeyFault};
use pingora_core::connectors::ConnectorOptions;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Long enough that nothing in a test is fetched because of it.
const NEVER: Duration = Duration::from_secs(3600);
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A JWKS with one key of this name; the key is that of the filters' tests.
fn jwks(kid: &str) -> String {
    let x = "C7w0aldmfDgBIL2cf9flHSxf3-o3zS9b9AWyxr9vLXg";
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An issuer whose every answer is the one that was set last.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn answering(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer.to_owned())),
            asked: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&issuer.answer), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /jwks?t=1 HTTP/1.1\r\n"));
                let answer = answer.lock().clone();
                // A client that has seen enough may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        issuer
    }

    fn answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn url(&self) -> JwksUrl {
        JwksUrl::parse(&format!("http://{}/jwks?t=1", self.address)).unwrap()
    }

    fn source(&self, refresh: Duration, cooldown: Duration) -> Source {
        Source { url: self.url(), algorithms: [Algorithm::EdDsa].into(), refresh, cooldown }
    }

    async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        fetch::fetch(&Connector::new(None), &self.url()).await
    }
}

/// Feeds that are kept fresh until the guard is dropped.
struct Running(Arc<Feeds>, CancellationToken);

impl Running {
    fn start() -> Self {
        let running = Self(Arc::default(), CancellationToken::new());
        tokio::spawn(Arc::clone(&running.0).run(running.1.clone()));
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.1.cancel();
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Wall::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn names(feed: &Arc<dyn Feed>) -> Vec<String> {
    feed.keys().map(|keys| keys.ids().map(str::to_owned).collect()).unwrap_or_default()
}

#[tokio::test]
async fn keys_are_fetched_and_fetched_anew() {
    let issuer = Issuer::answering(&ok(&jwks("a"))).await;
    let running = Running::start();
    let feed = running.0.follow(&issuer.source(Duration::from_millis(50), Duration::from_millis(10)));
    until("the first key comes", || names(&feed) == ["a"]).await;
    // The new key comes beside the old one, then the old one goes.
    let both = jwks("a").replace("]}", &jwks("b").replace("{\"keys\":[", ","));
    issuer.answer(&ok(&both));
    until("the second key comes", || names(&feed) == ["a", "b"]).await;
    issuer.answer(&ok(&jwks("b")));
    until("the first key goes", || names(&feed) == ["b"]).await;
    let [report] = &running.0.report()[..] else { panic!("one set is reported") };
    assert!(report.ok >= 3 && report.failed == 0 && report.keys == 1 && report.age.is_some());
}

#[tokio::test]
async fn whatever_goes_wrong_the_last_good_keys_stay() {
    let issuer = Issuer::answering(&ok(&jwks("a"))).await;
    let running = Running::start();
    let feed = running.0.follow(&issuer.source(Duration::from_millis(20), Duration::from_millis(10)));
    until("the first key comes", || names(&feed) == ["a"]).await;
    let truncated = ok(&jwks("b")).replace("Content-Length: ", "Content-Length: 1");
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", issuer.url());
    let private = ok(&jwks("b").replace("\"x\"", "\"d\":\"AA\",\"x\""));
    let bad = [
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "nonsense",
        "",
        &redirect,
        &truncated,
        &private,
        &ok("{\"keys\":[]}"),
        &ok("<html>"),
        &ok(&format!("{}{}", jwks("b"), " ".repeat(200_000))),
        &ok(&jwks("b")).replace("Content-Length", "Content-Encoding: gzip\r\nContent-Length"),
    ];
    for answer in bad {
        issuer.answer(answer);
        let failed = running.0.report()[0].failed;
        until(answer, || running.0.report()[0].failed > failed + 1).await;
        assert_eq!(names(&feed), ["a"], "{answer}");
    }
    issuer.answer(&ok(&jwks("c")));
    until("the issuer is well again", || names(&feed) == ["c"]).await;
}

#[tokio::test]
async fn an_issuer_that_is_away_at_first_is_tried_again() {
    let issuer = Issuer::answering("").await;
    let running = Running::start();
    let feed = running.0.follow(&issuer.source(NEVER, Duration::from_millis(20)));
    until("it is tried again", || issuer.asked() >= 3).await;
    assert!(feed.keys().is_none());
    issuer.answer(&ok(&jwks("a")));
    until("its key comes", || names(&feed) == ["a"]).await;
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_per_cooldown() {
    let cooldown = Duration::from_millis(300);
    let issuer = Issuer::answering(&ok(&jwks("a"))).await;
    let running = Running::start();
    let start = Wall::now();
    let feed = running.0.follow(&issuer.source(NEVER, cooldown));
    until("the first key comes", || names(&feed) == ["a"]).await;
    issuer.answer(&ok(&jwks("b")));
    until("the new key comes", || {
        (0..100).for_each(|_| feed.miss());
        names(&feed) == ["b"]
    })
    .await;
    assert!(start.elapsed() >= cooldown && issuer.asked() == 2, "{}", issuer.asked());
    until("it is asked again and again", || {
        feed.miss();
        issuer.asked() >= 5
    })
    .await;
    assert!(start.elapsed() >= cooldown * 4);
}

#[tokio::test]
async fn the_same_source_is_fetched_once_and_kept_across_reloads() {
    let issuer = Issuer::answering(&ok(&jwks("a"))).await;
    let running = Running::start();
    let source = issuer.source(NEVER, Duration::from_secs(10));
    let before = running.0.follow(&source);
    until("the key comes", || names(&before) == ["a"]).await;
    let after = running.0.follow(&source);
    drop(before);
    assert_eq!(names(&after), ["a"]);
    assert_eq!((issuer.asked(), running.0.report().len()), (1, 1));
    drop(after);
    until("a set that nobody wants is forgotten", || running.0.report().is_empty()).await;
}

#[tokio::test]
async fn a_check_fetches_nothing() {
    let issuer = Issuer::answering(&ok(&jwks("a"))).await;
    let feeds = Feeds::default();
    let feed = feeds.follow(&issuer.source(NEVER, Duration::from_secs(10)));
    feed.miss();
    assert!(feed.keys().is_none());
    assert_eq!(issuer.asked(), 0);
}

#[tokio::test]
async fn faults_say_what_is_wrong() {
    let issuer = Issuer::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    assert!(matches!(issuer.fetch().await, Err(FetchError::Status(404))));
    issuer.answer(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(300_000)));
    assert!(matches!(issuer.fetch().await, Err(FetchError::Keys(KeyFault::TooLong))));
    issuer.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(issuer.fetch().await.unwrap(), b"abcde");
    let nobody = JwksUrl::parse("http://127.0.0.1:1/").unwrap();
    let refused = fetch::fetch(&Connector::new(None), &nobody).await;
    assert!(matches!(refused, Err(FetchError::Connection(_))));
}

/// `openssl s_server`, which serves the file `jwks` under a certificate for `localhost`.
struct TlsIssuer {
    folder: TempDir,
    server: Child,
    port: u16,
}

impl TlsIssuer {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let out = ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost", "-days", "2"];
        // A root may not serve, so it is one that signs nothing but itself.
        let names =
            ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
        let made = openssl(folder.path()).args(key).args(out).args(names).stderr(Stdio::null()).status();
        assert!(made.expect("openssl is there").success());
        std::fs::write(folder.path().join("jwks"), ok(&jwks("tls"))).unwrap();
        let serve = ["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-HTTP"];
        let mut server = openssl(folder.path());
        let mut server = server.args(serve).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let port = port(server.stdout.as_mut().unwrap());
        Self { folder, server, port }
    }

    async fn fetch(&self, host: &str, ca: Option<&str>) -> Result<Vec<u8>, FetchError> {
        let ca = ca.map(|name| self.folder.path().join(name).display().to_string());
        let options = ca.map(|ca| {
            let mut options = ConnectorOptions::new(1);
            options.ca_file = Some(ca);
            options
        });
        let url = JwksUrl::parse(&format!("https://{host}:{}/jwks", self.port)).unwrap();
        fetch::fetch(&Connector::new(options), &url).await
    }
}

impl Drop for TlsIssuer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn openssl(folder: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Reads the port in the line `ACCEPT 127.0.0.1:port`.
fn port(stdout: &mut impl std::io::Read) -> u16 {
    let mut text = String::new();
    loop {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("openssl says where it listens");
        if byte == *b"\n"
            && let Some((_, port)) = text.rsplit_once(':').filter(|_| text.starts_with("ACCEPT"))
        {
            return port.parse().unwrap();
        }
        if byte == *b"\n" { text.clear() } else { text.push(char::from(byte[0])) }
    }
}

#[tokio::test]
async fn over_tls_only_a_trusted_host_of_that_name_is_believed() {
    let issuer = TlsIssuer::start();
    let fetched = issuer.fetch("localhost", Some("cert.pem")).await.unwrap();
    assert_eq!(fetched, jwks("tls").as_bytes());
    // Nobody vouches for it.
    assert!(matches!(issuer.fetch("localhost", None).await, Err(FetchError::Connection(_))));
    // It is vouched for, but under another name.
    assert!(matches!(issuer.fetch("127.0.0.1", Some("cert.pem")).await, Err(FetchError::Connection(_))));
}

//! Who calls when a load balancer stands in front: by the PROXY protocol and by `X-Forwarded-For`.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Act, Client, Gateway, Got, Sent, Setup, Upstream, eventually, ok};

/// The client that the headers name.
const CLIENT: &str = "203.0.113.7";

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n";

/// The same in version 2, with an extension.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xcb\0\x71\x07\xc0\0\x02\x01\xc3\x50\x01\xbb\x01\0\x02h2";

/// The head of a connection that a load balancer makes to see whether we live.
const HEALTH_CHECK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

struct World {
    gateway: Gateway,
    seen: Arc<Mutex<Vec<Got>>>,
    _backend: Upstream,
}

/// A gateway with these keys of its listener, and these at the top.
async fn world(listener: &str, top: &str) -> World {
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let backend = Upstream::start(move |got| {
        notes.lock().unwrap().push(got);
        async { vec![Act::Send(ok("{}"))] }
    })
    .await;
    let mut setup = Setup::at(backend.address, backend.address, "");
    setup.store = "memory: {}".to_owned();
    setup.listeners = format!("{{ address: \"127.0.0.1:0\"{listener} }}");
    setup.chains =
        "  open:\n    - operation_id: {}\n    - ip_deny: { addresses: [198.51.100.0/24] }".to_owned();
    setup.routes = "  - { path: /seen, upstream: openim_api, chain: open, public: true }".to_owned();
    setup.more = top.to_owned();
    World { gateway: setup.start().await, seen, _backend: backend }
}

impl World {
    /// Sends a header and a request; the status, and who OpenIM was told is calling.
    async fn seen(&self, header: &[u8], sent: Sent) -> (u16, String) {
        let mut client = Client::connect(self.gateway.address).await;
        client.write(header).await;
        let operation = format!("op-{}", self.gateway.access_log().len());
        let status = client.send(&sent.header("operationID", &operation)).await.status;
        let line = self.gateway.line(&operation).await;
        let logged = line["client"].as_str().unwrap().to_owned();
        if status == 200 {
            let got = self.seen.lock().unwrap().pop().unwrap();
            for name in ["x-forwarded-for", "x-real-ip"] {
                assert_eq!(got.header(name), Some(&*logged), "{name}");
            }
        }
        (status, logged)
    }

    async fn refused(&self, reason: &str) {
        let line = format!("imgate_connections_refused_total{{reason=\"{reason}\"}} 1");
        eventually(&line, async || self.gateway.admin_get("/metrics").await.text().contains(&line)).await;
    }
}

fn get() -> Sent {
    Sent::new("GET", "/seen")
}

#[tokio::test]
async fn the_client_is_whom_the_load_balancer_names() {
    let w = world(", proxy_protocol: { from: [127.0.0.1], timeout: 300ms }", "").await;
    for header in [LINE, BINARY] {
        assert_eq!(w.seen(header, get()).await, (200, CLIENT.to_owned()));
    }
    assert_eq!(w.seen(HEALTH_CHECK, get()).await, (200, "127.0.0.1".to_owned()));
    let denied = b"PROXY TCP4 198.51.100.9 192.0.2.1 50000 443\r\n";
    assert_eq!(w.seen(denied, get()).await, (403, "198.51.100.9".to_owned()));
}

#[tokio::test]
async fn a_connection_without_a_whole_header_is_closed() {
    let w = world(", proxy_protocol: { from: [127.0.0.1], timeout: 300ms }", "").await;
    for (bytes, reason) in
        [(get().wire(), "proxy_protocol_malformed"), (BINARY[..20].to_vec(), "proxy_protocol_late")]
    {
        let mut client = Client::connect(w.gateway.address).await;
        client.write(&bytes).await;
        assert!(client.is_closed().await, "{reason}");
        w.refused(reason).await;
    }
    let mut gone = TcpStream::connect(w.gateway.address).await.unwrap();
    gone.write_all(&BINARY[..20]).await.unwrap();
    drop(gone);
    w.refused("proxy_protocol_gone").await;
    assert!(w.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_the_load_balancer_may_connect() {
    let w = world(", proxy_protocol: { from: [10.0.0.0/8] }", "").await;
    let mut client = Client::connect(w.gateway.address).await;
    client.write(LINE).await;
    assert!(client.is_closed().await);
    w.refused("proxy_protocol_stranger").await;
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_up_to_the_first_that_is_none() {
    let w = world("", "trusted_proxies: { addresses: [127.0.0.1, 10.0.0.0/8] }").await;
    let from = async |list: &str| w.seen(b"", get().header("X-Forwarded-For", list)).await;
    assert_eq!(from("203.0.113.7").await, (200, CLIENT.to_owned()));
    assert_eq!(from("198.51.100.9, 203.0.113.7, 10.0.0.2").await, (200, CLIENT.to_owned()));
    assert_eq!(from("203.0.113.7, junk").await, (200, "127.0.0.1".to_owned()));
    assert_eq!(from("198.51.100.9").await, (403, "198.51.100.9".to_owned()));
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let w = world("", "trusted_proxies: { addresses: [10.0.0.0/8] }").await;
    let sent = get().header("X-Forwarded-For", "198.51.100.9").header("X-Real-IP", "198.51.100.9");
    assert_eq!(w.seen(b"", sent).await, (200, "127.0.0.1".to_owned()));
}

//! Streams: links to objects without a credential, bytes as they come both ways, and what is refused.

use std::sync::{Arc, Mutex};

use openim_standin::{Answer, KNOWN_OBJECT, Options, Standin};
use tokio::io::AsyncWriteExt as _;

use crate::support::ws::{Door, read_exactly};
use crate::support::{Act, Client, Closed, Gateway, Got, Sent, Setup, Upstream, ok};

const MIB: usize = 1024 * 1024;

/// What may be uploaded at once in these tests.
const MAX_BODY: usize = 64 * 1024;

/// A gateway in front of this API, with one more streamed route that takes uploads.
async fn before(api: std::net::SocketAddr) -> Gateway {
    let mut setup = Setup::at(api, api, "");
    setup.store = "memory: {}".to_owned();
    setup.routes =
        "  - { prefix: /upload/, methods: [PUT, POST], upstream: openim_api, stream: true, public: true, max_body: 64KiB }"
            .to_owned();
    setup.more = "cors: { allow_origins: [\"https://app.example.com\"] }".to_owned();
    setup.start().await
}

async fn world() -> (Standin, Gateway) {
    let openim = Standin::start(Options::default()).await.unwrap();
    let gateway = before(openim.api()).await;
    (openim, gateway)
}

/// The most memory the process had so far, in bytes. Source: proc(5), `VmHWM`.
pub(crate) fn peak_memory(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn an_object_is_a_redirect_that_passes_untouched_and_needs_no_credential() {
    let (openim, gateway) = world().await;
    let location = "http://10.0.0.7:9000/im/ann/%E5%9B%BE.png?X-Amz-Signature=a%2Fb+c&x=%%20&y;z";
    let headers = vec![("Location".to_owned(), location.to_owned()), ("X-Kept".to_owned(), "1".to_owned())];
    openim.answer_next("/object/ann/a b.png", Answer::Reply { status: 302, headers, body: "".into() });
    let reply = gateway.send(&Sent::new("GET", "/object/ann/a%20b.png?type=image&w=1%2F2")).await;
    assert_eq!((reply.status, reply.header("location")), (302, Some(location)));
    assert_eq!(reply.header("x-kept"), Some("1"));
    let seen = openim.records().pop().unwrap();
    assert_eq!(seen.target, "/object/ann/a%20b.png?type=image&w=1%2F2");

    let genuine = gateway.send(&Sent::new("GET", &format!("/object/{KNOWN_OBJECT}"))).await;
    assert_eq!(genuine.status, 302);
    assert!(genuine.header("location").unwrap().contains("X-Amz-Signature="));
    assert_eq!(gateway.send(&Sent::new("GET", "/object/no/such")).await.status, 404);
}

#[tokio::test]
async fn a_head_has_no_body_and_leaves_its_connection_usable() {
    let upstream = Upstream::start(|got| async move {
        let whole = got.head.starts_with("GET");
        let body = if whole { "0123456789" } else { "" };
        vec![Act::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{body}").into_bytes())]
    })
    .await;
    let gateway = before(upstream.address).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..5 {
        let head = client.send(&Sent::new("HEAD", "/object/x")).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
        assert_eq!(client.send(&Sent::new("GET", "/object/x")).await.text(), "0123456789");
    }
}

#[tokio::test]
async fn other_routes_of_openim_do_not_exist() {
    let (openim, gateway) = world().await;
    let cases = [
        ("GET", "/third/prometheus", 404),
        ("GET", "/prometheus_discovery/api", 404),
        ("GET", "/debug/pprof/", 404),
        ("GET", "/metrics", 404),
        ("GET", "/object", 404),
        ("GET", "/Object/x", 404),
        ("GET", "/", 404),
        ("POST", "/object/x", 405),
        ("DELETE", "/object/x", 405),
        ("OPTIONS", "/object/x", 405),
    ];
    for (method, target, status) in cases {
        let reply = gateway.send(&Sent::new(method, target)).await;
        assert_eq!(reply.verdict(), (status, 20201), "{method} {target}");
        assert_eq!(reply.header("allow"), (status == 405).then_some("GET, HEAD"), "{method} {target}");
    }
    assert!(openim.records().is_empty(), "something reached OpenIM");
}

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_reaches_nobody() {
    let (openim, gateway) = world().await;
    let paths = [
        "/object/../auth/get_admin_token",
        "/object/./x",
        "/object/x/..",
        "/object//x",
        "//object/x",
        "/object/%2e%2e/auth",
        "/object/.%2E/auth",
        "/object/a%2fb",
        "/object/a%5cb",
        r"/object/a\b",
        "/object/x;y",
        "/object/x%3by",
        "/object/%41",
        "/object/%00",
        "/object/%0a",
        "/object/%25",
        "/object/%",
        "/object/%zz",
        "/%6fbject/x",
        "/object/x#../y",
    ];
    for path in paths {
        let reply = gateway.send(&Sent::new("GET", path)).await;
        assert_eq!(reply.verdict(), (400, 20202), "{path}: {}", reply.text());
    }
    // Escapes of what cannot stand in a path bare are fine, and so is UTF-8 in them.
    for path in ["/object/a%20b", "/object/%E5%9B%BE", "/object/%e5%9b%be", "/object/a+b", "/object/a:b@c"] {
        assert_eq!(gateway.send(&Sent::new("GET", path)).await.status, 404, "{path}");
    }
    let seen: Vec<String> = openim.records().iter().map(|r| r.target.clone()).collect();
    let passed = ["/object/a%20b", "/object/%E5%9B%BE", "/object/%e5%9b%be", "/object/a+b", "/object/a:b@c"];
    assert_eq!(seen, passed);
}

#[tokio::test]
async fn a_large_body_passes_whole_in_little_memory() {
    let body: Arc<Vec<u8>> = Arc::new((0..64 * MIB).map(|i| (i / 1021 % 251) as u8).collect());
    let source = Arc::clone(&body);
    let upstream = Upstream::start(move |got| {
        let body = Arc::clone(&source);
        async move {
            if got.head.contains("/counted") {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                return vec![Act::Send(head.into_bytes()), Act::Send(body.to_vec())];
            }
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            let chunks = body.chunks(MIB - 7).map(|piece| Act::Send(chunk(piece)));
            let end = Act::Send(b"0\r\n\r\n".to_vec());
            [Act::Send(head)].into_iter().chain(chunks).chain([end]).collect()
        }
    })
    .await;
    let gateway = before(upstream.address).await;
    let mut client = Client::connect(gateway.address).await;
    client.send(&Sent::new("GET", "/nowhere")).await;
    let at_first = peak_memory(&gateway);
    for path in ["/object/counted", "/object/chunked"] {
        let reply = client.send(&Sent::new("GET", path)).await;
        assert!(reply.body == *body, "{path}: {} bytes", reply.body.len());
    }
    let grown = peak_memory(&gateway).saturating_sub(at_first);
    assert!(grown < 16 * MIB, "grown by {grown} bytes");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_a_whole_one() {
    let upstream = Upstream::start(|got| async move {
        let framing = if got.head.contains("/counted") {
            "Content-Length: 100000\r\n\r\n"
        } else {
            "Transfer-Encoding: chunked\r\n\r\n186a0\r\n"
        };
        let head = format!("HTTP/1.1 200 OK\r\n{framing}");
        vec![Act::Send(head.into_bytes()), Act::Send(vec![b'x'; 50_000]), Act::Close]
    })
    .await;
    let gateway = before(upstream.address).await;
    for (path, name) in [("/object/counted", "op-counted"), ("/object/chunked", "op-chunked")] {
        let mut client = Client::connect(gateway.address).await;
        client.write(&Sent::new("GET", path).header("operationID", name).wire()).await;
        assert!(client.try_read("GET").await.is_none(), "{path}");
        let line = gateway.line(name).await;
        assert_eq!(
            (&line["cause"], &line["status"]),
            (&"upstream_unreachable".into(), &200.into()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn an_upload_passes_up_to_its_bound() {
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let upstream = Upstream::start(move |got| {
        notes.lock().unwrap().push(got);
        async { vec![Act::Send(ok("{}"))] }
    })
    .await;
    let gateway = before(upstream.address).await;
    let body: Vec<u8> = (0..MAX_BODY).map(|i| (i % 253) as u8).collect();
    let mut client = Client::connect(gateway.address).await;
    for size in [0, 1, MAX_BODY - 1, MAX_BODY] {
        let reply = client.send(&Sent::new("PUT", "/upload/x").body(&body[..size])).await;
        assert_eq!(reply.status, 200, "{size}");
        assert_eq!(seen.lock().unwrap().pop().unwrap().body, &body[..size], "{size}");
    }
    for size in [MAX_BODY + 1, 2 * MAX_BODY, 100 * MAX_BODY] {
        let mut client = Client::connect(gateway.address).await;
        let sent = Sent::new("PUT", "/upload/x").header("operationID", "op-large").body(&vec![1; size]);
        // Only the head and the first byte too many: the gateway need not wait for the rest.
        let wire = sent.wire();
        client.write(&wire[..wire.len() - size + MAX_BODY + 1]).await;
        let reply = client.read("PUT").await;
        assert_eq!(reply.verdict(), (413, 20203), "{size}");
        assert_eq!(reply.header("operationID"), Some("op-large"));
        assert!(client.is_closed().await);
    }
    assert!(seen.lock().unwrap().is_empty(), "a body beyond the bound arrived whole");
}

/// Reads a chunked body up to its end.
async fn read_chunked(upstream: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    while !body.ends_with(b"\r\n0\r\n\r\n") {
        body.extend(read_exactly(upstream, 1).await);
    }
    body
}

#[tokio::test]
async fn a_chunked_upload_ends_once_and_has_the_same_bound() {
    let door = Door::open().await;
    let gateway = before(door.address()).await;
    let mut client = Client::connect(gateway.address).await;
    let start = Sent::new("PUT", "/upload/x").header("Transfer-Encoding", "chunked").wire();
    client.write(&start).await;
    client.write(b"5\r\nhello\r\n").await;
    let (mut upstream, head) = door.accept().await;
    assert!(head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    client.write(b"0\r\n\r\n").await;
    assert_eq!(read_chunked(&mut upstream).await, b"5\r\nhello\r\n0\r\n\r\n");
    upstream.write_all(&ok("{}")).await.unwrap();
    assert_eq!(client.read("PUT").await.status, 200);
    assert_eq!(upstream.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    let mut client = Client::connect(gateway.address).await;
    client.write(&start).await;
    let chunk = [b"8000\r\n", &[b'x'; 0x8000][..], b"\r\n"].concat();
    for _ in 0..3 {
        client.write(&chunk).await;
    }
    assert_eq!(client.read("PUT").await.verdict(), (413, 20203));
}

#[tokio::test]
async fn a_client_that_asks_before_it_uploads_is_told_to_go_on() {
    let upstream =
        Upstream::start(|got| async move { vec![Act::Send(ok(&got.body.len().to_string()))] }).await;
    let gateway = before(upstream.address).await;
    let wire = Sent::new("PUT", "/upload/x").header("Expect", "100-continue").body(b"hello").wire();
    let (head, body) = wire.split_at(wire.len() - 5);
    let mut client = Client::connect(gateway.address).await;
    client.write(head).await;
    assert_eq!(client.read("PUT").await.status, 100);
    client.write(body).await;
    assert_eq!(client.read("PUT").await.text(), "5");

    let large = Sent::new("PUT", "/upload/x")
        .header("Expect", "100-continue")
        .header("Content-Length", &(MAX_BODY + 1).to_string());
    let mut client = Client::connect(gateway.address).await;
    client.write(&large.wire()).await;
    assert_eq!(client.read("PUT").await.verdict(), (413, 20203));
}

#[tokio::test]
async fn streamed_answers_have_our_cors_headers_alone() {
    let (openim, gateway) = world().await;
    let theirs =
        ["Access-Control-Allow-Origin", "Access-Control-Allow-Headers", "Access-Control-Allow-Credentials"];
    for (origin, allowed) in [("https://app.example.com", true), ("https://evil.example", false)] {
        let headers = theirs.map(|name| (name.to_owned(), "*".to_owned())).into();
        openim.answer_next("/object/x", Answer::Reply { status: 200, headers, body: "x".into() });
        let reply = gateway.send(&Sent::new("GET", "/object/x").header("Origin", origin)).await;
        assert_eq!(reply.text(), "x");
        assert_eq!(reply.header("access-control-allow-origin"), allowed.then_some(origin));
        assert_eq!(reply.copies("access-control-allow-origin"), usize::from(allowed));
        assert_eq!(reply.copies("access-control-allow-credentials"), 0);
        assert!(reply.header("operationID").is_some());
    }
}

#[tokio::test]
async fn a_streamed_request_carries_our_headers_and_none_of_the_clients_copies() {
    let (openim, gateway) = world().await;
    let forged = [
        "X-Request-Api",
        "X-Forwarded-For",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "X-Real-IP",
        "Forwarded",
        "True-Client-IP",
        "X-Client-IP",
        "X-Imgate-Assertion",
        "Keep-Alive",
        "TE",
    ];
    let sent = forged.iter().fold(Sent::new("GET", "/object/x"), |sent, name| sent.header(name, "evil"));
    let sent = sent.header("Connection", "close, X-App").header("X-App", "evil").header("X-Kept", "1");
    gateway.send(&sent.header("Upgrade", "websocket")).await;
    let seen = openim.records().pop().unwrap();
    let evil: Vec<_> = seen.headers.iter().filter(|(_, value)| value.contains("evil")).collect();
    assert!(evil.is_empty(), "{evil:?}");
    assert_eq!(seen.copies("upgrade"), 0);
    for (name, value) in [
        ("x-request-api", "https://im.example.com"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-kept", "1"),
        ("host", "im.example.com"),
    ] {
        assert_eq!((seen.copies(name), seen.header(name)), (1, Some(value)), "{name}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_away_is_a_502_with_the_name_of_the_operation() {
    let gone = Closed::new();
    let gateway = before(gone.address()).await;
    for sent in [Sent::new("GET", "/object/x"), Sent::new("PUT", "/upload/x").body(b"hello")] {
        let reply = gateway
            .send(&sent.header("operationID", "op-gone").header("Origin", "https://app.example.com"))
            .await;
        assert_eq!(reply.verdict(), (502, 20402));
        assert_eq!(reply.header("operationID"), Some("op-gone"));
        assert_eq!(reply.copies("access-control-allow-origin"), 1);
        assert!(reply.header("retry-after").is_some());
    }
    let line = gateway.line("op-gone").await;
    assert_eq!((&line["cause"], &line["status"]), (&"upstream_unreachable".into(), &502.into()));
}

//! How much, how slowly, and how it may end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::storage::{self, Signed, Storage};
use super::{HOST, ask, before, by, put_and_get};
use crate::objects::peak_memory;
use crate::support::ws::{Door, read_exactly, read_to_end};
use crate::support::{Act, Client, Sent, Upstream};

const MIB: usize = 1024 * 1024;
/// The size of a large object, in MiB.
const LARGE: usize = 1024;

/// How long an end may take to get through.
const PATIENCE: Duration = Duration::from_secs(15);

/// How much memory a stream may cost, however long it is.
const COST: usize = 16 * MIB;

/// The n-th MiB of a large object.
fn stamp(piece: &mut [u8], n: usize) {
    piece[..8].copy_from_slice(&n.to_be_bytes());
    piece[MIB - 8..].copy_from_slice(&(!n).to_be_bytes());
}

async fn upload(address: std::net::SocketAddr, url: &Signed) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = (LARGE * MIB).to_string();
    let head = by("PUT", url).header("Content-Length", &length).header("Expect", "100-continue");
    stream.write_all(&head.header("Connection", "close").wire()).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 25).await, b"HTTP/1.1 100 Continue\r\n\r\n");
    let mut piece = vec![0x5a; MIB];
    for n in 0..LARGE {
        stamp(&mut piece, n);
        stream.write_all(&piece).await.unwrap();
    }
    String::from_utf8(read_to_end(&mut stream).await).unwrap()
}

async fn download(address: std::net::SocketAddr, url: &Signed) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&by("GET", url).header("Connection", "close").wire()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read_exactly(&mut stream, 1).await);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (mut piece, mut wanted) = (vec![0; MIB], vec![0x5a; MIB]);
    for n in 0..LARGE {
        stream.read_exact(&mut piece).await.unwrap();
        stamp(&mut wanted, n);
        assert!(piece == wanted, "MiB {n} differs");
    }
    assert_eq!(stream.read(&mut piece).await.unwrap(), 0);
}

#[tokio::test]
async fn a_gigabyte_passes_both_ways_in_little_memory() {
    let storage = Storage::start();
    let gateway = before(storage.address).start().await;
    let [put, get, head] = put_and_get(HOST, "data/hash/large");
    ask(&gateway, &by("HEAD", &head)).await;
    let at_first = peak_memory(&gateway);
    let stored = upload(gateway.address, &put).await;
    assert!(stored.starts_with("HTTP/1.1 200 "), "{stored}");
    let after_upload = peak_memory(&gateway).saturating_sub(at_first);
    download(gateway.address, &get).await;
    let after_both = peak_memory(&gateway).saturating_sub(at_first);
    assert!(after_upload < COST && after_both < COST, "grown by {after_upload}, then {after_both} bytes");
}

#[tokio::test]
async fn a_client_that_pauses_is_not_taken_for_a_silent_server() {
    let door = Door::open().await;
    let mut setup = before(door.address());
    setup.upstreams = setup.upstreams.replace("read_timeout: 30s", "read_timeout: 100ms");
    let gateway = setup.start().await;
    let mut client = Client::connect(gateway.address).await;
    client.write(&Sent::new("PUT", "/openim/x").header("Content-Length", "10").wire()).await;
    client.write(b"01234").await;
    let (mut upstream, _) = door.accept().await;
    assert_eq!(read_exactly(&mut upstream, 5).await, b"01234");
    // The pause is what is tested: it is longer than the server may be silent on its own account.
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.write(b"56789").await;
    assert_eq!(read_exactly(&mut upstream, 5).await, b"56789");
    upstream.write_all(b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.read("PUT").await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_little_and_is_cut() {
    let asked = Arc::new(Notify::new());
    let tell = Arc::clone(&asked);
    let upstream = Upstream::start(move |_| {
        let tell = Arc::clone(&tell);
        async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 256 * MIB).into_bytes();
            let body = std::iter::repeat_n(Act::Send(vec![b'x'; MIB]), 256);
            [Act::Send(head), Act::Tell(tell)].into_iter().chain(body).collect()
        }
    })
    .await;
    let mut setup = before(upstream.address);
    setup.more = "limits: { client_timeout: 1s }".to_owned();
    let gateway = setup.start().await;
    let mut client = Client::connect(gateway.address).await;
    client.send(&Sent::new("GET", "/nowhere")).await;
    let at_first = peak_memory(&gateway);
    client.write(&Sent::new("GET", "/openim/x").header("operationID", "op-deaf").wire()).await;
    asked.notified().await;
    let line = gateway.line("op-deaf").await;
    assert!(line["bytes_out"].as_u64().unwrap() < 64 * MIB as u64, "{line}");
    assert!(peak_memory(&gateway).saturating_sub(at_first) < COST);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_never_a_whole_one() {
    let door = Door::open().await;
    let gateway = before(door.address()).start().await;
    for framing in ["Content-Length", "Transfer-Encoding"] {
        let (value, body) =
            if framing == "Content-Length" { ("1000", "hello") } else { ("chunked", "5\r\nhello\r\n") };
        let mut client = Client::connect(gateway.address).await;
        client.write(&Sent::new("PUT", "/openim/x").header(framing, value).wire()).await;
        client.write(body.as_bytes()).await;
        let (mut upstream, _) = door.accept().await;
        assert_eq!(read_exactly(&mut upstream, body.len()).await, body.as_bytes());
        drop(client);
        assert_eq!(read_to_end(&mut upstream).await, b"", "{framing}");
    }
}

#[tokio::test]
async fn a_storage_that_breaks_off_under_an_upload_is_a_502() {
    let door = Door::open().await;
    let gateway = before(door.address()).start().await;
    let mut client = Client::connect(gateway.address).await;
    let sent =
        Sent::new("PUT", "/openim/x").header("Content-Length", "1000").header("operationID", "op-gone");
    client.write(&sent.wire()).await;
    client.write(b"hello").await;
    let (mut upstream, _) = door.accept().await;
    read_exactly(&mut upstream, 5).await;
    drop(upstream);
    let reply = client.read("PUT").await;
    assert_eq!(reply.verdict(), (502, 20402), "{}", reply.text());
    assert!(client.is_closed().await);
    assert_eq!(gateway.line("op-gone").await["cause"], "upstream_unreachable");
}

#[tokio::test]
async fn a_download_that_nobody_takes_any_more_ends_at_the_storage() {
    let door = Door::open().await;
    let gateway = before(door.address()).start().await;
    let mut client = Client::connect(gateway.address).await;
    client.write(&Sent::new("GET", "/openim/x").wire()).await;
    let (mut upstream, _) = door.accept().await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nx").await.unwrap();
    drop(client);
    let writing = async { while upstream.write_all(&[b'x'; 4096]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, writing).await.expect("the storage's connection ends");
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_is_read_reaches_the_client() {
    const REFUSAL: &[u8] =
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n\
        Content-Length: 40\r\n\r\n<Error><Code>AccessDenied</Code></Error>";
    let door = Door::open().await;
    let gateway = before(door.address()).start().await;
    let mut client = Client::connect(gateway.address).await;
    let length = (64 * MIB).to_string();
    client.write(&Sent::new("PUT", "/openim/x").header("Content-Length", &length).wire()).await;
    client.write(&[b'x'; 4096]).await;
    let (mut upstream, _) = door.accept().await;
    upstream.write_all(REFUSAL).await.unwrap();
    upstream.shutdown().await.unwrap();
    let reply = client.read("PUT").await;
    assert_eq!((reply.status, reply.header("content-type")), (403, Some("application/xml")));
}

#[tokio::test]
async fn a_refused_upload_of_a_gigabyte_is_told_so_by_a_real_storage() {
    let storage = Storage::start();
    let gateway = before(storage.address).start().await;
    let put = storage::urls("storage.internal", &[("put_object", json!({ "Key": "x" }))]).remove(0);
    let put = Signed { host: HOST.to_owned(), ..put };
    let mut client = Client::connect(gateway.address).await;
    let length = (LARGE * MIB).to_string();
    client.write(&by("PUT", &put).header("Content-Length", &length).wire()).await;
    client.write(&vec![b'x'; MIB / 4]).await;
    let reply = client.read("PUT").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("<Code>SignatureDoesNotMatch</Code>"), "{}", reply.text());
}

//! A request that the front door lets in means to Pingora's reader what it meant to the guard: the same
//! target, the same headers, and a body that ends at the same byte.

#![no_main]

use std::sync::LazyLock;

use bytes::BytesMut;
use imgate::front::frame::Frame;
use imgate::front::guard::{HeadLimits, Scan, judge};
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::v1::server::HttpSession;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits::default();
    let Ok(Some(span)) = Scan::default().advance(data, &limits) else { return };
    let head = &data[span.begin..span.end];
    let Ok(mut frame) = judge(head, &limits) else { return };
    // However it arrives, it is the same head.
    let mut scan = Scan::default();
    let first_word = (1..=data.len()).map(|n| scan.advance(&data[..n], &limits)).find(|step| *step != Ok(None));
    assert_eq!(first_word, Some(Ok(Some(span))));
    let rest = &data[span.end..];
    let Ok(body) = frame.take(rest) else { return };
    if frame.is_done() {
        RUNTIME.block_on(reads_the_same(head, &rest[..body], &frame));
    }
});

async fn reads_the_same(head: &[u8], body: &[u8], frame: &Frame) {
    let (mut client, server) = tokio::io::duplex(64);
    let mut session = HttpSession::new(Box::new(server));
    session.set_pipelined_prefix(BytesMut::from(&[head, body].concat()[..]));
    client.shutdown().await.unwrap();
    assert_eq!(session.read_request().await.unwrap(), Some(head.len()));

    let line = head.split(|b| *b == b'\r').next().unwrap();
    let mut words = line.split(|b| *b == b' ');
    let read = session.req_header();
    assert_eq!(read.method.as_str().as_bytes(), words.next().unwrap());
    assert_eq!(read.raw_path(), words.next().unwrap());
    let written = head.windows(2).filter(|end| end == b"\r\n").count() - 2;
    assert_eq!(read.headers.len(), written);
    assert!(read.headers.get_all("host").iter().count() == 1);
    let chunked = matches!(frame, Frame::Chunked(_));
    assert_eq!(read.headers.contains_key("transfer-encoding"), chunked);

    // All of the body is read, and it ends where the frame ended.
    let mut length = 0;
    while let Some(piece) = session.read_body_bytes().await.unwrap() {
        length += piece.len();
    }
    assert!(session.is_body_done());
    if !chunked {
        assert_eq!(length, body.len());
    }
    session.set_server_keepalive(Some(60));
    session.set_pipelining_enabled(true);
    if let Ok(Some(reusable)) = session.reuse().await {
        assert!(reusable.into_parts().1.is_none(), "something was read beyond the request");
    }
}

//! `forward/*`, `exchange/decode`, `envelope/err_code` and `reply/refuse`: what is done to the bytes of
//! a request that is forwarded and of its answer, without the sockets between.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::Criterion;
use http::{HeaderValue, Method};
use imgate::forward::{self, Ours};
use imgate::{envelope, reply};
use imgate_filters::cors;
use imgate_filters::reject::{Answers, Cause, Hint, Reject};

use crate::arrivals::{Arrivals, CLIENT, MESSAGE, NOW};
use crate::decode::{Chunk, Framing, Garbled, Step};
use crate::drive::{BATCH, arrived_after, chain};
use crate::world::World;

/// What OpenIM answers to most calls, 188 bytes: the answer of the side-by-side measurement is as long.
const ANSWER: &str = concat!(
    r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"serverMsgID":"#,
    r#""3f2a9d0e5b7c4d61","clientMsgID":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","sendTime":1753300000123,"#,
    r#""modify":null,"seqs":{"min":1,"max":20}}}"#
);

pub(crate) fn bench(criterion: &mut Criterion) {
    forwarding(criterion);
    decoding(criterion);
    err_codes(criterion);
    refusals(criterion);
}

fn forwarding(criterion: &mut Criterion) {
    let world = World::new();
    let arrival = Arrivals::posts(MESSAGE, world.session, world.key()).next();
    let user = "- operation_id: {}\n- verify_signature: {}\n- resolve_token: {}\n- strip_credentials: {}\n- inject_token: {}";
    let passed = arrived_after(&chain(user, &world.deps), arrival.clone()).head;
    let ours = Ours::new(HeaderValue::from_static("https://im.example.com"), "https");
    let mut group = criterion.benchmark_group("forward");
    group.bench_function("clean", |b| {
        b.iter_batched_ref(|| arrival.head.clone(), forward::clean, BATCH);
    });
    group.bench_function("write_request", |b| {
        b.iter(|| {
            let (head, body) = (black_box(&passed), Some(black_box(MESSAGE.as_bytes())));
            forward::write_request(head, b"/msg/newest_seq", body, &ours, CLIENT)
        });
    });
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange/decode");
    let head = format!(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/json; charset=utf-8\r\n\
         Date: Sat, 21 Nov 2026 05:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
        ANSWER.len()
    );
    group.bench_function("head", |b| b.iter(|| framing(black_box(head.as_bytes()))));
    assert_eq!(framing(head.as_bytes()), Ok(Framing::Length(ANSWER.len() as u64)));

    let mut body = |name: &str, wire: &[u8], framing: fn() -> Framing| {
        assert!(decode(framing(), &mut BytesMut::from(wire)) > 0, "{name}");
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| BytesMut::from(wire), |buf| decode(framing(), buf), BATCH);
        });
    };
    body("length_188", ANSWER.as_bytes(), || Framing::Length(ANSWER.len() as u64));
    // Go sends what is longer than its buffer in chunks of 2 KiB.
    let chunk = format!("800\r\n{}\r\n", "x".repeat(2048));
    body("chunked_8k", format!("{}0\r\n\r\n", chunk.repeat(4)).as_bytes(), || Framing::Chunked(Chunk::Size));
    group.finish();
}

/// Parses a head as the exchange does and reads its framing.
fn framing(head: &[u8]) -> Result<Framing, Garbled> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(head).unwrap();
    Framing::of(&parsed, &Method::POST)
}

/// Takes a body apart to its end; how many bytes it had.
fn decode(mut framing: Framing, buf: &mut BytesMut) -> usize {
    let mut taken = 0;
    loop {
        match framing.step(buf).unwrap() {
            Step::Data(data) => taken += data.len(),
            Step::End => return taken,
            Step::More => panic!("the body is all there"),
        }
    }
}

fn err_codes(criterion: &mut Criterion) {
    let late = format!(r#"{{"data":{{"text":"{}"}},"errCode":1501,"errMsg":""}}"#, "x".repeat(2048));
    let refusal = r#"{"errCode":1501,"errMsg":"TokenExpiredError","errDlt":"token is expired"}"#;
    let cases = [
        ("success_188", ANSWER, Some(0)),
        ("refusal", refusal, Some(1501)),
        ("code_last_2k", &late, Some(1501)),
        ("no_envelope", "404 page not found", None),
    ];
    let mut group = criterion.benchmark_group("envelope/err_code");
    for (name, body, code) in cases {
        assert_eq!(envelope::err_code(body.as_bytes()), code, "{name}");
        group.bench_function(name, |b| b.iter(|| envelope::err_code(black_box(body.as_bytes()))));
    }
    group.finish();
}

fn refusals(criterion: &mut Criterion) {
    let cors = cors::Policy {
        origins: cors::Origins::Any,
        allow_headers: None,
        exposed: HeaderValue::from_static("operationID"),
        credentials: false,
        max_age: Duration::from_secs(600),
    };
    let (answers, origin) = (Answers::default(), HeaderValue::from_static("https://app.example.com"));
    let operation_id = HeaderValue::from_static("5a3f0d7e-8f8b-4a3c-9d0e-2f6f5b7a9c11");
    let to = reply::To { answers: &answers, cors: &cors, origin: Some(&origin), operation_id: &operation_id };
    let cases = [
        ("signature_mismatch", Reject::new(Cause::SignatureMismatch, "signature_mismatch")),
        ("clock_skew", Reject::new(Cause::ClockSkew, "clock_skew").with(Hint::ServerTime(NOW))),
    ];
    let mut group = criterion.benchmark_group("reply/refuse");
    for (name, reject) in cases {
        group.bench_function(name, |b| b.iter(|| reply::refuse(black_box(&reject), to)));
    }
    group.finish();
}

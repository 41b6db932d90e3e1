//! Requests as they reach a chain: twenty headers, a body, signed just now with a nonce of their own.
//!
//! Nothing that a running gateway sees only once is measured twice: every request has its own nonce,
//! and the clock advances, so that the memory of nonces turns over as it does in production.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use imgate_filters::context::{OperationId, Place};
use imgate_filters::{Body, Context, Reject};
use imgate_identity::session::SessionId;
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::time::UnixTime;
use pingora_http::RequestHeader;

/// The name clients sign for.
pub(crate) const HOST: &str = "im.example.com";

/// The second in which a bench begins.
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

/// The bench's clock, in seconds since the Unix epoch.
static CLOCK: AtomicU64 = AtomicU64::new(NOW.0);

/// Reads the bench's clock, at the price of reading the real one.
fn clock() -> UnixTime {
    black_box(UnixTime::now());
    UnixTime(CLOCK.load(Ordering::Relaxed))
}

/// Where requests come from.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));

/// How many headers a request has, whatever its kind.
pub(crate) const HEADERS: usize = 20;

/// How many requests arrive in a second of the bench's clock.
const RATE: u64 = 5_000;

/// A chat message of 243 bytes, the body of the side-by-side measurement too.
pub(crate) const MESSAGE: &str = concat!(
    r#"{"sendID":"user_1","recvID":"user_2","groupID":"","senderPlatformID":1,"#,
    r#""content":{"content":"hello, this is a chat message of an ordinary length for the benchmark"},"#,
    r#""contentType":101,"sessionType":1,"isOnlineOnly":false,"notOfflinePush":false}"#
);

/// A chat message of `size` bytes.
pub(crate) fn message_of(size: usize) -> String {
    let (before, after) = (r#"{"sendID":"u1","recvID":"u2","contentType":101,"content":""#, r#""}"#);
    format!("{before}{}{after}", "x".repeat(size - before.len() - after.len()))
}

/// What an app in a browser sends, less what the signature adds.
const SENT: [(&str, &str); 20] = [
    ("Host", HOST),
    ("User-Agent", "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile"),
    ("Accept", "application/json, text/plain, */*"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Content-Type", "application/json"),
    ("operationID", "5a3f0d7e-8f8b-4a3c-9d0e-2f6f5b7a9c11"),
    ("Origin", "https://app.example.com"),
    ("Referer", "https://app.example.com/chats/u2"),
    ("Cookie", "theme=dark; consent=1; sid=4f9c2b7a1d3e5f60"),
    ("Authorization", "Bearer 4f9c2b7a1d3e5f604f9c2b7a1d3e5f60"),
    ("Cache-Control", "no-cache"),
    ("Sec-Fetch-Site", "same-site"),
    ("Sec-Fetch-Mode", "cors"),
    ("Sec-Fetch-Dest", "empty"),
    ("X-App-Version", "7.4.1"),
    ("Content-Length", "243"),
    ("X-Device-Id", "b1946ac9-2492-4d23-8f4a-6c3b1c9c1f00"),
    ("DNT", "1"),
    ("Priority", "u=1, i"),
];

/// A request as it stands before a filter.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) head: RequestHeader,
    pub(crate) body: Arrived,
    pub(crate) cx: Context,
}

/// A body that is there already, as it nearly always is for a small request.
#[derive(Clone)]
pub(crate) struct Arrived(Option<Bytes>);

#[async_trait]
impl Body for Arrived {
    fn is_announced(&self) -> bool {
        self.0.is_some()
    }

    async fn read(&mut self) -> Result<Bytes, Reject> {
        Ok(self.0.clone().unwrap_or_default())
    }

    fn limit(&mut self, _max: u64) -> Result<(), Reject> {
        Ok(())
    }

    fn replace(&mut self, body: Bytes) {
        self.0 = Some(body);
    }
}

/// One person's requests of one kind, one after the other.
pub(crate) struct Arrivals {
    method: &'static str,
    target: &'static str,
    body: Option<Bytes>,
    signer: Option<(SessionId, HttpKey)>,
    unsigned: RequestHeader,
    count: u64,
}

impl Arrivals {
    /// POSTs of `body`, signed.
    pub(crate) fn posts(body: &str, session: SessionId, key: HttpKey) -> Self {
        let body = Some(Bytes::copy_from_slice(body.as_bytes()));
        Self::new("POST", "/msg/newest_seq", body, Some((session, key)))
    }

    /// POSTs of `body`, not signed.
    pub(crate) fn unsigned(body: &str) -> Self {
        Self::new("POST", "/msg/newest_seq", Some(Bytes::copy_from_slice(body.as_bytes())), None)
    }

    /// GETs, signed.
    pub(crate) fn gets(session: SessionId, key: HttpKey) -> Self {
        Self::new("GET", "/third/config?kind=client&version=12", None, Some((session, key)))
    }

    /// Handshakes of WebSockets as OpenIM's SDKs send them; not signed.
    pub(crate) fn handshakes() -> Self {
        let target = "/ws?sendID=u1&token=aaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.cccccccccccccccc\
                      &platformID=5&operationID=1753300000000&isBackground=false&sdkVersion=3.8.3&compression=gzip&isMsgResp=true";
        Self::new("GET", target, None, None)
    }

    fn new(
        method: &'static str,
        target: &'static str,
        body: Option<Bytes>,
        signer: Option<(SessionId, HttpKey)>,
    ) -> Self {
        // The signature adds two headers, and one more if there is a body.
        let added = if signer.is_none() { 0 } else { 2 + usize::from(body.is_some()) };
        let mut unsigned = RequestHeader::build(method, target.as_bytes(), Some(HEADERS)).unwrap();
        for (name, value) in &SENT[..HEADERS - added] {
            unsigned.append_header(*name, *value).unwrap();
        }
        Self { method, target, body, signer, unsigned, count: 0 }
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Arrival {
        let now = UnixTime(NOW.0 + self.count / RATE);
        CLOCK.store(now.0, Ordering::Relaxed);
        self.count += 1;
        let mut head = self.unsigned.clone();
        if let Some((session, key)) = &self.signer {
            self.sign(&mut head, session, key, now);
        }
        assert_eq!(head.headers.len(), HEADERS);
        let operation_id = OperationId::from_client(&head.headers["operationid"])
            .unwrap_or_else(|| OperationId::generated(HeaderValue::from_static("generated")));
        let cx = Context::new(clock, CLIENT, operation_id, Place::unknown());
        Arrival { head, body: Arrived(self.body.clone()), cx }
    }

    fn sign(&self, head: &mut RequestHeader, session: &SessionId, key: &HttpKey, now: UnixTime) {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        let target = Target { method: self.method, authority: HOST, path, query };
        let nonce = Nonce::random().unwrap();
        let signed = sign::sign(key, session, &target, self.body.as_deref(), now, &nonce);
        head.append_header("Signature-Input", signed.signature_input).unwrap();
        head.append_header("Signature", signed.signature).unwrap();
        if let Some(digest) = signed.content_digest {
            head.append_header("Content-Digest", digest).unwrap();
        }
    }
}

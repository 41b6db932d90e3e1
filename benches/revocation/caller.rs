//! People who sign, and the connections on which they call without a pause.

use std::net::SocketAddr;

use imgate::envelope;
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::store::Writer;
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use openim_standin::Standin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::gateway::HOST;

/// A call that every user may make.
const PATH: &str = "/msg/newest_seq";

/// The `errCode` of a user without a token. Source: open-im-server `pkg/common/servererrs/code.go`.
const TOKEN_NOT_EXIST: i64 = 1507;

/// Somebody with a session and a token, both in the store.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) token: String,
    session: SessionId,
    secret: SessionSecret,
}

impl Person {
    pub(crate) async fn new(name: &str, writer: &Writer, openim: &Standin) -> Self {
        let (user, now) = (UserId::parse(name).unwrap(), UnixTime::now());
        let record = Record {
            user: user.clone(),
            secret: SessionSecret::random().unwrap(),
            device: "phone".into(),
            platform: Platform::try_from(2).unwrap(),
            issued_at: now,
            expires_at: UnixTime(now.0 + 24 * 3600),
            revoked_at: None,
            previous: None,
        };
        let (session, token) = (SessionId::random().unwrap(), openim.mint(name, 2));
        writer.put_session(&session, &record).await.unwrap();
        writer.put_token(&user, &token).await.unwrap();
        Self { user, token, session, secret: record.secret }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// OpenIM answered it.
    Pass,
    /// The gateway found no token.
    Refuse,
}

/// One kept connection of a person.
pub(crate) struct Caller {
    stream: TcpStream,
    person: Person,
    key: HttpKey,
    body: String,
    read: Vec<u8>,
}

impl Caller {
    pub(crate) async fn connect(gateway: SocketAddr, person: &Person) -> Self {
        let stream = TcpStream::connect(gateway).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (key, body) =
            (HttpKey::derive(&person.secret), format!(r#"{{"userID":"{}"}}"#, person.user.as_str()));
        Self { stream, person: person.clone(), key, body, read: Vec::with_capacity(4096) }
    }

    /// A request, signed now.
    pub(crate) fn request(&self) -> String {
        let target = Target { method: "POST", authority: HOST, path: PATH, query: None };
        let (body, nonce) = (Some(self.body.as_bytes()), Nonce::random().unwrap());
        let signed = sign::sign(&self.key, &self.person.session, &target, body, UnixTime::now(), &nonce);
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Signature-Input: {}\r\nSignature: {}\r\nContent-Digest: {}\r\n\r\n{}",
            self.body.len(),
            signed.signature_input,
            signed.signature,
            signed.content_digest.unwrap_or_default(),
            self.body,
        )
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call(&mut self, request: &str) -> Verdict {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.read.clear();
        loop {
            let read = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(read > 0, "the gateway closed a connection");
            if let Some((status, body)) = whole_answer(&self.read) {
                return match (status, envelope::err_code(body)) {
                    (200, Some(0)) => Verdict::Pass,
                    (401, Some(TOKEN_NOT_EXIST)) => Verdict::Refuse,
                    other => panic!("a call ended in {other:?}"),
                };
            }
        }
    }
}

/// Status and body of an answer that is there to its end.
fn whole_answer(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(used) = head.parse(bytes).unwrap() else { return None };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.expect("small answers say how long they are");
    let length: usize = std::str::from_utf8(length.value).unwrap().parse().unwrap();
    let body = bytes.get(used..used + length)?;
    Some((head.code.unwrap_or(0), body))
}

//! The script of `imgate demo --once`: what is asked, what must come back, what OpenIM must have seen.

use std::time::Duration;

use http::Method;
use openim_standin::Record;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PLATFORM, Stage};
use crate::cli::Failure;
use crate::envelope;
use crate::exchange::{Repeat, Request, exchange};
use crate::upstream::{Asker, Options, Upstream};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &[u8] = br#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10}}"#;

/// How long a frame of a socket may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One step of the script.
pub(super) struct Act {
    pub(super) what: &'static str,
    pub(super) expected: String,
    pub(super) seen: String,
}

impl Act {
    pub(super) fn new(what: &'static str, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what, expected: expected.into(), seen: seen.into() }
    }

    /// Whether what was seen is what was expected.
    pub(super) fn held(&self) -> bool {
        self.expected == self.seen
    }
}

/// Plays all steps, in order.
///
/// # Errors
/// The gateway cannot be reached at all, or this machine has no randomness to give.
pub(super) async fn play(stage: &Stage) -> Result<Vec<Act>, Failure> {
    let client = Client::of(stage);
    let mut acts = Vec::new();
    signed(stage, &client, &mut acts).await?;
    refused(stage, &client, &mut acts).await?;
    healed(stage, &client, &mut acts).await?;
    socket(stage, &mut acts).await;
    revoked(stage, &client, &mut acts).await?;
    Ok(acts)
}

async fn signed(stage: &Stage, client: &Client<'_>, acts: &mut Vec<Act>) -> Result<(), Failure> {
    let request = client.signed(FRIENDS, BODY)?;
    acts.push(Act::new("signed request", "200, errCode 0", client.send(&request, BODY).await?));
    let seen = stage.openim.records().pop();
    let tokens = seen.as_ref().map_or(0, |r| r.copies("token"));
    let own = seen.as_ref().and_then(|r| r.header("token")) == Some(stage.token.as_str());
    acts.push(Act::new(
        "  OpenIM got",
        "1 token, the caller's",
        format!("{tokens} token{}", if own { ", the caller's" } else { "" }),
    ));
    let left = seen.map_or(9, |record| credentials(&record));
    acts.push(Act::new("  app's credentials left in it", "0", left.to_string()));
    Ok(())
}

fn credentials(record: &Record) -> usize {
    ["signature", "signature-input", "content-digest", "authorization", "cookie"]
        .iter()
        .map(|name| record.copies(name))
        .sum()
}

async fn refused(stage: &Stage, client: &Client<'_>, acts: &mut Vec<Act>) -> Result<(), Failure> {
    let before = stage.openim.records().len();
    let unsigned = client.request(FRIENDS, BODY, &[]);
    acts.push(Act::new("no signature", "401, errCode 20101", client.send(&unsigned, BODY).await?));

    let other = br#"{"userID":"bob","pagination":{"pageNumber":1,"showNumber":10}}"#;
    let request = client.signed(FRIENDS, BODY)?;
    let swapped = client.with_body(&request, other);
    acts.push(Act::new(
        "another body than was signed",
        "401, errCode 20104",
        client.send(&swapped, other).await?,
    ));

    let moved = client.signed(FRIENDS, BODY)?.replace(FRIENDS, "/user/get_users_info");
    acts.push(Act::new(
        "another path than was signed",
        "401, errCode 20104",
        client.send(&moved, BODY).await?,
    ));

    let admin = client.signed("/auth/get_user_token", BODY)?;
    acts.push(Act::new("a route that is not listed", "404, errCode 20201", client.send(&admin, BODY).await?));
    let reached = stage.openim.records().len() - before;
    acts.push(Act::new("  of these reached OpenIM", "0", reached.to_string()));

    let request = client.signed(FRIENDS, BODY)?;
    client.send(&request, BODY).await?;
    acts.push(Act::new("the same request again", "401, errCode 20105", client.send(&request, BODY).await?));
    Ok(())
}

async fn healed(stage: &Stage, client: &Client<'_>, acts: &mut Vec<Act>) -> Result<(), Failure> {
    let path = "/friend/get_friend_id";
    let body = br#"{"userID":"ann"}"#;
    let request = client.signed(path, body)?;
    let before = stage.openim.records().len();
    acts.push(Act::new("token kicked on the way", "200, errCode 0", client.send(&request, body).await?));
    let codes: Vec<String> =
        stage.openim.records()[before..].iter().filter_map(|r| r.err_code).map(|c| c.to_string()).collect();
    acts.push(Act::new("  OpenIM answered", "1506, then 0", codes.join(", then ")));
    Ok(())
}

async fn revoked(stage: &Stage, client: &Client<'_>, acts: &mut Vec<Act>) -> Result<(), Failure> {
    stage.writer.delete_token(&stage.user).await.map_err(Failure::store)?;
    let request = client.signed(FRIENDS, BODY)?;
    acts.push(Act::new(
        "token deleted from the store",
        "401, errCode 1507",
        client.send(&request, BODY).await?,
    ));
    Ok(())
}

async fn socket(stage: &Stage, acts: &mut Vec<Act>) {
    let expected = "101, errCode 0, push received";
    let seen = tokio::time::timeout(PATIENCE, talk(stage)).await;
    let seen =
        seen.map_or_else(|_| "nothing in time".to_owned(), |talked| talked.unwrap_or_else(|e| e.to_string()));
    acts.push(Act::new("socket through the gateway", expected, seen));
    let refused = tokio::time::timeout(PATIENCE, handshake(stage, "sendID=imAdmin&platformID=10")).await;
    let status = match refused {
        Ok(Ok((_, head))) => head.get(9..12).unwrap_or("").to_owned(),
        _ => "nothing in time".to_owned(),
    };
    acts.push(Act::new("socket as OpenIM's admin", "403", status));
}

/// Opens a socket with the user's own token, has OpenIM push something, and tells what came.
async fn talk(stage: &Stage) -> std::io::Result<String> {
    let token = stage.writer.user(&stage.user).await.ok();
    let token = token.and_then(|user| {
        let platform = PLATFORM.try_into().ok()?;
        user.token(platform).map(|token| token.expose().to_owned())
    });
    let query = format!(
        "sendID={}&token={}&platformID={PLATFORM}&operationID=demo-socket&isBackground=false&isMsgResp=true&sdkType=js",
        stage.user,
        token.unwrap_or_default()
    );
    let (mut stream, head) = handshake(stage, &query).await?;
    let hello = frame(&mut stream).await?;
    stage.openim.push(stage.user.as_str(), &b"hello"[..]);
    let push = frame(&mut stream).await?;
    let code = envelope::err_code(&hello).map_or("no envelope".to_owned(), |code| format!("errCode {code}"));
    let received = if push == b"hello" { ", push received" } else { "" };
    Ok(format!("{}, {code}{received}", head.get(9..12).unwrap_or("")))
}

async fn handshake(stage: &Stage, query: &str) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(stage.gateway).await?;
    // The key is the example of RFC 6455 section 1.3.
    let request = format!(
        "GET /ws?{query} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        stage.gateway
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

/// Reads one short, unmasked frame. Source: RFC 6455 section 5.2.
async fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// A client of the demo's gateway.
struct Client<'a> {
    stage: &'a Stage,
    gateway: Upstream,
}

impl<'a> Client<'a> {
    fn of(stage: &'a Stage) -> Self {
        let options = Options {
            connect_timeout: PATIENCE,
            first_byte_timeout: PATIENCE * 3,
            read_timeout: PATIENCE * 3,
            idle_timeout: PATIENCE,
            keepalive: 1,
            ..Options::default()
        };
        Self { stage, gateway: Upstream::new("gateway", &[stage.gateway], options) }
    }

    fn signed(&self, path: &str, body: &[u8]) -> Result<String, Failure> {
        let headers = self.stage.signer().sign("POST", path, Some(body))?;
        Ok(self.request(path, body, &headers))
    }

    fn request(&self, path: &str, body: &[u8], headers: &[(String, String)]) -> String {
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n", self.stage.gateway);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        format!("{head}Content-Length: {}\r\n\r\n", body.len())
    }

    /// The same head for a body of another length.
    fn with_body(&self, head: &str, body: &[u8]) -> String {
        let end = head.find("Content-Length").unwrap_or(head.len());
        format!("{}Content-Length: {}\r\n\r\n", &head[..end], body.len())
    }

    /// Sends it and tells status and errCode.
    async fn send(&self, head: &str, body: &[u8]) -> Result<String, Failure> {
        let wire = [head.as_bytes(), body].concat();
        let request = Request {
            wire: &wire,
            method: &Method::POST,
            repeat: Repeat::Allow,
            hold: 1 << 20,
            asker: Asker::default(),
        };
        let answer = exchange(&self.gateway, request).await.map_err(Failure::unavailable)?;
        let code = answer.err_code();
        Ok(format!("{}, errCode {}", answer.head.status.as_u16(), code.unwrap_or(-1)))
    }
}

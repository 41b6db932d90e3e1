//! The message gateway's door: query arguments, token, and what an HTTP client gets instead of a socket.
//!
//! A refusal is HTTP 200 with an envelope, or, when the client asked for `isMsgResp` and got as far as the token
//! check, an upgrade with the envelope as its only frame.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::envelope::{Code, Failure};
use crate::http::{Head, Response};
use crate::json::{Body, WrongType};
use crate::query::{Query, clean_path};
use crate::shared::Shared;

/// How frames are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sdk {
    Go,
    Js,
}

/// Whether whole messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
}

/// Whether the outcome is wanted as the first text frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Silent,
    Frame,
}

/// The arguments of a handshake.
#[derive(Clone)]
pub(crate) struct Args {
    pub(crate) token: String,
    pub(crate) user: String,
    pub(crate) platform: i64,
    pub(crate) operation_id: String,
    pub(crate) sdk: Sdk,
    pub(crate) packing: Packing,
    pub(crate) notice: Notice,
}

/// What becomes of a handshake.
pub(crate) enum Outcome {
    /// A plain HTTP answer, with the `errCode` if it is an envelope.
    Answer(Response, Option<u32>),
    /// An upgrade whose only frame is the refusal.
    RefuseInFrame(Failure),
    /// An upgrade.
    Accept(Args),
}

/// Decides a handshake in OpenIM's order.
pub(crate) fn decide(shared: &Shared, head: &Head, path: &str) -> Outcome {
    let clean = clean_path(path);
    if clean != path {
        let query = if head.query().is_empty() { String::new() } else { format!("?{}", head.query()) };
        return Outcome::Answer(Response::moved(301, &format!("{clean}{query}")), None);
    }
    if shared.sockets.total() >= shared.options.max_connections {
        return refuse(&Failure::new(Code::ConnOverMaxNum, "over max conn num limit"));
    }
    let args = match parse(head) {
        Ok(args) => args,
        Err(failure) => return refuse(&failure),
    };
    let authenticated = authenticate(shared, &args);
    if let (Err(failure), Notice::Silent) = (&authenticated, args.notice) {
        return refuse(failure);
    }
    match (check_upgrade(head), authenticated) {
        (Err(status), _) => Outcome::Answer(no_upgrade(status), None),
        (Ok(()), Err(failure)) => Outcome::RefuseInFrame(failure),
        (Ok(()), Ok(())) => Outcome::Accept(args),
    }
}

fn refuse(failure: &Failure) -> Outcome {
    let response = Response::new(200, failure.to_bytes()).with("Content-Type", "application/json");
    Outcome::Answer(response, Some(failure.code))
}

fn authenticate(shared: &Shared, args: &Args) -> Result<(), Failure> {
    let holder = shared.tokens.lock().parse(&args.token, &shared.options)?;
    if holder.user != args.user {
        let detail = format!("token uid {} != userID {}", holder.user, args.user);
        return Err(Failure::new(Code::TokenInvalid, detail));
    }
    if holder.platform != args.platform {
        let detail = format!("token platform {} != platformID {}", holder.platform, args.platform);
        return Err(Failure::new(Code::TokenInvalid, detail));
    }
    Ok(())
}

fn parse(head: &Head) -> Result<Args, Failure> {
    let query = Query::parse(head.query());
    let args = match query.first("v") {
        "" => parse_query(head, &query)?,
        packed => parse_packed(packed)?,
    };
    for (name, value) in [("token", &args.token), ("sendID", &args.user), ("operationID", &args.operation_id)]
    {
        if value.is_empty() {
            return Err(wrong(format!("{name} is empty")));
        }
    }
    Ok(args)
}

fn parse_query(head: &Head, query: &Query) -> Result<Args, Failure> {
    let text = |name: &str| query.first(name).to_owned();
    let platform = match query.first("platformID") {
        "" => return Err(wrong("platformID is empty")),
        digits => digits.parse().map_err(|_| wrong("platformID is not int"))?,
    };
    let background = query.first("isBackground");
    if parse_bool(background).is_none() {
        return Err(Failure::uncoded(format!("strconv.ParseBool: parsing {background:?}: invalid syntax")));
    }
    let compression = [query.first("compression"), head.first("compression")];
    Ok(Args {
        token: text("token"),
        user: text("sendID"),
        platform,
        operation_id: text("operationID"),
        sdk: parse_sdk(query.first("sdkType"))?,
        packing: if compression.contains(&"gzip") { Packing::Gzip } else { Packing::Plain },
        notice: parse_notice(parse_bool(query.first("isMsgResp"))),
    })
}

/// Reads the packed form, which overrides every other argument.
fn parse_packed(packed: &str) -> Result<Args, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(packed).map_err(|_| wrong("v is not base64"))?;
    let body = Body::read(&bytes).map_err(wrong)?;
    let text =
        |name: &str| body.text(name).map(str::to_owned).map_err(|WrongType| wrong(format!("v.{name}")));
    Ok(Args {
        token: text("token")?,
        user: text("userID")?,
        platform: body.number("platformID").map_err(|WrongType| wrong("v.platformID"))?,
        operation_id: text("operationID")?,
        sdk: parse_sdk(&text("sdkType")?)?,
        packing: if text("compression")? == "gzip" { Packing::Gzip } else { Packing::Plain },
        notice: parse_notice(body.find("sendResponse").and_then(serde_json::Value::as_bool)),
    })
}

fn parse_sdk(text: &str) -> Result<Sdk, Failure> {
    match text {
        "" | "go" => Ok(Sdk::Go),
        "js" => Ok(Sdk::Js),
        _ => Err(wrong("sdkType is not go or js")),
    }
}

const fn parse_notice(wanted: Option<bool>) -> Notice {
    match wanted {
        Some(true) => Notice::Frame,
        Some(false) | None => Notice::Silent,
    }
}

/// Source: Go `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn wrong(detail: impl Into<String>) -> Failure {
    Failure::new(Code::ConnArgs, detail)
}

/// Checks the upgrade itself; the error is the HTTP status gorilla answers with.
///
/// Source: gorilla/websocket 1.5.1 `server.go` Upgrade.
fn check_upgrade(head: &Head) -> Result<(), u16> {
    if !head.lists("connection", "upgrade") || !head.lists("upgrade", "websocket") {
        return Err(400);
    }
    if head.method != "GET" {
        return Err(405);
    }
    let key = STANDARD.decode(head.first("sec-websocket-key"));
    let is_key = key.is_ok_and(|key| key.len() == 16);
    if head.lists("sec-websocket-version", "13") && is_key { Ok(()) } else { Err(400) }
}

fn no_upgrade(status: u16) -> Response {
    let text = if status == 405 { "Method Not Allowed\n" } else { "Bad Request\n" };
    Response::new(status, text)
        .with("Content-Type", "text/plain; charset=utf-8")
        .with("Sec-Websocket-Version", "13")
        .with("X-Content-Type-Options", "nosniff")
}

//! The REST server: OpenIM's checks in OpenIM's order, then the route.
//!
//! CORS, then operationID, whitelist and token (POST only), then routing, then the body, then the authorisation.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::authorise::{Caller, authorise};
use crate::endpoints::{Call, object};
use crate::envelope::{self, Code, Failure};
use crate::fault::Answer;
use crate::http::{BadRequest, Ending, Head, Response, Wire};
use crate::incoming::Incoming;
use crate::json::Body;
use crate::options::Line;
use crate::query::decode_path;
use crate::record::{Record, Server};
use crate::routes::{self, Mark, Route};
use crate::shared::Shared;

/// Paths below which no token is asked for; a prefix, as in OpenIM.
///
/// Source: open-im-server `internal/api/router.go` Whitelist.
const WHITELIST: [&str; 2] = ["/auth/get_admin_token", "/auth/parse_token"];

/// The largest body.
///
/// Source: open-im-server `config/share.yml` rpcMaxBodySize.
const MAX_BODY: usize = 8 << 20;

/// Where `GET /third/prometheus` leads.
const GRAFANA: &str = "http://127.0.0.1:13000/";

/// The services `GET /prometheus_discovery/*` tells about.
const SERVICES: [&str; 11] = [
    "api",
    "user",
    "group",
    "msg",
    "friend",
    "conversation",
    "third",
    "auth",
    "push",
    "msg_gateway",
    "msg_transfer",
];

/// Source: openimsdk/tools `mw/gin.go` CorsHandler.
const CORS: [(&str, &str); 6] = [
    ("Access-Control-Allow-Credentials", "false"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Allow-Methods", "*"),
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Expose-Headers",
        "Content-Length, Access-Control-Allow-Origin, Access-Control-Allow-Headers,Cache-Control,\
         Content-Language,Content-Type,Expires,Last-Modified,Pragma,FooBar",
    ),
    ("Access-Control-Max-Age", "172800"),
];

/// A response and the `errCode` in it.
struct Reply {
    response: Response,
    err_code: Option<u32>,
}

/// Serves one connection until either side ends it.
pub(crate) async fn serve(shared: &Shared, mut wire: Wire, connection: u64) -> io::Result<()> {
    loop {
        let head = match wire.head().await? {
            None => return Ok(()),
            Some(Ok(head)) => head,
            Some(Err(bad)) => {
                wire.send(&bad.to_bytes()).await?;
                break;
            }
        };
        if exchange(shared, &mut wire, &head, connection).await? == Ending::Close {
            break;
        }
    }
    wire.close().await;
    Ok(())
}

async fn exchange(shared: &Shared, wire: &mut Wire, head: &Head, connection: u64) -> io::Result<Ending> {
    let opened = Incoming::open(head).and_then(|incoming| {
        decode_path(head.raw_path()).map(|path| (incoming, path)).ok_or(BadRequest::Syntax)
    });
    let (mut incoming, path) = match opened {
        Ok(opened) => opened,
        Err(bad) => {
            wire.send(&bad.to_bytes()).await?;
            return Ok(Ending::Close);
        }
    };
    if let Some(answer) = shared.faults.take(&path) {
        incoming.read_all(wire).await?;
        record(shared, head, connection, incoming, answer.err_code());
        return play(answer, head, wire).await;
    }
    let reply = reply(shared, head, &path, &mut incoming, wire).await;
    let whole = incoming.discard(wire).await.unwrap_or(false);
    record(shared, head, connection, incoming, reply.err_code);
    let ending = if whole && !reply.response.ends_connection(head) { Ending::Keep } else { Ending::Close };
    wire.send(&reply.response.to_bytes(head, ending)).await?;
    Ok(ending)
}

fn record(shared: &Shared, head: &Head, connection: u64, incoming: Incoming, err_code: Option<u32>) {
    shared.recorder.push(|| Record {
        server: Server::Api,
        connection,
        method: head.method.clone(),
        target: head.target.clone(),
        version: head.version(),
        headers: head.headers.clone(),
        body: incoming.into_received(),
        operation_id: head.first("operationID").to_owned(),
        err_code,
    });
}

/// Plays an answer a test has put in place of the real one.
pub(crate) async fn play(answer: Answer, head: &Head, wire: &mut Wire) -> io::Result<Ending> {
    match answer {
        Answer::Reply { status, headers, body } => {
            let response = Response { status, headers, body };
            let ending = if response.ends_connection(head) { Ending::Close } else { Ending::Keep };
            wire.send(&response.to_bytes(head, ending)).await?;
            Ok(ending)
        }
        Answer::Verbatim(bytes) => {
            wire.send(&bytes).await?;
            Ok(Ending::Close)
        }
        Answer::Hangup => Ok(Ending::Close),
        Answer::Silence => {
            while wire.fill().await? > 0 {
                wire.inbound.clear();
            }
            Ok(Ending::Close)
        }
    }
}

async fn reply(shared: &Shared, head: &Head, path: &str, incoming: &mut Incoming, wire: &mut Wire) -> Reply {
    let line = shared.options.line;
    if let Some(location) = trailing_slash(head, path, line) {
        let status = if head.method == "GET" { 301 } else { 307 };
        return Reply { response: Response::moved(status, &location), err_code: None };
    }
    let inner = match head.method.as_str() {
        "OPTIONS" => plain(Response::new(200, "\"Options Request!\"")),
        "POST" => post(shared, head, path, incoming, wire).await,
        "GET" => get(shared, path),
        _ => not_found(),
    };
    Reply { response: dress(shared, head, path, inner.response), err_code: inner.err_code }
}

async fn post(shared: &Shared, head: &Head, path: &str, incoming: &mut Incoming, wire: &mut Wire) -> Reply {
    let caller = match admit(shared, head, path) {
        Ok(caller) => caller,
        Err(failure) => return refused(&failure),
    };
    let Some(route) = routes::find(path, shared.options.line) else { return not_found() };
    // A body cut short is acted on like any other: the decoder finds its end unexpected.
    let _cut = incoming.read_value(wire).await;
    match act(shared, route, &caller, head, incoming.received()) {
        Ok(data) => enveloped(0, envelope::success(Some(&data))),
        Err(failure) => refused(&failure),
    }
}

/// Runs the checks that precede routing: operationID, whitelist, token.
fn admit(shared: &Shared, head: &Head, path: &str) -> Result<Caller, Failure> {
    let operation = head.first("operationID");
    if operation.is_empty() {
        return Err(Failure::args("header must have operationID"));
    }
    if WHITELIST.iter().any(|open| path.starts_with(open)) {
        return Ok(Caller::default());
    }
    let token = head.first("token");
    if token.is_empty() {
        return Err(Failure::args("header must have token"));
    }
    check_operation(operation, shared.options.line)?;
    let holder = shared.tokens.lock().parse(token, &shared.options)?;
    Ok(Caller { admin: shared.is_admin(&holder.user), user: holder.user })
}

/// The operationID travels as RPC metadata, which takes printable ASCII only.
fn check_operation(operation: &str, line: Line) -> Result<(), Failure> {
    if operation.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    Err(rpc_failure(line, Code::GrpcInternal, "header value contains non-printable ASCII characters"))
}

/// The released line leaks the RPC's own code, the development line hides it behind 500.
fn rpc_failure(line: Line, code: Code, detail: &str) -> Failure {
    match line {
        Line::P16 => Failure::new(code, detail),
        Line::Head => Failure::new(Code::Internal, detail),
    }
}

fn act(shared: &Shared, route: &Route, caller: &Caller, head: &Head, bytes: &[u8]) -> Result<Value, Failure> {
    let line = shared.options.line;
    if bytes.len() > MAX_BODY {
        return Err(rpc_failure(line, Code::GrpcTooLarge, "received message larger than max"));
    }
    if route.mark == Mark::Open {
        check_operation(head.first("operationID"), line)?;
    }
    let body = read_body(route, head, bytes)?;
    let subjects = authorise(route, line, caller, head, &body)?;
    let data = (route.act)(&Call { shared, caller, subjects: &subjects, head, body: &body })?;
    Ok(sign_off(route, caller, &subjects, data))
}

/// Only `/jssdk/*` looks at the content type; protobuf bodies are taken unread.
fn read_body(route: &Route, head: &Head, bytes: &[u8]) -> Result<Body, Failure> {
    if !route.path.starts_with("/jssdk/") {
        return Body::read(bytes).map_err(Failure::args);
    }
    match head.first("content-type").split(';').next().unwrap_or_default().trim() {
        "application/json" => Body::read(bytes).map_err(Failure::args),
        "application/protobuf" | "application/x-protobuf" => Ok(Body::default()),
        _ => Err(Failure::args("unsupported content type")),
    }
}

/// Adds who acted on whom, so that a test sees a call across users succeed.
fn sign_off(route: &Route, caller: &Caller, subjects: &[String], mut data: Value) -> Value {
    if let (Some(fields), false) = (data.as_object_mut(), route.path.starts_with("/auth/")) {
        let subject = if subjects.is_empty() { caller.user.clone() } else { subjects.join(",") };
        fields.insert("actor".to_owned(), json!(caller.user));
        fields.insert("subject".to_owned(), json!(subject));
    }
    data
}

fn get(shared: &Shared, path: &str) -> Reply {
    if let Some(name) = path.strip_prefix("/object/") {
        return object_redirect(shared, name);
    }
    if path == "/third/prometheus" {
        return plain(Response::new(302, "").with("Location", GRAFANA));
    }
    match path.strip_prefix("/prometheus_discovery/") {
        Some(service) if SERVICES.contains(&service) => {
            let targets = json!([{ "targets": ["127.0.0.1:12002"], "labels": { "service": service } }]);
            plain(Response::new(200, targets.to_string()))
        }
        _ => not_found(),
    }
}

fn object_redirect(shared: &Shared, name: &str) -> Reply {
    if name.is_empty() {
        return plain(Response::new(400, "name is empty"));
    }
    if !shared.world.lock().objects.contains(name) {
        return plain(Response::new(404, format!("{} RecordNotFoundError", Code::RecordNotFound as u32)));
    }
    plain(Response::new(302, "").with("Location", object::presigned(name, &shared.options)))
}

/// Finds the route a path with one slash too many means, as gin does before any middleware runs.
fn trailing_slash(head: &Head, path: &str, line: Line) -> Option<String> {
    let bare = path.strip_suffix('/')?;
    let exists = match head.method.as_str() {
        "POST" => routes::find(bare, line).is_some(),
        "GET" => bare == "/third/prometheus" || bare.starts_with("/prometheus_discovery/"),
        _ => false,
    };
    let query = if head.query().is_empty() { String::new() } else { format!("?{}", head.query()) };
    let prefix = head.first("X-Forwarded-Prefix").trim_end_matches('/');
    exists.then(|| format!("{prefix}{bare}{query}"))
}

/// Adds what the middlewares add: CORS, the content type, the request id, compression.
fn dress(shared: &Shared, head: &Head, path: &str, response: Response) -> Response {
    let mut headers: Vec<(String, String)> =
        CORS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.extend(response.headers);
    if !headers.iter().any(|(name, _)| name == "Content-Type") {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    if shared.options.line == Line::Head {
        headers.push(("X-HTTP-ID".to_owned(), format!("{:016x}", shared.number_request())));
    }
    let mut dressed = Response { status: response.status, headers, body: response.body };
    if shared.options.gzip && dressed.status == 200 && accepts_gzip(head, path) {
        dressed.body = compress(&dressed.body);
        dressed = dressed.with("Content-Encoding", "gzip").with("Vary", "Accept-Encoding");
    }
    dressed
}

/// Source: gin-contrib/gzip 1.0.1 shouldCompress.
fn accepts_gzip(head: &Head, path: &str) -> bool {
    let is_picture = [".png", ".gif", ".jpeg", ".jpg"].iter().any(|ending| path.ends_with(ending));
    head.first("accept-encoding").contains("gzip")
        && !head.first("connection").contains("Upgrade")
        && !head.first("accept").contains("text/event-stream")
        && !is_picture
}

fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory does not fail").into()
}

fn plain(response: Response) -> Reply {
    Reply { response, err_code: None }
}

fn not_found() -> Reply {
    plain(Response::new(404, "404 page not found").with("Content-Type", "text/plain"))
}

fn enveloped(code: u32, body: Bytes) -> Reply {
    Reply { response: Response::new(200, body), err_code: Some(code) }
}

fn refused(failure: &Failure) -> Reply {
    enveloped(failure.code, failure.to_bytes())
}

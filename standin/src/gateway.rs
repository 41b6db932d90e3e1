//! The message gateway: HTTP until a handshake succeeds, then one socket for the rest of the connection.

use std::io;

use bytes::Bytes;
use tungstenite::handshake::derive_accept_key;

use crate::envelope;
use crate::fault::Answer;
use crate::frame::{Opcode, encode};
use crate::handshake::{Args, Notice, Outcome, decide};
use crate::http::{BadRequest, Ending, Head, Response, Wire};
use crate::incoming::Incoming;
use crate::query::{Query, decode_path};
use crate::record::{Record, Server};
use crate::rest::play;
use crate::shared::Shared;
use crate::socket;

/// What follows a request.
enum Next {
    Request,
    Socket(Args),
    Close,
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
        match exchange(shared, &mut wire, &head, connection).await? {
            Next::Request => {}
            Next::Socket(args) => return socket::run(shared, wire, args, connection).await,
            Next::Close => break,
        }
    }
    wire.close().await;
    Ok(())
}

async fn exchange(shared: &Shared, wire: &mut Wire, head: &Head, connection: u64) -> io::Result<Next> {
    let Some(path) = decode_path(head.raw_path()) else {
        wire.send(&BadRequest::Syntax.to_bytes()).await?;
        return Ok(Next::Close);
    };
    if let Some(answer) = shared.faults.take(&path) {
        record(shared, head, connection, answer.err_code());
        return play_fault(answer, head, wire).await;
    }
    match decide(shared, head, &path) {
        Outcome::Answer(response, err_code) => {
            record(shared, head, connection, err_code);
            answer(wire, head, &response).await
        }
        Outcome::RefuseInFrame(failure) => {
            record(shared, head, connection, Some(failure.code));
            upgrade(wire, head).await?;
            wire.send(&encode(Opcode::Text, &failure.to_bytes())).await?;
            Ok(Next::Close)
        }
        Outcome::Accept(args) => {
            record(shared, head, connection, Some(0));
            accept(wire, head, args).await
        }
    }
}

async fn accept(wire: &mut Wire, head: &Head, args: Args) -> io::Result<Next> {
    // Gorilla gives up on a client that sends frames before its handshake is answered.
    if !wire.inbound.is_empty() {
        return Ok(Next::Close);
    }
    upgrade(wire, head).await?;
    if args.notice == Notice::Frame {
        wire.send(&encode(Opcode::Text, &envelope::success(None))).await?;
    }
    Ok(Next::Socket(args))
}

async fn upgrade(wire: &mut Wire, head: &Head) -> io::Result<()> {
    let accept = derive_accept_key(head.first("sec-websocket-key").as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    wire.send(response.as_bytes()).await
}

async fn answer(wire: &mut Wire, head: &Head, response: &Response) -> io::Result<Next> {
    let Ok(mut incoming) = Incoming::open(head) else { return Ok(Next::Close) };
    let whole = incoming.discard(wire).await.unwrap_or(false);
    let keep = whole && !response.ends_connection(head);
    wire.send(&response.to_bytes(head, if keep { Ending::Keep } else { Ending::Close })).await?;
    Ok(if keep { Next::Request } else { Next::Close })
}

async fn play_fault(fault: Answer, head: &Head, wire: &mut Wire) -> io::Result<Next> {
    match play(fault, head, wire).await? {
        Ending::Keep => Ok(Next::Request),
        Ending::Close => Ok(Next::Close),
    }
}

fn record(shared: &Shared, head: &Head, connection: u64, err_code: Option<u32>) {
    shared.recorder.push(|| Record {
        server: Server::Ws,
        connection,
        method: head.method.clone(),
        target: head.target.clone(),
        version: head.version(),
        headers: head.headers.clone(),
        body: Bytes::new(),
        operation_id: Query::parse(head.query()).first("operationID").to_owned(),
        err_code,
    });
}

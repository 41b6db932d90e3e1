//! One live WebSocket: heartbeats, deadlines, echoes, pushes and the kick.
//!
//! Whatever ends it, the TCP connection closes without a Close frame, except after a message that breaks the
//! protocol. Frames of the Go SDK are opaque here and echoed unchanged; those of the JS SDK are answered.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::frame::{Decoder, Message, Opcode, Violation, encode};
use crate::handshake::{Args, Packing, Sdk};
use crate::http::Wire;
use crate::json::Body;
use crate::options::Line;
use crate::record::{Record, Server};
use crate::shared::Shared;
use crate::sockets::{Outbound, Seat};

/// The frame a kicked Go client gets in place of a gob-encoded 2002.
pub const GO_KICK: &[u8] = b"openim-standin kick 2002";

/// The platform the server pings on its own account.
const WEB: i64 = 5;

/// The most a compressed message may unpack to.
const MAX_UNPACKED: u64 = 8 << 20;

/// The request identifiers the gateway serves.
///
/// Source: open-im-server `internal/msggateway/constant.go`.
const SERVED: [i64; 10] = [1001, 1002, 1003, 1004, 1005, 1006, 1007, 2003, 2004, 2005];
const LOGOUT: i64 = 2003;
const KICK: i64 = 2002;

/// Whether a socket lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    End,
}

struct Socket<'a> {
    shared: &'a Shared,
    wire: Wire,
    args: Args,
    connection: u64,
    decoder: Decoder,
    deadline: Instant,
}

/// Runs a socket until it ends.
pub(crate) async fn run(shared: &Shared, wire: Wire, args: Args, connection: u64) -> io::Result<()> {
    let mut seat = shared.sockets.enter(&args.user, args.platform, &args.token);
    shared.kick_older(&args.user, args.platform, &args.token);
    let deadline = Instant::now() + shared.options.read_deadline;
    let mut socket = Socket { shared, wire, args, connection, decoder: Decoder::default(), deadline };
    let cut = seat.cut.clone();
    let outcome = tokio::select! {
        outcome = socket.live(&mut seat) => outcome,
        () = cut.notified() => return Ok(()),
    };
    drop(seat);
    socket.wire.close().await;
    outcome
}

impl Socket<'_> {
    async fn live(&mut self, seat: &mut Seat<'_>) -> io::Result<()> {
        let period = self.shared.options.ping_interval;
        let mut pings = interval_at(Instant::now() + period, period);
        loop {
            if self.drain().await? == Flow::End {
                return Ok(());
            }
            tokio::select! {
                count = self.wire.fill() => if count? == 0 {
                    return Ok(());
                },
                Some(item) = seat.queue.recv() => if self.deliver(item).await? == Flow::End {
                    return Ok(());
                },
                _ = pings.tick(), if self.args.platform == WEB => self.send(Opcode::Ping, &[]).await?,
                () = sleep_until(self.deadline) => return Ok(()),
            }
        }
    }

    /// Handles every message that has arrived whole.
    async fn drain(&mut self) -> io::Result<Flow> {
        loop {
            match self.decoder.decode(&mut self.wire.inbound) {
                Ok(None) => return Ok(Flow::On),
                Ok(Some(message)) => {
                    if self.receive(message).await? == Flow::End {
                        return Ok(Flow::End);
                    }
                }
                Err(violation) => return self.close_for(violation).await,
            }
        }
    }

    async fn receive(&mut self, message: Message) -> io::Result<Flow> {
        match message.opcode {
            Opcode::Binary => {
                self.extend();
                self.request(message.payload).await
            }
            Opcode::Text => {
                self.extend();
                self.heartbeat(&message.payload).await
            }
            Opcode::Ping => {
                self.extend();
                self.send(Opcode::Pong, &message.payload).await?;
                Ok(Flow::On)
            }
            Opcode::Pong => {
                if self.shared.options.line == Line::Head {
                    self.extend();
                }
                Ok(Flow::On)
            }
            Opcode::Close => {
                // Gorilla echoes the code and drops the reason.
                let code = message.payload.get(..2).unwrap_or_default();
                self.send(Opcode::Close, code).await?;
                Ok(Flow::End)
            }
        }
    }

    fn extend(&mut self) {
        self.deadline = Instant::now() + self.shared.options.read_deadline;
    }

    /// Answers a text ping; any other text but a pong ends the socket.
    async fn heartbeat(&mut self, text: &[u8]) -> io::Result<Flow> {
        let Ok(beat) = serde_json::from_slice::<Heartbeat>(text) else { return Ok(Flow::End) };
        match beat.kind.as_str() {
            "pong" => Ok(Flow::On),
            "ping" => {
                let pong = Heartbeat { kind: "pong".to_owned(), body: beat.body };
                let text = serde_json::to_vec(&pong).map_err(io::Error::other)?;
                self.send(Opcode::Text, &text).await?;
                Ok(Flow::On)
            }
            _ => Ok(Flow::End),
        }
    }

    async fn request(&mut self, payload: Bytes) -> io::Result<Flow> {
        if self.args.sdk == Sdk::Go {
            self.record(String::new(), String::new(), &payload);
            self.send(Opcode::Binary, &payload).await?;
            return Ok(Flow::On);
        }
        let Some((identifier, answer)) = self.answer(&payload) else { return Ok(Flow::End) };
        self.send_binary(&answer).await?;
        Ok(if identifier == LOGOUT { Flow::End } else { Flow::On })
    }

    /// Answers a JSON request with its own data; none when the request ends the socket.
    fn answer(&self, payload: &Bytes) -> Option<(i64, Vec<u8>)> {
        let plain = self.unpack(payload).ok()?;
        let request = Body::read(&plain).ok()?;
        let identifier = request.number("reqIdentifier").ok()?;
        let operation_id = request.text("operationID").ok()?;
        self.record(identifier.to_string(), operation_id.to_owned(), &plain);
        if request.text("sendID") != Ok(&self.args.user) || !SERVED.contains(&identifier) {
            return None;
        }
        let response = Resp {
            req_identifier: identifier,
            msg_incr: request.text("msgIncr").ok()?,
            operation_id,
            err_code: 0,
            err_msg: "",
            data: request.find("data").cloned().unwrap_or(Value::Null),
        };
        Some((identifier, serde_json::to_vec(&response).ok()?))
    }

    async fn deliver(&mut self, item: Outbound) -> io::Result<Flow> {
        match item {
            Outbound::Push(payload) => {
                self.send(Opcode::Binary, &payload).await?;
                Ok(Flow::On)
            }
            Outbound::Kick => {
                self.kick().await?;
                Ok(Flow::End)
            }
        }
    }

    async fn kick(&mut self) -> io::Result<()> {
        if self.args.sdk == Sdk::Go {
            return self.send(Opcode::Binary, GO_KICK).await;
        }
        let kick = Resp {
            req_identifier: KICK,
            msg_incr: "",
            operation_id: "",
            err_code: 0,
            err_msg: "",
            data: Value::Null,
        };
        let bytes = serde_json::to_vec(&kick).map_err(io::Error::other)?;
        self.send_binary(&bytes).await
    }

    async fn close_for(&mut self, violation: Violation) -> io::Result<Flow> {
        self.send(Opcode::Close, &violation.code().to_be_bytes()).await?;
        Ok(Flow::End)
    }

    async fn send_binary(&mut self, plain: &[u8]) -> io::Result<()> {
        match self.args.packing {
            Packing::Plain => self.send(Opcode::Binary, plain).await,
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(plain)?;
                let packed = encoder.finish()?;
                self.send(Opcode::Binary, &packed).await
            }
        }
    }

    async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        self.wire.send(&encode(opcode, payload)).await
    }

    fn unpack(&self, payload: &Bytes) -> io::Result<Bytes> {
        match self.args.packing {
            Packing::Plain => Ok(payload.clone()),
            Packing::Gzip => {
                let mut plain = Vec::new();
                GzDecoder::new(&payload[..]).take(MAX_UNPACKED).read_to_end(&mut plain)?;
                Ok(plain.into())
            }
        }
    }

    fn record(&self, target: String, operation_id: String, payload: &Bytes) {
        self.shared.recorder.push(|| Record {
            server: Server::Ws,
            connection: self.connection,
            method: "FRAME".to_owned(),
            target,
            version: String::new(),
            headers: Vec::new(),
            body: payload.clone(),
            operation_id,
            err_code: None,
        });
    }
}

#[derive(Deserialize, Serialize)]
struct Heartbeat {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    body: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resp<'a> {
    req_identifier: i64,
    msg_incr: &'a str,
    #[serde(rename = "operationID")]
    operation_id: &'a str,
    err_code: u32,
    err_msg: &'a str,
    data: Value,
}

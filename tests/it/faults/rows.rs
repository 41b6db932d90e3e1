//! Sends the raw cases of `rows.json` and compares what came back, and what came through, with what is
//! expected there.
//!
//! A character stands for the byte of its number. `$path` is a public route, once exchanged whole and
//! once streamed; `$signed` a route that wants a signature; `$ws` a handshake's target.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::recorder::{Recorder, Seen};
use crate::support::{Client, Gateway, Sent, Setup, eventually};

/// How long an answer or an end may take. Longer than the gateway waits for a head.
const PATIENCE: Duration = Duration::from_secs(15);

const SOCKET: &str = "/ws?sendID=ann&token=garbage&platformID=2&operationID=op-12";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

/// A row: what goes wrong, and the cases or tests that show what comes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) row: u8,
    pub(super) what: String,
    /// Names of tests.
    #[serde(default)]
    pub(super) held_by: Vec<String>,
    /// Why something is not tested yet.
    pub(super) later: Option<String>,
    #[serde(default)]
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    name: String,
    send: Vec<Piece>,
    #[serde(default = "everywhere")]
    on: Vec<Way>,
    /// The statuses that are fine; 0 is an end without an answer.
    status: Vec<u16>,
    /// The codes that a refusal may have; any, if there is none.
    #[serde(default)]
    code: Vec<i64>,
    /// Whether the connection ends with the answer, or carries another request; either, if it is not said.
    closed: Option<bool>,
    #[serde(default)]
    upstream: Reaches,
    /// What must not come through, in small letters.
    #[serde(default)]
    lacks: Vec<String>,
    /// What must come through exactly once, in small letters, if anything comes through.
    #[serde(default)]
    once: Vec<String>,
    /// Whether the gateway is made to wait; other proxies would wait too long.
    #[serde(default, rename = "slow")]
    _slow: bool,
}

impl Case {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Piece {
    Text(String),
    Repeat {
        repeat: String,
        times: usize,
    },
    /// The end of what the client sends.
    Shut {
        shut: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Exchange,
    Stream,
    Socket,
}

fn everywhere() -> Vec<Way> {
    vec![Way::Exchange, Way::Stream]
}

/// What of a case reaches the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reaches {
    /// Not a byte.
    #[default]
    Nothing,
    /// No whole request.
    Unfinished,
    /// Exactly one request.
    Whole,
    /// At most one request.
    Any,
}

/// The table as it is in the repository.
pub(super) fn table() -> Table {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/rows.json"));
    serde_json::from_str(&text.unwrap()).unwrap()
}

struct Stage {
    gateway: Gateway,
    upstream: Recorder,
    /// How many requests were answered.
    answered: usize,
}

async fn stage() -> Stage {
    let upstream = Recorder::start().await;
    let mut setup = Setup::at(upstream.address, upstream.address, "");
    setup.store = "memory: {}".to_owned();
    // Heads here come at once, or never whole.
    setup.more = "limits: { head: { timeout: 2s } }".to_owned();
    setup.chains = "  open:
    - operation_id: {}
    - strip_credentials: {}"
        .to_owned();
    setup.routes = "  - { prefix: /login/, upstream: openim_api, chain: open, public: true }
  - { prefix: /files/, upstream: openim_api, chain: open, public: true, stream: true }"
        .to_owned();
    Stage { gateway: setup.start().await, upstream, answered: 0 }
}

/// Runs every case of a row, and tells of all that went wrong at once.
pub(super) async fn run(number: u8) {
    let row = table().rows.into_iter().find(|row| row.row == number).unwrap();
    let mut stage = stage().await;
    let mut faults = Vec::new();
    for case in &row.cases {
        for way in &case.on {
            let outcome = stage.play(case, *way).await;
            let wrong = outcome.compare(case, *way);
            eprintln!("row {number:02} {}, {way:?}: {}", case.name, outcome.summary());
            faults.extend(wrong.into_iter().map(|wrong| format!("{}, {way:?}: {wrong}", case.name)));
        }
    }
    assert!(faults.is_empty(), "row {number}, {}:\n{}", row.what, faults.join("\n"));
    eventually("a line for each answer", async || stage.gateway.access_log().len() >= stage.answered).await;
}

/// What came of a case.
#[derive(Debug)]
struct Outcome {
    /// All that the gateway sent.
    answer: Vec<u8>,
    closed: bool,
    seen: Seen,
    /// What is wrong with the gateway afterwards, if anything is.
    after: Option<String>,
}

impl Stage {
    async fn play(&mut self, case: &Case, way: Way) -> Outcome {
        let mut stream = TcpStream::connect(self.gateway.address).await.unwrap();
        let (mut from, mut to) = stream.split();
        let mut answer = Vec::new();
        let send = async {
            // A gateway that has heard enough may close on what is still to come.
            let _ = write(&mut to, case, way).await;
            std::future::pending::<()>().await;
        };
        let whole = tokio::select! {
            whole = tokio::time::timeout(PATIENCE, read_answer(&mut from, &mut answer)) => whole,
            () = send => unreachable!("sending goes on for ever"),
        };
        let mut closed = whole.is_ok_and(|whole| !whole);
        if !closed && case.closed == Some(true) {
            closed = tokio::time::timeout(PATIENCE, read_on(&mut from, &mut answer)).await.is_ok();
        }
        if !closed && case.closed == Some(false) {
            closed = !self.carries_another(&mut stream).await;
        }
        drop(stream);
        self.answered += usize::from(!answer.is_empty());
        let after = self.is_well(way).await;
        // What comes late came, too; so it is looked at only now.
        let (seen, alone) = without_probe(self.upstream.take(), way);
        let after =
            after.or_else(|| (!alone).then(|| format!("the probe came not alone: {:?}", seen.text())));
        Outcome { answer, closed, seen, after }
    }

    async fn carries_another(&mut self, stream: &mut TcpStream) -> bool {
        let (mut from, mut to) = stream.split();
        let _ = to.write_all(&Sent::new("GET", "/login/again").wire()).await;
        let mut answer = Vec::new();
        let whole = tokio::time::timeout(PATIENCE, read_answer(&mut from, &mut answer)).await;
        self.answered += 1;
        whole.is_ok_and(|whole| whole) && status(&answer) == 200
    }

    /// Another client asks for something plain, and is answered.
    async fn is_well(&mut self, way: Way) -> Option<String> {
        let reply = Client::once(self.gateway.address, &Sent::new("GET", &probe(way))).await;
        self.answered += 1;
        (reply.status != 200).then(|| format!("afterwards {}", reply.status))
    }
}

fn probe(way: Way) -> String {
    format!("{}/probe", place(way))
}

/// What came besides the probe, and whether the probe came as it was sent.
fn without_probe(seen: Seen, way: Way) -> (Seen, bool) {
    let Seen { mut bytes, whole } = seen;
    let line = format!("GET {} HTTP/1.1\r\n", probe(way));
    let Some(begin) = find(&bytes, line.as_bytes()) else { return (Seen { bytes, whole }, false) };
    let Some(length) = find(&bytes[begin..], b"\r\n\r\n") else { return (Seen { bytes, whole }, false) };
    bytes.drain(begin..begin + length + 4);
    (Seen { bytes, whole: whole.saturating_sub(1) }, whole > 0)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Where a way begins.
fn place(way: Way) -> &'static str {
    match way {
        Way::Exchange | Way::Socket => "/login/x",
        Way::Stream => "/files/x",
    }
}

async fn write(to: &mut WriteHalf<'_>, case: &Case, way: Way) -> std::io::Result<()> {
    for piece in &case.send {
        match piece {
            Piece::Text(text) => to.write_all(&bytes(text, way)).await?,
            Piece::Repeat { repeat, times } => to.write_all(&bytes(repeat, way).repeat(*times)).await?,
            Piece::Shut { shut: true } => to.shutdown().await?,
            Piece::Shut { shut: false } => {}
        }
    }
    Ok(())
}

fn bytes(text: &str, way: Way) -> Vec<u8> {
    let text = fill(text, way);
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a character is a byte")).collect()
}

fn fill(text: &str, way: Way) -> String {
    text.replace("$path", place(way)).replace("$signed", "/friend/get_friend_list").replace("$ws", SOCKET)
}

/// Reads until an answer is whole, or until the end; tells whether it is whole.
async fn read_answer(from: &mut ReadHalf<'_>, answer: &mut Vec<u8>) -> bool {
    let mut piece = [0; 16 * 1024];
    while !is_whole(answer) {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
        }
    }
    true
}

/// Reads to the end.
async fn read_on(from: &mut ReadHalf<'_>, answer: &mut Vec<u8>) {
    let mut piece = [0; 16 * 1024];
    while let Ok(1..) = from.read(&mut piece).await.inspect(|n| answer.extend_from_slice(&piece[..*n])) {}
}

fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else { return false };
    let length = header(&head, "content-length").and_then(|value| value.parse().ok());
    length.is_none_or(|length: usize| body.len() >= length)
}

fn split(answer: &[u8]) -> Option<(String, &[u8])> {
    let end = find(answer, b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The status; 0 if there was no answer.
fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

impl Outcome {
    fn summary(&self) -> String {
        let (status, code) = (status(&self.answer), self.envelope().map_or(-1, |e| e.1));
        let closed = if self.closed { ", closed" } else { "" };
        format!(
            "{status}/{code}{closed}, {} whole, {} bytes upstream",
            self.seen.whole,
            self.seen.bytes.len()
        )
    }

    /// What kind of text the first answer is, and its code.
    fn envelope(&self) -> Option<(String, i64)> {
        let (head, body) = split(&self.answer)?;
        let length: usize = header(&head, "content-length")?.parse().ok()?;
        let json: serde_json::Value = serde_json::from_slice(body.get(..length)?).ok()?;
        let is_envelope = json["errMsg"].is_string() && json["errDlt"].is_string() && length <= 1024;
        let kind = header(&head, "content-type")?.to_owned();
        let named = header(&head, "operationid").is_some();
        (is_envelope && named).then(|| (kind, json["errCode"].as_i64().unwrap_or(-1)))
    }

    /// What is not as it should be.
    fn compare(&self, case: &Case, way: Way) -> Vec<String> {
        let mut wrong = Vec::new();
        let status = status(&self.answer);
        if !case.status.contains(&status) {
            wrong.push(format!("{:?} expected, {}", case.status, self.summary()));
        }
        if status >= 400 {
            let fine = |(kind, code): &(String, i64)| {
                kind == "application/json" && (case.code.is_empty() || case.code.contains(code))
            };
            if !self.envelope().as_ref().is_some_and(fine) {
                let said = String::from_utf8_lossy(&self.answer).into_owned();
                wrong.push(format!("no envelope with {:?}: {said:?}", case.code));
            }
        }
        if case.closed.is_some_and(|closed| closed != self.closed) && status != 0 {
            wrong.push(format!("closed is {}, and {}", self.closed, self.summary()));
        }
        wrong.extend(self.compare_upstream(case, way));
        wrong.extend(self.after.clone());
        wrong
    }

    fn compare_upstream(&self, case: &Case, way: Way) -> Vec<String> {
        let text = self.seen.text();
        let reached = match case.upstream {
            Reaches::Nothing => self.seen.bytes.is_empty(),
            Reaches::Unfinished => self.seen.whole == 0,
            Reaches::Whole => self.seen.whole == 1,
            Reaches::Any => self.seen.whole <= 1,
        };
        let mut wrong = Vec::new();
        if !reached {
            wrong.push(format!(
                "upstream {:?} expected, {} came whole of {text:?}",
                case.upstream, self.seen.whole
            ));
        }
        for lacks in case.lacks.iter().filter(|lacks| text.contains(lacks.as_str())) {
            wrong.push(format!("{lacks:?} came through: {text:?}"));
        }
        let once = case.once.iter().map(|once| fill(once, way)).filter(|_| self.seen.whole > 0);
        for once in once.filter(|once| text.matches(once.as_str()).count() != 1) {
            wrong.push(format!("{once:?} came not exactly once: {text:?}"));
        }
        wrong
    }
}

//! One JSON line per request, written by a thread of its own; a reader that stalls costs lines, never
//! requests.
//!
//! A line holds no query, no credential and no header but the user agent; text from outside is escaped
//! by JSON and cut to a bound.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use imgate_filters::context::Shadowed;
use serde::{Serialize, Serializer};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// The most of a path or user agent that a line shows, in bytes.
const MAX_TEXT: usize = 512;

/// How many lines wait for the writing thread before lines are dropped. A line is a few hundred bytes,
/// at the very most 4 KiB.
const BACKLOG: usize = 16_384;

/// How much is gathered for one write. The thread writes out what it has whenever no line waits.
const GATHER: usize = 64 * 1024;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The end of a file.
    File(Box<Path>),
}

/// The access log.
pub struct AccessLog {
    writer: Option<NonBlocking>,
    dropped: Option<ErrorCounter>,
    // Ends the writing thread, after it has written what waits, when the log is dropped.
    _guard: Option<WorkerGuard>,
}

impl AccessLog {
    /// Opens the output and starts its thread.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(output: &Output) -> io::Result<Self> {
        let builder = || NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BACKLOG);
        let (writer, guard) = match output {
            Output::Off => return Ok(Self { writer: None, dropped: None, _guard: None }),
            Output::Stdout => builder().finish(BufWriter::with_capacity(GATHER, io::stdout())),
            Output::Stderr => builder().finish(BufWriter::with_capacity(GATHER, io::stderr())),
            Output::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                builder().finish(BufWriter::with_capacity(GATHER, file))
            }
        };
        Ok(Self { dropped: Some(writer.error_counter()), writer: Some(writer), _guard: Some(guard) })
    }

    /// Hands a line to the writing thread.
    pub fn write(&self, line: &Line<'_>) {
        let Some(writer) = &self.writer else { return };
        let mut text = Vec::with_capacity(512);
        if serde_json::to_writer(&mut text, line).is_ok() {
            text.push(b'\n');
            // A clone is two reference counts; a full backlog is counted, not reported.
            let _ = writer.clone().write_all(&text);
        }
    }

    /// How many lines were dropped because their reader was too slow.
    pub fn dropped(&self) -> usize {
        self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines)
    }
}

/// One request, as the log shows it. Absent facts are left out.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it arrived.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Its name across client, gateway and OpenIM.
    pub operation_id: &'a str,
    /// Where it came from.
    pub client: IpAddr,
    /// The method.
    #[serde(serialize_with = "cut")]
    pub method: &'a str,
    /// The host it was meant for.
    #[serde(serialize_with = "cut")]
    pub host: &'a str,
    /// The path, without its query.
    #[serde(serialize_with = "cut")]
    pub path: &'a str,
    /// The route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// The proven user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The proven admin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<&'a str>,
    /// The OpenIM admin whose token was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acting_as: Option<&'a str>,
    /// Who a socket's handshake says it is; OpenIM has the last word on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_user: Option<&'a str>,
    /// The kind of device the session belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<&'static str>,
    /// The status the client got.
    pub status: u16,
    /// The `errCode` the client got, if the answer had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err_code: Option<i64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// Why, more closely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The filter that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<&'static str>,
    /// What filters in shadow mode would have refused.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "withheld")]
    pub shadowed: &'a [Shadowed],
    /// Whether the stored token was stale and a fresh one did it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub healed: bool,
    /// The upstream's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// Bytes of request body.
    pub bytes_in: u64,
    /// Bytes of answer body; for a tunnel, all bytes to the client.
    pub bytes_out: u64,
    /// Where the time went.
    pub ms: Phases,
    /// The client program.
    #[serde(serialize_with = "cut_option", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// A line of a request of which nothing is known but what is named here.
    pub fn unread(
        time: SystemTime,
        operation_id: &'a str,
        client: IpAddr,
        method: &'a str,
        host: &'a str,
        path: &'a str,
    ) -> Self {
        Self {
            time,
            operation_id,
            client,
            method,
            host,
            path,
            route: None,
            user: None,
            admin: None,
            acting_as: None,
            claimed_user: None,
            platform: None,
            status: 0,
            err_code: None,
            cause: None,
            reason: None,
            filter: None,
            shadowed: &[],
            healed: false,
            upstream: None,
            bytes_in: 0,
            bytes_out: 0,
            ms: Phases::default(),
            user_agent: None,
        }
    }
}

/// Durations of the phases, in milliseconds with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Phases {
    /// From the parsed head to the end of the answer.
    #[serde(serialize_with = "millis")]
    pub total: Duration,
    /// In the chain, the body's arrival and the store included.
    #[serde(serialize_with = "millis")]
    pub chain: Duration,
    /// Waiting for the upstream.
    #[serde(serialize_with = "millis")]
    pub upstream: Duration,
}

fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    #[allow(clippy::cast_precision_loss, reason = "a request of centuries may round")]
    let micros = span.as_micros() as f64;
    serializer.serialize_f64(micros / 1000.0)
}

/// As `filter:reason`, each.
fn withheld<S: Serializer>(shadowed: &[Shadowed], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(shadowed.iter().map(|s| format!("{}:{}", s.filter, s.reason)))
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

fn cut<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    serializer.serialize_str(&text[..end])
}

#[allow(clippy::ref_option, reason = "serde passes the field as it is")]
fn cut_option<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    cut(&text.unwrap_or_default(), serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            status: 200,
            err_code: Some(0),
            bytes_in: 1,
            bytes_out: 2,
            ms: Phases { total: Duration::from_micros(1234), ..Phases::default() },
            ..Line::unread(
                SystemTime::UNIX_EPOCH,
                "op-1",
                "10.0.0.1".parse().unwrap(),
                "POST",
                "im.example.com",
                "/x",
            )
        }
    }

    #[test]
    fn a_line_is_one_line_of_json() {
        let hostile = "\r\n\x1b[31m\u{202e}\"";
        let text =
            serde_json::to_string(&Line { path: hostile, user_agent: Some(hostile), ..line() }).unwrap();
        assert!(!text.contains(['\n', '\r', '\x1b']));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["path"], hostile);
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(json["ms"]["total"], 1.234);
    }

    #[test]
    fn long_text_is_cut() {
        let long = "é".repeat(1000);
        let json = serde_json::to_value(Line { path: &long, ..line() }).unwrap();
        assert_eq!(json["path"].as_str().unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn lines_reach_the_file_once_the_log_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(&Output::File(path.clone().into())).unwrap();
        for _ in 0..100 {
            log.write(&line());
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 100);
    }
}

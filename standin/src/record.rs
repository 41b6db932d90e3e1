//! What the stand-in saw: every request as it came over the wire, so that tests can assert on it.
//!
//! The list is bounded and can be switched off. Records hold live tokens; their `Debug` shows none.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use parking_lot::Mutex;

/// The server a request came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The REST server.
    Api,
    /// The message gateway.
    Ws,
}

/// One request, or one binary WebSocket frame.
///
/// A frame has the method `FRAME`, its `reqIdentifier` as target (empty when the frame is not JSON), no headers, and
/// its payload as body.
#[derive(Clone)]
pub struct Record {
    /// The server it came in on.
    pub server: Server,
    /// Which accepted TCP connection, counted over both servers.
    pub connection: u64,
    /// The method as sent.
    pub method: String,
    /// The request target as sent, neither decoded nor normalised.
    pub target: String,
    /// The protocol version, such as `HTTP/1.1`.
    pub version: String,
    /// The headers in the order and spelling of the wire.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: Bytes,
    /// The first `operationID`, empty when there is none.
    pub operation_id: String,
    /// The `errCode` answered; none when the answer was no envelope.
    pub err_code: Option<u32>,
}

impl Record {
    /// Returns the first value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns how many copies of a header came in, whatever their case.
    pub fn copies(&self, name: &str) -> usize {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).count()
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Record")
            .field("server", &self.server)
            .field("connection", &self.connection)
            .field("method", &self.method)
            .field("path", &self.path())
            .field("headers", &names)
            .field("body_len", &self.body.len())
            .field("operation_id", &self.operation_id)
            .field("err_code", &self.err_code)
            .finish_non_exhaustive()
    }
}

/// The bounded list of records.
pub(crate) struct Recorder {
    limit: usize,
    records: Mutex<VecDeque<Record>>,
}

impl Recorder {
    /// A limit of zero switches recording off.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, records: Mutex::new(VecDeque::new()) }
    }

    /// Keeps the record, which is built only when recording is on.
    pub(crate) fn push(&self, record: impl FnOnce() -> Record) {
        if self.limit == 0 {
            return;
        }
        let record = record();
        let mut records = self.records.lock();
        if records.len() == self.limit {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub(crate) fn list(&self) -> Vec<Record> {
        self.records.lock().iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.records.lock().clear();
    }
}

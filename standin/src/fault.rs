//! Answers a test puts in place of the real one, queued per path and used once each.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::envelope;

/// What the next request to a path gets instead of its real answer.
///
/// The request is read and recorded as usual, but nothing is checked and nothing happens.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A well-formed response. Without `Content-Length` or `Transfer-Encoding` it is framed as Go frames it.
    Reply {
        /// The HTTP status.
        status: u16,
        /// The headers, written as given; no others are added but `Date` and the framing.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// These bytes and nothing else, then the connection closes.
    Verbatim(Bytes),
    /// The connection closes without an answer.
    Hangup,
    /// No answer comes and the connection stays open until the client leaves.
    Silence,
}

impl Answer {
    /// Builds a JSON response.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self::Reply { status, headers, body: body.into() }
    }

    /// Builds an error envelope as OpenIM sends it, with status 200.
    pub fn error(code: u32, message: &str, detail: &str) -> Self {
        Self::json(200, envelope::error(code, message, detail))
    }

    /// Returns the `errCode` in the answer, if it is an envelope.
    pub(crate) fn err_code(&self) -> Option<u32> {
        let Self::Reply { body, .. } = self else { return None };
        let envelope: serde_json::Value = serde_json::from_slice(body).ok()?;
        envelope.get("errCode")?.as_u64().and_then(|code| u32::try_from(code).ok())
    }
}

/// The queued answers.
#[derive(Default)]
pub(crate) struct Faults {
    queued: Mutex<HashMap<String, VecDeque<Answer>>>,
}

impl Faults {
    pub(crate) fn push(&self, path: &str, answer: Answer) {
        self.queued.lock().entry(path.to_owned()).or_default().push_back(answer);
    }

    pub(crate) fn take(&self, path: &str) -> Option<Answer> {
        let mut queued = self.queued.lock();
        let answers = queued.get_mut(path)?;
        let answer = answers.pop_front();
        if answers.is_empty() {
            queued.remove(path);
        }
        answer
    }
}

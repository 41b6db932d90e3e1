//! What is said to a client that the front door turned away, and the access line of it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, ORIGIN, USER_AGENT};
use http::{HeaderName, HeaderValue};
use imgate_filters::context::OperationId;
use imgate_filters::operation_id;

use super::Gateway;
use crate::access_log::{Line, Phases};
use crate::admission::Pacer;
use crate::front::{Bounds, Desk, Refusal, Refused};
use crate::operation::fresh_operation_id;
use crate::reply;

impl Desk for Gateway {
    fn bounds(&self) -> Bounds {
        self.snapshot.load().bounds
    }

    fn handshakes(&self) -> Option<Arc<Pacer>> {
        self.snapshot.load().handshakes.clone()
    }

    fn refuse(&self, refused: &Refused<'_>) -> Refusal {
        let snapshot = self.snapshot.load_full();
        let seen = Seen::of(refused.head);
        let operation_id = seen.operation_id();
        let reply = reply::refuse(
            refused.reject,
            snapshot.to(None, seen.header(&ORIGIN).as_ref(), operation_id.value()),
        );
        self.metrics.refused(refused.reject.cause);
        self.note(refused, &seen, &operation_id, &reply);
        Refusal { head: reply.head, body: reply.body }
    }
}

impl Gateway {
    fn note(&self, refused: &Refused<'_>, seen: &Seen<'_>, operation_id: &OperationId, reply: &reply::Reply) {
        let (method, path) = seen.request_line();
        let agent = seen.text(&USER_AGENT);
        self.log.write(&Line {
            status: reply.head.status.as_u16(),
            err_code: Some(i64::from(reply.err_code)),
            cause: Some(refused.reject.cause.as_str()),
            reason: Some(refused.reject.reason),
            bytes_out: reply.body.len() as u64,
            ms: Phases { total: refused.began.elapsed(), ..Phases::default() },
            user_agent: (!agent.is_empty()).then_some(&*agent),
            ..Line::unread(
                refused.at,
                operation_id.as_str(),
                client(refused),
                &method,
                &seen.text(&HOST),
                &path,
            )
        });
    }
}

fn client(refused: &Refused<'_>) -> IpAddr {
    refused.peer.address.ip()
}

/// What can be made out of a head that nobody may act on.
struct Seen<'a>(&'a [u8]);

impl<'a> Seen<'a> {
    fn of(head: &'a [u8]) -> Self {
        Self(head)
    }

    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end)
    }

    /// The method and the path without its query, which may hold a token.
    fn request_line(&self) -> (String, String) {
        let line = self.lines().find(|line| !line.is_empty()).unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        // Something that does not begin like a request may be anything, a secret too.
        if !method.iter().all(u8::is_ascii_alphabetic) || path.first() != Some(&b'/') {
            return Default::default();
        }
        (lossy(method), lossy(path))
    }

    fn value(&self, name: &HeaderName) -> &'a [u8] {
        let named = |line: &&[u8]| {
            line.get(..name.as_str().len()).is_some_and(|n| n.eq_ignore_ascii_case(name.as_str().as_bytes()))
                && line.get(name.as_str().len()) == Some(&b':')
        };
        let line = self.lines().skip(1).find(named).unwrap_or_default();
        line.get(name.as_str().len() + 1..).unwrap_or_default().trim_ascii()
    }

    fn text(&self, name: &HeaderName) -> String {
        lossy(self.value(name))
    }

    fn header(&self, name: &HeaderName) -> Option<HeaderValue> {
        let value = self.value(name);
        (!value.is_empty()).then(|| HeaderValue::from_bytes(value).ok())?
    }

    fn operation_id(&self) -> OperationId {
        let sent = self.header(&operation_id::HEADER).and_then(|value| OperationId::from_client(&value));
        sent.unwrap_or_else(fresh_operation_id)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

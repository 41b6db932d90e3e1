//! Asks a server whether it is well, in a language it speaks.
//!
//! OpenIM has no health endpoint, answers 404 to `GET /`, and says 200 to nearly everything, so its API
//! is asked to judge a token that is none and its message gateway to let in somebody without arguments:
//! a server that says the right no is well. Each check opens a connection of its own, as clients do.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::server::Lease;
use super::{ConnectError, Connection, Server};
use crate::exchange::{self, Answer, ExchangeError};

/// How servers are asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is asked.
    pub kind: Kind,
    /// How long between two checks of a server, give or take a tenth.
    pub interval: Duration,
    /// How long a check may take in all.
    pub timeout: Duration,
    /// How many checks in a row must fail for a server to be down.
    pub unhealthy_after: u32,
    /// How many checks in a row must pass for it to be up again.
    pub healthy_after: u32,
}

impl Options {
    /// The defaults for checks of this kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }
}

/// What a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenIM's REST API: it must give a verdict on a token that is none.
    OpenimApi,
    /// OpenIM's message gateway: it must refuse a handshake without arguments.
    OpenimSocket,
    /// `GET` of this path: a status of 2xx or 3xx.
    Http(Box<str>),
    /// Nothing: it must accept a connection.
    Tcp,
}

/// OpenIM's verdicts on a token, which it cannot give while its auth service is down.
/// Source: open-im-server `pkg/common/servererrs/code.go`.
const VERDICTS: std::ops::RangeInclusive<i64> = 1501..=1507;

/// OpenIM's `ConnArgsErr`. One that is full says 1601 before it looks at the arguments.
/// Source: open-im-server `pkg/common/servererrs/code.go`.
const ARGUMENTS_MISSING: i64 = 1602;

/// The most of an answer that is read, in bytes.
const HOLD: usize = 64 * 1024;

/// Why a server is not well.
#[derive(Debug, thiserror::Error)]
pub enum Sick {
    /// It accepts no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It does not answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// It answers something else than a healthy server would.
    #[error("status {status}, errCode {err_code:?}")]
    Answer {
        /// The status.
        status: u16,
        /// OpenIM's code, if the answer has one.
        err_code: Option<i64>,
    },
}

/// Asks a server.
///
/// # Errors
/// It is not well, for this reason.
pub(super) async fn probe(server: &Arc<Server>, options: &Options) -> Result<(), Sick> {
    tokio::time::timeout(options.timeout, ask(server, &options.kind)).await.map_err(|_| Sick::Timeout)?
}

async fn ask(server: &Arc<Server>, kind: &Kind) -> Result<(), Sick> {
    let connection = Connection::fresh(server.open().await?, Lease::look(server));
    let (method, wire) = match kind {
        Kind::Tcp => return Ok(()),
        Kind::OpenimApi => (Method::POST, openim_api(server)),
        Kind::OpenimSocket => (Method::GET, get(server, "/")),
        Kind::Http(path) => (Method::GET, get(server, path)),
    };
    let answer = exchange::examine(connection, wire.as_bytes(), &method, HOLD).await?;
    if is_well(kind, &answer) {
        return Ok(());
    }
    Err(Sick::Answer { status: answer.head.status.as_u16(), err_code: answer.err_code() })
}

fn is_well(kind: &Kind, answer: &Answer) -> bool {
    let (status, code) = (answer.head.status, answer.err_code());
    match kind {
        Kind::OpenimApi => status == 200 && code.is_some_and(|code| VERDICTS.contains(&code)),
        Kind::OpenimSocket => status == 200 && code == Some(ARGUMENTS_MISSING),
        Kind::Http(_) => status.is_success() || status.is_redirection(),
        Kind::Tcp => true,
    }
}

fn openim_api(server: &Server) -> String {
    let body = r#"{"token":"imgate"}"#;
    format!(
        "POST /auth/parse_token HTTP/1.1\r\nhost: {}\r\noperationid: imgate-health-check\r\n\
         content-type: application/json\r\naccept-encoding: identity\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        server.authority(),
        body.len()
    )
}

fn get(server: &Server, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: imgate-health-check\r\naccept-encoding: identity\r\n\
         connection: close\r\n\r\n",
        server.authority()
    )
}

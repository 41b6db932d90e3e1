//! A link to one server on which it announces changes.
//!
//! A RESP3 connection of its own with `CLIENT TRACKING ON BCAST` for the prefixes of our records. What
//! the server announces is dropped from the cache in the task that reads the socket, before anything
//! else happens: no queue that could overflow.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Cmd, PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::Shared;
use super::canary::Canary;
use super::dial::Wire;
use super::sentinel;
use super::topology::{Server, Topology};
use crate::key::Keys;
use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::cache::Caches;
use crate::store::config::Proof;

/// Time between two questions whether all is well, and how long an answer on a link may take. Together
/// they stay below [`MAX_SILENCE`](crate::store::link::MAX_SILENCE).
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);

/// What was being done when a link failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Finding the servers.
    Discover,
    /// Connecting and saying who we are.
    Connect,
    /// `ROLE`.
    Role,
    /// `CLIENT TRACKING`.
    Track,
    /// Proving that announcements arrive.
    Prove,
    /// Asking now and then whether all is well.
    Keep,
}

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Connect => "connect",
            Self::Role => "role",
            Self::Track => "track",
            Self::Prove => "prove",
            Self::Keep => "keep",
        }
    }
}

/// Why changes are not announced any more, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) step: Step,
    pub(super) server: Option<Address>,
    pub(super) why: Unavailable,
}

/// A link that works.
pub(super) struct Link {
    pub(super) server: Address,
    wire: Wire,
}

impl Link {
    /// Connects, asks for announcements, and has it proven that they arrive. `caches` is told of them, and
    /// `gone` is rung when the connection ends.
    pub(super) async fn establish(
        shared: &Shared,
        server: &Server,
        keys: &Keys,
        caches: Option<&Arc<Caches>>,
        gone: &Arc<Notify>,
    ) -> Result<Self, Lost> {
        let at = |step| {
            let server = Some(server.address.clone());
            move |why| Lost { step, server, why }
        };
        let canary = Arc::new(Canary::new(keys, server.slot).map_err(at(Step::Prove))?);
        let config = settings(&canary, caches.cloned(), gone);
        let mut wire = shared.target.dialer.open(&server.address, config).await.map_err(at(Step::Connect))?;
        let patience = shared.target.connect_timeout;
        if let Topology::Sentinel(_) = &shared.topology {
            sentinel::is_master(&mut wire.commands, patience).await.map_err(at(Step::Role))?;
        }
        let mut link = Self { server: server.address.clone(), wire };
        link.ask(&track(keys)).await.map_err(|lost| Lost { step: Step::Track, ..lost })?;
        let proven = match shared.target.proof {
            Proof::Canary => canary.fly(&mut link.wire.commands, patience).await,
            Proof::Info => link.means_to_announce(keys).await,
        };
        proven.map_err(at(Step::Prove))?;
        Ok(link)
    }

    /// Sends a command; an error it answers is an error.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, Lost> {
        let answer = self.wire.commands.send_packed_command(command).await;
        let answer = match answer {
            Ok(Value::ServerError(error)) => Err(Unavailable::from(&error)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Unavailable::from(&error)),
        };
        answer.map_err(|why| self.lost(why))
    }

    pub(super) fn lost(&self, why: Unavailable) -> Lost {
        Lost { step: Step::Keep, server: Some(self.server.clone()), why }
    }

    /// Asks the server what it means to announce.
    async fn means_to_announce(&mut self, keys: &Keys) -> Result<(), Unavailable> {
        let answer = self.ask(redis::cmd("CLIENT").arg("TRACKINGINFO")).await.map_err(|lost| lost.why)?;
        let mut info: HashMap<String, Value> =
            redis::from_redis_value(answer).map_err(|_| Unavailable::Silent)?;
        let mut words = |field: &str| -> Vec<String> {
            info.remove(field).and_then(|words| redis::from_redis_value(words).ok()).unwrap_or_default()
        };
        let (flags, prefixes) = (words("flags"), words("prefixes"));
        let on = ["on", "bcast"].iter().all(|flag| flags.iter().any(|set| set == flag));
        let whole = keys.tracked_prefixes().iter().all(|prefix| prefixes.iter().any(|set| set == prefix));
        if on && whole { Ok(()) } else { Err(Unavailable::Silent) }
    }
}

fn settings(canary: &Arc<Canary>, caches: Option<Arc<Caches>>, gone: &Arc<Notify>) -> AsyncConnectionConfig {
    let (canary, gone) = (Arc::clone(canary), Arc::clone(gone));
    let on_push = move |push: PushInfo| -> Result<(), Infallible> {
        match push.kind {
            PushKind::Invalidate => announced(&canary, caches.as_deref(), push.data),
            PushKind::Disconnection => gone.notify_one(),
            _ => {}
        }
        Ok(())
    };
    AsyncConnectionConfig::new().set_response_timeout(Some(ASK_EVERY)).set_push_sender(on_push)
}

/// Asks for announcements of changes under all our prefixes, whoever reads them.
fn track(keys: &Keys) -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in keys.tracked_prefixes() {
        command.arg("PREFIX").arg(prefix);
    }
    command
}

/// Drops what the server says has changed. Runs in the task that reads the socket, so it must not wait.
fn announced(canary: &Canary, caches: Option<&Caches>, data: Vec<Value>) {
    let changed = |key: &[u8]| {
        if !canary.heard(key) {
            caches.inspect(|caches| caches.changed(key));
        }
    };
    for value in data {
        match value {
            Value::Array(keys) => keys.iter().for_each(|key| match key {
                Value::BulkString(key) => changed(key),
                Value::SimpleString(key) => changed(key.as_bytes()),
                _ => caches.into_iter().for_each(Caches::flushed),
            }),
            // Nil is FLUSHALL or FLUSHDB; anything else we cannot read must not be ignored either.
            _ => caches.into_iter().for_each(Caches::flushed),
        }
    }
}

//! The link on which Redis announces changes.
//!
//! A RESP3 connection of its own with `CLIENT TRACKING ON BCAST` for the prefixes of our records. What
//! Redis announces is dropped from the cache in the task that reads the socket, before anything else
//! happens: no queue that could overflow. A PING every half second proves that the link works. When
//! it does not, a new one is tried soon, and then ever more slowly.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::Unavailable;
use super::cache::Caches;
use super::config::Target;
use crate::key::Keys;

/// Time between two PINGs, and how long an answer on this link may take. Together they stay below
/// [`MAX_SILENCE`](super::link::MAX_SILENCE).
const PING_EVERY: Duration = Duration::from_millis(500);

/// The first pause after a failed try; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Spreads `pause` by a quarter either way, so that gateways do not come back in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    // Without randomness the pauses are merely in step.
    let roll = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.75 + 0.5 * f64::from(roll) / f64::from(u32::MAX))
}

/// Keeps the link up for as long as it is polled.
pub(super) async fn supervise(target: Target, caches: Arc<Caches>) {
    let mut pause = MIN_PAUSE;
    let mut was_refused = false;
    loop {
        match establish(&target, &caches).await {
            Ok(tracked) => {
                info!("store announces changes");
                (pause, was_refused) = (MIN_PAUSE, false);
                let why = keep(tracked, &caches).await;
                if caches.link.lost() {
                    caches.counters.link_losses.add();
                }
                warn!(cause = why.as_str(), "store no longer announces changes");
            }
            Err(error) if !was_refused => {
                was_refused = true;
                warn!(cause = Unavailable::from(&error).as_str(), "store does not announce changes");
            }
            Err(_) => {}
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

struct Tracked {
    connection: MultiplexedConnection,
    gone: Arc<Notify>,
}

async fn establish(target: &Target, caches: &Arc<Caches>) -> Result<Tracked, RedisError> {
    let gone = Arc::new(Notify::new());
    let (sink, closed) = (Arc::clone(caches), Arc::clone(&gone));
    let on_push = move |push: PushInfo| -> Result<(), Infallible> {
        match push.kind {
            PushKind::Invalidate => announced(&sink, push.data),
            PushKind::Disconnection => closed.notify_one(),
            _ => {}
        }
        Ok(())
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(target.connect_timeout))
        .set_response_timeout(Some(PING_EVERY))
        .set_push_sender(on_push);
    let connection = target.client.get_multiplexed_async_connection_with_config(&config).await?;
    let sent = Instant::now();
    track(&mut connection.clone(), &caches.keys).await?;
    caches.link.up(sent);
    Ok(Tracked { connection, gone })
}

/// Asks Redis to announce changes under all our prefixes, whoever reads them.
pub(super) async fn track(connection: &mut MultiplexedConnection, keys: &Keys) -> Result<(), RedisError> {
    let mut command = redis::cmd("CLIENT");
    command.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in keys.tracked_prefixes() {
        command.arg("PREFIX").arg(prefix);
    }
    command.exec_async(connection).await
}

/// Drops what Redis says has changed. Runs in the task that reads the socket, so it must not wait.
fn announced(caches: &Caches, data: Vec<Value>) {
    for value in data {
        match value {
            Value::Array(keys) => keys.iter().for_each(|key| match key {
                Value::BulkString(key) => caches.changed(key),
                Value::SimpleString(key) => caches.changed(key.as_bytes()),
                _ => caches.flushed(),
            }),
            // Nil is FLUSHALL or FLUSHDB; anything else we cannot read must not be ignored either.
            _ => caches.flushed(),
        }
    }
}

/// Returns when the link is lost, with the reason.
async fn keep(mut tracked: Tracked, caches: &Caches) -> Unavailable {
    loop {
        let sent = Instant::now();
        if let Err(error) = redis::cmd("PING").exec_async(&mut tracked.connection).await {
            return Unavailable::from(&error);
        }
        caches.link.prove(sent);
        let next = PING_EVERY.saturating_sub(sent.elapsed());
        if timeout(next, tracked.gone.notified()).await.is_ok() {
            return Unavailable::Down;
        }
    }
}

/// Tries once whether this Redis can be used: that it answers, and announces changes.
pub(super) async fn probe(client: &Client, keys: &Keys, patience: Duration) -> Result<bool, RedisError> {
    let on_push = |_: PushInfo| -> Result<(), Infallible> { Ok(()) };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience))
        .set_push_sender(on_push);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").exec_async(&mut connection).await?;
    track(&mut connection, keys).await?;
    redis::cmd("EXISTS").arg(keys.store_mark()).query_async(&mut connection).await
}

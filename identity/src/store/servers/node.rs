//! One server, and the one connection that commands to it travel on, watched over by a task.
//!
//! Callers share the connection and never wait longer than their deadline. When a command fails or
//! times out the connection is suspect: it has to answer a PING before anybody uses it again. While
//! it is known to be down callers fail at once; the task alone tries, a few times a second.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::dial::{Dialer, Wire};
use super::jittered;
use super::sentinel::{self, Sentinels};
use crate::store::Unavailable;
use crate::store::address::Address;

/// Time between two tries to connect.
const RETRY: Duration = Duration::from_millis(200);

/// How often an idle connection is asked whether it still works.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// How many commands may wait to be written; the library's default of 50 makes bursts queue twice.
const QUEUE: usize = 1024;

/// What a server is to us, and so what a new connection to it has to show.
#[derive(Clone)]
pub(super) enum Role {
    /// It answers for what it holds; in a cluster it says itself what it does not.
    Server,
    /// It is the master of the group, as most sentinels and the server itself say.
    Master(Arc<Sentinels>),
    /// It tells of masters. The note is rung when it announces another.
    Sentinel(Arc<Notify>),
}

impl Role {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Master(_) => "master",
            Self::Sentinel(_) => "sentinel",
        }
    }
}

#[derive(Clone)]
enum State {
    /// A first try, or a check, is under way: callers wait for it.
    Unknown,
    Up(MultiplexedConnection),
    /// The last try failed: callers do not wait.
    Down(Unavailable),
}

pub(super) struct Node {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    address: Address,
    dialer: Dialer,
    role: Role,
    /// How long the connection may take to answer a PING.
    timeout: Duration,
    state: watch::Sender<State>,
    suspected: Arc<Notify>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    /// Starts to connect; needs a tokio runtime.
    pub(super) fn spawn(address: Address, dialer: Dialer, role: Role, timeout: Duration) -> Self {
        let shared = Arc::new(Shared {
            address,
            dialer,
            role,
            timeout,
            state: watch::Sender::new(State::Unknown),
            suspected: Arc::new(Notify::new()),
        });
        let task = tokio::spawn(Arc::clone(&shared).supervise());
        Self { shared, task }
    }

    pub(super) fn address(&self) -> &Address {
        &self.shared.address
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up(_))
    }

    /// Sends `commands` in one round trip. Errors of single commands are among the values.
    pub(super) async fn ask(
        &self,
        mut commands: Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, Unavailable> {
        let mut connection = self.shared.connection(deadline).await?;
        let asked = commands.ignore_errors().query_async(&mut connection);
        match timeout_at(deadline, asked).await {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => {
                self.shared.suspect();
                Err(Unavailable::from(&error))
            }
            Err(_) => {
                self.shared.suspect();
                Err(Unavailable::Deadline)
            }
        }
    }
}

impl Shared {
    async fn connection(&self, deadline: Instant) -> Result<MultiplexedConnection, Unavailable> {
        let mut states = self.state.subscribe();
        let known = states.wait_for(|state| !matches!(state, State::Unknown));
        match timeout_at(deadline, known).await {
            Ok(Ok(state)) => match &*state {
                State::Up(connection) => Ok(connection.clone()),
                State::Down(why) => Err(*why),
                State::Unknown => Err(Unavailable::Down),
            },
            Ok(Err(_)) => Err(Unavailable::Down),
            Err(_) => Err(Unavailable::Deadline),
        }
    }

    /// Takes the connection out of use until it has answered.
    fn suspect(&self) {
        self.state.send_if_modified(|state| {
            let up = matches!(state, State::Up(_));
            if up {
                *state = State::Unknown;
            }
            up
        });
        self.suspected.notify_one();
    }

    async fn supervise(self: Arc<Self>) {
        loop {
            match self.connect().await {
                Ok(wire) => {
                    self.found(State::Up(wire.commands.clone()));
                    self.watch_over(wire).await;
                    // One try is made before callers are turned away: the server may just have restarted.
                    self.found(State::Unknown);
                }
                Err(why) => {
                    self.found(State::Down(down(why)));
                    sleep(jittered(RETRY)).await;
                }
            }
        }
    }

    fn found(&self, next: State) {
        let was_down = matches!(self.state.send_replace(next), State::Down(_));
        let (server, role) = (&self.address, self.role.as_str());
        match &*self.state.borrow() {
            State::Up(_) if was_down => info!(%server, role, "store is reachable again"),
            State::Down(why) if !was_down => {
                warn!(%server, role, cause = why.as_str(), "store is unreachable");
            }
            State::Up(_) | State::Down(_) | State::Unknown => {}
        }
    }

    async fn connect(&self) -> Result<Wire, Unavailable> {
        if let Role::Master(sentinels) = &self.role {
            // Asked anew each time: a master that died and came back may have been replaced meanwhile.
            sentinels.confirm(&self.address).await?;
        }
        let mut wire = self.dialer.open(&self.address, self.settings()).await?;
        match &self.role {
            Role::Server => {}
            Role::Master(_) => sentinel::is_master(&mut wire.commands, self.dialer.patience()).await?,
            Role::Sentinel(_) => sentinel::subscribe(&mut wire.commands, self.dialer.patience()).await,
        }
        Ok(wire)
    }

    fn settings(&self) -> AsyncConnectionConfig {
        let suspected = Arc::clone(&self.suspected);
        let switched = match &self.role {
            Role::Sentinel(switched) => Some(Arc::clone(switched)),
            Role::Server | Role::Master(_) => None,
        };
        let on_push = move |push: PushInfo| -> Result<(), Infallible> {
            match (push.kind, &switched) {
                (PushKind::Disconnection, _) => suspected.notify_one(),
                (PushKind::Message, Some(switched)) => switched.notify_one(),
                _ => {}
            }
            Ok(())
        };
        AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(on_push)
    }

    /// Returns when the connection no longer answers.
    async fn watch_over(&self, mut wire: Wire) {
        loop {
            // An idle check is not urgent: callers go on meanwhile.
            let _ = timeout(IDLE_CHECK, self.suspected.notified()).await;
            if !answers(&mut wire.commands, self.timeout).await {
                return;
            }
            if matches!(*self.state.borrow(), State::Unknown) {
                self.found(State::Up(wire.commands.clone()));
            }
        }
    }
}

/// Why there is no connection. That connecting took too long is not the caller's deadline.
fn down(why: Unavailable) -> Unavailable {
    match why {
        Unavailable::Deadline => Unavailable::Down,
        other => other,
    }
}

/// Whether the connection carries an answer, even an error: it is the transport that is in question.
async fn answers(connection: &mut MultiplexedConnection, patience: Duration) -> bool {
    let ping = redis::cmd("PING");
    match timeout(patience, connection.send_packed_command(&ping)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => !error.is_unrecoverable_error() && !error.is_io_error(),
        Err(_) => false,
    }
}

//! The connection that commands travel on, watched over by a task of its own.
//!
//! Callers share one connection and never wait longer than their deadline. When a command fails or
//! times out the connection is suspect: it has to answer a PING before anybody uses it again. While
//! it is known to be down callers fail at once; the task alone tries, a few times a second.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::Unavailable;
use super::config::Target;
use super::tracking::jittered;

/// Time between two tries to connect.
const RETRY: Duration = Duration::from_millis(200);

/// How often an idle connection is asked whether it still works.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// How many commands may wait to be written; the library's default of 50 makes bursts queue twice.
const QUEUE: usize = 1024;

#[derive(Clone)]
enum State {
    /// A first try, or a check, is under way: callers wait for it.
    Unknown,
    Up(MultiplexedConnection),
    /// The last try failed: callers do not wait.
    Down(Unavailable),
}

pub(super) struct Commands {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: Target,
    state: watch::Sender<State>,
    suspected: Arc<Notify>,
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Commands {
    /// Starts to connect; needs a tokio runtime.
    pub(super) fn spawn(target: Target) -> Self {
        let shared = Arc::new(Shared {
            target,
            state: watch::Sender::new(State::Unknown),
            suspected: Arc::new(Notify::new()),
        });
        let task = tokio::spawn(Arc::clone(&shared).supervise());
        Self { shared, task }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up(_))
    }

    /// When a call that begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.target.timeout
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
                Ok(connection) => {
                    self.found(State::Up(connection.clone()));
                    self.watch_over(connection).await;
                    // One try is made before callers are turned away: Redis may just have restarted.
                    self.found(State::Unknown);
                }
                Err(error) => {
                    self.found(State::Down(down(&error)));
                    sleep(jittered(RETRY)).await;
                }
            }
        }
    }

    fn found(&self, next: State) {
        let was_down = matches!(self.state.send_replace(next), State::Down(_));
        match &*self.state.borrow() {
            State::Up(_) if was_down => info!("store is reachable again"),
            State::Down(why) if !was_down => warn!(cause = why.as_str(), "store is unreachable"),
            State::Up(_) | State::Down(_) | State::Unknown => {}
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let suspected = Arc::clone(&self.suspected);
        let on_push = move |push: PushInfo| -> Result<(), Infallible> {
            if push.kind == PushKind::Disconnection {
                suspected.notify_one();
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.target.connect_timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(on_push);
        self.target.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Returns when the connection no longer answers.
    async fn watch_over(&self, mut connection: MultiplexedConnection) {
        loop {
            // An idle check is not urgent: callers go on meanwhile.
            let _ = timeout(IDLE_CHECK, self.suspected.notified()).await;
            if !answers(&mut connection, self.target.timeout).await {
                return;
            }
            if matches!(*self.state.borrow(), State::Unknown) {
                self.found(State::Up(connection.clone()));
            }
        }
    }
}

/// Why there is no connection. That connecting took too long is not the caller's deadline.
fn down(error: &RedisError) -> Unavailable {
    match Unavailable::from(error) {
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

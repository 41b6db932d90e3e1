//! The old process's side: it starts a successor, and watches over it until it could serve.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::link::{Link, Packet};
use super::{ENVIRONMENT, GO, HELLO, PROMPT, READY};

/// What systemd tells of sockets and watchdogs is meant for one process alone. Source: sd_listen_fds(3),
/// sd_watchdog_enabled(3).
const NOT_INHERITED: [&str; 5] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// This process does not know how it was started.
    #[error("the command that this process was started with is not known")]
    Nameless,
    /// The binary cannot be started.
    #[error("{} cannot be started: {cause}", program.display())]
    Start {
        /// The binary.
        program: OsString,
        /// Why not.
        cause: io::Error,
    },
    /// The socket between the two cannot be used.
    #[error("the sockets cannot be handed over: {0}")]
    Socket(#[from] io::Error),
    /// The successor ended before it was ready; its own log says why.
    #[error("the successor ended before it was ready: {0}")]
    Ended(ExitStatus),
    /// The successor was not ready in time, and was ended.
    #[error("the successor was not ready within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// This process is told to stop.
    #[error("this process was told to stop")]
    CalledOff,
    /// What was started is no successor.
    #[error("the successor says what no successor says")]
    Strange,
}

/// A process that is to replace this one.
pub struct Successor {
    child: Child,
    link: Link,
}

impl Successor {
    /// Starts the binary that is on disk now, with the arguments of this process, and waits until it says
    /// that it could serve on these sockets. It is ended if it does not.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready within `patience` or before it is `called_off`.
    pub async fn start(
        sockets: &[(String, OwnedFd)],
        patience: Duration,
        called_off: &CancellationToken,
    ) -> Result<Self, UpgradeError> {
        let (link, theirs) = Link::pair()?;
        let mut successor = Self { child: spawn(theirs)?, link };
        let ready = tokio::select! {
            ready = successor.become_ready(sockets) => ready,
            () = tokio::time::sleep(patience) => Err(UpgradeError::Late(patience)),
            () = called_off.cancelled() => Err(UpgradeError::CalledOff),
        };
        match ready {
            Ok(()) => Ok(successor),
            Err(why) => Err(successor.end(why).await),
        }
    }

    /// Ends it although it was ready.
    pub async fn call_off(self) {
        let _ = self.end(UpgradeError::CalledOff).await;
    }

    /// Its process id, as long as it lives.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Lets it serve. From now on it lives on without us.
    ///
    /// # Errors
    /// It has ended meanwhile.
    pub async fn go(self) -> Result<Child, UpgradeError> {
        let sent = tokio::time::timeout(PROMPT, self.link.send(GO, None)).await;
        match sent {
            Ok(Ok(())) => Ok(self.child),
            Ok(Err(_)) | Err(_) => Err(self.end(UpgradeError::Strange).await),
        }
    }

    async fn become_ready(&mut self, sockets: &[(String, OwnedFd)]) -> Result<(), UpgradeError> {
        match self.hand_over(sockets).await {
            Ok(Some(Packet { word, .. })) if word == READY => Ok(()),
            Ok(Some(_)) => Err(UpgradeError::Strange),
            // However the socket tells it: one that ends with unread words in it resets the connection.
            Ok(None) | Err(_) => Err(UpgradeError::Ended(self.child.wait().await?)),
        }
    }

    /// Sends the sockets, and waits for the answer.
    async fn hand_over(&self, sockets: &[(String, OwnedFd)]) -> io::Result<Option<Packet>> {
        self.link.send(&format!("{HELLO} {}", sockets.len()), None).await?;
        for (address, socket) in sockets {
            self.link.send(address, Some(socket.as_fd())).await?;
        }
        self.link.receive().await
    }

    /// Ends the process, and tells how it ended if it was faster than we.
    async fn end(mut self, why: UpgradeError) -> UpgradeError {
        if let Ok(Some(status)) = self.child.try_wait() {
            return UpgradeError::Ended(status);
        }
        // Nothing is lost with it: it was never let to accept.
        if let Err(error) = self.child.kill().await {
            return error.into();
        }
        why
    }
}

fn spawn(theirs: OwnedFd) -> Result<Child, UpgradeError> {
    let mut arguments = std::env::args_os();
    // As it was called: a link that was moved to another release since then leads there.
    let program = arguments.next().ok_or(UpgradeError::Nameless)?;
    let mut command = Command::new(&program);
    command.args(arguments).env(ENVIRONMENT, "1").stdin(Stdio::from(theirs));
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    // What is dropped here is our copy of its end, so that we notice when it closes its own.
    command.spawn().map_err(|cause| UpgradeError::Start { program, cause })
}

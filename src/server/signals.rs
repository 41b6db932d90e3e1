//! The signals a gateway heeds.
//!
//! A signal that comes while another of its kind is being dealt with is heeded once more afterwards; a
//! hundred of them are no more than that.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: the configuration is to be loaded anew.
    Reload,
    /// SIGUSR2: the binary on disk is to take over.
    Upgrade,
    /// SIGTERM, SIGINT or SIGQUIT: no more connections, and an end when those there are have ended.
    Stop,
}

/// Listens for them from the moment it is made.
pub struct Signals {
    hangup: unix::Signal,
    user2: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next of any kind; a stop comes before all else.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.quit.recv() => Signal::Stop,
            _ = self.user2.recv() => Signal::Upgrade,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Waits to be told to stop, leaving the others for later.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

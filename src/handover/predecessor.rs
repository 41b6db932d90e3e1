//! The successor's side: what was handed over, and the one who did.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::link::Link;
use super::{ENVIRONMENT, GO, HELLO, PROMPT, READY};

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The socket cannot be used.
    #[error("the socket of the process before cannot be used: {0}")]
    Socket(#[from] io::Error),
    /// The other one speaks another version, or is no imgate.
    #[error("the process before hands over in a way that this version does not know\nhint: restart instead")]
    Unknown,
    /// The other one kept silent.
    #[error("the process before fell silent")]
    Silent,
    /// The other one is gone, or does not want to be replaced any more.
    #[error("the process before called it off")]
    CalledOff,
}

/// The one who serves until we do.
pub struct Predecessor(Link);

/// Listening sockets that were handed over, each beside the address that it was configured with.
#[derive(Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// The socket that was configured with this address, once for each that there is.
    pub fn take(&mut self, address: &str) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(known, _)| known == address)?;
        Some(self.0.remove(at).1)
    }

    /// The addresses that nobody has taken. Dropping this closes them.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(address, _)| &**address)
    }
}

impl Predecessor {
    /// Takes over the sockets of the process that started this one, if it did so to be replaced.
    ///
    /// # Errors
    /// It did, but the sockets do not come.
    pub async fn find() -> Result<Option<(Self, Inherited)>, InheritError> {
        if std::env::var_os(ENVIRONMENT).is_none() {
            return Ok(None);
        }
        let ours = io::stdin().as_fd().try_clone_to_owned()?;
        // Nobody else should hold the socket: its end is how a predecessor notices ours.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        let link = Link::over(ours)?;
        let inherited = tokio::time::timeout(PROMPT, receive(&link)).await;
        let inherited = inherited.map_err(|_| InheritError::Silent)??;
        Ok(Some((Self(link), inherited)))
    }

    /// Says that this process could serve, and waits to be let.
    ///
    /// # Errors
    /// The other one changed its mind, is gone, or falls silent.
    pub async fn replace(self) -> Result<(), InheritError> {
        self.0.send(READY, None).await.map_err(|_| InheritError::CalledOff)?;
        let answer = tokio::time::timeout(PROMPT, self.0.receive()).await;
        match answer.map_err(|_| InheritError::Silent)?? {
            Some(packet) if packet.word == GO => Ok(()),
            Some(_) => Err(InheritError::Unknown),
            None => Err(InheritError::CalledOff),
        }
    }
}

/// A hello that says how many follow, and then those.
async fn receive(link: &Link) -> Result<Inherited, InheritError> {
    let hello = link.receive().await?.ok_or(InheritError::CalledOff)?;
    let count = hello.word.strip_prefix(HELLO).and_then(|rest| rest.trim_start().parse::<usize>().ok());
    let mut inherited = Vec::new();
    for _ in 0..count.ok_or(InheritError::Unknown)? {
        let packet = link.receive().await?.ok_or(InheritError::CalledOff)?;
        inherited.push((packet.word, packet.descriptor.ok_or(InheritError::Unknown)?));
    }
    Ok(Inherited(inherited))
}

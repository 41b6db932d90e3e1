//! Replacing the binary without a refused connection: the sockets that listen go to a successor.
//!
//! The old process starts the binary that is on disk now, with a socket as its standard input, and sends
//! over it each listening socket beside the address it was configured with. The successor loads its
//! configuration, takes what it finds a use for, binds the rest, and says `ready`. Only the old one's
//! `go` lets it accept, upon which the old one stops. A successor that ends, refuses or keeps silent is ended,
//! and all is as before.

mod link;
mod predecessor;
mod successor;

use std::time::Duration;

pub use self::predecessor::{InheritError, Inherited, Predecessor};
pub use self::successor::{Successor, UpgradeError};

/// Tells a process that its standard input is the socket of its predecessor.
const ENVIRONMENT: &str = "IMGATE_HANDOVER";

/// The first word on the socket, and the version of all that follows.
const HELLO: &str = "imgate-handover/1";

/// The successor could serve now.
const READY: &str = "ready";

/// The successor is to serve now.
const GO: &str = "go";

/// How long a process waits for a word that the other has only to send.
const PROMPT: Duration = Duration::from_secs(10);

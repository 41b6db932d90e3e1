//! `imgate session token`: what a stock OpenIM SDK carries instead of signing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::session_token::{self, TokenKey};
use imgate_identity::time::UnixTime;
use imgate_identity::user::Platform;

use super::parse_platform;
use crate::cli::{Failure, read_secret, say};

/// Makes a session token, as a client does: without a look at the store.
#[derive(Debug, Args)]
pub(in crate::cli) struct Token {
    /// The session's id, as `session create` printed it
    #[arg(long, value_name = "ID", value_parser = SessionId::parse, allow_hyphen_values = true)]
    session: SessionId,
    /// A file with the session's secret in base64
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// The session's kind of device, by OpenIM's number or name
    #[arg(long, value_name = "PLATFORM", value_parser = parse_platform)]
    platform: Platform,
    /// How long the token lives; gateways take at most a day
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

impl Token {
    /// Prints the token.
    ///
    /// # Errors
    /// The secret is malformed, or its file cannot be read.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let secret = read_secret(&self.secret_file)?;
        let secret = SessionSecret::from_base64(secret.expose()).map_err(Failure::usage)?;
        let expires_at = UnixTime::now().plus(self.ttl);
        let key = TokenKey::derive(&secret);
        say(session_token::mint(&key, &self.session, expires_at, self.platform).expose());
        Ok(())
    }
}

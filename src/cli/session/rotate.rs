//! `imgate session rotate`: another secret for a session.

use std::time::Duration;

use clap::Args;
use imgate_identity::session::SessionSecret;
use imgate_identity::store::{Rotation, Unavailable, WriteError, Writer};
use imgate_identity::time::UnixTime;
use serde_json::json;

use super::{Named, UNKNOWN};
use crate::cli::{Failure, say};

/// How often the store is asked when it is not known whether it took the secret.
const MAX_TRIES: usize = 3;

/// Gives a session a new secret.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    named: Named,
    /// How long the old secret is honoured beside the new one
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    grace: Duration,
}

impl Rotate {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let secret = SessionSecret::random().map_err(Failure::unavailable)?;
        let writer = self.named.config.writer().await?;
        match self.rotate(&writer, &secret).await {
            Ok(Rotation::Rotated(until)) => {
                self.tell(&secret, until);
                Ok(())
            }
            Ok(Rotation::Revoked(at)) => {
                Err(Failure::unavailable(format!("the session was revoked, at {at}")))
            }
            Ok(Rotation::Expired) => Err(Failure::unavailable("the session has expired")),
            Ok(Rotation::Unknown) => Err(Failure::unavailable(UNKNOWN)),
            Err(error) if is_open(error) => {
                // The store may have taken it, so it must not be lost.
                self.tell(&secret, None);
                Err(Failure::store(format!(
                    "{error}\nhint: it is not known which secret the session has now"
                )))
            }
            Err(error) => Err(Failure::store(error)),
        }
    }

    async fn rotate(&self, writer: &Writer, secret: &SessionSecret) -> Result<Rotation, WriteError> {
        let now = UnixTime::now();
        let mut tries = 1;
        loop {
            match writer.rotate_session(&self.named.session, secret, self.grace, now).await {
                Err(error) if is_open(error) && tries < MAX_TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    fn tell(&self, secret: &SessionSecret, previous_until: Option<UnixTime>) {
        let shown = json!({
            "session_id": self.named.session.to_string(),
            "secret": secret.to_base64().expose(),
            "previous_until": previous_until.map(|until| until.0),
        });
        say(&format!("{shown:#}"));
    }
}

/// Whether the write may have happened all the same.
fn is_open(error: WriteError) -> bool {
    matches!(error, WriteError::Unavailable(Unavailable::Deadline | Unavailable::Down))
}

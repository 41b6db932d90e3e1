//! `imgate session`: sessions in the store, for operators and before any backend exists.

mod reseal;
mod rotate;
mod token;

use std::time::Duration;

use clap::{Args, Subcommand};
use imgate_identity::session::{Record, SessionId, SessionSecret, Standing};
use imgate_identity::store::Revocation;
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use serde_json::json;

use super::{ConfigFile, Failure, note_missing_mark, open, say};

const UNKNOWN: &str = "there is no such session";

/// Creates, shows, rotates, revokes and reseals sessions; makes their tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// Create a session and print its id and secret, once
    Create(Create),
    /// Show a session, without its secret
    Show(Named),
    /// Revoke a session; it stays known as revoked until it would have expired
    Revoke(Named),
    /// Give a session a new secret and print it, once
    Rotate(rotate::Rotate),
    /// Seal all sessions with the first of the seal keys, so that others can be taken out
    Reseal(reseal::Reseal),
    /// Make the token that a stock OpenIM SDK carries instead of signing
    Token(token::Token),
}

/// Creates a session.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    config: ConfigFile,
    /// Whose session it is
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    user: UserId,
    /// The kind of device, by OpenIM's number or name (1 IOS, 2 Android, 5 Web, ...)
    #[arg(long, value_name = "PLATFORM", value_parser = parse_platform)]
    platform: Platform,
    /// The device, as the app names it
    #[arg(long, value_name = "NAME", default_value = "cli")]
    device: String,
    /// How long the session lives
    #[arg(long, value_name = "DURATION", default_value = "30days", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

/// Names a session.
#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    config: ConfigFile,
    /// The session's id
    #[arg(value_parser = SessionId::parse, allow_hyphen_values = true)]
    session: SessionId,
}

/// Reads a platform by OpenIM's number or name.
pub(super) fn parse_platform(text: &str) -> Result<Platform, String> {
    let by_number = text.parse::<u8>().ok().and_then(|number| Platform::try_from(number).ok());
    let mut all = (1..=11).filter_map(|number| Platform::try_from(number).ok());
    let platform = by_number
        .or_else(|| all.find(|p| p.name().eq_ignore_ascii_case(text)))
        .ok_or("not one of OpenIM's platforms: 1 IOS, 2 Android, 3 Windows, 4 OSX, 5 Web, 6 MiniWeb, 7 Linux, 8 APad, 9 IPad, 11 HarmonyOS")?;
    if platform == Platform::ADMIN { Err("no session may be an admin's".to_owned()) } else { Ok(platform) }
}

impl Session {
    /// Does it.
    ///
    /// # Errors
    /// The store cannot be used, or the session is not there.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Show(named) => named.show().await,
            Self::Revoke(named) => named.revoke().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Reseal(reseal) => reseal.run().await,
            Self::Token(token) => token.run(),
        }
    }
}

impl Create {
    async fn run(&self) -> Result<(), Failure> {
        let config = self.config.load()?;
        if config.identity.admin_users.contains(&self.user) {
            return Err(Failure::usage("this user is an OpenIM admin; no session may be an admin's"));
        }
        let writer = open(&config).await?;
        let now = UnixTime::now();
        let record = Record {
            user: self.user.clone(),
            secret: SessionSecret::random().map_err(Failure::unavailable)?,
            device: self.device.as_str().into(),
            platform: self.platform,
            issued_at: now,
            expires_at: now.plus(self.ttl),
            revoked_at: None,
            previous: None,
        };
        let id = new_id()?;
        writer.put_session(&id, &record).await.map_err(Failure::store)?;
        let secret = record.secret.to_base64();
        let shown = json!({
            "session_id": id.to_string(),
            "secret": secret.expose(),
            "user_id": record.user.as_str(),
            "platform_id": record.platform.number(),
            "expires_at": record.expires_at.0,
        });
        say(&format!("{shown:#}"));
        note_missing_mark(&config, &writer).await
    }
}

/// Names a session so that no command takes the name for an option.
fn new_id() -> Result<SessionId, Failure> {
    loop {
        let id = SessionId::random().map_err(Failure::unavailable)?;
        if !id.to_string().starts_with('-') {
            return Ok(id);
        }
    }
}

impl Named {
    async fn record(&self) -> Result<Record, Failure> {
        let record = self.config.writer().await?.session(&self.session).await.map_err(Failure::store)?;
        record.ok_or_else(|| Failure::unavailable(UNKNOWN))
    }

    async fn show(&self) -> Result<(), Failure> {
        let record = self.record().await?;
        let now = UnixTime::now();
        let standing = match imgate_identity::session::Session::new(self.session, &record).standing(now) {
            Standing::Live => "live",
            Standing::Expired => "expired",
            Standing::Revoked => "revoked",
        };
        let shown = json!({
            "session_id": self.session.to_string(),
            "standing": standing,
            "user_id": record.user.as_str(),
            "device_id": record.device,
            "platform": record.platform.name(),
            "issued_at": record.issued_at.0,
            "expires_at": record.expires_at.0,
            "revoked_at": record.revoked_at.map(|at| at.0),
            "rotated": record.previous.is_some(),
        });
        say(&format!("{shown:#}"));
        Ok(())
    }

    async fn revoke(&self) -> Result<(), Failure> {
        let writer = self.config.writer().await?;
        match writer.revoke_session(&self.session, UnixTime::now()).await.map_err(Failure::store)? {
            Revocation::Revoked => say("revoked"),
            Revocation::AlreadyRevoked(at) => say(&format!("revoked already, at {at}")),
            Revocation::Unknown => return Err(Failure::unavailable(UNKNOWN)),
        }
        Ok(())
    }
}

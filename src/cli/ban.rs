//! `imgate ban`: users who may not call, whatever session they have.

use std::time::Duration;

use clap::{Args, Subcommand};
use imgate_identity::session::Ban as Record;
use imgate_identity::time::UnixTime;
use imgate_identity::user::UserId;
use serde_json::json;

use super::{ConfigFile, Failure, say};

/// The longest reason that is taken, in bytes.
const MAX_REASON: usize = 512;

/// Bans users, shows and lifts bans.
#[derive(Debug, Subcommand)]
pub(super) enum Ban {
    /// Ban a user, in place of any ban before; every session is refused from now on
    Set(Set),
    /// Show a user's ban
    Show(Named),
    /// Lift a user's ban
    Lift(Named),
}

/// Names a user.
#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    config: ConfigFile,
    /// The user
    #[arg(value_name = "ID", value_parser = UserId::parse, allow_hyphen_values = true)]
    user: UserId,
}

/// Bans a user.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    named: Named,
    /// For how long; default: until it is lifted
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_length)]
    length: Option<Duration>,
    /// Why, for other operators; the user never sees it
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_reason)]
    reason: String,
}

fn parse_length(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if length < Duration::from_secs(1) => Err("a ban lasts a second or longer".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn parse_reason(text: &str) -> Result<String, String> {
    if text.len() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(format!("a reason is one line of at most {MAX_REASON} bytes"));
    }
    Ok(text.to_owned())
}

impl Ban {
    /// Does it.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Set(set) => set.run().await,
            Self::Show(named) => named.show().await,
            Self::Lift(named) => named.lift().await,
        }
    }
}

impl Set {
    async fn run(&self) -> Result<(), Failure> {
        let until = self.length.map_or(UnixTime(0), |length| UnixTime::now().plus(length));
        let ban = Record::new(until, &self.reason);
        let (writer, user) = (self.named.config.writer().await?, &self.named.user);
        writer.put_ban(user, &ban).await.map_err(Failure::store)?;
        say(&format!("{:#}", describe(user, Some(&ban))));
        Ok(())
    }
}

impl Named {
    async fn show(&self) -> Result<(), Failure> {
        let ban = self.config.writer().await?.ban(&self.user).await.map_err(Failure::store)?;
        say(&format!("{:#}", describe(&self.user, ban.as_ref())));
        Ok(())
    }

    async fn lift(&self) -> Result<(), Failure> {
        self.config.writer().await?.delete_ban(&self.user).await.map_err(Failure::store)?;
        say("lifted");
        Ok(())
    }
}

fn describe(user: &UserId, ban: Option<&Record>) -> serde_json::Value {
    let now = UnixTime::now();
    json!({
        "user_id": user.as_str(),
        "banned": ban.is_some_and(|ban| ban.holds(now)),
        "until": ban.map(|ban| ban.until.0).filter(|until| *until != 0),
        "reason": ban.map(|ban| &*ban.reason),
    })
}

//! `imgate token`: users' OpenIM tokens in the store.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use imgate_identity::store::{Tokens, User};
use imgate_identity::time::UnixTime;
use imgate_identity::token::OpenimToken;
use imgate_identity::user::{Platform, UserId};
use serde_json::{Value, json};

use super::openim::Openim;
use super::session::parse_platform;
use super::{ConfigFile, Failure, note_missing_mark, open, read_secret, say};
use crate::config::{Config, Upstream};

/// Mints, shows and deletes users' OpenIM tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Get a token from OpenIM and put it into the store
    Mint(Mint),
    /// Show what the store holds for a user, without the token itself
    Show(Named),
    /// Delete a user's token; OpenIM itself goes on taking it
    Delete(Named),
}

/// Mints a token.
#[derive(Debug, Args)]
pub(super) struct Mint {
    #[command(flatten)]
    config: ConfigFile,
    /// Whose token
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    user: UserId,
    /// For which kind of device, by OpenIM's number or name
    #[arg(long, value_name = "PLATFORM", value_parser = parse_platform)]
    platform: Platform,
    /// A file with OpenIM's shared secret (`config/share.yml`)
    #[arg(long, value_name = "FILE")]
    admin_secret_file: PathBuf,
    /// The OpenIM admin to act as; default: the first of identity.admin_users
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    admin: Option<UserId>,
    /// Where OpenIM's API listens; default: the upstream that the user routes lead to
    #[arg(long, value_name = "HOST:PORT")]
    api: Option<String>,
    /// Keep one token per kind of device instead of one per user
    #[arg(long)]
    per_platform: bool,
}

/// Names a user.
#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    config: ConfigFile,
    /// Whose token
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    user: UserId,
}

impl Token {
    /// Does it.
    ///
    /// # Errors
    /// OpenIM or the store cannot be used.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Mint(mint) => mint.run().await,
            Self::Show(named) => named.show().await,
            Self::Delete(named) => named.delete().await,
        }
    }
}

impl Mint {
    async fn run(&self) -> Result<(), Failure> {
        let config = self.config.load()?;
        if config.identity.admin_users.contains(&self.user) {
            return Err(Failure::usage(
                "this user is an OpenIM admin; its token has no place among users' tokens",
            ));
        }
        let openim = Openim::at(&self.servers(&config)?);
        let admin =
            self.admin.as_ref().or_else(|| config.identity.admin_users.iter().min()).ok_or_else(|| {
                Failure::usage("no OpenIM admin is known\nhint: --admin, or identity.admin_users")
            })?;
        let secret = read_secret(&self.admin_secret_file)?;
        // The store is opened first: a token that was minted and cannot be kept has kicked the old one.
        let writer = open(&config).await?;
        let admin_token = openim.admin_token(&secret, admin).await?;
        let token = openim.user_token(&admin_token, &self.user, self.platform).await?;
        if self.per_platform {
            writer
                .put_platform_token(&self.user, self.platform, token.expose())
                .await
                .map_err(Failure::store)?;
        } else {
            writer.put_token(&self.user, token.expose()).await.map_err(Failure::store)?;
        }
        let user = writer.user(&self.user).await.map_err(Failure::store)?;
        say(&format!("{:#}", describe(&self.user, &user)));
        note_missing_mark(&config, &writer).await
    }

    fn servers(&self, config: &Config) -> Result<Vec<SocketAddr>, Failure> {
        if let Some(api) = &self.api {
            let found =
                api.to_socket_addrs().map_err(|error| Failure::usage(format!("--api {api}: {error}")))?;
            return Ok(found.collect());
        }
        let route =
            config.routes.routes().iter().find(|route| route.pattern.path().ends_with("/get_friend_list"));
        let upstream = route.and_then(|route| config.upstreams.iter().find(|u| u.name == route.upstream));
        let addresses = |upstream: &Upstream| upstream.servers.iter().flat_map(|s| s.found.clone()).collect();
        upstream.map(addresses).ok_or_else(|| {
            Failure::usage("the configuration does not say where OpenIM's API is\nhint: --api HOST:PORT")
        })
    }
}

impl Named {
    async fn show(&self) -> Result<(), Failure> {
        let user = self.config.writer().await?.user(&self.user).await.map_err(Failure::store)?;
        say(&format!("{:#}", describe(&self.user, &user)));
        Ok(())
    }

    async fn delete(&self) -> Result<(), Failure> {
        self.config.writer().await?.delete_token(&self.user).await.map_err(Failure::store)?;
        say("deleted; every gateway refuses this user's requests from now on");
        Ok(())
    }
}

fn describe(id: &UserId, user: &User) -> Value {
    let tokens: Vec<Value> = match &user.tokens {
        Tokens::None => Vec::new(),
        Tokens::One(token) => vec![claims(token)],
        Tokens::PerPlatform(tokens) => tokens.iter().flatten().map(|token| claims(token)).collect(),
    };
    let now = UnixTime::now();
    let banned = user.ban.as_ref().is_some_and(|ban| ban.holds(now));
    json!({ "user_id": id.as_str(), "banned": banned, "tokens": tokens })
}

fn claims(token: &OpenimToken) -> Value {
    let now = UnixTime::now();
    json!({
        "platform": token.platform.name(),
        "expires_at": token.expires_at.0,
        "expires_in_seconds": now.until(token.expires_at).as_secs(),
    })
}

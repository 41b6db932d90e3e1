//! `imgate demo`: the gateway at work, with nothing installed.
//!
//! Everything lives in this process: the gateway, a stand-in for OpenIM, a store in memory, a user with
//! a session. `--once` plays a script against it and fails if anything does not hold.

mod play;
mod table;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use imgate_identity::key::Keys;
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::store::Writer;
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use openim_standin::{Claims, Options, Standin, TokenState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sign::{Signer, curl};
use super::{Failure, runtime, say};
use crate::config::Config;
use crate::front::address::Address;
use crate::gateway::Shared;
use crate::server::Server;

/// The user of the demo.
const USER: &str = "ann";

/// The user's kind of device: Android.
const PLATFORM: u8 = 2;

/// Shows the gateway at work against a small OpenIM of its own.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Play a script, show what happened, and exit; 0 only if all of it held
    #[arg(long)]
    once: bool,
    /// The port clients connect to; default: a free one
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

impl Demo {
    /// Starts everything and plays, or waits for Ctrl-C.
    ///
    /// # Errors
    /// A port is taken, or the demo's own configuration is refused.
    pub(super) fn run(&self, shared: Shared) -> Result<ExitCode, Failure> {
        runtime(2)?.block_on(async {
            let stage = Stage::set(shared, self.port, if self.once { "off" } else { "stdout" }).await?;
            if self.once {
                let acts = play::play(&stage).await?;
                say(&table::render(&acts));
                stage.server.stop().await;
                let held = acts.iter().all(play::Act::held);
                return Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            stage.introduce();
            tokio::signal::ctrl_c().await.map_err(Failure::unavailable)?;
            stage.server.stop().await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// All that is on stage.
struct Stage {
    openim: Arc<Standin>,
    server: Server,
    writer: Arc<Writer>,
    gateway: SocketAddr,
    user: UserId,
    session: SessionId,
    secret: SessionSecret,
    token: String,
}

impl Stage {
    async fn set(shared: Shared, port: Option<u16>, log: &str) -> Result<Self, Failure> {
        let openim = Arc::new(Standin::start(Options::default()).await.map_err(Failure::unavailable)?);
        let writer = Arc::new(Writer::memory(Arc::clone(&shared.memory), Keys::default()));
        let user = UserId::parse(USER).map_err(Failure::usage)?;
        let token = openim.mint(USER, i64::from(PLATFORM));
        let late = late_login(Arc::clone(&openim), Arc::clone(&writer), user.clone(), token.clone()).await?;

        let port = port.map_or_else(free_port, Ok)?;
        let yaml = include_str!("demo/demo.yaml")
            .replace("{port}", &port.to_string())
            .replace("{log}", log)
            .replace("{api}", &openim.api().to_string())
            .replace("{ws}", &openim.ws().to_string())
            .replace("{late}", &late.to_string());
        let config = Config::parse(&yaml, "demo.yaml", Path::new(".")).map_err(Failure::config)?;
        let server = Server::start(config, shared).await.map_err(Failure::unavailable)?;
        let gateway = server.listeners().iter().find_map(Address::ip);
        let gateway = gateway.ok_or_else(|| Failure::unavailable("the demo listens on no port"))?;

        let (session, secret) = enrol(&writer, &user, &token).await?;
        Ok(Self { openim, server, writer, gateway, user, session, secret, token })
    }

    /// What a client of the demo signs with.
    fn signer(&self) -> Signer<'_> {
        Signer { session: self.session, secret: &self.secret, authority: self.gateway.to_string() }
    }

    fn introduce(&self) {
        let (gateway, body) =
            (self.gateway, r#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10}}"#);
        let url = format!("http://{gateway}/friend/get_friend_list");
        let admin = self.server.admin().map(|a| format!("http://{a}/metrics")).unwrap_or_default();
        let secret = self.secret.to_base64();
        let program = std::env::current_exe().map_or("imgate".into(), |path| path.display().to_string());
        let signed = self.signer().sign("POST", "/friend/get_friend_list", Some(body.as_bytes()));
        let curl = signed.map(|headers| curl("POST", &url, &headers, Some(body.as_bytes())));
        say(&format!(
            "Everything runs in this process; nothing is kept.\n\n  \
             gateway   http://{gateway}\n  \
             metrics   {admin}\n  \
             OpenIM    a stand-in: API {}, sockets {}\n  \
             session   {} of user {}, in memory\n\n\
             A signed request, good for a minute and only once:\n\n{}\n\n\
             Another (in bash), as often as you like:\n\n\
             eval \"$({program} sign --curl --session {} --secret-file <(echo {}) -d '{body}' {url})\"\n\n\
             Change a byte of it and see. Access lines follow; Ctrl-C ends the demo.\n",
            self.openim.api(),
            self.openim.ws(),
            self.session,
            self.user,
            curl.unwrap_or_else(|failure| failure.text),
            self.session,
            secret.expose(),
        ));
    }
}

/// Puts a user with a session and a token into the store, as a backend would after a login.
async fn enrol(writer: &Writer, user: &UserId, token: &str) -> Result<(SessionId, SessionSecret), Failure> {
    let secret = SessionSecret::random().map_err(Failure::unavailable)?;
    let session = SessionId::random().map_err(Failure::unavailable)?;
    let now = UnixTime::now();
    let record = Record {
        user: user.clone(),
        secret: secret.clone(),
        device: "demo phone".into(),
        platform: Platform::try_from(PLATFORM).map_err(Failure::usage)?,
        issued_at: now,
        expires_at: UnixTime(now.0 + 24 * 3600),
        revoked_at: None,
        previous: None,
    };
    writer.put_mark().await.map_err(Failure::store)?;
    writer.put_session(&session, &record).await.map_err(Failure::store)?;
    writer.put_token(user, token).await.map_err(Failure::store)?;
    Ok((session, secret))
}

fn free_port() -> Result<u16, Failure> {
    // Given back at once, so somebody else may take it first; then the start says so.
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::unavailable)?;
    listener.local_addr().map(|address| address.port()).map_err(Failure::unavailable)
}

/// A way to OpenIM on which, each time, the user logs in elsewhere just before the request arrives: the
/// token in the request is kicked, and a new one is in the store.
async fn late_login(
    openim: Arc<Standin>,
    writer: Arc<Writer>,
    user: UserId,
    first: String,
) -> Result<SocketAddr, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(Failure::unavailable)?;
    let address = listener.local_addr().map_err(Failure::unavailable)?;
    tokio::spawn(async move {
        let (mut token, mut life) = (first, 3600);
        while let Ok((mut gateway, _)) = listener.accept().await {
            let mut request = vec![0; 16 * 1024];
            let read = gateway.read(&mut request).await.unwrap_or(0);
            life += 1;
            let fresh = log_in_elsewhere(&openim, &token, life);
            // A store that refused it would show as a step that does not hold.
            let _ = writer.put_token(&user, &fresh).await;
            token = fresh;
            if let Ok(mut upstream) = tokio::net::TcpStream::connect(openim.api()).await {
                let _ = upstream.write_all(&request[..read]).await;
                let _ = tokio::io::copy_bidirectional(&mut gateway, &mut upstream).await;
            }
        }
    });
    Ok(address)
}

fn log_in_elsewhere(openim: &Standin, old: &str, life: u64) -> String {
    let now = UnixTime::now().0;
    let claims = Claims {
        user_id: USER.to_owned(),
        platform_id: i64::from(PLATFORM),
        exp: now + life,
        iat: now.saturating_sub(5),
        nbf: None,
    };
    let fresh = openim.forge(&claims);
    openim.assign(&fresh, TokenState::Normal);
    openim.assign(old, TokenState::Kicked);
    fresh
}

//! The handle to a running stand-in: where it listens, what it saw, and the levers tests pull.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::fault::Answer;
use crate::options::{Line, Options};
use crate::record::{Record, Server};
use crate::server::Running;
use crate::shared::Shared;
use crate::token::{ADMIN_PLATFORM, Claims, TokenState, sign};
use crate::world::User;

/// A running stand-in. Dropping it ends its tasks and closes its sockets.
pub struct Standin {
    shared: Arc<Shared>,
    api: Running,
    ws: Running,
}

impl Standin {
    /// Binds both servers and serves them on the current tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let (api, ws) = (options.api, options.ws);
        let shared = Arc::new(Shared::new(options));
        let api = Running::start(Server::Api, api, Arc::clone(&shared)).await?;
        let ws = Running::start(Server::Ws, ws, Arc::clone(&shared)).await?;
        Ok(Self { shared, api, ws })
    }

    /// Ends both servers and waits until every connection is closed.
    pub async fn stop(self) {
        self.api.stop().await;
        self.ws.stop().await;
    }

    /// Returns where the REST server listens.
    pub fn api(&self) -> SocketAddr {
        self.api.address
    }

    /// Returns where the message gateway listens.
    pub fn ws(&self) -> SocketAddr {
        self.ws.address
    }

    /// Returns the release line imitated.
    pub fn line(&self) -> Line {
        self.shared.options.line
    }

    /// Registers a user, or does nothing when he is known.
    pub fn register(&self, user: &str) {
        let profile = User { nickname: user.to_owned(), ..User::default() };
        self.shared.world.lock().users.entry(user.to_owned()).or_insert(profile);
    }

    /// Mints a token as `/auth/get_user_token` would, registering the user when needed.
    pub fn mint(&self, user: &str, platform: i64) -> String {
        self.register(user);
        self.shared.tokens.lock().mint(user, platform, &self.shared.options)
    }

    /// Mints an admin token as `/auth/get_admin_token` would; of use only for a user on the admin list.
    pub fn mint_admin(&self, user: &str) -> String {
        self.shared.tokens.lock().mint(user, ADMIN_PLATFORM, &self.shared.options)
    }

    /// Signs any claims with the stand-in's secret, without storing the token.
    pub fn forge(&self, claims: &Claims) -> String {
        sign(claims, &self.shared.options.secret)
    }

    /// Overwrites the state of a token, storing it when it is not yet known.
    pub fn assign(&self, token: &str, state: TokenState) {
        self.shared.tokens.lock().assign(token, state);
    }

    /// Treats a token as past its `exp` from now on.
    pub fn expire(&self, token: &str) {
        self.shared.tokens.lock().expire(token);
    }

    /// Kicks a user from a platform as `/auth/force_logout` would: frame 2002, close, tokens kicked.
    pub fn kick(&self, user: &str, platform: i64) {
        self.shared.kick(user, platform);
    }

    /// Sends a binary frame to all of a user's sockets and says to how many.
    pub fn push(&self, user: &str, payload: impl Into<Bytes>) -> usize {
        self.shared.sockets.push(user, &payload.into())
    }

    /// Counts a user's live sockets.
    pub fn sockets(&self, user: &str) -> usize {
        self.shared.sockets.count(user)
    }

    /// Counts all live sockets.
    pub fn sockets_total(&self) -> usize {
        self.shared.sockets.total()
    }

    /// Adds an object that `GET /object/<name>` then redirects to.
    pub fn store_object(&self, name: &str) {
        self.shared.world.lock().objects.insert(name.to_owned());
    }

    /// Answers the next request to a decoded path, on either server, in place of the real one.
    pub fn answer_next(&self, path: &str, answer: Answer) {
        self.shared.faults.push(path, answer);
    }

    /// Returns everything recorded so far, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.shared.recorder.list()
    }

    /// Forgets everything recorded so far.
    pub fn clear_records(&self) {
        self.shared.recorder.clear();
    }
}

impl fmt::Debug for Standin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standin")
            .field("line", &self.line())
            .field("api", &self.api())
            .field("ws", &self.ws())
            .finish_non_exhaustive()
    }
}

//! OpenIM's own API, as far as an operator needs it: admin tokens and users' tokens.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use imgate_identity::secret::Secret;
use imgate_identity::user::{Platform, UserId};
use serde_json::{Value, json};

use super::Failure;
use crate::exchange::{Body, Repeat, Request, exchange};
use crate::operation::fresh_operation_id;
use crate::upstream::{Asker, Options, Upstream};

/// The most of an answer that is read.
const HOLD: usize = 64 * 1024;

/// An OpenIM API server.
pub(super) struct Openim {
    upstream: Upstream,
}

impl Openim {
    pub(super) fn at(servers: &[SocketAddr]) -> Self {
        let options = Options {
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            keepalive: 1,
            ..Options::default()
        };
        Self { upstream: Upstream::new("openim", servers, options) }
    }

    /// Gets an admin's token for OpenIM's shared secret.
    /// Source: open-im-server `internal/rpc/auth/auth.go`, `GetAdminToken`.
    pub(super) async fn admin_token(
        &self,
        secret: &Secret<String>,
        admin: &UserId,
    ) -> Result<Secret<String>, Failure> {
        let body = json!({ "secret": secret.expose(), "userID": admin.as_str() });
        token_of(&self.post("/auth/get_admin_token", None, &body).await?)
    }

    /// Mints a user's token. Under OpenIM's default policy this kicks the user's older token of the
    /// same platform.
    pub(super) async fn user_token(
        &self,
        admin_token: &Secret<String>,
        user: &UserId,
        platform: Platform,
    ) -> Result<Secret<String>, Failure> {
        let body = json!({ "platformID": platform.number(), "userID": user.as_str() });
        token_of(&self.post("/auth/get_user_token", Some(admin_token), &body).await?)
    }

    async fn post(&self, path: &str, token: Option<&Secret<String>>, body: &Value) -> Result<Value, Failure> {
        let body = body.to_string();
        let token = token.map_or(String::new(), |token| format!("token: {}\r\n", token.expose()));
        let wire = format!(
            "POST {path} HTTP/1.1\r\nhost: openim\r\noperationid: {}\r\n{token}content-type: application/json\r\n\
             accept-encoding: identity\r\ncontent-length: {}\r\n\r\n{body}",
            fresh_operation_id().as_str(),
            body.len()
        );
        let wire = Secret::new(wire.into_bytes());
        let request = Request {
            wire: wire.expose(),
            method: &Method::POST,
            repeat: Repeat::Refuse,
            hold: HOLD,
            asker: Asker::default(),
        };
        let answer = exchange(&self.upstream, request)
            .await
            .map_err(|error| Failure::unavailable(format!("OpenIM{path}: {error}")))?;
        let Body::Whole(body) = answer.body else {
            return Err(Failure::unavailable(format!("OpenIM{path}: the answer is too large")));
        };
        let envelope: Value = serde_json::from_slice(&body).map_err(|_| {
            Failure::unavailable(format!("OpenIM{path}: the answer is no JSON; is this OpenIM's API?"))
        })?;
        match envelope["errCode"].as_i64() {
            Some(0) => Ok(envelope),
            // The detail may name administrators or hold a token, so only the code and name are shown.
            code => Err(Failure::unavailable(format!(
                "OpenIM{path}: refused with {} {}",
                code.unwrap_or(-1),
                envelope["errMsg"].as_str().unwrap_or("")
            ))),
        }
    }
}

fn token_of(envelope: &Value) -> Result<Secret<String>, Failure> {
    let token = envelope["data"]["token"].as_str();
    token
        .map(|token| Secret::new(token.to_owned()))
        .ok_or_else(|| Failure::unavailable("OpenIM's answer holds no token"))
}

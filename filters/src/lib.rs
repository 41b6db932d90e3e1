//! The filters of a chain: request headers and typed facts in, a decision out.
//!
//! Machinery first: [`reject`] is the closed list of refusals, [`context`] the facts that travel with
//! a request, [`chain`] runs filters in the order the YAML gives. Then the catalogue, one file per
//! filter; [`FilterConfig`] below is the only list of them. A filter sees headers, facts and, if it
//! asks, the body. It has no socket, no clock, no global and no thread of its own; files that its YAML
//! names ([`secret`], keys) are read when it is built.

pub mod reject;

pub mod context;

pub mod rules;

pub mod chain;

pub mod step;

// Who calls.

pub mod verify_signature;

pub mod verify_session_token;

pub mod verify_openim_token;

pub mod verify_jwt;

pub mod verify_socket;

// What OpenIM gets.

pub mod operation_id;

pub mod bind_identity;

pub mod resolve_token;

pub mod strip_credentials;

pub mod inject_token;

pub mod assert_identity;

// What an edge needs.

pub mod rate_limit;

pub mod ip_allow;

pub mod ip_deny;

pub mod body_limit;

pub mod cors;

pub mod headers;

pub mod rewrite_path;

pub mod respond;

// What filters and the configuration read alike.

pub mod authority;

pub mod folder;

pub mod networks;

pub mod path;

pub mod reserved;

pub mod secret;

pub mod size;

pub mod duration;

mod proof;

#[cfg(test)]
mod testing;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use imgate_identity::assertion::AssertionKey;
use imgate_identity::sign::canonical::BadScheme;
use imgate_identity::store::Store;
use imgate_identity::user::UserId;
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::Deserialize;

pub use crate::context::{Context, Fact};
pub use crate::rate_limit::RateMemory;
pub use crate::reject::{Cause, Reject};
pub use crate::rules::{Rule, Rules};
pub use crate::step::{Registry, Step};
pub use crate::verify_jwt::Jwks;
pub use crate::verify_signature::ReplayMemory;

use crate::cors::Policy;
use crate::folder::Folder;
use crate::rewrite_path::PathRewrite;

/// What a filter decided about a request it did not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next filter is asked.
    Continue,
    /// The request is answered with this and goes no further.
    Reply(Arc<Fixed>),
}

/// An answer that stands in the configuration. Like every answer of ours it is OpenIM's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenIM's `errCode`; 0 is success.
    pub err_code: u32,
    /// OpenIM's `errMsg`.
    pub err_msg: Box<str>,
    /// OpenIM's `errDlt`.
    pub err_dlt: Box<str>,
    /// When the client may come back.
    pub retry_after: Option<Duration>,
}

/// Whether a filter may run in shadow mode, in which it counts and logs what it would have refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadow {
    /// It may not: others lean on what it does.
    Never,
    /// It may: all it does is refuse.
    Allowed,
}

/// Whether a filter needs the request body, which settles how its routes are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// The filter never looks at the body.
    Ignores,
    /// The filter bounds how large it may be; it must come before those that read it.
    Limits,
    /// The filter reads the whole body before it decides; its routes cannot stream one.
    Reads,
}

/// What a filter does to the credentials in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// It has no business with them.
    Leaves,
    /// It edits headers that might be somebody's credentials; it must come after they are read.
    Edits,
    /// It reads the client's; it must come before they are stripped.
    Reads,
    /// It removes the client's, and anything of the same name; it must come before ours are injected.
    Strips,
    /// It sets ours.
    Injects,
}

/// The body of a request, read only when a filter asks for it.
#[async_trait]
pub trait Body: Send {
    /// Whether the request announced a body: a Content-Length above 0, chunked, or HTTP/2 without
    /// END_STREAM.
    fn is_announced(&self) -> bool;

    /// Reads the body whole, once; later calls return the same bytes.
    ///
    /// # Errors
    /// The body is larger than the route allows, came too slowly, or was cut off.
    async fn read(&mut self) -> Result<Bytes, Reject>;

    /// Takes no more than `max` bytes from here on, if the route allowed more.
    ///
    /// # Errors
    /// The body was announced as larger than that.
    fn limit(&mut self, max: u64) -> Result<(), Reject>;

    /// Puts another body in the place of the one that was read; it is what is forwarded.
    fn replace(&mut self, body: Bytes);
}

/// A request as a filter sees it.
pub struct Request<'a> {
    /// The headers, to inspect and edit; what is left in them is forwarded.
    pub head: &'a mut RequestHeader,
    /// The body.
    pub body: &'a mut dyn Body,
}

/// One step of a chain.
#[async_trait]
pub trait Filter: Send + Sync {
    /// The facts this filter needs; an earlier filter must write them.
    fn reads(&self) -> &'static [Fact] {
        &[]
    }

    /// The facts that are known once this filter has let a request through.
    fn writes(&self) -> &'static [Fact] {
        &[]
    }

    /// What it does to the credentials in the request, which settles where it may stand.
    fn credentials(&self) -> Credentials {
        Credentials::Leaves
    }

    /// The headers in which it looks for the client's credential. Whatever strips credentials in its
    /// chain strips these as well.
    fn credential_headers(&self) -> &[HeaderName] {
        &[]
    }

    /// Tells a filter that strips credentials which headers others of its chain read them from.
    fn strip_too(&mut self, _names: &[HeaderName]) {}

    /// Whether it reads the body.
    fn body(&self) -> BodyUse {
        BodyUse::Ignores
    }

    /// The rules of a route that it enforces.
    fn honours(&self) -> &'static [Rule] {
        &[]
    }

    /// The rules that every route of its chain has to state.
    fn demands(&self) -> &'static [Rule] {
        &[]
    }

    /// Whether it may run in shadow mode. A filter that may writes no fact and edits nothing.
    fn shadow(&self) -> Shadow {
        Shadow::Never
    }

    /// The cross-origin policy of its chain, if it gives one.
    fn cors(&self) -> Option<&Arc<Policy>> {
        None
    }

    /// What it makes of the path that is forwarded, if it changes it. No such filter stands in a chain
    /// that binds bodies or injects a token.
    fn rewrite(&self) -> Option<&PathRewrite> {
        None
    }

    /// What it does, for `imgate explain`: a few words, no secrets.
    fn summary(&self) -> String;

    /// Inspects or edits the request; `Err` refuses it.
    ///
    /// # Errors
    /// The request is refused, for the cause given.
    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject>;

    /// Edits the response on its way back. Runs in reverse order, never waits.
    fn response(&self, _head: &mut ResponseHeader, _cx: &Context) {}
}

/// What filters may lean on. Passed in when a chain is built; nothing is global.
#[derive(Clone)]
pub struct Deps {
    /// Where sessions, tokens and bans come from.
    pub store: Arc<Store>,
    /// The host names a client may sign for.
    pub authorities: Arc<Authorities>,
    /// OpenIM's administrators: no user's request may act as one of them.
    pub admin_users: Arc<HashSet<UserId>>,
    /// The key of `X-Imgate-Assertion`, if one is configured.
    pub assertion_key: Option<Arc<AssertionKey>>,
    /// The nonces this process has seen; kept across reloads.
    pub replays: Arc<ReplayMemory>,
    /// Who fetches the keys of admins' issuers.
    pub jwks: Arc<dyn Jwks>,
    /// What is left of everybody's allowances; kept across reloads.
    pub rates: Arc<RateMemory>,
    /// Where the files that a filter names are read, so that a change of them is noticed.
    pub base: Folder,
    /// Filters that are not in [`FilterConfig`], by name.
    pub custom: Arc<Registry>,
}

/// The host names by which clients know this gateway, as a signature spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    names: HashSet<Box<str>, foldhash::fast::RandomState>,
    default_port: &'static str,
}

impl Authorities {
    /// Takes `names` in lower case and without the default port of `scheme`, the scheme of
    /// `public_url`: behind a balancer that ends TLS our own scheme is not the client's.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, scheme: &str) -> Self {
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        Self { names: names.into_iter().map(Into::into).collect(), default_port }
    }

    /// Finds the name a `Host` header means, in the form that is signed.
    ///
    /// Source: RFC 9421 section 2.2.3, lower case and without a default port.
    pub fn find(&self, host: &str) -> Option<&str> {
        let host = host.strip_suffix(self.default_port).unwrap_or(host);
        if let Some(name) = self.names.get(host) {
            return Some(name);
        }
        self.names.get(host.to_ascii_lowercase().as_str()).map(|name| &**name)
    }
}

/// Why a filter cannot be built from its configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A name that is no filter's.
    #[error("unknown filter `{0}`")]
    Unknown(Box<str>),
    /// What a filter of the embedder's own says.
    #[error("{0}")]
    Custom(Box<str>),
    /// An OpenIM admin who is not configured as one.
    #[error("`{0}` is no OpenIM admin\nhint: list it in identity.admin_users")]
    NoAdmin(UserId),
    /// `assert_identity` without a key to sign with.
    #[error("there is no key to sign assertions with\nhint: set identity.assertion_key")]
    NoAssertionKey,
    /// A clock skew so wide that a captured request stays good for long.
    #[error(
        "clock_skew is above 5 minutes\nhint: clients learn the server's time from the refusal and correct themselves"
    )]
    WideSkew,
    /// A replay memory that could hold nothing.
    #[error("max_nonces is 0\nhint: say `replay: off` if replays need no check")]
    NoNonces,
    /// A life of session tokens that is none, or longer than a bearer's string may live.
    #[error("max_life is not between 1 second and 1 day")]
    TokenLife,
    /// `verify_jwt` as it cannot be.
    #[error(transparent)]
    Jwt(#[from] verify_jwt::BadJwt),
    /// A limit that makes no sense.
    #[error(transparent)]
    Limit(#[from] rate_limit::BadLimit),
    /// An answer that nobody should get.
    #[error(transparent)]
    Reply(#[from] respond::BadReply),
    /// A header in `also` that is not a header name, or that the gateway itself must set.
    #[error("`also` holds something that is no header name, or one the upstream cannot do without")]
    BadHeader,
    /// A header that is both removed and kept.
    #[error("`also` names Authorization, which `keep_sigv4` keeps\nhint: leave out one of them")]
    StripsWhatItKeeps,
    /// Edits of headers that cannot be.
    #[error(transparent)]
    Headers(#[from] headers::BadEdit),
    /// A rewriting of paths that changes none.
    #[error("changes no path\nhint: name `strip_prefix`, `add_prefix` or `paths`")]
    NoRewrite,
    /// A set of addresses that cannot be had.
    #[error(transparent)]
    Networks(#[from] networks::BadNetworks),
    /// A cross-origin policy that makes no sense.
    #[error(transparent)]
    Cors(#[from] cors::CredentialsForAll),
    /// A signature scheme that does not work.
    #[error("scheme.canonical: {0}")]
    BadScheme(#[from] BadScheme),
}

/// What is doubtful about a filter that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A signature that leaves something open.
    #[error(
        "weak: signatures leave out {0}, so whoever sees a request can change that\nhint: let new versions of the app sign it, then take `weak: true` out"
    )]
    WeakSignature(Box<str>),
}

/// Writes out the list of all filters: the YAML name of each beside what it is configured by.
macro_rules! catalogue {
    ($( $(#[$doc:meta])* $variant:ident($module:ident) = $name:literal, )*) => {
        /// All filters, each as it is configured.
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[allow(clippy::large_enum_variant, reason = "a process holds a handful of them")]
        pub enum FilterConfig {
            $( $(#[$doc])* #[serde(rename = $name)] $variant($module::Config), )*
        }

        impl FilterConfig {
            /// The names of all filters, as YAML has them.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The name this filter has in YAML, logs and metrics.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => $name, )*
                }
            }

            /// Makes the filter.
            ///
            /// # Errors
            /// A value makes no sense, or something the filter needs is not configured.
            pub fn build(&self, deps: &Deps) -> Result<Box<dyn Filter>, BuildError> {
                match self {
                    $( Self::$variant(config) => Ok(Box::new(config.build(deps)?)), )*
                }
            }
        }
    };
}

catalogue! {
    /// Sends `operationID` to the upstream, the client's own if it is usable.
    OperationId(operation_id) = "operation_id",
    /// Proves who calls by the signature over the request.
    VerifySignature(verify_signature) = "verify_signature",
    /// Proves who calls by the session token of a stock SDK.
    VerifySessionToken(verify_session_token) = "verify_session_token",
    /// Proves who calls by the OpenIM token that the store holds.
    VerifyOpenimToken(verify_openim_token) = "verify_openim_token",
    /// Proves which admin calls by a JWT.
    VerifyJwt(verify_jwt) = "verify_jwt",
    /// Lets the body name nobody but the caller.
    BindIdentity(bind_identity) = "bind_identity",
    /// Finds the OpenIM token to inject.
    ResolveToken(resolve_token) = "resolve_token",
    /// Removes the app's credentials.
    StripCredentials(strip_credentials) = "strip_credentials",
    /// Sends an OpenIM token to OpenIM.
    InjectToken(inject_token) = "inject_token",
    /// Tells a sidecar who calls, in a signed header.
    AssertIdentity(assert_identity) = "assert_identity",
    /// Checks the query of a WebSocket handshake.
    VerifySocket(verify_socket) = "verify_socket",
    /// Edits headers of requests and answers.
    Headers(headers) = "headers",
    /// Forwards a request under another path.
    RewritePath(rewrite_path) = "rewrite_path",
    /// Lets requests in from some addresses only.
    IpAllow(ip_allow) = "ip_allow",
    /// Refuses requests from some addresses.
    IpDeny(ip_deny) = "ip_deny",
    /// Takes no larger body than this.
    BodyLimit(body_limit) = "body_limit",
    /// Gives its routes a cross-origin policy of their own.
    Cors(cors) = "cors",
    /// Lets each caller, device, address or route through so often and no more.
    RateLimit(rate_limit) = "rate_limit",
    /// Answers every request itself.
    Respond(respond) = "respond",
}

/// Leaves exactly one `name` header, with this value.
pub fn set_header(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // `insert_header` fails only for a name or value that is not valid yet; these are.
    let _ = head.insert_header(name, value);
}

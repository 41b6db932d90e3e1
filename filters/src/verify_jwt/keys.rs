//! Where keys come from: read once, or fetched by somebody who has a socket.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use imgate_identity::jwt::{Algorithm, KeySet};

/// Fetches key sets and keeps them fresh. The gateway does; a filter only says what it needs.
pub trait Jwks: Send + Sync {
    /// Names a key set that is needed from now on, until the feed is dropped. Fetches nothing yet.
    /// The same source gives the same feed, so that a reload goes on with the keys it has.
    fn follow(&self, source: &Source) -> Arc<dyn Feed>;
}

/// A key set that is kept fresh.
pub trait Feed: Send + Sync {
    /// The set that was fetched last and was good; `None` before the first.
    fn keys(&self) -> Option<Arc<KeySet>>;

    /// Notes that a token names a key that is not there, which may be one that is new. However often
    /// this happens, the set is fetched at most once per cooldown.
    fn miss(&self);
}

/// A key set that is fetched, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub url: JwksUrl,
    /// What its keys may be for.
    pub algorithms: Box<[Algorithm]>,
    /// How often it is fetched.
    pub refresh: Duration,
    /// The shortest time between two attempts.
    pub cooldown: Duration,
}

/// The URL of a JWKS: https, or http on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    uri: Uri,
    host: Box<str>,
}

/// Why a URL is none of a JWKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not a URL of host and path.
    #[error("jwks_url is not a URL such as https://id.example.com/jwks.json, without user and fragment")]
    Form,
    /// Whoever is on the way could hand out keys of their own.
    #[error("jwks_url is not https\nhint: http is taken for 127.0.0.1 and [::1] alone")]
    Plain,
}

impl JwksUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is no URL, has a user or a fragment, or is not https although it leads to another machine.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let uri: Uri = text.parse().map_err(|_| BadUrl::Form)?;
        let authority = uri.authority().ok_or(BadUrl::Form)?;
        let host: Box<str> = authority.host().trim_start_matches('[').trim_end_matches(']').into();
        if host.is_empty() || authority.as_str().contains('@') || text.contains('#') {
            return Err(BadUrl::Form);
        }
        // The library takes a port that is none for one that is not written.
        let behind_host = authority.as_str().rsplit(']').next().unwrap_or_default();
        let written = behind_host.split_once(':').map(|(_, port)| port.parse::<u16>());
        if written.is_some_and(|port| port.is_err() || port == Ok(0)) {
            return Err(BadUrl::Form);
        }
        let is_here = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(Self { uri, host }),
            Some("http") if is_here => Ok(Self { uri, host }),
            Some("http") => Err(BadUrl::Plain),
            _ => Err(BadUrl::Form),
        }
    }

    /// Whether it is fetched over TLS.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own if none is written.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    /// Host and port as they are written, for the `Host` header.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }
}

/// Without the query, in which there may be a secret.
impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}{}", self.authority(), self.uri.path())
    }
}

/// The keys of one filter.
pub(super) enum Keys {
    /// Read when the configuration was loaded.
    File(Arc<KeySet>),
    /// A secret, read when the configuration was loaded.
    Secret(Arc<KeySet>),
    /// Fetched.
    Fed {
        /// Where.
        url: JwksUrl,
        /// What came of it.
        feed: Arc<dyn Feed>,
    },
}

/// No key set was fetched yet.
pub(super) struct NotFetched;

impl Keys {
    /// # Errors
    /// There are none yet.
    pub(super) fn current(&self) -> Result<Arc<KeySet>, NotFetched> {
        match self {
            Self::File(keys) | Self::Secret(keys) => Ok(Arc::clone(keys)),
            Self::Fed { feed, .. } => feed.keys().ok_or(NotFetched),
        }
    }

    /// Notes that a token named a key that is not there.
    pub(super) fn miss(&self) {
        if let Self::Fed { feed, .. } = self {
            feed.miss();
        }
    }

    /// Says where they come from.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::File(keys) => format!("the keys {} of a file", keys.ids().collect::<Vec<_>>().join(", ")),
            Self::Secret(_) => "a secret".to_owned(),
            Self::Fed { url, .. } => format!("the keys at {url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwks_is_fetched_over_tls_or_from_this_machine() {
        for (good, host, port) in [
            ("https://id.example.com/jwks", "id.example.com", 443),
            ("https://id.example.com:8443/jwks?tenant=1", "id.example.com", 8443),
            ("https://id.example.com", "id.example.com", 443),
            ("http://127.0.0.1:8080/jwks", "127.0.0.1", 8080),
            ("http://[::1]/jwks", "::1", 80),
        ] {
            let url = JwksUrl::parse(good).unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{good}");
        }
        let url = JwksUrl::parse("https://id.example.com/a?key=hunter2").unwrap();
        assert_eq!(url.to_string(), "https://id.example.com/a");
        assert_eq!(url.target(), "/a?key=hunter2");
        for plain in ["http://id.example.com/jwks", "http://localhost/jwks", "http://127.0.0.1.evil.example/"]
        {
            assert_eq!(JwksUrl::parse(plain), Err(BadUrl::Plain), "{plain}");
        }
        for bad in [
            "",
            "id.example.com",
            "/jwks",
            "file:///etc/passwd",
            "ftp://id.example.com/",
            "https://user:pw@id.example.com/",
            "https://id.example.com/#x",
            "https://id.example.com:/",
            "https://id.example.com:99999/",
            "https:///jwks",
        ] {
            assert_eq!(JwksUrl::parse(bad), Err(BadUrl::Form), "{bad}");
        }
    }
}

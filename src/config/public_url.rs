//! The URL by which clients know the gateway.

use std::fmt;

use http::HeaderValue;
pub(super) use imgate_filters::authority::{is_host, parse_authority};

/// A public URL: scheme, host, perhaps a port and a path; no `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: Scheme,
    authority: Box<str>,
    header: HeaderValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Why a public URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Neither `http://` nor `https://`.
    #[error(
        "begins with neither http:// nor https://\nhint: write it as clients do, as in https://im.example.com"
    )]
    Scheme,
    /// No host, or something in its place that is none.
    #[error("has no host that clients could use\nhint: write it as clients do, as in https://im.example.com")]
    Host,
    /// A query or a fragment.
    #[error("has a query or a fragment\nhint: write scheme, host and perhaps a path")]
    Query,
    /// A path that is ambiguous.
    #[error("has a path that is ambiguous: {0}")]
    Path(crate::route::PathFault),
}

impl PublicUrl {
    /// Reads `http[s]://host[:port][/path]`.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else {
            (Scheme::Http, text.strip_prefix("http://").ok_or(BadUrl::Scheme)?)
        };
        if rest.contains(['?', '#']) {
            return Err(BadUrl::Query);
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = parse_authority(host, scheme.as_str()).ok_or(BadUrl::Host)?;
        if !path.is_empty() {
            crate::route::check_path(path).map_err(BadUrl::Path)?;
        }
        let url = format!("{}://{authority}{}", scheme.as_str(), path.trim_end_matches('/'));
        let header = HeaderValue::from_str(&url).map_err(|_| BadUrl::Host)?;
        Ok(Self { scheme, authority, header })
    }

    /// The scheme: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        self.scheme.as_str()
    }

    /// The host, in lower case and without the default port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone, without a port.
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            // A colon inside brackets is a part of an address.
            Some((host, port)) if !port.ends_with(']') => host,
            _ => &self.authority,
        }
    }

    /// The whole URL, as a header value.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.header.to_str().unwrap_or_default())
    }
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_into_its_parts() {
        let cases = [
            ("https://im.example.com", "https", "im.example.com", "https://im.example.com"),
            ("https://IM.example.com:443/", "https", "im.example.com", "https://im.example.com"),
            ("https://im.example.com:80/im/", "https", "im.example.com:80", "https://im.example.com:80/im"),
            ("http://127.0.0.1:8080/a/b", "http", "127.0.0.1:8080", "http://127.0.0.1:8080/a/b"),
            ("http://[::1]:80", "http", "[::1]", "http://[::1]"),
        ];
        for (text, scheme, authority, whole) in cases {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!((url.scheme(), url.authority()), (scheme, authority), "{text}");
            assert_eq!(url.to_string(), whole);
        }
    }

    #[test]
    fn what_clients_could_not_use_is_refused() {
        let cases = [
            ("im.example.com", BadUrl::Scheme),
            ("ftp://im.example.com", BadUrl::Scheme),
            ("https://", BadUrl::Host),
            ("https://u:p@im.example.com", BadUrl::Host),
            ("https://im..example.com", BadUrl::Host),
            ("https://im.example.com:", BadUrl::Host),
            ("https://im.example.com:0", BadUrl::Host),
            ("https://im.example.com:+80", BadUrl::Host),
            ("https://im.example.com:65536", BadUrl::Host),
            ("https://im.example.com\r\n", BadUrl::Host),
            ("https://im.example.com/?a", BadUrl::Query),
            ("https://im.example.com#a", BadUrl::Query),
            ("https://im.example.com/a//b", BadUrl::Path(crate::route::PathFault::EmptySegment)),
        ];
        for (text, fault) in cases {
            assert_eq!(PublicUrl::parse(text), Err(fault), "{text:?}");
        }
    }
}

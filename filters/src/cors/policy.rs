//! Cross-origin answers are ours alone: preflights are answered here, and what an upstream says of
//! origins is replaced, because a browser rejects two `Access-Control-Allow-Origin`.
//!
//! Source: the Fetch standard, "CORS protocol"; open-im-server's own answers allow no `Authorization`.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};

/// Whose pages may read our answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Anybody's: answers carry no ambient credentials, so this is safe.
    Any,
    /// These.
    Listed(Vec<HeaderValue>),
}

/// A cross-origin policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whose pages may read our answers.
    pub origins: Origins,
    /// What headers they may send; `None` is whatever the preflight asks for.
    pub allow_headers: Option<HeaderValue>,
    /// What its answers hold for pages to read, beside the basic headers.
    pub exposed: HeaderValue,
    /// Whether cookies may come along; only with listed origins.
    pub credentials: bool,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

/// What of ours a page may read on every route.
pub(super) const EXPOSED: &str = "operationID, X-Server-Time, Retry-After, WWW-Authenticate";

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// The most of a preflight's list that is sent back, in bytes.
const MAX_ECHO: usize = 4096;

/// Whether an answer's header is part of the protocol, and so ours to set.
pub fn is_cors_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// A browser's question whether a page may send a request.
#[derive(Clone, Copy, Debug)]
pub struct Preflight<'a> {
    /// The page that would send it.
    pub origin: &'a HeaderValue,
    /// The method it would have.
    pub method: &'a HeaderValue,
    /// The headers it would have beside the basic ones.
    pub headers: Option<&'a HeaderValue>,
}

impl<'a> Preflight<'a> {
    /// Reads a request as a preflight; `None` if it is none.
    pub fn of(request: &'a RequestHeader) -> Option<Self> {
        if request.method != Method::OPTIONS {
            return None;
        }
        let headers = &request.headers;
        Some(Self {
            origin: headers.get(ORIGIN)?,
            method: headers.get(ACCESS_CONTROL_REQUEST_METHOD)?,
            headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS),
        })
    }
}

impl Policy {
    /// Sets what the policy says to a page of `origin`; the head holds no such header yet.
    pub fn apply(&self, head: &mut ResponseHeader, origin: Option<&HeaderValue>) {
        if matches!(self.origins, Origins::Listed(_)) {
            // Also on an answer that nobody may read: a cache must not give it to those who may.
            let _ = head.append_header(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = self.allowed(origin) else { return };
        set(head, ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        set(head, ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        if self.credentials {
            set(head, ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed(list) => list.iter().find(|listed| Some(*listed) == origin).cloned(),
        }
    }

    /// Answers a preflight.
    pub fn answer(&self, preflight: Preflight<'_>) -> ResponseHeader {
        let mut head =
            ResponseHeader::build_no_case(StatusCode::NO_CONTENT, Some(12)).expect("204 is a status");
        self.apply(&mut head, Some(preflight.origin));
        if head.headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            let asked = preflight.headers.filter(|asked| asked.len() <= MAX_ECHO).cloned();
            if let Some(allowed) = self.allow_headers.clone().or(asked) {
                set(&mut head, ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            }
            set(&mut head, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            set(&mut head, ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs()));
        }
        set(&mut head, CONTENT_LENGTH, HeaderValue::from_static("0"));
        let _ = head.append_header(
            VARY,
            HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        head
    }
}

fn set(head: &mut ResponseHeader, name: HeaderName, value: HeaderValue) {
    // Name and value are valid already, which is all that could fail.
    let _ = head.insert_header(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: Origins) -> Policy {
        let (exposed, max_age) = (HeaderValue::from_static(EXPOSED), Duration::from_secs(600));
        Policy { origins, allow_headers: None, exposed, credentials: false, max_age }
    }

    fn listed() -> Policy {
        policy(Origins::Listed(vec![HeaderValue::from_static("https://app.example.com")]))
    }

    fn preflight(policy: &Policy, origin: &str) -> ResponseHeader {
        let mut request = RequestHeader::build("OPTIONS", b"/x", None).unwrap();
        request.insert_header("origin", origin).unwrap();
        request.insert_header("access-control-request-method", "POST").unwrap();
        request.insert_header("access-control-request-headers", "signature, authorization").unwrap();
        policy.answer(Preflight::of(&request).unwrap())
    }

    fn value(head: &ResponseHeader, name: &str) -> Option<String> {
        head.headers.get(name).map(|v| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_preflight_is_allowed_what_it_asks_for() {
        let head = preflight(&policy(Origins::Any), "https://anywhere.example");
        assert_eq!(head.status, 204);
        assert_eq!(value(&head, "access-control-allow-origin").as_deref(), Some("*"));
        assert_eq!(value(&head, "access-control-allow-headers").as_deref(), Some("signature, authorization"));
        assert_eq!(value(&head, "access-control-max-age").as_deref(), Some("600"));
    }

    #[test]
    fn an_origin_that_is_not_listed_is_allowed_nothing() {
        let head = preflight(&listed(), "https://evil.example");
        assert!(!head.headers.keys().any(is_cors_header));
        assert_eq!(value(&head, "vary").as_deref(), Some("Origin"));
        let head = preflight(&listed(), "https://app.example.com");
        assert_eq!(value(&head, "access-control-allow-origin").as_deref(), Some("https://app.example.com"));
    }

    #[test]
    fn only_a_preflight_is_answered() {
        let mut request = RequestHeader::build("OPTIONS", b"/x", None).unwrap();
        assert!(Preflight::of(&request).is_none());
        request.insert_header("origin", "https://a.b").unwrap();
        assert!(Preflight::of(&request).is_none());
        request.insert_header("access-control-request-method", "POST").unwrap();
        assert!(Preflight::of(&request).is_some());
        request.set_method(Method::POST);
        assert!(Preflight::of(&request).is_none());
    }
}

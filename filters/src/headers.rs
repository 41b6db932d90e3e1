//! Edits headers: of the request before it is forwarded, and of the upstream's answer.
//!
//! Values are literals, and the configuration is no place for secrets. `remove` takes every copy, `set`
//! leaves exactly one, `add` puts one more beside what is there. Not to be touched: what frames or routes
//! a message, credentials, and whatever the gateway says itself. A request is edited after its caller is
//! verified, so that what was signed is what was sent. Answers of the gateway's own stay as they are, and
//! of a WebSocket's handshake only an allow-list goes on.
//!
//! ```yaml
//! - headers:
//!     request:
//!       set: { x-edge: eu-1 }
//!       remove: [x-debug]
//!     response:
//!       set: { strict-transport-security: max-age=31536000 }
//!       add: { link: "</status>; rel=status" }
//!       remove: [server, x-powered-by]
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::context::Context;
use crate::cors::is_cors_header;
use crate::reject::Reject;
use crate::reserved::is_never_forwarded;
use crate::strip_credentials::CREDENTIALS;
use crate::{BuildError, Credentials, Deps, Filter, Flow, Request, operation_id, set_header};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is done to requests.
    pub request: WrittenEdits,
    /// What is done to the upstream's answers.
    pub response: WrittenEdits,
}

/// The YAML of one direction. A header is named once.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenEdits {
    /// Headers that get this value and no other.
    pub set: BTreeMap<String, Literal>,
    /// Headers that get this value beside those they have.
    pub add: BTreeMap<String, Literal>,
    /// Headers that go.
    pub remove: Vec<String>,
}

/// The value of a header as it stands in the YAML. `Debug` hides it: somebody may have put a secret there.
#[derive(Clone, Debug)]
pub struct Literal(HeaderValue);

impl JsonSchema for Literal {
    fn schema_name() -> Cow<'static, str> {
        "Literal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$" })
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let plain = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let refused = "is visible ASCII, not empty, and has no space at its ends";
        if text.is_empty() || !plain || text.trim() != text {
            return Err(de::Error::custom(format!("the value of a header {refused}")));
        }
        let mut value = HeaderValue::from_str(&text).map_err(de::Error::custom)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// Why headers cannot be edited like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEdit {
    /// Nothing to do.
    #[error("edits no header")]
    Nothing,
    /// A name that is none.
    #[error("`{0}` is no header name")]
    NoName(Box<str>),
    /// A header that is named more than once.
    #[error("`{0}` is named twice\nhint: a header is set, added or removed")]
    Twice(HeaderName),
    /// A header that somebody else sees to.
    #[error("`{0}` is not to be edited\nhint: {why}", why = .1.as_str())]
    Kept(HeaderName, Keeper),
}

/// Who else sees to a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The connection: it says where the message ends or goes.
    Framing,
    /// The gateway, which alone speaks by this name or drops it everywhere.
    Gateway,
    /// The filters that verify, strip and inject credentials.
    Credentials,
    /// The cross-origin policy.
    Cors,
}

impl Keeper {
    fn as_str(self) -> &'static str {
        match self {
            Self::Framing => "it frames or routes the message, which the gateway does itself",
            Self::Gateway => "the gateway sets or drops it on every route",
            Self::Credentials => {
                "it is a credential; strip_credentials and inject_token see to these, and secrets do not stand here"
            }
            Self::Cors => "it belongs to the cross-origin policy; use the filter cors",
        }
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

/// Who else sees to this header of a message that goes this way.
fn keeper(name: &HeaderName, way: Way) -> Option<Keeper> {
    let framing = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING];
    if framing.contains(name) || name.as_str().starts_with("sec-websocket-") {
        return Some(Keeper::Framing);
    }
    if CREDENTIALS.contains(name) {
        return Some(Keeper::Credentials);
    }
    if is_cors_header(name) {
        return Some(Keeper::Cors);
    }
    // What OpenIM may send back, and how it is to read a body, is not the operator's to say.
    let asks = way == Way::Up && [ACCEPT_ENCODING, CONTENT_TYPE].contains(name);
    let ours = asks || *name == operation_id::HEADER || is_never_forwarded(name);
    ours.then_some(Keeper::Gateway)
}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<Headers, BuildError> {
        let request = self.request.check(Way::Up)?;
        let response = self.response.check(Way::Down)?;
        if request.is_empty() && response.is_empty() {
            return Err(BadEdit::Nothing.into());
        }
        Ok(Headers { request, response })
    }
}

impl WrittenEdits {
    fn check(&self, way: Way) -> Result<Edits, BadEdit> {
        let mut seen = HashSet::new();
        let mut name = |text: &str| {
            let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| BadEdit::NoName(text.into()))?;
            if let Some(keeper) = keeper(&name, way) {
                return Err(BadEdit::Kept(name, keeper));
            }
            if seen.insert(name.clone()) { Ok(name) } else { Err(BadEdit::Twice(name)) }
        };
        let mut values = |map: &BTreeMap<String, Literal>| -> Result<Vec<_>, BadEdit> {
            map.iter().map(|(text, Literal(value))| Ok((name(text)?, value.clone()))).collect()
        };
        let (set, add) = (values(&self.set)?, values(&self.add)?);
        let remove = self.remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
        Ok(Edits { set, add, remove })
    }
}

/// What is done to the headers of a message; no name twice, so the order does not matter.
struct Edits {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Edits {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    // Names and values are valid already, which is all that could fail below.

    fn edit_request(&self, head: &mut RequestHeader) {
        for name in &self.remove {
            head.remove_header(name);
        }
        for (name, value) in &self.set {
            set_header(head, name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = head.append_header(name.clone(), value.clone());
        }
    }

    fn edit_response(&self, head: &mut ResponseHeader) {
        for name in &self.remove {
            head.remove_header(name);
        }
        for (name, value) in &self.set {
            let _ = head.insert_header(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = head.append_header(name.clone(), value.clone());
        }
    }

    /// Names alone: a value may be nobody's business.
    fn summary(&self) -> String {
        let names = |pairs: &[(HeaderName, HeaderValue)]| -> Vec<HeaderName> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        let said = |verb: &str, names: &[HeaderName]| {
            let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
            (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
        };
        let parts =
            [said("sets", &names(&self.set)), said("adds", &names(&self.add)), said("removes", &self.remove)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

pub(crate) struct Headers {
    request: Edits,
    response: Edits,
}

#[async_trait]
impl Filter for Headers {
    fn credentials(&self) -> Credentials {
        if self.request.is_empty() { Credentials::Leaves } else { Credentials::Edits }
    }

    fn summary(&self) -> String {
        let part =
            |of: &str, edits: &Edits| (!edits.is_empty()).then(|| format!("{of}: {}", edits.summary()));
        let parts = [part("request", &self.request), part("answer", &self.response)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    async fn request(&self, request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        self.request.edit_request(request.head);
        Ok(Flow::Continue)
    }

    fn response(&self, head: &mut ResponseHeader, _cx: &Context) {
        self.response.edit_response(head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ChainError;
    use crate::testing::{answered, build_error, chain, chain_error, get, run};

    #[tokio::test]
    async fn a_request_is_edited_before_it_is_forwarded() {
        let yaml = "- headers: { request: { set: { X-A: 'new value' }, add: { x-b: two }, remove: [X-C] } }";
        let sent = get("/").header("x-a", "1").header("x-a", "2").header("x-b", "one");
        let out = run(yaml, sent.header("x-c", "3").header("X-C", "4").header("kept", "5")).await;
        assert_eq!(out.sent("x-a"), ["new value"]);
        assert_eq!(out.sent("x-b"), ["one", "two"]);
        assert!(out.sent("x-c").is_empty());
        assert_eq!((out.sent("kept"), out.sent("host")), (vec!["5"], vec!["im.example.com"]));
    }

    #[tokio::test]
    async fn an_answer_is_edited_on_its_way_back() {
        let yaml = "- headers: { response: { set: { x-a: new }, add: { x-b: two }, remove: [server] } }";
        let lines = [("server", "nginx"), ("x-a", "1"), ("x-a", "2"), ("x-b", "one"), ("kept", "3")];
        let head = answered(yaml, get("/"), &lines).await;
        let values = |name: &str| -> Vec<&str> {
            head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!((values("x-a"), values("x-b")), (vec!["new"], vec!["one", "two"]));
        assert_eq!((values("server"), values("kept")), (vec![], vec!["3"]));
    }

    #[test]
    fn what_others_see_to_cannot_be_edited() {
        let both = [
            "Connection",
            "keep-alive",
            "upgrade",
            "Host",
            "content-length",
            "transfer-encoding",
            "content-encoding",
            "token",
            "operationID",
            "X-Imgate-Assertion",
            "x-forwarded-for",
            "X-Real-IP",
            "forwarded",
            "x-request-api",
            "Signature",
            "signature-input",
            "content-digest",
            "authorization",
            "cookie",
            "with_underscore",
            "sec-websocket-extensions",
            "access-control-allow-origin",
        ];
        for (way, names) in [
            ("request", &both[..]),
            ("response", &both[..]),
            ("request", &["accept-encoding", "content-type"]),
        ] {
            for name in names {
                for edit in [
                    format!("set: {{ {name}: a }}"),
                    format!("add: {{ {name}: a }}"),
                    format!("remove: [{name}]"),
                ] {
                    let error = build_error(&format!("- headers: {{ {way}: {{ {edit} }} }}"));
                    assert!(matches!(error, BuildError::Headers(BadEdit::Kept(..))), "{way} {edit}: {error}");
                }
            }
        }
        assert_eq!(
            build_error("- headers: { response: { set: { Access-Control-Max-Age: '1' } } }").to_string(),
            "`access-control-max-age` is not to be edited\n\
             hint: it belongs to the cross-origin policy; use the filter cors"
        );
        chain("- headers: { response: { set: { content-type: text/plain }, remove: [set-cookie, server] } }");
    }

    #[test]
    fn a_list_that_can_be_read_in_two_ways_is_refused() {
        let twice = |name: &str| BadEdit::Twice(HeaderName::from_bytes(name.as_bytes()).unwrap());
        for (yaml, bad) in [
            ("{}", BadEdit::Nothing),
            ("{ request: {}, response: {} }", BadEdit::Nothing),
            ("{ request: { set: { 'a b': c } } }", BadEdit::NoName("a b".into())),
            ("{ request: { remove: [''] } }", BadEdit::NoName("".into())),
            ("{ request: { set: { a: b, A: c } } }", twice("a")),
            ("{ request: { set: { a: b }, remove: [A] } }", twice("a")),
            ("{ request: { add: { a: b }, set: { A: c } } }", twice("a")),
            ("{ response: { remove: [a, a] } }", twice("a")),
        ] {
            assert_eq!(build_error(&format!("- headers: {yaml}")), BuildError::Headers(bad), "{yaml}");
        }
        chain("- headers: { request: { set: { a: b } }, response: { remove: [a] } }");
    }

    #[test]
    fn a_value_is_plain_text_and_no_error_repeats_it() {
        for value in [r#""""#, r#"" a""#, r#""a ""#, r#""a\r\nb: c""#, r#""\t""#, r#""ä""#, r#""a\0""#] {
            let yaml = format!("- headers: {{ request: {{ set: {{ x: {value} }} }} }}");
            let error = serde_saphyr::from_str::<Vec<crate::Step>>(&yaml).expect_err(value);
            assert!(error.to_string().contains("the value of a header is visible ASCII"), "{value}: {error}");
        }
        let steps: Vec<crate::Step> =
            serde_saphyr::from_str("- headers: { request: { set: { x-key: hunter2 } } }").unwrap();
        assert!(!format!("{steps:?}").contains("hunter2"));
        let chain =
            chain("- headers: { request: { set: { x-key: hunter2 } }, response: { remove: [server] } }");
        let summary = chain.filters()[0].filter.summary();
        assert_eq!(summary, "request: sets x-key; answer: removes server");
    }

    #[test]
    fn requests_are_edited_only_after_the_caller_is_verified() {
        let edit = "- headers: { request: { set: { x-a: b } } }";
        let error = chain_error(&format!("{edit}\n- verify_signature: {{}}"));
        assert_eq!(error, ChainError::EarlyEdit { index: 0, reader: "verify_signature" });
        chain(&format!("- verify_signature: {{}}\n{edit}\n- strip_credentials: {{}}\n{edit}"));
        chain("- headers: { response: { set: { x-a: b } } }\n- verify_signature: {}");
    }
}

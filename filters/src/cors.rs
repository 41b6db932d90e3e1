//! Gives the routes of a chain a cross-origin policy of their own, in place of the global one.
//!
//! It says what pages may read and send; who calls is for other filters to prove. It holds for every
//! answer on these routes, refusals and the upstream's alike, wherever it stands in the chain. A preflight
//! is answered before any filter runs, by the policy of the route that it asks for. What is refused
//! before a route is found has the global policy.
//!
//! ```yaml
//! - cors:
//!     allow_origins: [https://app.example.com]     # default: ["*"]
//!     allow_headers: [Signature, Signature-Input]  # default: whatever a page asks for
//!     expose_headers: [ETag]                       # beside ours and the basic ones; default: none
//!     allow_credentials: true                      # default: false; only with listed origins
//!     max_age: 10m                                 # default: 2h
//! ```

mod policy;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use self::policy::EXPOSED;
pub use self::policy::{Origins, Policy, Preflight, is_cors_header};
use crate::authority::parse_authority;
use crate::context::Context;
use crate::reject::Reject;
use crate::{BuildError, Deps, Filter, Flow, Request};

/// The YAML of a policy, a chain's or the global one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whose pages may read our answers.
    pub allow_origins: Origins,
    /// What headers they may send; `None` is whatever the preflight asks for.
    pub allow_headers: Option<HeaderNames>,
    /// What pages may read of an answer, beside the gateway's headers and the basic ones.
    pub expose_headers: Option<HeaderNames>,
    /// Whether cookies may come along.
    pub allow_credentials: bool,
    /// How long a browser may remember a preflight.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub max_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_origins: Origins::Any,
            allow_headers: None,
            expose_headers: None,
            allow_credentials: false,
            max_age: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// Cookies for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`allow_credentials` cannot be true while `allow_origins` is `*`\nhint: list the origins that may send cookies"
)]
pub struct CredentialsForAll;

impl Config {
    /// The policy that it describes.
    ///
    /// # Errors
    /// Every page could send cookies.
    pub fn policy(&self) -> Result<Policy, CredentialsForAll> {
        if self.allow_credentials && self.allow_origins == Origins::Any {
            return Err(CredentialsForAll);
        }
        Ok(Policy {
            origins: self.allow_origins.clone(),
            allow_headers: self.allow_headers.as_ref().map(|HeaderNames(names)| names.clone()),
            exposed: self.exposed(),
            credentials: self.allow_credentials,
            max_age: self.max_age,
        })
    }

    fn exposed(&self) -> HeaderValue {
        let theirs = self.expose_headers.as_ref().and_then(|HeaderNames(names)| names.to_str().ok());
        let theirs = theirs.filter(|names| !names.is_empty());
        let all = theirs.map(|names| format!("{EXPOSED}, {names}"));
        // Names of headers are a value of one, however many.
        all.and_then(|all| HeaderValue::from_str(&all).ok()).unwrap_or(HeaderValue::from_static(EXPOSED))
    }

    pub(crate) fn build(&self, _deps: &Deps) -> Result<Cors, BuildError> {
        Ok(Cors { policy: Arc::new(self.policy()?) })
    }
}

pub(crate) struct Cors {
    policy: Arc<Policy>,
}

#[async_trait]
impl Filter for Cors {
    fn cors(&self) -> Option<&Arc<Policy>> {
        Some(&self.policy)
    }

    fn summary(&self) -> String {
        let cookies = if self.policy.credentials { ", with cookies" } else { "" };
        match &self.policy.origins {
            Origins::Any => "lets every page read the answers".to_owned(),
            Origins::Listed(list) if list.is_empty() => "lets no other page read the answers".to_owned(),
            Origins::Listed(list) => {
                let list: Vec<&str> = list.iter().filter_map(|origin| origin.to_str().ok()).collect();
                format!("lets pages of {} read the answers{cookies}", list.join(", "))
            }
        }
    }

    async fn request(&self, _request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        Ok(Flow::Continue)
    }
}

/// One entry of `allow_origins`.
#[derive(PartialEq)]
enum Entry {
    Any,
    Origin(HeaderValue),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        if text == "*" {
            return Ok(Self::Any);
        }
        parse_origin(&text).map(Self::Origin).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no origin\nhint: write `*`, or scheme and host in lower case, as in https://app.example.com"
            ))
        })
    }
}

/// Reads an origin as a browser spells it. Source: RFC 6454 section 6.2.
fn parse_origin(text: &str) -> Option<HeaderValue> {
    let (scheme, authority) = text.split_once("://")?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    let spelled = parse_authority(authority, scheme)?;
    if scheme.is_empty() || !scheme.bytes().all(plain) || *spelled != *authority {
        return None;
    }
    HeaderValue::from_str(text).ok()
}

impl JsonSchema for Origins {
    fn schema_name() -> Cow<'static, str> {
        "Origins".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": { "type": "string", "pattern": "^([*]|[a-z][a-z0-9+.-]*://[^/]+)$" }
        })
    }
}

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<Entry>::deserialize(deserializer)?;
        if !entries.contains(&Entry::Any) {
            let origin = |entry| match entry {
                Entry::Origin(origin) => Some(origin),
                Entry::Any => None,
            };
            return Ok(Self::Listed(entries.into_iter().filter_map(origin).collect()));
        }
        if entries.len() > 1 {
            return Err(de::Error::custom("`*` allows every origin, so no other can stand beside it"));
        }
        Ok(Self::Any)
    }
}

/// Names of headers, as a header lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames(HeaderValue);

impl JsonSchema for HeaderNames {
    fn schema_name() -> Cow<'static, str> {
        "HeaderNames".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" }
        })
    }
}

impl<'de> Deserialize<'de> for HeaderNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names: Vec<String> =
            Vec::<Name>::deserialize(deserializer)?.into_iter().map(|Name(name)| name).collect();
        HeaderValue::from_str(&names.join(", ")).map(Self).map_err(de::Error::custom)
    }
}

/// The name of a header, as it was written.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(de::Error::custom(format!("`{name}` is no header name")));
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ChainError;
    use crate::testing::{build_error, chain, chain_error};

    #[test]
    fn a_chain_has_the_policy_of_its_filter() {
        let chain = chain("- operation_id: {}\n- cors: { allow_origins: ['https://a.b'], max_age: 10m }");
        let policy = chain.cors().unwrap();
        assert_eq!(policy.origins, Origins::Listed(vec![HeaderValue::from_static("https://a.b")]));
        assert_eq!((policy.credentials, policy.max_age), (false, Duration::from_secs(600)));
    }

    #[test]
    fn pages_may_read_more_than_what_is_ours() {
        let exposed = |yaml: &str| chain(yaml).cors().unwrap().exposed.clone();
        assert_eq!(exposed("- cors: {}"), EXPOSED);
        assert_eq!(exposed("- cors: { expose_headers: [] }"), EXPOSED);
        assert_eq!(exposed("- cors: { expose_headers: [ETag, x-a] }"), format!("{EXPOSED}, ETag, x-a"));
    }

    #[test]
    fn a_chain_has_one_policy_or_the_global_one() {
        assert!(chain("- operation_id: {}").cors().is_none());
        let error = chain_error("- cors: {}\n- operation_id: {}\n- cors: {}");
        assert_eq!(error, ChainError::SecondPolicy { index: 2 });
        assert_eq!(chain_error("- cors: {}\n  shadow: true"), ChainError::Shadowed { index: 0 });
    }

    #[test]
    fn cookies_are_for_listed_origins_only() {
        let error = build_error("- cors: { allow_credentials: true }");
        assert_eq!(error, BuildError::Cors(CredentialsForAll));
        let listed = chain("- cors: { allow_credentials: true, allow_origins: ['https://a.b'] }");
        assert!(listed.cors().unwrap().credentials);
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for (yaml, problem) in [
            ("{ allow_origins: ['https://A.b'] }", "`https://A.b` is no origin"),
            ("{ allow_origins: ['https://a.b/'] }", "`https://a.b/` is no origin"),
            ("{ allow_origins: ['null'] }", "`null` is no origin"),
            ("{ allow_origins: ['https://a.b:443'] }", "`https://a.b:443` is no origin"),
            ("{ allow_origins: ['*', 'https://a.b'] }", "no other can stand beside it"),
            ("{ allow_headers: ['a b'] }", "`a b` is no header name"),
            ("{ max_age: 10 }", "no duration"),
            ("{ origins: ['*'] }", "origins"),
        ] {
            let error = serde_saphyr::from_str::<Config>(yaml).expect_err(yaml).to_string();
            assert!(error.contains(problem), "{yaml}: {error}");
        }
    }
}

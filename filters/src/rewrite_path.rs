//! Forwards a request under another path. Routing and signatures know only the path that the client sent.
//!
//! A path in `paths` becomes the one beside it. Any other loses `strip_prefix`, whole segments, and gains
//! `add_prefix`; one that does not begin with `strip_prefix` goes as it is. The query is never touched.
//! What stays at the gateway by a route's `at` is gone already. A chain that binds bodies or injects an
//! OpenIM token cannot have this filter: what a route allows its callers holds for the path it names.
//!
//! ```yaml
//! - rewrite_path: { strip_prefix: /api, add_prefix: /v1 }
//! - rewrite_path: { paths: { /old: /new, /status: /health/live } }
//! ```

use std::collections::HashMap;

use async_trait::async_trait;
use foldhash::fast::RandomState;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Context;
use crate::path::{PathFault, check_path};
use crate::reject::{Cause, Reject};
use crate::{BuildError, Deps, Filter, Flow, Request};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What a path loses at its front.
    pub strip_prefix: Option<Prefix>,
    /// What it gains there.
    pub add_prefix: Option<Prefix>,
    /// Whole paths, and what becomes of them.
    pub paths: HashMap<Plain, Plain, RandomState>,
}

/// A path of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Plain(Box<str>);

/// The front of a path, up to the end of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Prefix(Box<str>);

/// Why a path cannot stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It is ambiguous.
    #[error(transparent)]
    Fault(#[from] PathFault),
    /// It has an escape.
    #[error("a path is written without escapes")]
    Escaped,
    /// A prefix that ends in `/`.
    #[error("a prefix has no `/` at its end\nhint: /api stands for /api and all below it")]
    Open,
}

impl TryFrom<String> for Plain {
    type Error = BadPath;

    fn try_from(path: String) -> Result<Self, BadPath> {
        check_path(&path)?;
        if path.contains('%') { Err(BadPath::Escaped) } else { Ok(Self(path.into())) }
    }
}

impl TryFrom<String> for Prefix {
    type Error = BadPath;

    fn try_from(path: String) -> Result<Self, BadPath> {
        let Plain(path) = path.try_into()?;
        if path.ends_with('/') { Err(BadPath::Open) } else { Ok(Self(path)) }
    }
}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<RewritePath, BuildError> {
        let Self { strip_prefix, add_prefix, paths } = self.clone();
        if strip_prefix.is_none() && add_prefix.is_none() && paths.is_empty() {
            return Err(BuildError::NoRewrite);
        }
        let text = |prefix: Option<Prefix>| prefix.map(|Prefix(path)| path);
        let paths = paths.into_iter().map(|(Plain(from), Plain(to))| (from, to)).collect();
        Ok(RewritePath(PathRewrite { strip: text(strip_prefix), add: text(add_prefix), paths }))
    }
}

/// From the path of a request to the one that is forwarded.
#[derive(Clone, Debug)]
pub struct PathRewrite {
    strip: Option<Box<str>>,
    add: Option<Box<str>>,
    paths: HashMap<Box<str>, Box<str>, RandomState>,
}

impl PathRewrite {
    /// What becomes of a path that begins with `/`; it does so still. `None` if it goes as it is.
    pub fn apply(&self, path: &str) -> Option<Box<str>> {
        if let Some(other) = self.paths.get(path) {
            return Some(other.clone());
        }
        let rest = match (&self.strip, &self.add) {
            (None, None) => return None,
            (None, Some(_)) => path,
            (Some(prefix), _) => {
                path.strip_prefix(&**prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?
            }
        };
        let other = format!("{}{rest}", self.add.as_deref().unwrap_or(""));
        Some(if other.is_empty() { "/".into() } else { other.into() })
    }

    fn summary(&self) -> String {
        let paths = match self.paths.len() {
            0 => None,
            1 => Some("forwards 1 path as another".to_owned()),
            count => Some(format!("forwards {count} paths as others")),
        };
        let strip = self.strip.as_ref().map(|prefix| format!("strips {prefix} from the path"));
        let add = self.add.as_ref().map(|prefix| format!("puts {prefix} in front of it"));
        [paths, strip, add].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

pub(crate) struct RewritePath(PathRewrite);

#[async_trait]
impl Filter for RewritePath {
    fn rewrite(&self) -> Option<&PathRewrite> {
        Some(&self.0)
    }

    fn summary(&self) -> String {
        self.0.summary()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let bad = |reason| Reject::new(Cause::BadRequest, reason);
        let target = std::str::from_utf8(cx.forwarded(request.head)).map_err(|_| bad("target_not_ascii"))?;
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        if !path.starts_with('/') {
            return Err(bad("path_not_absolute"));
        }
        if let Some(other) = self.0.apply(path) {
            cx.target = Some([&*other, query].concat().into());
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Chain, ChainError, Named};
    use crate::context::{Fact, Place};
    use crate::testing::{build_error, chain, chain_error, get, run, signed_post};

    async fn forwarded(yaml: &str, target: &str) -> String {
        let out = run(&format!("- rewrite_path: {yaml}"), get(target)).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.head.raw_path(), target.as_bytes(), "the request's own path stays");
        String::from_utf8(out.cx.forwarded(&out.head).to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_path_is_forwarded_as_another() {
        let swap = "{ strip_prefix: /api, add_prefix: /v1 }";
        let strip = "{ strip_prefix: /api/x }";
        let paths = "{ paths: { /old: /new, /api: / }, strip_prefix: /api }";
        for (yaml, target, expected) in [
            (swap, "/api/a/b", "/v1/a/b"),
            (swap, "/api", "/v1"),
            (swap, "/api/", "/v1/"),
            (swap, "/apis/a", "/apis/a"),
            (swap, "/x/api/a", "/x/api/a"),
            (swap, "/", "/"),
            (swap, "/api/a%20b", "/v1/a%20b"),
            (strip, "/api/x", "/"),
            (strip, "/api/x/", "/"),
            (strip, "/api/x/y", "/y"),
            (strip, "/api", "/api"),
            ("{ add_prefix: /v1 }", "/", "/v1/"),
            ("{ add_prefix: /v1 }", "/a", "/v1/a"),
            (paths, "/old", "/new"),
            (paths, "/old/", "/old/"),
            (paths, "/api", "/"),
            (paths, "/api/a", "/a"),
        ] {
            assert_eq!(forwarded(yaml, target).await, expected, "{yaml} {target}");
        }
    }

    #[tokio::test]
    async fn a_query_stays_as_it_is_byte_for_byte() {
        for query in ["?", "?a=%2F&b;c&&d=/api", "??x", "?/api/../x"] {
            let target = format!("/api/a{query}");
            assert_eq!(forwarded("{ strip_prefix: /api }", &target).await, format!("/a{query}"));
            let kept = format!("/b{query}");
            assert_eq!(forwarded("{ strip_prefix: /api }", &kept).await, kept);
        }
    }

    #[tokio::test]
    async fn what_stays_at_the_gateway_is_gone_already() {
        let mut request = get("/api/im/a?b");
        request.place = Place { strip: "/api".len(), ..request.place };
        let out =
            run("- rewrite_path: { strip_prefix: /im }\n- rewrite_path: { add_prefix: /v1 }", request).await;
        assert_eq!(out.cx.target.as_deref(), Some(&b"/v1/a?b"[..]));
    }

    #[tokio::test]
    async fn signatures_are_checked_on_the_path_the_client_sent() {
        let yaml = "- rewrite_path: { strip_prefix: /api }\n- verify_signature: {}";
        let out = run(yaml, signed_post("/api/x", "{}")).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.cx.forwarded(&out.head), b"/x");
    }

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_refused_at_load() {
        for (yaml, problem) in [
            ("{ strip_prefix: api }", "begins with `/`"),
            ("{ strip_prefix: /api/ }", "no `/` at its end"),
            ("{ strip_prefix: / }", "no `/` at its end"),
            ("{ add_prefix: /../v1 }", "no segment `.` or `..`"),
            ("{ add_prefix: //v1 }", "no empty segment"),
            ("{ add_prefix: '/v1?a' }", "has no `\\`, `;`, `#` or `?`"),
            ("{ paths: { /a: /b/../c } }", "no segment `.` or `..`"),
            ("{ paths: { /a: '/b%20c' } }", "without escapes"),
            ("{ paths: { a: /b } }", "begins with `/`"),
            ("{ paths: { /a: '/b c' } }", "visible ASCII"),
            ("{ replace: /a }", "replace"),
        ] {
            let error = serde_saphyr::from_str::<Config>(yaml).expect_err(yaml).to_string();
            assert!(error.contains(problem), "{yaml}: {error}");
        }
        assert_eq!(build_error("- rewrite_path: {}"), BuildError::NoRewrite);
    }

    struct Bind;

    #[async_trait]
    impl Filter for Bind {
        fn writes(&self) -> &'static [Fact] {
            &[Fact::Bound]
        }

        fn summary(&self) -> String {
            String::new()
        }

        async fn request(&self, _: &mut Request<'_>, _: &mut Context) -> Result<Flow, Reject> {
            Ok(Flow::Continue)
        }
    }

    #[test]
    fn what_a_route_allows_holds_for_the_path_it_names() {
        let inject =
            "- verify_signature: {}\n- resolve_token: {}\n- strip_credentials: {}\n- inject_token: {}";
        let rewrite = "- rewrite_path: { strip_prefix: /api }";
        let error = chain_error(&format!("{rewrite}\n{inject}"));
        assert_eq!(error, ChainError::Diverted { index: 0 });
        assert_eq!(chain_error(&format!("{inject}\n{rewrite}")), ChainError::Diverted { index: 4 });
        assert!(error.to_string().contains("hint: "), "{error}");
        chain(&format!("- verify_signature: {{}}\n{rewrite}"));

        let rewrite = RewritePath(PathRewrite { strip: None, add: None, paths: HashMap::default() });
        let named = |filter: Box<dyn Filter>| Named { name: "filter", filter, shadow: false };
        let bound = Chain::new(vec![named(Box::new(Bind)), named(Box::new(rewrite))]);
        assert_eq!(bound.err(), Some(ChainError::Diverted { index: 1 }));
    }
}

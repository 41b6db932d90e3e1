//! Takes no body that is larger than `max`.
//!
//! The route's own bound (`max_body`, `limits.body`) holds beside it: the smaller wins. A body that was
//! announced as larger is refused at once, one that comes in pieces as soon as it grows too large, on
//! streams too; there the upstream may have seen the front of it. It stands above the filters that read
//! the body.
//!
//! ```yaml
//! - body_limit: { max: 1MiB }
//! ```

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Context;
use crate::reject::Reject;
use crate::size::Size;
use crate::{BodyUse, BuildError, Deps, Filter, Flow, Request};

/// The YAML of this filter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The largest body.
    pub max: Size,
}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<BodyLimit, BuildError> {
        Ok(BodyLimit { max: self.max })
    }
}

pub(crate) struct BodyLimit {
    max: Size,
}

#[async_trait]
impl Filter for BodyLimit {
    fn body(&self) -> BodyUse {
        BodyUse::Limits
    }

    fn summary(&self) -> String {
        let Size(bytes) = self.max;
        format!("takes bodies of at most {bytes} bytes")
    }

    async fn request(&self, request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        let Size(bytes) = self.max;
        request.body.limit(bytes)?;
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ChainError;
    use crate::testing::{chain, chain_error, get, run, signed_post};

    #[tokio::test]
    async fn a_larger_body_is_refused() {
        let yaml = "- body_limit: { max: 16B }\n- verify_signature: {}";
        let out = run(yaml, signed_post("/x", &"x".repeat(16))).await;
        assert_eq!(out.refused(), None);
        let out = run(yaml, signed_post("/x", &"x".repeat(17))).await;
        let refused = out.refused().unwrap();
        assert_eq!((refused.status, refused.err_code, refused.reason), (413, 20203, "body_too_large"));
        assert_eq!(out.cx.refused_by, Some("body_limit"));
        assert_eq!(run("- body_limit: { max: 0B }", get("/")).await.refused(), None);
    }

    #[tokio::test]
    async fn the_smaller_bound_wins() {
        let yaml = "- body_limit: { max: 8B }\n- body_limit: { max: 1GiB }\n- verify_signature: {}";
        assert!(run(yaml, signed_post("/x", "123456789")).await.refused().is_some());
        let above_the_routes = signed_post("/x", &"x".repeat(64 * 1024 + 1));
        let out = run("- body_limit: { max: 1GiB }\n- verify_signature: {}", above_the_routes).await;
        assert_eq!(out.refused().unwrap().reason, "body_too_large");
    }

    #[test]
    fn it_stands_above_whoever_reads_the_body() {
        let error = chain_error("- operation_id: {}\n- verify_signature: {}\n- body_limit: { max: 1MiB }");
        assert_eq!(error, ChainError::LateLimit { index: 2, reader: "verify_signature" });
        assert_eq!(
            error.to_string(),
            "bounds a body that `verify_signature` has read already\nhint: put it above verify_signature"
        );
        assert_eq!(chain("- body_limit: { max: 1MiB }").body(), BodyUse::Ignores);
    }

    #[test]
    fn a_size_has_a_unit() {
        for yaml in ["{}", "{ max: 1 }", "{ max: 1MB }", "{ max: 1MiB, min: 1B }"] {
            assert!(serde_saphyr::from_str::<Config>(yaml).is_err(), "{yaml}");
        }
    }
}

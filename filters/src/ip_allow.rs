//! Lets requests in from some addresses only.
//!
//! It goes by the address that the gateway tells upstreams in `X-Forwarded-For`, whatever a client says
//! of itself. `file` names a file with more of them, one per line; the head of `networks.rs` has the details.
//! Without any address the filter does not load.
//!
//! ```yaml
//! - ip_allow: { addresses: [10.0.0.0/8, 192.0.2.7, "::1"] }
//! ```

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Context;
use crate::networks::{BadNetworks, Networks, WrittenNetworks};
use crate::reject::{Cause, Reject};
use crate::{BuildError, Deps, Filter, Flow, Request, Shadow};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub WrittenNetworks);

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<IpAllow, BuildError> {
        let allowed = self.0.read(&deps.base)?;
        // Nobody could pass: rather an emptied file than anybody's wish.
        if allowed.is_empty() { Err(BadNetworks::None.into()) } else { Ok(IpAllow { allowed }) }
    }
}

pub(crate) struct IpAllow {
    allowed: Networks,
}

#[async_trait]
impl Filter for IpAllow {
    fn shadow(&self) -> Shadow {
        Shadow::Allowed
    }

    fn summary(&self) -> String {
        format!("lets in from {}", self.allowed)
    }

    async fn request(&self, _request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        if self.allowed.contain(cx.client) {
            return Ok(Flow::Continue);
        }
        Err(Reject::new(Cause::Forbidden, "address_not_allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{build_error, get, run};

    #[tokio::test]
    async fn only_listed_addresses_pass() {
        let yaml = "- ip_allow: { addresses: [10.0.0.0/8, '2001:db8::/32'] }";
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"] {
            assert_eq!(run(yaml, get("/").from(inside)).await.refused(), None, "{inside}");
        }
        for outside in ["11.1.2.3", "::ffff:11.1.2.3", "::1", "::a01:203"] {
            let refused = run(yaml, get("/").from(outside)).await.refused().unwrap();
            assert_eq!((refused.status, refused.err_code), (403, 1002), "{outside}");
            assert_eq!(refused.reason, "address_not_allowed");
        }
    }

    #[tokio::test]
    async fn what_the_client_says_of_itself_does_not_count() {
        let forged = get("/").from("192.0.2.1").header("x-forwarded-for", "10.0.0.1");
        let out = run("- ip_allow: { addresses: [10.0.0.0/8] }", forged).await;
        assert_eq!(out.refused().unwrap().reason, "address_not_allowed");
    }

    #[tokio::test]
    async fn a_file_is_read_beside_the_list() {
        let yaml = "- ip_allow: { addresses: [192.0.2.7], file: tests/data/offices.txt }";
        for inside in ["192.0.2.7", "198.51.100.1", "2001:db8:0:1::9"] {
            assert_eq!(run(yaml, get("/").from(inside)).await.refused(), None, "{inside}");
        }
        assert!(run(yaml, get("/").from("203.0.113.1")).await.refused().is_some());
    }

    #[test]
    fn a_list_of_nobody_is_refused() {
        for yaml in ["{}", "{ addresses: [] }", "{ file: tests/data/nobody.txt }"] {
            assert_eq!(build_error(&format!("- ip_allow: {yaml}")), BuildError::Networks(BadNetworks::None));
        }
    }

    #[tokio::test]
    async fn in_shadow_it_only_counts() {
        let out = run("- ip_allow: { addresses: [10.0.0.0/8] }\n  shadow: true", get("/").from("::1")).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.cx.shadowed[0].reason, "address_not_allowed");
    }
}

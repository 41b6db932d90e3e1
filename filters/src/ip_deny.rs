//! Refuses requests from some addresses.
//!
//! It goes by the address that the gateway tells upstreams in `X-Forwarded-For`, whatever a client says
//! of itself. `file` names a file with more of them, one per line; the head of `networks.rs` has the details.
//! The file may be empty and then refuses nobody.
//!
//! ```yaml
//! - ip_deny: { addresses: [203.0.113.0/24, "2001:db8::/32"] }
//! ```

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Context;
use crate::networks::{Networks, WrittenNetworks};
use crate::reject::{Cause, Reject};
use crate::{BuildError, Deps, Filter, Flow, Request, Shadow};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub WrittenNetworks);

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<IpDeny, BuildError> {
        Ok(IpDeny { denied: self.0.read(&deps.base)? })
    }
}

pub(crate) struct IpDeny {
    denied: Networks,
}

#[async_trait]
impl Filter for IpDeny {
    fn shadow(&self) -> Shadow {
        Shadow::Allowed
    }

    fn summary(&self) -> String {
        format!("refuses {}", self.denied)
    }

    async fn request(&self, _request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        if self.denied.contain(cx.client) {
            return Err(Reject::new(Cause::Forbidden, "address_denied"));
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::networks::{BadNetwork, BadNetworks};
    use crate::testing::{build_error, get, run};

    #[tokio::test]
    async fn listed_addresses_are_refused() {
        let yaml = "- ip_deny: { addresses: [203.0.113.0/24, '::ffff:198.51.100.7'] }";
        for denied in ["203.0.113.9", "::ffff:203.0.113.9", "198.51.100.7", "::ffff:198.51.100.7"] {
            let refused = run(yaml, get("/").from(denied)).await.refused().unwrap();
            assert_eq!((refused.status, refused.err_code), (403, 1002), "{denied}");
            assert_eq!(refused.reason, "address_denied");
        }
        for other in ["203.0.114.1", "198.51.100.8", "::1"] {
            assert_eq!(run(yaml, get("/").from(other)).await.refused(), None, "{other}");
        }
    }

    #[tokio::test]
    async fn an_empty_file_refuses_nobody() {
        let out = run("- ip_deny: { file: tests/data/nobody.txt }", get("/")).await;
        assert_eq!(out.refused(), None);
    }

    #[test]
    fn a_list_that_is_not_there_is_refused() {
        assert_eq!(build_error("- ip_deny: {}"), BuildError::Networks(BadNetworks::None));
        let missing = build_error("- ip_deny: { file: no-such-file }");
        assert!(
            matches!(
                missing,
                BuildError::Networks(BadNetworks::Unreadable { cause: ErrorKind::NotFound, .. })
            ),
            "{missing}"
        );
    }

    #[test]
    fn a_bad_line_is_named_and_not_repeated() {
        let BuildError::Networks(bad) = build_error("- ip_deny: { file: src/lib.rs }") else {
            panic!("the file is no list")
        };
        assert!(matches!(bad, BadNetworks::Line { line: 1, cause: BadNetwork::Neither, .. }));
        assert!(bad.to_string().contains("src/lib.rs:1 is no address and no network\nhint: "), "{bad}");
        assert!(!bad.to_string().contains("//!"), "{bad}");
    }
}

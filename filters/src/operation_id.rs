//! Sends `operationID` to the upstream: the client's own if it is usable, else one of the gateway's.
//!
//! OpenIM refuses every call without it, and looks a message's send status up by it, so a usable name
//! of the client's (1 to 128 bytes of visible ASCII, there only once) is kept. Exactly one copy is
//! sent: Go reads the first of several.
//!
//! ```yaml
//! - operation_id: {}
//! ```

use async_trait::async_trait;
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Context;
use crate::reject::Reject;
use crate::{BuildError, Deps, Filter, Flow, Request, set_header};

/// OpenIM's header for the name of an operation.
///
/// Source: openimsdk/protocol `constant.OperationID`.
pub const HEADER: HeaderName = HeaderName::from_static("operationid");

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<SendOperationId, BuildError> {
        Ok(SendOperationId)
    }
}

pub(crate) struct SendOperationId;

#[async_trait]
impl Filter for SendOperationId {
    fn summary(&self) -> String {
        "sets operationID (the client's own if it is usable)".to_owned()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        set_header(request.head, HEADER, cx.operation_id.value().clone());
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, run};

    #[tokio::test]
    async fn exactly_one_name_reaches_the_upstream() {
        let out = run("- operation_id: {}", get("/").header("operationID", "op-1")).await;
        assert_eq!(out.sent("operationid"), ["op-1"]);
        let out = run("- operation_id: {}", get("/")).await;
        assert_eq!(out.sent("operationid"), ["generated"]);
    }
}

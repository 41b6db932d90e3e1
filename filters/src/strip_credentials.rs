//! Removes the app's credentials, so that the upstream never sees or logs them.
//!
//! Always removed: `Signature`, `Signature-Input`, `Content-Digest`, `Authorization`,
//! `Proxy-Authorization`, `Cookie` and OpenIM's own `token`, in every copy; and every header in which
//! another filter of the chain looks for a credential. `also` names more.
//!
//! ```yaml
//! - strip_credentials: { also: [x-app-session] }
//! ```

use async_trait::async_trait;
use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use serde::Deserialize;

use crate::context::Context;
use crate::reject::Reject;
use crate::{BuildError, Credentials, Deps, Filter, Flow, Request, inject_token, verify_signature};

/// The headers that carry credentials, whatever the chain.
pub const CREDENTIALS: [HeaderName; 7] = [
    verify_signature::SIGNATURE,
    verify_signature::SIGNATURE_INPUT,
    verify_signature::CONTENT_DIGEST,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    inject_token::HEADER,
];

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// More headers to remove.
    #[serde(default)]
    pub also: Vec<String>,
}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<StripCredentials, BuildError> {
        let mut names = CREDENTIALS.to_vec();
        for name in &self.also {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BuildError::BadHeader)?;
            if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                return Err(BuildError::BadHeader);
            }
            names.push(name);
        }
        Ok(StripCredentials { names })
    }
}

pub(crate) struct StripCredentials {
    names: Vec<HeaderName>,
}

#[async_trait]
impl Filter for StripCredentials {
    fn credentials(&self) -> Credentials {
        Credentials::Strips
    }

    fn strip_too(&mut self, names: &[HeaderName]) {
        let new = names.iter().filter(|name| !self.names.contains(name)).cloned().collect::<Vec<_>>();
        self.names.extend(new);
    }

    fn summary(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(HeaderName::as_str).collect();
        format!("removes {}", names.join(", "))
    }

    async fn request(&self, request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        for name in &self.names {
            request.head.remove_header(name);
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{build_error, get, run};
    use crate::{BuildError, strip_credentials::CREDENTIALS};

    #[tokio::test]
    async fn every_copy_of_every_credential_goes() {
        let mut request = get("/");
        for name in CREDENTIALS {
            request = request.header(name.as_str(), "a").header(name.as_str(), "b");
        }
        let out =
            run("- strip_credentials: { also: [X-App] }", request.header("x-app", "c").header("kept", "d"))
                .await;
        for name in CREDENTIALS {
            assert!(out.sent(name.as_str()).is_empty(), "{name}");
        }
        assert!(out.sent("x-app").is_empty());
        assert_eq!(out.sent("kept"), ["d"]);
    }

    #[test]
    fn framing_headers_cannot_be_named() {
        assert_eq!(build_error("- strip_credentials: { also: [Host] }"), BuildError::BadHeader);
        assert_eq!(build_error("- strip_credentials: { also: ['no name'] }"), BuildError::BadHeader);
    }
}

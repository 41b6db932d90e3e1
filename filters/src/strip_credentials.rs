//! Removes the app's credentials, so that the upstream never sees or logs them.
//!
//! Always removed: `Signature`, `Signature-Input`, `Content-Digest`, `Authorization`,
//! `Proxy-Authorization`, `Cookie` and OpenIM's own `token`, in every copy; and every header in which
//! another filter of the chain looks for a credential. `also` names more.
//!
//! `keep_sigv4` is for routes to object storage: it leaves one `Authorization` there if that is a Signature
//! Version 4 of AWS, which is made for the storage and worth nothing elsewhere. It leaves none that a
//! filter of the chain takes for its own.
//!
//! ```yaml
//! - strip_credentials: { also: [x-app-session], keep_sigv4: true }
//! ```

use async_trait::async_trait;
use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
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
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// More headers to remove.
    #[serde(default)]
    pub also: Vec<String>,
    /// Whether an `Authorization` for object storage stays.
    #[serde(default)]
    pub keep_sigv4: bool,
}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<StripCredentials, BuildError> {
        let mut names = CREDENTIALS.to_vec();
        for name in &self.also {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BuildError::BadHeader)?;
            if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                return Err(BuildError::BadHeader);
            }
            if self.keep_sigv4 && name == AUTHORIZATION {
                return Err(BuildError::StripsWhatItKeeps);
            }
            names.push(name);
        }
        Ok(StripCredentials { names, keeps_sigv4: self.keep_sigv4 })
    }
}

pub(crate) struct StripCredentials {
    names: Vec<HeaderName>,
    keeps_sigv4: bool,
}

/// How a Signature Version 4 begins, and its younger sibling over elliptic curves.
///
/// Source: AWS, "Authenticating Requests: Using the Authorization Header".
const SIGV4: [&[u8]; 2] = [b"AWS4-HMAC-SHA256 ", b"AWS4-ECDSA-P256-SHA256 "];

/// Whether the one `Authorization` of a request is for object storage.
fn is_sigv4(head: &RequestHeader) -> bool {
    let mut copies = head.headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (copies.next(), copies.next());
    second.is_none()
        && first.is_some_and(|value| SIGV4.iter().any(|scheme| value.as_bytes().starts_with(scheme)))
}

#[async_trait]
impl Filter for StripCredentials {
    fn credentials(&self) -> Credentials {
        Credentials::Strips
    }

    fn strip_too(&mut self, names: &[HeaderName]) {
        let new = names.iter().filter(|name| !self.names.contains(name)).cloned().collect::<Vec<_>>();
        self.names.extend(new);
        self.keeps_sigv4 &= !names.contains(&AUTHORIZATION);
    }

    fn summary(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(HeaderName::as_str).collect();
        let kept = if self.keeps_sigv4 { ", but no Authorization for object storage" } else { "" };
        format!("removes {}{kept}", names.join(", "))
    }

    async fn request(&self, request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        let keeps = self.keeps_sigv4 && is_sigv4(request.head);
        for name in self.names.iter().filter(|name| !(keeps && **name == AUTHORIZATION)) {
            request.head.remove_header(name);
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{build_error, get, run};

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

    #[tokio::test]
    async fn a_signature_for_object_storage_stays_where_that_is_said() {
        let signature =
            "AWS4-HMAC-SHA256 Credential=a/20300101/r/s3/aws4_request, SignedHeaders=host, Signature=b";
        let keep = "- strip_credentials: { keep_sigv4: true }";
        let sent = |values: &[&str]| {
            values.iter().fold(get("/"), |get, value| get.header("authorization", value).header("token", "t"))
        };
        let out = run(keep, sent(&[signature])).await;
        assert_eq!((out.sent("authorization"), out.sent("token").len()), (vec![signature], 0));
        for other in
            [&["Bearer b"][..], &["aws4-hmac-sha256 x"], &[signature, signature], &["Bearer b", signature]]
        {
            assert!(run(keep, sent(other)).await.sent("authorization").is_empty(), "{other:?}");
        }
        assert!(run("- strip_credentials: {}", sent(&[signature])).await.sent("authorization").is_empty());
    }

    #[test]
    fn what_is_kept_is_not_named() {
        let yaml = "- strip_credentials: { also: [Authorization], keep_sigv4: true }";
        assert_eq!(build_error(yaml), BuildError::StripsWhatItKeeps);
    }

    #[test]
    fn what_a_filter_reads_is_stripped_whatever_is_kept() {
        let mut filter = StripCredentials { names: CREDENTIALS.to_vec(), keeps_sigv4: true };
        filter.strip_too(&[HeaderName::from_static("x-app")]);
        assert!(filter.keeps_sigv4);
        filter.strip_too(&[AUTHORIZATION]);
        assert!(!filter.keeps_sigv4);
    }

    #[test]
    fn framing_headers_cannot_be_named() {
        assert_eq!(build_error("- strip_credentials: { also: [Host] }"), BuildError::BadHeader);
        assert_eq!(build_error("- strip_credentials: { also: ['no name'] }"), BuildError::BadHeader);
    }
}

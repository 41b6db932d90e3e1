//! The one list of request headers that never cross the gateway, and those that it sets itself.

use std::collections::HashSet;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use http::HeaderName;
use http::header::{CONNECTION, EXPECT, FORWARDED, PROXY_AUTHENTICATE, TE, TRAILER, UPGRADE};

/// The public base URL, from which OpenIM builds object URLs.
///
/// Source: open-im-server `internal/api/third.go`, `setURLPrefix`.
pub const X_REQUEST_API: HeaderName = HeaderName::from_static("x-request-api");
/// The client's address.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme by which clients know the gateway.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The client's address once more, for those who read this one.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Headers of one connection only (RFC 9110 section 7.6.1), and those by which a client could pass
/// for a proxy or steer whoever is behind us: some frameworks take the path from `X-Original-URL` or
/// `X-Rewrite-URL`, past the routes here.
static NEVER: LazyLock<HashSet<HeaderName, RandomState>> = LazyLock::new(|| {
    let names = [
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "compression",
        "x-client-ip",
        "true-client-ip",
        "x-original-url",
        "x-rewrite-url",
    ]
    .map(HeaderName::from_static);
    let standard =
        [CONNECTION, TE, TRAILER, UPGRADE, PROXY_AUTHENTICATE, EXPECT, FORWARDED, X_REAL_IP, X_REQUEST_API];
    standard.into_iter().chain(names).collect()
});

/// Whether a client's header of this name stays behind on every route.
pub fn is_never_forwarded(name: &HeaderName) -> bool {
    let text = name.as_str();
    NEVER.contains(name)
        || text.starts_with("x-forwarded-")
        || text.starts_with("x-imgate-")
        // A server that folds `_` into `-` would read `X_Forwarded_For` as ours. nginx drops these too.
        || text.contains('_')
}

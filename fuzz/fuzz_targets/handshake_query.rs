//! A handshake's query that is let through means one thing: what OpenIM reads in it is what was checked.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use imgate_filters::chain::Chain;
use imgate_filters::context::{OperationId, Place};
use imgate_filters::{Authorities, Body, Context, Deps, Reject, Request, Step};
use imgate_identity::key::Keys;
use imgate_identity::store::{CacheConfig, Memory, Store};
use imgate_identity::time::UnixTime;
use imgate_identity::user::UserId;
use libfuzzer_sys::fuzz_target;
use pingora_http::RequestHeader;

struct Empty;

#[async_trait]
impl Body for Empty {
    fn is_announced(&self) -> bool {
        false
    }

    async fn read(&mut self) -> Result<Bytes, Reject> {
        Ok(Bytes::new())
    }

    fn limit(&mut self, _max: u64) -> Result<(), Reject> {
        Ok(())
    }

    fn replace(&mut self, _body: Bytes) {}
}

static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let admin = UserId::parse("imAdmin").expect("an id");
    let deps = Deps {
        store: Store::memory(Arc::new(Memory::new()), Keys::default(), CacheConfig::default()),
        authorities: Arc::new(Authorities::new(["im.example.com"], "https")),
        admin_users: Arc::new([admin].into()),
        assertion_key: None,
        replays: Arc::default(),
        jwks: Arc::<imgate::jwks::Feeds>::default(),
        rates: Arc::default(),
        base: std::path::Path::new("").into(),
        custom: Arc::default(),
    };
    let steps: Vec<Step> = serde_saphyr::from_str("- verify_socket: {}").expect("a chain");
    Chain::build(&steps, &deps).expect("a chain in order")
});

/// What OpenIM's message gateway reads. Source: open-im-server `internal/msggateway/context.go`.
const READ: [&str; 10] = [
    "sendID",
    "token",
    "platformID",
    "operationID",
    "isBackground",
    "compression",
    "sdkType",
    "isMsgResp",
    "sdkVersion",
    "v",
];

fuzz_target!(|query: &str| {
    let target = format!("/ws?{query}");
    let Ok(mut head) = RequestHeader::build("GET", target.as_bytes(), None) else { return };
    if head.raw_path() != target.as_bytes() {
        return;
    }
    let operation_id = OperationId::generated(http::HeaderValue::from_static("generated"));
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut cx = Context::new(|| UnixTime(1_800_000_000), client, operation_id, Place::unknown());
    let mut body = Empty;
    let mut request = Request { head: &mut head, body: &mut body };
    let verdict = CHAIN.request(&mut request, &mut cx).now_or_never().expect("it waits for nothing");
    assert_eq!(head.raw_path(), target.as_bytes(), "the query is never rebuilt");
    if verdict.is_ok() {
        means_one_thing(query, &cx);
    }
});

/// Reads the query as Go's `net/url` does, and lenient servers too.
fn means_one_thing(query: &str, cx: &Context) {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    for name in READ {
        let alike = pairs.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).count();
        assert!(alike <= 1, "{name} is there twice");
        let exact = pairs.iter().filter(|(key, _)| key == name).count();
        assert_eq!(alike, exact, "{name} is there in another case");
    }
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("v"), None, "`v` would override all others");
    assert!(!query.contains(';'), "some servers split at `;`");
    if let Some(user) = value("sendID") {
        assert_ne!(user, "imAdmin");
        if let Some(claimed) = &cx.claimed_user {
            assert_eq!(claimed.as_str(), user);
        }
    }
    if let Some(platform) = value("platformID") {
        assert_ne!(platform.trim().parse::<i64>(), Ok(10), "the platform of admins");
    }
}

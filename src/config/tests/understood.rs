//! What is accepted, and what it means.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::Method;
use imgate_filters::Cause;
use imgate_filters::cors::Origins;
use imgate_identity::store::{CacheConfig, Layout};

use super::{BASE, accepted, parse, with};
use crate::access_log::Output;
use crate::config::{Listener, Mode};
use crate::front::address::{Address, FileMode};
use crate::route::Found;
use crate::upstream::{Balance, Key, Options, Upstream, probe};

#[test]
fn defaults_are_what_the_documentation_says() {
    let config = parse(BASE).unwrap();
    let limits = &config.limits;
    assert_eq!(limits.request_timeout, Duration::from_secs(9));
    assert_eq!((limits.body, limits.hold), (64 * 1024, 1024 * 1024));
    assert_eq!(config.hosts.concat(), "im.example.com");
    assert_eq!(config.access_log, Output::Stdout);
    assert_eq!((&config.cors.origins, config.cors.credentials), (&Origins::Any, false));
    assert_eq!(config.identity.layout, Layout::default());
    assert_eq!(config.identity.cache, CacheConfig::default());
    assert!(config.admin.is_none() && config.identity.assertion_key.is_none());
    assert!(config.threads > 0 && config.warnings.is_empty());
    let Found::Route(route) = config.routes.find(None, "any", &Method::GET, "/ws") else {
        panic!("there is a route")
    };
    assert_eq!((&*route.name, &*route.upstream, route.chain.as_deref()), ("/ws", "chat", Some("socket")));
    assert_eq!(route.mode, Mode::Tunnel { idle_timeout: Duration::from_secs(120) });
}

#[test]
fn values_are_read_into_their_types() {
    let config = accepted(
        "listeners:",
        "hosts: [IM.example.com:443, 'im.example.com:8443']\n\
         access_log: { output: { file: access.log } }\n\
         cors: { allow_origins: ['https://a.b', 'capacitor://localhost'], allow_headers: [A, B], allow_credentials: true }\n\
         errors: { replayed: { status: 409, errCode: 20999 } }\n\
         listeners:",
    );
    assert_eq!(config.hosts.join(" "), "im.example.com im.example.com:8443");
    assert_eq!(config.access_log, Output::File(Path::new("/nonexistent/access.log").into()));
    assert_eq!(config.cors.allow_headers.unwrap(), "A, B");
    assert!(
        config.cors.credentials && matches!(config.cors.origins, Origins::Listed(list) if list.len() == 2)
    );
    assert_eq!(config.answers.of(Cause::Replayed).err_code, 20999);
    let address = Address::Ip("0.0.0.0:8080".parse().unwrap());
    let plain = Listener { name: None, address, mode: FileMode::default(), tls: None, proxy_protocol: None };
    assert_eq!(config.listeners, [plain]);
}

#[test]
fn servers_are_resolved_to_addresses() {
    let config = accepted("\"127.0.0.1:10001\"", "'localhost:1', '127.0.0.1:1', '[::1]:2'");
    let expected: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    let servers: Vec<SocketAddr> =
        Upstream::succeeding(None, "chat", &config.upstreams[0].servers, Options::default())
            .servers()
            .iter()
            .map(|server| server.address)
            .collect();
    assert_eq!(servers, expected);
}

#[test]
fn what_is_said_of_an_upstream_is_read_into_its_types() {
    let config = accepted(
        "\"127.0.0.1:10001\"]",
        "'127.0.0.1:1'], read_timeout: 3s, idle_timeout: 2s, balance: { hash: { header: X-Room } }, \
         resolve: { every: 1m, strict: false }, health_check: { ask: { http: /healthz }, interval: 1s }, \
         failure_codes: [7], eject: { enabled: false }, breaker: { share: 90%, longest_pause: 2s }, \
         retries: { share: 0%, per_second: 1 }, slow_return: 0s",
    );
    let options = &config.upstreams[0].options;
    let seconds = Duration::from_secs;
    assert_eq!((options.first_byte_timeout, options.idle_timeout_unsafe), (seconds(3), seconds(2)));
    assert_eq!(options.balance, Balance::Hash(Key::Header("x-room".parse().unwrap())));
    assert_eq!((options.resolve.every, options.resolve.strict), (seconds(60), false));
    let check = options.check.as_ref().unwrap();
    assert_eq!(check.kind, probe::Kind::Http("/healthz".into()));
    assert_eq!((check.interval, check.timeout), (seconds(1), seconds(1)));
    assert_eq!((&*options.failure_codes, &options.eject), (&[7][..], &None));
    let breaker = options.breaker.as_ref().unwrap();
    assert_eq!((breaker.threshold.share, breaker.longest_pause), (90, seconds(2)));
    assert_eq!(options.slow_return, Duration::ZERO);
}

#[test]
fn a_name_without_an_address_is_a_fault_unless_that_is_allowed() {
    // Source: RFC 6761 section 6.4.
    let error = super::refused("127.0.0.1:10001", "chat.invalid:1");
    assert!(error.contains("upstreams.chat.servers[0]: `chat.invalid:1` has no address: "), "{error}");
    assert!(error.contains("resolve: { strict: false }"), "{error}");
    let config = accepted("\"127.0.0.1:10001\"]", "'chat.invalid:1'], resolve: { strict: false }");
    assert!(config.upstreams[0].servers[0].found.is_empty());
}

#[test]
fn what_is_doubtful_is_a_warning() {
    let text = with("  socket:", "  spare: []\n  socket:")
        .replace("  chat:", "  spare: { servers: ['127.0.0.1:1'] }\n  chat:")
        .replace("listeners:", "limits: { request_timeout: 10s }\nlisteners:");
    let warnings: Vec<String> =
        parse(&text).unwrap().warnings.iter().map(|w| w.problem.to_string()).collect();
    assert_eq!(
        warnings,
        [
            "10 s or more\nhint: OpenIM's clients give up after 10 s and never see what the gateway answers later",
            "upstream `spare` is not used by any route",
            "chain `spare` is not used by any route",
        ]
    );
}

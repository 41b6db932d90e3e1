//! An admin's token as the filter meets it, from the header to the caller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use imgate_identity::jwt::{KeyFault, KeySet};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{BadJwt, BadUrl, Feed, Jwks, Source};
use crate::BuildError;
use crate::context::Fact;
use crate::reject::{Hint, RETRY_AFTER};
use crate::rules::Rule;
use crate::testing::{NOW, Outcome, PEM, Refused, Sample, build_error, chain, get, run, run_all};

const JWKS: &str = include_str!("admins.jwks");

/// Stands in for the gateway, which fetches: at hosts that begin with `away` there is nothing.
pub(crate) struct Feeds;

struct FixedFeed {
    keys: Option<Arc<KeySet>>,
    is_counted: bool,
}

static MISSES: AtomicUsize = AtomicUsize::new(0);

impl Jwks for Feeds {
    fn follow(&self, source: &Source) -> Arc<dyn Feed> {
        let there = || KeySet::from_jwks(JWKS.as_bytes(), &source.algorithms).unwrap().into();
        let keys = (!source.url.host().starts_with("away")).then(there);
        Arc::new(FixedFeed { keys, is_counted: source.url.host().starts_with("counted") })
    }
}

impl Feed for FixedFeed {
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.clone()
    }

    fn miss(&self) {
        MISSES.fetch_add(usize::from(self.is_counted), Ordering::Relaxed);
    }
}

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_ed_pem(PEM.as_bytes()).unwrap());

/// A chain of this filter and of `more` in its YAML.
fn yaml(more: &str) -> String {
    format!(
        "- verify_jwt: {{ jwks_file: src/verify_jwt/admins.jwks, issuer: ops, audience: imgate, leeway: 10s, {more} }}"
    )
}

fn claims() -> Value {
    json!({ "iss": "ops", "aud": "imgate", "sub": "alice", "roles": ["im-admin"], "iat": NOW.0, "exp": NOW.0 + 600 })
}

fn token_of(kid: &str, changes: &Value) -> String {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.kid = Some(kid.to_owned());
    encode(&header, &claims, &KEY).unwrap()
}

fn token(changes: &Value) -> String {
    token_of("ops-1", changes)
}

fn bearing(token: &str) -> Sample {
    get("/x").header("authorization", &format!("Bearer {token}")).ruled(None, Some("any"), None)
}

async fn refused(yaml: &str, sample: Sample) -> (u16, u32, &'static str) {
    let Refused { status, err_code, reason } = run(yaml, sample).await.refused().expect("it is refused");
    (status, err_code, reason)
}

fn bad(more: &str) -> BadJwt {
    match build_error(more) {
        BuildError::Jwt(fault) => fault,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_good_token_proves_an_admin() {
    let out = run(&yaml(""), bearing(&token(&json!({})))).await;
    assert_eq!(out.refused(), None);
    let admin = out.cx.admin().expect("the caller is an admin");
    assert_eq!((&*admin.subject, &*admin.roles), ("alice", &["im-admin".into()][..]));
    assert!(out.cx.user().is_none());
}

#[test]
fn an_admin_is_a_caller_and_no_user() {
    let built = chain(&yaml(""));
    assert!(built.writes(Fact::Caller) && built.writes(Fact::Admin) && !built.writes(Fact::User));
}

#[tokio::test]
async fn the_scheme_may_be_in_any_case() {
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let sample = get("/x").header("authorization", &format!("{scheme} {}", token(&json!({}))));
        let sample = sample.ruled(None, Some("any"), None);
        assert_eq!(run(&yaml(""), sample).await.refused(), None, "{scheme}");
    }
}

#[tokio::test]
async fn a_token_stands_in_one_place() {
    let good = token(&json!({}));
    let with = |value: &str| get("/x").header("authorization", value);
    let bearer = format!("Bearer {good}");
    let missing = (401, 20101, "bearer_missing");
    assert_eq!(refused(&yaml(""), get("/x")).await, missing);
    assert_eq!(refused(&yaml(""), get("/x").header("token", &good)).await, missing);
    let cases = [
        (with(&bearer).header("authorization", &bearer), "credential_duplicated"),
        (with(&bearer).header("Authorization", "Basic YTpi"), "credential_duplicated"),
        (with("Basic YTpi"), "authorization_not_bearer"),
        (with(&good), "authorization_not_bearer"),
        (with(&format!("Bearer\t{good}")), "authorization_not_bearer"),
        (with("Bearer"), "authorization_not_bearer"),
        (with(""), "authorization_not_bearer"),
        (with("Bearer "), "jwt_parts"),
        (with(&format!("Bearer  {good}")), "jwt_encoding"),
        (with(&format!("{bearer} ")), "jwt_encoding"),
        (with(&format!("{bearer}, {bearer}")), "jwt_parts"),
        (with(&format!("Bearer {{\"payload\":\"{good}\"}}")), "jwt_encoding"),
    ];
    for (i, (sample, reason)) in cases.into_iter().enumerate() {
        assert_eq!(refused(&yaml(""), sample).await, (401, 20102, reason), "case {i}");
    }
    for query in
        ["access_token=x", "a=1&access_token", "a=1;access_token=x", "ACCESS_TOKEN=x", "%61ccess%5Ftoken=x"]
    {
        let sample = get(&format!("/x?{query}"));
        assert_eq!(refused(&yaml(""), sample.clone()).await, (401, 20102, "token_in_query"), "{query}");
        let both = refused(&yaml(""), sample.header("authorization", &bearer)).await;
        assert_eq!(both, (401, 20102, "token_in_query"), "{query}");
    }
    for query in ["my_access_token=x", "a=access_token", "access=1&token=2", "%", "%6", "%zz=1"] {
        let sample =
            get(&format!("/x?{query}")).header("authorization", &bearer).ruled(None, Some("any"), None);
        assert_eq!(run(&yaml(""), sample).await.refused(), None, "{query}");
    }
}

#[tokio::test]
async fn what_a_token_says_is_held_to() {
    let cases = [
        (json!({ "exp": NOW.0 - 10 }), (401, 20104, "jwt_expired")),
        (json!({ "iss": "others" }), (401, 20104, "jwt_issuer")),
        (json!({ "aud": "others" }), (401, 20104, "jwt_audience")),
        (json!({ "sub": "" }), (401, 20104, "jwt_sub_malformed")),
        (json!({ "exp": "1900000000" }), (401, 20104, "jwt_exp_malformed")),
        (json!({ "exp": NOW.0 + 3601 }), (401, 20104, "jwt_too_long_lived")),
        (json!({ "nbf": NOW.0 + 11 }), (401, 20103, "jwt_not_yet_valid")),
        (json!({ "iat": NOW.0 + 11 }), (401, 20103, "jwt_not_yet_issued")),
    ];
    for (changes, verdict) in cases {
        assert_eq!(refused(&yaml(""), bearing(&token(&changes))).await, verdict, "{changes}");
    }
    let mut cut = token(&json!({}));
    cut.truncate(cut.len() - 2);
    assert_eq!(refused(&yaml(""), bearing(&cut)).await.1, 20104);
    let at_jwt = refused(&yaml("type: at+jwt"), bearing(&token(&json!({})))).await;
    assert_eq!(at_jwt, (401, 20104, "jwt_type"));
}

#[tokio::test]
async fn no_refusal_logs_anybody_out_and_only_early_tokens_learn_our_time() {
    let early = run(&yaml(""), bearing(&token(&json!({ "nbf": NOW.0 + 11 })))).await;
    assert_eq!(early.result.unwrap_err().hint, Hint::ServerTime(NOW));
    let late = run(&yaml(""), bearing(&token(&json!({ "exp": NOW.0 - 10 })))).await;
    assert_eq!(late.result.unwrap_err().hint, Hint::Bearer);
}

#[tokio::test]
async fn an_openim_token_is_no_admins() {
    let header = Header::new(jsonwebtoken::Algorithm::HS256);
    let openim = json!({ "UserID": "imAdmin", "PlatformID": 10, "exp": NOW.0 + 600, "iat": NOW.0 });
    let openim = encode(&header, &openim, &EncodingKey::from_secret(b"openIM123")).unwrap();
    assert_eq!(refused(&yaml(""), bearing(&openim)).await, (401, 20104, "jwt_alg"));
}

async fn with_roles(filter: &str, route: Option<&str>, held: &[&str]) -> Outcome {
    let token = token(&json!({ "roles": held }));
    run(&yaml(filter), bearing(&token).ruled(None, route, None)).await
}

#[tokio::test]
async fn one_role_of_each_list_is_needed() {
    let forbidden = Some(Refused { status: 403, err_code: 1002, reason: "role_missing" });
    let cases: [(&str, Option<&str>, &[&str], bool); 10] = [
        ("roles: [a, b]", None, &["b"], true),
        ("roles: [a, b]", None, &["c"], false),
        ("roles: [a, b]", Some("[c]"), &["a"], false),
        ("roles: [a, b]", Some("[c]"), &["c"], false),
        ("roles: [a, b]", Some("[c, d]"), &["d", "a"], true),
        ("roles: [a]", Some("any"), &["c"], false),
        ("roles: any", Some("[c]"), &["c"], true),
        ("roles: any", None, &[], true),
        ("", Some("[c]"), &[], false),
        ("", Some("[c]"), &["C"], false),
    ];
    for (filter, route, held, admitted) in cases {
        let out = with_roles(filter, route, held).await;
        let expected = if admitted { None } else { forbidden.clone() };
        assert_eq!(out.refused(), expected, "{filter} {route:?} {held:?}");
        assert_eq!(out.cx.caller.is_some(), admitted, "{filter} {route:?} {held:?}");
    }
}

#[test]
fn every_route_states_roles_unless_the_filter_does() {
    let demands = |more: &str| chain(&yaml(more)).demands(Rule::Roles).is_some();
    assert!(demands(""));
    assert!(!demands("roles: [a]") && !demands("roles: any"));
    assert!(chain(&yaml("")).honours(Rule::Roles).is_some());
    assert!(chain(&yaml("")).honours(Rule::Bind).is_none());
}

fn fetched(host: &str) -> String {
    format!("- verify_jwt: {{ jwks_url: https://{host}/jwks, issuer: ops, audience: imgate, roles: any }}")
}

#[tokio::test]
async fn keys_that_were_not_fetched_yet_are_our_fault() {
    let good = bearing(&token(&json!({})));
    assert_eq!(run(&fetched("id.example.com"), good.clone()).await.refused(), None);
    let out = run(&fetched("away.example.com"), good).await;
    assert_eq!(out.refused(), Some(Refused { status: 503, err_code: 20401, reason: "jwks_not_fetched" }));
    assert_eq!(out.result.unwrap_err().hint, Hint::RetryAfter(RETRY_AFTER));
    assert_eq!(refused(&fetched("away.example.com"), get("/x")).await.1, 20101);
}

#[tokio::test]
async fn only_an_unknown_key_asks_for_a_fetch() {
    let samples = [
        bearing(&token_of("ops-2", &json!({}))),
        bearing(&token(&json!({ "exp": 1 }))),
        bearing(&token(&json!({}))),
        bearing("x"),
    ];
    let outcomes = run_all(&fetched("counted.example.com"), samples.into()).await;
    assert_eq!(outcomes[0].refused().unwrap().reason, "jwt_kid_unknown");
    assert_eq!(MISSES.load(Ordering::Relaxed), 1);
}

#[test]
fn a_configuration_that_would_let_strangers_in_is_refused() {
    let keyed = |keys: &str| bad(&format!("- verify_jwt: {{ {keys}, issuer: ops, audience: imgate }}"));
    let file = "jwks_file: src/verify_jwt/admins.jwks";
    let url = "jwks_url: 'https://id.example.com/jwks'";
    let env = "secret: { env: CARGO_PKG_NAME }";
    assert_eq!(keyed(&format!("{file}, {url}")), BadJwt::Source);
    assert_eq!(keyed(&format!("{url}, {env}")), BadJwt::Source);
    assert_eq!(keyed("leeway: 1s"), BadJwt::Source);
    assert_eq!(keyed(&format!("{file}, algorithms: [HS256]")), BadJwt::Algorithms);
    assert_eq!(keyed(&format!("{file}, algorithms: [EdDSA, HS256]")), BadJwt::Algorithms);
    assert_eq!(keyed(&format!("{file}, algorithms: []")), BadJwt::Algorithms);
    assert_eq!(keyed(&format!("{env}, algorithms: [EdDSA]")), BadJwt::Algorithms);
    assert_eq!(keyed(&format!("{file}, algorithms: [RS256]")), BadJwt::Keys(KeyFault::Empty));
    assert_eq!(keyed(env), BadJwt::Keys(KeyFault::ShortSecret));
    assert_eq!(keyed("jwks_url: 'http://id.example.com/jwks'"), BadJwt::Url(BadUrl::Plain));
    assert_eq!(keyed(&format!("{url}, cooldown: 9s")), BadJwt::Cooldown);
    assert_eq!(keyed(&format!("{url}, cooldown: 1m, refresh: 59s")), BadJwt::Cooldown);
    assert_eq!(keyed(&format!("{file}, refresh: 1m")), BadJwt::NothingToFetch);
    assert!(matches!(keyed(&format!("{file}, leeway: 11s")), BadJwt::Verifier(_)));
    assert!(matches!(keyed(&format!("{file}, max_age: 0s")), BadJwt::Verifier(_)));
    assert!(matches!(keyed("jwks_file: src/verify_jwt/absent.jwks"), BadJwt::File { .. }));
    assert!(matches!(keyed("jwks_file: Cargo.toml"), BadJwt::Keys(KeyFault::Form)));
    assert!(matches!(keyed("secret: { env: IMGATE_TEST_NOT_SET }"), BadJwt::Secret(_)));
    let nobody = bad(&format!("- verify_jwt: {{ {file}, issuer: '', audience: imgate }}"));
    assert_eq!(nobody.to_string(), "the issuer is empty");
}

#[test]
fn a_slip_in_the_yaml_is_refused_and_a_secret_not_repeated() {
    let parse = |inside: &str| {
        let yaml = format!("- verify_jwt: {{ {inside}, issuer: ops, audience: imgate }}");
        serde_saphyr::from_str::<Vec<crate::Step>>(&yaml).expect_err(&yaml).to_string()
    };
    for slip in ["algorithm: [EdDSA]", "algorithms: [none]", "algorithms: [eddsa]", "leeway: 10"] {
        parse(slip);
    }
    assert!(parse("secret: hunter2").contains("a secret does not stand in the YAML"));
}

#[test]
fn the_summary_says_who_is_believed() {
    let summary = chain(&yaml("roles: [a, b]")).filters()[0].filter.summary();
    assert_eq!(
        summary,
        "verifies the JWT of an admin (EdDSA or ES256 by the keys ops-1 of a file, issuer ops, audience imgate); roles a or b"
    );
}

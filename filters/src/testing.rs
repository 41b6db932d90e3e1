//! The one helper that filter tests go through: YAML and a request in, what happened out.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use imgate_identity::assertion::AssertionKey;
use imgate_identity::key::Keys;
use imgate_identity::session::{Ban, PreviousSecret, Record, SessionId, SessionSecret};
use imgate_identity::session_token::{self, TokenKey};
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::store::{CacheConfig, Memory, Store, Writer};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::chain::{Chain, ChainError};
use crate::context::{Caller, Context, Fact, OperationId, Place, ProvenAdmin};
use crate::reject::{Answers, Cause, Reject};
use crate::{
    Authorities, Body, BuildError, Deps, Filter, FilterConfig, Flow, Registry, ReplayMemory, Request, Rules,
    Shadow, Step,
};

/// The second in which all tests happen.
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
/// The user behind [`signed_post`].
pub(crate) const USER: &str = "u1";
/// The token of [`USER`].
pub(crate) static USER_TOKEN: LazyLock<String> = LazyLock::new(|| token(USER, NOW.0 + 1000));

fn token(user: &str, exp: u64) -> String {
    openim_token(user, 2, exp)
}

/// An OpenIM token with a signature nobody checks.
pub(crate) fn openim_token(user: &str, platform: u8, exp: u64) -> String {
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let claims = format!(r#"{{"UserID":"{user}","PlatformID":{platform},"exp":{exp},"iat":1}}"#);
    format!("{}.{}.c2ln", part(r#"{"alg":"HS256","typ":"JWT"}"#.to_owned()), part(claims))
}

/// The session that belongs to `user` in tests.
pub(crate) fn session_of(user: &str) -> SessionId {
    let mut bytes = [0; 16];
    bytes[..user.len()].copy_from_slice(user.as_bytes());
    SessionId::from_bytes(bytes)
}

/// The secret of that session.
pub(crate) fn secret_of(user: &str) -> SessionSecret {
    let mut bytes = [7; 32];
    bytes[..user.len()].copy_from_slice(user.as_bytes());
    SessionSecret::new(bytes)
}

/// A key made up for tests; the same as in `identity/vectors/assertion.json`.
pub(crate) const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIGRlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKD
-----END PRIVATE KEY-----
";

/// The public half of it.
pub(crate) const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAC7w0aldmfDgBIL2cf9flHSxf3+o3zS9b9AWyxr9vLXg=
-----END PUBLIC KEY-----
";

/// A store in which each kind of user exists once; the name says what is special.
async fn store() -> Arc<Store> {
    let memory = Arc::new(Memory::default());
    let writer = Writer::memory(Arc::clone(&memory), Keys::default());
    writer.put_mark().await.unwrap();
    for name in
        ["u1", "no-token", "old-token", "banned", "expired", "revoked", "rotated", "ending", "imAdmin"]
    {
        let user = UserId::parse(name).unwrap();
        let record = Record {
            user: user.clone(),
            secret: secret_of(name),
            device: "phone".into(),
            platform: Platform::try_from(2).unwrap(),
            issued_at: UnixTime(NOW.0 - 100),
            expires_at: UnixTime(match name {
                "expired" => NOW.0,
                "ending" => NOW.0 + 20,
                _ => NOW.0 + 1000,
            }),
            revoked_at: (name == "revoked").then_some(UnixTime(NOW.0 - 1)),
            previous: (name == "rotated")
                .then(|| PreviousSecret { secret: secret_of("before"), until: UnixTime(NOW.0 + 10) }),
        };
        writer.put_session(&session_of(name), &record).await.unwrap();
        let exp = if name == "old-token" { NOW.0 - 1 } else { NOW.0 + 1000 };
        if name != "no-token" {
            writer.put_token(&user, &token(name, exp)).await.unwrap();
        }
    }
    let many = UserId::parse("many").unwrap();
    for number in [1, 5] {
        let raw = openim_token("many", number, NOW.0 + 1000);
        writer.put_platform_token(&many, Platform::try_from(number).unwrap(), &raw).await.unwrap();
    }
    for (admin, exp) in [("imAdmin", NOW.0 + 1000), ("oldAdmin", NOW.0 - 1)] {
        let raw = openim_token(admin, 10, exp);
        writer.put_admin_token(&UserId::parse(admin).unwrap(), &raw).await.unwrap();
    }
    writer.put_ban(&UserId::parse("banned").unwrap(), &Ban::new(UnixTime(0), "test")).await.unwrap();
    Store::memory(memory, Keys::default(), CacheConfig::default())
}

async fn deps() -> Deps {
    Deps {
        store: store().await,
        authorities: Arc::new(Authorities::new(["im.example.com", "im.example.com:8443"], "https")),
        admin_users: Arc::new(
            ["imAdmin", "oldAdmin", "newAdmin"].map(|id| UserId::parse(id).unwrap()).into(),
        ),
        assertion_key: Some(Arc::new(AssertionKey::from_pem(PEM.as_bytes()).unwrap())),
        replays: Arc::new(ReplayMemory::default()),
        jwks: Arc::new(crate::verify_jwt::tests::Feeds),
        rates: Arc::default(),
        base: crate::folder::Folder::new(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))),
        custom: Arc::new(custom()),
    }
}

/// No options.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Filters of the tests' own: `prove_admin` takes anybody for an admin, `prove_somebody` does not say
/// what the caller is, `prove_either` says both, `refuse` lets nobody pass.
fn custom() -> Registry {
    let mut custom = Registry::default();
    let never = |_: Nothing, _: &Deps| Ok::<_, std::convert::Infallible>(Refuse);
    custom.insert("refuse", never).unwrap();
    for (name, facts) in PROOFS {
        let always = move |_: Nothing, _: &Deps| Ok::<_, std::convert::Infallible>(ProveAdmin(facts));
        custom.insert(name, always).unwrap();
    }
    custom
}

struct Refuse;

#[async_trait]
impl Filter for Refuse {
    fn shadow(&self) -> Shadow {
        Shadow::Allowed
    }

    fn summary(&self) -> String {
        "refuses everybody".to_owned()
    }

    async fn request(&self, _: &mut Request<'_>, _: &mut Context) -> Result<Flow, Reject> {
        Err(Reject::new(Cause::Forbidden, "nobody_passes"))
    }
}

const PROOFS: [(&str, &[Fact]); 3] = [
    ("prove_admin", &[Fact::Caller, Fact::Admin]),
    ("prove_somebody", &[Fact::Caller]),
    ("prove_either", &[Fact::Caller, Fact::User, Fact::Admin]),
];

struct ProveAdmin(&'static [Fact]);

#[async_trait]
impl Filter for ProveAdmin {
    fn writes(&self) -> &'static [Fact] {
        self.0
    }

    fn summary(&self) -> String {
        "takes anybody for an admin".to_owned()
    }

    async fn request(&self, _: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        cx.caller =
            Some(Caller::Admin(ProvenAdmin { subject: "ops".into(), roles: ["im-admin".into()].into() }));
        Ok(Flow::Continue)
    }
}

fn parse(yaml: &str) -> Vec<Step> {
    serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{e}"))
}

/// Why this YAML is no chain.
pub(crate) fn chain_error(yaml: &str) -> ChainError {
    block_on(async { Chain::build(&parse(yaml), &deps().await) }).err().expect("the chain is refused")
}

/// Why the first filter of this YAML cannot be built.
pub(crate) fn build_error(yaml: &str) -> BuildError {
    match chain_error(yaml) {
        ChainError::Build { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

/// The chain of this YAML.
pub(crate) fn chain(yaml: &str) -> Chain {
    block_on(async { Chain::build(&parse(yaml), &deps().await) }).unwrap_or_else(|e| panic!("{e}"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A request under construction.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) head: RequestHeader,
    pub(crate) body: Option<Bytes>,
    pub(crate) place: Place,
    pub(crate) client: IpAddr,
}

impl Sample {
    /// Adds a header; a name may come twice.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.append_header(name.to_owned(), value).unwrap();
        self
    }

    /// Sends it from this address.
    pub(crate) fn from(self, client: &str) -> Self {
        Self { client: client.parse().unwrap(), ..self }
    }

    /// Sends it to a route with these rules, as YAML has them.
    pub(crate) fn ruled(mut self, bind: Option<&str>, roles: Option<&str>, platforms: Option<&str>) -> Self {
        fn read<T: serde::de::DeserializeOwned>(yaml: Option<&str>) -> Option<T> {
            yaml.map(|yaml| serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{e}")))
        }
        self.place.rules = Rules { bind: read(bind), roles: read(roles), platforms: read(platforms) };
        self
    }

    /// Replaces a header by what `change` makes of its value; removes it for `None`.
    pub(crate) fn edit(mut self, name: &str, change: impl Fn(&str) -> Option<String>) -> Self {
        let value = self.head.remove_header(name).expect("the header is there");
        if let Some(value) = change(value.to_str().unwrap()) {
            self.head.insert_header(name.to_owned(), value).unwrap();
        }
        self
    }
}

/// An unsigned request.
pub(crate) fn sample(method: &str, target: &str, body: Option<&str>) -> Sample {
    let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    head.insert_header("host", "im.example.com").unwrap();
    let place = Place { route: "/x".into(), upstream: "openim_api".into(), ..Place::default() };
    let body = body.map(|b| Bytes::copy_from_slice(b.as_bytes()));
    Sample { head, body, place, client: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

/// An unsigned GET.
pub(crate) fn get(target: &str) -> Sample {
    sample("GET", target, None)
}

/// An unsigned POST.
pub(crate) fn post(target: &str, body: &str) -> Sample {
    sample("POST", target, Some(body))
}

/// The token of `user`'s session for a stock SDK, made with the secret of `signer`.
pub(crate) fn session_token(user: &str, signer: &str, expires_at: UnixTime, platform: u8) -> String {
    let key = TokenKey::derive(&secret_of(signer));
    let platform = Platform::try_from(platform).unwrap();
    session_token::mint(&key, &session_of(user), expires_at, platform).expose().clone()
}

/// A POST signed by the session of `user`, with a nonce of its own.
pub(crate) fn signed_by(user: &str, target: &str, body: &str) -> Sample {
    signed(user, user, target, Some(body), NOW)
}

/// A POST signed by [`USER`].
pub(crate) fn signed_post(target: &str, body: &str) -> Sample {
    signed_by(USER, target, body)
}

/// A request in the name of `user`'s session, signed with the secret of `signer`.
pub(crate) fn signed(
    user: &str,
    signer: &str,
    target: &str,
    body: Option<&str>,
    created: UnixTime,
) -> Sample {
    let method = if body.is_some() { "POST" } else { "GET" };
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let covered = Target { method, authority: "im.example.com", path, query };
    let key = HttpKey::derive(&secret_of(signer));
    let nonce = Nonce::random().unwrap();
    let headers = sign::sign(&key, &session_of(user), &covered, body.map(str::as_bytes), created, &nonce);
    let mut sample = sample(method, target, body)
        .header("signature-input", &headers.signature_input)
        .header("signature", &headers.signature);
    if let Some(digest) = &headers.content_digest {
        sample = sample.header("content-digest", digest);
    }
    sample
}

struct FixedBody {
    bytes: Option<Bytes>,
    limit: u64,
}

impl FixedBody {
    fn check(&self) -> Result<(), Reject> {
        let length = self.bytes.as_ref().map_or(0, Bytes::len) as u64;
        if length > self.limit { Err(Reject::new(Cause::BodyTooLarge, "body_too_large")) } else { Ok(()) }
    }
}

#[async_trait]
impl Body for FixedBody {
    fn is_announced(&self) -> bool {
        self.bytes.is_some()
    }

    async fn read(&mut self) -> Result<Bytes, Reject> {
        self.check()?;
        Ok(self.bytes.clone().unwrap_or_default())
    }

    fn limit(&mut self, max: u64) -> Result<(), Reject> {
        self.limit = self.limit.min(max);
        self.check()
    }

    fn replace(&mut self, body: Bytes) {
        self.bytes = Some(body);
    }
}

/// What a refusal looks like to the client, and its reason for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) err_code: u32,
    pub(crate) reason: &'static str,
}

/// What became of a request.
pub(crate) struct Outcome {
    pub(crate) result: Result<Flow, Reject>,
    pub(crate) head: RequestHeader,
    pub(crate) body: Option<Bytes>,
    pub(crate) cx: Context,
}

impl Outcome {
    /// How it was refused, if it was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        let reject = self.result.as_ref().err()?;
        let answer = Answers::default().of(reject.cause);
        Some(Refused { status: answer.status.as_u16(), err_code: answer.err_code, reason: reject.reason })
    }

    /// The values of a header as the upstream would get them.
    pub(crate) fn sent(&self, name: &str) -> Vec<&str> {
        self.head.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
    }
}

thread_local! {
    /// How far the clock has gone in this test, and how much each look at it adds, in seconds.
    static CLOCK: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
}

/// Makes the clock of this test start anew and go on by `step` seconds each time somebody looks.
pub(crate) fn let_time_pass(step: u64) {
    CLOCK.with(|clock| clock.set((0, step)));
}

fn clock() -> UnixTime {
    CLOCK.with(|clock| {
        let (past, step) = clock.get();
        clock.set((past + step, step));
        UnixTime(NOW.0 + past)
    })
}

/// Runs one request through a chain written in YAML.
pub(crate) async fn run(yaml: &str, sample: Sample) -> Outcome {
    run_all(yaml, vec![sample]).await.pop().expect("one request, one outcome")
}

/// Runs requests one after the other through the same chain.
pub(crate) async fn run_all(yaml: &str, samples: Vec<Sample>) -> Vec<Outcome> {
    let chain = Chain::build(&parse(yaml), &deps().await).unwrap_or_else(|e| panic!("{e}"));
    let mut outcomes = Vec::new();
    for sample in samples {
        outcomes.push(run_one(&chain, sample).await);
    }
    outcomes
}

/// What becomes of an answer with these headers to a request that passes.
pub(crate) async fn answered(yaml: &str, sample: Sample, lines: &[(&'static str, &str)]) -> ResponseHeader {
    let chain = Chain::build(&parse(yaml), &deps().await).unwrap_or_else(|e| panic!("{e}"));
    let out = run_one(&chain, sample).await;
    assert_eq!(out.refused(), None);
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in lines {
        head.append_header(*name, *value).unwrap();
    }
    chain.response(&mut head, &out.cx);
    head
}

async fn run_one(chain: &Chain, sample: Sample) -> Outcome {
    let Sample { mut head, body, place, client } = sample;
    let operation_id = head
        .headers
        .get("operationid")
        .and_then(OperationId::from_client)
        .unwrap_or_else(|| OperationId::generated(HeaderValue::from_static("generated")));
    let mut cx = Context::new(clock, client, operation_id, place.into());
    let mut body = FixedBody { bytes: body, limit: 64 * 1024 };
    let result = chain.request(&mut Request { head: &mut head, body: &mut body }, &mut cx).await;
    Outcome { result, head, body: body.bytes, cx }
}

/// Every YAML block in the head of a filter's file builds, so the documents cannot lie.
#[test]
fn every_yaml_block_in_the_docs_builds() {
    let deps = block_on(deps());
    let mut shown = HashSet::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let docs: String = text
            .lines()
            .filter_map(|l| l.strip_prefix("//!"))
            .map(|l| format!("{}\n", l.strip_prefix(' ').unwrap_or(l)))
            .collect();
        for block in docs.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")) {
            for step in parse(block.0) {
                let built = step.filter.build(&deps);
                assert!(built.is_ok(), "{}: {}: {:?}", path.display(), step.filter.name(), built.err());
                shown.insert(step.filter.name().to_owned());
            }
        }
    }
    for name in FilterConfig::NAMES {
        assert!(shown.contains(*name), "{name} does not show how it is configured");
    }
}

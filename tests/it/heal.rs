//! A token of ours that OpenIM refuses: what is healed, what is a verdict, what is our own fault.

use std::sync::{Arc, Mutex};

use openim_standin::{Answer, Claims, Options, Standin};

use crate::support::{Act, Gateway, Got, Person, RedisServer, Setup, Upstream, leaks, ok, writer};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

async fn world() -> World {
    let openim =
        Standin::start(Options { line: openim_standin::Line::P16, ..Options::default() }).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let gateway = Setup::new(&openim, &redis).patient().start().await;
    let w = World { openim, redis, gateway, ann };
    // The token is in the gateway's cache from now on.
    assert_eq!(w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    w
}

fn refusal(code: u32, token: &str) -> Answer {
    Answer::error(code, "TokenError", &format!("jwt parse error, token={token}"))
}

/// An upstream that takes no token but the fresh one, and puts it into the store only when it refuses
/// the first request: the moment in which a cache must be stale.
async fn picky(
    redis: &RedisServer,
    ann: &Person,
    fresh: String,
    put: &str,
) -> (Upstream, Arc<Mutex<Vec<Got>>>) {
    let (writer, user, put) = (Arc::new(writer(redis).await), ann.user.clone(), put.to_owned());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let upstream = Upstream::start(move |got| {
        let (writer, user, fresh, put, notes) =
            (Arc::clone(&writer), user.clone(), fresh.clone(), put.clone(), Arc::clone(&notes));
        async move {
            let token = got.header("token").unwrap_or("").to_owned();
            notes.lock().unwrap().push(got);
            if token == fresh {
                return vec![Act::Send(ok(r#"{"errCode":0,"errMsg":"","errDlt":""}"#))];
            }
            writer.put_token(&user, &put).await.unwrap();
            let text = format!(r#"{{"errCode":1506,"errMsg":"TokenKickedError","errDlt":"token={token}"}}"#);
            vec![Act::Send(ok(&text))]
        }
    })
    .await;
    (upstream, seen)
}

#[tokio::test]
async fn a_stale_token_is_healed_without_the_client_noticing() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let fresh = other_token(&openim, &ann);
    let (upstream, seen) = picky(&redis, &ann, fresh.clone(), &fresh).await;
    let gateway = Setup::at(upstream.address, openim.ws(), &redis.address()).patient().start().await;
    let reply = gateway.send(&ann.post(FRIENDS, BODY).header("operationID", "heal-1")).await;
    assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    let tokens: Vec<_> = seen.lock().unwrap().iter().map(|g| g.header("token").unwrap().to_owned()).collect();
    assert_eq!(tokens, [ann.token.clone(), fresh]);
    let bodies: Vec<_> = seen.lock().unwrap().iter().map(|g| g.body.clone()).collect();
    assert_eq!(bodies, [BODY.as_bytes(), BODY.as_bytes()]);
    assert_eq!(gateway.line("heal-1").await["healed"], true);
    assert_eq!(gateway.metric("imgate_token_heals_total{result=\"healed\"}").await, 1.0);
}

#[tokio::test]
async fn healing_is_tried_once_and_does_not_loop() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let put = other_token(&openim, &ann);
    // No token is ever good enough.
    let (upstream, seen) = picky(&redis, &ann, "none".to_owned(), &put).await;
    let gateway = Setup::at(upstream.address, openim.ws(), &redis.address()).patient().start().await;
    let reply = gateway.send(&ann.post(FRIENDS, BODY)).await;
    assert_eq!(reply.verdict(), (503, 20401));
    assert_eq!(seen.lock().unwrap().len(), 2);
}

/// Another good token of the same user.
fn other_token(openim: &Standin, ann: &Person) -> String {
    let claims = Claims { user_id: "ann".to_owned(), platform_id: 2, exp: 4_000_000_000, iat: 1, nbf: None };
    let token = openim.forge(&claims);
    assert_ne!(token, ann.token);
    leaks::secret(&token);
    token
}

#[tokio::test]
async fn a_kicked_token_that_is_unchanged_is_a_verdict_without_openims_text() {
    let w = world().await;
    w.openim.kick("ann", 2);
    let reply = w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
    assert_eq!(reply.verdict(), (200, 1506));
    assert_eq!(reply.json()["errDlt"], "");
    assert!(w.gateway.metric("imgate_token_heals_total{result=\"verdict\"}").await >= 1.0);
}

#[tokio::test]
async fn any_other_refusal_of_our_token_never_logs_the_user_out() {
    let w = world().await;
    for code in [1501, 1502, 1503, 1504, 1505, 1507] {
        w.openim.answer_next(FRIENDS, refusal(code, &w.ann.token));
        let reply = w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
        assert_eq!(reply.verdict(), (503, 20401), "{code}: {}", reply.text());
    }
    assert_eq!(w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
}

#[tokio::test]
async fn a_token_that_is_gone_from_the_store_is_a_verdict() {
    let w = world().await;
    writer(&w.redis).await.delete_token(&w.ann.user).await.unwrap();
    crate::support::eventually("the deletion is seen", async || {
        w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict() == (401, 1507)
    })
    .await;
}

#[tokio::test]
async fn a_refusal_hidden_in_an_encoding_is_not_passed_on() {
    let w = world().await;
    let headers = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    let hidden = Answer::Reply { status: 200, headers, body: "not really gzip".into() };
    w.openim.answer_next(FRIENDS, hidden);
    let reply = w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
    assert_eq!(reply.verdict(), (502, 20402));
}

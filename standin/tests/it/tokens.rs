//! The life of a token, and every way it can be refused.

use openim_standin::{Claims, Line, MultiLogin, Options, Standin, TokenState, sign};

use crate::support::{post, start, until};

const LATER: u64 = 4_000_000_000;

async fn parse(standin: &Standin, token: &str) -> serde_json::Value {
    let body = format!(r#"{{"token":"{token}"}}"#);
    post("/auth/parse_token").header("operationID", "op").body(body).send(standin).await.json()
}

async fn code(standin: &Standin, token: &str) -> i64 {
    parse(standin, token).await["errCode"].as_i64().unwrap()
}

fn claims(user: &str) -> Claims {
    Claims { user_id: user.to_owned(), platform_id: 5, exp: LATER, iat: 1, nbf: None }
}

/// Mints until the clock has moved on, since two mints in one second are the same token.
async fn mint_another(standin: &Standin, user: &str, platform: i64, than: &str) -> String {
    until("a new second", || standin.mint(user, platform) != than).await;
    standin.mint(user, platform)
}

#[tokio::test]
async fn every_refusal_has_its_code_and_the_released_line_leaks_the_token() {
    for line in [Line::Head, Line::P16] {
        let standin = start(line).await;
        let ended = standin.mint("u1", 1);
        standin.expire(&ended);
        let kicked = standin.mint("u1", 2);
        standin.kick("u1", 2);
        let invalid = standin.mint("u1", 3);
        standin.assign(&invalid, TokenState::Invalid);
        let absent = standin.forge(&claims("u9"));
        let foreign = sign(&claims("u1"), "other");
        let expired_forgery = sign(&Claims { exp: 2, ..claims("u1") }, "other");
        let early = standin.forge(&Claims { nbf: Some(LATER), ..claims("u1") });
        let ahead = standin.forge(&Claims { iat: LATER, ..claims("u1") });
        let cases = [
            ("expired", ended.as_str(), 1501, true),
            ("expired forgery", &expired_forgery, 1501, true),
            ("no jwt", "garbage", 1503, true),
            ("two parts", "a.b", 1503, true),
            ("nbf ahead", &early, 1504, true),
            ("other secret", &foreign, 1505, true),
            ("iat ahead", &ahead, 1505, true),
            ("state invalid", &invalid, 1505, false),
            ("kicked", &kicked, 1506, false),
            ("never stored", &absent, 1507, false),
        ];
        for (name, token, expected, leaks) in cases {
            let answer = parse(&standin, token).await;
            assert_eq!(answer["errCode"], expected, "{name} on {line:?}");
            let leaked = answer["errDlt"].as_str().unwrap().contains(&format!("token={token}"));
            assert_eq!(leaked, leaks && line == Line::P16, "{name} on {line:?}");
        }
    }
}

#[tokio::test]
async fn mints_of_one_second_are_identical_and_later_ones_kick() {
    let standin = start(Line::Head).await;
    let (first, other_platform) = (standin.mint("u1", 5), standin.mint("u1", 1));
    let twin = until_twin(&standin).await;
    assert_eq!(code(&standin, &twin).await, 0);
    let later = mint_another(&standin, "u1", 5, &first).await;
    assert_eq!(code(&standin, &first).await, 1506);
    assert_eq!(code(&standin, &later).await, 0);
    assert_eq!(code(&standin, &other_platform).await, 0);
}

/// Mints twice in a row until both fall into one second.
async fn until_twin(standin: &Standin) -> String {
    until("two mints in one second", || standin.mint("u1", 5) == standin.mint("u1", 5)).await;
    standin.mint("u1", 5)
}

#[tokio::test]
async fn policy_zero_kicks_nobody() {
    let options = Options { multi_login_policy: MultiLogin::Coexist, ..Options::default() };
    let standin = Standin::start(options).await.unwrap();
    let first = standin.mint("u1", 5);
    let later = mint_another(&standin, "u1", 5, &first).await;
    assert_eq!((code(&standin, &first).await, code(&standin, &later).await), (0, 0));
}

#[tokio::test]
async fn tokens_carry_openims_claims() {
    use base64::Engine;
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let payload =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let (exp, iat) = (claims["exp"].as_u64().unwrap(), claims["iat"].as_u64().unwrap());
    assert_eq!(exp - iat, 90 * 24 * 3600 + 5);
    assert_eq!((&claims["UserID"], &claims["PlatformID"]), (&"u1".into(), &5.into()));
    assert_eq!(claims.as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn admin_tokens_are_bought_with_the_secret() {
    let standin = start(Line::Head).await;
    let buy = |secret: &str, user: &str| {
        let body = format!(r#"{{"secret":"{secret}","userID":"{user}"}}"#);
        post("/auth/get_admin_token").header("operationID", "op").body(body)
    };
    let bought = buy("openIM123", "imAdmin").send(&standin).await.json();
    let token = bought["data"]["token"].as_str().unwrap();
    assert_eq!(bought["data"]["expireTimeSeconds"], 7_776_000);
    assert_eq!(parse(&standin, token).await["data"]["platformID"], 10);
    assert_eq!(buy("wrong", "imAdmin").send(&standin).await.json()["errDlt"], "secret invalid");
    let stranger = buy("openIM123", "u1").send(&standin).await;
    assert_eq!(stranger.code(), 1001);
    assert!(stranger.text().contains("imAdmin"));
}

#[tokio::test]
async fn user_tokens_are_minted_by_admins_for_known_users() {
    let standin = start(Line::Head).await;
    let (admin, user) = (standin.mint_admin("imAdmin"), standin.mint("u1", 5));
    let cases = [
        (&admin, "u1", 5, 0),
        (&user, "u1", 5, 1002),
        (&admin, "u1", 10, 1002),
        (&admin, "imAdmin", 5, 1002),
        (&admin, "nobody", 5, 1101),
        (&admin, "", 5, 1001),
    ];
    for (token, id, platform, expected) in cases {
        let body = format!(r#"{{"userID":"{id}","platformID":{platform}}}"#);
        let reply = post("/auth/get_user_token").token(token).body(body).send(&standin).await;
        assert_eq!(reply.code(), expected, "{id} on {platform}");
    }
}

#[tokio::test]
async fn force_logout_kicks_one_platform_of_the_first_ten() {
    let standin = start(Line::Head).await;
    let (admin, web, phone) = (standin.mint_admin("imAdmin"), standin.mint("u1", 5), standin.mint("u1", 1));
    for (platform, expected) in [(5, 0), (11, 1001), (0, 1001)] {
        let body = format!(r#"{{"userID":"u1","platformID":{platform}}}"#);
        let reply = post("/auth/force_logout").token(&admin).body(body).send(&standin).await;
        assert_eq!(reply.code(), expected, "{platform}");
    }
    assert_eq!((code(&standin, &web).await, code(&standin, &phone).await), (1506, 0));
}

#[tokio::test]
async fn admin_tokens_cannot_be_revoked_on_the_released_line() {
    for (line, expected) in [(Line::Head, 1506), (Line::P16, 0)] {
        let standin = start(line).await;
        let admin = standin.mint_admin("imAdmin");
        standin.kick("imAdmin", 10);
        assert_eq!(code(&standin, &admin).await, expected, "{line:?}");
    }
}

#[tokio::test]
async fn registering_twice_is_refused() {
    let standin = start(Line::Head).await;
    let admin = standin.mint_admin("imAdmin");
    let cases = [
        (r#"{"users":[{"userID":"u1"}]}"#, 0),
        (r#"{"users":[{"userID":"u1"}]}"#, 1102),
        (r#"{"users":[{"userID":"u2"},{"userID":"u2"}]}"#, 1001),
        (r#"{"users":[{"userID":"a:b"}]}"#, 1001),
        (r#"{"users":[{"userID":""}]}"#, 1001),
    ];
    for (body, expected) in cases {
        let reply = post("/user/user_register").token(&admin).body(body).send(&standin).await;
        assert_eq!(reply.code(), expected, "{body}");
    }
}

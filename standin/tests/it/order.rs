//! The order of checks, and the exact answers when one fails.

use openim_standin::{Line, Standin};

use crate::support::{Post, Reply, exchange, get, post, start};

const NO_OPERATION: &str = r#"{"errCode":1001,"errMsg":"ArgsError","errDlt":"header must have operationID"}"#;
const NO_TOKEN: &str = r#"{"errCode":1001,"errMsg":"ArgsError","errDlt":"header must have token"}"#;

#[tokio::test]
async fn checks_come_in_openims_order() {
    for line in [Line::Head, Line::P16] {
        let standin = start(line).await;
        let token = standin.mint("u1", 5);
        let op = |path: &str| post(path).header("operationID", "op");
        let cases: Vec<(&str, Post, u16, String)> = vec![
            ("nothing at all", post("/user/get_users_info"), 200, NO_OPERATION.to_owned()),
            ("whitelist needs an operationID", post("/auth/parse_token"), 200, NO_OPERATION.to_owned()),
            (
                "empty operationID",
                post("/msg/get_server_time").header("operationID", ""),
                200,
                NO_OPERATION.to_owned(),
            ),
            ("no token", op("/user/get_users_info"), 200, NO_TOKEN.to_owned()),
            ("unknown path, no token", op("/nowhere"), 200, NO_TOKEN.to_owned()),
            (
                "unknown path, token",
                op("/nowhere").header("token", &token),
                404,
                "404 page not found".to_owned(),
            ),
            ("whitelist prefix, no route", op("/auth/parse_token_x"), 404, "404 page not found".to_owned()),
            (
                "doubled slash",
                op("//msg/get_server_time").header("token", &token),
                404,
                "404 page not found".to_owned(),
            ),
        ];
        for (name, request, status, body) in cases {
            let reply = request.send(&standin).await;
            assert_eq!((reply.status, reply.text()), (status, body), "{name} on {line:?}");
        }
    }
}

#[tokio::test]
async fn codes_come_before_the_body_is_judged() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let cases = [
        ("bad token before bad body", post("/user/get_users_info").token("no-jwt").body("{"), 1503),
        ("bad body before permission", post("/user/user_register").token(&token).body("{"), 1001),
        ("permission last", post("/user/user_register").token(&token), 1002),
    ];
    for (name, request, code) in cases {
        assert_eq!(request.send(&standin).await.code(), code, "{name}");
    }
}

#[tokio::test]
async fn first_copy_of_a_header_wins_whatever_its_case() {
    let standin = start(Line::Head).await;
    let (own, other) = (standin.mint("u1", 5), standin.mint("u2", 5));
    let cases = [([("TOKEN", &own), ("token", &other)], "u1"), ([("Token", &other), ("tOKEN", &own)], "u2")];
    for (copies, actor) in cases {
        let mut request = post("/msg/get_server_time").header("OPERATIONid", "op");
        for (name, value) in copies {
            request = request.header(name, value);
        }
        assert_eq!(request.send(&standin).await.json()["data"]["actor"], actor);
    }
}

#[tokio::test]
async fn paths_match_decoded() {
    let standin = start(Line::Head).await;
    let reply = post("/%61uth/parse%5ftoken")
        .header("operationID", "op")
        .body(r#"{"token":"x"}"#)
        .send(&standin)
        .await;
    assert_eq!(reply.code(), 1503);
}

#[tokio::test]
async fn trailing_slash_is_redirected_before_any_check() {
    let standin = start(Line::Head).await;
    let reply = post("/user/get_users_info/?a=b").header("X-Forwarded-Prefix", "/evil").send(&standin).await;
    assert_eq!((reply.status, reply.header("location")), (307, Some("/evil/user/get_users_info?a=b")));
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn preflight_is_answered_on_any_path() {
    let standin = start(Line::P16).await;
    let reply = exchange(standin.api(), "OPTIONS /any/path HTTP/1.1\r\nHost: im\r\n\r\n").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "\"Options Request!\""));
    assert_cors(&reply);
}

#[tokio::test]
async fn cors_is_on_every_answer() {
    let standin = start(Line::Head).await;
    let replies = [
        post("/nowhere").send(&standin).await,
        get(standin.api(), "/nowhere").await,
        get(standin.api(), "/object/x").await,
    ];
    for reply in &replies {
        assert_cors(reply);
    }
}

fn assert_cors(reply: &Reply) {
    let expected = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "*"),
        ("access-control-allow-headers", "*"),
        ("access-control-max-age", "172800"),
        ("access-control-allow-credentials", "false"),
    ];
    for (name, value) in expected {
        assert_eq!(reply.header(name), Some(value));
    }
}

#[tokio::test]
async fn request_id_header_is_on_the_development_line_only() {
    for (line, present) in [(Line::Head, true), (Line::P16, false)] {
        let standin = start(line).await;
        assert_eq!(post("/x").send(&standin).await.header("x-http-id").is_some(), present);
    }
}

#[tokio::test]
async fn only_post_is_authenticated() {
    let standin = start(Line::Head).await;
    let cases =
        [("/third/prometheus", 302), ("/prometheus_discovery/api", 200), ("/prometheus_discovery/x", 404)];
    for (path, status) in cases {
        assert_eq!(get(standin.api(), path).await.status, status, "{path}");
    }
    assert_eq!(get(standin.api(), "/user/get_users").await.text(), "404 page not found");
}

#[tokio::test]
async fn operation_id_outside_ascii_fails_the_call() {
    for (line, code) in [(Line::Head, 500), (Line::P16, 13)] {
        let standin: Standin = start(line).await;
        let token = standin.mint("u1", 5);
        let request = post("/msg/get_server_time").header("operationID", "käse").header("token", &token);
        assert_eq!(request.send(&standin).await.code(), code);
    }
}

//! Who may do what, for every route of the table on both lines.

use openim_standin::routes::{Mark, ROUTES, Route, Subject};
use openim_standin::{Line, Standin};
use serde_json::{Value, json};

use crate::support::{post, start};

const NO_PERMISSION: i64 = 1002;

/// Builds a body that names a user wherever the route looks for one.
fn body_naming(route: &Route, user: &str) -> Value {
    match (route.mark, route.subject) {
        (Mark::OwnName, _) => json!({ "name": format!("{user}/a.txt") }),
        (_, Subject::Field(path)) | (_, Subject::FieldOrCaller(path)) => match path.split_once('.') {
            Some((outer, inner)) => json!({ outer: { inner: user } }),
            None => json!({ path: user }),
        },
        (_, Subject::AnyOf(paths)) => json!({ paths[0]: user, paths[1]: "u3" }),
        (_, Subject::Each(path)) => json!({ path: [user] }),
        (_, Subject::Caller | Subject::Key(_)) => json!({}),
    }
}

async fn code(standin: &Standin, route: &Route, token: &str, named: &str) -> i64 {
    let mut body = body_naming(route, named);
    if route.mark == Mark::OwnFormName {
        body = json!({ "id": base64(&json!({ "key": format!("{named}/a.txt") })) });
    }
    let query = match route.subject {
        Subject::Key(name) => format!("?key={}", base64(&json!({ name: named })).replace('+', "%2B")),
        _ => String::new(),
    };
    let request = post(&format!("{}{query}", route.path)).header("Content-Type", "application/json");
    request.token(token).body(body.to_string()).send(standin).await.code()
}

fn base64(value: &Value) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(value.to_string())
}

/// Says whether OpenIM lets a user act on another one.
fn lets_a_stranger(mark: Mark, line: Line) -> bool {
    match mark {
        Mark::Admin | Mark::Own | Mark::OwnName | Mark::OwnFormName => false,
        Mark::AdminOnHead | Mark::OwnOnHead => line == Line::P16,
        Mark::Open | Mark::AdminOrNothing | Mark::Role | Mark::Any | Mark::Hole => true,
    }
}

#[tokio::test]
async fn strangers_get_exactly_as_far_as_in_openim() {
    for line in [Line::Head, Line::P16] {
        let standin = start(line).await;
        let token = standin.mint("u1", 5);
        standin.register("u2");
        for route in ROUTES.iter().filter(|route| route.exists_on(line)) {
            let refused = code(&standin, route, &token, "u2").await == NO_PERMISSION;
            // The secret is asked for, and refused with the same code, where no token is.
            let expected = !lets_a_stranger(route.mark, line) || route.path == "/auth/get_admin_token";
            assert_eq!(refused, expected, "{} on {line:?}", route.path);
        }
    }
}

#[tokio::test]
async fn users_may_act_on_themselves_and_admins_on_anyone() {
    for line in [Line::Head, Line::P16] {
        let standin = start(line).await;
        let (own, admin) = (standin.mint("u1", 5), standin.mint_admin("imAdmin"));
        let owned = |route: &&Route| {
            matches!(route.mark, Mark::Own | Mark::OwnOnHead | Mark::OwnName | Mark::OwnFormName)
        };
        for route in ROUTES.iter().filter(|route| route.exists_on(line)).filter(owned) {
            assert_ne!(code(&standin, route, &own, "u1").await, NO_PERMISSION, "own {}", route.path);
            assert_ne!(code(&standin, route, &admin, "u1").await, NO_PERMISSION, "admin {}", route.path);
        }
    }
}

#[tokio::test]
async fn every_route_is_there_on_its_lines_and_nowhere_else() {
    for line in [Line::Head, Line::P16] {
        let standin = start(line).await;
        let token = standin.mint("u1", 5);
        for route in ROUTES {
            let reply = post(route.path).token(&token).send(&standin).await;
            assert_eq!(reply.status == 200, route.exists_on(line), "{} on {line:?}", route.path);
        }
    }
}

#[tokio::test]
async fn no_route_is_listed_twice() {
    let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    paths.sort_unstable();
    let count = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), count);
}

#[tokio::test]
async fn a_hole_names_actor_and_subject() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let request = post("/third/fcm_update_token").token(&token).body(r#"{"account":"u2"}"#);
    let reply = request.send(&standin).await;
    assert_eq!(reply.text(), r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"actor":"u1","subject":"u2"}}"#);
}

#[tokio::test]
async fn join_group_joins_the_user_in_the_body() {
    let standin = start(Line::Head).await;
    let (one, two) = (standin.mint("u1", 5), standin.mint("u2", 5));
    let create = r#"{"ownerUserID":"u1","groupInfo":{"groupID":"g1","groupName":"n"}}"#;
    assert_eq!(post("/group/create_group").token(&one).body(create).send(&standin).await.code(), 0);
    let join = r#"{"groupID":"g1","inviterUserID":"u2"}"#;
    assert_eq!(post("/group/join_group").token(&one).body(join).send(&standin).await.code(), 0);
    let list = post("/group/get_joined_group_list").token(&two).body(r#"{"fromUserID":"u2"}"#);
    assert_eq!(list.send(&standin).await.json()["data"]["total"], 1);
}

#[tokio::test]
async fn friendship_takes_a_request_and_an_answer() {
    let standin = start(Line::Head).await;
    let (one, two) = (standin.mint("u1", 5), standin.mint("u2", 5));
    let apply = r#"{"fromUserID":"u1","toUserID":"u2","reqMsg":"hi"}"#;
    assert_eq!(post("/friend/add_friend").token(&one).body(apply).send(&standin).await.code(), 0);
    let waiting = post("/friend/get_friend_apply_list").token(&two).body(r#"{"userID":"u2"}"#);
    assert_eq!(waiting.send(&standin).await.json()["data"]["FriendRequests"][0]["fromUserID"], "u1");
    let agree = r#"{"fromUserID":"u1","toUserID":"u2","handleResult":1}"#;
    assert_eq!(post("/friend/add_friend_response").token(&two).body(agree).send(&standin).await.code(), 0);
    let friends = post("/friend/get_friend_list").token(&one).body(r#"{"userID":"u1"}"#);
    assert_eq!(friends.send(&standin).await.json()["data"]["friendsInfo"][0]["friendUser"]["userID"], "u2");
}

#[tokio::test]
async fn send_status_is_kept_per_operation_id() {
    let standin = start(Line::Head).await;
    let (user, admin) = (standin.mint("u1", 5), standin.mint_admin("imAdmin"));
    let send = post("/msg/send_msg").header("operationID", "send-1").header("token", &admin);
    let body = r#"{"sendID":"u1","recvID":"u2","content":{"content":"hi"}}"#;
    assert_eq!(send.body(body).send(&standin).await.code(), 0);
    for (operation, status) in [("send-1", 2), ("send-2", 0)] {
        let check =
            post("/msg/check_msg_is_send_success").header("operationID", operation).header("token", &user);
        assert_eq!(check.send(&standin).await.json()["data"]["status"], status);
    }
}

#[tokio::test]
async fn the_lines_differ_where_the_contract_says_so() {
    let cases = [
        ("/user/user_register", "{}", 1002, 1002),
        ("/user/set_global_msg_recv_opt", r#"{"userID":"u2"}"#, 0, 0),
        ("/user/update_user_info", r#"{"userInfo":{"userID":"u2"}}"#, 1002, 1002),
        ("/friend/update_friends", r#"{"ownerUserID":"u2"}"#, 1002, 0),
        ("/friend/is_friend", r#"{"userID1":"u2","userID2":"u3"}"#, 1002, 0),
        ("/friend/is_friend", r#"{"userID1":"u2","userID2":"u1"}"#, 0, 0),
        ("/group/quit_group", r#"{"groupID":"g","userID":"u2"}"#, 1002, 1002),
        ("/group/quit_group", r#"{"groupID":"g"}"#, 1201, 1201),
        ("/msg/delete_msg_phsical_by_seq", "{}", 1002, 0),
        ("/msg/pull_msg_by_seq", r#"{"userID":"u2"}"#, 1002, 0),
        ("/msg/newest_seq", r#"{"userID":"u2"}"#, 1002, 1002),
        ("/msg/search_msg", r#"{"sendID":"u2"}"#, 0, 0),
        (
            "/conversation/set_conversations",
            r#"{"userIDs":["u1","u2"],"conversation":{"conversationID":"c"}}"#,
            1002,
            0,
        ),
        ("/conversation/get_all_conversations", r#"{"ownerUserID":"u2"}"#, 1002, 0),
        ("/third/logs/search", "{}", 1002, 1002),
        ("/statistics/user/register", "{}", 0, 0),
        ("/statistics/user/active", "{}", 1002, 0),
        ("/statistics/group/create", "{}", 1002, 1002),
        ("/object/initiate_form_data", r#"{"name":"u2/a"}"#, 1002, 1002),
        ("/object/initiate_form_data", r#"{"name":"u1x/a"}"#, 1002, 1002),
    ];
    for line in [Line::Head, Line::P16] {
        let standin = start(line).await;
        let token = standin.mint("u1", 5);
        for (path, body, head, p16) in cases {
            let reply = post(path).token(&token).body(body).send(&standin).await;
            let expected = if line == Line::Head { head } else { p16 };
            assert_eq!(reply.code(), expected, "{path} {body} on {line:?}");
        }
    }
}

#[tokio::test]
async fn only_admins_are_shown_live_tokens() {
    let standin = start(Line::Head).await;
    let (user, admin) = (standin.mint("u1", 5), standin.mint_admin("imAdmin"));
    for (token, shown) in [(&user, false), (&admin, true)] {
        let request = post("/user/get_users_online_token_detail").token(token).body(r#"{"userIDs":["u1"]}"#);
        let reply = request.send(&standin).await;
        assert_eq!((reply.code(), reply.text().contains(&user)), (0, shown));
    }
}

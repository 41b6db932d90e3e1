//! OpenIM's holes, tried: what works against OpenIM itself does not work through the gateway.
//!
//! The stand-in's own table says which routes act on whom, and which release line checks it. Each attack comes in
//! every form that Go's reader or a careless check could fall for.

mod forms;

use std::net::SocketAddr;

use imgate_identity::user::UserId;
use openim_standin::routes::{Mark, ROUTES, Route, Subject};
use openim_standin::{Line, Options, Standin};

use self::forms::{Bare, Field, Form};
use crate::support::{Client, Gateway, Person, RedisServer, Reply, Sent, Setup, leaks, writer};

/// OpenIM's word for a body that names somebody else.
const NO_PERMISSION: u32 = 1002;

/// Routes that stay closed: there is no field that would make them safe.
const CLOSED: [&str; 10] = [
    "/user/get_users",
    "/user/get_all_users_uid",
    "/group/get_groups",
    "/msg/search_msg",
    "/msg/pull_msg_by_seq",
    "/msg/delete_msg_phsical_by_seq",
    "/conversation/get_conversation_offline_push_user_ids",
    "/statistics/user/register",
    "/statistics/user/active",
    "/statistics/group/active",
];

/// Routes whose field is written by the gateway.
const FORCED: [&str; 3] = ["/user/set_global_msg_recv_opt", "/group/join_group", "/third/fcm_update_token"];

const SEND: &str = "  send:
    - operation_id: {}
    - verify_signature: { replay: local }
    - bind_identity: {}
    - strip_credentials: {}
    - inject_token: { as: imAdmin }";

/// Where the body of a route names the user that OpenIM acts on, if a user is the one to name.
fn field(route: &Route) -> Option<Field> {
    let acts_on_named = matches!(route.mark, Mark::Own | Mark::OwnOnHead | Mark::Hole);
    Field::of(route.subject).filter(|_| acts_on_named && !CLOSED.contains(&route.path))
}

struct World {
    openim: Standin,
    gateway: Gateway,
    ann: Person,
    admin: String,
    _redis: RedisServer,
}

impl World {
    async fn new(line: Line) -> Self {
        let openim = Standin::start(Options { line, ..Options::default() }).await.unwrap();
        let redis = RedisServer::start();
        let ann = Person::new("ann", &redis, &openim).await;
        let admin = openim.mint_admin("imAdmin");
        leaks::secret(&admin);
        writer(&redis).await.put_admin_token(&UserId::parse("imAdmin").unwrap(), &admin).await.unwrap();
        let mut setup = Setup::new(&openim, &redis).patient();
        // All else is the table that is shipped.
        setup.chains = SEND.to_owned();
        setup.routes =
            "  - { path: /msg/send_msg, upstream: openim_api, chain: send, bind: sendID }".to_owned();
        let gateway = setup.start().await;
        let world = Self { openim, gateway, ann, admin, _redis: redis };
        world.populate().await;
        world
    }

    /// A group of carol's, and a conversation of each.
    async fn populate(&self) {
        let group = r#"{"ownerUserID":"carol","groupInfo":{"groupID":"g1"}}"#;
        let conversation = r#"{"userIDs":["ann","bob"],"conversation":{"conversationID":"c1"}}"#;
        for (path, body) in
            [("/group/create_group", group), ("/conversation/set_conversations", conversation)]
        {
            assert_eq!(self.as_admin(path, body).await.verdict(), (200, 0), "{path}");
        }
    }

    /// What OpenIM tells its admin.
    async fn as_admin(&self, path: &str, body: &str) -> Reply {
        let sent = Sent::new("POST", path).header("operationID", "op").header("token", &self.admin);
        Client::once(self.openim.api(), &sent.body(body.as_bytes())).await
    }

    /// Tries it against OpenIM itself: it must work.
    async fn succeeds_bare(&self, path: &str, form: &Form, token: &str) {
        self.openim.clear_records();
        let reply = deliver(self.openim.api(), &form.bare(path, token)).await;
        assert_eq!(reply.verdict(), (200, 0), "bare {path}, {}: {}", form.name, reply.text());
        assert!(subjects(&reply).contains(&"bob".to_owned()), "bare {path}, {}: {}", form.name, reply.text());
        let [seen] = &self.openim.records()[..] else { panic!("{path}, {}: one request", form.name) };
        assert_eq!((seen.header("token"), seen.err_code), (Some(token), Some(0)), "{path}, {}", form.name);
    }

    /// Tries it through the gateway: refused before OpenIM hears of it, or turned on the attacker.
    async fn fails(&self, path: &str, form: &Form, turned: Turned) {
        self.openim.clear_records();
        let reply = deliver(self.gateway.address, &form.signed(path, &self.ann)).await;
        let seen = self.openim.records();
        let at = format!("{path}, {}: {}", form.name, reply.text());
        leaks::none_in(&at, &reply.text());
        if reply.status == 200 {
            assert_eq!(turned, Turned::May, "{at}");
            assert_eq!(reply.verdict(), (200, 0), "{at}");
            assert_eq!(subjects(&reply), ["ann"], "{at}");
            return;
        }
        let refusals = [(400, 20202), (403, 1002), (413, 20203)];
        assert!(refusals.contains(&reply.verdict()), "{at}");
        assert!(seen.is_empty(), "{at}: OpenIM saw {seen:?}");
    }

    /// Names oneself, plainly: OpenIM gets it as it is, though it may want more in the body than this.
    async fn lets_pass(&self, path: &str, body: &str) {
        self.openim.clear_records();
        let reply = self.gateway.send(&self.ann.post(path, body)).await;
        let [seen] = &self.openim.records()[..] else { panic!("{path}: {}", reply.text()) };
        assert_eq!(
            (seen.header("token"), &seen.body[..]),
            (Some(&*self.ann.token), body.as_bytes()),
            "{path}"
        );
        assert_ne!(seen.err_code, Some(NO_PERMISSION), "{path}");
    }
}

/// Whether an attack may come to act on the attacker, in place of being refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turned {
    May,
    MayNot,
}

/// Sends bytes on a connection of their own.
async fn deliver(address: SocketAddr, wire: &[u8]) -> Reply {
    let mut client = Client::connect(address).await;
    client.write(wire).await;
    client.read("POST").await
}

/// Whom the stand-in says it acted on.
fn subjects(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    json["data"]["subject"].as_str().unwrap_or_default().split(',').map(str::to_owned).collect()
}

async fn try_every_route(line: Line) {
    let world = World::new(line).await;
    let mut open = 0;
    for route in ROUTES.iter().filter(|route| route.exists_on(line)) {
        let Some(field) = field(route) else { continue };
        let unchecked = route.mark == Mark::Hole || (route.mark == Mark::OwnOnHead && line == Line::P16);
        let may_turn = FORCED.contains(&route.path) || matches!(route.subject, Subject::FieldOrCaller(_));
        let turned = if may_turn { Turned::May } else { Turned::MayNot };
        for form in field.attacks("ann", "bob") {
            if unchecked && form.bare == Bare::Acts {
                open += 1;
                world.succeeds_bare(route.path, &form, &world.ann.token).await;
            }
            world.fails(route.path, &form, turned).await;
        }
        world.lets_pass(route.path, &field.honest("ann")).await;
    }
    assert!(open > 50, "hardly anything was open: {open}");
}

#[tokio::test]
async fn whatever_the_released_line_leaves_open_is_closed() {
    try_every_route(Line::P16).await;
}

#[tokio::test]
async fn whatever_the_development_line_leaves_open_is_closed() {
    try_every_route(Line::Head).await;
}

#[test]
fn every_route_that_a_line_leaves_open_is_bound_or_closed() {
    for route in ROUTES {
        let is_open = matches!(route.mark, Mark::Hole | Mark::OwnOnHead | Mark::AdminOnHead);
        assert!(!is_open || field(route).is_some() || CLOSED.contains(&route.path), "{}", route.path);
    }
}

#[tokio::test]
async fn what_no_field_makes_safe_stays_closed() {
    for line in [Line::Head, Line::P16] {
        let world = World::new(line).await;
        for route in ROUTES.iter().filter(|route| route.exists_on(line) && CLOSED.contains(&route.path)) {
            let body = r#"{"userID":"bob","sendID":"bob","userIDs":["bob"],"conversationID":"c1"}"#;
            let sent = Sent::new("POST", route.path).header("operationID", "op");
            let bare = sent.header("token", &world.ann.token).body(body.as_bytes());
            let checked = matches!(route.mark, Mark::AdminOnHead | Mark::OwnOnHead) && line == Line::Head;
            let bare = Client::once(world.openim.api(), &bare).await.verdict();
            assert_eq!(bare, (200, if checked { 1002 } else { 0 }), "{} on {line:?}", route.path);
            world.openim.clear_records();
            let reply = world.gateway.send(&world.ann.post(route.path, body)).await;
            assert_eq!(reply.verdict(), (404, 20201), "{} on {line:?}", route.path);
            assert!(world.openim.records().is_empty(), "{}", route.path);
        }
    }
}

#[tokio::test]
async fn a_user_sends_messages_as_himself_and_as_nobody_else() {
    let world = World::new(Line::P16).await;
    let field = Field::of(Subject::Field("sendID")).unwrap();
    const PATH: &str = "/msg/send_msg";
    for form in field.attacks("ann", "bob") {
        if form.bare == Bare::Acts {
            // What an admin's token would do to this body, were it not looked at.
            world.succeeds_bare(PATH, &form, &world.admin).await;
        }
        world.fails(PATH, &form, Turned::MayNot).await;
    }

    world.openim.clear_records();
    let reply = world.gateway.send(&world.ann.post(PATH, &field.honest("ann"))).await;
    assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    assert_eq!(subjects(&reply), ["ann"]);
    let [seen] = &world.openim.records()[..] else { panic!("one request") };
    assert_eq!((seen.header("token"), seen.copies("token")), (Some(world.admin.as_str()), 1));
}

#[tokio::test]
async fn a_forced_field_leaves_the_victim_alone() {
    let world = World::new(Line::P16).await;
    let join = r#"{ "groupID": "g1", "inviterUserID": "bob", "joinSource": 3 }"#;
    let reply = world.gateway.send(&world.ann.post("/group/join_group", join)).await;
    assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    let seen = world.openim.records().pop().unwrap();
    assert_eq!(seen.body, r#"{ "groupID": "g1", "inviterUserID": "ann", "joinSource": 3 }"#);
    assert_eq!((seen.copies("content-length"), seen.copies("transfer-encoding")), (1, 0));
    let members = world.as_admin("/group/get_group_member_user_id", r#"{"groupID":"g1"}"#).await;
    assert_eq!(members.json()["data"]["userIDs"], serde_json::json!(["ann", "carol"]));
}

#[tokio::test]
async fn a_caller_who_names_himself_reaches_no_further() {
    let world = World::new(Line::P16).await;
    let own = r#""userID":"ann","conversationID":"si_bob_carol""#;
    let cases = [
        ("/msg/delete_msgs", format!(r#"{{{own},"seqs":[1],"deleteSyncOpt":{{"isSyncOther":true}}}}"#)),
        ("/msg/clear_conversation_msg", format!(r#"{{{own},"deleteSyncOpt":{{"isSyncOther":true}}}}"#)),
        ("/msg/user_clear_all_msg", r#"{"userID":"ann","deleteSyncOpt":{"isSyncOther":true}}"#.to_owned()),
        ("/user/update_user_info", r#"{"userInfo":{"userID":"ann","appMangerLevel":18}}"#.to_owned()),
    ];
    for (path, body) in cases {
        world.openim.clear_records();
        let reply = world.gateway.send(&world.ann.post(path, &body)).await;
        assert_eq!(reply.verdict(), (403, i64::from(NO_PERMISSION)), "{path}: {}", reply.text());
        assert!(world.openim.records().is_empty(), "{path}");
        let harmless = body.replace("true", "false").replace("18", "0");
        world.lets_pass(path, &harmless).await;
    }
}

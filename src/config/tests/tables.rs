//! The tables in conf/, against all that OpenIM has.
//!
//! The stand-in knows every POST route of both release lines, what OpenIM checks there, and which field
//! names the user acted on.

use std::path::Path;
use std::sync::Arc;

use http::Method;
use imgate_filters::rules::{Bind, FieldPath, Roles};
use openim_standin::routes::{Lines, Mark, ROUTES, Subject};

use super::BASE;
use crate::config::{Config, Line, Route};
use crate::route::Found;

/// A configuration that mounts one table of conf/ at the root.
fn mounted(table: &str) -> Config {
    let text = format!("{BASE}  - {{ table: {table}, upstream: chat, public: true }}\n");
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    Config::parse(&text, "imgate.yaml", &conf).unwrap_or_else(|error| panic!("{error}"))
}

fn user() -> Config {
    mounted("openim-user.yaml")
}

fn admin() -> Config {
    mounted("openim-admin.yaml")
}

fn open<'a>(config: &'a Config, path: &str) -> Option<&'a Arc<Route>> {
    match config.routes.find(None, "", &Method::POST, path) {
        Found::Route(route) => Some(route),
        Found::MethodNotAllowed(_) | Found::None => None,
    }
}

fn closed(config: &Config, path: &str) -> Option<Option<Line>> {
    config.closed.iter().find(|closed| *closed.path == *path).map(|closed| closed.line)
}

fn names(fields: &[FieldPath]) -> Vec<String> {
    fields.iter().map(FieldPath::to_string).collect()
}

fn roles(route: &Route) -> Vec<&str> {
    match &route.rules.roles {
        Some(Roles::OneOf(roles)) => roles.iter().map(|role| &**role).collect(),
        other => panic!("{}: {other:?}", route.name),
    }
}

#[test]
fn every_route_of_openim_is_open_or_closed_once_in_each_table() {
    for config in [user(), admin()] {
        for known in ROUTES {
            let line = match known.lines {
                Lines::Both => None,
                Lines::HeadOnly => Some(Line::Development),
                Lines::P16Only => Some(Line::Released),
            };
            let (open, closed) = (open(&config, known.path), closed(&config, known.path));
            assert_eq!(open.is_some(), closed.is_none(), "{}", known.path);
            assert_eq!(open.map(|route| route.line).or(closed), Some(line), "{}", known.path);
        }
        let tabled = config.routes.routes().iter().filter(|route| route.table.is_some());
        for route in tabled {
            assert!(ROUTES.iter().any(|known| *known.path == *route.name), "{} is no route", route.name);
            assert_eq!(route.methods.to_string(), "POST", "{}", route.name);
        }
    }
}

#[test]
fn nothing_is_closed_to_users_and_admins_alike_unless_nobody_should_have_it() {
    let (user, admin) = (user(), admin());
    let nobodys: Vec<&str> = ROUTES
        .iter()
        .map(|known| known.path)
        .filter(|path| open(&user, path).is_none() && open(&admin, path).is_none())
        .collect();
    assert_eq!(
        nobodys,
        [
            "/auth/get_admin_token",
            "/auth/parse_token",
            "/friend/get_incremental_blacks",
            "/msg/send_simple_msg",
            "/conversation/get_conversation_offline_push_user_ids",
        ]
    );
}

#[test]
fn a_route_open_to_users_binds_the_field_that_names_the_subject() {
    let config = user();
    let mut bound = 0;
    for known in ROUTES {
        let Some(route) = open(&config, known.path) else { continue };
        let bind = route.rules.bind.as_ref().unwrap_or_else(|| panic!("{} says nothing", known.path));
        match known.mark {
            Mark::Open | Mark::Admin | Mark::AdminOnHead | Mark::AdminOrNothing => {
                panic!("{} is open to users", known.path)
            }
            Mark::Own | Mark::OwnOnHead | Mark::Hole => {
                assert!(binds(bind, known.subject), "{}: {bind}", known.path);
                bound += 1;
            }
            Mark::OwnName | Mark::OwnFormName | Mark::Role | Mark::Any => {}
        }
    }
    assert!(bound >= 60, "{bound}");
}

/// Whether the caller cannot name another subject.
fn binds(bind: &Bind, subject: Subject) -> bool {
    let has = |fields: &[FieldPath], field: &str| names(fields).iter().any(|name| name == field);
    match subject {
        Subject::Field(field) => has(&bind.check, field) || has(&bind.force, field),
        Subject::FieldOrCaller(field) => {
            has(&bind.check, field) || has(&bind.optional, field) || has(&bind.force, field)
        }
        Subject::Each(field) => has(&bind.each, field),
        Subject::AnyOf(fields) => names(&bind.any) == fields,
        // A hole that names nobody cannot be bound, and a query is not looked at.
        Subject::Caller | Subject::Key(_) => false,
    }
}

#[test]
fn what_only_lists_everybody_is_closed_to_users() {
    let config = user();
    for known in ROUTES.iter().filter(|known| known.mark == Mark::Hole) {
        let names_nobody = !matches!(known.subject, Subject::Field(_));
        assert_eq!(closed(&config, known.path).is_some(), names_nobody, "{}", known.path);
    }
    for path in ["/object/auth_sign", "/group/get_group_users_req_application_list"] {
        assert!(closed(&config, path).is_some(), "{path}");
    }
}

#[test]
fn admins_reach_by_role_what_openim_keeps_for_them() {
    let config = admin();
    for known in ROUTES {
        let Some(route) = open(&config, known.path) else {
            let kept = matches!(known.mark, Mark::Admin | Mark::AdminOnHead | Mark::AdminOrNothing);
            assert!(!kept, "{} is closed", known.path);
            continue;
        };
        assert!(route.rules.bind.is_none(), "{} binds", known.path);
        let (area, name) = known.path[1..].rsplit_once('/').unwrap_or(("", known.path));
        let reads = ["get_", "search_", "page_", "is_", "account_check"].iter().any(|s| name.starts_with(s))
            || ["_get", "_get_all"].iter().any(|s| name.ends_with(s));
        match roles(route)[..] {
            ["im-config"] => assert!(area == "config" || name == "/restart", "{}", known.path),
            ["im-token"] => assert!(name.contains("token"), "{}", known.path),
            ["im-admin"] => assert!(!reads && !name.contains("token") && area != "config", "{}", known.path),
            ["im-auditor", "im-admin"] => {
                let also =
                    ["newest_seq", "pull_msg_by_seq", "check_msg_is_send_success", "access_url", "search"];
                assert!(reads || also.contains(&name) || area.starts_with("statistics"), "{}", known.path);
                assert!(!name.contains("token"), "{}", known.path);
            }
            ref other => panic!("{}: {other:?}", known.path),
        }
    }
}

//! The files in conf/.

use std::path::{Path, PathBuf};

use http::Method;

use super::deps;
use crate::config::Config;
use crate::route::Found;

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

#[test]
fn every_file_in_conf_loads() {
    let mut seen = 0;
    for entry in std::fs::read_dir(conf("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // A table is loaded by the file that names it.
        if name != "openim-user.yaml" {
            let config = Config::load(&conf(&name)).unwrap_or_else(|error| panic!("{error}"));
            assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
            config.build_chains(&deps()).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

#[test]
fn the_full_file_spells_out_the_defaults() {
    let (full, small) =
        (Config::load(&conf("openim.yaml")).unwrap(), Config::load(&conf("imgate.yaml")).unwrap());
    assert_eq!(full.limits, small.limits);
    assert_eq!(full.identity.layout, small.identity.layout);
    assert_eq!(full.identity.cache, small.identity.cache);
    assert_eq!(full.identity.admin_users, small.identity.admin_users);
    assert_eq!(full.answers, small.answers);
    assert_eq!(format!("{:?}", full.cors), format!("{:?}", small.cors));
    assert_eq!(format!("{:?}", full.upstreams[0].options), format!("{:?}", small.upstreams[0].options));
    let mode = |config: &Config, path: &str| match config.routes.find("", &Method::POST, path) {
        Found::Route(route) => (route.mode, route.timeout),
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(&full, "/friend/get_friend_list"), mode(&small, "/friend/get_friend_list"));
}

#[test]
fn users_reach_nothing_that_openim_leaves_unchecked() {
    let config = Config::load(&conf("imgate.yaml")).unwrap();
    let closed = [
        "/auth/get_admin_token",
        "/auth/get_user_token",
        "/auth/parse_token",
        "/auth/force_logout",
        "/user/user_register",
        "/user/set_global_msg_recv_opt",
        "/user/get_users",
        "/user/get_all_users_uid",
        "/user/account_check",
        "/user/get_users_online_status",
        "/user/get_users_online_token_detail",
        "/user/set_user_client_config",
        "/friend/update_friends",
        "/friend/get_designated_friend_apply",
        "/friend/is_friend",
        "/friend/import_friend",
        "/group/join_group",
        "/group/get_recv_group_applicationList",
        "/group/get_user_req_group_applicationList",
        "/group/get_groups",
        "/group/get_group_users_req_application_list",
        "/msg/send_msg",
        "/msg/batch_send_msg",
        "/msg/send_simple_msg",
        "/msg/send_business_notification",
        "/msg/delete_msg_physical",
        "/msg/delete_msg_phsical_by_seq",
        "/msg/search_msg",
        "/msg/pull_msg_by_seq",
        "/msg/mark_msgs_as_read",
        "/msg/mark_conversation_as_read",
        "/msg/get_conversations_has_read_and_max_seq",
        "/msg/set_conversation_has_read_seq",
        "/conversation/get_all_conversations",
        "/conversation/set_conversations",
        "/third/fcm_update_token",
        "/third/set_app_badge",
        "/third/logs/delete",
        "/third/logs/search",
        "/third/prometheus",
        "/object/auth_sign",
        "/statistics/user/register",
        "/config/get_config",
        "/restart",
        "/prometheus_discovery/api",
    ];
    for path in closed {
        let found = config.routes.find("im.example.com", &Method::POST, path);
        assert!(!matches!(found, Found::Route(_)), "{path}");
    }
    for path in ["/friend/add_friend", "/group/kick_group", "/msg/newest_seq", "/object/part_limit"] {
        let found = config.routes.find("im.example.com", &Method::POST, path);
        assert!(matches!(found, Found::Route(_)), "{path}");
    }
}

//! THE list of POST routes: who may call each, on which release line, and which field names the user acted on.
//!
//! The server reads nothing else to decide, and tests may read it too. GET routes need no authorisation at all.
//!
//! Source: open-im-server `internal/api/router.go` and the services behind it, at `7848d7c` and `f6411a8`.

use crate::endpoints::{Act, auth, conversation, friend, group, msg, object, plain, third, user};
use crate::options::Line;

use self::Lines::{HeadOnly, P16Only};
use self::Mark::{
    Admin, AdminOnHead, AdminOrNothing, Any, Hole, Open, Own, OwnFormName, OwnName, OwnOnHead, Role,
};
use self::Subject::{AnyOf, Caller, Each, Field, FieldOrCaller, Key};

/// What OpenIM checks before it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No token is asked for.
    Open,
    /// Admins only, on both lines.
    Admin,
    /// Admins only on the development line, any user on the released one.
    AdminOnHead,
    /// Anyone may call, but only admins get something.
    AdminOrNothing,
    /// The subject must be the caller, or the caller an admin, on both lines.
    Own,
    /// The subject must be the caller on the development line; the released one does not check.
    OwnOnHead,
    /// The object `name` must lie in the caller's own folder.
    OwnName,
    /// The same for the key inside the base64 JSON `id`, which the client supplies.
    OwnFormName,
    /// Group role decides; the stand-in takes any logged-in user.
    Role,
    /// Any logged-in user, by design.
    Any,
    /// Any logged-in user, because OpenIM forgets to check.
    Hole,
}

/// Where a body names the user acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Nowhere; the caller is the subject.
    Caller,
    /// In a field, given as a dotted path.
    Field(&'static str),
    /// In a field that may be empty, which means the caller.
    FieldOrCaller(&'static str),
    /// In one of several fields; any of them may match.
    AnyOf(&'static [&'static str]),
    /// In every item of a list.
    Each(&'static str),
    /// In a field of the base64 JSON in the query parameter `key`.
    Key(&'static str),
}

/// The release lines that have a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Both.
    Both,
    /// Only the development line.
    HeadOnly,
    /// Only the released line.
    P16Only,
}

/// One POST route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The decoded path.
    pub path: &'static str,
    /// What is checked.
    pub mark: Mark,
    /// Who is acted on.
    pub subject: Subject,
    /// Where it exists.
    pub lines: Lines,
    pub(crate) act: Act,
}

impl Route {
    /// Tells whether a release line has the route.
    pub fn exists_on(&self, line: Line) -> bool {
        match self.lines {
            Lines::Both => true,
            HeadOnly => line == Line::Head,
            P16Only => line == Line::P16,
        }
    }

    const fn does(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    const fn only(mut self, lines: Lines) -> Self {
        self.lines = lines;
        self
    }
}

const fn post(path: &'static str, mark: Mark, subject: Subject) -> Route {
    Route { path, mark, subject, lines: Lines::Both, act: plain }
}

/// Finds a route by its decoded path.
pub(crate) fn find(path: &str, line: Line) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path && route.exists_on(line))
}

/// Every POST route of both lines.
pub static ROUTES: &[Route] = &[
    post("/auth/get_admin_token", Open, Caller).does(auth::admin_token),
    post("/auth/get_user_token", Admin, Field("userID")).does(auth::user_token),
    post("/auth/parse_token", Open, Caller).does(auth::parse_token),
    post("/auth/force_logout", Admin, Field("userID")).does(auth::force_logout),
    post("/user/user_register", Admin, Caller).does(user::register),
    post("/user/update_user_info", Own, Field("userInfo.userID")).does(user::update),
    post("/user/update_user_info_ex", Own, Field("userInfo.userID")).does(user::update),
    post("/user/set_global_msg_recv_opt", Hole, Field("userID")),
    post("/user/get_users_info", Any, Each("userIDs")).does(user::info),
    post("/user/get_users", Hole, Caller).does(user::list),
    post("/user/get_all_users_uid", Hole, Caller).does(user::ids),
    post("/user/account_check", Admin, Each("checkUserIDs")).does(user::account_check),
    post("/user/get_users_online_status", Admin, Each("userIDs")).does(user::online_status),
    post("/user/get_users_online_token_detail", AdminOrNothing, Each("userIDs")).does(user::token_detail),
    post("/user/get_users_status", Any, Each("userIDs")).does(user::presence),
    post("/user/subscribe_users_status", Any, Each("userIDs")),
    post("/user/get_subscribe_users_status", Any, Caller),
    post("/user/process_user_command_add", Own, Field("userID")),
    post("/user/process_user_command_delete", Own, Field("userID")),
    post("/user/process_user_command_update", Own, Field("userID")),
    post("/user/process_user_command_get", Own, Field("userID")),
    post("/user/process_user_command_get_all", Own, Field("userID")),
    post("/user/add_notification_account", Admin, Caller),
    post("/user/update_notification_account", Admin, Caller),
    post("/user/search_notification_account", Admin, Caller),
    post("/user/get_user_client_config", Own, Field("userID")).only(HeadOnly),
    post("/user/set_user_client_config", Admin, Caller).only(HeadOnly),
    post("/user/del_user_client_config", Admin, Caller).only(HeadOnly),
    post("/user/page_user_client_config", Admin, Caller).only(HeadOnly),
    post("/friend/add_friend", Own, Field("fromUserID")).does(friend::apply),
    post("/friend/add_friend_response", Own, Field("toUserID")).does(friend::respond),
    post("/friend/delete_friend", Own, Field("ownerUserID")).does(friend::delete),
    post("/friend/set_friend_remark", Own, Field("ownerUserID")),
    post("/friend/add_black", Own, Field("ownerUserID")).does(friend::add_black),
    post("/friend/remove_black", Own, Field("ownerUserID")).does(friend::remove_black),
    post("/friend/get_specified_blacks", Own, Field("ownerUserID")).does(friend::blacks),
    post("/friend/get_designated_friends", Own, Field("ownerUserID")).does(friend::list),
    post("/friend/get_specified_friends_info", Own, Field("ownerUserID")).does(friend::list),
    post("/friend/get_friend_list", Own, Field("userID")).does(friend::list),
    post("/friend/get_friend_apply_list", Own, Field("userID")).does(friend::received),
    post("/friend/get_self_friend_apply_list", Own, Field("userID")).does(friend::sent),
    post("/friend/get_black_list", Own, Field("userID")).does(friend::blacks),
    post("/friend/get_friend_id", Own, Field("userID")).does(friend::ids),
    post("/friend/get_incremental_friends", Own, Field("userID")),
    post("/friend/get_full_friend_user_ids", Own, Field("userID")).does(friend::full_ids),
    post("/friend/get_self_unhandled_apply_count", Own, Field("userID")).does(friend::unhandled),
    post("/friend/update_friends", OwnOnHead, Field("ownerUserID")),
    post("/friend/get_designated_friend_apply", OwnOnHead, AnyOf(&["fromUserID", "toUserID"]))
        .does(friend::between),
    post("/friend/is_friend", OwnOnHead, AnyOf(&["userID1", "userID2"])).does(friend::is_friend),
    post("/friend/import_friend", Admin, Field("ownerUserID")).does(friend::import),
    post("/friend/get_incremental_blacks", Any, Caller).does(friend::unimplemented),
    post("/group/create_group", Own, Field("ownerUserID")).does(group::create),
    post("/group/join_group", Hole, Field("inviterUserID")).does(group::join),
    post("/group/quit_group", Own, FieldOrCaller("userID")).does(group::quit),
    post("/group/get_joined_group_list", Own, Field("fromUserID")).does(group::joined),
    post("/group/get_recv_group_applicationList", OwnOnHead, Field("fromUserID")),
    post("/group/get_user_req_group_applicationList", OwnOnHead, Field("userID")),
    post("/group/get_incremental_join_groups", Own, Field("userID")),
    post("/group/get_full_join_group_ids", Own, Field("userID")).does(group::joined_ids),
    post("/group/get_group_application_unhandled_count", Own, Field("userID")),
    post("/group/get_groups_info", Any, Caller).does(group::info),
    post("/group/get_groups", Hole, Caller).does(group::list),
    post("/group/set_group_info", Role, Caller),
    post("/group/set_group_info_ex", Role, Caller),
    post("/group/transfer_group", Role, Field("newOwnerUserID")),
    post("/group/dismiss_group", Role, Caller).does(group::dismiss),
    post("/group/kick_group", Role, Each("kickedUserIDs")).does(group::kick),
    post("/group/mute_group_member", Role, Field("userID")),
    post("/group/cancel_mute_group_member", Role, Field("userID")),
    post("/group/mute_group", Role, Caller),
    post("/group/cancel_mute_group", Role, Caller),
    post("/group/set_group_member_info", Role, Caller),
    post("/group/group_application_response", Role, Field("fromUserID")),
    post("/group/invite_user_to_group", Role, Each("invitedUserIDs")).does(group::invite),
    post("/group/get_group_members_info", Role, Each("userIDs")).does(group::members),
    post("/group/get_group_member_list", Role, Caller).does(group::members),
    post("/group/get_group_abstract_info", Role, Caller),
    post("/group/get_group_member_user_id", Role, Caller).does(group::member_ids),
    post("/group/get_incremental_group_members", Role, Caller),
    post("/group/get_incremental_group_members_batch", Role, Caller),
    post("/group/get_full_group_member_user_ids", Role, Caller).does(group::member_ids),
    post("/group/get_group_users_req_application_list", Role, Caller),
    post("/group/get_specified_user_group_request_info", Role, Field("userID")),
    post("/msg/send_msg", Admin, Field("sendID")).does(msg::send),
    post("/msg/batch_send_msg", Admin, Field("sendID")).does(msg::send_batch),
    post("/msg/send_business_notification", Admin, Field("recvUserID")),
    post("/msg/delete_msg_physical", Admin, Caller),
    post("/msg/delete_msg_phsical_by_seq", AdminOnHead, Caller),
    post("/msg/search_msg", Hole, AnyOf(&["sendID", "recvID"])).does(msg::search),
    post("/msg/newest_seq", Own, Field("userID")).does(msg::newest_seq),
    post("/msg/pull_msg_by_seq", OwnOnHead, Field("userID")).does(msg::pull),
    post("/msg/revoke_msg", Own, Field("userID")),
    post("/msg/mark_msgs_as_read", OwnOnHead, Field("userID")),
    post("/msg/mark_conversation_as_read", OwnOnHead, Field("userID")),
    post("/msg/get_conversations_has_read_and_max_seq", OwnOnHead, Field("userID")),
    post("/msg/set_conversation_has_read_seq", OwnOnHead, Field("userID")),
    post("/msg/clear_conversation_msg", Own, Field("userID")),
    post("/msg/user_clear_all_msg", Own, Field("userID")),
    post("/msg/delete_msgs", Own, Field("userID")),
    post("/msg/send_simple_msg", Own, Key("sendID")).only(HeadOnly).does(msg::send),
    post("/msg/check_msg_is_send_success", Any, Caller).does(msg::send_status),
    post("/msg/get_server_time", Any, Caller).does(msg::server_time),
    post("/conversation/get_sorted_conversation_list", OwnOnHead, Field("userID")).does(conversation::list),
    post("/conversation/get_all_conversations", OwnOnHead, Field("ownerUserID")).does(conversation::list),
    post("/conversation/get_conversation", OwnOnHead, Field("ownerUserID")).does(conversation::one),
    post("/conversation/get_conversations", OwnOnHead, Field("ownerUserID")).does(conversation::list),
    post("/conversation/set_conversations", OwnOnHead, Each("userIDs")).does(conversation::set),
    post("/conversation/get_full_conversation_ids", OwnOnHead, Field("userID")).does(conversation::ids),
    post("/conversation/get_incremental_conversations", OwnOnHead, Field("userID")).does(conversation::list),
    post("/conversation/get_owner_conversation", OwnOnHead, Field("userID")).does(conversation::list),
    post("/conversation/get_not_notify_conversation_ids", OwnOnHead, Field("userID")),
    post("/conversation/get_pinned_conversation_ids", OwnOnHead, Field("userID")),
    post("/conversation/delete_conversations", Own, Field("ownerUserID"))
        .only(HeadOnly)
        .does(conversation::delete),
    post("/conversation/update_conversations_by_user", Own, Field("userID")).only(HeadOnly),
    post("/conversation/get_conversation_offline_push_user_ids", Hole, Each("userIDs")).only(P16Only),
    post("/third/fcm_update_token", Hole, Field("account")),
    post("/third/set_app_badge", OwnOnHead, Field("userID")),
    post("/third/logs/upload", Any, Caller),
    post("/third/logs/delete", Admin, Caller),
    post("/third/logs/search", Admin, Caller),
    post("/object/part_limit", Any, Caller).does(object::part_limit),
    post("/object/part_size", Any, Caller).does(object::part_size),
    post("/object/initiate_multipart_upload", OwnName, Caller).does(object::initiate_multipart),
    post("/object/complete_multipart_upload", OwnName, Caller).does(object::complete_multipart),
    post("/object/initiate_form_data", OwnName, Caller).does(object::initiate_form),
    post("/object/complete_form_data", OwnFormName, Caller).does(object::complete_form),
    post("/object/auth_sign", Any, Caller).does(object::auth_sign),
    post("/object/access_url", Any, Caller).does(object::access_url),
    post("/statistics/user/register", Hole, Caller).does(third::register_count),
    post("/statistics/user/active", AdminOnHead, Caller),
    post("/statistics/group/active", AdminOnHead, Caller),
    post("/statistics/group/create", Admin, Caller),
    post("/jssdk/get_conversations", Any, Caller).does(third::jssdk),
    post("/jssdk/get_active_conversations", Any, Caller).does(third::jssdk),
    post("/config/get_config_list", Admin, Caller).only(HeadOnly),
    post("/config/get_config", Admin, Caller).only(HeadOnly),
    post("/config/set_config", Admin, Caller).only(HeadOnly),
    post("/config/reset_config", Admin, Caller).only(HeadOnly),
    post("/config/set_enable_config_manager", Admin, Caller).only(HeadOnly),
    post("/config/get_enable_config_manager", Admin, Caller).only(HeadOnly),
    post("/restart", Admin, Caller).only(HeadOnly),
];

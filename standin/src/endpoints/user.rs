//! `/user/*`: registration, profiles, enumeration, presence.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Call;
use crate::authorise::wrong_type;
use crate::envelope::{Code, Failure};
use crate::json::{Body, WrongType};
use crate::world::User;

/// Registers users, all or none.
pub(crate) fn register(call: &Call<'_>) -> Result<Value, Failure> {
    let entries = call.body.objects("users").map_err(|WrongType| wrong_type("users"))?;
    if entries.is_empty() {
        return Err(Failure::args("users is empty"));
    }
    let mut fresh = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in &entries {
        let (id, user) = read_user(entry)?;
        if id.is_empty() || id.contains(':') {
            return Err(Failure::args("userID is empty or contains ':'"));
        }
        if !seen.insert(id.clone()) {
            return Err(Failure::args("userID repeated"));
        }
        fresh.push((id, user));
    }
    let mut world = call.shared.world.lock();
    if fresh.iter().any(|(id, _)| world.users.contains_key(id)) {
        return Err(Failure::new(Code::RegisteredAlready, "userID registered already"));
    }
    world.users.extend(fresh);
    Ok(Value::Null)
}

fn read_user(entry: &Body) -> Result<(String, User), Failure> {
    let text = |name: &str| entry.text(name).map(str::to_owned).map_err(|WrongType| wrong_type(name));
    Ok((text("userID")?, User { nickname: text("nickname")?, face_url: text("faceURL")?, ex: text("ex")? }))
}

/// Changes the profile fields that are given.
pub(crate) fn update(call: &Call<'_>) -> Result<Value, Failure> {
    let fields = [call.text("userInfo.nickname")?, call.text("userInfo.faceURL")?, call.text("userInfo.ex")?];
    let mut world = call.shared.world.lock();
    let Some(user) = world.users.get_mut(call.subject()) else { return Err(not_found(call.subject())) };
    for (slot, given) in [&mut user.nickname, &mut user.face_url, &mut user.ex].into_iter().zip(fields) {
        if !given.is_empty() {
            given.clone_into(slot);
        }
    }
    Ok(json!({}))
}

/// Gives the public profiles of the users named.
pub(crate) fn info(call: &Call<'_>) -> Result<Value, Failure> {
    if call.subjects.is_empty() {
        return Err(Failure::args("userIDs is empty"));
    }
    let world = call.shared.world.lock();
    let known = call.subjects.iter().filter(|id| world.users.contains_key(*id));
    Ok(json!({ "usersInfo": known.map(|id| world.profile(id)).collect::<Vec<_>>() }))
}

/// Lists every user.
pub(crate) fn list(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let users: Vec<Value> = world.users.keys().map(|id| world.profile(id)).collect();
    Ok(json!({ "total": users.len(), "users": users }))
}

/// Lists every user id.
pub(crate) fn ids(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let ids: Vec<&String> = world.users.keys().collect();
    Ok(json!({ "total": ids.len(), "userIDs": ids }))
}

/// Tells which accounts are registered.
pub(crate) fn account_check(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let results = call.subjects.iter().map(|id| {
        let status = if world.users.contains_key(id) { "registered" } else { "unregistered" };
        json!({ "userID": id, "accountStatus": status })
    });
    Ok(json!({ "results": results.collect::<Vec<_>>() }))
}

/// Tells who is online, with the platforms.
pub(crate) fn online_status(call: &Call<'_>) -> Result<Value, Failure> {
    presence_list(call, "successResult")
}

/// Tells who is online.
pub(crate) fn presence(call: &Call<'_>) -> Result<Value, Failure> {
    presence_list(call, "statusList")
}

fn presence_list(call: &Call<'_>, name: &str) -> Result<Value, Failure> {
    let list = call.subjects.iter().map(|id| {
        let platforms = call.shared.sockets.platforms(id);
        json!({ "userID": id, "status": i32::from(!platforms.is_empty()), "platformIDs": platforms })
    });
    Ok(json!({ name: list.collect::<Vec<_>>() }))
}

/// Gives admins the live tokens themselves, and everyone else an empty list.
pub(crate) fn token_detail(call: &Call<'_>) -> Result<Value, Failure> {
    if !call.caller.admin {
        return Ok(json!({ "list": [] }));
    }
    let tokens = call.shared.tokens.lock();
    let list = call.subjects.iter().map(|id| {
        let live = tokens.live(id).into_iter();
        let details = live.map(|(platform, token)| json!({ "platformID": platform, "token": [token] }));
        json!({ "userID": id, "singlePlatformToken": details.collect::<Vec<_>>() })
    });
    Ok(json!({ "list": list.collect::<Vec<_>>() }))
}

fn not_found(user: &str) -> Failure {
    Failure::new(Code::UserIdNotFound, format!("user {user} not found"))
}

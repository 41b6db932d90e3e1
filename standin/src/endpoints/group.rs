//! `/group/*`: groups, membership, enumeration.

use serde_json::{Value, json};

use super::Call;
use crate::envelope::{Code, Failure};
use crate::world::{Group, World};

/// Creates a group.
pub(crate) fn create(call: &Call<'_>) -> Result<Value, Failure> {
    let wanted = call.text("groupInfo.groupID")?.to_owned();
    let owner = call.subject().to_owned();
    let members = [call.texts("memberUserIDs")?, call.texts("adminUserIDs")?, vec![&owner]].concat();
    let members = members.into_iter().map(str::to_owned).collect();
    let name = call.text("groupInfo.groupName")?.to_owned();
    let mut world = call.shared.world.lock();
    let id = if wanted.is_empty() { format!("{}", 1_000_000 + world.next_id()) } else { wanted };
    world.groups.insert(id.clone(), Group { name, owner, members });
    Ok(json!({ "groupInfo": describe(&world, &id) }))
}

/// Lets `inviterUserID` join, whoever asks: the hole OpenIM has.
pub(crate) fn join(call: &Call<'_>) -> Result<Value, Failure> {
    change(call, |group| {
        group.members.insert(call.subject().to_owned());
    })
}

/// Lets the subject leave.
pub(crate) fn quit(call: &Call<'_>) -> Result<Value, Failure> {
    change(call, |group| {
        group.members.remove(call.subject());
    })
}

/// Adds members.
pub(crate) fn invite(call: &Call<'_>) -> Result<Value, Failure> {
    change(call, |group| group.members.extend(call.subjects.iter().cloned()))
}

/// Removes members.
pub(crate) fn kick(call: &Call<'_>) -> Result<Value, Failure> {
    change(call, |group| group.members.retain(|member| !call.subjects.contains(member)))
}

/// Ends a group.
pub(crate) fn dismiss(call: &Call<'_>) -> Result<Value, Failure> {
    let id = call.text("groupID")?;
    match call.shared.world.lock().groups.remove(id) {
        Some(_) => Ok(json!({})),
        None => Err(unknown(id)),
    }
}

/// Lists the groups the subject is in.
pub(crate) fn joined(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let groups: Vec<Value> = groups_of(&world, call.subject()).map(|id| describe(&world, id)).collect();
    Ok(json!({ "total": groups.len(), "groups": groups }))
}

/// Lists the ids of the groups the subject is in.
pub(crate) fn joined_ids(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let ids: Vec<&str> = groups_of(&world, call.subject()).collect();
    Ok(json!({ "version": 1, "equal": false, "groupIDs": ids }))
}

/// Describes the groups named.
pub(crate) fn info(call: &Call<'_>) -> Result<Value, Failure> {
    let ids = call.texts("groupIDs")?;
    let world = call.shared.world.lock();
    let known = ids.into_iter().filter(|id| world.groups.contains_key(*id));
    Ok(json!({ "groupInfos": known.map(|id| describe(&world, id)).collect::<Vec<_>>() }))
}

/// Lists every group.
pub(crate) fn list(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let groups: Vec<Value> =
        world.groups.keys().map(|id| json!({ "groupInfo": describe(&world, id) })).collect();
    Ok(json!({ "total": groups.len(), "groups": groups }))
}

/// Lists the members of a group.
pub(crate) fn members(call: &Call<'_>) -> Result<Value, Failure> {
    let id = call.text("groupID")?;
    let world = call.shared.world.lock();
    let group = world.groups.get(id).ok_or_else(|| unknown(id))?;
    let members: Vec<Value> =
        group.members.iter().map(|member| json!({ "groupID": id, "userID": member })).collect();
    Ok(json!({ "total": members.len(), "members": members }))
}

/// Lists the ids of the members of a group.
pub(crate) fn member_ids(call: &Call<'_>) -> Result<Value, Failure> {
    let id = call.text("groupID")?;
    let world = call.shared.world.lock();
    let group = world.groups.get(id).ok_or_else(|| unknown(id))?;
    Ok(json!({ "userIDs": group.members }))
}

fn change(call: &Call<'_>, edit: impl FnOnce(&mut Group)) -> Result<Value, Failure> {
    let id = call.text("groupID")?;
    let mut world = call.shared.world.lock();
    edit(world.groups.get_mut(id).ok_or_else(|| unknown(id))?);
    Ok(json!({}))
}

fn groups_of<'a>(world: &'a World, user: &'a str) -> impl Iterator<Item = &'a str> {
    world.groups.iter().filter(move |(_, group)| group.members.contains(user)).map(|(id, _)| id.as_str())
}

fn describe(world: &World, id: &str) -> Value {
    let group = world.groups.get(id).cloned().unwrap_or_default();
    json!({
        "groupID": id,
        "groupName": group.name,
        "ownerUserID": group.owner,
        "memberCount": group.members.len(),
    })
}

fn unknown(id: &str) -> Failure {
    Failure::new(Code::GroupIdNotFound, format!("group {id} not found"))
}

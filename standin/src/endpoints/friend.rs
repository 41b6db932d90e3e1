//! `/friend/*`: requests, friendships, black lists.

use serde_json::{Value, json};

use super::Call;
use crate::envelope::{Code, Failure};
use crate::world::{FriendRequest, Handled, World};

/// Asks someone to become a friend.
pub(crate) fn apply(call: &Call<'_>) -> Result<Value, Failure> {
    let (from, to) = (call.subject().to_owned(), call.text("toUserID")?.to_owned());
    if to.is_empty() {
        return Err(Failure::args("toUserID is empty"));
    }
    let message = call.text("reqMsg")?.to_owned();
    let mut world = call.shared.world.lock();
    world.requests.retain(|request| request.from != from || request.to != to);
    world.requests.push(FriendRequest { from, to, message, handled: Handled::Pending });
    Ok(json!({}))
}

/// Answers a request; agreement makes both friends of each other.
pub(crate) fn respond(call: &Call<'_>) -> Result<Value, Failure> {
    let (from, to) = (call.text("fromUserID")?, call.subject());
    let agreed = call.number("handleResult")? == Handled::Agreed as i64;
    let mut world = call.shared.world.lock();
    let request = world.requests.iter_mut().find(|request| request.from == from && request.to == to);
    let Some(request) = request else { return Err(Failure::new(Code::RecordNotFound, "friend request")) };
    request.handled = if agreed { Handled::Agreed } else { Handled::Refused };
    if agreed {
        befriend(&mut world, from, to);
    }
    Ok(json!({}))
}

/// Makes friends without asking.
pub(crate) fn import(call: &Call<'_>) -> Result<Value, Failure> {
    let friends = call.texts("friendUserIDs")?;
    let mut world = call.shared.world.lock();
    for friend in friends {
        befriend(&mut world, call.subject(), friend);
    }
    Ok(json!({}))
}

/// Ends a friendship on one side.
pub(crate) fn delete(call: &Call<'_>) -> Result<Value, Failure> {
    let pair = (call.subject().to_owned(), call.text("friendUserID")?.to_owned());
    call.shared.world.lock().friends.remove(&pair);
    Ok(json!({}))
}

/// Lists the friends of the subject.
pub(crate) fn list(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let friends = friends_of(&world, call.subject());
    let infos: Vec<Value> = friends
        .iter()
        .map(|id| json!({ "ownerUserID": call.subject(), "remark": "", "friendUser": world.profile(id) }))
        .collect();
    Ok(json!({ "total": infos.len(), "friendsInfo": infos }))
}

/// Lists the friends' ids.
pub(crate) fn ids(call: &Call<'_>) -> Result<Value, Failure> {
    Ok(json!({ "friendIDs": friends_of(&call.shared.world.lock(), call.subject()) }))
}

/// Lists the friends' ids for a full synchronisation.
pub(crate) fn full_ids(call: &Call<'_>) -> Result<Value, Failure> {
    Ok(
        json!({ "version": 1, "equal": false, "userIDs": friends_of(&call.shared.world.lock(), call.subject()) }),
    )
}

/// Lists the requests the subject received.
pub(crate) fn received(call: &Call<'_>) -> Result<Value, Failure> {
    Ok(requests(&call.shared.world.lock(), |request| request.to == call.subject()))
}

/// Lists the requests the subject sent.
pub(crate) fn sent(call: &Call<'_>) -> Result<Value, Failure> {
    Ok(requests(&call.shared.world.lock(), |request| request.from == call.subject()))
}

/// Lists the requests between two users.
pub(crate) fn between(call: &Call<'_>) -> Result<Value, Failure> {
    let (from, to) = (call.text("fromUserID")?, call.text("toUserID")?);
    Ok(requests(&call.shared.world.lock(), |request| request.from == from && request.to == to))
}

/// Counts the requests that wait for the subject.
pub(crate) fn unhandled(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let waiting =
        |request: &&FriendRequest| request.to == call.subject() && request.handled == Handled::Pending;
    Ok(json!({ "count": world.requests.iter().filter(waiting).count() }))
}

/// Tells who has whom as a friend.
pub(crate) fn is_friend(call: &Call<'_>) -> Result<Value, Failure> {
    let (one, two) = (call.text("userID1")?.to_owned(), call.text("userID2")?.to_owned());
    let world = call.shared.world.lock();
    let forth = world.friends.contains(&(one.clone(), two.clone()));
    let back = world.friends.contains(&(two, one));
    Ok(json!({ "inUser1Friends": forth, "inUser2Friends": back }))
}

/// Blocks a user.
pub(crate) fn add_black(call: &Call<'_>) -> Result<Value, Failure> {
    let pair = (call.subject().to_owned(), call.text("blackUserID")?.to_owned());
    call.shared.world.lock().blacks.insert(pair);
    Ok(json!({}))
}

/// Unblocks a user.
pub(crate) fn remove_black(call: &Call<'_>) -> Result<Value, Failure> {
    let pair = (call.subject().to_owned(), call.text("blackUserID")?.to_owned());
    call.shared.world.lock().blacks.remove(&pair);
    Ok(json!({}))
}

/// Lists the blocked users.
pub(crate) fn blacks(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let of_owner = world.blacks.iter().filter(|(owner, _)| owner == call.subject());
    let blacks: Vec<Value> = of_owner
        .map(|(owner, id)| json!({ "ownerUserID": owner, "blackUserInfo": world.profile(id) }))
        .collect();
    Ok(json!({ "total": blacks.len(), "blacks": blacks }))
}

/// Answers for a method OpenIM declares but never wrote.
pub(crate) fn unimplemented(_: &Call<'_>) -> Result<Value, Failure> {
    Err(Failure::uncoded("method GetIncrementalBlacks not implemented"))
}

fn befriend(world: &mut World, one: &str, two: &str) {
    world.friends.insert((one.to_owned(), two.to_owned()));
    world.friends.insert((two.to_owned(), one.to_owned()));
}

fn friends_of(world: &World, owner: &str) -> Vec<String> {
    world.friends.iter().filter(|(one, _)| one == owner).map(|(_, two)| two.clone()).collect()
}

fn requests(world: &World, wanted: impl Fn(&FriendRequest) -> bool) -> Value {
    let describe = |request: &FriendRequest| {
        json!({
            "fromUserID": request.from,
            "toUserID": request.to,
            "reqMsg": request.message,
            "handleResult": request.handled as i64,
        })
    };
    let found: Vec<Value> = world.requests.iter().filter(|request| wanted(request)).map(describe).collect();
    json!({ "total": found.len(), "FriendRequests": found })
}

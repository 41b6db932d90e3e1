//! `/conversation/*`: settings per owner and conversation.

use serde_json::{Value, json};

use super::Call;
use crate::envelope::{Code, Failure};

/// Sets one conversation for every user named.
pub(crate) fn set(call: &Call<'_>) -> Result<Value, Failure> {
    let id = call.text("conversation.conversationID")?;
    if id.is_empty() {
        return Err(Failure::args("conversationID is empty"));
    }
    let option = call.number("conversation.recvMsgOpt")?;
    let mut world = call.shared.world.lock();
    for owner in call.subjects {
        let value = json!({ "ownerUserID": owner, "conversationID": id, "recvMsgOpt": option });
        world.conversations.insert((owner.clone(), id.to_owned()), value);
    }
    Ok(json!({}))
}

/// Lists the subject's conversations.
pub(crate) fn list(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let of_owner = world.conversations.iter().filter(|((owner, _), _)| owner == call.subject());
    Ok(json!({ "conversations": of_owner.map(|(_, value)| value).collect::<Vec<_>>() }))
}

/// Lists the ids of the subject's conversations.
pub(crate) fn ids(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let of_owner = world.conversations.keys().filter(|(owner, _)| owner == call.subject());
    let ids: Vec<&String> = of_owner.map(|(_, id)| id).collect();
    Ok(json!({ "version": 1, "equal": false, "conversationIDs": ids }))
}

/// Gives one conversation of the subject.
pub(crate) fn one(call: &Call<'_>) -> Result<Value, Failure> {
    let key = (call.subject().to_owned(), call.text("conversationID")?.to_owned());
    match call.shared.world.lock().conversations.get(&key) {
        Some(conversation) => Ok(json!({ "conversation": conversation })),
        None => Err(Failure::new(Code::RecordNotFound, "conversation not found")),
    }
}

/// Deletes conversations of the subject.
pub(crate) fn delete(call: &Call<'_>) -> Result<Value, Failure> {
    let ids = call.texts("conversationIDs")?;
    let mut world = call.shared.world.lock();
    for id in ids {
        world.conversations.remove(&(call.subject().to_owned(), id.to_owned()));
    }
    Ok(json!({}))
}

//! `/statistics/*` and `/jssdk/*`: the routes that are neither users, groups nor messages.

use serde_json::{Value, json};

use super::Call;
use crate::envelope::Failure;

/// Counts registrations for any logged-in user: the hole OpenIM has.
pub(crate) fn register_count(call: &Call<'_>) -> Result<Value, Failure> {
    let total = call.shared.world.lock().users.len();
    Ok(json!({ "total": total, "before": 0, "count": {} }))
}

/// Lists the caller's conversations; the owner always comes from the token.
pub(crate) fn jssdk(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let of_caller = world.conversations.iter().filter(|((owner, _), _)| *owner == call.caller.user);
    let conversations: Vec<&Value> = of_caller.map(|(_, value)| value).collect();
    Ok(json!({ "unreadCount": 0, "conversations": conversations }))
}

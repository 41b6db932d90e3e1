//! `/auth/*`: tokens are bought with the secret, minted by admins, parsed by anyone, kicked by admins.

use serde_json::{Value, json};

use super::Call;
use crate::envelope::{Code, Failure};
use crate::token::ADMIN_PLATFORM;

/// Mints an admin token for whoever knows the secret.
pub(crate) fn admin_token(call: &Call<'_>) -> Result<Value, Failure> {
    let options = &call.shared.options;
    if call.text("secret")? != options.secret {
        return Err(Failure::no_permission("secret invalid"));
    }
    let user = call.text("userID")?;
    if !call.shared.is_admin(user) {
        return Err(Failure::args(format!(
            "userID is error, need imAdminUserID: {}",
            options.admins.join(",")
        )));
    }
    let token = call.shared.tokens.lock().mint(user, ADMIN_PLATFORM, options);
    Ok(minted(&token, options.token_lifetime.as_secs()))
}

/// Mints a user token.
pub(crate) fn user_token(call: &Call<'_>) -> Result<Value, Failure> {
    let (options, user) = (&call.shared.options, call.subject());
    let platform = call.number("platformID")?;
    if platform == ADMIN_PLATFORM || call.shared.is_admin(user) {
        return Err(Failure::no_permission("platformID or userID is an admin's"));
    }
    if !(1..=11).contains(&platform) {
        return Err(Failure::args("platformID is invalidate"));
    }
    if !call.shared.world.lock().users.contains_key(user) {
        return Err(Failure::new(Code::UserIdNotFound, format!("user {user} not found")));
    }
    let token = call.shared.tokens.lock().mint(user, platform, options);
    Ok(minted(&token, options.token_lifetime.as_secs()))
}

/// Tells whose token it is.
pub(crate) fn parse_token(call: &Call<'_>) -> Result<Value, Failure> {
    let token = call.text("token")?;
    if token.is_empty() {
        return Err(Failure::args("userID is empty"));
    }
    let holder = call.shared.tokens.lock().parse(token, &call.shared.options)?;
    Ok(json!({
        "userID": holder.user,
        "platformID": holder.platform,
        "expireTimeSeconds": holder.expires,
    }))
}

/// Kicks a user from one platform.
pub(crate) fn force_logout(call: &Call<'_>) -> Result<Value, Failure> {
    let platform = call.number("platformID")?;
    if !(1..=ADMIN_PLATFORM).contains(&platform) {
        return Err(Failure::args("platformID is invalidate"));
    }
    call.shared.kick(call.subject(), platform);
    Ok(Value::Null)
}

fn minted(token: &str, lifetime: u64) -> Value {
    json!({ "token": token, "expireTimeSeconds": lifetime })
}

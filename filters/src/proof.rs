//! What all filters that prove a user share: the session must live, the user must be admitted.
//!
//! A filter that takes a bearer token finds it here too, in the `token` header of OpenIM's SDKs.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use imgate_identity::session::{Session, Standing};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use pingora_http::RequestHeader;

use crate::context::{Context, ProvenUser};
use crate::reject::{Cause, Reject};
use crate::{Request, inject_token};

/// Takes a session that may be used at `now`.
///
/// # Errors
/// There is none of this name, its time has run out, or it was revoked.
pub(crate) fn live(session: Option<Arc<Session>>, now: UnixTime) -> Result<Arc<Session>, Reject> {
    let session = session.ok_or_else(|| Reject::new(Cause::SessionUnknown, "session_unknown"))?;
    match session.standing(now) {
        Standing::Live => Ok(session),
        Standing::Expired => Err(Reject::new(Cause::SessionUnknown, "session_expired")),
        Standing::Revoked => Err(Reject::new(Cause::SessionRevoked, "session_revoked")),
    }
}

/// Lets no user's credential act as one of OpenIM's admins.
///
/// # Errors
/// The user is one of them, or the device is of the kind that only they have.
pub(crate) fn no_admin(
    user: &UserId,
    platform: Platform,
    admin_users: &HashSet<UserId>,
) -> Result<(), Reject> {
    if platform == Platform::ADMIN || admin_users.contains(user) {
        return Err(Reject::new(Cause::Forbidden, "admin_on_user_surface"));
    }
    Ok(())
}

/// Lets a user pass whose credential was verified. Asked last: a ban is told only to its holder.
///
/// # Errors
/// The user is banned, or the route does not take this kind of device.
pub(crate) fn admit(user: ProvenUser, cx: &Context) -> Result<ProvenUser, Reject> {
    if user.record.ban.as_ref().is_some_and(|ban| ban.holds(cx.now)) {
        return Err(Reject::new(Cause::SessionRevoked, "user_banned"));
    }
    if !cx.place.rules.admit(user.platform) {
        return Err(Reject::new(Cause::Forbidden, "platform_not_admitted"));
    }
    Ok(user)
}

/// Finds the token an SDK sends.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn bearer(head: &RequestHeader) -> Result<HeaderValue, Reject> {
    // Neither is a verdict on anybody's credential, so neither may log a user out.
    let token = only(head, &inject_token::HEADER)?;
    token.cloned().ok_or_else(|| Reject::new(Cause::CredentialMissing, "token_header_missing"))
}

/// Finds a header that carries a credential, or a part of one.
///
/// # Errors
/// It is there more than once.
pub(crate) fn only<'a>(
    head: &'a RequestHeader,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Reject> {
    let mut values = head.headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Reject::new(Cause::CredentialMalformed, "credential_duplicated"));
    }
    Ok(first)
}

/// Waits until the body is there. Says whether the clock went on meanwhile, which the client decides:
/// what was verified before must then be verified again.
///
/// # Errors
/// The body is too large, came too slowly, or was cut off.
pub(crate) async fn await_body(request: &mut Request<'_>, cx: &mut Context) -> Result<bool, Reject> {
    if !request.body.is_announced() {
        return Ok(false);
    }
    request.body.read().await?;
    let arrived = (cx.clock)();
    Ok(std::mem::replace(&mut cx.now, arrived) != arrived)
}

//! A token of ours that OpenIM refuses: a fresh look in the store, one more try, no loop.
//!
//! OpenIM checks the token before it does anything, so a refused request may be sent again. Its codes
//! 1501 to 1507 log users out, so they reach a client only as a verdict on the user's own token that a
//! fresh look confirmed, twice for a kick, because a login may be just replacing it; and never with OpenIM's text, which holds the token on the released line.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use imgate_filters::reject::{Hint, LOGOUT_CODES, RETRY_AFTER};
use imgate_filters::{Cause, Context, Reject, inject_token};
use imgate_identity::token::OpenimToken;
use pingora_http::RequestHeader;

use super::{Gateway, Notes, Outgoing};
use crate::exchange::Answer;
use crate::gateway::{Route, Snapshot};
use crate::metrics::Heal;
use crate::reply;

/// How long a login that replaces a token may take from OpenIM's kick to our store's new token. A user
/// must not be told to log in again because of that moment.
const MINTING: Duration = Duration::from_millis(200);

/// The code of a token that a newer login replaced. Source: open-im-server
/// `pkg/common/servererrs/code.go`.
const KICKED: u32 = 1506;

impl Gateway {
    /// Looks at the answer to a request with an injected token, and acts if the token was refused.
    #[allow(clippy::too_many_arguments, reason = "one exchange, seen from all sides")]
    pub(super) async fn heal(
        &self,
        route: &Route,
        head: &mut RequestHeader,
        body: Option<&Bytes>,
        cx: &mut Context,
        notes: &mut Notes,
        snapshot: &Snapshot,
        answer: Answer,
    ) -> Result<Outgoing, Reject> {
        let Some(code) = refusal_of_token(&answer)? else {
            return Ok(Outgoing::Answer(answer));
        };
        let mut found = Box::pin(self.look_again(cx, snapshot)).await;
        if matches!(found, Fresh::Same) && code == KICKED {
            tokio::time::sleep(MINTING).await;
            found = Box::pin(self.look_again(cx, snapshot)).await;
        }
        match found {
            Fresh::Away(why) => self.unhealed(Heal::StoreAway, why),
            // An admin's token is nobody's own: whatever is wrong with it is ours to mend.
            Fresh::Gone if cx.acting_as.is_some() => self.unhealed(Heal::Gone, "admin_token_gone"),
            Fresh::Gone => {
                self.metrics.healed(Heal::Gone);
                Err(Reject::new(Cause::TokenMissing, "token_gone"))
            }
            Fresh::Same if code == KICKED && cx.acting_as.is_none() => {
                self.metrics.healed(Heal::Verdict);
                let to = snapshot.to(Some(route), notes.origin.as_ref(), cx.operation_id.value());
                Ok(Outgoing::Reply(reply::relay_verdict(KICKED, "TokenKickedError", to)))
            }
            Fresh::Same => self.unhealed(Heal::Unchanged, "token_refused"),
            Fresh::Other(token) => {
                inject_token::put(head, &token)?;
                cx.token = Some(token);
                let answer = self.ask_upstream(route, head, body, cx, notes, snapshot).await?;
                if refusal_of_token(&answer)?.is_some() {
                    return self.unhealed(Heal::StillRefused, "token_refused_again");
                }
                self.metrics.healed(Heal::Healed);
                notes.outcome.healed = true;
                Ok(Outgoing::Answer(answer))
            }
        }
    }

    fn unhealed(&self, result: Heal, reason: &'static str) -> Result<Outgoing, Reject> {
        self.metrics.healed(result);
        Err(Reject::new(Cause::StoreUnavailable, reason).with(Hint::RetryAfter(RETRY_AFTER)))
    }

    /// Reads the caller's token from the store, past the cache.
    async fn look_again(&self, cx: &Context, snapshot: &Snapshot) -> Fresh {
        let Some(used) = &cx.token else { return Fresh::Away("token_unresolved") };
        let found = match (&cx.acting_as, cx.user()) {
            (Some(admin), _) => snapshot.store.reread_admin_token(admin).await,
            (None, Some(user)) => {
                let record = snapshot.store.reread_user(&user.id).await;
                record.map(|record| record.token(user.platform).cloned())
            }
            (None, None) => return Fresh::Away("caller_unknown"),
        };
        match found {
            Ok(Some(token)) if token.expose() == used.expose() => Fresh::Same,
            Ok(Some(token)) => Fresh::Other(token),
            Ok(None) => Fresh::Gone,
            Err(why) => Fresh::Away(why.as_str()),
        }
    }
}

/// What a fresh look in the store found.
enum Fresh {
    /// Another token than the one OpenIM refused.
    Other(Arc<OpenimToken>),
    /// The same token.
    Same,
    /// No token.
    Gone,
    /// Nothing, for this reason.
    Away(&'static str),
}

/// The code by which OpenIM refused the token, if it did.
fn refusal_of_token(answer: &Answer) -> Result<Option<u32>, Reject> {
    // Identity was asked for; in anything else a refusal, and the token in its text, would be hidden.
    if answer.head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Reject::new(Cause::UpstreamUnreachable, "answer_encoded"));
    }
    let code = answer.err_code().and_then(|code| u32::try_from(code).ok());
    Ok(code.filter(|code| LOGOUT_CODES.contains(code)))
}

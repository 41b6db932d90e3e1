//! Who asks an upstream, as two numbers.

use std::net::IpAddr;

use imgate_filters::Context;
use imgate_identity::user::UserId;
use pingora_http::RequestHeader;

use crate::upstream::{Asker, Balance, Key, Upstream};

/// Whose request this is to that upstream.
pub(super) fn of(upstream: &Upstream, cx: &Context, head: &RequestHeader) -> Asker {
    let user = cx.user().map(|user| &user.id);
    let caller = match (user, cx.admin()) {
        (Some(user), _) => of_user(user),
        (None, Some(admin)) => Asker::hash(admin.subject.as_bytes()),
        (None, None) => of_address(cx.client),
    };
    let key = match &upstream.options.balance {
        Balance::LeastLoaded => caller,
        // Whoever says to be somebody else only changes which server does his work.
        Balance::Hash(Key::User) => user.or(cx.claimed_user.as_ref()).map_or(caller, of_user),
        Balance::Hash(Key::Address) => of_address(cx.client),
        Balance::Hash(Key::Header(name)) => {
            let value = head.headers.get(name);
            value.map_or_else(|| of_address(cx.client), |value| Asker::hash(value.as_bytes()))
        }
    };
    Asker { caller, key }
}

fn of_user(user: &UserId) -> u64 {
    Asker::hash(user.as_str().as_bytes())
}

/// One network of IPv6 is one caller: whoever has an address there has them all.
fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => Asker::hash(&v4.octets()),
        IpAddr::V6(v6) => Asker::hash(&v6.octets()[..8]),
    }
}

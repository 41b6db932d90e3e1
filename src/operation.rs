//! Who asks and under which name: the operation id and the client's address of a request.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use http::HeaderValue;
use imgate_filters::context::OperationId;
use imgate_filters::operation_id;
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;

use crate::front::trusted::TrustedProxies;

/// The client's operation id if it sent one that is usable and only one, else a new one.
pub fn of(head: &RequestHeader) -> OperationId {
    let mut values = head.headers.get_all(operation_id::HEADER).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => OperationId::from_client(only).unwrap_or_else(fresh_operation_id),
        _ => fresh_operation_id(),
    }
}

/// Makes an operation id that no other request of any gateway has: a random number per thread, and a
/// count.
pub fn fresh_operation_id() -> OperationId {
    thread_local! {
        static NEXT: Cell<(u64, u64)> = Cell::new((random_u64(), 0));
    }
    let (thread, count) = NEXT.with(|next| {
        let (thread, count) = next.get();
        next.set((thread, count.wrapping_add(1)));
        (thread, count)
    });
    let text = format!("ig-{thread:016x}-{count:x}");
    OperationId::generated(HeaderValue::from_str(&text).expect("hexadecimal digits are visible ASCII"))
}

fn random_u64() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // The standard hasher is seeded from the operating system; that makes it unique, not secret.
    RandomState::new().hash_one(std::thread::current().id())
}

/// The address a request came from, by its connection and by what trusted proxies say. A connection
/// without one, as of a Unix socket, counts as our own.
pub fn client(downstream: &ServerSession, head: &RequestHeader, trusted: &TrustedProxies) -> IpAddr {
    let address = downstream.client_addr().and_then(|address| address.as_inet());
    let peer = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |inet| inet.ip());
    trusted.client(peer, &head.headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(values: &[&str]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        for value in values {
            head.append_header("operationID", *value).unwrap();
        }
        head
    }

    #[test]
    fn a_usable_name_is_kept_and_any_other_replaced() {
        assert_eq!(of(&head(&["op-1"])).as_str(), "op-1");
        for unusable in [&[][..], &["a", "b"], &["a b"], &[""]] {
            assert!(of(&head(unusable)).as_str().starts_with("ig-"), "{unusable:?}");
        }
    }

    #[test]
    fn no_two_are_alike() {
        let here = fresh_operation_id();
        let there = std::thread::spawn(fresh_operation_id).join().unwrap();
        assert_ne!(here.as_str(), there.as_str());
        assert_ne!(here.as_str(), fresh_operation_id().as_str());
    }
}

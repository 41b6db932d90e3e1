//! How many connections clients may have: in all, and by address.
//!
//! A connection holds a [`Seat`] for as long as it lives, whatever becomes of it; dropping the seat, in
//! whatever way the task that holds it ends, gives the place free. Who finds no place is refused at once,
//! before anything is read. An address with no connection takes no memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

/// How much of an IPv6 address counts: what a subscriber is given at least, in bits.
///
/// Source: RFC 6177 section 2.
const SUBSCRIBER: u32 = 64;

/// How many connections clients may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// All of them together.
    pub total: usize,
    /// One address; an IPv6 network of 64 bits counts as one.
    pub per_address: usize,
}

impl Caps {
    /// No bound.
    pub const NONE: Self = Self { total: usize::MAX, per_address: usize::MAX };
}

/// Which cap is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// That of all connections.
    Total,
    /// That of this address.
    Address,
}

impl Full {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Total, Self::Address];

    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "connections",
            Self::Address => "connections_per_address",
        }
    }
}

/// The places of all listeners.
#[derive(Debug)]
pub struct Seats {
    total: AtomicUsize,
    per_address: AtomicUsize,
    taken: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize, RandomState>>,
}

impl Seats {
    /// So many places, all free.
    pub fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(caps.total),
            per_address: AtomicUsize::new(caps.per_address),
            taken: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// Has so many places from now on. Nobody loses one.
    pub fn set(&self, caps: Caps) {
        self.total.store(caps.total, Ordering::Relaxed);
        self.per_address.store(caps.per_address, Ordering::Relaxed);
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a place for a connection of which nobody knows yet whose it is.
    ///
    /// # Errors
    /// All are taken.
    pub fn take(self: &Arc<Self>) -> Result<Seat, Full> {
        let total = self.total.load(Ordering::Relaxed);
        let one_more = |taken: usize| (taken < total).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| Full::Total)?;
        Ok(Seat { seats: Arc::clone(self), address: None })
    }

    fn leave(&self, address: IpAddr) {
        let mut by_address = self.by_address.lock();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
            // After a flood the room it took is given back.
            if by_address.len() < by_address.capacity() / 8 {
                by_address.shrink_to(256);
            }
        }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    address: Option<IpAddr>,
}

impl Seat {
    /// Counts it for this address, and for no other any more.
    ///
    /// # Errors
    /// The address has as many as it may have.
    pub fn assign(&mut self, address: IpAddr) -> Result<(), Full> {
        if let Some(before) = self.address.take() {
            self.seats.leave(before);
        }
        let address = subscriber(address);
        let cap = self.seats.per_address.load(Ordering::Relaxed);
        let mut by_address = self.seats.by_address.lock();
        let count = by_address.entry(address).or_default();
        if *count >= cap {
            return Err(Full::Address);
        }
        *count += 1;
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.seats.leave(address);
        }
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What of an address counts.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - SUBSCRIBER))).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(seats: &Arc<Seats>, address: &str) -> Result<Seat, Full> {
        let mut seat = seats.take()?;
        seat.assign(address.parse().unwrap())?;
        Ok(seat)
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends_however() {
        let seats = Seats::new(Caps { total: 1, per_address: 1 });
        let first = seat(&seats, "192.0.2.1").unwrap();
        assert_eq!(seat(&seats, "192.0.2.2").unwrap_err(), Full::Total);
        drop(first);
        let panicking = Arc::clone(&seats);
        let ended = std::thread::spawn(move || {
            let _seat = seat(&panicking, "192.0.2.1").unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.join().is_err());
        assert_eq!(seats.taken(), 0);
        assert!(seat(&seats, "192.0.2.1").is_ok());
        assert!(seats.by_address.lock().is_empty());
    }

    #[test]
    fn an_address_has_its_share_and_leaves_the_rest() {
        let seats = Seats::new(Caps { total: 10, per_address: 2 });
        let held: Vec<Seat> = ["192.0.2.1", "::ffff:192.0.2.1"].map(|a| seat(&seats, a).unwrap()).into();
        assert_eq!(seat(&seats, "192.0.2.1").unwrap_err(), Full::Address);
        assert_eq!(seats.taken(), 2, "who is refused holds nothing");
        assert!(seat(&seats, "192.0.2.2").is_ok());
        drop(held);
        assert!(seat(&seats, "192.0.2.1").is_ok());
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_address() {
        let seats = Seats::new(Caps { total: 10, per_address: 1 });
        let _held = seat(&seats, "2001:db8:1:2:3::1").unwrap();
        assert_eq!(seat(&seats, "2001:db8:1:2:ffff::9").unwrap_err(), Full::Address);
        assert!(seat(&seats, "2001:db8:1:3::1").is_ok());
    }

    #[test]
    fn a_seat_that_changes_hands_counts_once() {
        let seats = Seats::new(Caps { total: 10, per_address: 1 });
        let mut moved = seat(&seats, "10.0.0.1").unwrap();
        moved.assign("192.0.2.1".parse().unwrap()).unwrap();
        assert!(seat(&seats, "10.0.0.1").is_ok());
        assert_eq!(seat(&seats, "192.0.2.1").unwrap_err(), Full::Address);
    }

    #[test]
    fn a_lower_cap_takes_no_place_away() {
        let seats = Seats::new(Caps::NONE);
        let held: Vec<Seat> = (0..3).map(|_| seat(&seats, "192.0.2.1").unwrap()).collect();
        seats.set(Caps { total: 3, per_address: 2 });
        assert_eq!(seats.take().unwrap_err(), Full::Total);
        seats.set(Caps { total: 4, per_address: 2 });
        assert_eq!(seat(&seats, "192.0.2.1").unwrap_err(), Full::Address);
        drop(held);
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn memory_is_given_back_after_a_flood() {
        let seats = Seats::new(Caps::NONE);
        let address = |i: u32| IpAddr::from(i.to_be_bytes());
        let held: Vec<Seat> = (0..50_000)
            .map(|i| {
                let mut seat = seats.take().unwrap();
                seat.assign(address(i)).unwrap();
                seat
            })
            .collect();
        drop(held);
        let by_address = seats.by_address.lock();
        assert!(by_address.is_empty() && by_address.capacity() < 2048, "{}", by_address.capacity());
    }
}

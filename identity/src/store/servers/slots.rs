//! The slots of a Redis Cluster: which one a key falls into, and who owns it.
//!
//! Source: Redis Cluster specification, "Key distribution model" and "Hash tags".

use std::sync::LazyLock;

use redis::Value;

use crate::store::address::Address;

/// How many slots there are.
pub(in crate::store) const SLOTS: u16 = 16384;

/// The most servers that may own slots. Source: the recommendation of the specification.
const MAX_OWNERS: usize = 1000;

/// CRC-16/XMODEM of every byte.
const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The slot of a key: of what stands between its first `{` and the next `}`, if anything does.
pub(in crate::store) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// For each slot, a number whose decimal digits fall into it.
static TAGS: LazyLock<Box<[u32]>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0_u32.. {
        let tag = &mut tags[usize::from(slot(&number.to_string()))];
        if tag.is_none() {
            *tag = Some(number);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().collect()
});

/// A hash tag that puts a key into this slot.
pub(in crate::store) fn tag(slot: u16) -> u32 {
    TAGS[usize::from(slot % SLOTS)]
}

/// Who owns which slots, in the eyes of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// The owners, each once, in order.
    pub(super) owners: Vec<Address>,
    /// For each slot the owner's place in `owners`; `None` if nobody owns it.
    slots: Box<[Option<u16>]>,
}

impl Map {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`, whose address stands for one that the
    /// answer leaves out. `None` if it cannot be read, or nobody owns any slot.
    pub(super) fn read(answer: Value, asked: &Address) -> Option<Self> {
        let Value::Array(entries) = answer else { return None };
        let ranges: Vec<_> = entries.into_iter().map(|entry| range(entry, asked)).collect::<Option<_>>()?;
        let mut owners: Vec<Address> = ranges.iter().map(|(_, _, owner)| owner.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        if owners.is_empty() || owners.len() > MAX_OWNERS {
            return None;
        }
        let mut slots = vec![None; usize::from(SLOTS)].into_boxed_slice();
        for (first, last, owner) in &ranges {
            let place = owners.binary_search(owner).ok().and_then(|place| u16::try_from(place).ok());
            slots.get_mut(usize::from(*first)..=usize::from(*last))?.fill(place);
        }
        Some(Self { owners, slots })
    }

    /// The place among the owners of who owns `slot`.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        self.slots.get(usize::from(slot)).copied().flatten().map(usize::from)
    }

    /// A slot of each owner, in their order.
    pub(super) fn samples(&self) -> impl Iterator<Item = Option<u16>> {
        (0..self.owners.len()).map(|place| (0..SLOTS).find(|slot| self.owner(*slot) == Some(place)))
    }
}

/// First slot, last slot, and the master's address; what follows are replicas.
fn range(entry: Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(entry) = entry else { return None };
    let mut entry = entry.into_iter();
    let (first, last) = (number(&entry.next()?)?, number(&entry.next()?)?);
    let Value::Array(master) = entry.next()? else { return None };
    let mut master = master.into_iter();
    let host = match master.next()? {
        Value::BulkString(host) => String::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => String::new(),
        _ => return None,
    };
    let host = if host.is_empty() { asked.host() } else { &host };
    let owner = Address::new(host, number(&master.next()?)?).ok()?;
    (first <= last && last < SLOTS).then_some((first, last, owner))
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_into_the_slots_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        let cases =
            [("foo", 12182), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015)];
        for (key, expected) in cases {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
    }

    #[test]
    fn every_slot_has_a_tag_of_its_own() {
        for number in 0..SLOTS {
            assert_eq!(slot(&format!("imgate:store{{{}}}", tag(number))), number);
        }
    }

    fn entry(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node.clone(), node])
    }

    #[test]
    fn a_map_is_read_or_refused_as_a_whole() {
        let asked = Address::parse("10.0.0.9:7000").unwrap();
        let host = |text: &str| Value::BulkString(text.into());
        let read = |entries: Vec<Value>| Map::read(Value::Array(entries), &asked);
        let map = read(vec![
            entry(8192, 16383, Value::Nil, 7001),
            entry(0, 99, host("10.0.0.1"), 7000),
            entry(200, 300, host("10.0.0.1"), 7000),
        ])
        .unwrap();
        let owners: Vec<String> = map.owners.iter().map(ToString::to_string).collect();
        assert_eq!(owners, ["10.0.0.1:7000", "10.0.0.9:7001"]);
        assert_eq!([map.owner(99), map.owner(100), map.owner(16383)], [Some(0), None, Some(1)]);
        assert_eq!(map.samples().collect::<Vec<_>>(), [Some(0), Some(8192)]);
        for bad in
            [entry(5, 4, host("h"), 1), entry(0, 16384, host("h"), 1), entry(0, 1, host("?"), 1), Value::Nil]
        {
            assert_eq!(read(vec![bad]), None);
        }
        assert_eq!(read(Vec::new()), None);
    }
}

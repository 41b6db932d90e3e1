//! Headers as load balancers send them, headers as nobody should, and what holds for any bytes.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

const V4: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xc3, 0x50, 0x01, 0xbb];

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend(value);
    bytes
}

fn client(address: &str) -> Result<Progress, Malformed> {
    Ok(Progress::Done(Origin::Client(address.parse().unwrap())))
}

const ITSELF: Result<Progress, Malformed> = Ok(Progress::Done(Origin::Itself));

#[test]
fn a_line_names_the_client() {
    let parse = |line: &str| parse(format!("{line}\r\n").as_bytes());
    assert_eq!(parse("PROXY TCP4 203.0.113.7 192.0.2.1 50000 443"), client("203.0.113.7:50000"));
    assert_eq!(parse("PROXY TCP6 2001:db8::7 2001:db8::1 0 443"), client("[2001:db8::7]:0"));
    assert_eq!(parse("PROXY TCP6 ::ffff:203.0.113.7 ::1 50000 443"), client("203.0.113.7:50000"));
    assert_eq!(parse("PROXY UNKNOWN"), ITSELF);
    assert_eq!(parse("PROXY UNKNOWN 203.0.113.7 192.0.2.1 50000 443"), ITSELF);
}

#[test]
fn a_line_that_says_something_else_is_refused() {
    for line in [
        "PROXY TCP4 203.0.113.7 192.0.2.1 50000",
        "PROXY TCP4 203.0.113.7 192.0.2.1 50000 443 ",
        "PROXY TCP4  203.0.113.7 192.0.2.1 50000 443",
        "PROXY TCP4 203.0.113.07 192.0.2.1 50000 443",
        "PROXY TCP4 203.0.113.7 192.0.2.1 050000 443",
        "PROXY TCP4 203.0.113.7 192.0.2.1 +5000 443",
        "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443",
        "PROXY TCP4 2001:db8::7 2001:db8::1 50000 443",
        "PROXY TCP6 203.0.113.7 192.0.2.1 50000 443",
        "PROXY TCP6 fe80::1%eth0 ::1 50000 443",
        "PROXY TCP4 203.0.113.7 elsewhere 50000 443",
        "PROXY UDP4 203.0.113.7 192.0.2.1 50000 443",
        "PROXY UNKNOWN \r x",
        "PROXY UNKNOWNX",
        "PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r",
    ] {
        assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    assert_eq!(parse(b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\n"), Err(Malformed::Line));
    assert_eq!(parse(&[WORD, &[b'x'; 102]].concat()), Err(Malformed::TooLong));
    assert_eq!(parse(&[WORD, &[b'x'; 200], b"\r\n"].concat()), Err(Malformed::TooLong));
}

#[test]
fn what_is_no_header_is_known_by_its_first_bytes() {
    for other in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\0", b"PRI * HTTP/2.0", b"\r\n\r\n\r", b"PROXYX"]
    {
        assert_eq!(parse(other), Err(Malformed::Absent), "{other:?}");
    }
}

#[test]
fn a_binary_header_names_the_client() {
    assert_eq!(parse(&binary(0x21, 0x11, &V4)), client("203.0.113.7:50000"));
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    v6[33] = 80;
    assert_eq!(parse(&binary(0x21, 0x21, &v6)), client("[2001:db8::7]:80"));
    v6[..16].copy_from_slice(&"::ffff:203.0.113.7".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(parse(&binary(0x21, 0x21, &v6)), client("203.0.113.7:80"));
}

#[test]
fn whoever_has_no_address_to_name_speaks_for_itself() {
    // Of a health check and of an unspecified family nothing else is read.
    assert_eq!(parse(&binary(0x20, 0x00, &[])), ITSELF);
    assert_eq!(parse(&binary(0x20, 0x11, &V4)), ITSELF);
    assert_eq!(parse(&binary(0x20, 0xff, &[1, 2, 3])), ITSELF);
    assert_eq!(parse(&binary(0x21, 0x00, &[9; 5])), ITSELF);
    assert_eq!(parse(&binary(0x21, 0x12, &V4)), ITSELF);
    assert_eq!(parse(&binary(0x21, 0x22, &[0; 36])), ITSELF);
    assert_eq!(parse(&binary(0x21, 0x31, &[0; 216])), ITSELF);
}

#[test]
fn a_head_of_no_known_kind_is_refused() {
    for (command, family, length) in [
        (0x11, 0x11, 12),
        (0x22, 0x11, 12),
        (0x2f, 0x11, 12),
        (0x21, 0x10, 12),
        (0x21, 0x13, 12),
        (0x21, 0x41, 12),
        (0x21, 0x11, 11),
        (0x21, 0x21, 35),
        (0x21, 0x31, 215),
        (0x21, 0x12, 11),
    ] {
        let header = binary(command, family, &vec![0; length]);
        assert_eq!(parse(&header), Err(Malformed::Head), "{command:x} {family:x} {length}");
    }
    assert_eq!(parse(&binary(0x21, 0x11, &[0; LONGEST_V2])), Err(Malformed::TooLong));
}

#[test]
fn extensions_are_skipped_and_must_fit() {
    let with = |extensions: &[u8]| parse(&binary(0x21, 0x11, &[&V4, extensions].concat()));
    let known = [extension(1, b"h2"), extension(4, b""), extension(0xea, &[1; 30])].concat();
    assert_eq!(with(&known), client("203.0.113.7:50000"));
    for broken in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 0xff, 0xff, 0], &[4, 0, 0, 9]] {
        assert_eq!(with(broken), Err(Malformed::Extension), "{broken:?}");
    }
    assert_eq!(with(&extension(TLV_CRC32C, &[0; 3])), Err(Malformed::Extension));
}

#[test]
fn a_checksum_that_is_there_must_be_right() {
    let sealed = |tweak: u32| {
        let mut header = binary(0x21, 0x11, &[&V4[..], &extension(TLV_CRC32C, &[0; 4])].concat());
        let at = header.len() - 4;
        let sum = crc32c(&header, at) ^ tweak;
        header[at..].copy_from_slice(&sum.to_be_bytes());
        header
    };
    assert_eq!(parse(&sealed(0)), client("203.0.113.7:50000"));
    assert_eq!(parse(&sealed(1)), Err(Malformed::Checksum));
    let twice = [&V4[..], &extension(TLV_CRC32C, &[0; 4]), &extension(TLV_CRC32C, &[0; 4])].concat();
    assert_eq!(parse(&binary(0x21, 0x11, &twice)), Err(Malformed::Extension));
    // Source: RFC 3720 appendix B.4, 32 bytes of ascending numbers.
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>(), 99), 0x46dd_794e);
}

fn at_port(from: &str) -> ProxyProtocol {
    let written: imgate_filters::networks::WrittenNetworks =
        serde_saphyr::from_str(&format!("addresses: [{from}]")).unwrap();
    let from =
        Arc::new(written.read(&imgate_filters::folder::Folder::new(std::path::Path::new(""))).unwrap());
    ProxyProtocol { from, timeout: Duration::from_millis(50) }
}

#[tokio::test]
async fn nothing_behind_the_header_is_taken() {
    let peer = "10.0.0.1:1".parse().unwrap();
    let line = b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n".to_vec();
    for header in [line, binary(0x21, 0x11, &V4)] {
        let (mut here, mut there) = tokio::io::duplex(1024);
        there.write_all(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await.unwrap();
        let client = at_port("10.0.0.0/8").client(&mut here, peer).await.unwrap();
        assert_eq!(client, "203.0.113.7:50000".parse().unwrap());
        let mut rest = [0; 16];
        here.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"GET / HTTP/1.1\r\n");
    }
}

#[tokio::test]
async fn a_stranger_a_late_and_a_cut_header_are_refused() {
    let peer = "10.0.0.1:1".parse().unwrap();
    let (mut here, mut there) = tokio::io::duplex(1024);
    let stranger = at_port("192.0.2.0/24").client(&mut here, peer).await.unwrap_err();
    assert_eq!(stranger.as_str(), "proxy_protocol_stranger");
    there.write_all(&binary(0x21, 0x11, &V4)[..20]).await.unwrap();
    let late = at_port("10.0.0.1").client(&mut here, peer).await.unwrap_err();
    assert_eq!(late.as_str(), "proxy_protocol_late");
    there.write_all(&binary(0x21, 0x11, &V4)[..20]).await.unwrap();
    drop(there);
    let gone = at_port("10.0.0.1").client(&mut here, peer).await.unwrap_err();
    assert_eq!(gone.as_str(), "proxy_protocol_gone");
}

#[tokio::test]
async fn a_health_check_comes_from_the_load_balancer() {
    let peer = "10.0.0.1:7".parse().unwrap();
    let (mut here, mut there) = tokio::io::duplex(1024);
    there.write_all(&binary(0x20, 0x00, &[])).await.unwrap();
    assert_eq!(at_port("10.0.0.1").client(&mut here, peer).await.unwrap(), peer);
}

/// Feeds bytes as the parser asks for them; how many it took, and what came of it.
fn fed(bytes: &[u8]) -> (usize, Result<Progress, Malformed>) {
    let mut taken = 0;
    loop {
        match parse(&bytes[..taken]) {
            Ok(Progress::Needs(more)) if taken + more <= bytes.len() => {
                assert!(more > 0);
                taken += more;
            }
            other => return (taken, other),
        }
    }
}

proptest! {
    #[test]
    fn any_client_is_read_back_from_both_versions(address: IpAddr, port: u16, behind: Vec<u8>) {
        let source = SocketAddr::new(address.to_canonical(), port);
        let (word, family, octets) = match address {
            IpAddr::V4(v4) => ("TCP4", 0x11, v4.octets().to_vec()),
            IpAddr::V6(v6) => ("TCP6", 0x21, v6.octets().to_vec()),
        };
        let line = format!("PROXY {word} {address} {address} {port} 1\r\n").into_bytes();
        let pair = [&octets[..], &octets, &port.to_be_bytes(), &[0, 1]].concat();
        for header in [line, binary(0x21, family, &pair)] {
            let whole = [&header[..], &behind].concat();
            prop_assert_eq!(fed(&whole), (header.len(), Ok(Progress::Done(Origin::Client(source)))));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_ask_for_more_than_a_header(bytes: Vec<u8>, v2: bool) {
        let start = if v2 { &SIGNATURE[..] } else { WORD };
        for bytes in [bytes.clone(), [start, &bytes].concat()] {
            if let (taken, Ok(Progress::Needs(more))) = fed(&bytes) {
                prop_assert!(taken + more <= LONGEST_V2);
            }
        }
    }
}

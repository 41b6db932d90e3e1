//! The signature base: the text that is signed, handed on piece by piece.
//!
//! Source: RFC 9421 section 2.5.

/// One covered component.
pub(super) struct Line<'a> {
    /// The identifier as serialised, quotes included.
    pub(super) id: &'static str,
    /// The value, in up to two pieces so that nobody has to join them.
    pub(super) value: [&'a str; 2],
}

impl<'a> Line<'a> {
    /// A line whose value is in one piece.
    pub(super) fn new(id: &'static str, value: &'a str) -> Self {
        Self { id, value: [value, ""] }
    }
}

/// Hands the signature base of `lines` and `params` to `sink`, in order.
pub(super) fn feed<'a>(lines: impl IntoIterator<Item = Line<'a>>, params: &str, mut sink: impl FnMut(&[u8])) {
    for line in lines {
        sink(line.id.as_bytes());
        sink(b": ");
        for piece in line.value {
            sink(piece.as_bytes());
        }
        sink(b"\n");
    }
    sink(b"\"@signature-params\": ");
    sink(params.as_bytes());
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::Sha256;

    use super::*;

    fn text<'a>(lines: impl IntoIterator<Item = Line<'a>>, params: &str) -> String {
        let mut base = Vec::new();
        feed(lines, params, |piece| base.extend_from_slice(piece));
        String::from_utf8(base).unwrap()
    }

    /// Source: RFC 9421 appendix B.2.5, with the key of B.1.5.
    #[test]
    fn the_hmac_example_of_the_rfc_holds() {
        let key = STANDARD
            .decode(
                "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==",
            )
            .unwrap();
        let lines = || {
            [
                Line::new("\"date\"", "Tue, 20 Apr 2021 02:07:55 GMT"),
                Line::new("\"@authority\"", "example.com"),
                Line::new("\"content-type\"", "application/json"),
            ]
        };
        let params = r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;

        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        feed(lines(), params, |piece| mac.update(piece));

        assert_eq!(
            text(lines(), params),
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
             \"@authority\": example.com\n\
             \"content-type\": application/json\n\
             \"@signature-params\": (\"date\" \"@authority\" \"content-type\")\
             ;created=1618884473;keyid=\"test-shared-secret\""
        );
        assert_eq!(
            STANDARD.encode(mac.finalize().into_bytes()),
            "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="
        );
    }

    /// Source: RFC 9421 appendix B.2.6, with the key of B.1.4.
    #[test]
    fn the_ed25519_example_of_the_rfc_holds_over_our_base() {
        let lines = [
            Line::new("\"date\"", "Tue, 20 Apr 2021 02:07:55 GMT"),
            Line::new("\"@method\"", "POST"),
            Line::new("\"@path\"", "/foo"),
            Line::new("\"@authority\"", "example.com"),
            Line::new("\"content-type\"", "application/json"),
            Line::new("\"content-length\"", "18"),
        ];
        let params = r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
        let key =
            jsonwebtoken::DecodingKey::from_ed_components("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs")
                .unwrap();
        let signature =
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw";

        let base = text(lines, params);

        let verdict =
            jsonwebtoken::crypto::verify(signature, base.as_bytes(), &key, jsonwebtoken::Algorithm::EdDSA);
        assert_eq!(verdict, Ok(true));
    }

    /// Source: RFC 9421 appendices B.2.1, B.2.2 and B.2.3.
    #[test]
    fn the_bases_of_the_rfc_are_spelled_byte_for_byte() {
        let digest = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwE\
                      mTHWXvJwew==:";
        let minimal = r#"();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#;
        assert_eq!(text([], minimal), format!("\"@signature-params\": {minimal}"));

        let selective = r#"("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#;
        let lines = [
            Line::new("\"@authority\"", "example.com"),
            Line::new("\"content-digest\"", digest),
            Line::new("\"@query-param\";name=\"Pet\"", "dog"),
        ];
        assert_eq!(
            text(lines, selective),
            format!(
                "\"@authority\": example.com\n\"content-digest\": {digest}\n\
                 \"@query-param\";name=\"Pet\": dog\n\"@signature-params\": {selective}"
            )
        );

        let full = r#"("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#;
        let lines = [
            Line::new("\"date\"", "Tue, 20 Apr 2021 02:07:55 GMT"),
            Line::new("\"@method\"", "POST"),
            Line::new("\"@path\"", "/foo"),
            Line { id: "\"@query\"", value: ["?", "param=Value&Pet=dog"] },
            Line::new("\"@authority\"", "example.com"),
            Line::new("\"content-type\"", "application/json"),
            Line::new("\"content-digest\"", digest),
            Line::new("\"content-length\"", "18"),
        ];
        assert_eq!(
            text(lines, full),
            format!(
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
                 \"@query\": ?param=Value&Pet=dog\n\"@authority\": example.com\n\
                 \"content-type\": application/json\n\"content-digest\": {digest}\n\
                 \"content-length\": 18\n\"@signature-params\": {full}"
            )
        );
    }

    /// Source: RFC 4231 sections 4.2 to 4.8, without the truncated case 5.
    #[test]
    fn hmac_sha256_is_the_rfc_s() {
        let cases: [(&[u8], &[u8], &str); 6] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (
                &std::array::from_fn::<u8, 25, _>(|i| i as u8 + 1),
                &[0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. \
                  The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, data, expected) in cases {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.update(data);
            assert_eq!(hex(&mac.finalize().into_bytes()), expected);
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}

//! 32 bytes as text, each in exactly one spelling.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Deserialize;

/// How 32 bytes, a MAC or a digest, are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 64 characters of lower-case hex.
    Hex,
    /// 44 characters of standard base64, padded.
    Base64,
    /// 43 characters of URL-safe base64, not padded.
    Base64url,
}

/// The characters of 32 bytes, on the stack.
pub(super) struct Text([u8; 64], usize);

impl Text {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0[..self.1]).unwrap_or_default()
    }
}

impl Encoding {
    /// Whether the byte may stand in such a text.
    pub(super) fn admits(self, byte: u8) -> bool {
        match self {
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Self::Base64url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        }
    }

    /// Writes the bytes.
    pub(super) fn encode(self, bytes: &[u8; 32]) -> Text {
        let mut text = [0; 64];
        let written = match self {
            Self::Hex => {
                for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
                    pair[0] = hex_digit(byte >> 4);
                    pair[1] = hex_digit(byte & 15);
                }
                Ok(64)
            }
            Self::Base64 => STANDARD.encode_slice(bytes, &mut text),
            Self::Base64url => URL_SAFE_NO_PAD.encode_slice(bytes, &mut text),
        };
        Text(text, written.expect("no spelling of 32 bytes is longer than 64 characters"))
    }

    /// Reads the one spelling of 32 bytes.
    pub(super) fn decode(self, text: &str) -> Option<[u8; 32]> {
        // 33 bytes, because 44 characters could hold as many.
        let mut bytes = [0; 33];
        let read = match self {
            Self::Hex if text.len() == 64 => {
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    *byte = (hex_value(pair[0])? << 4) | hex_value(pair[1])?;
                }
                Some(32)
            }
            // These engines refuse stray bits and any padding but the canonical one.
            Self::Base64 if text.len() == 44 => STANDARD.decode_slice(text, &mut bytes).ok(),
            Self::Base64url if text.len() == 43 => URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok(),
            _ => None,
        };
        if read == Some(32) { bytes.first_chunk().copied() } else { None }
    }
}

fn hex_digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Encoding; 3] = [Encoding::Hex, Encoding::Base64, Encoding::Base64url];

    #[test]
    fn what_is_written_is_read_back() {
        for (encoding, first) in ALL.into_iter().zip(["fbff", "+/+/", "-_-_"]) {
            let mut bytes = [0xfb; 32];
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = [0xfb, 0xff, 0xbf][i % 3];
            }
            let text = encoding.encode(&bytes);
            assert!(text.as_str().starts_with(first), "{}", text.as_str());
            assert!(text.as_str().bytes().all(|byte| encoding.admits(byte)));
            assert_eq!(encoding.decode(text.as_str()), Some(bytes));
        }
    }

    #[test]
    fn there_is_no_second_spelling() {
        let bytes = [0xab; 32];
        for encoding in ALL {
            let text = encoding.encode(&bytes).as_str().to_owned();
            for at in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut other = text.clone().into_bytes();
                    other[at] = byte;
                    let Ok(other) = String::from_utf8(other) else { continue };
                    let same = encoding.decode(&other) == Some(bytes);
                    assert_eq!(same, other == text, "{other}");
                }
            }
            for other in [format!("{text}="), format!("{text} "), text[1..].to_owned(), String::new()] {
                assert_eq!(encoding.decode(&other), None, "{other}");
            }
        }
    }
}

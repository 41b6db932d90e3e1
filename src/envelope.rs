//! OpenIM's envelope, `{"errCode":0,"errMsg":"","errDlt":"","data":...}`: reading its code, writing one.

use serde::{Deserialize, Serialize};

/// Reads `errCode` of an answer; `None` if the body is no envelope.
pub fn err_code(body: &[u8]) -> Option<i64> {
    // OpenIM writes the code first, so nearly every answer is decided by its first bytes.
    if let Some(rest) = body.strip_prefix(b"{\"errCode\":") {
        let end = rest.iter().position(|b| *b == b',' || *b == b'}')?;
        if let Some(code) = std::str::from_utf8(&rest[..end]).ok().and_then(|digits| digits.parse().ok()) {
            return Some(code);
        }
    }
    #[derive(Deserialize)]
    struct Code {
        #[serde(rename = "errCode")]
        err_code: i64,
    }
    serde_json::from_slice::<Code>(body).ok().map(|c| c.err_code)
}

/// Writes an envelope without data.
pub fn write(err_code: u32, err_msg: &str, err_dlt: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope<'a> {
        err_code: u32,
        err_msg: &'a str,
        err_dlt: &'a str,
    }
    serde_json::to_vec(&Envelope { err_code, err_msg, err_dlt })
        .expect("strings and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_wherever_it_stands() {
        let cases: [(&[u8], Option<i64>); 8] = [
            (br#"{"errCode":0,"errMsg":""}"#, Some(0)),
            (br#"{"errCode":1506}"#, Some(1506)),
            (br#"{"errMsg":"a","errCode":1501,"errDlt":""}"#, Some(1501)),
            (br#"{ "errCode" : 7 }"#, Some(7)),
            (br#"{"data":{"errCode":1501}}"#, None),
            (b"404 page not found", None),
            (b"{\"errCode\":", None),
            (b"", None),
        ];
        for (body, code) in cases {
            assert_eq!(err_code(body), code, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn an_envelope_is_what_openim_would_write() {
        assert_eq!(write(20101, "X", "a \"b\""), br#"{"errCode":20101,"errMsg":"X","errDlt":"a \"b\""}"#);
    }
}

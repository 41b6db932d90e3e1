//! Whether this build can verify at all, found out before it has to.
//!
//! The library picks its cryptography by features at run time, and a wrong pick shows with the first
//! token. So each algorithm must take a published signature, and refuse it with one bit turned.

use std::sync::OnceLock;

use super::algorithm::Algorithm;
use super::compact::Parts;
use super::key_set::KeySet;

struct Example {
    algorithm: Algorithm,
    /// A JWKS; for HS256 the secret in base64url.
    keys: &'static str,
    token: &'static str,
}

/// Source: RFC 8037 appendix A.4, RFC 7515 appendices A.3, A.2 and A.1.
const EXAMPLES: [Example; 4] = [
    Example {
        algorithm: Algorithm::EdDsa,
        keys: r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        token: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc\
            .hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    },
    Example {
        algorithm: Algorithm::Es256,
        keys: r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
        token: "eyJhbGciOiJFUzI1NiJ9\
            .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
            .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    },
    Example {
        algorithm: Algorithm::Rs256,
        keys: r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#,
        token: "eyJhbGciOiJSUzI1NiJ9\
            .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
            .cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5\
            jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07\
            Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI\
            8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    },
    Example {
        algorithm: Algorithm::Hs256,
        keys: "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        token: "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
            .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
            .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    },
];

/// Runs once in a process; later calls repeat the outcome.
///
/// # Errors
/// The algorithm that failed.
pub(super) fn run() -> Result<(), Algorithm> {
    static OUTCOME: OnceLock<Result<(), Algorithm>> = OnceLock::new();
    *OUTCOME.get_or_init(|| {
        EXAMPLES.iter().try_for_each(|example| example.holds().then_some(()).ok_or(example.algorithm))
    })
}

impl Example {
    fn holds(&self) -> bool {
        let Some(keys) = self.keys() else { return false };
        let Ok(key) = keys.choose(None) else { return false };
        let Ok(parts) = Parts::split(self.token.as_bytes()) else { return false };
        let mut turned = parts.signed.to_vec();
        // The last bit of the first letter: still text, no longer what was signed.
        turned[0] ^= 1;
        key.verify(parts.signed, parts.signature).is_ok() && key.verify(&turned, parts.signature).is_err()
    }

    fn keys(&self) -> Option<KeySet> {
        if self.algorithm.is_symmetric() {
            return KeySet::from_secret(&super::compact::decode(self.keys).ok()?).ok();
        }
        KeySet::from_jwks(self.keys.as_bytes(), &[self.algorithm]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_takes_its_published_signature() {
        for example in &EXAMPLES {
            assert!(example.holds(), "{}", example.algorithm);
        }
        assert_eq!(EXAMPLES.each_ref().map(|example| example.algorithm), Algorithm::ALL);
    }

    #[test]
    fn a_broken_signature_would_be_noticed() {
        let [ed, ..] = &EXAMPLES;
        let token: &'static str = ed.token.replace("hgyY", "hgyZ").leak();
        assert!(!Example { token, keys: ed.keys, algorithm: ed.algorithm }.holds());
    }
}

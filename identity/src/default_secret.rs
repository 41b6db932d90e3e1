//! Whether OpenIM signs its tokens with a secret that everybody knows.
//!
//! Whoever knows the secret makes a token of any user, and of any admin, and needs no gateway's leave.
//! Two ways to find out: a token that OpenIM minted verifies under such a secret, or OpenIM takes the
//! signature of one that was made with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::OpenimToken;
use crate::user::{Platform, UserId};

/// The secrets OpenIM's servers are shipped with.
///
/// Source: open-im-server `config/share.yml` (`secret`), and `config/config.yaml` before v3.5.
pub const DEFAULT_SECRETS: [&str; 1] = ["openIM123"];

/// How long a token of ours would live, in seconds; it is only shown to be looked at.
const LIFE: u64 = 60;

/// Finds the default secret under which OpenIM signed this token, if it is one of them.
pub fn signed_under(token: &OpenimToken) -> Option<&'static str> {
    let (signed, signature) = token.expose().rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    DEFAULT_SECRETS.into_iter().find(|secret| mac(secret, signed).verify_slice(&signature).is_ok())
}

/// Makes a token as an OpenIM with this secret would, but does not leave it where OpenIM looks tokens
/// up: such an OpenIM says that it does not exist, any other that its signature is wrong.
///
/// Source: openimsdk/tools `tokenverify/jwt_token.go`.
pub fn token_as_if(secret: &str, user: &UserId, platform: Platform, now: UnixTime) -> Secret<String> {
    let claims = json!({
        "UserID": user.as_str(),
        "PlatformID": platform.number(),
        "exp": now.0 + LIFE,
        "iat": now.0.saturating_sub(5),
    });
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(mac(secret, &signed).finalize().into_bytes());
    Secret::new(format!("{signed}.{signature}"))
}

fn mac(secret: &str, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_to_be_signed_with_a_default_secret_or_not() {
        let user = UserId::parse("ann").unwrap();
        let platform = Platform::try_from(5).unwrap();
        let signed_with = |secret: &str| {
            let raw = token_as_if(secret, &user, platform, UnixTime::now());
            signed_under(&OpenimToken::read(raw.expose(), &user, Some(platform)).unwrap())
        };
        assert_eq!(signed_with("openIM123"), Some("openIM123"));
        assert_eq!(signed_with("openIM1234"), None);
    }
}

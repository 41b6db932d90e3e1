//! OpenIM's tokens: HS256 JWTs whose state (normal, kicked, ..) is kept beside them.
//!
//! Nothing but the signature and the state decides: two mints in one second are byte-identical, and a token that
//! was never stored does not exist however well it is signed. The released line never looks up admin tokens.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::envelope::{Code, Failure};
use crate::json::Body;
use crate::options::{Line, MultiLogin, Options};

/// The platform of admin tokens.
pub const ADMIN_PLATFORM: i64 = 10;

/// How far `iat` lies behind the clock of the minter.
///
/// Source: openimsdk/tools `tokenverify/jwt_token.go`.
const ISSUED_BEFORE: u64 = 5;

/// How long a replaced admin token stays valid on the development line.
///
/// Source: open-im-server `pkg/common/storage/cache/redis/token.go`, temporary keys.
const RETIREMENT: Duration = Duration::from_secs(300);

/// How many tokens one platform may hold when nobody is kicked by policy.
///
/// Source: open-im-server `config/share.yml`, `multiLogin.maxNumOneEnd`.
const MAX_PER_PLATFORM: usize = 30;

/// The claims of a token, named as OpenIM names them; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The user.
    #[serde(rename = "UserID")]
    pub user_id: String,
    /// The platform, 1 to 11.
    #[serde(rename = "PlatformID")]
    pub platform_id: i64,
    /// When it ends.
    pub exp: u64,
    /// When it was issued.
    pub iat: u64,
    /// When it starts; absent in the tokens OpenIM mints today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
}

/// The state OpenIM keeps for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// State 0: usable.
    Normal,
    /// State 1: refused with 1505.
    Invalid,
    /// State 2: refused with 1506.
    Kicked,
    /// State 3: refused with 1505.
    Expired,
}

#[derive(Clone, Copy)]
struct Entry {
    state: TokenState,
    retires: Option<Instant>,
    minted: u64,
}

/// Who holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) user: String,
    pub(crate) platform: i64,
    pub(crate) expires: u64,
}

/// The state of all tokens, per user and platform.
#[derive(Default)]
pub(crate) struct TokenBook {
    entries: HashMap<(String, i64), HashMap<String, Entry>>,
    expired: HashSet<String>,
    mints: u64,
}

impl TokenBook {
    /// Mints a token and kicks the older ones as the policy says.
    pub(crate) fn mint(&mut self, user: &str, platform: i64, options: &Options) -> String {
        let now = unix_now();
        let claims = Claims {
            user_id: user.to_owned(),
            platform_id: platform,
            exp: now + options.token_lifetime.as_secs(),
            iat: now.saturating_sub(ISSUED_BEFORE),
            nbf: None,
        };
        let token = sign(&claims, &options.secret);
        let admin = is_admin(user, options);
        if admin && options.line == Line::P16 {
            return token;
        }
        self.mints += 1;
        let entry = Entry { state: TokenState::Normal, retires: None, minted: self.mints };
        let siblings = self.entries.entry((user.to_owned(), platform)).or_default();
        siblings.insert(token.clone(), entry);
        match (admin, options.multi_login_policy) {
            (true, _) => retire_others(siblings, &token),
            (false, MultiLogin::KickSamePlatform) => kick_others(siblings, &token),
            (false, MultiLogin::Coexist) => kick_oldest(siblings),
        }
        token
    }

    /// Says whose token it is.
    ///
    /// # Errors
    /// The failure OpenIM gives, 1501 or 1503 to 1507.
    pub(crate) fn parse(&self, token: &str, options: &Options) -> Result<Holder, Failure> {
        let holder = self.verify(token, options).map_err(|code| parse_failure(code, token, options.line))?;
        if options.line == Line::P16 && is_admin(&holder.user, options) {
            return Ok(holder);
        }
        let entry = self.entry(&holder, token).ok_or_else(|| state_failure(Code::TokenNotExist))?;
        match entry.state {
            TokenState::Normal => Ok(holder),
            TokenState::Kicked => Err(state_failure(Code::TokenKicked)),
            TokenState::Invalid | TokenState::Expired => Err(state_failure(Code::TokenUnknown)),
        }
    }

    /// Kicks every token a user holds on a platform, or every one but the kept.
    pub(crate) fn kick(&mut self, user: &str, platform: i64, keep: Option<&str>) {
        if let Some(siblings) = self.entries.get_mut(&(user.to_owned(), platform)) {
            kick_others(siblings, keep.unwrap_or_default());
        }
    }

    /// Treats a token as past its `exp` from now on.
    pub(crate) fn expire(&mut self, token: &str) {
        self.expired.insert(token.to_owned());
    }

    /// Overwrites the state of a token, storing it when it is not yet known.
    pub(crate) fn assign(&mut self, token: &str, state: TokenState) {
        let Ok((claims, _)) = decode(token) else { return };
        let key = (text(&claims, "UserID"), claims.number("PlatformID").unwrap_or_default());
        self.mints += 1;
        let entry = Entry { state, retires: None, minted: self.mints };
        self.entries.entry(key).or_default().insert(token.to_owned(), entry);
    }

    /// Lists the usable tokens of a user with their platforms.
    pub(crate) fn live(&self, user: &str) -> Vec<(i64, String)> {
        let of_user = self.entries.iter().filter(|((owner, _), _)| owner == user);
        of_user
            .flat_map(|((_, platform), tokens)| {
                tokens.iter().map(move |(token, entry)| (*platform, token, entry))
            })
            .filter(|(_, _, entry)| entry.state == TokenState::Normal)
            .map(|(platform, token, _)| (platform, token.clone()))
            .collect()
    }

    fn entry(&self, holder: &Holder, token: &str) -> Option<Entry> {
        let entry = *self.entries.get(&(holder.user.clone(), holder.platform))?.get(token)?;
        let retired = entry.retires.is_some_and(|end| end <= Instant::now());
        (!retired).then_some(entry)
    }

    /// Checks form, times and signature in the order of the library OpenIM uses: an expired forgery is expired.
    ///
    /// Source: golang-jwt v4 `parser.go`, tools `tokenverify/jwt_token.go`.
    fn verify(&self, token: &str, options: &Options) -> Result<Holder, Code> {
        let (claims, algorithm) = decode(token).map_err(|Undecodable| Code::TokenMalformed)?;
        let platform = claims.number("PlatformID").map_err(|_| Code::TokenMalformed)?;
        let user = claims.text("UserID").map_err(|_| Code::TokenMalformed)?.to_owned();
        if !KNOWN_ALGORITHMS.contains(&algorithm.as_str()) {
            return Err(Code::TokenUnknown);
        }
        let now = unix_now() as f64;
        let exp = claims.fraction("exp");
        if exp.is_some_and(|exp| now >= exp) || self.expired.contains(token) {
            return Err(Code::TokenExpired);
        }
        if claims.fraction("nbf").is_some_and(|nbf| now < nbf) {
            return Err(Code::TokenNotValidYet);
        }
        if claims.fraction("iat").is_some_and(|iat| now < iat)
            || !is_signed(token, &algorithm, &options.secret)
        {
            return Err(Code::TokenUnknown);
        }
        Ok(Holder { user, platform, expires: exp.unwrap_or_default() as u64 })
    }
}

/// The algorithms the library knows; any other header is refused before the times are looked at.
const KNOWN_ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384",
    "PS512", "EdDSA", "none",
];

/// Signs claims as OpenIM does, without storing the token.
pub fn sign(claims: &Claims, secret: &str) -> String {
    let payload = serde_json::to_vec(claims).expect("claims hold only strings and numbers");
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(mac(&signed, secret).finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// Tells whether a user is on the admin list.
pub(crate) fn is_admin(user: &str, options: &Options) -> bool {
    options.admins.iter().any(|admin| admin == user)
}

/// The seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

struct Undecodable;

fn decode(token: &str) -> Result<(Body, String), Undecodable> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Undecodable);
    };
    let header = decode_part(header)?;
    let algorithm = header.text("alg").map_err(|_| Undecodable)?.to_owned();
    Ok((decode_part(claims)?, algorithm))
}

fn decode_part(part: &str) -> Result<Body, Undecodable> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Undecodable)?;
    Body::read(&bytes).map_err(|_| Undecodable)
}

fn is_signed(token: &str, algorithm: &str, secret: &str) -> bool {
    let Some((signed, signature)) = token.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    algorithm == "HS256" && mac(signed, secret).verify_slice(&signature).is_ok()
}

fn mac(signed: &str, secret: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(signed.as_bytes());
    mac
}

fn text(claims: &Body, name: &str) -> String {
    claims.text(name).unwrap_or_default().to_owned()
}

/// The released line echoes the token into the detail; the development line does not.
fn parse_failure(code: Code, token: &str, line: Line) -> Failure {
    match line {
        Line::P16 => Failure::new(code, format!("jwt parse error, token={token}")),
        Line::Head => state_failure(code),
    }
}

fn state_failure(code: Code) -> Failure {
    Failure::new(code, code.message())
}

fn kick_others(siblings: &mut HashMap<String, Entry>, keep: &str) {
    for (token, entry) in siblings.iter_mut() {
        if token != keep && entry.state == TokenState::Normal {
            entry.state = TokenState::Kicked;
        }
    }
}

fn kick_oldest(siblings: &mut HashMap<String, Entry>) {
    let mut live: Vec<&mut Entry> =
        siblings.values_mut().filter(|entry| entry.state == TokenState::Normal).collect();
    live.sort_by_key(|entry| entry.minted);
    let surplus = live.len().saturating_sub(MAX_PER_PLATFORM);
    for entry in live.into_iter().take(surplus) {
        entry.state = TokenState::Kicked;
    }
}

fn retire_others(siblings: &mut HashMap<String, Entry>, keep: &str) {
    let end = Instant::now() + RETIREMENT;
    for (token, entry) in siblings.iter_mut() {
        if token != keep {
            entry.retires.get_or_insert(end);
        }
    }
}

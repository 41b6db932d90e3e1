//! What a token must say to be let in.

use std::time::Duration;

use super::claims::Wire;
use super::fault::Fault;
use crate::time::UnixTime;

/// The widest leeway between the issuer's clock and ours.
pub const MAX_LEEWAY: Duration = Duration::from_secs(10);

/// The `typ` that a token must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenType {
    /// None, or `JWT`.
    #[default]
    Plain,
    /// Exactly this one, so that no other token of the same issuer passes: `at+jwt` for access tokens
    /// of RFC 9068, or a name of the operator's own. Source: RFC 8725 section 3.11.
    Explicit(Box<str>),
}

/// What tokens are held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The exact `iss`.
    pub issuer: Box<str>,
    /// What `aud` must be or list.
    pub audience: Box<str>,
    /// The `typ`.
    pub token_type: TokenType,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
    /// The longest time a token may be valid, from `iat` to `exp`.
    pub max_age: Duration,
}

/// Why a policy makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// Tokens without an issuer would do.
    #[error("the issuer is empty")]
    Issuer,
    /// Tokens for nobody would do.
    #[error("the audience is empty")]
    Audience,
    /// No token has an empty type.
    #[error("the type is empty")]
    Type,
    /// A leeway so wide that it prolongs tokens.
    #[error("the leeway is above 10 s")]
    Leeway,
    /// No token could be valid.
    #[error("max_age is below 1 s")]
    MaxAge,
}

impl Policy {
    /// Checks that the policy means something.
    ///
    /// # Errors
    /// Issuer, audience or type is empty, the leeway is wider than [`MAX_LEEWAY`], or no token could
    /// be young enough.
    pub(super) fn check_sense(&self) -> Result<(), BadPolicy> {
        if self.issuer.is_empty() {
            return Err(BadPolicy::Issuer);
        }
        if self.audience.is_empty() {
            return Err(BadPolicy::Audience);
        }
        if matches!(&self.token_type, TokenType::Explicit(name) if name.is_empty()) {
            return Err(BadPolicy::Type);
        }
        if self.leeway > MAX_LEEWAY {
            return Err(BadPolicy::Leeway);
        }
        if self.max_age < Duration::from_secs(1) {
            return Err(BadPolicy::MaxAge);
        }
        Ok(())
    }

    /// Compares as media types are compared: without regard to case, `application/` left out.
    ///
    /// Source: RFC 7515 section 4.1.9.
    pub(super) fn check_type(&self, token_type: Option<&str>) -> Result<(), Fault> {
        let wanted = match &self.token_type {
            TokenType::Plain => "JWT",
            TokenType::Explicit(name) => name,
        };
        match token_type {
            None if self.token_type == TokenType::Plain => Ok(()),
            Some(found) if short(found).eq_ignore_ascii_case(short(wanted)) => Ok(()),
            _ => Err(Fault::Type),
        }
    }

    pub(super) fn check(&self, claims: &Wire, now: UnixTime) -> Result<(), Fault> {
        if claims.issuer != *self.issuer {
            return Err(Fault::Issuer);
        }
        if !claims.audience.iter().any(|audience| **audience == *self.audience) {
            return Err(Fault::Audience);
        }
        if now >= claims.expires_at.plus(self.leeway) {
            return Err(Fault::Expired);
        }
        let latest = now.plus(self.leeway);
        if claims.not_before.is_some_and(|nbf| nbf > latest) {
            return Err(Fault::NotYetValid);
        }
        if claims.issued_at > latest {
            return Err(Fault::NotYetIssued);
        }
        if claims.expires_at > claims.issued_at.plus(self.max_age) {
            return Err(Fault::TooLongLived);
        }
        Ok(())
    }
}

fn short(media_type: &str) -> &str {
    let long = media_type.split_at_checked("application/".len());
    match long {
        Some((front, rest)) if front.eq_ignore_ascii_case("application/") && !rest.contains('/') => rest,
        _ => media_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_lets_everything_in_is_refused() {
        let seconds = Duration::from_secs;
        let good = Policy {
            issuer: "i".into(),
            audience: "a".into(),
            token_type: TokenType::Plain,
            leeway: MAX_LEEWAY,
            max_age: seconds(1),
        };
        assert_eq!(good.check_sense(), Ok(()));
        let cases = [
            (Policy { issuer: "".into(), ..good.clone() }, BadPolicy::Issuer),
            (Policy { audience: "".into(), ..good.clone() }, BadPolicy::Audience),
            (Policy { token_type: TokenType::Explicit("".into()), ..good.clone() }, BadPolicy::Type),
            (Policy { leeway: MAX_LEEWAY + seconds(1), ..good.clone() }, BadPolicy::Leeway),
            (Policy { max_age: Duration::from_millis(999), ..good }, BadPolicy::MaxAge),
        ];
        for (policy, fault) in cases {
            assert_eq!(policy.check_sense(), Err(fault), "{policy:?}");
        }
    }
}

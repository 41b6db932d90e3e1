//! What the store holds for one user, and whether OpenIM takes it.

use imgate_identity::store::Tokens;
use imgate_identity::time::UnixTime;
use imgate_identity::user::UserId;

use super::admins::judge;
use super::report::Finding;
use super::targets::Targets;
use crate::cli::open;
use crate::config::Config;

const USER: &str = "user";

/// Looks at the user's ban and tokens.
pub(super) async fn examine(
    config: &Config,
    targets: &Targets<'_>,
    user: &UserId,
    is_usable: bool,
) -> Vec<Finding> {
    if !is_usable {
        return vec![Finding::skip(USER, "the store cannot be used")];
    }
    let Ok(writer) = open(config).await else {
        return vec![Finding::skip(USER, "the store is in the gateway's own memory")];
    };
    let known = match writer.user(user).await {
        Ok(known) => known,
        Err(error) => {
            let found = format!("what is stored of {user} cannot be used: {error}");
            return vec![Finding::fail(USER, found, "have the backend write it anew")];
        }
    };
    let mut findings = Vec::new();
    if known.ban.as_ref().is_some_and(|ban| ban.holds(UnixTime::now())) {
        findings.push(Finding::warn(USER, format!("{user} is banned"), "see `imgate ban show`"));
    }
    match &known.tokens {
        Tokens::None => findings.push(Finding::fail(
            USER,
            format!("no OpenIM token of {user} is stored"),
            "their requests are answered 1507, which logs them out: see `imgate token mint`",
        )),
        Tokens::One(token) => {
            findings.push(judge(USER, &format!("the token of {user}"), token, targets).await);
        }
        Tokens::PerPlatform(tokens) => {
            for token in tokens.iter().flatten() {
                let whose = format!("the token of {user} for {}", token.platform.name());
                findings.push(judge(USER, &whose, token, targets).await);
            }
        }
    }
    findings
}

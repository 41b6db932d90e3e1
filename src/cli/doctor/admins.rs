//! The tokens of OpenIM's admins, and whether anybody could make one.

use std::collections::BTreeSet;

use imgate_filters::FilterConfig;
use imgate_filters::step::Configured;
use imgate_identity::default_secret::{DEFAULT_SECRETS, signed_under, token_as_if};
use imgate_identity::store::Writer;
use imgate_identity::time::UnixTime;
use imgate_identity::token::OpenimToken;
use imgate_identity::user::{Platform, UserId};

use super::probe::parse_token;
use super::report::Finding;
use super::targets::Targets;
use crate::cli::open;
use crate::config::Config;

const SECRET: &str = "default secret";

const ADMIN: &str = "admin token";

/// How long before its end a token calls for a new one, in seconds.
const SOON: u64 = 7 * 24 * 60 * 60;

/// OpenIM's code for a token whose signature is wrong.
/// Source: open-im-server `pkg/common/servererrs/code.go`, `TokenUnknownError`.
const BAD_SIGNATURE: i64 = 1505;

/// OpenIM's code for a token that is signed well but was not minted by it: `TokenNotExistError`.
const NOT_MINTED: i64 = 1507;

/// What everybody knows who has read OpenIM's documentation.
const KNOWN_SECRET: &str = "anybody can make a token of any user and any admin: set `secret` in OpenIM's \
     config/share.yml\n(IMENV_SHARE_SECRET) to a long random text, restart OpenIM, and mint all tokens anew";

/// Shows OpenIM a token of nobody, signed with each secret that it is shipped with. Nothing is minted:
/// OpenIM only says whether the signature is right.
pub(super) async fn default_secret(targets: &Targets<'_>) -> Vec<Finding> {
    let nobody = UserId::parse("imgate-doctor").expect("letters and a dash");
    let web = Platform::try_from(5).expect("one of OpenIM's platforms");
    let mut findings = Vec::new();
    for target in targets.api() {
        for secret in DEFAULT_SECRETS {
            let token = token_as_if(secret, &nobody, web, UnixTime::now());
            let said = parse_token(&target.upstream, token.expose()).await;
            findings.push(match said.map(|said| said.code) {
                Ok(Some(BAD_SIGNATURE)) => {
                    Finding::ok(SECRET, format!("{} signs with a secret of its own", target.name))
                }
                Ok(Some(NOT_MINTED | 0)) => Finding::fail(
                    SECRET,
                    format!("{} signs tokens with the secret OpenIM is shipped with", target.name),
                    KNOWN_SECRET,
                ),
                _ => Finding::skip(SECRET, format!("{} does not say", target.name)),
            });
        }
    }
    findings
}

/// Looks at the stored token of every admin.
pub(super) async fn examine(config: &Config, targets: &Targets<'_>, is_usable: bool) -> Vec<Finding> {
    if !is_usable {
        return vec![Finding::skip(ADMIN, "the store cannot be used")];
    }
    let Ok(writer) = open(config).await else {
        return vec![Finding::skip(ADMIN, "the store is in the gateway's own memory")];
    };
    let needed = needed(config);
    let admins: BTreeSet<&UserId> = config.identity.admin_users.iter().chain(&needed).collect();
    let mut findings = Vec::new();
    for admin in admins {
        findings.push(match writer.admin_token(admin).await {
            Err(error) => Finding::fail(
                ADMIN,
                format!("the token of {admin} cannot be used: {error}"),
                "have the backend write it anew",
            ),
            Ok(None) if needed.contains(admin) => Finding::fail(
                ADMIN,
                format!("there is no token of {admin}, and a chain sends it"),
                "requests of that chain are answered 503 until the backend writes the token into the store",
            ),
            Ok(None) => Finding::skip(ADMIN, format!("none of {admin} is stored, and no chain sends one")),
            Ok(Some(token)) => judge(ADMIN, &format!("the token of {admin}"), &token, targets).await,
        });
    }
    findings
}

/// Reads the admin token to ask OpenIM with, if the store holds one.
pub(super) async fn any_token(config: &Config, writer: &Writer) -> Option<(UserId, String)> {
    let admins: BTreeSet<&UserId> = config.identity.admin_users.iter().collect();
    for admin in admins {
        if let Ok(Some(token)) = writer.admin_token(admin).await {
            return Some((admin.clone(), token.expose().to_owned()));
        }
    }
    None
}

/// The admins whose token some chain sends.
fn needed(config: &Config) -> BTreeSet<UserId> {
    let steps = config.chains.iter().flat_map(|chain| &chain.steps);
    let named = steps.filter_map(|step| match &step.step.filter {
        Configured::Ours(FilterConfig::InjectToken(inject)) => inject.acting_as.clone(),
        Configured::Ours(FilterConfig::ResolveToken(resolve)) => resolve.of.clone(),
        Configured::Ours(_) | Configured::Custom { .. } => None,
    });
    named.collect()
}

/// Says whether OpenIM takes a stored token, and for how long.
pub(super) async fn judge(
    check: &'static str,
    whose: &str,
    token: &OpenimToken,
    targets: &Targets<'_>,
) -> Finding {
    if signed_under(token).is_some() {
        return Finding::fail(check, format!("{whose} is signed with OpenIM's default secret"), KNOWN_SECRET);
    }
    let now = UnixTime::now();
    if token.expired(now) {
        return Finding::fail(
            check,
            format!("{whose} has expired"),
            "mint a new one and write it into the store",
        );
    }
    for target in targets.api() {
        if let Ok(said) = parse_token(&target.upstream, token.expose()).await
            && let Some(code) = said.code.filter(|code| *code != 0)
        {
            let found = format!("{} refuses {whose} with errCode {code}", target.name);
            return Finding::fail(check, found, refusal(code));
        }
    }
    let left = token.expires_at.0.saturating_sub(now.0);
    let days = left / (24 * 60 * 60);
    if left < SOON {
        return Finding::warn(
            check,
            format!("{whose} expires in {days} days"),
            "mint a new one before it does",
        );
    }
    Finding::ok(check, format!("{whose} is good for {days} days"))
}

/// What is behind OpenIM's refusal of a stored token.
fn refusal(code: i64) -> &'static str {
    match code {
        1505 => "it was signed with another secret, or OpenIM's clock is behind: mint a new one",
        1506 => "a newer token of the same platform was minted since: write that one into the store",
        1507 => "OpenIM has forgotten it, or is another OpenIM than the one that minted it: mint a new one",
        _ => "mint a new one and write it into the store",
    }
}

//! A chain: filters in the order the YAML gives, and the proof that this order makes sense.
//!
//! [`Chain::new`] refuses a list in which a fact is read before it is written. Nothing in a request
//! can shorten a chain: [`Chain::request`] has one loop and no way around it.

use std::sync::Arc;

use http::HeaderName;
use pingora_http::ResponseHeader;

use crate::context::{Context, Fact, Shadowed};
use crate::cors::Policy;
use crate::reject::Reject;
use crate::{BodyUse, BuildError, Credentials, Deps, Filter, Flow, Request, Rule, Shadow, Step};

/// A filter and the name it has in YAML, logs and metrics.
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The filter.
    pub filter: Box<dyn Filter>,
    /// Whether its refusals are only counted and logged.
    pub shadow: bool,
}

/// Why a list of filters is no chain. The index says which of them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The filter cannot be built.
    #[error("{cause}")]
    Build {
        /// Which one.
        index: usize,
        /// Why.
        cause: BuildError,
    },
    /// The filter reads what nothing before it writes.
    #[error("reads {}, but no filter before it writes that\nhint: {}", fact.as_str(), fact.remedy())]
    Unwritten {
        /// Which one.
        index: usize,
        /// What it reads.
        fact: Fact,
    },
    /// The filter writes what an earlier one wrote already.
    #[error("writes {} a second time\nhint: one filter of a chain decides that", fact.as_str())]
    Rewritten {
        /// Which one.
        index: usize,
        /// What it writes.
        fact: Fact,
    },
    /// The filter cannot run in shadow mode.
    #[error(
        "cannot run in shadow mode\nhint: only a filter that does nothing but refuse can; others lean on what this one does"
    )]
    Shadowed {
        /// Which one.
        index: usize,
    },
    /// A user would act with an admin's power on whomever the body names.
    #[error(
        "lets a user act with an OpenIM admin's token\nhint: put bind_identity above it, so that the body names nobody but the caller"
    )]
    Unbound {
        /// Which one.
        index: usize,
    },
    /// The client's own credential would go on beside the token.
    #[error("sends OpenIM's token beside the client's own credential\nhint: put strip_credentials above it")]
    Unstripped {
        /// Which one.
        index: usize,
    },
    /// The filter stands where it undoes another's work.
    #[error("strips what is read or injected elsewhere in the chain\nhint: {hint}")]
    Misplaced {
        /// Which one.
        index: usize,
        /// Where it belongs.
        hint: &'static str,
    },
    /// The filter edits a header that a later one verifies.
    #[error(
        "edits headers of the request before `{reader}` has read the credentials in them\nhint: put it below {reader}"
    )]
    EarlyEdit {
        /// Which one.
        index: usize,
        /// The filter that reads them.
        reader: &'static str,
    },
    /// The filter bounds a body that is read already.
    #[error("bounds a body that `{reader}` has read already\nhint: put it above {reader}")]
    LateLimit {
        /// Which one.
        index: usize,
        /// The filter that read it.
        reader: &'static str,
    },
    /// What its route allows a caller would be done to a path that the route does not name.
    #[error(
        "changes the path of requests with a bound body or an injected token\nhint: name OpenIM's own path in the route, and say `at` there if clients know it by a longer one"
    )]
    Diverted {
        /// Which one.
        index: usize,
    },
    /// A chain with two cross-origin policies.
    #[error("gives the chain a second cross-origin policy\nhint: a chain has one")]
    SecondPolicy {
        /// Which one.
        index: usize,
    },
}

impl ChainError {
    /// Which filter of the list is at fault.
    pub fn index(&self) -> usize {
        match *self {
            Self::Build { index, .. }
            | Self::Unwritten { index, .. }
            | Self::Rewritten { index, .. }
            | Self::Shadowed { index }
            | Self::Unbound { index }
            | Self::Unstripped { index }
            | Self::Misplaced { index, .. }
            | Self::EarlyEdit { index, .. }
            | Self::LateLimit { index, .. }
            | Self::Diverted { index }
            | Self::SecondPolicy { index } => index,
        }
    }
}

/// Filters in order. The empty chain lets everything through; only a public route may have it.
#[derive(Default)]
pub struct Chain {
    filters: Box<[Named]>,
    writes: Vec<Fact>,
    cors: Option<Arc<Policy>>,
}

impl Chain {
    /// Builds each filter and checks their order.
    ///
    /// # Errors
    /// A filter cannot be built or shadowed, or a fact is read before it is written, or written twice.
    pub fn build<'a>(steps: impl IntoIterator<Item = &'a Step>, deps: &Deps) -> Result<Self, ChainError> {
        let mut filters = Vec::new();
        for (index, Step { filter, shadow }) in steps.into_iter().enumerate() {
            let (name, filter) = filter.build(deps).map_err(|cause| ChainError::Build { index, cause })?;
            filters.push(Named { name, filter, shadow: *shadow });
        }
        Self::new(filters)
    }

    /// Checks the order of filters that are built already.
    ///
    /// # Errors
    /// A fact is read before it is written, or written twice; a filter is shadowed that others lean on;
    /// a user could act with an admin's token on anybody.
    pub fn new(mut filters: Vec<Named>) -> Result<Self, ChainError> {
        let mut writes: Vec<Fact> = Vec::new();
        for (index, Named { filter, shadow, .. }) in filters.iter().enumerate() {
            if *shadow && (filter.shadow() == Shadow::Never || !filter.writes().is_empty()) {
                return Err(ChainError::Shadowed { index });
            }
            if let Some(&fact) = filter.reads().iter().find(|fact| !writes.contains(fact)) {
                return Err(ChainError::Unwritten { index, fact });
            }
            if let Some(&fact) = filter.writes().iter().find(|fact| writes.contains(fact)) {
                return Err(ChainError::Rewritten { index, fact });
            }
            let acts_as_admin = filter.writes().contains(&Fact::AdminToken);
            if acts_as_admin && may_be_a_user(&writes) && !writes.contains(&Fact::Bound) {
                return Err(ChainError::Unbound { index });
            }
            writes.extend(filter.writes());
        }
        check_stripping(&filters)?;
        check_verifying(&filters)?;
        check_limits(&filters)?;
        let rewrites = filters.iter().position(|named| named.filter.rewrite().is_some());
        let tied = [Fact::Bound, Fact::Injected].iter().any(|fact| writes.contains(fact));
        if let Some(index) = rewrites.filter(|_| tied) {
            return Err(ChainError::Diverted { index });
        }
        strip_what_is_read(&mut filters);
        let cors = only_policy(&filters)?;
        Ok(Self { filters: filters.into(), writes, cors })
    }

    /// Whether a request that passed this chain has this fact.
    pub fn writes(&self, fact: Fact) -> bool {
        self.writes.contains(&fact)
    }

    /// Whether users could act with an OpenIM admin's token on routes of this chain.
    pub fn lends_admins_power(&self) -> bool {
        self.writes(Fact::AdminToken) && may_be_a_user(&self.writes)
    }

    /// Whether any filter needs the request body.
    pub fn body(&self) -> BodyUse {
        let reads = self.filters.iter().any(|named| named.filter.body() == BodyUse::Reads);
        if reads { BodyUse::Reads } else { BodyUse::Ignores }
    }

    /// The filter that enforces this rule of a route.
    pub fn honours(&self, rule: Rule) -> Option<&Named> {
        self.filters.iter().find(|named| named.filter.honours().contains(&rule))
    }

    /// The filter that needs this rule to be stated.
    pub fn demands(&self, rule: Rule) -> Option<&Named> {
        self.filters.iter().find(|named| named.filter.demands().contains(&rule))
    }

    /// The cross-origin policy of its routes, if they have one of their own.
    pub fn cors(&self) -> Option<&Policy> {
        self.cors.as_deref()
    }

    /// The filters, in order.
    pub fn filters(&self) -> &[Named] {
        &self.filters
    }

    /// Asks each filter in turn, until one replies or refuses.
    ///
    /// # Errors
    /// The first refusal; `cx.refused_by` names the filter, as it does for a reply.
    pub async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        for Named { name, filter, shadow } in &self.filters {
            let decided = filter.request(request, cx).await;
            if *shadow {
                cx.shadowed.extend(withheld(name, &decided));
                continue;
            }
            match decided {
                Ok(Flow::Continue) => {}
                decided => {
                    cx.refused_by = Some(name);
                    return decided;
                }
            }
        }
        Ok(Flow::Continue)
    }

    /// Shows each filter the response, last filter first.
    pub fn response(&self, head: &mut ResponseHeader, cx: &Context) {
        for Named { filter, .. } in self.filters.iter().rev() {
            filter.response(head, cx);
        }
    }
}

/// Whether the caller may be a user: whoever is not proven an admin, and nothing else, counts as one.
fn may_be_a_user(facts: &[Fact]) -> bool {
    facts.contains(&Fact::User) || !facts.contains(&Fact::Admin)
}

/// What a filter in shadow mode would have done to the request.
fn withheld(filter: &'static str, decided: &Result<Flow, Reject>) -> Option<Shadowed> {
    match decided {
        Ok(Flow::Continue) => None,
        Ok(Flow::Reply(_)) => Some(Shadowed { filter, cause: None, reason: "fixed_reply" }),
        Err(reject) => Some(Shadowed { filter, cause: Some(reject.cause), reason: reject.reason }),
    }
}

/// Credentials are read, then stripped, then ours are injected; any other order undoes one of them.
fn check_stripping(filters: &[Named]) -> Result<(), ChainError> {
    let does = |named: &Named, what| named.filter.credentials() == what;
    for index in (0..filters.len()).filter(|&i| does(&filters[i], Credentials::Strips)) {
        if filters[index..].iter().any(|named| does(named, Credentials::Reads)) {
            return Err(ChainError::Misplaced {
                index,
                hint: "put it below the filter that verifies the caller",
            });
        }
        if filters[..index].iter().any(|named| does(named, Credentials::Injects)) {
            return Err(ChainError::Misplaced { index, hint: "put it above inject_token" });
        }
    }
    let injects = filters.iter().position(|named| does(named, Credentials::Injects));
    let Some(index) = injects else { return Ok(()) };
    let (reads, strips) = (Credentials::Reads, Credentials::Strips);
    let kept =
        filters.iter().any(|named| does(named, reads)) && !filters.iter().any(|named| does(named, strips));
    if kept { Err(ChainError::Unstripped { index }) } else { Ok(()) }
}

/// What a client signed is what it sent: no header is edited before all credentials are read.
fn check_verifying(filters: &[Named]) -> Result<(), ChainError> {
    let does = |named: &Named, what| named.filter.credentials() == what;
    let edits = filters.iter().position(|named| does(named, Credentials::Edits));
    let Some(index) = edits else { return Ok(()) };
    match filters[index..].iter().find(|named| does(named, Credentials::Reads)) {
        Some(reader) => Err(ChainError::EarlyEdit { index, reader: reader.name }),
        None => Ok(()),
    }
}

/// A bound comes too late for a body that is in memory.
fn check_limits(filters: &[Named]) -> Result<(), ChainError> {
    let does = |named: &Named, what| named.filter.body() == what;
    let limits = filters.iter().rposition(|named| does(named, BodyUse::Limits));
    let Some(index) = limits else { return Ok(()) };
    match filters[..index].iter().find(|named| does(named, BodyUse::Reads)) {
        Some(reader) => Err(ChainError::LateLimit { index, reader: reader.name }),
        None => Ok(()),
    }
}

fn only_policy(filters: &[Named]) -> Result<Option<Arc<Policy>>, ChainError> {
    let mut given = filters.iter().enumerate().filter_map(|(i, named)| Some((i, named.filter.cors()?)));
    let first = given.next().map(|(_, policy)| Arc::clone(policy));
    match given.next() {
        Some((index, _)) => Err(ChainError::SecondPolicy { index }),
        None => Ok(first),
    }
}

/// What a filter reads a credential from is stripped without being named a second time.
fn strip_what_is_read(filters: &mut [Named]) {
    let read = |named: &Named| named.filter.credential_headers().to_vec();
    let names: Vec<HeaderName> = filters.iter().flat_map(read).collect();
    for Named { filter, .. } in filters {
        filter.strip_too(&names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Cause;
    use crate::testing::{build_error, chain, chain_error, get, run};

    #[test]
    fn a_fact_read_before_it_is_written_is_refused_with_its_place() {
        let error = chain_error("- resolve_token: {}\n- verify_signature: {}");
        assert_eq!(error, ChainError::Unwritten { index: 0, fact: Fact::User });
        assert_eq!(
            error.to_string(),
            "reads the calling user, but no filter before it writes that\n\
             hint: put verify_signature, verify_session_token or verify_openim_token above it"
        );
        let error = chain_error("- verify_signature: {}\n- inject_token: {}");
        assert_eq!(error, ChainError::Unwritten { index: 1, fact: Fact::Token });
    }

    #[test]
    fn a_fact_written_twice_is_refused() {
        let error = chain_error("- verify_signature: {}\n- verify_signature: {}");
        assert_eq!(error, ChainError::Rewritten { index: 1, fact: Fact::Caller });
    }

    #[test]
    fn what_others_lean_on_cannot_be_shadowed() {
        for filter in ["verify_signature", "operation_id", "strip_credentials"] {
            let error = chain_error(&format!("- {filter}: {{}}\n  shadow: true"));
            assert_eq!(error, ChainError::Shadowed { index: 0 }, "{filter}");
        }
        assert!(!chain("- operation_id: {}\n  shadow: false").filters()[0].shadow);
    }

    #[test]
    fn a_user_acts_with_an_admins_token_only_on_a_bound_body() {
        for power in ["resolve_token: { of: imAdmin }", "inject_token: { as: imAdmin }"] {
            let error = chain_error(&format!("- verify_signature: {{}}\n- {power}"));
            assert_eq!(error, ChainError::Unbound { index: 1 }, "{power}");
            assert!(chain(&format!("- prove_admin: {{}}\n- {power}")).writes(Fact::AdminToken));
        }
    }

    #[test]
    fn a_caller_who_is_not_said_to_be_an_admin_counts_as_a_user() {
        for proof in ["prove_somebody", "prove_either"] {
            for power in ["resolve_token: { of: imAdmin }", "inject_token: { as: imAdmin }"] {
                let error = chain_error(&format!("- {proof}: {{}}\n- {power}"));
                assert_eq!(error, ChainError::Unbound { index: 1 }, "{proof} {power}");
            }
        }
    }

    #[tokio::test]
    async fn in_shadow_a_refusal_is_noted_and_nothing_else() {
        let out = run("- refuse: {}\n  shadow: true\n- operation_id: {}", get("/")).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.sent("operationid").len(), 1);
        let [noted] = out.cx.shadowed[..] else { panic!("one refusal is noted") };
        assert_eq!((noted.filter, noted.cause), ("refuse", Some(Cause::Forbidden)));
        assert_eq!(run("- refuse: {}", get("/")).await.cx.refused_by, Some("refuse"));
    }

    #[test]
    fn a_step_is_one_known_filter() {
        for (yaml, problem) in [
            ("- operation_id", "write `operation_id: {}`"),
            ("- { operation_id: {}, resolve_token: {} }", "more than one filter"),
            ("- { shadow: true }", "names no filter"),
            ("- { operation_id: {}, shadow: maybe }", "boolean"),
        ] {
            let error = serde_saphyr::from_str::<Vec<Step>>(yaml).expect_err(yaml).to_string();
            assert!(error.contains(problem), "{yaml}: {error}");
        }
        assert_eq!(build_error("- operation_idd: {}"), BuildError::Unknown("operation_idd".into()));
        assert!(matches!(build_error("- refuse: { oops: 1 }"), BuildError::Custom(_)));
    }

    #[test]
    fn stripping_stands_between_verifying_and_injecting() {
        let first = "- strip_credentials: {}\n- verify_signature: {}";
        assert!(matches!(chain_error(first), ChainError::Misplaced { index: 0, .. }));
        let never = "- verify_signature: {}\n- resolve_token: {}\n- inject_token: {}";
        assert_eq!(chain_error(never), ChainError::Unstripped { index: 2 });
        let last = "- verify_signature: {}\n- resolve_token: {}\n- inject_token: {}\n- strip_credentials: {}";
        assert!(matches!(chain_error(last), ChainError::Misplaced { index: 3, .. }));
    }

    #[test]
    fn a_chain_knows_what_it_writes_and_reads() {
        let user =
            chain("- verify_signature: {}\n- resolve_token: {}\n- strip_credentials: {}\n- inject_token: {}");
        assert!(user.writes(Fact::Injected));
        assert_eq!(user.body(), BodyUse::Reads);
        let empty = chain("- operation_id: {}");
        assert!(!empty.writes(Fact::Caller));
        assert_eq!(empty.body(), BodyUse::Ignores);
    }
}

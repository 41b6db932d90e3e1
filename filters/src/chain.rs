//! A chain: filters in the order the YAML gives, and the proof that this order makes sense.
//!
//! [`Chain::new`] refuses a list in which a fact is read before it is written. Nothing in a request
//! can shorten a chain: [`Chain::request`] has one loop and no way around it.

use pingora_http::ResponseHeader;

use crate::context::{Context, Fact};
use crate::reject::Reject;
use crate::{BodyUse, BuildError, Credentials, Deps, Filter, FilterConfig, Flow, Request};

/// A filter and the name it has in YAML, logs and metrics.
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The filter.
    pub filter: Box<dyn Filter>,
}

/// Why a list of filters is no chain. The index says which of them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The filter stands where it undoes another's work.
    #[error("strips what is read or injected elsewhere in the chain\nhint: {hint}")]
    Misplaced {
        /// Which one.
        index: usize,
        /// Where it belongs.
        hint: &'static str,
    },
}

impl ChainError {
    /// Which filter of the list is at fault.
    pub fn index(&self) -> usize {
        match *self {
            Self::Build { index, .. }
            | Self::Unwritten { index, .. }
            | Self::Rewritten { index, .. }
            | Self::Misplaced { index, .. } => index,
        }
    }
}

/// Filters in order. The empty chain lets everything through; only a public route may have it.
#[derive(Default)]
pub struct Chain {
    filters: Box<[Named]>,
    writes: Vec<Fact>,
}

impl Chain {
    /// Builds each filter and checks their order.
    ///
    /// # Errors
    /// A filter cannot be built, or a fact is read before it is written, or written twice.
    pub fn build<'a>(
        configs: impl IntoIterator<Item = &'a FilterConfig>,
        deps: &Deps,
    ) -> Result<Self, ChainError> {
        let mut filters = Vec::new();
        for (index, config) in configs.into_iter().enumerate() {
            let filter = config.build(deps).map_err(|cause| ChainError::Build { index, cause })?;
            filters.push(Named { name: config.name(), filter });
        }
        Self::new(filters)
    }

    /// Checks the order of filters that are built already.
    ///
    /// # Errors
    /// A fact is read before it is written, or written twice.
    pub fn new(filters: Vec<Named>) -> Result<Self, ChainError> {
        let mut writes: Vec<Fact> = Vec::new();
        for (index, Named { filter, .. }) in filters.iter().enumerate() {
            if let Some(&fact) = filter.reads().iter().find(|fact| !writes.contains(fact)) {
                return Err(ChainError::Unwritten { index, fact });
            }
            if let Some(&fact) = filter.writes().iter().find(|fact| writes.contains(fact)) {
                return Err(ChainError::Rewritten { index, fact });
            }
            writes.extend(filter.writes());
        }
        check_stripping(&filters)?;
        Ok(Self { filters: filters.into(), writes })
    }

    /// Whether a request that passed this chain has this fact.
    pub fn writes(&self, fact: Fact) -> bool {
        self.writes.contains(&fact)
    }

    /// Whether any filter needs the request body.
    pub fn body(&self) -> BodyUse {
        let reads = self.filters.iter().any(|named| named.filter.body() == BodyUse::Reads);
        if reads { BodyUse::Reads } else { BodyUse::Ignores }
    }

    /// The filters, in order.
    pub fn filters(&self) -> &[Named] {
        &self.filters
    }

    /// Asks each filter in turn.
    ///
    /// # Errors
    /// The first refusal; `cx.refused_by` names the filter.
    pub async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<(), Reject> {
        for Named { name, filter } in &self.filters {
            match filter.request(request, cx).await {
                Ok(Flow::Continue) => {}
                Err(reject) => {
                    cx.refused_by = Some(name);
                    return Err(reject);
                }
            }
        }
        Ok(())
    }

    /// Shows each filter the response, last filter first.
    pub fn response(&self, head: &mut ResponseHeader, cx: &Context) {
        for Named { filter, .. } in self.filters.iter().rev() {
            filter.response(head, cx);
        }
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chain, chain_error};

    #[test]
    fn a_fact_read_before_it_is_written_is_refused_with_its_place() {
        let error = chain_error("- resolve_token: {}\n- verify_signature: {}");
        assert_eq!(error, ChainError::Unwritten { index: 0, fact: Fact::Caller });
        assert_eq!(
            error.to_string(),
            "reads the caller, but no filter before it writes that\nhint: put verify_signature above it"
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
    fn stripping_stands_between_verifying_and_injecting() {
        let first = "- strip_credentials: {}\n- verify_signature: {}";
        assert!(matches!(chain_error(first), ChainError::Misplaced { index: 0, .. }));
        let last = "- verify_signature: {}\n- resolve_token: {}\n- inject_token: {}\n- strip_credentials: {}";
        assert!(matches!(chain_error(last), ChainError::Misplaced { index: 3, .. }));
    }

    #[test]
    fn a_chain_knows_what_it_writes_and_reads() {
        let user = chain("- verify_signature: {}\n- resolve_token: {}\n- inject_token: {}");
        assert!(user.writes(Fact::Injected));
        assert_eq!(user.body(), BodyUse::Reads);
        let empty = chain("- operation_id: {}");
        assert!(!empty.writes(Fact::Caller));
        assert_eq!(empty.body(), BodyUse::Ignores);
    }
}

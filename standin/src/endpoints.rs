//! What the routes do once a call has been let through.

pub(crate) mod auth;
pub(crate) mod conversation;
pub(crate) mod friend;
pub(crate) mod group;
pub(crate) mod msg;
pub(crate) mod object;
pub(crate) mod third;
pub(crate) mod user;

use serde_json::{Value, json};

use crate::authorise::{Caller, wrong_type};
use crate::envelope::Failure;
use crate::http::Head;
use crate::json::{Body, WrongType};
use crate::shared::Shared;

/// A call that has been let through.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: &'a Caller,
    pub(crate) subjects: &'a [String],
    pub(crate) head: &'a Head,
    pub(crate) body: &'a Body,
}

impl Call<'_> {
    /// Returns the user acted on.
    pub(crate) fn subject(&self) -> &str {
        self.subjects.first().map_or(&self.caller.user, String::as_str)
    }

    /// Returns a text of the body, empty when absent.
    pub(crate) fn text(&self, path: &str) -> Result<&str, Failure> {
        self.body.text(path).map_err(|WrongType| wrong_type(path))
    }

    /// Returns a list of texts of the body.
    pub(crate) fn texts(&self, path: &str) -> Result<Vec<&str>, Failure> {
        self.body.texts(path).map_err(|WrongType| wrong_type(path))
    }

    /// Returns a whole number of the body, zero when absent.
    pub(crate) fn number(&self, path: &str) -> Result<i64, Failure> {
        self.body.number(path).map_err(|WrongType| wrong_type(path))
    }
}

/// What a route does: the `data` of its answer, or why not.
pub(crate) type Act = fn(&Call<'_>) -> Result<Value, Failure>;

/// Does nothing and succeeds; the server adds who acted on whom.
pub(crate) fn plain(_: &Call<'_>) -> Result<Value, Failure> {
    Ok(json!({}))
}

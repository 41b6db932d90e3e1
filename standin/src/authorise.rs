//! Decides whether a caller may act on a subject, exactly as far as OpenIM decides it.
//!
//! The holes are as open here as they are there: that is the point.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::endpoints::object;
use crate::envelope::Failure;
use crate::http::Head;
use crate::json::{Body, WrongType};
use crate::options::Line;
use crate::query::Query;
use crate::routes::{Mark, Route, Subject};

/// The user a token belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) admin: bool,
}

/// Checks a call and names the users acted on, none when only the caller is.
pub(crate) fn authorise(
    route: &Route,
    line: Line,
    caller: &Caller,
    head: &Head,
    body: &Body,
) -> Result<Vec<String>, Failure> {
    let subjects = subjects(route.subject, caller, head, body)?;
    let checked = match (route.mark, line) {
        (Mark::Admin, _) | (Mark::AdminOnHead, Line::Head) => check_admin(caller),
        (Mark::Own, _) | (Mark::OwnOnHead, Line::Head) => check_access(route.subject, caller, &subjects),
        (Mark::OwnName, _) => check_name(caller, &object::name(body)?),
        (Mark::OwnFormName, _) => check_name(caller, &object::form_name(body)?),
        (Mark::AdminOnHead | Mark::OwnOnHead, Line::P16) => Ok(()),
        (Mark::Open | Mark::AdminOrNothing | Mark::Role | Mark::Any | Mark::Hole, _) => Ok(()),
    };
    checked.map(|()| subjects)
}

fn subjects(subject: Subject, caller: &Caller, head: &Head, body: &Body) -> Result<Vec<String>, Failure> {
    let field = |name: &str| body.text(name).map(str::to_owned).map_err(|WrongType| wrong_type(name));
    match subject {
        Subject::Caller => Ok(Vec::new()),
        Subject::Field(name) => field(name).and_then(|user| required(name, user)).map(|user| vec![user]),
        Subject::FieldOrCaller(name) => {
            let user = field(name)?;
            Ok(vec![if user.is_empty() { caller.user.clone() } else { user }])
        }
        Subject::AnyOf(names) => names.iter().map(|name| field(name)).collect(),
        Subject::Each(name) => body
            .texts(name)
            .map(|users| users.into_iter().map(str::to_owned).collect())
            .map_err(|WrongType| wrong_type(name)),
        Subject::Key(name) => Ok(vec![key_field(head, name)?]),
    }
}

fn required(name: &str, user: String) -> Result<String, Failure> {
    if user.is_empty() {
        let last = name.rsplit('.').next().unwrap_or(name);
        return Err(Failure::args(format!("{last} is empty")));
    }
    Ok(user)
}

fn key_field(head: &Head, name: &str) -> Result<String, Failure> {
    let query = Query::parse(head.query());
    let bytes = STANDARD.decode(query.first("key")).map_err(|_| Failure::args("key is not base64"))?;
    let key = Body::read(&bytes).map_err(Failure::args)?;
    key.text(name).map(str::to_owned).map_err(|WrongType| wrong_type(name))
}

fn check_admin(caller: &Caller) -> Result<(), Failure> {
    match caller.admin {
        true => Ok(()),
        false => Err(Failure::no_permission(format!("user {} is not admin userID", caller.user))),
    }
}

fn check_access(subject: Subject, caller: &Caller, users: &[String]) -> Result<(), Failure> {
    let is_caller = |user: &String| *user == caller.user;
    let own = match subject {
        Subject::AnyOf(_) => users.iter().any(is_caller),
        _ => users.iter().all(is_caller),
    };
    if own || caller.admin {
        return Ok(());
    }
    Err(Failure::no_permission(format!("ownerUserID {}", users.join(","))))
}

fn check_name(caller: &Caller, name: &str) -> Result<(), Failure> {
    let own = name.strip_prefix(&caller.user).is_some_and(|rest| rest.starts_with('/'));
    if own || caller.admin {
        return Ok(());
    }
    Err(Failure::no_permission(format!("name must start with `{}/`", caller.user)))
}

/// Go refuses a body that holds another type than the struct it decodes into.
pub(crate) fn wrong_type(name: &str) -> Failure {
    Failure::args(format!("json: cannot unmarshal value into Go struct field {name}"))
}

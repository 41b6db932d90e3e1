//! Why the store could not answer. None of these is a verdict on a user: callers answer 503.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerError};

use crate::seal::SealFault;
use crate::session::RecordFault;
use crate::token::TokenFault;

/// Why there is no answer from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection to Redis, or it broke.
    #[error("store is down")]
    Down,
    /// Redis did not answer in time.
    #[error("store did not answer in time")]
    Deadline,
    /// So many reads are under way already that one more would only wait.
    #[error("too many reads of the store are under way")]
    Overloaded,
    /// The store mark is missing: the store was flushed, or it is the wrong one.
    #[error("store mark is missing: the store was flushed or is the wrong one")]
    Unmarked,
    /// What the store holds cannot be used. Somebody has to look at it.
    #[error("store holds something unusable: {0}")]
    Broken(#[from] Fault),
    /// Redis answered with an error.
    #[error("store refused: {0}")]
    Refused(Refusal),
    /// TLS cannot be agreed on: a certificate is not trusted, or one of the two sides asks for more.
    #[error("TLS with the store cannot be agreed on")]
    Tls,
    /// Changes are not announced to us: Redis withholds them, or something between swallows them.
    #[error("invalidations do not arrive")]
    Silent,
    /// It is not known which server to ask.
    #[error("store has no master: {0}")]
    NoMaster(#[from] NoMaster),
}

/// Why it is not known which server holds the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMaster {
    /// Half of the sentinels or more do not answer.
    #[error("no majority of the sentinels answers")]
    Quorum,
    /// The sentinels watch over no group of this name.
    #[error("sentinels know no such group")]
    Unknown,
    /// The sentinels name another master now.
    #[error("sentinels name another server")]
    Replaced,
    /// The server says that it is a replica.
    #[error("server is a replica")]
    Demoted,
    /// No node of the cluster says who owns the slots.
    #[error("no node tells the owners of the slots")]
    Unmapped,
    /// A node of the cluster names an owner of slots that we are not connected to yet.
    #[error("slots have another owner")]
    Moved,
}

/// What is wrong with a value in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A session record or a ban that does not parse.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// A token that is malformed, or another user's.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// The key holds a Redis type that cannot be there.
    #[error("key holds a value of the wrong Redis type")]
    WrongType,
    /// The value is larger than any legal one.
    #[error("value is larger than any legal one")]
    TooLarge,
    /// A field of a token hash that is no platform number.
    #[error("field of a token hash is no platform number")]
    UnknownField,
}

/// The errors Redis answers with, as far as they call for different action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Redis is loading its data set.
    #[error("loading its data set")]
    Loading,
    /// The password is missing or wrong.
    #[error("password is missing or wrong")]
    NoAuth,
    /// The user may not run this command or touch this key.
    #[error("user lacks a permission")]
    NoPermission,
    /// A replica was asked to write.
    #[error("server is read-only")]
    ReadOnly,
    /// The replica lost its master.
    #[error("master is down")]
    MasterDown,
    /// The cluster is down.
    #[error("cluster is down")]
    ClusterDown,
    /// The key lives on another node of a cluster.
    #[error("key lives on another node")]
    Moved,
    /// Redis is out of memory.
    #[error("out of memory")]
    OutOfMemory,
    /// A script or a failing disk blocks Redis.
    #[error("server is blocked")]
    Busy,
    /// The key holds another Redis type than the command is for.
    #[error("key holds another Redis type")]
    WrongType,
    /// Any other error.
    #[error("command failed")]
    Other,
}

impl Unavailable {
    /// The stable name of the cause, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Deadline => "deadline",
            Self::Overloaded => "overloaded",
            Self::Unmarked => "unmarked",
            Self::Broken(fault) => fault.as_str(),
            Self::Refused(refusal) => refusal.as_str(),
            Self::Tls => "tls",
            Self::Silent => "invalidations_do_not_arrive",
            Self::NoMaster(why) => why.as_str(),
        }
    }
}

impl NoMaster {
    fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "sentinels_no_majority",
            Self::Unknown => "sentinels_unknown_master",
            Self::Replaced => "sentinels_other_master",
            Self::Demoted => "server_is_replica",
            Self::Unmapped => "cluster_unmapped",
            Self::Moved => "cluster_other_owner",
        }
    }
}

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::Record(RecordFault::Json) => "broken_record_json",
            Self::Record(RecordFault::Version) => "broken_record_version",
            Self::Record(RecordFault::Secret) => "broken_record_secret",
            Self::Record(RecordFault::Platform) => "broken_record_platform",
            Self::Record(RecordFault::Seal(SealFault::NoKeys)) => "broken_seal_no_keys",
            Self::Record(RecordFault::Seal(SealFault::Plain)) => "broken_seal_plain",
            Self::Record(RecordFault::Seal(SealFault::Mixed)) => "broken_seal_mixed",
            Self::Record(RecordFault::Seal(SealFault::Malformed)) => "broken_seal_malformed",
            Self::Record(RecordFault::Seal(SealFault::UnknownKey)) => "broken_seal_unknown_key",
            Self::Record(RecordFault::Seal(SealFault::Broken)) => "broken_seal",
            Self::Token(TokenFault::Foreign) => "broken_token_foreign",
            Self::Token(_) => "broken_token",
            Self::WrongType => "broken_wrong_type",
            Self::TooLarge => "broken_too_large",
            Self::UnknownField => "broken_unknown_field",
        }
    }
}

impl Refusal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "refused_loading",
            Self::NoAuth => "refused_no_auth",
            Self::NoPermission => "refused_no_permission",
            Self::ReadOnly => "refused_read_only",
            Self::MasterDown => "refused_master_down",
            Self::ClusterDown => "refused_cluster_down",
            Self::Moved => "refused_moved",
            Self::OutOfMemory => "refused_out_of_memory",
            Self::Busy => "refused_busy",
            Self::WrongType => "refused_wrong_type",
            Self::Other => "refused_other",
        }
    }

    /// Reads the first word of an error reply.
    ///
    /// Source: Redis 7.0 `src/server.c`, `createSharedObjects`.
    fn from_code(code: &str) -> Self {
        match code {
            "LOADING" => Self::Loading,
            "NOAUTH" | "WRONGPASS" => Self::NoAuth,
            "NOPERM" => Self::NoPermission,
            "READONLY" => Self::ReadOnly,
            "MASTERDOWN" | "NOREPLICAS" => Self::MasterDown,
            "CLUSTERDOWN" | "TRYAGAIN" => Self::ClusterDown,
            "MOVED" | "ASK" | "CROSSSLOT" => Self::Moved,
            "OOM" => Self::OutOfMemory,
            "BUSY" | "MISCONF" => Self::Busy,
            "WRONGTYPE" => Self::WrongType,
            _ => Self::Other,
        }
    }
}

impl From<RecordFault> for Unavailable {
    fn from(fault: RecordFault) -> Self {
        Self::Broken(fault.into())
    }
}

impl From<TokenFault> for Unavailable {
    fn from(fault: TokenFault) -> Self {
        Self::Broken(fault.into())
    }
}

impl From<&ServerError> for Unavailable {
    fn from(error: &ServerError) -> Self {
        Self::Refused(Refusal::from_code(error.code()))
    }
}

impl From<&RedisError> for Unavailable {
    fn from(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Refused(Refusal::NoAuth),
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::Refused(error.code().map_or(Refusal::Other, Refusal::from_code))
            }
            _ if error.is_timeout() => Self::Deadline,
            _ if is_tls(error) => Self::Tls,
            _ => Self::Down,
        }
    }
}

/// Whether TLS ended the connection: a certificate of ours is refused only after the handshake.
fn is_tls(error: &RedisError) -> bool {
    // The library lends its `Arc` as the source, not what is in it.
    let shared = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = shared.and_then(|shared| shared.downcast_ref::<io::Error>());
    io.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_replies_are_told_apart() {
        let cases = [
            ("LOADING", "refused_loading"),
            ("NOAUTH", "refused_no_auth"),
            ("WRONGPASS", "refused_no_auth"),
            ("READONLY", "refused_read_only"),
            ("MASTERDOWN", "refused_master_down"),
            ("MOVED", "refused_moved"),
            ("OOM", "refused_out_of_memory"),
            ("ERR", "refused_other"),
        ];
        for (code, label) in cases {
            assert_eq!(Unavailable::Refused(Refusal::from_code(code)).as_str(), label);
        }
    }

    #[test]
    fn transport_errors_are_no_refusals() {
        let error = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        assert_eq!(Unavailable::from(&error(io::ErrorKind::TimedOut)), Unavailable::Deadline);
        assert_eq!(Unavailable::from(&error(io::ErrorKind::ConnectionRefused)), Unavailable::Down);
    }
}

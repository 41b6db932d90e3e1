//! Everything that can be wrong with a configuration.
//!
//! Each text says what is wrong and, on a line of its own that begins with `hint:`, what to do. None
//! repeats a value that might be a secret.

use std::path::Path;
use std::time::Duration;
use std::{fmt, io};

use imgate_filters::Rule;
use imgate_filters::chain::ChainError;
use imgate_filters::cors::CredentialsForAll;
use imgate_filters::networks::BadNetworks;
use imgate_filters::reject::BadAnswer;
use imgate_identity::assertion::BadKey;
use imgate_identity::key::BadTemplate;
use imgate_identity::seal::BadSealKeys;
use imgate_identity::store::{BadAddress, BadTls as BadStoreTls};
use imgate_identity::user::BadUserId;

use super::SecretError;
use super::public_url::BadUrl;
use super::suggest::Suggestion;
use crate::front::address::Address;
use crate::front::tls::{BadAuthorities, BadCertificate, UnixDate};
use crate::route::{Methods, PathFault, Pattern};
use crate::upstream::tls::BadTls;

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file of a table cannot be opened or read.
    #[error("table {} cannot be read: {cause}", path.display())]
    UnreadableTable {
        /// The file.
        path: Box<Path>,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is too large.
    #[error("larger than 1 MiB")]
    TooLarge,
    /// The file is not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// The YAML reader, or the type that a value is read into, says no.
    #[error("{0}")]
    Yaml(Box<str>),
    /// More aliases, or deeper nesting, than any configuration needs.
    #[error("{0}\nhint: aliases and nesting are bounded; write it out")]
    Budget(Box<str>),
    /// A value of another kind.
    #[error("expected {0}")]
    NotA(Kind),
    /// More than one key where one thing is named, such as a filter.
    #[error("more than one key\nhint: begin each entry with `- `")]
    SeveralKeys,
    /// `<<`.
    #[error("merge keys are not read\nhint: write it out")]
    MergeKey,
    /// A key that has no meaning here.
    #[error("unknown key `{0}`{1}")]
    UnknownKey(Box<str>, Suggestion),
    /// A word that is none of the choices.
    #[error("unknown word `{0}`{1}")]
    UnknownWord(Box<str>, Suggestion),
    /// A key that stands twice in one place.
    #[error("key `{0}` stands here twice")]
    DuplicateKey(Box<str>),
    /// A key that must be there.
    #[error("`{0}` is missing")]
    MissingKey(&'static str),

    /// A list that needs an entry has none.
    #[error("needs at least one entry")]
    Empty,
    /// A number that makes no sense as 0.
    #[error("must be above 0")]
    Zero,
    /// A number that is too high.
    #[error("must be at most {0}")]
    AboveMax(usize),
    /// A length of time that makes no sense.
    #[error("must be from {0} to {1}")]
    NoSuchTime(&'static str, &'static str),
    /// A size that is too large.
    #[error("must be at most {}MiB", .0 / (1024 * 1024))]
    AboveMaxSize(u64),
    /// A size below what the gateway needs.
    #[error("must be at least {0}B")]
    BelowMinSize(u64),
    /// Text that is no name of an upstream, chain or listener.
    #[error("`{0}` is no name\nhint: names are letters, digits, `_` and `-`")]
    BadName(Box<str>),
    /// A name that another listener has.
    #[error("`{0}` is the name of {1}")]
    NameTaken(Box<str>, Box<str>),
    /// A URL that clients could not use.
    #[error(transparent)]
    Url(BadUrl),
    /// Text that is no host name.
    #[error("`{0}` is no host name{hint}", hint = .1.as_str())]
    BadHost(Box<str>, HostForm),
    /// Text that is no address to listen on.
    #[error("`{0}` is no address\nhint: write an IP address and a port, as in 0.0.0.0:8080 or [::1]:8080{unix}", unix = unix_hint(.0))]
    BadAddress(Box<str>),
    /// A Unix socket that the kernel could not name.
    #[error("the path of a Unix socket has at most {0} bytes")]
    LongSocketPath(usize),
    /// Text that is no mode of a file.
    #[error("`{0}` is no mode\nhint: write four digits, as in 0660; the owner needs the 6")]
    BadMode(Box<str>),
    /// Networks that cannot be had.
    #[error(transparent)]
    Networks(BadNetworks),
    /// TLS without a certificate, or with two ways to name them.
    #[error("no certificate\nhint: name `certificate` and `key`, or a list of such pairs in `certificates`")]
    NoCertificate,
    /// A certificate that cannot be used.
    #[error(transparent)]
    Certificate(BadCertificate),
    /// Nobody who vouches for clients.
    #[error(transparent)]
    Authorities(BadAuthorities),
    /// Client certificates that nobody could check.
    #[error("client certificates cannot be checked\nhint: name who vouches for them in `client_ca`")]
    NoClientCa,
    /// Two sockets that cannot both be bound.
    #[error("{0} is taken by {1}")]
    AddressTaken(Address, Box<str>),
    /// An address that stands twice, of a listener that has a name.
    #[error("{0} stands here twice\nhint: a listener with a name has an address of its own")]
    NamedTwice(Address),
    /// Text that is no server of an upstream.
    #[error("`{0}` is no server\nhint: write a host and a port, as in 127.0.0.1:10002 or openim:10002")]
    BadServer(Box<str>),
    /// A server whose name has no address.
    #[error(
        "`{0}` has no address: {1}\nhint: to start without it, say `resolve: {{ strict: false }}` at its upstream"
    )]
    Unresolved(Box<str>, #[source] io::Error),
    /// Certificates or keys that cannot be used with an upstream.
    #[error(transparent)]
    Tls(BadTls),
    /// Something done more often than makes sense.
    #[error("must be at least {}", humantime::format_duration(*.0))]
    TooOften(Duration),
    /// A time that another one bounds.
    #[error("must be at most `{0}`")]
    LongerThan(&'static str),
    /// Text that is no target of a request.
    #[error("`{0}` is no path\nhint: write it as it is asked for, as in /healthz")]
    BadTarget(Box<str>),
    /// Text that is no name of a header.
    #[error("`{0}` is no header name")]
    BadHeaderName(Box<str>),
    /// A cross-origin policy that makes no sense.
    #[error(transparent)]
    Cors(CredentialsForAll),

    /// A password in the URL of Redis.
    #[error(
        "the URL holds a password\nhint: take it out and set password: {{ file: ... }}, {{ env: ... }} or {{ credential: ... }}"
    )]
    InlinePassword,
    /// Settings of TLS beside a URL that does not ask for it.
    #[error("the URL asks for no TLS\nhint: write rediss://")]
    PlainUrl,
    /// TLS to Redis that cannot be spoken.
    #[error(transparent)]
    StoreTls(BadStoreTls),
    /// A certificate without its key, or the other way about.
    #[error("a certificate and its key go together")]
    HalfCertificate,
    /// An address of a server of the store.
    #[error(transparent)]
    StoreAddress(BadAddress),
    /// A server that stands twice in a list.
    #[error("stands here twice")]
    Twice,
    /// A name of a Sentinel group, or of a user, that is none.
    #[error("no name: it is empty, or holds a space or something that cannot be printed")]
    StoreName,
    /// A Redis URL that is not understood.
    #[error("no Redis URL\nhint: write redis[s]://[user@]host:port/database")]
    RedisUrl,
    /// A secret that cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Key templates that do not work.
    #[error(transparent)]
    Keys(BadTemplate),
    /// A user id that OpenIM would not take.
    #[error(transparent)]
    UserId(BadUserId),
    /// A key that cannot sign assertions.
    #[error(transparent)]
    AssertionKey(BadKey),
    /// Seal keys that cannot be used.
    #[error(transparent)]
    SealKeys(BadSealKeys),
    /// An answer that may not stand in the table.
    #[error(transparent)]
    Answer(BadAnswer),

    /// A name of no upstream.
    #[error("no upstream named `{0}`{1}")]
    NoUpstream(Box<str>, Suggestion),
    /// A name of no chain.
    #[error("no chain named `{0}`{1}")]
    NoChain(Box<str>, Suggestion),
    /// A name of no listener.
    #[error("no listener named `{0}`{1}")]
    NoListener(Box<str>, Suggestion),
    /// Not exactly one of several keys.
    #[error("{found} {}\nhint: a route has exactly one of them", listed(.keys))]
    ExactlyOne {
        /// The keys.
        keys: &'static [&'static str],
        /// How many of them.
        found: Found,
    },
    /// A key that has no effect beside another.
    #[error("`{key}` means nothing {beside}")]
    Meaningless {
        /// The key.
        key: &'static str,
        /// Beside what.
        beside: Beside,
    },
    /// A route that anybody could call.
    #[error("neither a chain nor `public: true`\nhint: name a chain, or say that anybody may call this")]
    Unguarded,
    /// A path that is ambiguous.
    #[error(transparent)]
    Path(PathFault),
    /// An escape in an exact path of the configuration.
    #[error("a path is written without escapes")]
    EscapedPath,
    /// A prefix that would match in the middle of a segment.
    #[error("a prefix ends in `/`\nhint: `/object/` takes /object/x and not /objectx")]
    OpenPrefix,
    /// A mount point that ends in `/`.
    #[error("a mount point has no `/` at its end\nhint: `at: /api` puts /user/x at /api/user/x")]
    OpenMount,
    /// Two routes for the same requests.
    #[error("{methods} {pattern}{overlap} is taken by {earlier}{hint}", hint = overlap.hint())]
    RouteTaken {
        /// The methods that both take.
        methods: Methods,
        /// The paths that both take.
        pattern: Pattern,
        /// Where both take them.
        overlap: Box<Overlap>,
        /// The other route and where it stands.
        earlier: Box<str>,
    },
    /// A path that a table both takes and leaves out, or leaves out twice.
    #[error("{path} stands here already, in {earlier}\nhint: a table takes a path or leaves it out, once")]
    ClosedTwice {
        /// The path.
        path: Box<str>,
        /// Where it stood before.
        earlier: Box<str>,
    },
    /// A socket that would be cut between two of the client's pings.
    #[error("below 31 s\nhint: OpenIM's clients may be silent for 30 s between two pings")]
    ShortIdle,

    /// A name of no filter.
    #[error("unknown filter `{0}`{1}")]
    NoFilter(Box<str>, Suggestion),
    /// A rule that no filter enforces.
    #[error("no filter of its chain enforces `{0}`\nhint: {remedy}", remedy = .0.remedy())]
    UnheardRule(Rule),
    /// A rule that must be stated.
    #[error("`{1}` needs to know `{0}` of each route\nhint: {nothing}", nothing = .0.nothing())]
    UnstatedRule(Rule, &'static str),
    /// A route on which users have an admin's power over whomever they name.
    #[error(
        "lets users act with an OpenIM admin's token and is not sure to name the caller\nhint: say which field must be the caller, as in `bind: sendID`"
    )]
    UnboundAdmin,
    /// Paths that nobody counted, on which users have an admin's power.
    #[error(
        "lets users act with an OpenIM admin's token on all that is below a prefix, where a bound field may mean nothing\nhint: name each path, by `path` or in a table"
    )]
    AdminBelowPrefix,
    /// A rule that stands at a path of a table and at the route of the table.
    #[error("`{0}` stands at the table's route, too\nhint: say it there for all paths, or at each path")]
    StatedTwice(&'static str),
    /// A chain that does not work.
    #[error(transparent)]
    Chain(ChainError),
    /// A route that needs the whole body but streams it.
    #[error(
        "`{0}` reads the body, so this route cannot stream\nhint: leave out `stream: true`, or name another chain"
    )]
    StreamedBody(&'static str),
    /// A route that sends a token of ours although nobody looks at what OpenIM says of it.
    #[error(
        "`{0}` sends an OpenIM token, so this route can neither stream nor be a WebSocket: OpenIM's word on the token would go to the client\nhint: leave out `stream: true`, or name another chain"
    )]
    StreamedToken(&'static str),
    /// A route to storage that gets the client's credentials for OpenIM.
    #[error(
        "sends the client's credentials to the storage\nhint: name a chain with strip_credentials; its `keep_sigv4: true` leaves the storage's own"
    )]
    UnstrippedObjects,
    /// A route whose chain proves nothing.
    #[error(
        "its chain proves no caller\nhint: add a filter that does, or say `public: true` if anybody may call this"
    )]
    Unproven,
    /// A socket route whose chain does not check the handshake.
    #[error(
        "its chain does not check the handshake\nhint: add verify_socket; `public: true` does not do without it"
    )]
    UncheckedSocket,

    /// A certificate that nobody seems to renew.
    #[error("the certificate ends at {0}\nhint: renew it and reload")]
    CertificateEnds(UnixDate),
    /// A certificate that clients accept for no name.
    #[error("the certificate is for no host name\nhint: clients look at its subject alternative names alone")]
    NamelessCertificate,
    /// A key that is no secret.
    #[error("every user of this machine can read {}\nhint: chmod o-r", .0.display())]
    OpenKey(Box<Path>),
    /// A filter that works, but not well.
    #[error(transparent)]
    Filter(imgate_filters::Warning),
    /// Nothing uses it.
    #[error("upstream `{0}` is not used by any route")]
    UnusedUpstream(Box<str>),
    /// Nothing uses it.
    #[error("chain `{0}` is not used by any route")]
    UnusedChain(Box<str>),
    /// Sessions that are not sealed count.
    #[error(
        "sessions that are not sealed are taken, so whoever may write to the store can make one\nhint: end this once `imgate session reseal` has sealed them all"
    )]
    PlainAccepted,
    /// Clients give up sooner.
    #[error(
        "10 s or more\nhint: OpenIM's clients give up after 10 s and never see what the gateway answers later"
    )]
    LateTimeout,
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Bool,
    /// A list.
    List,
    /// A map.
    Map,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a text",
            Self::Number => "a whole number",
            Self::Bool => "true or false",
            Self::List => "a list",
            Self::Map => "a map",
        })
    }
}

/// How a host name is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostForm {
    /// With a port if it is not the default one.
    WithPort,
    /// Without a port.
    NameOnly,
}

impl HostForm {
    fn as_str(self) -> &'static str {
        match self {
            Self::WithPort => {
                "\nhint: write it as a client does, as in im.example.com or im.example.com:8443"
            }
            Self::NameOnly => "\nhint: write it without a port, as in im.example.com",
        }
    }
}

/// How many of several keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// None.
    None,
    /// More than one.
    Several,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "has none of",
            Self::Several => "has several of",
        })
    }
}

/// Where two routes take the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The host that both take; none for routes without a host.
    pub host: Option<Box<str>>,
    /// The listener that both are on, if one of them names it.
    pub listener: Option<Box<str>>,
}

impl Overlap {
    fn hint(&self) -> &'static str {
        if self.listener.is_some() { "\nhint: a route without `listeners` is on all of them" } else { "" }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.listener) {
            (None, None) => Ok(()),
            (Some(host), None) => write!(f, " on {host}"),
            (None, Some(listener)) => write!(f, " on listener {listener}"),
            (Some(host), Some(listener)) => write!(f, " on {host}, listener {listener},"),
        }
    }
}

/// What makes a key meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The route is a WebSocket.
    Websocket,
    /// The route is a stream.
    Stream,
    /// The route is a table.
    Table,
    /// The route is no WebSocket.
    Request,
    /// The route is no stream below a prefix.
    NoObjects,
    /// There are no seal keys.
    NoSealKeys,
    /// The address is none of a Unix socket.
    IpAddress,
    /// The listener does not speak TLS.
    NoTls,
    /// No rate is given.
    NoRate,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Websocket => "for a WebSocket",
            Self::Stream => "for a stream",
            Self::Table => "for a table, which says it for each path",
            Self::Request => "but for a WebSocket",
            Self::NoObjects => "but for a stream below a prefix",
            Self::NoSealKeys => "without `seal_keys`",
            Self::IpAddress => "but for a Unix socket",
            Self::NoTls => "without `tls`",
            Self::NoRate => "without `rate`",
        })
    }
}

/// Whoever means a Unix socket is told how to write one.
fn unix_hint(address: &str) -> &'static str {
    if address.contains('/') { "; a Unix socket as unix:/run/imgate/http.sock" } else { "" }
}

fn listed(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}

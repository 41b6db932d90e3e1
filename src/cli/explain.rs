//! `imgate explain`: what happens to a request, without sending it.

use clap::Args;
use http::Method;
use imgate_filters::Fact;

use super::{ConfigFile, Failure, runtime, say};
use crate::config::{Config, Paths, Suggestion};
use crate::gateway::{Mode, Route, Shared, Snapshot};
use crate::metrics::Metrics;
use crate::route::Found;

/// Shows the route of a request: its chain, what is stripped and what is injected.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The host name the request is for
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// The listener the request comes to, by its name; default: the first of the file
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The method, as in POST
    method: String,
    /// The path, as in /friend/get_friend_list
    path: String,
}

impl Explain {
    /// Prints what would happen.
    ///
    /// # Errors
    /// The configuration is refused, the method is none, or no listener has that name.
    pub(super) fn run(&self, shared: &Shared) -> Result<(), Failure> {
        let config = self.config.load()?;
        let method: Method = self.method.parse().map_err(|_| Failure::usage("that is no method"))?;
        let path = self.path.split_once('?').map_or(self.path.as_str(), |(path, _)| path);
        let listener = self.listener(&config)?;
        runtime(1)?.block_on(async {
            let metrics = Metrics::new().map_err(Failure::unavailable)?;
            let snapshot = Snapshot::build(&config, shared, &metrics, None).map_err(Failure::config)?;
            say(&self.describe(&snapshot, listener, &method, path));
            // One table may leave out what another route takes on purpose.
            let taken = config.routes.routes().iter().any(|route| *route.name == *path);
            for closed in config.closed.iter().filter(|closed| !taken && *closed.public == *path) {
                say(&format!("  left out  {} ({})", closed.why, closed.mark));
            }
            Ok(())
        })
    }

    fn listener<'a>(&self, config: &'a Config) -> Result<Option<&'a str>, Failure> {
        let Some(name) = self.listener.as_deref() else {
            return Ok(config.listeners.first().and_then(|listener| listener.name.as_deref()));
        };
        let known = || config.listeners.iter().filter_map(|listener| listener.name.as_deref());
        let found = known().find(|known| *known == name);
        let unknown =
            || Failure::usage(format!("no listener named `{name}`{}", Suggestion::new(name, known())));
        found.map(Some).ok_or_else(unknown)
    }

    fn describe(&self, snapshot: &Snapshot, listener: Option<&str>, method: &Method, path: &str) -> String {
        let on = listener.map_or_else(String::new, |name| format!(" on listener {name}"));
        let asked = format!("{method} {path}{on}");
        let found = match snapshot.find(listener, &self.host, method, path) {
            Ok(found) => found,
            Err(fault) => {
                let why = fault.as_str();
                return format!("{asked}\n  refused: 400, the path can be read in two ways ({why})");
            }
        };
        match found {
            Found::Route(route) => format!("{asked}\n{}", describe(route, path)),
            Found::MethodNotAllowed(allow) => format!("{asked}\n  refused: 405, this path takes {allow}"),
            Found::None => format!("{asked}\n  refused: 404, no route"),
        }
    }
}

fn describe(route: &Route, path: &str) -> String {
    let mut lines = vec![format!("  route     {}", route.place.route)];
    let chain = route.chain_name.as_deref().unwrap_or("none");
    lines.push(format!("  access    {}", access(route)));
    lines.push(format!("  chain     {chain}"));
    for (i, step) in route.chain.filters().iter().enumerate() {
        let shadow = if step.shadow { "in shadow mode: " } else { "" };
        lines.push(format!("    {}. {:<18} {shadow}{}", i + 1, step.name, step.filter.summary()));
    }
    if route.place.rules.stated().next().is_some() {
        lines.push(format!("  rules     {}", route.place.rules));
    }
    lines.push(
        "  always    removes hop-by-hop, x-forwarded-*, x-imgate-*, forwarded, x-real-ip, names with _"
            .to_owned(),
    );
    lines.push("            sets x-forwarded-for, x-real-ip, x-forwarded-proto, x-request-api".to_owned());
    lines.push(format!("  way       {}", way(route)));
    let servers: Vec<String> =
        route.upstream.servers().iter().map(|server| server.address.to_string()).collect();
    lines.push(format!(
        "  upstream  {} ({}), as {}",
        route.upstream.name,
        servers.join(", "),
        forwarded(route, path)
    ));
    lines.push(format!("  timeout   {} ms until the answer begins", route.timeout.as_millis()));
    lines.join("\n")
}

/// The path under which the upstream gets a request.
fn forwarded(route: &Route, path: &str) -> Box<str> {
    let path = path.get(route.place.strip..).filter(|p| p.starts_with('/')).unwrap_or(path);
    let rewrites = route.chain.filters().iter().filter_map(|named| named.filter.rewrite());
    rewrites.fold(path.into(), |path: Box<str>, rewrite| rewrite.apply(&path).unwrap_or(path))
}

/// Says whom the route lets in.
pub(super) fn access(route: &Route) -> &'static str {
    if route.chain.writes(Fact::Caller) {
        "callers are proven"
    } else if route.chain.writes(Fact::Socket) {
        "OpenIM authenticates, by the token in the query"
    } else {
        "public: anybody may call it"
    }
}

fn way(route: &Route) -> String {
    match route.mode {
        Mode::Exchange { max_body, .. } => {
            format!("exchange: whole request (at most {max_body} bytes), whole answer")
        }
        Mode::Stream { max_body, paths } => {
            let bound = max_body.map_or_else(String::new, |max| format!(", at most {max} from the client"));
            let names = match paths {
                Paths::Plain => "",
                Paths::ObjectNames => "; paths are names of objects",
            };
            format!("stream: bytes as they come{bound}{names}")
        }
        Mode::Tunnel { idle_timeout } => {
            format!("tunnel: WebSocket, ended after {} s of silence", idle_timeout.as_secs())
        }
    }
}

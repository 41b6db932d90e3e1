//! What runs: sockets bound first, then served, reloaded on SIGHUP or when a file changes, replaced by a
//! successor on SIGUSR2, drained on SIGTERM.

mod reload;
mod signals;
mod upgrade;
mod watcher;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::apps::HttpServerApp as _;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::reload::Fixed;
use self::signals::Signal;
pub use self::signals::Signals;
use self::upgrade::Upgrade;
use self::watcher::Watch;
use crate::access_log::AccessLog;
use crate::admin::{Admin, Readiness};
use crate::config::{Config, Listener};
use crate::front::address::{self, Address, FileMode};
use crate::front::caps::{Caps, Seats};
use crate::front::descriptors;
use crate::front::entrance::{Entrance, Steps};
use crate::front::tls::BadSettings;
use crate::front::{self, Desk, Terms};
use crate::gateway::{BuildError, Shared, Snapshot};
use crate::handover::{InheritError, Inherited, Predecessor};
use crate::metrics::Metrics;
use crate::proxy::Gateway;

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// How often a store that never answered is tried again.
const TRY_STORE: Duration = Duration::from_secs(1);

/// How long sockets may take to close when nobody waits for their clients any more.
const CLOSING: Duration = Duration::from_secs(2);

/// How many servers one streamed request may be offered to. Pingora counts attempts, not retries.
const STREAM_ATTEMPTS: usize = 3;

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] BuildError),
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// Where.
        address: Address,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log: {0}")]
    Log(#[source] io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] BadSettings),
    /// The process that this one is to replace does not hand over.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// This process is to replace another one, and could serve less than that does.
    #[error("the store is not ready, and the process before may still have what callers need in its cache")]
    NoStore,
    /// The metrics cannot be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway that serves.
pub struct Server {
    gateway: Gateway,
    shared: Shared,
    config: Arc<Config>,
    /// What of the configuration cannot be changed while it runs.
    fixed: Fixed,
    watch: Watch,
    readiness: Arc<Readiness>,
    /// One for each listener.
    proxies: Vec<Arc<HttpProxy<Gateway>>>,
    listeners: Vec<Address>,
    /// Their addresses as the configuration had them at the start.
    started: Vec<Address>,
    /// One for each listener.
    entrances: Vec<Arc<Entrance>>,
    /// The connections of clients on all listeners.
    seats: Arc<Seats>,
    admin: Option<SocketAddr>,
    stopping: watch::Sender<bool>,
    connections: TaskTracker,
    housekeeping: TaskTracker,
    quit: CancellationToken,
    /// Ends the admin listener, which otherwise lives as long as the process.
    quit_admin: CancellationToken,
    /// The sockets that listen, by the addresses they were configured with: for a successor.
    sockets: Vec<(String, OwnedFd)>,
    /// Whether the files of Unix sockets are a successor's.
    left: Vec<Arc<AtomicBool>>,
    /// A successor that is on its way.
    upgrade: Option<Upgrade>,
    /// Whether the service manager hears from the process before this one that it is ready.
    is_announced: bool,
}

impl Server {
    /// Binds everything, tries the store once, and serves.
    ///
    /// # Errors
    /// The configuration does not hold together, an address cannot be bound, or the access log cannot
    /// be opened. Nothing serves then.
    pub async fn start(config: Config, shared: Shared) -> Result<Self, StartError> {
        Self::start_after(None, config, shared).await
    }

    /// Like [`Server::start`], on the sockets of a process that is to be replaced; it is told when all else
    /// is ready, and nothing is accepted before it agrees.
    ///
    /// # Errors
    /// Those of [`Server::start`]; the store is not ready; the other process changed its mind.
    pub async fn start_after(
        before: Option<(Predecessor, Inherited)>,
        config: Config,
        shared: Shared,
    ) -> Result<Self, StartError> {
        let (predecessor, inherited) = before.unzip();
        let metrics = Metrics::new()?;
        let snapshot = Snapshot::build(&config, &shared, &metrics, None)?;
        let seats = Seats::new(caps(&config));
        let entrances = entrances(&config, &seats, &metrics)?;
        let Bound { listeners: bound, admin: bound_admin, sockets, left } =
            Bound::open(&config, inherited.unwrap_or_default())?;
        let log = AccessLog::open(&config.access_log).map_err(StartError::Log)?;

        let gateway = Gateway {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            metrics,
            log: Arc::new(log),
            rates: Arc::clone(&shared.rates),
            shed: Arc::default(),
            tunnels: TaskTracker::new(),
            stop: CancellationToken::new(),
            listener: None,
        };
        let housekeeping = TaskTracker::new();
        let mut server = Self {
            fixed: Fixed::of(&config),
            watch: Watch::new(config.base.files(), housekeeping.clone()),
            proxies: proxies(&gateway, &config),
            listeners: addresses(&bound),
            started: config.listeners.iter().map(|listener| listener.address.clone()).collect(),
            entrances,
            seats,
            admin: bound_admin.as_ref().and_then(|l| l.address().ok()?.ip()),
            readiness: Arc::default(),
            stopping: watch::channel(false).0,
            connections: TaskTracker::new(),
            housekeeping,
            quit: CancellationToken::new(),
            gateway,
            shared,
            quit_admin: CancellationToken::new(),
            sockets,
            left,
            upgrade: None,
            is_announced: predecessor.is_some(),
            config: Arc::new(config),
        };
        server.note_config();
        server.warn_of_config();
        server.try_store().await;
        if let Some(predecessor) = predecessor {
            server.readiness.has_store().then_some(()).ok_or(StartError::NoStore)?;
            predecessor.replace().await?;
        }
        server.serve(bound, bound_admin);
        server.keep_house();
        Ok(server)
    }

    fn serve(&mut self, bound: Vec<address::Listener>, bound_admin: Option<address::Listener>) {
        let patience = self.config.limits.client_timeout;
        let desk: Arc<dyn Desk> = Arc::new(self.gateway.clone());
        for ((listener, proxy), entrance) in bound.into_iter().zip(&self.proxies).zip(&self.entrances) {
            let (proxy, stopping) = (Arc::clone(proxy), self.stopping.subscribe());
            let terms = Terms {
                connections: self.connections.clone(),
                open: self.gateway.metrics.connections.clone(),
                entrance: Arc::clone(entrance),
                patience,
                desk: Arc::clone(&desk),
            };
            self.housekeeping.spawn(front::serve(listener, proxy, stopping, terms));
        }
        if let Some(listener) = bound_admin {
            let admin = Arc::new(Admin::new(self.gateway.clone(), Arc::clone(&self.readiness)));
            // The admin listener outlives the others, so that a drain can be watched.
            let ((running, stopping), quit) = (watch::channel(false), self.quit_admin.clone());
            let uncounted = prometheus::IntGauge::new("admin", "admin").expect("the name is a legal one");
            let desk = Arc::clone(&admin) as _;
            let entrance = Arc::new(Entrance::open(self.gateway.metrics.door.clone()));
            let terms = Terms { connections: TaskTracker::new(), open: uncounted, entrance, patience, desk };
            self.housekeeping.spawn(async move {
                tokio::select! {
                    () = front::serve(listener, admin, stopping, terms) => {}
                    () = quit.cancelled() => {}
                }
                drop(running);
            });
        }
    }

    async fn try_store(&self) {
        match self.gateway.snapshot.load_full().store.probe().await {
            Ok(()) => self.readiness.store_answered(),
            Err(why) => warn!(store = why.as_str(), "store is not ready; callers get 503 until it is"),
        }
    }

    fn keep_house(&self) {
        let (gateway, readiness) = (self.gateway.clone(), Arc::clone(&self.readiness));
        let quit = self.quit.clone();
        self.housekeeping.spawn(Arc::clone(&self.shared.jwks).run(quit.clone()));
        self.housekeeping.spawn(watch_delay(gateway.clone(), quit.clone()));
        self.housekeeping.spawn(Arc::clone(&self.shared.keeper).run(quit.clone()));
        self.housekeeping.spawn(async move {
            let mut sweep = tokio::time::interval(SWEEP);
            let mut watch_store = tokio::time::interval(TRY_STORE);
            loop {
                tokio::select! {
                    _ = sweep.tick() => {
                        gateway.snapshot.load_full().upstreams.iter().for_each(|upstream| upstream.sweep());
                    }
                    _ = watch_store.tick(), if !readiness.has_store() => {
                        // Reaching it is not enough: one that lacks its mark would serve nobody.
                        if gateway.snapshot.load_full().store.probe().await.is_ok() {
                            readiness.store_answered();
                        }
                    }
                    () = quit.cancelled() => return,
                }
            }
        });
    }

    /// The addresses clients connect to, as bound.
    pub fn listeners(&self) -> &[Address] {
        &self.listeners
    }

    /// The admin listener's address, as bound.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The gateway behind the listeners.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// What connections on each listener will pass. One that is in the file no more keeps what it has.
    fn plan(&self, config: &Config) -> Result<Vec<(Arc<Entrance>, Steps)>, BadSettings> {
        let mut plans = Vec::new();
        // Listeners with port 0 may stand twice with one address, so each is taken once.
        let mut left: Vec<&Listener> = config.listeners.iter().collect();
        for (old, entrance) in self.started.iter().zip(&self.entrances) {
            let Some(at) = left.iter().position(|listener| listener.address == *old) else { continue };
            let steps = entrance.plan(left.remove(at), &config.trusted_proxies)?;
            plans.push((Arc::clone(entrance), steps));
        }
        Ok(plans)
    }

    /// Serves until SIGTERM, SIGINT or SIGQUIT, or until a successor took over that SIGUSR2 asked for; then
    /// drains. Reloads `path` on SIGHUP, and when one of its files changes if it says so. The signals are
    /// those since before the start, so that none ends a process that serves already.
    pub async fn run(mut self, path: PathBuf, mut signals: Signals) {
        if !self.is_announced {
            notify(&[sd_notify::NotifyState::Ready]);
        }
        loop {
            let watching = self.config.watch;
            let event = tokio::select! {
                signal = signals.next() => Event::Signal(signal),
                () = self.watch.changed(), if watching => Event::Signal(Signal::Reload),
                started = upgrade::started(&mut self.upgrade) => Event::Started(started),
            };
            match event {
                Event::Signal(Signal::Reload) => match self.reload_from(&path, &mut signals).await {
                    Some(()) => {}
                    None => break,
                },
                Event::Signal(Signal::Upgrade) => self.begin_upgrade(),
                Event::Signal(Signal::Stop) => break,
                Event::Started(started) => {
                    if let Some(successor) = self.let_go(started).await {
                        return self.leave(successor, signals).await;
                    }
                }
            }
        }
        self.call_off_upgrade().await;
        notify(&[sd_notify::NotifyState::Stopping]);
        tokio::select! {
            () = self.stop() => {}
            // A second signal is impatience.
            () = signals.stop() => warn!("second signal: requests under way are cut"),
        }
    }

    /// Reloads, and says how it went in log and metrics; `None` if it was told to stop meanwhile.
    async fn reload_from(&mut self, path: &Path, signals: &mut Signals) -> Option<()> {
        notify_reloading();
        let loaded = tokio::select! {
            loaded = self.load(path.to_owned()) => loaded,
            () = signals.stop() => return None,
        };
        self.take_up(loaded);
        notify(&[sd_notify::NotifyState::Ready]);
        Some(())
    }

    /// Stops accepting, lets requests under way finish within the drain timeout, closes sockets.
    pub async fn stop(self) {
        self.gateway.stop.cancel();
        self.drain().await;
    }

    /// Stops accepting, and lets what is under way end within the drain timeout: requests, and sockets
    /// unless they are told to stop before.
    async fn drain(mut self) {
        info!("draining");
        self.readiness.drain();
        self.sockets.clear();
        // No receiver is left only if nothing serves any more.
        let _ = self.stopping.send(true);
        for proxy in &self.proxies {
            proxy.http_cleanup().await;
        }
        self.connections.close();
        self.gateway.tunnels.close();
        if !self.is_drained_within(self.config.limits.drain_timeout).await {
            warn!(left = self.connections.len(), "drain timeout: requests under way are cut");
            if !self.gateway.stop.is_cancelled() {
                self.gateway.stop.cancel();
                self.is_drained_within(CLOSING).await;
            }
        }
        self.quit.cancel();
        self.quit_admin.cancel();
        self.housekeeping.close();
        // A read from a file system that hangs is not waited for.
        let _ = tokio::time::timeout(CLOSING, self.housekeeping.wait()).await;
    }

    async fn is_drained_within(&self, patience: Duration) -> bool {
        let finished = async {
            self.connections.wait().await;
            self.gateway.tunnels.wait().await;
        };
        tokio::time::timeout(patience, finished).await.is_ok()
    }
}

/// What a gateway that serves has to see to.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Event {
    Signal(Signal),
    /// A successor is ready, or did not come about.
    Started(upgrade::Started),
}

/// Watches how long requests wait for a thread.
async fn watch_delay(gateway: Gateway, quit: CancellationToken) {
    tokio::select! {
        () = gateway.shed.watch(|| gateway.snapshot.load().shed) => {}
        () = quit.cancelled() => {}
    }
}

fn proxies(gateway: &Gateway, config: &Config) -> Vec<Arc<HttpProxy<Gateway>>> {
    let proxy = |listener: &Listener| {
        let gateway = gateway.behind(listener.address.clone());
        Arc::new(pingora_proxy(gateway, config.threads))
    };
    config.listeners.iter().map(proxy).collect()
}

fn pingora_proxy(gateway: Gateway, threads: usize) -> HttpProxy<Gateway> {
    let conf = ServerConf { threads, max_retries: STREAM_ATTEMPTS, ..ServerConf::default() };
    let mut proxy = HttpProxy::new(gateway, Arc::new(conf));
    proxy.handle_init_modules();
    proxy
}

/// How many connections clients may have. Each may need another one to an upstream.
fn caps(config: &Config) -> Caps {
    let half = || descriptors::limit().map_or(usize::MAX, |limit| limit / 2);
    Caps {
        total: config.limits.connections.unwrap_or_else(half),
        per_address: config.limits.connections_per_address.unwrap_or(usize::MAX),
    }
}

fn entrances(
    config: &Config,
    seats: &Arc<Seats>,
    metrics: &Metrics,
) -> Result<Vec<Arc<Entrance>>, BadSettings> {
    metrics.door.observe_certificates(&config.listeners);
    let entrance = |listener| {
        Entrance::new(listener, &config.trusted_proxies, seats, metrics.door.clone()).map(Arc::new)
    };
    config.listeners.iter().map(entrance).collect()
}

/// What listens.
struct Bound {
    listeners: Vec<address::Listener>,
    admin: Option<address::Listener>,
    /// A copy of each, beside the address it was configured with.
    sockets: Vec<(String, OwnedFd)>,
    left: Vec<Arc<AtomicBool>>,
}

impl Bound {
    /// Takes the sockets that were handed over, and opens those that are missing.
    fn open(config: &Config, mut inherited: Inherited) -> Result<Self, StartError> {
        let (mut sockets, mut left) = (Vec::new(), Vec::new());
        let mut open = |address: &Address, mode| {
            let opened = take_or_bind(&mut inherited, address, mode).and_then(|listener| {
                sockets.push((address.to_string(), listener.as_fd().try_clone_to_owned()?));
                left.extend(listener.left());
                Ok(listener)
            });
            opened.map_err(|cause| StartError::Bind { address: address.clone(), cause })
        };
        let listeners = config.listeners.iter().map(|listener| open(&listener.address, listener.mode));
        let listeners = listeners.collect::<Result<_, _>>()?;
        let admin = config.admin.map(|address| open(&address.into(), FileMode::default())).transpose()?;
        for address in inherited.left() {
            info!(address, "the process before listens here, this one will not");
        }
        Ok(Self { listeners, admin, sockets, left })
    }
}

fn take_or_bind(
    inherited: &mut Inherited,
    address: &Address,
    mode: FileMode,
) -> io::Result<address::Listener> {
    match inherited.take(&address.to_string()) {
        Some(socket) => address::Listener::inherit(address, socket),
        None => address::Listener::bind(address, mode),
    }
}

fn addresses(bound: &[address::Listener]) -> Vec<Address> {
    bound.iter().filter_map(|listener| listener.address().ok()).collect()
}

/// Tells systemd, if it asked to be told.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "service manager was not notified");
    }
}

/// Tells systemd that a reload begins, with the time it wants to see. Source: sd_notify(3).
fn notify_reloading() {
    match sd_notify::NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[sd_notify::NotifyState::Reloading, now]),
        Err(_) => notify(&[sd_notify::NotifyState::Reloading]),
    }
}

//! What runs: sockets bound first, then served, reloaded on SIGHUP, drained on SIGTERM.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use imgate_identity::time::UnixTime;
use pingora_core::apps::HttpServerApp as _;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

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
use crate::metrics::Metrics;
use crate::proxy::Gateway;

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// How often a store that never answered is tried again.
const TRY_STORE: Duration = Duration::from_secs(1);

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
    /// The metrics cannot be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway that serves.
pub struct Server {
    gateway: Gateway,
    shared: Shared,
    config: Config,
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
}

impl Server {
    /// Binds everything, tries the store once, and serves.
    ///
    /// # Errors
    /// The configuration does not hold together, an address cannot be bound, or the access log cannot
    /// be opened. Nothing serves then.
    pub async fn start(config: Config, shared: Shared) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        let snapshot = Snapshot::build(&config, &shared, &metrics, None)?;
        let seats = Seats::new(caps(&config));
        let entrances = entrances(&config, &seats, &metrics)?;
        let bound = bind_all(&config.listeners)?;
        let admin = |address| bind(&Address::Ip(address), FileMode::default());
        let bound_admin = config.admin.map(admin).transpose()?;
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
        gateway.metrics.config_loaded.set(UnixTime::now().0 as f64);
        let mut server = Self {
            proxies: proxies(&gateway, &config),
            listeners: addresses(&bound),
            started: config.listeners.iter().map(|listener| listener.address.clone()).collect(),
            entrances,
            seats,
            admin: bound_admin.as_ref().and_then(|l| l.address().ok()?.ip()),
            readiness: Arc::default(),
            stopping: watch::channel(false).0,
            connections: TaskTracker::new(),
            housekeeping: TaskTracker::new(),
            quit: CancellationToken::new(),
            gateway,
            shared,
            config,
        };
        server.try_store().await;
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
            let ((running, stopping), quit) = (watch::channel(false), self.quit.clone());
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

    /// Puts a new configuration in force for all requests from now on; those under way keep theirs.
    /// What only a restart can change is named and keeps its old value.
    ///
    /// # Errors
    /// The new configuration does not hold together; the old one stays in force.
    pub fn reload(&mut self, config: Config) -> Result<(), BuildError> {
        let old = self.gateway.snapshot.load_full();
        let before = Some((&self.config, &*old));
        let snapshot = Snapshot::build(&config, &self.shared, &self.gateway.metrics, before)?;
        let steps = self.plan(&config)?;
        for what in needs_restart(&self.config, &config) {
            warn!(what, "this change takes effect with the next restart");
        }
        self.gateway.snapshot.store(Arc::new(snapshot));
        steps.into_iter().for_each(|(entrance, steps)| entrance.set(steps));
        self.seats.set(caps(&config));
        self.gateway.metrics.door.observe_certificates(&config.listeners);
        self.config = config;
        Ok(())
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

    /// Reloads from a file, and says how it went in log and metrics.
    fn reload_from(&mut self, path: &Path) {
        let metrics = Arc::clone(&self.gateway.metrics);
        match Config::load(path).map_err(BuildError::from).and_then(|config| self.reload(config)) {
            Ok(()) => {
                metrics.reloads.inc();
                metrics.config_loaded.set(UnixTime::now().0 as f64);
                info!("configuration reloaded");
            }
            Err(why) => {
                metrics.reload_failures.inc();
                error!("configuration refused, the old one stays in force:\n{why}");
            }
        }
    }

    /// Serves until SIGTERM or SIGINT, reloading `path` on SIGHUP; then drains.
    ///
    /// # Errors
    /// Signals cannot be listened for.
    pub async fn run(mut self, path: PathBuf) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        notify(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    notify_reloading();
                    self.reload_from(&path);
                    notify(&[sd_notify::NotifyState::Ready]);
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        tokio::select! {
            () = self.stop() => {}
            // A second signal is impatience.
            _ = terminate.recv() => warn!("second signal: requests under way are cut"),
            _ = interrupt.recv() => warn!("second signal: requests under way are cut"),
        }
        Ok(())
    }

    /// Stops accepting, lets requests under way finish within the drain timeout, closes sockets.
    pub async fn stop(self) {
        info!("draining");
        self.readiness.drain();
        // No receiver is left only if nothing serves any more.
        let _ = self.stopping.send(true);
        for proxy in &self.proxies {
            proxy.http_cleanup().await;
        }
        self.gateway.stop.cancel();
        self.connections.close();
        self.gateway.tunnels.close();
        let finished = async {
            self.connections.wait().await;
            self.gateway.tunnels.wait().await;
        };
        if tokio::time::timeout(self.config.limits.drain_timeout, finished).await.is_err() {
            warn!(left = self.connections.len(), "drain timeout: requests under way are cut");
        }
        self.quit.cancel();
        self.housekeeping.close();
        self.housekeeping.wait().await;
    }
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

/// What a reload cannot change, of what it would have to.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let addresses =
        |config: &Config| config.listeners.iter().map(|l| (l.address.clone(), l.mode)).collect::<Vec<_>>();
    let changes = [
        ("listeners", addresses(old) != addresses(new)),
        ("admin", old.admin != new.admin),
        ("threads", old.threads != new.threads),
        ("access_log", old.access_log != new.access_log),
    ];
    changes.into_iter().filter_map(|(what, changed)| changed.then_some(what)).collect()
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

fn bind(address: &Address, mode: FileMode) -> Result<address::Listener, StartError> {
    address::Listener::bind(address, mode)
        .map_err(|cause| StartError::Bind { address: address.clone(), cause })
}

fn bind_all(listeners: &[Listener]) -> Result<Vec<address::Listener>, StartError> {
    listeners.iter().map(|listener| bind(&listener.address, listener.mode)).collect()
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

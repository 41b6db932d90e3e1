//! A TCP proxy before any peer of the gateway that misbehaves as it is told, each direction by itself.
//!
//! It knows nothing of what it carries. Faults apply to the connections that live and to those to come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long it may take to see that a listener drops what knocks.
const DEAF: Duration = Duration::from_millis(200);

/// What happens to the bytes of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They pass.
    Pass,
    /// They pass, each piece so much later.
    Delay(Duration),
    /// They are not even read; the connection stays open.
    Hold,
    /// They pass in pieces of so many bytes, one piece per period.
    Drip(usize, Duration),
    /// So many more pass, then both ends are closed.
    CutAfter(usize),
    /// So many more pass, then both ends are reset.
    ResetAfter(usize),
    /// Both ends are reset at once, and so is whoever connects.
    Reset,
    /// Both ends are closed at once, and so is whoever connects.
    Close,
    /// These bytes come in place of the first piece, and nothing in place of those after it.
    Say(Vec<u8>),
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the gateway to its peer.
    Up,
    /// From the peer to the gateway.
    Down,
}

/// What the proxy was told last.
#[derive(Clone)]
struct Plan {
    up: Fault,
    down: Fault,
    refuse: bool,
    /// Counts the changes, so that bytes are counted from the last one on.
    changes: usize,
}

impl Plan {
    fn of(&self, way: Way) -> &Fault {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// How connections are to end now, if they are.
    fn end(&self) -> Option<End> {
        let says = |fault| [&self.up, &self.down].contains(&fault);
        let reset = says(&Fault::Reset).then_some(End::Reset);
        reset.or_else(|| says(&Fault::Close).then_some(End::Close))
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    live: AtomicUsize,
}

/// A running proxy. Dropping it closes everything.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    plan: watch::Sender<Plan>,
    listening: watch::Receiver<bool>,
    counts: Arc<Counts>,
    /// Bound but deaf: nobody else gets the port while the proxy refuses.
    _port: TcpSocket,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port before `peer`.
    pub(crate) async fn start(peer: SocketAddr) -> Self {
        let port = shared_socket();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = port.local_addr().unwrap();
        let pass = Plan { up: Fault::Pass, down: Fault::Pass, refuse: false, changes: 0 };
        let plan = watch::Sender::new(pass);
        let (listens, listening) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(serve(address, peer, plan.subscribe(), listens, Arc::clone(&counts)));
        let mut proxy = Self { address, plan, listening, counts, _port: port, task };
        proxy.listening.wait_for(|listens| *listens).await.unwrap();
        proxy
    }

    /// Where the gateway connects.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Treats one direction so from now on.
    pub(crate) fn set(&self, way: Way, fault: Fault) {
        self.plan.send_modify(|plan| {
            match way {
                Way::Up => plan.up = fault,
                Way::Down => plan.down = fault,
            }
            plan.changes += 1;
        });
    }

    /// Closes the listener and resets what lives; returns once nobody can connect.
    pub(crate) async fn refuse(&mut self) {
        self.plan.send_modify(|plan| {
            (plan.up, plan.refuse) = (Fault::Reset, true);
            plan.changes += 1;
        });
        self.listening.wait_for(|listens| !*listens).await.unwrap();
    }

    /// Ends every fault; returns once the proxy listens.
    pub(crate) async fn heal(&mut self) {
        self.plan.send_modify(|plan| {
            *plan = Plan { up: Fault::Pass, down: Fault::Pass, refuse: false, changes: plan.changes + 1 };
        });
        self.listening.wait_for(|listens| *listens).await.unwrap();
    }

    /// How many connections came so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections live.
    pub(crate) fn live(&self) -> usize {
        self.counts.live.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket whose port can be bound again while it is held.
fn shared_socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
}

async fn serve(
    address: SocketAddr,
    peer: SocketAddr,
    mut plan: watch::Receiver<Plan>,
    listens: watch::Sender<bool>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    while plan.wait_for(|plan| !plan.refuse).await.is_ok() {
        let socket = shared_socket();
        socket.bind(address).unwrap();
        let listener = socket.listen(1024).unwrap();
        listens.send_replace(true);
        let accept = accept(&listener, peer, &plan, &counts, &mut connections);
        let mut refused = plan.clone();
        tokio::select! {
            () = accept => return,
            told = refused.wait_for(|plan| plan.refuse) => drop(told),
        }
        drop(listener);
        listens.send_replace(false);
    }
}

async fn accept(
    listener: &TcpListener,
    peer: SocketAddr,
    plan: &watch::Receiver<Plan>,
    counts: &Arc<Counts>,
    connections: &mut JoinSet<()>,
) {
    while let Ok((gateway, _)) = listener.accept().await {
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        counts.live.fetch_add(1, Ordering::SeqCst);
        let (plan, counts) = (plan.clone(), Arc::clone(counts));
        connections.spawn(async move {
            carry(gateway, peer, plan).await;
            counts.live.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn carry(mut gateway: TcpStream, peer: SocketAddr, plan: watch::Receiver<Plan>) {
    let told = plan.borrow().end();
    // Whoever is to be cut off at once is not worth a connection to the peer.
    let mut peer = if told.is_none() { TcpStream::connect(peer).await.ok() } else { None };
    let end = match (told, &mut peer) {
        (Some(end), _) => end,
        (None, None) => End::Reset,
        (None, Some(peer)) => between(&mut gateway, peer, plan).await,
    };
    if end == End::Reset {
        for stream in [Some(&gateway), peer.as_ref()].into_iter().flatten() {
            // A peer that was faster has closed already.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

async fn between(gateway: &mut TcpStream, peer: &mut TcpStream, plan: watch::Receiver<Plan>) -> End {
    gateway.set_nodelay(true).unwrap();
    peer.set_nodelay(true).unwrap();
    let (from_gateway, to_gateway) = gateway.split();
    let (from_peer, to_peer) = peer.split();
    let mut told = plan.clone();
    let up = pump(from_gateway, to_peer, Way::Up, plan.clone());
    let down = pump(from_peer, to_gateway, Way::Down, plan);
    let both = async { tokio::try_join!(up, down).err().unwrap_or(End::Close) };
    let cut = async {
        let plan = told.wait_for(|plan| plan.end().is_some()).await;
        plan.ok().and_then(|plan| plan.end()).unwrap_or(End::Close)
    };
    tokio::select! { end = both => end, end = cut => end }
}

/// Carries one direction to its end; an error is the end of the other one, too.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut plan: watch::Receiver<Plan>,
) -> Result<(), End> {
    let mut buffer = vec![0; 16 * 1024];
    let (mut changes, mut passed) = (0, 0);
    loop {
        let fault = {
            let plan = plan.borrow_and_update();
            if plan.changes != changes {
                (changes, passed) = (plan.changes, 0);
            }
            plan.of(way).clone()
        };
        let holds = fault == Fault::Hold;
        let read = tokio::select! {
            read = from.read(&mut buffer), if !holds => read.map_err(|_| End::Reset)?,
            told = plan.changed() => match told {
                Ok(()) => continue,
                Err(_) => return Err(End::Close),
            },
        };
        if read == 0 {
            // The other direction may have something to say yet.
            return to.shutdown().await.map_err(|_| End::Reset);
        }
        pass(&mut to, &buffer[..read], &fault, passed, &mut plan).await?;
        passed += read;
    }
}

/// Passes a piece on as the fault has it, after so many bytes since the fault began.
async fn pass(
    to: &mut WriteHalf<'_>,
    piece: &[u8],
    fault: &Fault,
    passed: usize,
    plan: &mut watch::Receiver<Plan>,
) -> Result<(), End> {
    let (allowed, end) = match fault {
        Fault::CutAfter(most) => (most.saturating_sub(passed), Some(End::Close)),
        Fault::ResetAfter(most) => (most.saturating_sub(passed), Some(End::Reset)),
        _ => (usize::MAX, None),
    };
    let written = match fault {
        Fault::Delay(time) => {
            tokio::time::sleep(*time).await;
            to.write_all(piece).await
        }
        Fault::Drip(size, period) => drip(to, piece, *size, *period, plan).await,
        Fault::Say(instead) if passed == 0 => to.write_all(instead).await,
        Fault::Say(_) => Ok(()),
        _ => to.write_all(&piece[..piece.len().min(allowed)]).await,
    };
    written.map_err(|_| End::Reset)?;
    match end {
        Some(end) if piece.len() > allowed => Err(end),
        _ => Ok(()),
    }
}

async fn drip(
    to: &mut WriteHalf<'_>,
    piece: &[u8],
    size: usize,
    period: Duration,
    plan: &mut watch::Receiver<Plan>,
) -> std::io::Result<()> {
    let mut rest = piece;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        to.write_all(now).await?;
        rest = later;
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            // What is left comes at once when the fault ends.
            _ = plan.changed() => return to.write_all(rest).await,
        }
    }
    Ok(())
}

/// A listener whose queue is full: whoever knocks hears nothing, as behind a firewall that drops.
pub(crate) struct Deaf {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
    pub(crate) address: SocketAddr,
}

impl Deaf {
    pub(crate) async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = tokio::time::timeout(DEAF, TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        Self { _listener: listener, _queue: queue, address }
    }
}

#[tokio::test]
async fn the_proxy_does_as_it_is_told() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = FaultProxy::start(echo.local_addr().unwrap()).await;
    let server = tokio::spawn(async move {
        let mut served = JoinSet::new();
        while let Ok((mut stream, _)) = echo.accept().await {
            served.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    // What comes of ten bytes, and how it ends.
    let cases = [
        (Fault::Pass, "0123456789", None),
        (Fault::Delay(Duration::from_millis(5)), "0123456789", None),
        (Fault::Drip(3, Duration::from_millis(1)), "0123456789", None),
        (Fault::Say(b"other".to_vec()), "other", None),
        (Fault::CutAfter(4), "0123", Some(End::Close)),
        (Fault::CutAfter(0), "", Some(End::Close)),
        (Fault::ResetAfter(0), "", Some(End::Reset)),
        (Fault::Reset, "", Some(End::Reset)),
        (Fault::Close, "", Some(End::Close)),
    ];
    for (fault, expected, end) in cases {
        proxy.set(Way::Down, fault.clone());
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        // A connection that is cut at once may be gone already.
        let _ = client.write_all(b"0123456789").await;
        if end.is_none() {
            let mut got = vec![0; expected.len()];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, expected.as_bytes(), "{fault:?}");
            continue;
        }
        let mut got = Vec::new();
        let ended = client.read_to_end(&mut got).await;
        assert_eq!(got, expected.as_bytes(), "{fault:?}");
        // What nobody read turns a close into a reset, so only a reset is sure to be one.
        assert!(ended.is_err() || end == Some(End::Close), "{fault:?}");
    }
    proxy.heal().await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    proxy.refuse().await;
    assert!(client.read_u8().await.is_err());
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.heal().await;
    assert!(TcpStream::connect(proxy.address()).await.is_ok());
    server.abort();
}

#[tokio::test]
async fn nobody_hears_whoever_knocks_at_a_deaf_listener() {
    let deaf = Deaf::new().await;
    assert!(tokio::time::timeout(DEAF, TcpStream::connect(deaf.address)).await.is_err());
}

//! Opens connections to servers, over TLS if told to, and closes them for good.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::tls::Tls;

/// How to connect to any server of a kind.
#[derive(Clone)]
pub(in crate::store) struct Dialer {
    login: RedisConnectionInfo,
    tls: Option<Tls>,
    patience: Duration,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// A connection. Dropping it closes it, whoever still holds a clone of `commands`.
pub(super) struct Wire {
    pub(super) commands: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialer {
    pub(in crate::store) fn new(login: RedisConnectionInfo, tls: Option<Tls>, patience: Duration) -> Self {
        Self { login, tls, patience }
    }

    /// How long a try to connect may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Connects and says who we are.
    pub(super) async fn open(
        &self,
        to: &Address,
        config: AsyncConnectionConfig,
    ) -> Result<Wire, Unavailable> {
        let opened = timeout(self.patience, Box::pin(self.connect(to, config))).await;
        opened.unwrap_or(Err(Unavailable::Deadline))
    }

    async fn connect(&self, to: &Address, config: AsyncConnectionConfig) -> Result<Wire, Unavailable> {
        let tcp = TcpStream::connect((to.host(), to.port())).await.map_err(|_| Unavailable::Down)?;
        tcp.set_nodelay(true).map_err(|_| Unavailable::Down)?;
        let Some(tls) = &self.tls else { return self.greet(tcp, config).await };
        let name = tls.name(to).ok_or(Unavailable::Tls)?;
        let secured = TlsConnector::from(tls.config()).connect(name, tcp).await;
        let stream = secured.map_err(|error| match error.get_ref() {
            // What the handshake found wrong, and not that the connection broke.
            Some(inner) if inner.is::<rustls::Error>() => Unavailable::Tls,
            Some(_) | None => Unavailable::Down,
        })?;
        self.greet(stream, config).await
    }

    async fn greet<S>(&self, stream: S, config: AsyncConnectionConfig) -> Result<Wire, Unavailable>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let greeted = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (commands, driver) = greeted.map_err(|error| Unavailable::from(&error))?;
        Ok(Wire { commands, driver: tokio::spawn(driver) })
    }
}

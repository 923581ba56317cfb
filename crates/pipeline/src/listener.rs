//! Listeners: the Unix socket, and TCP if it is configured. Each accepts until told to stop, then waits for its
//! connections to end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::{self, ConnectionAccess, ConnectionSlots, IngestContext, Stranger, Stream};
use crate::metrics::{IngestMetrics, OpenConnection};
use crate::seats::Seats;
use crate::tls::{ListenerTls, shake};

/// Connections that may wait to be accepted; the operating system's own bound (`net.core.somaxconn`) may be lower.
const QUEUE_MAX: i32 = 65_535;

/// A bound socket that takes records.
pub enum Listener {
    /// On a path.
    Unix(UnixListener),
    /// On an address, with TLS if it speaks it.
    Tcp(TcpListener, Option<Arc<ListenerTls>>),
}

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{0} is in use by a running process; give this daemon another TALLYD_SOCKET or TALLYD_DATA_DIR")]
    InUse(String),
    /// The path is longer than 107 bytes, the operating system's bound.
    #[error("the socket's path {0} is longer than 107 bytes; set TALLYD_SOCKET to a shorter one")]
    TooLong(String),
    /// The operating system refused.
    #[error("cannot listen on {0}: {1}")]
    Io(String, io::Error),
}

/// Binds the Unix socket with the given permissions. A socket file that nobody listens on is replaced.
///
/// # Errors
/// [`BindError`].
pub async fn bind_unix(path: &Path, mode: u32) -> Result<Listener, BindError> {
    let name = path.display().to_string();
    let failed = |error| BindError::Io(name.clone(), error);
    if path.as_os_str().len() > 107 {
        return Err(BindError::TooLong(name));
    }
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(BindError::InUse(name));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // Bound under another name and renamed, so that nobody can connect before the permissions are set.
    let unready = path.with_extension("unready");
    let _ = std::fs::remove_file(&unready);
    let short = if unready.as_os_str().len() > 107 { path } else { &unready };
    let listener = UnixListener::bind(short).map_err(failed)?;
    let_many_wait(&listener).map_err(failed)?;
    std::fs::set_permissions(short, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    if short != path {
        std::fs::rename(short, path).map_err(failed)?;
    }
    Ok(Listener::Unix(listener))
}

/// Binds a TCP address for records.
///
/// # Errors
/// [`BindError`].
pub async fn bind_tcp(address: &str, tls: Option<Arc<ListenerTls>>) -> Result<Listener, BindError> {
    tcp_listener(address).await.map(|listener| Listener::Tcp(listener, tls))
}

/// Binds a TCP address, for any service.
///
/// # Errors
/// [`BindError`].
pub async fn tcp_listener(address: &str) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(address).await.and_then(|listener| let_many_wait(&listener).map(|()| listener));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address.to_owned()),
        _ => BindError::Io(address.to_owned(), error),
    })
}

/// Lets as many connections wait to be accepted as the operating system allows. By default only 128 may wait, and
/// further ones are reset while the daemon is at its bound on connections. (A listening socket may be given a new
/// bound.)
fn let_many_wait(listener: impl AsFd) -> io::Result<()> {
    rustix::net::listen(listener, QUEUE_MAX).map_err(io::Error::from)
}

impl Listener {
    /// Accepts connections until `stop` is cancelled, then returns once all of them have ended. Without a free place it
    /// does not accept until one is free.
    #[must_use]
    pub fn run(self, context: Arc<IngestContext>, door: Door, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.serve_all(context, door, stop))
    }

    async fn serve_all(self, context: Arc<IngestContext>, door: Door, stop: CancellationToken) {
        let transport = match self {
            Self::Unix(_) => "unix",
            Self::Tcp(..) => "tcp",
        };
        let open = IngestMetrics::connections(transport);
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    tell_of_panic(ended, transport);
                    continue;
                }
                accepted = self.accept(&door) => accepted,
            };
            match accepted {
                Ok((stream, access)) => {
                    tallyd_base::failpoint::hit("listener.accepted");
                    let (context, http, stop) = (Arc::clone(&context), Arc::clone(&door.http), stop.clone());
                    let counted = OpenConnection::new(open.clone());
                    tasks.spawn(async move {
                        serve(stream, context, &access, http, stop).await;
                        drop((counted, access));
                    });
                }
                Err(error) => {
                    // Mostly for lack of descriptors; connections that end free some.
                    tracing::warn!(%error, transport, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        while let Some(ended) = tasks.join_next().await {
            tell_of_panic(ended, transport);
        }
    }

    async fn accept(&self, door: &Door) -> io::Result<(Accepted, ConnectionAccess)> {
        match self {
            Self::Unix(listener) => {
                let place = Arc::clone(&door.places.all).acquire_owned().await.map_err(io::Error::other)?;
                Ok((Accepted::Unix(listener.accept().await?.0), ConnectionAccess::Anyone(place)))
            }
            Self::Tcp(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let guard = door.strangers.take(peer.ip()).await;
                let tokens = Arc::clone(&door.tokens);
                let stranger = Stranger::new(tokens, peer.ip(), guard, Arc::clone(&door.places));
                Ok((Accepted::Tcp(stream, tls.clone()), ConnectionAccess::Stranger(stranger)))
            }
        }
    }
}

/// A connection before its handshake.
enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, Option<Arc<ListenerTls>>),
}

impl Accepted {
    /// The connection past its handshake. None if the peer does not finish it.
    async fn shaken(self) -> Option<Stream> {
        match self {
            Self::Unix(stream) => Some(Box::new(stream)),
            Self::Tcp(stream, tls) => Some(Box::new(shake(tls.as_deref(), stream).await?)),
        }
    }
}

/// Requirements of a listener's connections.
pub struct Door {
    /// Tokens that let a connection over TCP record.
    pub tokens: Arc<[String]>,
    /// Places of connections without a token so far.
    pub strangers: Arc<Seats>,
    /// Places of connections that may record.
    pub places: Arc<ConnectionSlots>,
    /// Serves a connection on the Unix socket that speaks HTTP.
    pub http: ServeHttp,
}

/// Serves a connection from its first request on, until it ends or the daemon stops.
pub type ServeHttp = Arc<dyn Fn(Stream, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

async fn serve(
    accepted: Accepted,
    context: Arc<IngestContext>,
    access: &ConnectionAccess,
    http: ServeHttp,
    stop: CancellationToken,
) {
    let metrics = context.metrics.clone();
    let serving = async {
        let stream = accepted.shaken().await?;
        connection::serve(stream, context, access, stop.clone()).await
    };
    let ConnectionAccess::Stranger(stranger) = access else {
        if let Some(stream) = serving.await {
            http(stream, stop).await;
        }
        return;
    };
    tokio::select! {
        biased;
        () = stranger.displaced() => metrics.protocol_error("displaced"),
        _ = serving => {}
    }
}

/// A connection's panic ends that connection alone: its client reconnects and resends unacknowledged records.
fn tell_of_panic(ended: Result<(), tokio::task::JoinError>, transport: &str) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, transport, "a connection's task panicked; report this");
    }
}

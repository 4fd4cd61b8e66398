//! Where clients connect.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::{TcpListener, UnixListener};
use wharf_engine::Io;
use wharf_model::Endpoint;

/// A socket that clients connect to. A Unix socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    /// On the loopback network.
    Tcp(TcpListener),
    /// In the file system; readable and writable for its owner and group.
    Unix(UnixListener, SocketFile),
}

/// Removes a socket's file when it is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Everybody who reaches that port would be root on every node.
    #[error(
        "{0} is not a loopback address: whoever can reach it could do anything on every node. Listen on tcp://127.0.0.1:PORT \
         or unix:///PATH, and reach it from elsewhere through ssh -L"
    )]
    Exposed(Endpoint),
    /// The address does not exist, is taken, or may not be used.
    #[error("cannot listen on {endpoint}: {source}")]
    Bind {
        /// The address.
        endpoint: Endpoint,
        /// What the system says.
        source: io::Error,
    },
    /// Another process serves there.
    #[error("cannot listen on {0}: another process answers there; stop it, or give another --host")]
    InUse(Endpoint),
}

/// A client's connection.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Io>,
    pub(crate) peer: Peer,
}

/// Who is at the other end of a connection, as far as can be told.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// An address; on a port that browsers reach, too.
    Tcp(Arc<str>),
    /// A user of this machine.
    Unix(Arc<str>),
}

impl Peer {
    /// What tells one client from another.
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Tcp(name) | Self::Unix(name) => Arc::clone(name),
        }
    }
}

impl Listener {
    /// Listens at an endpoint.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(endpoint: &Endpoint) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { endpoint: endpoint.clone(), source };
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(bind)?.collect();
                if !addresses.iter().all(|address| address.ip().is_loopback()) {
                    return Err(ListenError::Exposed(endpoint.clone()));
                }
                Ok(Self::Tcp(TcpListener::bind(&*addresses).await.map_err(bind)?))
            }
            Endpoint::Unix(path) => Self::bind_unix(endpoint, path).await,
        }
    }

    async fn bind_unix(endpoint: &Endpoint, path: &Path) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { endpoint: endpoint.clone(), source };
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(bind)?;
        }
        match tokio::fs::symlink_metadata(path).await {
            Ok(found) if found.file_type().is_socket() => {
                if tokio::net::UnixStream::connect(path).await.is_ok() {
                    return Err(ListenError::InUse(endpoint.clone()));
                }
                // Left by a process that was killed.
                tokio::fs::remove_file(path).await.map_err(bind)?;
            }
            Ok(_) => {
                return Err(bind(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there")));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(bind(error)),
        }
        let listener = UnixListener::bind(path).map_err(bind)?;
        let file = SocketFile(path.to_owned());
        tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).await.map_err(bind)?;
        Ok(Self::Unix(listener, file))
    }

    /// The endpoint as clients name it; with the port that the system chose where none was given.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().ok()?;
                Some(Endpoint::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, file) => Some(Endpoint::Unix(file.0.clone())),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Terminals send single keys: nothing may wait for more.
                stream.set_nodelay(true)?;
                Ok(Connection { stream: Box::new(stream), peer: Peer::Tcp(peer.ip().to_string().into()) })
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().map_or_else(|_| "local".to_owned(), |peer| format!("uid {}", peer.uid()));
                Ok(Connection { stream: Box::new(stream), peer: Peer::Unix(user.into()) })
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand; then all is as it should be.
        drop(std::fs::remove_file(&self.0));
    }
}

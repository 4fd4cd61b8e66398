//! Where clients connect.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};
use wharf_engine::{Io, TlsServer};
use wharf_model::Endpoint;

/// A client that does not finish its handshake in this time has no wish to.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// A socket that clients connect to. A Unix socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    /// On the network, within TLS if that is given.
    Tcp(TcpListener, Option<TlsServer>),
    /// In the file system.
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
        "{0} is not a loopback address: whoever can reach it could do anything on every node. Have clients prove who they are \
         (--tlsverify), or listen on tcp://127.0.0.1:PORT or unix:///PATH and reach it from elsewhere through ssh -L; \
         --insecure-tcp does it all the same"
    )]
    Exposed(Endpoint),
    /// No such group.
    #[error("no group is called {0}: see /etc/group")]
    Group(String),
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

/// How clients connect.
#[derive(Debug, Clone)]
pub struct Access {
    /// TLS for TCP.
    pub tls: Option<TlsServer>,
    /// Whether TLS makes clients prove who they are.
    pub verify: bool,
    /// Whether TCP without such a proof is served beyond loopback.
    pub insecure_tcp: bool,
    /// The mode of Unix sockets' files.
    pub socket_mode: u32,
    /// The group of Unix sockets' files: a name or a number; `None` for the process's own.
    pub socket_group: Option<String>,
}

impl Default for Access {
    /// Without TLS, on loopback only; Unix sockets for their owner and group.
    fn default() -> Self {
        Self { tls: None, verify: false, insecure_tcp: false, socket_mode: 0o660, socket_group: None }
    }
}

/// A client's connection.
pub(crate) struct Connection {
    stream: Box<dyn Io>,
    peer: Peer,
    tls: Option<TlsServer>,
}

impl Connection {
    /// Shakes hands, where that is to be done: the stream, and who is at its other end.
    ///
    /// # Errors
    /// If the handshake fails.
    pub(crate) async fn established(self) -> io::Result<(Box<dyn Io>, Peer)> {
        let Some(tls) = self.tls else { return Ok((self.stream, self.peer)) };
        let served = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(self.stream)).await;
        let served = served.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))??;
        let peer = match served.client {
            Some(certificate) => Peer::Certified(name(&certificate)),
            None => self.peer,
        };
        Ok((Box::new(served.stream), peer))
    }
}

/// A name for a certificate's holder.
fn name(certificate: &[u8]) -> Arc<str> {
    let digest = Sha256::digest(certificate);
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("certificate {hex}").into()
}

/// Who is at the other end of a connection, as far as can be told.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// An address; on a port that browsers reach, too.
    Tcp(Arc<str>),
    /// A user of this machine.
    Unix(Arc<str>),
    /// Somebody with a certificate that we trust.
    Certified(Arc<str>),
}

impl Peer {
    /// What tells one client from another.
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Tcp(name) | Self::Unix(name) | Self::Certified(name) => Arc::clone(name),
        }
    }
}

impl Listener {
    /// Listens at an endpoint.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(endpoint: &Endpoint, access: &Access) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { endpoint: endpoint.clone(), source };
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(bind)?.collect();
                let exposed = !addresses.iter().all(|address| address.ip().is_loopback());
                if exposed && !access.verify {
                    if !access.insecure_tcp {
                        return Err(ListenError::Exposed(endpoint.clone()));
                    }
                    tracing::warn!(
                        "{endpoint} is served to everybody who can reach it: each of them can do anything on every node"
                    );
                }
                Ok(Self::Tcp(TcpListener::bind(&*addresses).await.map_err(bind)?, access.tls.clone()))
            }
            Endpoint::Unix(path) => Self::bind_unix(endpoint, path, access).await,
        }
    }

    async fn bind_unix(endpoint: &Endpoint, path: &Path, access: &Access) -> Result<Self, ListenError> {
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
        if let Some(group) = &access.socket_group {
            let id = group_id(group).await.ok_or_else(|| ListenError::Group(group.clone()))?;
            std::os::unix::fs::chown(path, None, Some(id)).map_err(bind)?;
        }
        let mode = std::fs::Permissions::from_mode(access.socket_mode);
        tokio::fs::set_permissions(path, mode).await.map_err(bind)?;
        Ok(Self::Unix(listener, file))
    }

    /// The endpoint as clients name it; with the port that the system chose where none was given.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Tcp(listener, _) => {
                let address = listener.local_addr().ok()?;
                Some(Endpoint::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, file) => Some(Endpoint::Unix(file.0.clone())),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                // Terminals send single keys: nothing may wait for more.
                stream.set_nodelay(true)?;
                Ok(Connection {
                    stream: Box::new(stream),
                    peer: Peer::Tcp(peer.ip().to_string().into()),
                    tls: tls.clone(),
                })
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().map_or_else(|_| "local".to_owned(), |peer| format!("uid {}", peer.uid()));
                Ok(Connection { stream: Box::new(stream), peer: Peer::Unix(user.into()), tls: None })
            }
        }
    }
}

/// A group's number: of `/etc/group`, if it is no number already.
async fn group_id(group: &str) -> Option<u32> {
    if let Ok(id) = group.parse() {
        return Some(id);
    }
    let groups = tokio::fs::read_to_string("/etc/group").await.ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(group))?;
    line.split(':').nth(2)?.parse().ok()
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand; then all is as it should be.
        drop(std::fs::remove_file(&self.0));
    }
}

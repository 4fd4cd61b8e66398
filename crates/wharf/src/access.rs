//! The options of whoever serves clients or dials engines: TLS as the predecessor and Docker have it, and sockets.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use wharf_engine::{TlsClient, TlsFiles, TlsServer};
use wharf_manager::Access;

/// TLS, for clients and engines alike.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsOptions {
    /// Use TLS, for clients and for engines; engines are believed whoever they are.
    #[arg(long)]
    tls: bool,

    /// Trust only certificates of this CA.
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,

    /// The certificate that is shown to clients and to engines.
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,

    /// The certificate's key.
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,

    /// Use TLS, and have clients and engines prove who they are.
    #[arg(long)]
    tlsverify: bool,
}

/// What the options come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// For engines.
    pub(crate) client: Option<TlsClient>,
    /// For clients.
    pub(crate) server: Option<TlsServer>,
    /// Whether clients prove who they are.
    pub(crate) verify: bool,
}

impl TlsOptions {
    /// Reads the files.
    ///
    /// # Errors
    /// If the options do not fit together (in the predecessor's words), or a file is not what it should be.
    pub(crate) fn read(self) -> anyhow::Result<Tls> {
        let Self { tls, tlscacert: ca, tlscert: cert, tlskey: key, tlsverify: verify } = self;
        if !tls && !verify {
            if ca.is_some() || cert.is_some() || key.is_some() {
                bail!("--tlscert, --tlskey and --tlscacert require the use of either --tls or --tlsverify");
            }
            return Ok(Tls::default());
        }
        if cert.is_none() || key.is_none() {
            bail!("--tlscert and --tlskey must be provided when using --tls");
        }
        if verify && ca.is_none() {
            bail!("--tlscacert must be provided when using --tlsverify");
        }
        let files = TlsFiles { ca, cert, key };
        let client = TlsClient::new(&files, verify).context("TLS")?;
        let server = TlsServer::new(&files, verify).context("TLS")?;
        Ok(Tls { client: Some(client), server: Some(server), verify })
    }
}

/// The sockets that clients connect to.
#[derive(Debug, Clone, Args)]
pub(crate) struct SocketOptions {
    /// Serve plain TCP beyond loopback, too: whoever reaches the port can do anything on every node.
    #[arg(long)]
    insecure_tcp: bool,

    /// The mode of Unix sockets, in octal.
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = octal)]
    socket_mode: u32,

    /// The group of Unix sockets, by name or number. [default: the process's own]
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
}

impl SocketOptions {
    /// Who may connect.
    pub(crate) fn access(self, tls: &Tls) -> Access {
        Access {
            tls: tls.server.clone(),
            verify: tls.verify,
            insecure_tcp: self.insecure_tcp,
            socket_mode: self.socket_mode,
            socket_group: self.socket_group,
        }
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "want an octal number up to 777, such as 660".to_owned())
}

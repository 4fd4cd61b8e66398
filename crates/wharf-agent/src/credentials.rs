//! Who an agent is: its key and certificate, kept in its data folder, and how it got them.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};
use wharf_authority::{agent, certificate, joining::Joining, names::MANAGER_NAME, token::JoinToken};
use wharf_engine::{Client, TlsClient, full};
use wharf_model::Endpoint;
use wharf_protocol::{JOIN_PATH, Join, Joined, RENEW_PATH, Renew, Renewed, VERSION, VERSION_HEADER};

use crate::Config;

/// A manager that is there answers a join at once.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// The engine tells who it is from memory.
const ENGINE_WITHIN: Duration = Duration::from_secs(5);

/// Why an agent cannot prove who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It has no certificate, and nothing to get one with.
    #[error("this host has not joined a fleet: start the agent with --token, as `wharf node token` prints it")]
    NoToken,
    /// The token is none.
    #[error("the token: {0}")]
    Token(String),
    /// A file in the data folder cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The manager does not take it in.
    #[error("{0}")]
    Manager(String),
    /// Its keys do not fit.
    #[error("{0}")]
    Tls(String),
}

/// An agent's key and certificates, in PEM form.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    key: String,
}

impl Credentials {
    /// Those of the data folder; with a token, new ones from the manager.
    pub(crate) async fn have(config: &Config) -> Result<Self, Error> {
        let file = config.data.join("token");
        let token = config.token.clone().or_else(|| std::fs::read_to_string(&file).ok());
        let Some(token) = token else { return Self::load(&config.data)?.ok_or(Error::NoToken) };
        let joined = Self::join(config, token.trim()).await;
        match (joined, Self::load(&config.data)) {
            (Ok(credentials), _) => {
                credentials.keep(&config.data)?;
                // It is good for nothing any more; where it came from a flag, there is none.
                std::fs::remove_file(&file).ok();
                Ok(credentials)
            }
            // A token that was used for these, and is still in the command line.
            (Err(error), Ok(Some(known))) => {
                tracing::debug!("the token is not taken, the certificate of last time is: {error}");
                Ok(known)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn join(config: &Config, token: &str) -> Result<Self, Error> {
        let parsed: JoinToken = token.parse().map_err(|error| Error::Token(format!("{error}")))?;
        let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let joining = Joining::new(parsed.authority).map_err(|error| tls(&error))?;
        let request = agent::generate_csr().map_err(|error| tls(&error))?;
        let engine = Client::new(config.engine.clone()).get("/info", ENGINE_WITHIN).await.ok();
        let engine: serde_json::Value = engine.and_then(|info| serde_json::from_slice(&info).ok()).unwrap_or_default();
        let join = Join {
            token: token.to_owned(),
            request: request.request,
            engine: engine["ID"].as_str().unwrap_or_default().to_owned(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            addresses: crate::wiring::own_address(config.manager).into_iter().collect(),
        };
        let client = client(config, TlsClient::of(Arc::new(joining.config.clone()), MANAGER_NAME));
        let joined: Joined = ask(&client, JOIN_PATH, &join).await?;
        let ca = joining.authority().unwrap_or(joined.ca);
        tracing::info!("this host is node {} of the fleet", joined.node);
        Ok(Self { ca, certificate: joined.certificate, key: request.key })
    }

    fn load(data: &Path) -> Result<Option<Self>, Error> {
        let read = |name: &str| match std::fs::read_to_string(data.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::File { path: data.join(name), message: error.to_string() }),
        };
        let found = (read("ca.pem")?, read("node.pem")?, read("node.key")?);
        let (Some(ca), Some(certificate), Some(key)) = found else { return Ok(None) };
        Ok(Some(Self { ca, certificate, key }))
    }

    /// The key comes last: a folder with all three has three that fit.
    fn keep(&self, data: &Path) -> Result<(), Error> {
        std::fs::remove_file(data.join("node.key")).ok();
        for (name, text) in [("ca.pem", &self.ca), ("node.pem", &self.certificate), ("node.key", &self.key)] {
            write(&data.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// A client of the manager that proves who this is.
    pub(crate) fn client(&self, config: &Config) -> Result<Client, Error> {
        let made = agent::agent_config(&self.ca, &self.certificate, &self.key);
        let made = made.map_err(|error| Error::Tls(error.to_string()))?;
        Ok(client(config, TlsClient::of(Arc::new(made), MANAGER_NAME)))
    }

    /// When the certificate is to be renewed.
    pub(crate) fn renew_at(&self) -> SystemTime {
        let certificate = certificate::from_pem(&self.certificate);
        let at = certificate.and_then(|certificate| certificate::renew_after(&certificate));
        at.unwrap_or_else(|_| SystemTime::now())
    }

    /// The next certificate, for a new key.
    pub(crate) async fn renew(&self, config: &Config) -> Result<Self, Error> {
        let request = agent::generate_csr().map_err(|error| Error::Tls(error.to_string()))?;
        let renewed: Renewed = ask(&self.client(config)?, RENEW_PATH, &Renew { request: request.request }).await?;
        let next = Self { ca: self.ca.clone(), certificate: renewed.certificate, key: request.key };
        next.keep(&config.data)?;
        Ok(next)
    }
}

fn client(config: &Config, tls: TlsClient) -> Client {
    let endpoint = Endpoint::Tcp { host: config.manager.ip().to_string(), port: config.manager.port() };
    Client::with_tls(endpoint, Some(tls))
}

/// Posts a message and reads the answer.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    message: &impl Serialize,
) -> Result<T, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Manager(error.to_string());
    let body = serde_json::to_vec(message).map_err(|error| failed(&error))?;
    let request = client.request(http::Method::POST, path, full(body)).map_err(|error| failed(&error))?;
    let answer = client.call(versioned(request), JOIN_WITHIN).await.map_err(|error| failed(&error))?;
    serde_json::from_slice(&answer).map_err(|error| failed(&error))
}

/// Tells which version of the protocol is spoken.
pub(crate) fn versioned<B>(mut request: http::Request<B>) -> http::Request<B> {
    request.headers_mut().insert(VERSION_HEADER, VERSION.into());
    request
}

/// Writes a file that its owner alone may read, whole or not at all.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::File { path: path.to_owned(), message: error.to_string() };
    let draft = path.with_extension("new");
    std::fs::remove_file(&draft).ok();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)
}

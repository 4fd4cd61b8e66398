//! Asking a manager, found as `docker` finds its daemon.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde_json::Value;
use wharf_engine::{Client, TlsClient, TlsFiles, full};
use wharf_model::Endpoint;

/// A manager answers of what it knows.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Which manager to ask.
#[derive(Debug, Args)]
pub(crate) struct Host {
    /// The manager: unix:///PATH or tcp://ADDRESS:PORT. [default: docker's current context]
    #[arg(long, short = 'H', value_name = "URL", env = "DOCKER_HOST", global = true)]
    host: Option<Endpoint>,
}

impl Host {
    /// Asks the manager, and reads its answer.
    ///
    /// # Errors
    /// If there is no manager there, or it refuses.
    pub(crate) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let endpoint = self.endpoint()?;
        let client = Client::with_tls(endpoint.clone(), tls()?);
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut request = client.request(method, path, full(text))?;
        request.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(client.call(request, ANSWER_WITHIN)).map_err(|error| match error {
            wharf_engine::Error::Refused { message, .. } if message == "page not found" => {
                anyhow::anyhow!(
                    "{endpoint} is no Wharf manager: start one with wharf serve, and name it with -H or DOCKER_HOST"
                )
            }
            wharf_engine::Error::Refused { message, .. } => anyhow::anyhow!("{message}"),
            error => anyhow::anyhow!("{error}: is a manager there? wharf serve starts one; -H or DOCKER_HOST names it"),
        })?;
        serde_json::from_slice(&answer).with_context(|| format!("the answer of {endpoint}"))
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        if let Some(endpoint) = context()? {
            return Ok(endpoint);
        }
        let ours = crate::manager::socket();
        Ok(Endpoint::Unix(if ours.exists() { ours } else { PathBuf::from("/var/run/docker.sock") }))
    }
}

/// `~/.docker`, or where `DOCKER_CONFIG` says.
fn config() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(std::env::home_dir()?.join(".docker")))
}

/// The endpoint of docker's current context; `None` for its default one.
fn context() -> anyhow::Result<Option<Endpoint>> {
    let Some(config) = config() else { return Ok(None) };
    let read = |path: PathBuf| std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let named = std::env::var("DOCKER_CONTEXT").ok().filter(|name| !name.is_empty());
    let current = || read(config.join("config.json"))?["currentContext"].as_str().map(str::to_owned);
    let Some(name) = named.or_else(current).filter(|name| name != "default") else { return Ok(None) };
    // Docker files a context's description under its name's digest: looking at each of the few there are does as well.
    let contexts = std::fs::read_dir(config.join("contexts/meta")).into_iter().flatten().flatten();
    let found = contexts.filter_map(|entry| read(entry.path().join("meta.json"))).find(|meta| meta["Name"] == *name);
    let host = found.and_then(|meta| meta["Endpoints"]["docker"]["Host"].as_str().map(str::to_owned));
    let Some(host) = host else {
        bail!("docker's context {name} is not there: docker context ls shows those there are")
    };
    Ok(Some(host.parse().with_context(|| format!("docker's context {name}"))?))
}

/// TLS as `docker` takes it from the environment.
fn tls() -> anyhow::Result<Option<TlsClient>> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let verify = set("DOCKER_TLS_VERIFY").is_some();
    if !verify && set("DOCKER_TLS").is_none() {
        return Ok(None);
    }
    let folder = set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(config).context("DOCKER_CERT_PATH")?;
    let file = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
    let files = TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") };
    Ok(Some(TlsClient::new(&files, verify).with_context(|| format!("TLS, of {}", folder.display()))?))
}

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header, uri::PathAndQuery};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client as HyperClient,
    rt::{TokioExecutor, TokioTimer},
};
use serde::Deserialize;
use wharf_model::Endpoint;

use crate::{Body, Error, Pulse, TlsClient, body, transport::Connector};

/// Connections that wait for the next request, per engine: enough for a burst, few enough for thousands of engines.
const IDLE_CONNECTIONS: usize = 8;

/// What is read at once from a connection. Left to itself, hyper lets it grow with the largest answer, and keeps it so: with
/// thousands of engines that is most of the memory.
const READ_BUFFER: usize = 8 << 10;

/// How long they wait.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// The largest answer that is read as a whole: a list of some 50,000 containers.
const ANSWER_LIMIT: usize = 256 << 20;

/// One engine's API. Cheap to clone; connections are kept and shared.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    http: HyperClient<Connector, Body>,
}

impl Client {
    /// A client of the engine at `endpoint`, without TLS. Nothing is connected yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with_tls(endpoint, None)
    }

    /// A client of the engine at `endpoint`, within TLS if that is given and the endpoint is on the network.
    pub fn with_tls(endpoint: Endpoint, tls: Option<TlsClient>) -> Self {
        let connector = Connector::new(endpoint, tls);
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_read_buf_exact_size(READ_BUFFER)
            .http1_preserve_header_case(true)
            .build(connector.clone());
        Self { connector, http }
    }

    /// Where the engine is.
    pub fn endpoint(&self) -> &Endpoint {
        self.connector.endpoint()
    }

    /// What asks the engine whether it is there.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.connector.clone())
    }

    /// Sends a request whose URI is a path, and gives the answer when its head is there; whatever its status is. No
    /// deadline: the caller sets one if it wants one, and ends the request by dropping it.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        // The authority is only what the `Host` header says; where the connection goes is the connector's business.
        let uri = Uri::builder().scheme("http").authority("docker").path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|error| self.unreachable(true, error))?;
        request.headers_mut().remove(header::HOST);
        self.http.request(request).await.map_err(|error| self.unreachable(error.is_connect(), error))
    }

    /// Sends a request and reads the answer as a whole.
    ///
    /// # Errors
    /// [`Error::Refused`] for a status of 400 and above; [`Error::Late`] after `within`; the others as they come.
    pub async fn call(&self, request: Request<Body>, within: Duration) -> Result<Bytes, Error> {
        let call = async {
            let response = self.send(request).await?;
            let status = response.status();
            let read = body::collect(response.into_body(), ANSWER_LIMIT).await;
            let bytes = read
                .map_err(|error| self.unreachable(false, error))?
                .map_err(|limit| Error::TooLarge { endpoint: self.endpoint().clone(), limit })?;
            if status.is_client_error() || status.is_server_error() {
                return Err(Error::Refused { status, message: message(&bytes) });
            }
            Ok(bytes)
        };
        let late = |_| Error::Late { endpoint: self.endpoint().clone(), after: within };
        tokio::time::timeout(within, call).await.map_err(late)?
    }

    /// `GET path`, read as a whole.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get(&self, path: &str, within: Duration) -> Result<Bytes, Error> {
        self.call(self.request(Method::GET, path, body::empty())?, within).await
    }

    /// A request to this engine.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if `path` is not a path and query.
    pub fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Error> {
        Request::builder().method(method).uri(path).body(body).map_err(|error| self.unreachable(true, error))
    }

    fn unreachable(&self, unsent: bool, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::unreachable(self.endpoint(), unsent, source)
    }
}

/// The text of an engine's error: `{"message": …}`, or whatever it sent.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_slice(body)
        .map(|refusal: Refusal| refusal.message)
        .unwrap_or_else(|_| String::from_utf8_lossy(body).trim().to_owned())
}

//! One request on its way to its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use wharf_engine::collect;
use wharf_model::{ApiVersion, Class, Container, Node, Resolution, Snapshot};

use super::{BuildKits, Execs, Transfers, pattern::Captured, upload::Upload};
use crate::{
    Error, Identity,
    agents::Agents,
    fleet::{Fleet, LabelFile, Link, Orphans},
    networks::Networks,
    view::{images::Meanings, info::NodeLines, query::Query},
};

/// The largest JSON body that is taken: a container's description with long labels and a large environment.
const JSON_LIMIT: usize = 4 << 20;

/// What handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) fleet: Fleet,
    pub(crate) labels: LabelFile,
    pub(crate) orphans: Orphans,
    pub(crate) identity: Arc<Identity>,
    pub(crate) execs: Execs,
    pub(crate) transfers: Transfers,
    pub(crate) buildkits: BuildKits,
    pub(crate) node_lines: NodeLines,
    pub(crate) meanings: Meanings,
    pub(crate) networks: Networks,
    pub(crate) agents: Agents,
    /// The fleet network of containers that name none; `None` for Docker's bridge.
    pub(crate) default_network: Option<Arc<str>>,
}

/// A request, with what its path says taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) app: App,
    pub(crate) request: Request<Upload>,
    /// The version of the API that the client speaks.
    pub(crate) version: ApiVersion,
    /// The name in the path.
    pub(crate) captured: Captured,
    /// Who asks, as far as the connection tells: requests of one client go to one builder.
    pub(crate) client: Arc<str>,
}

impl Call {
    /// What is known of the fleet now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.app.fleet.snapshot()
    }

    /// The query, taken apart.
    ///
    /// # Errors
    /// [`Class::Invalid`] if it cannot be decoded.
    pub(crate) fn query(&self) -> Result<Query, Error> {
        Query::parse(self.request.uri().query().unwrap_or(""))
    }

    /// `rest`, and the client's query as it came.
    pub(crate) fn with_query(&self, rest: &str) -> String {
        match self.request.uri().query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        }
    }

    /// The container that the path names.
    ///
    /// # Errors
    /// As [`container`].
    pub(crate) fn container(&self) -> Result<Arc<Container>, Error> {
        container(&self.snapshot(), &self.captured.name)
    }

    /// The body as JSON, its bytes beside.
    ///
    /// # Errors
    /// [`Class::TooLarge`] above the limit; [`Class::Invalid`] if it breaks off or is not such JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<(T, Bytes), Error> {
        let bytes = self.bytes().await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("invalid JSON: {error}")))?;
        Ok((value, bytes))
    }

    /// The body as it is.
    ///
    /// # Errors
    /// [`Class::TooLarge`] above the limit; [`Class::Invalid`] if it breaks off.
    pub(crate) async fn bytes(self) -> Result<Bytes, Error> {
        // Docker's rule: a page in a browser can post anything but this.
        let kind = self.request.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        let empty = kind.is_none() && self.request.body().is_end_stream();
        if !empty && kind != Some("application/json") {
            let kind = kind.unwrap_or("");
            return Err(Error::invalid(format!("Content-Type specified ({kind}) must be 'application/json'")));
        }
        collect(self.request.into_body(), JSON_LIMIT)
            .await
            .map_err(|error| Error::invalid(format!("the request's body broke off: {error}")))?
            .map_err(|limit| Error::new(Class::TooLarge, format!("the request's body is larger than {limit} bytes")))
    }
}

impl App {
    /// The way to a node that answers.
    ///
    /// # Errors
    /// [`Class::Unavailable`], naming `what` is there, if it does not.
    pub(crate) fn link(&self, node: &Node, what: &str) -> Result<Arc<Link>, Error> {
        let link = self.fleet.link(node.id).filter(|_| node.is_healthy());
        link.ok_or_else(|| {
            let why = node.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
            Error::unavailable(format!("{what} is on {}, which does not answer{why}", node.name))
        })
    }
}

/// The node of that name, or at that address.
///
/// # Errors
/// [`Class::NotFound`], naming some of those there are.
pub(crate) fn node(snapshot: &Snapshot, name: &str) -> Result<Arc<Node>, Error> {
    let by_address = || snapshot.nodes().find(|node| node.endpoint.address() == name);
    snapshot.node_named(name).or_else(by_address).cloned().ok_or_else(|| {
        let names: Vec<_> = snapshot.nodes().take(10).map(|node| &*node.name).collect();
        Error::not_found(format!("no node is called {name}: there are {}", names.join(", ")))
    })
}

/// The container that a reference means.
///
/// # Errors
/// [`Class::NotFound`] and [`Class::Conflict`] in Docker's words.
pub(crate) fn container(snapshot: &Snapshot, reference: &str) -> Result<Arc<Container>, Error> {
    match snapshot.resolve(reference) {
        Resolution::One(container) => Ok(container),
        Resolution::Unknown => Err(Error::not_found(format!("No such container: {reference}"))),
        Resolution::Ambiguous(several) => {
            let names: Vec<_> = several
                .0
                .iter()
                .take(5)
                .map(|container| {
                    let node = snapshot.node(container.node).map_or("?", |node| &node.name);
                    format!("{node}/{} ({})", container.name, container.id.short())
                })
                .collect();
            let more = if several.0.len() > names.len() { ", …" } else { "" };
            Err(Error::invalid(format!(
                "{reference:?} may mean {} containers: {}{more}; give a longer id or node/name",
                several.0.len(),
                names.join(", "),
            )))
        }
    }
}

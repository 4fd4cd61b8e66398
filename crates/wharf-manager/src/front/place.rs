//! Creating a container: choose a node, bring the image, create, and leave nothing behind if any of it fails.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use wharf_engine::{Body, Error as EngineError, wire::Touched};
use wharf_model::{ApiVersion, Class, ContainerId, Node};

use super::{
    answer::{of_engine, with_status},
    call::{App, Call},
    links, networks, platform,
};
use crate::{
    Error,
    create::CreateRequest,
    fleet::{Creation, Link, MARK},
    networks::Wiring,
    view,
};

/// Nodes that are tried: one that fails to answer at this very moment is bad luck, three are a pattern.
const ATTEMPTS: usize = 3;

/// An engine that creates a container copies files, at worst on a slow disk; it does not pull here.
const CREATE_WITHIN: Duration = Duration::from_secs(120);

/// Looking for a container whose create went unanswered.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Removing a container that nobody will ask for.
const REMOVE_WITHIN: Duration = Duration::from_secs(30);

/// The label that tells why a container is on its node.
pub(crate) const WHY: &str = "wharf.placed";

/// What a client asks for beside the body.
#[derive(Debug, Clone)]
struct Wish {
    name: Option<String>,
    platform: Option<String>,
    version: ApiVersion,
    body: Bytes,
}

/// A container that was made.
struct Made {
    link: Arc<Link>,
    answer: Created,
}

/// An engine's answer to a create.
#[derive(Debug, Deserialize, Serialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Warnings", default)]
    warnings: Option<Vec<String>>,
}

/// `POST /containers/create`
pub(crate) async fn container(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let text = |key| query.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let (name, platform, version) = (text("name"), text("platform"), call.version);
    let app = call.app.clone();
    let wish = Wish { name, platform, version, body: call.bytes().await? };
    let (answer, wait) = oneshot::channel();
    // In a task of its own: a client that hangs up must not stop it half way.
    tokio::spawn(async move {
        let made = create(&app, &wish).await;
        if let Err(Ok(made)) = answer.send(made) {
            tracing::info!(id = %made.answer.id, "the client of a create has hung up: its container is removed");
            discard(&made.link, &made.answer.id).await;
        }
    });
    let made = wait.await.map_err(|_| Error::internal("a create was broken off"))??;
    let body = serde_json::to_vec(&made.answer).map_err(|error| Error::internal(error.to_string()))?;
    Ok(with_status(StatusCode::CREATED, body))
}

async fn create(app: &App, wish: &Wish) -> Result<Made, Error> {
    networks::fleet::ensure_default(app).await?;
    let mut creation = Creation::new();
    let mut excluded = BTreeSet::new();
    let mut failure = None;
    // What the image runs on, once a node has been chosen of another kind than those that have it.
    let mut runs_on = None;
    for _ in 0..=ATTEMPTS {
        creation.next();
        let snapshot = app.fleet.snapshot();
        let mut request = CreateRequest::parse(
            &wish.body,
            wish.name.as_deref(),
            wish.platform.as_deref(),
            &snapshot,
            app.default_network.as_deref(),
        )?;
        let image = image(app, &request.image).await?;
        let full = app.networks.full_on(&request.joins, &snapshot)?;
        request.workload.exclude = excluded.iter().chain(full.keys()).copied().collect();
        request.workload.platform = request.workload.platform.or_else(|| runs_on.clone());
        let (promise, placement) = match (app.fleet.place(request.workload.clone()).await, failure.take()) {
            (Ok(placed), _) => placed,
            // With the node that failed left out there is none: what it failed with is the better explanation.
            (Err(_), Some(failure)) => return Err(failure),
            (Err(error), None) => {
                let full = full.into_values().next();
                let full = full.map_or_else(String::new, |full| format!("; {full}"));
                return Err(Error::new(error.class, format!("{error}{full}")));
            }
        };
        // As it is now: the place may have been waited for.
        let snapshot = app.fleet.snapshot();
        let Some(node) = promise.node().and_then(|id| snapshot.node(id).cloned()) else { continue };
        if request.workload.platform.is_none()
            && let Some(platform) = platform::of_image(app, &snapshot, &image, &node).await?
            && !platform::runs_on(&platform, &node)
        {
            runs_on = Some(platform);
            continue;
        }
        let labels = [(MARK, creation.to_string()), (WHY, placement.to_string())];
        match attempt(app, wish, &request, &image, &node, (&creation, &labels)).await {
            Ok((made, wiring)) => {
                // Name, place and addresses are promised to nobody else until the state knows who has them.
                match made.answer.id.parse::<ContainerId>() {
                    Ok(id) => made.link.observe_new_holding(id, (promise, wiring)).await,
                    Err(_) => made.link.observe_holding(Touched::Containers, (promise, wiring)).await,
                }
                return Ok(made);
            }
            Err(Failed::For(error)) => return Err(error),
            Err(Failed::Here(error)) => {
                tracing::warn!("a create on {} failed, another node is tried: {error}", node.name);
                excluded.insert(node.id);
                failure = Some(error);
            }
        }
    }
    Err(failure.unwrap_or_else(|| Error::unavailable("the nodes change too fast to create a container")))
}

/// The image that a name means; waits a while for what decides that where nodes disagree.
async fn image(app: &App, reference: &str) -> Result<view::images::FleetImage, Error> {
    app.buildkits.settle(app).await;
    if let Some(known) = app.meanings.known(&app.fleet.snapshot(), reference) {
        return Ok(known);
    }
    if view::images::is_undecided(&app.fleet.snapshot(), reference) {
        let decided = app.fleet.wait_for(|snapshot| !view::images::is_undecided(snapshot, reference));
        tokio::time::timeout(LOOK_WITHIN, decided).await.ok();
    }
    app.meanings.resolve(&app.fleet.snapshot(), reference)
}

/// Why an attempt came to nothing.
enum Failed {
    /// Another node would refuse as well.
    For(Error),
    /// Only this node failed.
    Here(Error),
}

async fn attempt(
    app: &App,
    wish: &Wish,
    request: &CreateRequest,
    image: &view::images::FleetImage,
    node: &Node,
    (creation, labels): (&Creation, &[(&str, String)]),
) -> Result<(Made, Wiring), Failed> {
    let link = app.link(node, "the chosen place").map_err(Failed::Here)?;
    app.transfers.ensure(app, node, image, &request.image).await.map_err(Failed::Here)?;
    let mut query = Vec::new();
    for (key, value) in [("name", &wish.name), ("platform", &wish.platform)] {
        query.extend(value.as_ref().map(|value| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))));
    }
    let path = link.path(wish.version, &format!("/containers/create?{}", query.join("&")));
    let wiring = app.networks.wire(&request.joins, node).await.map_err(|error| match error.class {
        Class::Unavailable | Class::Internal => Failed::Here(error),
        // Others were faster to take this node's last address.
        Class::Conflict if request.joins.iter().all(|join| join.address.is_none()) => Failed::Here(error),
        _ => Failed::For(error),
    })?;
    let linked = if request.links.is_empty() { Vec::new() } else { links::environment(app, request).await };
    let sent = request.for_engine(node, labels, &wiring, &linked);
    let create = link.call(Method::POST, &path, Some(sent.body.into()), CREATE_WITHIN);
    let unlike = |id| id == node.id || request.workload.exclude.contains(&id);
    let answered = tokio::select! {
        answered = create => Some(answered),
        // The engine has fallen silent, and others have not: whatever it makes of this later is removed then.
        () = link.suspected_while(|| app.fleet.has_other(unlike)) => None,
    };
    let Some(answered) = answered else {
        give_up(app, &link, creation);
        return Err(Failed::Here(Error::unavailable(format!("{} does not answer", node.name))));
    };
    let mut answer = match answered {
        Ok(answer) => serde_json::from_slice::<Created>(&answer).map_err(|error| {
            give_up(app, &link, creation);
            Failed::For(Error::internal(format!("{} gave an answer that cannot be read: {error}", node.name)))
        })?,
        Err(error @ EngineError::Refused { .. }) => return Err(Failed::For(of_engine(&error, node))),
        Err(error) if !error.may_have_happened() => return Err(Failed::Here(of_engine(&error, node))),
        // The answer is lost: look before anything is made twice.
        Err(error) => match found(&link, creation).await {
            Some(id) => Created { id, warnings: None },
            None => {
                give_up(app, &link, creation);
                return Err(Failed::Here(of_engine(&error, node)));
            }
        },
    };
    if let Err(error) = connect(&link, node, wish.version, &answer.id, &sent.further).await {
        discard(&link, &answer.id).await;
        return Err(Failed::For(error));
    }
    let mut warnings = answer.warnings.take().unwrap_or_default();
    warnings.extend(request.warnings(&node.name));
    answer.warnings = Some(warnings);
    Ok((Made { link, answer }, wiring))
}

/// Gives an attempt up: whatever it has made is removed, as soon as the engine can be asked what that is.
fn give_up(app: &App, link: &Arc<Link>, creation: &Creation) {
    app.orphans.give_up(creation);
    let link = Arc::clone(link);
    tokio::spawn(async move { link.observe(Touched::Containers).await });
}

/// Connects a container to further networks, before anybody can start it.
async fn connect(
    link: &Link,
    node: &Node,
    version: ApiVersion,
    id: &str,
    networks: &[(String, Value)],
) -> Result<(), Error> {
    for (network, endpoint) in networks {
        let path = format!("/networks/{}/connect", utf8_percent_encode(network, NON_ALPHANUMERIC));
        let body = serde_json::json!({ "Container": id, "EndpointConfig": endpoint }).to_string();
        let connected = link.call(Method::POST, &link.path(version, &path), Some(body.into()), CREATE_WITHIN).await;
        connected.map_err(|error| of_engine(&error, node))?;
    }
    Ok(())
}

/// The container that an attempt has made after all.
async fn found(link: &Link, creation: &Creation) -> Option<String> {
    #[derive(Deserialize)]
    struct Listed {
        #[serde(rename = "Id")]
        id: String,
    }
    let filters = serde_json::json!({ "label": [format!("{MARK}={creation}")] }).to_string();
    let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
    let path = link.path(crate::API_NEWEST, &format!("/containers/json?all=1&filters={filters}"));
    let listed = link.call(Method::GET, &path, None, LOOK_WITHIN).await.ok()?;
    let listed: Vec<Listed> = serde_json::from_slice(&listed).ok()?;
    listed.into_iter().next().map(|listed| listed.id)
}

async fn discard(link: &Link, id: &str) {
    let path = link.path(crate::API_NEWEST, &format!("/containers/{id}"));
    if let Err(error) = link.call(Method::DELETE, &path, None, REMOVE_WITHIN).await {
        tracing::warn!("container {id} could not be removed: {error}");
    }
    if let Ok(id) = id.parse::<ContainerId>() {
        link.observe(Touched::Container(id)).await;
    }
}

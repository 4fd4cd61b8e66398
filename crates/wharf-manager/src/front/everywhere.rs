//! Requests that all nodes answer, their answers folded into one.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, Response};
use serde_json::{Map, Value};
use wharf_engine::{Body, wire::Touched};
use wharf_model::{ApiVersion, Class, Labels, Node, Snapshot};

use super::{
    answer::{json, of_engine},
    call::{App, Call},
    newer::Newer,
};
use crate::{
    API_NEWEST, Error,
    fleet::Link,
    view::{self, query::Filters},
};

/// Engines that clean up delete files, and those that measure walk over them; disks may be slow.
const WITHIN: Duration = Duration::from_secs(600);

/// `POST /containers/prune` and its like: what was removed, from all nodes.
pub(crate) async fn prune(call: Call) -> Result<Response<Body>, Error> {
    Filters::parse(call.query()?.get("filters").unwrap_or(""))?;
    let path = call.with_query(&call.captured.with_name(""));
    let answers = ask(&call, |_| Ok((Method::POST, path.clone()))).await;
    pruned(&call.app, answers).await
}

/// `POST /networks/prune` of all nodes; `names` are those that the fleet has lost already. Parts of fleet networks are theirs
/// to remove.
pub(crate) async fn prune_networks(call: Call, filters: &Filters, names: Vec<String>) -> Result<Response<Body>, Error> {
    let filters = filters.with("label!", wharf_model::FLEET_NETWORK_LABEL).to_json();
    let filters = percent_encoding::utf8_percent_encode(&filters, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("/networks/prune?filters={filters}");
    let mut answers = ask(&call, |_| Ok((Method::POST, path.clone()))).await;
    if let Ok(answers) = &mut answers {
        answers.push(Map::from_iter([("NetworksDeleted".to_owned(), names.into())]));
    }
    pruned(&call.app, answers).await
}

/// `POST /build/prune`: what is to be kept had another name before API 1.48.
pub(crate) async fn prune_builds(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    Filters::parse(query.get("filters").unwrap_or(""))?;
    for key in ["keep-storage", "reserved-space", "max-used-space", "min-free-space"] {
        query.number(key)?;
    }
    let newer = call.request.extensions().get::<Newer>().copied();
    let answers = ask(&call, |(link, node)| {
        newer.map_or(Ok(()), |newer| newer.check(link, node))?;
        let query = if link.speaks(ApiVersion::new(1, 48)) {
            query.clone()
        } else {
            query.renamed("reserved-space", "keep-storage")
        };
        Ok((Method::POST, format!("/build/prune?{}", query.text())))
    })
    .await;
    pruned(&call.app, answers).await
}

/// `POST /volumes/prune`: since API 1.42 only volumes without a name, unless the filter `all` is given. Older engines remove
/// named ones in any case; of those, what is meant is removed one by one.
pub(crate) async fn prune_volumes(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let only_anonymous = ApiVersion::new(1, 42);
    let filters = view::query::Filters::parse(query.get("filters").unwrap_or(""))?;
    let all = call.version < only_anonymous || filters.flag("all")?.unwrap_or(false);
    let snapshot = call.snapshot();
    let one_by_one = |node: &Node| !all && node.engine.as_ref().is_some_and(|engine| engine.api < only_anonymous);
    let old = join_all(snapshot.nodes().filter(|node| node.is_healthy() && one_by_one(node)).map(|node| {
        let (app, filters) = (&call.app, &filters);
        async move { prune_anonymous(app, node, filters).await }
    }));
    let without_all = filters.without("all").to_json();
    let (old, new) = tokio::join!(
        old,
        ask_those(
            &call,
            |node| !one_by_one(node),
            |(link, _)| {
                let path = if link.speaks(only_anonymous) || query.get("filters").is_none() {
                    call.with_query("/volumes/prune")
                } else {
                    format!("/volumes/prune?{}", query.with("filters", &without_all))
                };
                Ok((Method::POST, path))
            }
        )
    );
    let mut answers = old.into_iter().collect::<Result<Vec<_>, _>>()?;
    match new {
        Ok(new) => answers.extend(new),
        Err(error) if answers.is_empty() => return Err(error),
        Err(_) => {}
    }
    pruned(&call.app, Ok(answers)).await
}

/// Removes a node's volumes that nobody uses, has named or filters out.
async fn prune_anonymous(app: &App, node: &Node, filters: &Filters) -> Result<Map<String, Value>, Error> {
    let link = app.link(node, "this")?;
    let get = async |path: &str| {
        let answer = link.call(Method::GET, &link.path(API_NEWEST, path), None, WITHIN).await;
        let answer = answer.map_err(|error| of_engine(&error, node))?;
        serde_json::from_slice::<Value>(&answer).map_err(|error| Error::internal(error.to_string()))
    };
    let unused = get("/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D").await?;
    let anonymous = unused["Volumes"].as_array().into_iter().flatten().filter(|volume| {
        let name = volume["Name"].as_str().unwrap_or_default();
        let labels = volume["Labels"].as_object().into_iter().flatten();
        let labels: Labels = labels.map(|(key, value)| (key, value.as_str().unwrap_or_default())).collect();
        name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && view::filter::labels(filters, &labels)
    });
    let names: Vec<_> = anonymous.filter_map(|volume| volume["Name"].as_str()).collect();
    let usage = if names.is_empty() { Value::Null } else { get("/system/df").await? };
    let (mut removed, mut freed) = (Vec::new(), 0);
    for name in names {
        // One that is used by now is none of those that are meant.
        if link.call(Method::DELETE, &link.path(API_NEWEST, &format!("/volumes/{name}")), None, WITHIN).await.is_ok() {
            let known = usage["Volumes"].as_array().into_iter().flatten().find(|volume| volume["Name"] == name);
            freed += known.and_then(|volume| volume["UsageData"]["Size"].as_i64()).unwrap_or(0).max(0);
            removed.push(Value::from(name));
        }
    }
    Ok(Map::from_iter([("VolumesDeleted".to_owned(), removed.into()), ("SpaceReclaimed".to_owned(), freed.into())]))
}

/// Reads back what was removed, and tells of it.
async fn pruned(app: &App, answers: Result<Vec<Map<String, Value>>, Error>) -> Result<Response<Body>, Error> {
    let links = app.fleet.snapshot().nodes().filter_map(|node| app.fleet.link(node.id)).collect::<Vec<_>>();
    join_all(links.iter().map(|link| async move {
        for touched in [Touched::Images, Touched::Networks, Touched::Volumes, Touched::Containers] {
            link.observe(touched).await;
        }
    }))
    .await;
    let folded = answers?.into_iter().fold(Map::new(), view::fold::sum);
    Ok(json(Value::Object(folded).to_string()))
}

/// `GET /system/df`, of the types that are asked for (`type`, since API 1.42).
pub(crate) async fn usage(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let mut types = query.all("type").collect::<Vec<_>>();
    types.retain(|kind| !kind.is_empty());
    // Docker's types, and what of the answer is of them.
    const TYPES: [(&str, &[&str]); 4] = [
        ("container", &["Containers"]),
        ("image", &["Images", "LayersSize"]),
        ("volume", &["Volumes"]),
        ("build-cache", &["BuildCache", "BuilderSize"]),
    ];
    if let Some(unknown) = types.iter().find(|kind| !TYPES.iter().any(|(known, _)| known == *kind)) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let answers = ask(&call, |_| Ok((Method::GET, call.with_query("/system/df")))).await?;
    let mut folded = view::fold::without_agents(answers.into_iter().fold(Map::new(), view::fold::sum));
    folded = view::fold::images_once(folded);
    if !types.is_empty() {
        let others = TYPES.iter().filter(|(kind, _)| !types.contains(kind)).flat_map(|(_, keys)| *keys);
        others.for_each(|key| drop(folded.remove(*key)));
    }
    Ok(json(Value::Object(folded).to_string()))
}

/// What one engine is asked: method and path.
type Question = Result<(Method, String), Error>;

/// The answers of all nodes that answer.
async fn ask(call: &Call, question: impl Fn((&Link, &Node)) -> Question) -> Result<Vec<Map<String, Value>>, Error> {
    ask_those(call, |_| true, question).await
}

/// The answers of the nodes that answer. Those that do not are named in the log; if none does, that is an error.
async fn ask_those(
    call: &Call,
    those: impl Fn(&Node) -> bool,
    question: impl Fn((&Link, &Node)) -> Question,
) -> Result<Vec<Map<String, Value>>, Error> {
    let (app, snapshot): (&App, std::sync::Arc<Snapshot>) = (&call.app, call.snapshot());
    let asked = snapshot.nodes().filter(|node| node.is_healthy() && those(node)).map(|node| {
        let question = &question;
        async move {
            let link = app.link(node, "this")?;
            let (method, path) = question((&link, node))?;
            let answer = link.call(method, &link.path(call.version, &path), None, WITHIN).await;
            let answer = answer.map_err(|error| of_engine(&error, node))?;
            serde_json::from_slice(&answer)
                .map_err(|error| Error::internal(format!("{} gave an answer that cannot be read: {error}", node.name)))
        }
    });
    let mut answers = Vec::new();
    let mut failure = Error::unavailable("no node answers; docker info tells why");
    for answer in join_all(asked).await {
        match answer {
            Ok(answer) => answers.push(answer),
            // What one engine refuses, all refuse.
            Err(error) if error.class != Class::Unavailable => return Err(error),
            Err(error) => {
                tracing::warn!("{error}");
                failure = error;
            }
        }
    }
    if answers.is_empty() { Err(failure) } else { Ok(answers) }
}

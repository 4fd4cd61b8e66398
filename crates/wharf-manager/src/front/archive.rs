//! Images as archives: save and load.

use http::Response;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_engine::{Body, wire::Touched};
use wharf_model::Class;

use super::{
    call::Call,
    choose,
    forward::{forward, passed_back_then},
};
use crate::{Error, view};

/// `GET /images/{name}/get`
pub(crate) async fn save_one(call: Call) -> Result<Response<Body>, Error> {
    let names = vec![call.captured.name.clone()];
    save_all(call, names).await
}

/// `GET /images/get`
pub(crate) async fn save(call: Call) -> Result<Response<Body>, Error> {
    // `names` is given once per image, or once with commas.
    let query = call.query()?;
    let names: Vec<_> = query
        .all("names")
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(Error::invalid("no image is named: want names=IMAGE"));
    }
    save_all(call, names).await
}

/// One archive is one engine's: images that it lacks are brought there first.
async fn save_all(call: Call, names: Vec<String>) -> Result<Response<Body>, Error> {
    call.app.buildkits.settle(&call.app).await;
    let snapshot = call.snapshot();
    let mut images = Vec::with_capacity(names.len());
    for name in names {
        images.push((view::images::resolve(&snapshot, &name)?, name));
    }
    let holds = |node: &wharf_model::NodeId| images.iter().filter(|(image, _)| image.holders.contains(node)).count();
    let answering = images.iter().flat_map(|(image, _)| image.holders.iter()).copied();
    let answering = answering.filter(|id| snapshot.node(*id).is_some_and(|node| node.is_healthy()));
    let Some(node) = answering.max_by_key(holds).and_then(|id| snapshot.node(id)) else {
        return Err(Error::new(Class::Unavailable, "the nodes that have these images do not answer"));
    };
    for (image, name) in &images {
        call.app.transfers.ensure(&call.app, node, image, name).await?;
    }
    let link = call.app.link(node, "the image")?;
    let names: Vec<_> =
        images.iter().map(|(_, name)| format!("names={}", utf8_percent_encode(name, NON_ALPHANUMERIC))).collect();
    let path = link.path(call.version, &format!("/images/get?{}", names.join("&")));
    forward(&link, node, call.request, &path).await
}

/// `POST /images/load`
pub(crate) async fn load(call: Call) -> Result<Response<Body>, Error> {
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query("/images/load"));
    let response = forward(&link, &node, call.request, &path).await?;
    Ok(passed_back_then(response, async move { link.observe(Touched::Images).await }))
}

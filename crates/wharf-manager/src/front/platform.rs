//! What an image runs on, in a fleet of hosts of several kinds.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use wharf_model::{Node, Snapshot};
use wharf_plan::Platform;

use super::{answer::of_engine, call::App};
use crate::{API_NEWEST, Error, view::images::FleetImage};

/// An engine that inspects an image reads a file.
const INSPECT_WITHIN: Duration = Duration::from_secs(10);

/// What an image runs on, if that matters for this node: one that is of the same kind as those that have the image, or has it
/// itself, need not be asked about.
///
/// # Errors
/// [`wharf_model::Class::Unavailable`] if no engine that has it can tell.
pub(super) async fn of_image(
    app: &App,
    snapshot: &Snapshot,
    image: &FleetImage,
    node: &Node,
) -> Result<Option<Platform>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Inspected {
        os: String,
        architecture: String,
    }
    let mut holders = image.holders.iter().filter_map(|id| snapshot.node(*id)).filter(|node| node.is_healthy());
    let Some(holder) = holders.next() else { return Ok(None) };
    if image.holders.contains(&node.id) || kind(holder) == kind(node) {
        return Ok(None);
    }
    let link = app.link(holder, "the image")?;
    let path = link.path(API_NEWEST, &format!("/images/{}/json", image.id));
    let inspected =
        link.call(Method::GET, &path, None, INSPECT_WITHIN).await.map_err(|error| of_engine(&error, holder))?;
    let read: Inspected = serde_json::from_slice(&inspected).unwrap_or_default();
    Ok(Some(Platform::parse(&format!("{}/{}", read.os, read.architecture))))
}

/// Whether a node runs what is made for a platform.
pub(super) fn runs_on(platform: &Platform, node: &Node) -> bool {
    let (os, architecture) = kind(node);
    platform.runs_on(os, architecture)
}

fn kind(node: &Node) -> (&str, &str) {
    let label = |key: &str| node.engine.as_ref().and_then(|engine| engine.labels.get(key)).map_or("", |value| &**value);
    (label("ostype"), label("architecture"))
}

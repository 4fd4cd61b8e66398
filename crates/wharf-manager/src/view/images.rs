//! Images as the fleet has them: one image may be on many nodes, and nodes may disagree about what a name means.
//!
//! **Rule:** a name means the image that got it last, on whatever node. Others that still bear it there are shown without.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use regex::Regex;
use serde_json::{Map, Value, json};
use wharf_model::{ApiVersion, IdPrefix, Image, ImageId, Node, NodeId, Snapshot, Timestamp};

use super::{
    filter,
    query::{Filters, Query},
};
use crate::Error;

/// Docker's filters, and `node`.
const FILTERS: [&str; 6] = ["before", "dangling", "label", "node", "reference", "since"];

/// The version of the API from which on an image without a name has none.
const NO_NAME_IS_NONE: ApiVersion = ApiVersion::new(1, 43);

/// The version of the API from which on images have one size.
const NO_VIRTUAL_SIZE: ApiVersion = ApiVersion::new(1, 44);

/// An image and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FleetImage {
    /// Its id.
    pub(crate) id: ImageId,
    /// The nodes that have it; those that answer first.
    pub(crate) holders: Arc<[NodeId]>,
}

/// How many names' meanings are kept.
const KEPT: usize = 1000;

/// What names mean, kept for as long as no images change: where thousands of nodes have an image, finding out which of them got
/// its name last is most of a create. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meanings(Arc<Mutex<(u64, HashMap<String, FleetImage>)>>);

impl Meanings {
    /// The image that a name means, if that was found out of the images that there are now.
    pub(crate) fn known(&self, snapshot: &Snapshot, reference: &str) -> Option<FleetImage> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 == snapshot.images_version { kept.1.get(reference).cloned() } else { None }
    }

    /// As [`resolve`], and keeps what is decided.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn resolve(&self, snapshot: &Snapshot, reference: &str) -> Result<FleetImage, Error> {
        let image = resolve(snapshot, reference)?;
        if !is_undecided(snapshot, reference) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.0 != snapshot.images_version || kept.1.len() >= KEPT {
                *kept = (snapshot.images_version, HashMap::new());
            }
            kept.1.insert(reference.to_owned(), image.clone());
        }
        Ok(image)
    }
}

/// `repository:tag` of a name as engines list it; `None` for an id or a digest, which bear no tag.
pub(crate) fn tag(reference: &str) -> Option<String> {
    let reference = familiar(reference);
    if reference.contains('@') || reference.parse::<ImageId>().is_ok() {
        return None;
    }
    // A colon before the last slash is a registry's port.
    let named = reference.rsplit('/').next().is_some_and(|last| last.contains(':'));
    Some(if named { reference.to_owned() } else { format!("{reference}:latest") })
}

/// Whether it can be the name of anything in a registry: the part before tag and digest is of lower case.
pub(crate) fn is_reference(reference: &str) -> bool {
    let repository = reference.rsplit_once([':', '@']).map_or(reference, |(repository, _)| repository);
    let (host, path) = repository.split_once('/').unwrap_or(("", repository));
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:@".contains(&byte);
    path.bytes().all(allowed) && host.bytes().all(|byte| allowed(byte.to_ascii_lowercase()))
}

/// Docker's short form: `docker.io/library/busybox` is `busybox`.
fn familiar(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").or_else(|| reference.strip_prefix("index.docker.io/"));
    short.map_or(reference, |short| short.strip_prefix("library/").unwrap_or(short))
}

/// Finds the image that a user means by an id, a name, a digest or the first digits of an id.
///
/// # Errors
/// [`wharf_model::Class::NotFound`] in Docker's words; [`wharf_model::Class::Invalid`] if several ids begin so.
pub(crate) fn resolve(snapshot: &Snapshot, reference: &str) -> Result<FleetImage, Error> {
    let mut ids = meant(snapshot, reference).into_iter();
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(FleetImage { id, holders: holders(snapshot, id) }),
        (Some(_), Some(_)) => Err(Error::invalid(format!("{reference:?} is the beginning of several images' ids"))),
        (None, _) => {
            if !is_reference(reference) {
                return Err(Error::invalid("invalid reference format: repository name must be lowercase"));
            }
            let name = tag(reference).unwrap_or_else(|| reference.to_owned());
            Err(Error::not_found(format!("No such image: {name}")))
        }
    }
}

/// The images that a reference may mean: one, unless it is the beginning of several ids.
pub(crate) fn meant(snapshot: &Snapshot, reference: &str) -> Vec<ImageId> {
    if let Ok(id) = reference.parse::<ImageId>() {
        return snapshot.holders(id).next().map(|_| id).into_iter().collect();
    }
    // The image that got the name last; a node that does not answer is asked only if no other knows the name.
    let latest = named(snapshot, reference)
        .max_by_key(|(node, image)| (node.is_healthy(), image.tagged.unwrap_or(image.created), image.id));
    if let Some((_, image)) = latest {
        return vec![image.id];
    }
    let Some(prefix) = IdPrefix::parse(reference.strip_prefix("sha256:").unwrap_or(reference)) else {
        return Vec::new();
    };
    snapshot.images_with_prefix(prefix).take(2).collect()
}

/// The images that bear that name, and where.
fn named<'a>(snapshot: &'a Snapshot, reference: &str) -> impl Iterator<Item = (&'a Arc<Node>, &'a Arc<Image>)> {
    let name = tag(reference).unwrap_or_else(|| familiar(reference).to_owned());
    snapshot.images_named(&name).collect::<Vec<_>>().into_iter()
}

/// Whether nodes disagree about what a name means, and it is not known yet which of them got it last.
pub(crate) fn is_undecided(snapshot: &Snapshot, reference: &str) -> bool {
    let ids: BTreeSet<_> = named(snapshot, reference).map(|(_, image)| image.id).collect();
    ids.len() > 1 && named(snapshot, reference).any(|(node, image)| node.is_healthy() && image.tagged.is_none())
}

fn holders(snapshot: &Snapshot, id: ImageId) -> Arc<[NodeId]> {
    let mut holders: Vec<_> = snapshot.holders(id).collect();
    holders.sort_by_key(|node| !node.is_healthy());
    holders.into_iter().map(|node| node.id).collect()
}

/// The nodes from which a reference has to be removed: all that know the name, whatever they mean by it (else an older image
/// would come to light under it); for an id, all that have the image.
pub(crate) fn having<'a>(snapshot: &'a Snapshot, reference: &str, image: &FleetImage) -> Vec<&'a Arc<Node>> {
    let named: BTreeMap<_, _> = match tag(reference) {
        Some(tag) => snapshot.images_named(&tag).map(|(node, _)| (node.id, node)).collect(),
        None => BTreeMap::new(),
    };
    if named.is_empty() { snapshot.holders(image.id).collect() } else { named.into_values().collect() }
}

/// What a client wants to see.
#[derive(Debug)]
pub(crate) struct ListQuery {
    /// With those that only builds have made, which only the engines know.
    pub(crate) all: bool,
    /// What else only the engines know: `shared-size=1&manifests=1`.
    pub(crate) extras: Vec<&'static str>,
    filters: Filters,
    dangling: Option<bool>,
    references: Vec<Regex>,
}

impl ListQuery {
    /// Reads the query of `GET /images/json`.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`], naming the parameter.
    pub(crate) fn parse(query: &Query) -> Result<Self, Error> {
        let filters = query.filters(&FILTERS)?;
        let dangling = filters.flag("dangling")?;
        let references = filters.of("reference").map(glob).collect::<Result<_, _>>()?;
        let extras = ["shared-size", "manifests"].into_iter().filter(|key| query.flag(key)).collect();
        Ok(Self { all: query.flag("all"), extras, filters, dangling, references })
    }
}

/// One image as several nodes have it.
struct Merged<'a> {
    newest: &'a Image,
    tags: BTreeSet<&'a str>,
    digests: BTreeSet<&'a str>,
    shown: bool,
}

/// The answer to `GET /images/json`: one entry per image, the newest first.
///
/// # Errors
/// [`wharf_model::Class::NotFound`] if `before` or `since` name no image.
pub(crate) fn list(snapshot: &Snapshot, query: &ListQuery, version: ApiVersion) -> Result<Vec<u8>, Error> {
    let bound = |key: &str| -> Result<Option<Timestamp>, Error> {
        let Some(reference) = query.filters.of(key).next() else { return Ok(None) };
        let image = resolve(snapshot, reference)?;
        let found = snapshot.nodes().find_map(|node| node.images.get(&image.id));
        Ok(found.map(|image| image.created))
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let mut images: Vec<_> = merged(snapshot, &query.filters).into_values().filter(|image| image.shown).collect();
    images.sort_by_key(|image| (Reverse(image.newest.created), image.newest.id));
    let kept = images.into_iter().filter(|image| {
        let reference = |pattern: &Regex| {
            image.tags.iter().any(|tag| {
                pattern.is_match(tag)
                    || tag.rsplit_once(':').is_some_and(|(repository, _)| pattern.is_match(repository))
            })
        };
        before.is_none_or(|before| image.newest.created < before)
            && since.is_none_or(|since| image.newest.created > since)
            && query.dangling.is_none_or(|dangling| dangling == image.tags.is_empty())
            && filter::labels(&query.filters, &image.newest.labels)
            && (query.references.is_empty() || query.references.iter().any(reference))
    });
    let entries: Vec<Value> = kept.map(|image| entry(&image, version)).collect();
    serde_json::to_vec(&entries).map_err(|error| Error::internal(error.to_string()))
}

fn merged<'a>(snapshot: &'a Snapshot, filters: &Filters) -> BTreeMap<ImageId, Merged<'a>> {
    let mut winners: BTreeMap<&str, (bool, Timestamp, ImageId)> = BTreeMap::new();
    for node in snapshot.nodes() {
        for image in node.images.values() {
            for tag in &image.tags {
                let claim = (node.is_healthy(), image.tagged.unwrap_or(image.created), image.id);
                let winner = winners.entry(tag).or_insert(claim);
                *winner = claim.max(*winner);
            }
        }
    }
    let mut merged: BTreeMap<ImageId, Merged<'a>> = BTreeMap::new();
    for node in snapshot.nodes() {
        let shown = filter::node(filters, node);
        for image in node.images.values() {
            let known = merged.entry(image.id).or_insert_with(|| Merged {
                newest: image,
                tags: BTreeSet::new(),
                digests: BTreeSet::new(),
                shown: false,
            });
            known.shown |= shown;
            let won = |tag: &&str| winners.get(*tag).is_some_and(|(_, _, id)| *id == image.id);
            known.tags.extend(image.tags.iter().map(|tag| &**tag).filter(won));
            known.digests.extend(image.digests.iter().map(|digest| &**digest));
        }
    }
    merged
}

/// An image's entry in the form of a version of the API, whatever its engine speaks.
fn entry(image: &Merged<'_>, version: ApiVersion) -> Value {
    let mut entry: Map<String, Value> = serde_json::from_str(&image.newest.entry).unwrap_or_default();
    // "No name" was a name of its own before 1.43, and is none since.
    let or_none = |names: &BTreeSet<&str>, none: &str| {
        if names.is_empty() && version < NO_NAME_IS_NONE { json!([none]) } else { json!(names) }
    };
    entry.insert("RepoTags".to_owned(), or_none(&image.tags, "<none>:<none>"));
    let digests = if image.tags.is_empty() { or_none(&image.digests, "<none>@<none>") } else { json!(image.digests) };
    entry.insert("RepoDigests".to_owned(), digests);
    if version >= NO_VIRTUAL_SIZE {
        entry.remove("VirtualSize");
    } else if let (false, Some(size)) = (entry.contains_key("VirtualSize"), entry.get("Size").cloned()) {
        entry.insert("VirtualSize".to_owned(), size);
    }
    Value::Object(entry)
}

/// A shell pattern, as `reference` takes one: `*` and `?` do not cross a slash.
fn glob(text: &str) -> Result<Regex, Error> {
    let mut pattern = String::from("^");
    for c in familiar(text).chars() {
        match c {
            '*' => pattern.push_str("[^/]*"),
            '?' => pattern.push_str("[^/]"),
            '[' | ']' | '-' => pattern.push(c),
            c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern.push('$');
    filter::pattern(&pattern)
}

#[cfg(test)]
mod tests;

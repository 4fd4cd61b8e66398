use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use wharf_model::{FLEET_NETWORK_LABEL, Image, Labels, Network, Timestamp, Volume};

use super::{Error, each, parse, time};

type WireLabels = Option<BTreeMap<Box<str>, Box<str>>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireImage {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<Box<str>>>,
    #[serde(default)]
    repo_digests: Option<Vec<Box<str>>>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    labels: WireLabels,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireNetwork {
    id: String,
    name: Box<str>,
    #[serde(default)]
    driver: Box<str>,
    #[serde(default)]
    labels: WireLabels,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVolume {
    name: String,
    #[serde(default)]
    driver: Box<str>,
    #[serde(default)]
    labels: WireLabels,
}

/// Reads `GET /images/json`. When they last got a name is not in there; [`image_tagged`] tells.
///
/// # Errors
/// [`Error::Json`] if it is no list. Entries that cannot be read are given beside the others.
pub fn images(body: &[u8]) -> Result<(Vec<Image>, Vec<Error>), Error> {
    Ok(each(parse("GET /images/json", body)?, |entry| {
        let wire: WireImage = parse("an image", entry.get().as_bytes())?;
        let id = wire.id.parse().map_err(|_| Error::Field { what: "an image", field: "Id", value: wire.id })?;
        let created = Timestamp::from_secs(wire.created);
        // Engines write `<none>:<none>` for "no name".
        let named = |names: Option<Vec<Box<str>>>| {
            names.into_iter().flatten().filter(|name| !name.starts_with("<none>")).collect()
        };
        Ok(Image {
            id,
            tags: named(wire.repo_tags),
            digests: named(wire.repo_digests),
            created,
            tagged: None,
            labels: wire.labels.iter().flatten().collect(),
            entry: entry.get().into(),
        })
    }))
}

/// When an image last got a name on its engine, from `GET /images/{name}/json`; `None` if the engine does not say.
pub fn image_tagged(body: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Metadata {
        last_tag_time: String,
    }
    let inspected: Inspected = serde_json::from_slice(body).ok()?;
    time(&inspected.metadata.last_tag_time)
}

/// Reads `GET /networks`.
///
/// # Errors
/// [`Error::Json`] if it is no list. Entries that cannot be read are given beside the others.
pub fn networks(body: &[u8]) -> Result<(Vec<Network>, Vec<Error>), Error> {
    Ok(each(parse("GET /networks", body)?, |entry| {
        let wire: WireNetwork = parse("a network", entry.get().as_bytes())?;
        let id = wire.id.parse().map_err(|_| Error::Field { what: "a network", field: "Id", value: wire.id })?;
        let (name, driver, labels) = (wire.name, wire.driver, wire.labels.iter().flatten().collect::<Labels>());
        let fleet = labels.get(FLEET_NETWORK_LABEL).and_then(|id| id.parse().ok());
        Ok(Network { id, name, driver, labels, fleet, entry: entry.get().into() })
    }))
}

/// Reads `GET /volumes`.
///
/// # Errors
/// [`Error::Json`] if it is no list. Entries that cannot be read are given beside the others.
pub fn volumes(body: &[u8]) -> Result<(Vec<Volume>, Vec<Error>), Error> {
    #[derive(Deserialize)]
    struct Volumes<'a> {
        #[serde(rename = "Volumes", borrow)]
        volumes: Option<Vec<&'a RawValue>>,
    }
    let listed: Volumes<'_> = parse("GET /volumes", body)?;
    Ok(each(listed.volumes.unwrap_or_default(), |entry| {
        let wire: WireVolume = parse("a volume", entry.get().as_bytes())?;
        let labels = wire.labels.iter().flatten().collect();
        Ok(Volume { name: wire.name.into(), driver: wire.driver, labels, entry: entry.get().into() })
    }))
}

use std::collections::BTreeMap;

use serde::Deserialize;
use wharf_model::{ApiVersion, BUILT_IN_LABELS, ByteSize, Cpus, Engine, Resources};

use super::{Error, parse};

/// The oldest API of the engines that do not say: 1.12, as Docker has it.
const OLDEST: ApiVersion = ApiVersion::new(1, 12);

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "Version", default)]
    version: String,
    #[serde(rename = "ApiVersion", default)]
    api: String,
    #[serde(rename = "MinAPIVersion", default)]
    min_api: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Info {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    driver: String,
    kernel_version: String,
    operating_system: String,
    #[serde(rename = "OSType")]
    os_type: String,
    architecture: String,
    #[serde(rename = "NCPU")]
    cpus: u32,
    mem_total: u64,
    labels: Option<Vec<String>>,
    /// From 1.49 on.
    firewall_backend: Option<FirewallBackend>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FirewallBackend {
    driver: String,
}

/// Reads who an engine is from `GET /info` and `GET /version`.
///
/// # Errors
/// [`Error::Manager`] if it manages engines itself; [`Error::Json`], [`Error::Field`].
pub fn engine(info: &[u8], version: &[u8]) -> Result<Engine, Error> {
    let version: Version = parse("GET /version", version)?;
    if version.version.starts_with("wharf/") || version.version.starts_with("swarm/") {
        return Err(Error::Manager(version.version));
    }
    let info: Info = parse("GET /info", info)?;
    let api = |field, text: &str| {
        text.parse::<ApiVersion>().map_err(|_| Error::Field { what: "GET /version", field, value: text.to_owned() })
    };
    let mut labels: BTreeMap<Box<str>, Box<str>> = BTreeMap::new();
    for label in info.labels.iter().flatten() {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        labels.insert(key.into(), value.into());
    }
    let facts = [&info.driver, &info.kernel_version, &info.operating_system, &info.os_type, &info.architecture];
    labels.extend(BUILT_IN_LABELS.into_iter().zip(facts).map(|(key, fact)| (key.into(), fact.as_str().into())));
    Ok(Engine {
        id: info.id.into(),
        hostname: info.name.into(),
        version: version.version.into(),
        api: api("ApiVersion", &version.api)?,
        min_api: if version.min_api.is_empty() { OLDEST } else { api("MinAPIVersion", &version.min_api)? },
        total: Resources { cpus: Cpus::from_cores(info.cpus), memory: ByteSize(info.mem_total) },
        nftables: info.firewall_backend.is_some_and(|backend| backend.driver.starts_with("nftables")),
        labels,
    })
}

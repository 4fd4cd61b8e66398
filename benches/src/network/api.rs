//! A Docker API, of the fleet or of one engine.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context;
use http::Method;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use wharf_engine::{Client, empty};

use super::namespace::Namespace;
use crate::measure::post;

/// Engines on a busy machine take their time.
const WITHIN: Duration = Duration::from_secs(60);

/// Requests that are waited for.
pub(super) struct Api<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) client: Client,
}

/// A container that runs.
pub(super) struct Container {
    pub(super) namespace: Namespace,
    /// On its network, if it has one.
    pub(super) address: Option<Ipv4Addr>,
}

/// What a container is made of that waits to be used.
pub(super) fn sleeper(node: &str, network: &str, restart: &str) -> Value {
    json!({
        "Image": "busybox",
        "Cmd": ["sleep", "100000"],
        // The first process of a container hears no other.
        "StopSignal": "KILL",
        "Env": [format!("constraint:node=={node}")],
        "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": restart}},
    })
}

impl Api<'_> {
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.runtime.block_on(self.client.get(&format!("/v1.41{path}"), WITHIN))?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(super) fn post(&self, path: &str, body: &str) -> anyhow::Result<Value> {
        self.runtime.block_on(post(&self.client, &format!("/v1.41{path}"), body)).with_context(|| path.to_owned())
    }

    pub(super) fn delete(&self, path: &str) -> anyhow::Result<()> {
        let request = self.client.request(Method::DELETE, &format!("/v1.41{path}"), empty())?;
        self.runtime.block_on(self.client.call(request, WITHIN)).with_context(|| path.to_owned())?;
        Ok(())
    }

    /// Creates a network.
    pub(super) fn network(&self, name: &str, options: &[&str]) -> anyhow::Result<()> {
        let options: Map<_, _> = options.iter().map(|option| ((*option).to_owned(), "".into())).collect();
        self.post("/networks/create", &json!({"Name": name, "Options": options}).to_string()).map(drop)
    }

    /// Creates a container; its id.
    pub(super) fn create(&self, name: &str, body: &Value) -> anyhow::Result<String> {
        let made = self.post(&format!("/containers/create?name={name}"), &body.to_string())?;
        Ok(made["Id"].as_str().context("a container's id")?.to_owned())
    }

    pub(super) fn start(&self, container: &str) -> anyhow::Result<()> {
        self.post(&format!("/containers/{container}/start"), "").map(drop)
    }

    /// Creates and starts a container that sleeps.
    pub(super) fn run(&self, name: &str, node: &str, network: &str) -> anyhow::Result<Container> {
        let id = self.create(name, &sleeper(node, network, "no"))?;
        self.start(&id)?;
        let found = self.get(&format!("/containers/{id}/json"))?;
        let address = found["NetworkSettings"]["Networks"][network]["IPAddress"].as_str();
        Ok(Container { namespace: Namespace::of(&found)?, address: address.and_then(|text| text.parse().ok()) })
    }
}

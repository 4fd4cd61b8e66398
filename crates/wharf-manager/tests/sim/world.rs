//! A fleet of simulated engines with a manager in front of it, and what the tests ask of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use http::{HeaderValue, Method, header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wharf_engine::{Client, Error, full};
use wharf_manager::{Access, Config, Identity, Listener, Manager, Naming, Reaping};
use wharf_plan::{Policy, Strategy};
use wharf_sim::{Listen, Shape, Sim};
use wharf_store::discovery::Discovery;

/// What has to happen at all happens in this time, on a machine that has much else to do.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Containers by name: where each is, and what it does; the name of one that is there twice, for a while, bears its node.
pub(crate) type Containers = BTreeMap<String, (String, String)>;

/// The engines, and a folder for their sockets.
pub(crate) struct Engines {
    pub(crate) sim: Sim,
    folder: tempfile::TempDir,
}

/// A manager of them. It ends with it.
pub(crate) struct Front {
    pub(crate) client: Client,
    pub(crate) stop: CancellationToken,
    pub(crate) _folder: tempfile::TempDir,
}

impl Engines {
    pub(crate) async fn start(seed: u64, shapes: Vec<Shape>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sim = Sim::start(seed, 1, shapes, &Listen::Unix(folder.path().to_owned())).await.unwrap();
        Self { sim, folder }
    }

    /// So many engines with so many containers each.
    pub(crate) async fn alike(seed: u64, engines: usize, containers: usize) -> Self {
        Self::start(seed, vec![Shape { containers, ..Shape::default() }; engines]).await
    }

    /// One engine's API.
    pub(crate) fn client(&self, engine: usize) -> Client {
        Client::new(self.sim.endpoints()[engine].parse().unwrap())
    }

    /// What there is on all of them.
    pub(crate) fn containers(&self) -> Containers {
        let mut all = Containers::new();
        for engine in self.sim.engines() {
            for (name, state) in engine.containers().into_iter().filter(|(name, _)| name != "wharf-agent") {
                let key = if all.contains_key(&name) { format!("{}/{name}", engine.name()) } else { name };
                all.insert(key, (engine.name().to_owned(), state.name().to_owned()));
            }
        }
        all
    }

    /// What a manager of them is to do; `data` is a folder of its own.
    pub(crate) fn config(&self, data: &Path) -> Config {
        Config {
            discovery: Discovery::parse(&self.sim.endpoints().join(",")).unwrap(),
            engine_tls: None,
            policy: Policy::new(Strategy::Spread),
            naming: Naming::Plain,
            identity: Identity { id: "test".to_owned(), hostname: "test".to_owned() },
            data: data.to_owned(),
            agents: None,
            pools: Vec::new(),
            default_network: None,
            reaping: Reaping::default(),
        }
    }

    /// A folder that ends with them.
    pub(crate) fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.folder.path()).unwrap()
    }

    /// A manager, once all engines that are well are known to be.
    pub(crate) async fn front(&self) -> Front {
        let folder = self.folder();
        let manager = Manager::start(self.config(folder.path())).await.unwrap();
        manager.settled().await;
        let (client, stop) = serve(manager, folder.path()).await;
        Front { client, stop, _folder: folder }
    }
}

/// Serves a manager until it is told to stop.
pub(crate) async fn serve(manager: Manager, folder: &Path) -> (Client, CancellationToken) {
    let path = folder.join("s");
    // One that was there before may have been killed.
    std::fs::remove_file(&path).ok();
    let endpoint = format!("unix://{}", path.display()).parse().unwrap();
    let listener = Listener::bind(&endpoint, &Access::default()).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(manager.serve(vec![listener], stop.clone()));
    (Client::new(endpoint), stop)
}

impl Front {
    /// Asks; an answer that is no JSON is null.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, Error> {
        call(&self.client, method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, Value::Null).await.unwrap()
    }

    /// Creates a container with these fields; its id.
    pub(crate) async fn create(&self, name: &str, more: Value) -> Result<String, Error> {
        let mut body = json!({ "Image": "busybox" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.ask(Method::POST, &format!("/containers/create?name={name}"), body).await?;
        Ok(made["Id"].as_str().unwrap().to_owned())
    }

    /// What the manager lists.
    pub(crate) async fn containers(&self) -> Containers {
        let listed = self.get("/containers/json?all=1").await;
        let mut all = Containers::new();
        for entry in listed.as_array().unwrap() {
            let name = entry["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let node = text(&entry["Labels"]["wharf.node"]);
            let key = if all.contains_key(&name) { format!("{node}/{name}") } else { name };
            all.insert(key, (node, text(&entry["State"])));
        }
        all
    }

    /// Waits until the manager lists what there is.
    pub(crate) async fn agrees_with(&self, engines: &Engines) {
        let agreed = comes_true(async || self.containers().await == engines.containers()).await;
        if !agreed {
            let (listed, there) = (self.containers().await, engines.containers());
            let differ = |entry: &(&String, _), other: &Containers| other.get(entry.0) != Some(entry.1);
            let wrong: Vec<_> = listed.iter().filter(|entry| differ(entry, &there)).collect();
            let right: Vec<_> = there.iter().filter(|entry| differ(entry, &listed)).collect();
            panic!("not within {WITHIN:?}: the manager lists {wrong:?} where there is {right:?}");
        }
    }

    /// The names of the nodes that answer.
    pub(crate) async fn healthy(&self) -> BTreeSet<String> {
        let nodes = self.get("/wharf/nodes").await;
        let healthy = nodes.as_array().unwrap().iter().filter(|node| node["Status"] == "Healthy");
        healthy.map(|node| node["Name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Asks an engine, or a manager.
pub(crate) async fn call(client: &Client, method: Method, path: &str, body: Value) -> Result<Value, Error> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = client.request(method, path, full(text))?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = client.call(request, WITHIN).await?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// Waits for what has to become true.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    assert!(comes_true(holds).await, "not within {WITHIN:?}: {what}");
}

pub(crate) async fn comes_true(holds: impl AsyncFn() -> bool) -> bool {
    comes_true_within(WITHIN, holds).await
}

/// The same for what is found only when everything is listed again, as it is every minute.
pub(crate) async fn at_last(what: &str, holds: impl AsyncFn() -> bool) {
    assert!(comes_true_within(WITHIN * 3, holds).await, "not within {:?}: {what}", WITHIN * 3);
}

async fn comes_true_within(within: Duration, holds: impl AsyncFn() -> bool) -> bool {
    let looked = tokio::time::timeout(within, async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !holds().await {
            look.tick().await;
        }
    });
    looked.await.is_ok()
}

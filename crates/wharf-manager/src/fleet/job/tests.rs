use std::collections::BTreeMap;

use http::Method;
use wharf_engine::{Client, empty, full};
use wharf_model::{Endpoint, NodeId};
use wharf_plan::{Policy, Strategy};
use wharf_sim::{Faults, Listen, Shape, Sim};

use super::*;
use crate::{API_NEWEST, Naming};

/// An engine with four containers that has been read once and is not watched: no event tells of anything.
struct Unwatched {
    sim: Sim,
    fleet: Fleet,
    reader: Reader,
    orphans: Orphans,
    _folder: tempfile::TempDir,
}

impl Unwatched {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { containers: 4, ..Shape::default() };
        let sim = Sim::start(1, 1, vec![shape], &Listen::Unix(folder.path().to_owned())).await.unwrap();
        let endpoint: Endpoint = sim.endpoints()[0].parse().unwrap();
        let node = NodeId(1);
        let fleet = Fleet::start(Policy::new(Strategy::Spread), Naming::Plain, BTreeMap::new());
        fleet.apply(Event::Discovered([(endpoint.clone(), node)].into())).await;
        let mut reader = Reader { client: Client::new(endpoint), node, version: API_NEWEST, naming: Naming::Plain };
        let engine = reader.contact().await.unwrap();
        reader.version = engine.api;
        fleet.apply(Event::Contacted(node, Arc::new(engine))).await;
        let listing = reader.listing(&fleet.snapshot().node(node).cloned().unwrap()).await.unwrap();
        fleet.apply(Event::Listed(node, Box::new(listing))).await;
        let orphans = Orphans::open(&folder.path().join("orphans")).unwrap();
        let unwatched = Self { sim, fleet, reader, orphans, _folder: folder };
        unwatched.run(Job::Details).await;
        unwatched
    }

    async fn call(&self, method: Method, path: &str, body: &str) {
        let body = if body.is_empty() { empty() } else { full(body.to_owned()) };
        let mut request = self.reader.client.request(method, path, body).unwrap();
        let json = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert(http::header::CONTENT_TYPE, json);
        self.reader.client.call(request, std::time::Duration::from_secs(10)).await.unwrap();
    }

    /// Does a job and what it gives to do; tells how many containers were looked into by themselves.
    async fn run(&self, job: Job) -> usize {
        let (mut jobs, mut containers) = (vec![job], 0);
        while let Some(job) = jobs.pop() {
            containers += usize::from(matches!(job, Job::Container(_)));
            jobs.extend(read(job, self.reader.clone(), self.fleet.clone(), self.orphans.clone()).await.unwrap());
        }
        containers
    }

    fn node(&self) -> Arc<Node> {
        self.fleet.snapshot().node(self.reader.node).cloned().unwrap()
    }

    /// Names, what each does, and the networks and volumes beside.
    fn known(&self) -> (BTreeMap<String, &'static str>, Vec<String>, Vec<String>) {
        let node = self.node();
        (
            node.containers.values().map(|one| (one.name.to_string(), one.phase.name())).collect(),
            node.networks.values().map(|network| network.name.to_string()).collect(),
            node.volumes.keys().map(ToString::to_string).collect(),
        )
    }
}

#[tokio::test]
async fn what_no_event_told_of_is_found() {
    let engine = Unwatched::start().await;
    let names: Vec<_> = engine.known().0.into_keys().collect();
    engine.call(Method::POST, &format!("/v1.41/containers/{}/pause", names[0]), "").await;
    engine.call(Method::DELETE, &format!("/v1.41/containers/{}?force=1", names[1]), "").await;
    engine.call(Method::POST, "/v1.41/containers/create?name=new", r#"{"Image":"busybox"}"#).await;
    engine.call(Method::POST, "/v1.41/networks/create", r#"{"Name":"blue"}"#).await;
    engine.call(Method::POST, "/v1.41/volumes/create", r#"{"Name":"data"}"#).await;
    assert_eq!(engine.run(Job::Everything).await, 2, "only what is not as it was is looked into");
    let (containers, networks, volumes) = engine.known();
    let really = engine.sim.engines()[0].containers();
    let really: BTreeMap<_, _> = really.into_iter().map(|(name, state)| (name, state.name())).collect();
    assert_eq!(containers, really);
    assert!(networks.iter().any(|name| name == "blue") && volumes == ["data"], "{networks:?} {volumes:?}");
}

#[tokio::test]
async fn what_is_as_it_was_changes_nothing() {
    let engine = Unwatched::start().await;
    let before = engine.node();
    assert_eq!(engine.run(Job::Everything).await, 0);
    let after = engine.node();
    assert!(after.containers.ptr_eq(&before.containers));
    assert!(Arc::ptr_eq(&after.images, &before.images) && Arc::ptr_eq(&after.networks, &before.networks));
    assert!(after.updated >= before.updated);
}

#[tokio::test]
async fn what_cannot_be_listed_is_left_to_be_read_and_hides_nothing_else() {
    let engine = Unwatched::start().await;
    engine.sim.engines()[0].set_faults(Faults { failing: 1000, ..Faults::default() });
    let node = engine.node();
    let unread = rest(&engine.reader, &engine.fleet).await.unwrap();
    assert_eq!(unread, [Job::Images, Job::Networks, Job::Volumes]);
    engine.sim.engines()[0].set_faults(Faults::refusing());
    assert!(rest(&engine.reader, &engine.fleet).await.is_err(), "an engine that is away has not answered");
    assert_eq!(engine.node().networks.len(), node.networks.len());
}

#[tokio::test]
async fn what_another_node_took_away_is_found() {
    let engine = Unwatched::start().await;
    // One engine under two addresses: two nodes show the same containers, and then one of them leaves.
    let (first, second) = (engine.reader.client.endpoint().clone(), Endpoint::Unix("/nowhere".into()));
    let twice = [(first.clone(), engine.reader.node), (second, NodeId(2))];
    engine.fleet.apply(Event::Discovered(twice.into())).await;
    let containers = engine.reader.listing(&engine.node()).await.unwrap().containers;
    for container in containers {
        let twin = wharf_model::Container { node: NodeId(2), ..(*container).clone() };
        engine.fleet.apply(Event::Changed(Box::new(twin))).await;
    }
    engine.fleet.apply(Event::Discovered([(first, engine.reader.node)].into())).await;
    assert_eq!(engine.fleet.snapshot().container_count(), 0, "this is what has to be mended");
    engine.run(Job::Everything).await;
    assert_eq!(engine.fleet.snapshot().container_count(), 4);
}

use std::sync::Arc;

use serde_json::json;
use wharf_model::*;

use super::*;
use crate::testing::{container, fleet};

fn parse(body: Value) -> Result<CreateRequest, Error> {
    CreateRequest::parse(body.to_string().as_bytes(), Some("/web"), None, &local(), None)
}

/// A fleet with a container `db` on node2, a network `blue` on node3 and a volume `data` on node1 and node2.
fn local() -> Snapshot {
    let mut snapshot = fleet(vec![container(7, 2, "db", Phase::Running)]);
    let nodes: Vec<_> = snapshot.nodes().cloned().collect();
    for node in nodes {
        let mut node = Node::clone(&node);
        if node.id == NodeId(3) {
            let network =
                br#"[{"Id":"0101010101010101010101010101010101010101010101010101010101010101","Name":"blue"}]"#;
            let network = wharf_engine::wire::networks(network).unwrap().0.remove(0);
            Arc::make_mut(&mut node.networks).insert(network.id, network.into());
        } else {
            let volume = wharf_engine::wire::volumes(br#"{"Volumes":[{"Name":"data"}]}"#).unwrap().0.remove(0);
            Arc::make_mut(&mut node.volumes).insert(volume.name.clone(), volume.into());
        }
        snapshot.put_node(node);
    }
    snapshot
}

fn sent(request: &CreateRequest) -> Value {
    let node = local().nodes().next().cloned().unwrap();
    serde_json::from_str(&request.for_engine(&node, &[("mark", "1".to_owned())], &Wiring::default(), &[]).body).unwrap()
}

fn nodes(request: &CreateRequest) -> Vec<Vec<u32>> {
    let required = request.workload.requirements.iter();
    required.map(|required| required.nodes.iter().map(|node| node.0).collect()).collect()
}

#[test]
fn null_means_nothing_wherever_it_stands() {
    let request = parse(json!({
        "Image": "busybox", "Labels": {"a": null}, "Env": null, "ExposedPorts": null,
        "HostConfig": {"NetworkMode": null, "Memory": null, "Binds": null, "Mounts": null, "Links": null, "VolumesFrom": null,
            "PortBindings": {"80/tcp": null, "81/tcp": [{"HostIp": null, "HostPort": null}]}},
        "NetworkingConfig": null,
    }));
    let workload = request.unwrap().workload;
    assert_eq!(workload.published.len(), 1);
    assert_eq!(workload.published[0].host, None);
    assert!(parse(json!({"Image": "busybox", "HostConfig": null})).is_ok());
    assert!(parse(json!({"Image": null})).is_err());
}

#[test]
fn what_is_reserved_is_read_from_every_form() {
    let resources = |host: Value| parse(json!({"Image": "busybox", "HostConfig": host})).unwrap().workload.resources;
    assert_eq!(resources(json!({"Memory": 5, "MemoryReservation": 3})).memory, ByteSize(5));
    assert_eq!(resources(json!({"MemoryReservation": 3})).memory, ByteSize(3));
    assert_eq!(resources(json!({"NanoCpus": 1_500_000_000})).cpus, Cpus::from_nanos(1_500_000_000));
    assert_eq!(resources(json!({"CpuQuota": 50_000})).cpus, Cpus::from_nanos(500_000_000));
    assert_eq!(resources(json!({"CpuQuota": 50_000, "CpuPeriod": 25_000})).cpus, Cpus::from_cores(2));
    assert_eq!(resources(json!({"Memory": -1})).memory, ByteSize(0));
}

#[test]
fn ports_are_read_and_bad_ones_refused() {
    let published = |binding: Value| {
        let ports = json!({"80/tcp": [binding]});
        parse(json!({"Image": "busybox", "HostConfig": {"PortBindings": ports}}))
            .map(|request| request.workload.published)
    };
    assert_eq!(published(json!({"HostPort": "8000"})).unwrap()[0].host, Some(8000));
    assert_eq!(published(json!({"HostIp": "0.0.0.0", "HostPort": "8000"})).unwrap()[0].address, None);
    assert_eq!(published(json!({"HostPort": "8000-8010"})).unwrap(), []);
    let ports = json!({"80/udp": [{"HostPort": "8000-8010"}]});
    let ranges = parse(json!({"Image": "busybox", "HostConfig": {"PortBindings": ports}})).unwrap().workload.ranges;
    assert_eq!(ranges, [PortRange { address: None, first: 8000, last: 8010, transport: Transport::Udp }]);
    for bad in [json!({"HostPort": "x"}), json!({"HostPort": "9-1"}), json!({"HostIp": "host", "HostPort": "1"})] {
        assert!(published(bad.clone()).unwrap_err().message.starts_with("invalid port specification"), "{bad}");
    }
    let host = json!({"Image": "busybox", "ExposedPorts": {"53/udp": {}}, "HostConfig": {"NetworkMode": "host"}});
    assert_eq!(parse(host).unwrap().workload.ports().next(), Some(PublishedPort::on_host(53, Transport::Udp)));
}

#[test]
fn references_tie_to_nodes_and_are_rewritten_for_the_engine() {
    let id = ContainerId::from_bytes([7; 32]).to_string();
    let request = parse(json!({"Image": "busybox", "Unknown": {"kept": [1, null]}, "HostConfig": {
        "NetworkMode": "container:db", "VolumesFrom": ["node2/db:ro"], "Binds": ["data:/data", "/etc:/etc:ro", "new:/new"],
    }}));
    let request = request.unwrap();
    assert_eq!(nodes(&request), [vec![2], vec![1, 2]]);
    let body: Value = sent(&request);
    assert_eq!(body["HostConfig"]["NetworkMode"], format!("container:{id}"));
    assert_eq!(body["HostConfig"]["VolumesFrom"][0], format!("{id}:ro"));
    assert_eq!(body["Unknown"], json!({"kept": [1, null]}), "what is not known here survives");
    assert_eq!(body["Labels"]["mark"], "1");
    assert_eq!(request.warnings("node2"), ["/etc is the path of that name on node2, where the container is"]);

    let request = parse(json!({"Image": "busybox", "HostConfig": {"NetworkMode": "node3/blue"},
        "NetworkingConfig": {"EndpointsConfig": {"node3/blue": {"Aliases": ["a"]}}}}));
    let request = request.unwrap();
    assert_eq!(nodes(&request), [vec![3]]);
    let body: Value = sent(&request);
    assert_eq!(body["HostConfig"]["NetworkMode"], "blue");
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["blue"]["Aliases"][0], "a");
}

#[test]
fn links_keep_their_alias() {
    let request = parse(json!({"Image": "busybox", "HostConfig": {"Links": ["node2/db:database", "/db"]}})).unwrap();
    let body: Value = sent(&request);
    assert_eq!(body["HostConfig"]["Links"], json!(["db:database", "db:db"]));
    assert_eq!(nodes(&request), [vec![2]]);
}

#[test]
fn wishes_leave_the_environment_and_are_kept_in_labels() {
    let request = parse(json!({"Image": "busybox", "Env": ["A=1", "constraint:node==node1"],
        "Labels": {"com.docker.swarm.constraints": "[\"ostype==linux\"]"}}));
    let request = request.unwrap();
    assert_eq!(request.workload.constraints.len(), 2);
    let body: Value = sent(&request);
    assert_eq!(body["Env"], json!(["A=1"]));
    assert_eq!(body["Labels"]["com.docker.swarm.constraints"], "[\"ostype==linux\",\"node==node1\"]");
}

#[test]
fn what_is_not_there_is_told_in_dockers_words() {
    let refused = |host: Value| parse(json!({"Image": "busybox", "HostConfig": host})).unwrap_err();
    let unknown = refused(json!({"VolumesFrom": ["nobody"]}));
    assert_eq!((unknown.class, unknown.message.as_str()), (Class::NotFound, "No such container: nobody"));
    assert_eq!(refused(json!({"NetworkMode": "green"})).message, "network green not found");
    assert_eq!(refused(json!({"Binds": ["node9/data:/data"]})).message, "volume node9/data: no node is called node9");
    let names = ["", "a", "-a", "a b", "ab/c", "é"];
    for name in names {
        let parsed = CreateRequest::parse(br#"{"Image":"busybox"}"#, Some(name), None, &local(), None);
        assert!(parsed.unwrap_err().message.starts_with("Invalid container name"), "{name}");
    }
}

#[test]
fn wishes_of_every_kind_are_understood() {
    let request = parse(json!({"Image": "busybox", "Env": ["affinity:container!=web", "whitelist:node==node1|node2",
        "reschedule:on-node-failure"]}));
    let request = request.unwrap();
    assert_eq!(request.workload.affinities[0].to_string(), "container!=web");
    assert_eq!(request.workload.whitelists[0].iter().map(|name| &**name).collect::<Vec<_>>(), ["node1", "node2"]);
    assert_eq!(sent(&request)["Labels"]["com.docker.swarm.reschedule-policies"], "[\"on-node-failure\"]");
    assert!(request.warnings("node1")[0].starts_with("reschedule:on-node-failure is kept"));
    let refused = |wishes: &[&str]| parse(json!({"Image": "busybox", "Env": wishes})).unwrap_err().message;
    assert_eq!(refused(&["reschedule:always"]), "invalid reschedule policy: always");
    assert_eq!(refused(&["reschedule:off", "reschedule:on-node-failure"]), "too many reschedule policies");
    assert!(refused(&["whitelist:zone==a"]).contains("want node==NAME|NAME"));
    assert!(refused(&["affinity:1==a"]).starts_with("affinity:1==a: Key '1' is invalid"));
}

#[test]
fn few_shares_are_processors_and_many_a_weight() {
    let shares = |shares: i64| parse(json!({"Image": "busybox", "HostConfig": {"CpuShares": shares}})).unwrap();
    let two = shares(2);
    assert_eq!(two.workload.resources.cpus, Cpus::from_cores(2));
    let node = local().nodes().next().cloned().unwrap();
    let has = node.engine.as_ref().map_or(1, |engine| engine.total.cpus.as_nanos() / 1_000_000_000);
    assert_eq!(sent(&two)["HostConfig"]["CpuShares"], 2048_u64.div_ceil(has));
    assert_eq!(sent(&two)["Labels"][CPUS_LABEL], "2", "what it was made of is kept");
    let weight = shares(512);
    assert_eq!(
        (weight.workload.resources.cpus, &sent(&weight)["HostConfig"]["CpuShares"]),
        (Cpus::default(), &json!(512))
    );
    let legacy = parse(json!({"Image": "busybox", "Memory": 7, "CpuShares": 1, "HostConfig": {"Memory": 0}})).unwrap();
    assert_eq!(legacy.workload.resources, Resources { cpus: Cpus::from_cores(1), memory: ByteSize(7) });
    assert_eq!(sent(&legacy)["HostConfig"]["Memory"], 7);
}

#[test]
fn what_older_engines_would_leave_out_asks_for_a_newer_one() {
    let needs = |more: Value| {
        let mut request = json!({"Image": "busybox"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse(request).unwrap().workload.api.map(|(version, _)| version.minor)
    };
    assert_eq!(needs(json!({"Healthcheck": {"StartInterval": 0}, "HostConfig": {"Annotations": {}}})), None);
    assert_eq!(needs(json!({"Healthcheck": {"StartInterval": 5}})), Some(44));
    assert_eq!(needs(json!({"HostConfig": {"Annotations": {"a": "b"}}})), Some(43));
    let image = json!({"HostConfig": {"Annotations": {"a": "b"}, "Mounts": [{"Type": "image", "Source": "x"}]}});
    assert_eq!(needs(image), Some(48));
}

#[test]
fn an_older_engine_gets_one_network_and_is_told_of_the_others_afterwards() {
    let request = parse(json!({"Image": "busybox", "HostConfig": {"NetworkMode": "blue"}, "NetworkingConfig": {
        "EndpointsConfig": {"bridge": {"Aliases": ["b"]}, "blue": {"MacAddress": "02:42:ac:11:00:02"}}}}));
    let mut node = Node::clone(local().nodes().next().unwrap());
    let mut engine = Engine::clone(node.engine.as_ref().unwrap());
    for (api, kept, further) in [(41, vec!["blue"], vec!["bridge"]), (44, vec!["bridge", "blue"], vec![])] {
        engine.api = ApiVersion::new(1, api);
        node.engine = Some(engine.clone().into());
        let made = request.as_ref().unwrap().for_engine(&node, &[("mark", "1".to_owned())], &Wiring::default(), &[]);
        let body: Value = serde_json::from_str(&made.body).unwrap();
        let endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap();
        assert_eq!(endpoints.keys().collect::<Vec<_>>(), kept);
        assert_eq!(made.further.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), further);
        assert_eq!(body.get("MacAddress").is_some(), api < 44);
    }
}

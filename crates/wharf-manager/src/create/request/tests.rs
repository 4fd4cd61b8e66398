use serde_json::json;
use wharf_model::*;

use super::*;
use crate::testing::{container, fleet};

fn parse(body: Value) -> Result<CreateRequest, Error> {
    CreateRequest::parse(body.to_string().as_bytes(), Some("/web"), &local())
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
            node.networks.insert(network.id, network.into());
        } else {
            let volume = wharf_engine::wire::volumes(br#"{"Volumes":[{"Name":"data"}]}"#).unwrap().0.remove(0);
            node.volumes.insert(volume.name.clone(), volume.into());
        }
        snapshot.put_node(node);
    }
    snapshot
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
    assert_eq!(published(json!({"HostPort": "8000-8010"})).unwrap()[0].host, None);
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
    let body: Value = serde_json::from_slice(&request.body_with_label("mark", "1").unwrap()).unwrap();
    assert_eq!(body["HostConfig"]["NetworkMode"], format!("container:{id}"));
    assert_eq!(body["HostConfig"]["VolumesFrom"][0], format!("{id}:ro"));
    assert_eq!(body["Unknown"], json!({"kept": [1, null]}), "what is not known here survives");
    assert_eq!(body["Labels"]["mark"], "1");
    assert_eq!(request.warnings("node2"), ["/etc is the path of that name on node2, where the container is"]);

    let request = parse(json!({"Image": "busybox", "HostConfig": {"NetworkMode": "node3/blue"},
        "NetworkingConfig": {"EndpointsConfig": {"node3/blue": {"Aliases": ["a"]}}}}));
    let request = request.unwrap();
    assert_eq!(nodes(&request), [vec![3]]);
    let body: Value = serde_json::from_slice(&request.body_with_label("mark", "1").unwrap()).unwrap();
    assert_eq!(body["HostConfig"]["NetworkMode"], "blue");
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["blue"]["Aliases"][0], "a");
}

#[test]
fn links_keep_their_alias() {
    let request = parse(json!({"Image": "busybox", "HostConfig": {"Links": ["node2/db:database", "/db"]}})).unwrap();
    let body: Value = serde_json::from_slice(&request.body_with_label("mark", "1").unwrap()).unwrap();
    assert_eq!(body["HostConfig"]["Links"], json!(["db:database", "db:db"]));
    assert_eq!(nodes(&request), [vec![2]]);
}

#[test]
fn wishes_leave_the_environment_and_are_kept_in_labels() {
    let request = parse(json!({"Image": "busybox", "Env": ["A=1", "constraint:node==node1"],
        "Labels": {"com.docker.swarm.constraints": "[\"ostype==linux\"]"}}));
    let request = request.unwrap();
    assert_eq!(request.workload.constraints.len(), 2);
    let body: Value = serde_json::from_slice(&request.body_with_label("mark", "1").unwrap()).unwrap();
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
        let parsed = CreateRequest::parse(br#"{"Image":"busybox"}"#, Some(name), &local());
        assert!(parsed.unwrap_err().message.starts_with("Invalid container name"), "{name}");
    }
}

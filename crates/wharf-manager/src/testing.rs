//! A small fleet, for the tests of this crate and its fuzz targets.

use std::sync::Arc;

use wharf_model::*;

/// A container of that name on a node, that has run for 90 s at 1,000 s after 1970.
pub(crate) fn container(id: u8, node: u32, name: &str, phase: Phase) -> Container {
    let text = ContainerId::from_bytes([id; 32]);
    let listed = format!(r#"{{"Id":"{text}","Names":["/{name}"],"Labels":{{"id":"{id}"}}}}"#);
    let entry = crate::view::containers::entry(&listed, &format!("node{node}"), None, Default::default())
        .expect("an entry of a list");
    Container {
        id: text,
        node: NodeId(node),
        name: name.into(),
        image: "busybox".into(),
        image_id: None,
        created: Timestamp::from_secs(800 + i64::from(id)),
        phase,
        exit_code: if phase == Phase::Exited { 3 } else { 0 },
        started: Some(Timestamp::from_secs(910)),
        finished: (phase == Phase::Exited).then(|| Timestamp::from_secs(940)),
        health: ContainerHealth::None,
        labels: [("id", id.to_string())].into_iter().collect(),
        reserved: Resources::default(),
        published: Vec::new(),
        exposed: Vec::new(),
        network_mode: "default".into(),
        networks: Vec::new(),
        mounts: Vec::new(),
        entry,
        fingerprint: 0,
        listed: None,
    }
}

/// The end of [`container`]'s 90 s.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1000);

/// An image of that name, tagged so many seconds after 1970.
pub(crate) fn image(id: u8, tags: &[&str], tagged: i64) -> Image {
    let text = ImageId::from_bytes([id; 32]);
    Image {
        id: text,
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
        digests: Vec::new(),
        created: Timestamp::from_secs(i64::from(id)),
        tagged: Some(Timestamp::from_secs(tagged)),
        labels: Labels::default(),
        entry: format!(r#"{{"Id":"{text}","RepoTags":[]}}"#).into(),
    }
}

/// A healthy node `node1`, `node2`, … with these images.
pub(crate) fn node(id: u32, images: Vec<Image>) -> Node {
    let endpoint = Endpoint::Tcp { host: format!("10.0.0.{id}"), port: 2375 };
    let mut node = Node::pending(NodeId(id), endpoint, NOW);
    node.name = format!("node{id}").into();
    node.health = Health::Healthy;
    node.engine = Some(Arc::new(Engine {
        id: format!("ID-{id}").into(),
        hostname: (&*node.name).into(),
        version: "20.10.24".into(),
        api: ApiVersion::new(1, 41),
        min_api: ApiVersion::new(1, 12),
        total: Resources { cpus: Cpus::from_cores(4), memory: ByteSize(8 << 30) },
        nftables: false,
        labels: [("ostype".into(), "linux".into()), ("architecture".into(), "x86_64".into())].into(),
    }));
    node.images = Arc::new(images.into_iter().map(|image| (image.id, Arc::new(image))).collect());
    node
}

/// Three nodes with these containers.
pub(crate) fn fleet(containers: Vec<Container>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    (1..=3).for_each(|id| snapshot.put_node(node(id, Vec::new())));
    containers.into_iter().for_each(|container| snapshot.put_container(container));
    snapshot
}

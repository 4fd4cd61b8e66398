use wharf_model::*;

use super::*;

const INSPECTED: &str = r#"{"Id":"1f2e000000000000000000000000000000000000000000000000000000000000",
"Created":"2026-11-23T10:00:00.5Z","Name":"/web","State":{"Status":"running","ExitCode":0,
"StartedAt":"2026-11-23T10:00:01.25Z","FinishedAt":"0001-01-01T00:00:00Z","Health":{"Status":"healthy"}},
"Config":{"Image":"busybox","Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{},"53/udp":{}}},
"HostConfig":{"Memory":536870912,"NanoCpus":0,"CpuQuota":50000,"CpuPeriod":0,"NetworkMode":"default",
"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8000"}],"81/tcp":[{"HostIp":"127.0.0.1","HostPort":""}]}},
"NetworkSettings":{"Ports":{"53/udp":null,"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8000"},{"HostIp":"::","HostPort":"8000"}],
"81/tcp":[{"HostIp":"127.0.0.1","HostPort":"49153"}]},"Networks":{"bridge":{"NetworkID":""}}},
"Mounts":[{"Type":"volume","Name":"data","Source":"/var/lib/x","Destination":"/data"},{"Type":"bind","Source":"/a","Destination":"/b"}]}"#;
const LISTED: &str = r#"{"Id":"1f2e000000000000000000000000000000000000000000000000000000000000","Created":1763892000,
"ImageID":"sha256:abababababababababababababababababababababababababababababababab","State":"running"}"#;

#[test]
fn a_container_is_read_from_its_entry_and_its_inspection() {
    let container =
        container(&listed_container(NodeId(1), LISTED, 0, "".into()).unwrap(), INSPECTED.as_bytes()).unwrap();
    assert_eq!(&*container.name, "web");
    assert_eq!(container.phase, Phase::Running);
    assert_eq!(container.health, ContainerHealth::Healthy);
    assert_eq!(container.started.map(Timestamp::as_nanos), Some(1_795_428_001_250_000_000));
    assert_eq!(container.finished, None, "the year 1 means never");
    assert_eq!(container.reserved, Resources { cpus: Cpus::from_nanos(500_000_000), memory: ByteSize(512 << 20) });
    let ports: Vec<_> = container.published.iter().map(|port| (port.address, port.host, port.container)).collect();
    let loopback = "127.0.0.1".parse().ok();
    assert_eq!(ports, [(None, Some(8000), 80), (loopback, Some(49153), 81)]);
    assert_eq!(container.exposed, [(53, Transport::Udp), (80, Transport::Tcp)]);
    assert_eq!(container.mounts[0].volume.as_deref(), Some("data"));
    assert_eq!(container.mounts[1].volume, None);
    assert!(container.image_id.is_some());
}

#[test]
fn a_phase_of_tomorrow_is_not_running() {
    let inspected = INSPECTED.replace("\"running\"", "\"hibernating\"");
    assert_eq!(
        container(&listed_container(NodeId(1), LISTED, 0, "".into()).unwrap(), inspected.as_bytes()).unwrap().phase,
        Phase::Exited
    );
}

#[test]
fn a_list_is_split_without_changing_its_entries() {
    let body = format!("[{LISTED},{LISTED}]");
    let entries = listed(body.as_bytes()).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].1, LISTED);
    assert!(listed(b"{}").is_err() && listed(b"[{\"Id\":\"x\"}]").is_err());
}

#[test]
fn a_fingerprint_changes_with_all_but_status_and_order() {
    let fingerprint = |entry: &str| super::fingerprint(entry, "node1");
    let entry = |labels: &str, status: &str, ports: &str| {
        format!(r#"{{"Id":"a","Ports":[{ports}],"Labels":{{{labels}}},"State":"up","Status":"{status}","Mounts":[]}}"#)
    };
    let (one, other) = (r#"{"PrivatePort":80}"#, r#"{"PrivatePort":81}"#);
    let known = entry("", "Up 3 minutes", &format!("{one},{other}"));
    assert_eq!(fingerprint(&known), fingerprint(&entry("", "Up 4 hours (healthy)", &format!("{one},{other}"))));
    assert_eq!(fingerprint(&known), fingerprint(&entry("", "Up 3 minutes", &format!("{other},{one}"))));
    for ports in [one, other, "", &format!("{one},{one}"), &format!("{one},{other},{one}")] {
        assert_ne!(fingerprint(&known), fingerprint(&entry("", "Up 3 minutes", ports)), "{ports}");
    }
    assert_ne!(fingerprint(&known), super::fingerprint(&known, "node2"), "an entry tells its node");
    // A label may look like a status, or be called so.
    for label in [r#""k":",\"Status\":\"WHAT\"""#, r#""A":"","Status":"WHAT""#] {
        let says = |what: &str, status: &str| fingerprint(&entry(&label.replace("WHAT", what), status, ""));
        assert_ne!(says("a", "Up 1 second"), says("b", "Up 1 second"));
        assert_eq!(says("a", "Up 1 second"), says("a", "Up 2 seconds"));
    }
    assert_ne!(fingerprint(r#"{"Id":"a"}"#), fingerprint(r#"{"Id":"b"}"#));
}

#[test]
fn one_bad_entry_does_not_lose_the_others() {
    let good = format!(r#"{{"Id":"sha256:{}","RepoTags":["a:1","<none>:<none>"],"Created":5}}"#, "ab".repeat(32));
    let (images, rejects) = images(format!("[{good},{{\"Id\":7}},{{\"Id\":\"x\"}}]").as_bytes()).unwrap();
    assert_eq!((images.len(), rejects.len()), (1, 2));
    assert_eq!(images[0].tags, ["a:1".into()]);
}

#[test]
fn no_volumes_is_null() {
    let (volumes, rejects) = volumes(br#"{"Volumes":null,"Warnings":null}"#).unwrap();
    assert!(volumes.is_empty() && rejects.is_empty());
}

#[test]
fn built_in_labels_cannot_be_overridden_and_a_manager_is_no_engine() {
    let info = br#"{"ID":"X","Name":"node1","Driver":"overlay2","NCPU":2,"MemTotal":1024,"Labels":["zone=a","storagedriver=mine"]}"#;
    let version = br#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
    let read = engine(info, version).unwrap();
    assert_eq!(read.labels.get("storagedriver").map(|value| &**value), Some("overlay2"));
    assert_eq!(read.labels.get("zone").map(|value| &**value), Some("a"));
    assert_eq!((read.api, read.min_api), (ApiVersion::new(1, 41), ApiVersion::new(1, 12)));
    let manager = engine(info, br#"{"Version":"wharf/0.1.0","ApiVersion":"1.41"}"#);
    assert!(matches!(manager, Err(Error::Manager(_))));
}

#[test]
fn an_event_says_what_has_to_be_read_again() {
    let id = "ab".repeat(32);
    let of = |kind: &str, action: &str, attributes: &str| {
        let line = format!(
            r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{{attributes}}}}},"scope":"local","time":5,"timeNano":5000000001}}"#
        );
        event(line.as_bytes()).unwrap()
    };
    let container = Touched::Container(id.parse().unwrap());
    assert_eq!(of("container", "start", "").touches(), [container]);
    assert_eq!(of("container", "health_status: healthy", "").touches(), [container]);
    assert_eq!(of("container", "exec_create: sh -c true", "").touches(), []);
    assert_eq!(of("network", "connect", &format!(r#""container":"{id}""#)).touches(), [container]);
    assert_eq!(of("network", "destroy", "").touches(), [Touched::Networks]);
    assert_eq!(of("volume", "mount", "").touches(), []);
    assert_eq!(of("image", "tag", "").time, Timestamp::from_nanos(5_000_000_001));
    assert!(event(b"{").is_err());
}

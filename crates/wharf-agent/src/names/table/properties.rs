//! However a table came to its content, it answers as one that was filled with it at once.

use std::{collections::BTreeMap, time::Duration};

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
};

use super::*;
use crate::names::testing::{network, network_id};

const NETWORKS: [&str; 3] = ["blue", "red", "a.b"];
const NAMES: [&str; 6] = ["web", "db", "WEB", "tasks.web", "x.blue", "a1a1a1a1a1a1"];

#[derive(Debug, Clone)]
enum Change {
    PutNetwork(usize, u8),
    DropNetwork(usize),
    PutContainer(Container),
    DropContainer(u8),
    Wait(u16),
}

fn id(number: u8) -> Arc<str> {
    format!("a{number}").repeat(32).into()
}

fn name() -> impl Strategy<Value = Arc<str>> {
    prop::sample::select(&NAMES[..]).prop_map(Arc::from)
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..3u8, 0..6u8).prop_map(|(network, host)| IpAddr::from([10, 192 + network, 0, host])),
        (0..6u16).prop_map(|host| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host])),
    ]
}

fn some_endpoint() -> impl Strategy<Value = Endpoint> {
    (0..3usize, vec(address(), 0..3), vec(name(), 0..3), vec((name(), name()), 0..2)).prop_map(
        |(network, addresses, aliases, links)| Endpoint {
            network: network_id(NETWORKS[network]),
            addresses,
            aliases,
            links,
        },
    )
}

fn some_container() -> impl Strategy<Value = Container> {
    (0..5u8, name(), any::<bool>(), btree_set(address(), 0..2), vec(some_endpoint(), 0..3)).prop_map(
        |(number, name, up, local_addresses, endpoints)| Container {
            id: id(number),
            name,
            up,
            local_addresses: local_addresses.into_iter().collect(),
            upstreams: Vec::new(),
            endpoints,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (0..3usize, 0..3u8).prop_map(|(network, range)| Change::PutNetwork(network, range)),
        1 => (0..3usize).prop_map(Change::DropNetwork),
        6 => some_container().prop_map(Change::PutContainer),
        2 => (0..5u8).prop_map(Change::DropContainer),
        1 => (0..50_000u16).prop_map(Change::Wait),
    ]
}

fn some_network(number: usize, range: u8) -> Network {
    network(NETWORKS[number], &format!("10.{}.0.0/16", 192 + range))
}

fn answers(table: &Table, now: Instant) -> Vec<Answer> {
    let sources = (0..3u8).flat_map(|network| (0..6u8).map(move |host| IpAddr::from([10, 192 + network, 0, host])));
    let mut questions: Vec<_> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    questions.extend(NAMES.iter().flat_map(|name| NETWORKS.map(|network| format!("{name}.{network}"))));
    questions.extend(NAMES.iter().map(|name| format!("tasks.{name}")));
    questions.extend(NAMES.iter().map(|name| format!("_80._tcp.{name}")));
    questions.extend((0..6).map(|host| format!("{host}.0.192.10.in-addr.arpa")));
    let ask = |source, name: &String| {
        let wanted = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::PTR];
        wanted.map(|wanted| table.resolve(source, name, wanted, now, 3))
    };
    sources.flat_map(|source| questions.iter().flat_map(move |name| ask(source, name))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_leave_what_a_fresh_table_of_the_same_content_has(changes in vec(change(), 0..40)) {
        let mut now = Instant::now();
        let (table, mut networks, mut containers) = (Table::new(), BTreeMap::new(), BTreeMap::new());
        for change in changes {
            match change {
                Change::PutNetwork(number, range) => {
                    table.put_network(some_network(number, range));
                    networks.insert(number, some_network(number, range));
                }
                Change::DropNetwork(number) => {
                    table.drop_network(&network_id(NETWORKS[number]));
                    networks.remove(&number);
                }
                Change::PutContainer(container) => {
                    table.put_container(container.clone(), now);
                    containers.insert(container.id.clone(), container);
                }
                Change::DropContainer(number) => {
                    table.drop_container(&id(number), now);
                    containers.remove(&id(number));
                }
                Change::Wait(milliseconds) => now += Duration::from_millis(milliseconds.into()),
            }
        }
        // By now everything that went is forgotten.
        now += gone::REMEMBERED;
        let fresh = Table::new();
        containers.into_values().for_each(|container| fresh.put_container(container, now));
        networks.into_values().for_each(|network| fresh.put_network(network));
        prop_assert!(table.read().equals(&fresh.read()));
        prop_assert_eq!(answers(&table, now), answers(&fresh, now));
    }

    #[test]
    fn no_name_panics(name in any::<String>(), prefix in "(tasks\\.|_[0-9]{0,6}\\._tcp\\.)?", suffix in "(\\.blue|\\.ip6\\.arpa|\\.)?") {
        let table = Table::new();
        let now = Instant::now();
        table.put_network(some_network(0, 0));
        let asker = crate::names::testing::container('a', "web", vec![crate::names::testing::endpoint("blue", &["10.192.0.1"], &[])]);
        table.put_container(asker, now);
        table.resolve(IpAddr::from([10, 192, 0, 1]), &format!("{prefix}{name}{suffix}"), RecordType::ANY, now, 0);
    }
}

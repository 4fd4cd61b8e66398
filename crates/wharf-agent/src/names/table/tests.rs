use std::{collections::BTreeSet, time::Duration};

use super::{gone::REMEMBERED, *};
use crate::names::testing::{container, endpoint, ip, network, network_id};

/// Two networks; `front` is on both, and `db` and the two replicas of `web` are on one each.
fn table(now: Instant) -> Table {
    let table = Table::new();
    table.put_network(network("blue", "10.192.0.0/16"));
    table.put_network(network("red", "10.193.0.0/16"));
    let mut front = container(
        'f',
        "front",
        vec![endpoint("blue", &["10.192.0.2", "fd00::2"], &[]), endpoint("red", &["10.193.0.2"], &["edge"])],
    );
    front.local_addresses = vec![ip("172.17.0.2")];
    front.endpoints[0].links = vec![("db".into(), "database".into()), ("nobody".into(), "missing".into())];
    front.endpoints[1].links = vec![("DDDDDDDDDDDD".into(), "store".into()), ("db".into(), "web".into())];
    table.put_container(front, now);
    table.put_container(container('d', "DB", vec![endpoint("red", &["10.193.0.3", "fd01::3"], &["sql"])]), now);
    for (digit, number) in [('1', 1), ('2', 2)] {
        let address = format!("10.192.1.{number}");
        let name = format!("app_web_{number}");
        table.put_container(container(digit, &name, vec![endpoint("blue", &[&address], &["web", "www"])]), now);
    }
    let mut stopped = container('5', "stopped", vec![endpoint("blue", &["10.192.0.5"], &["web", "halted"])]);
    stopped.up = false;
    table.put_container(stopped, now);
    table.put_container(container('c', "client", vec![endpoint("blue", &["10.192.0.9"], &[])]), now);
    table
}

/// What an answer says in a line, sorted.
fn said(answer: &Answer) -> String {
    match answer {
        Answer::Refused => "refused".into(),
        Answer::Gone => "gone".into(),
        Answer::Forward(_) => "forward".into(),
        Answer::Data { data, .. } => {
            let lines: BTreeSet<_> = data
                .iter()
                .map(|datum| match datum {
                    Data::Address(address) => address.to_string(),
                    Data::Name(name) => name.clone(),
                    Data::Service { port, target, addresses } => format!("{target}:{port}={addresses:?}"),
                })
                .collect();
            assert_eq!(lines.len(), data.len(), "nothing is said twice");
            lines.into_iter().collect::<Vec<_>>().join(" ")
        }
    }
}

const FRONT: &str = "10.192.0.2";
const CLIENT: &str = "10.192.0.9";

#[test]
fn names_mean_what_the_askers_networks_know() {
    let now = Instant::now();
    let table = table(now);
    use RecordType::{A, AAAA, ANY, MX, PTR, SRV, TXT};
    let full_id = "d".repeat(64);
    let by_full_id = format!("{full_id}.red");
    let four_reversed = "3.0.193.10.in-addr.arpa";
    let six_reversed = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa.";
    let six_foreign = "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa.";
    for (source, name, wanted, expected) in [
        // Who asks.
        ("10.192.0.77", "web", A, "refused"),
        ("127.0.0.1", "example.com", A, "refused"),
        ("172.17.0.2", "db", A, "10.193.0.3"),
        ("::ffff:10.192.0.2", "db", A, "10.193.0.3"),
        // Container names and ids.
        (FRONT, "db", A, "10.193.0.3"),
        (FRONT, "dB.", A, "10.193.0.3"),
        (FRONT, "db", AAAA, "fd01::3"),
        (FRONT, "db", ANY, "10.193.0.3 fd01::3"),
        (FRONT, "db", MX, ""),
        (FRONT, "dddddddddddd", A, "10.193.0.3"),
        (FRONT, "DDDDDDDDDDDD", A, "10.193.0.3"),
        (FRONT, "ddddddddddd", A, "forward"),
        (FRONT, &full_id, A, "10.193.0.3"),
        (FRONT, &by_full_id, A, "10.193.0.3"),
        // On two networks: the first that the asker is on, unless only the other has such an address.
        (FRONT, "front", A, "10.192.0.2"),
        (FRONT, "front", AAAA, "fd00::2"),
        (FRONT, "front.red", A, "10.193.0.2"),
        (FRONT, "front.red", AAAA, ""),
        (CLIENT, "front.red", A, "forward"),
        // Other networks are not seen.
        (CLIENT, "db", A, "forward"),
        (CLIENT, "db.red", A, "forward"),
        (CLIENT, "edge", A, "forward"),
        (FRONT, "edge", A, "10.193.0.2"),
        // Aliases.
        (CLIENT, "web", A, "10.192.1.1 10.192.1.2"),
        (CLIENT, "WEB", AAAA, ""),
        (CLIENT, "web.blue", A, "10.192.1.1 10.192.1.2"),
        (CLIENT, "web.NET-blue.", A, "10.192.1.1 10.192.1.2"),
        (CLIENT, "app_web_2", A, "10.192.1.2"),
        (CLIENT, "tasks.web", A, "10.192.1.1 10.192.1.2"),
        (CLIENT, "tasks.web.blue", A, "10.192.1.1 10.192.1.2"),
        (CLIENT, "tasks.app_web_1", A, "10.192.1.1"),
        (CLIENT, "tasks.unknown", A, "forward"),
        // Links are their owner's, and hide what others have by that name.
        (FRONT, "database", A, "10.193.0.3"),
        (FRONT, "store", AAAA, "fd01::3"),
        (FRONT, "web", A, "10.193.0.3"),
        (FRONT, "www", A, "10.192.1.1 10.192.1.2"),
        (FRONT, "tasks.web", A, "10.192.1.1 10.192.1.2"),
        (FRONT, "missing", A, "gone"),
        (CLIENT, "database", A, "forward"),
        // Those that do not run.
        (CLIENT, "stopped", A, "gone"),
        (CLIENT, "halted", A, "gone"),
        (CLIENT, "555555555555.blue", A, "gone"),
        // Not ours.
        (CLIENT, "example.com", A, "forward"),
        (CLIENT, "com.blue", A, "forward"),
        (CLIENT, "blue", A, "forward"),
        (CLIENT, "", A, "forward"),
        (CLIENT, ".", A, "forward"),
        (CLIENT, ".blue", A, "forward"),
        (CLIENT, "tasks.", A, "forward"),
        (CLIENT, "ü", A, "forward"),
        // Addresses turned round.
        (FRONT, four_reversed, PTR, "DB.red"),
        (FRONT, "3.0.193.10.IN-ADDR.ARPA.", PTR, "DB.red"),
        (FRONT, four_reversed, TXT, ""),
        (FRONT, six_reversed, PTR, "DB.red"),
        (FRONT, six_foreign, PTR, "forward"),
        (CLIENT, four_reversed, PTR, "gone"),
        (CLIENT, six_reversed, PTR, "forward"),
        (CLIENT, "77.0.192.10.in-addr.arpa", PTR, "gone"),
        (CLIENT, "5.0.192.10.in-addr.arpa", PTR, "gone"),
        (CLIENT, "1.0.0.10.in-addr.arpa", PTR, "forward"),
        (CLIENT, "192.10.in-addr.arpa", PTR, "forward"),
        // Services.
        (CLIENT, "_80._tcp.web", SRV, "app_web_1.blue:80=[10.192.1.1] app_web_2.blue:80=[10.192.1.2]"),
        (FRONT, "_53._UDP.db.red", SRV, "DB.red:53=[10.193.0.3, fd01::3]"),
        (CLIENT, "_80._tcp.web", A, ""),
        (CLIENT, "_http._tcp.web", SRV, "gone"),
        (CLIENT, "_80._tcp.halted", SRV, "gone"),
        (CLIENT, "_80._tcp.example.com", SRV, "forward"),
        (CLIENT, "web", SRV, ""),
    ] {
        let answer = table.resolve(ip(source), name, wanted, now, 1);
        assert_eq!(said(&answer), expected, "{source} asks for {name} {wanted}");
    }
}

fn needs(table: &Table, name: &str) -> Need {
    match table.resolve(ip(CLIENT), name, RecordType::A, Instant::now(), 1) {
        Answer::Data { need, .. } => need,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_tasks_are_wanted_and_any_replica_will_do() {
    let table = table(Instant::now());
    assert_eq!(needs(&table, "web"), Need::Any);
    assert_eq!(needs(&table, "tasks.web"), Need::All);
}

#[test]
fn a_container_name_comes_before_an_alias_unless_it_is_down() {
    let now = Instant::now();
    let table = table(now);
    let mut web = container('7', "web", vec![endpoint("blue", &["10.192.0.7"], &[])]);
    table.put_container(web.clone(), now);
    let ask = |name| said(&table.resolve(ip(CLIENT), name, RecordType::A, now, 1));
    assert_eq!(ask("web"), "10.192.0.7");
    assert_eq!(ask("tasks.web"), "10.192.1.1 10.192.1.2");
    web.up = false;
    table.put_container(web, now);
    assert_eq!(ask("web"), "10.192.1.1 10.192.1.2");
}

#[test]
fn a_link_to_several_stands_for_all_of_them() {
    let now = Instant::now();
    let table = table(now);
    let mut client = container('c', "client", vec![endpoint("blue", &[CLIENT], &[])]);
    client.endpoints[0].links = vec![
        ("app_web_1".into(), "site".into()),
        ("222222222222".into(), "SITE".into()),
        ("app_web_2".into(), "site".into()),
    ];
    table.put_container(client, now);
    assert_eq!(said(&table.resolve(ip(CLIENT), "site", RecordType::A, now, 1)), "10.192.1.1 10.192.1.2");
}

#[test]
fn names_with_dots_are_read_in_every_way() {
    let now = Instant::now();
    let table = table(now);
    table.put_container(container('8', "my.app", vec![endpoint("blue", &["10.192.0.8"], &["tasks.odd"])]), now);
    let ask = |name| said(&table.resolve(ip(CLIENT), name, RecordType::A, now, 1));
    assert_eq!(ask("my.app"), "10.192.0.8");
    assert_eq!(ask("my.app.blue"), "10.192.0.8");
    assert_eq!(ask("tasks.my.app.blue"), "10.192.0.8");
    assert_eq!(ask("tasks.odd"), "10.192.0.8");
}

#[test]
fn a_name_that_went_is_gone_for_a_while_and_then_forgotten() {
    let now = Instant::now();
    let table = table(now);
    let ask = |name, at| said(&table.resolve(ip(CLIENT), name, RecordType::A, at, 1));
    table.drop_container(&"1".repeat(64), now);
    assert_eq!(ask("web", now), "10.192.1.2");
    assert_eq!(ask("app_web_1", now), "gone");
    table.drop_container(&"2".repeat(64), now);
    table.drop_container(&"5".repeat(64), now);
    let last = now + REMEMBERED - Duration::from_millis(1);
    for name in ["web", "www", "tasks.web", "web.blue", "222222222222"] {
        assert_eq!(ask(name, now), "gone", "{name}");
        assert_eq!(ask(name, last), "gone", "{name}");
        assert_eq!(ask(name, now + REMEMBERED), "forward", "{name}");
    }
    table.put_container(container('3', "other", vec![endpoint("blue", &["10.192.1.3"], &["web"])]), last);
    assert_eq!(ask("web", last), "10.192.1.3");
    table.drop_network(&network_id("blue"));
    assert_eq!(ask("web", last), "forward");
    assert_eq!(ask("www", last), "forward");
}

#[test]
fn endpoints_wait_for_their_network() {
    let now = Instant::now();
    let table = Table::new();
    table.put_container(container('a', "one", vec![endpoint("late", &["10.194.0.1"], &[])]), now);
    table.put_container(container('b', "two", vec![endpoint("late", &["10.194.0.2"], &[])]), now);
    let ask = || said(&table.resolve(ip("10.194.0.1"), "two", RecordType::A, now, 1));
    assert_eq!(ask(), "forward");
    table.put_network(network("late", "10.194.0.0/16"));
    assert_eq!(ask(), "10.194.0.2");
}

#[test]
fn an_address_that_went_on_to_another_is_the_one_that_runs() {
    let now = Instant::now();
    let table = table(now);
    let mut old = container('9', "old", vec![endpoint("red", &["10.193.0.50"], &[])]);
    old.up = false;
    table.put_container(old, now);
    table.put_container(container('0', "new", vec![endpoint("red", &["10.193.0.50"], &[])]), now);
    assert_eq!(&*table.asker(ip("10.193.0.50")).unwrap().name, "new");
    table.drop_container(&"9".repeat(64), now);
    assert_eq!(&*table.asker(ip("10.193.0.50")).unwrap().name, "new");
    table.drop_container(&"0".repeat(64), now);
    assert_eq!(table.asker(ip("10.193.0.50")), None);
}

#[test]
fn names_that_dns_cannot_hold_are_given_by_id() {
    let now = Instant::now();
    let table = table(now);
    let name = "n".repeat(70);
    table.put_container(container('6', &name, vec![endpoint("blue", &["10.192.0.6"], &[])]), now);
    let answer = table.resolve(ip(CLIENT), "6.0.192.10.in-addr.arpa", RecordType::PTR, now, 1);
    assert_eq!(said(&answer), "666666666666.blue");
}

#[test]
fn seeds_shuffle_replicas_evenly() {
    let now = Instant::now();
    let table = table(now);
    let first = |seed| match table.resolve(ip(CLIENT), "web", RecordType::A, now, seed) {
        Answer::Data { data, .. } => data[0].clone(),
        other => panic!("{other:?}"),
    };
    let ones = (0..1000).filter(|seed| first(*seed) == Data::Address(ip("10.192.1.1"))).count();
    assert!((400..600).contains(&ones), "{ones}");
    assert_eq!(first(7), first(7));
}

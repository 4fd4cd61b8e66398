//! Addresses, blocks and parts of networks: each has one owner, whatever happens; what nobody needs is taken back.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use wharf_engine::Error;
use wharf_plan::addresses::{Pool, default_pools};
use wharf_sim::{Dice, Faults};

use crate::{
    agent::Conduct,
    spanned::Fleet,
    world::{at_last, eventually},
};

/// Parts that nobody is on are taken back after this long here.
const IDLE: Duration = Duration::from_millis(500);

fn subnet(subnet: &str) -> Value {
    json!({ "IPAM": { "Config": [{ "Subnet": subnet }] } })
}

/// What is said of a request that is refused, and with which status.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Error>) -> (u16, String) {
    match answer {
        Err(Error::Refused { status, message }) => (status.as_u16(), message),
        other => panic!("it is not refused: {other:?}"),
    }
}

/// Creates until there is no room; the addresses, and what is said then.
async fn fill(fleet: &Fleet, network: &str) -> (usize, (u16, String)) {
    for number in 0.. {
        if let Err(error) = fleet.container(&format!("{network}-{number}"), network, None).await {
            return (number, refusal::<()>(Err(error)));
        }
    }
    unreachable!("there is no end of numbers")
}

#[tokio::test(flavor = "multi_thread")]
async fn small_networks_are_filled_to_the_last_address() {
    let fleet = Fleet::start(10, 3, Conduct::default()).await;
    // What is left of the ends of blocks, and a gateway each: 8 - 3; 16 - 3; 2 * (16 - 3); 8 * (16 - 3) of /28 blocks.
    for (name, range, room) in [
        ("p29", "10.50.0.0/29", 5),
        ("p28", "10.50.1.0/28", 13),
        ("p27", "10.50.2.0/27", 26),
        ("p26", "10.50.3.0/26", 4 * 14 - 3),
    ] {
        fleet.network(name, subnet(range)).await.unwrap();
        let (made, (status, said)) = fill(&fleet, name).await;
        println!("{range}: {made} containers, then {status}: {said}");
        assert_eq!(status, 409, "{said}");
        assert!(said.contains(name) && said.contains("--subnet"), "{said}");
        assert!(made >= room, "{range} has room for {room}, not only {made}");
    }
    fleet.agrees().await;
    fleet.check_addresses();
    // Every address that is freed can be had again.
    let id = fleet.engines.containers().into_keys().find(|name| name.starts_with("p29")).unwrap();
    fleet.delete(&format!("/containers/{id}?force=1")).await.unwrap();
    fleet.container("again", "p29", None).await.unwrap();
    fleet.agrees().await;
    fleet.check_addresses();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_block_is_full_gets_the_next_and_keeps_its_gateway() {
    let fleet = Fleet::with(11, 2, Conduct::default(), default_pools(), IDLE).await;
    fleet.network("blue", subnet("10.51.0.0/26")).await.unwrap();
    // The first block is the other's, which gives it back.
    let first = fleet.container("first", "blue", Some(1)).await.unwrap();
    fleet.container("kept", "blue", Some(0)).await.unwrap();
    fleet.agrees().await;
    let gateway = || {
        let known = fleet.agents[0].known();
        known.state.networks.values().next().map(|network| network.gateway.to_string())
    };
    let of_engine =
        |node: usize| fleet.engines.sim.engines()[node].networks()["blue"]["IPAM"]["Config"][0]["Gateway"].clone();
    let before = gateway().unwrap();
    assert_eq!(of_engine(0), before);
    fleet.delete(&format!("/containers/{first}")).await.unwrap();
    eventually("the other's part is taken back", async || fleet.parts(1).is_empty()).await;
    for number in 0..30 {
        fleet.container(&format!("more{number}"), "blue", Some(0)).await.unwrap();
    }
    fleet.agrees().await;
    fleet.check_addresses();
    assert_eq!(gateway(), Some(before.clone()), "that of the engine's part, wherever its further blocks are");
    let taken: BTreeSet<_> =
        fleet.containers(0).into_values().flat_map(|on| on.into_values()).map(|address| address.to_string()).collect();
    assert!(!taken.contains(&before), "nobody has the gateway's address");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_reason_and_nothing_half_made() {
    let pool: Pool = "10.60.0.0/22:24".parse().unwrap();
    let fleet = Fleet::with(12, 2, Conduct::default(), vec![pool], IDLE).await;
    let nothing = || (0..2).all(|node| fleet.parts(node).is_empty());
    // The first range is the nodes' own.
    for name in ["one", "two", "three"] {
        fleet.network(name, json!({})).await.unwrap();
    }
    let networks = || async { fleet.front().get("/networks").await.as_array().unwrap().len() };
    let count = networks().await;
    let (status, said) = refusal(fleet.network("four", json!({})).await);
    assert!(status == 403 && said.contains("10.60.0.0/22:24") && said.contains("--network-pool"), "{status} {said}");
    for (range, whose) in [
        ("10.60.1.0/24", "of network one"),
        ("10.0.0.0/8", "of network"),
        ("10.60.0.128/25", "of the nodes' own addresses"),
        ("172.17.4.0/24", "of network bridge on sim-1"),
    ] {
        let (status, said) = refusal(fleet.network("over", subnet(range)).await);
        assert!(status == 403 && said.starts_with("Pool overlaps") && said.contains(whose), "{range}: {status} {said}");
    }
    for range in ["10.70.0.0/30", "10.70.0.0/32", "10.70.0.1/24", "fd00::/64", "10.0.0.0/7"] {
        let (status, said) = refusal(fleet.network("bad", subnet(range)).await);
        assert!(status == 400 && said.contains(range.split('/').next().unwrap()), "{range}: {status} {said}");
    }
    assert_eq!(networks().await, count, "none of them is there");
    assert!(nothing(), "and no engine has any of it");

    let at = |address: &str| json!({ "IPAMConfig": { "IPv4Address": address } });
    let (status, said) = refusal(fleet.container_with("outside", "one", None, at("10.61.0.7")).await);
    assert!(status == 400 && said.contains("10.61.0.7") && said.contains("10.60.1.0/24"), "{status} {said}");
    assert!(nothing() && fleet.engines.containers().is_empty(), "nothing is made for it");
    fleet.container_with("had", "one", Some(0), at("10.60.1.7")).await.unwrap();
    let other = fleet.container("other", "two", Some(1)).await.unwrap();
    for answer in [
        fleet.container_with("again", "one", None, at("10.60.1.7")).await.map(drop),
        fleet.connect("one", &other, at("10.60.1.7")).await,
    ] {
        let (status, said) = refusal(answer);
        assert!(status == 409 && said.contains("10.60.1.7") && said.contains("had"), "{status} {said}");
    }
    let gateway = fleet.engines.sim.engines()[0].networks()["one"]["IPAM"]["Config"][0]["Gateway"].clone();
    let (status, said) = refusal(fleet.connect("one", &other, at(gateway.as_str().unwrap())).await);
    assert!(status == 409 && said.contains("gateway"), "{status} {said}");
    assert_eq!(fleet.engines.containers().into_keys().collect::<Vec<_>>(), ["had", "other"]);
    // A container of one node may have an address of another's block; nobody else gets it then.
    fleet.connect("one", &other, at("10.60.1.3")).await.unwrap();
    let more: Vec<_> = (0..10).map(|number| format!("more{number}")).collect();
    for made in join_all(more.iter().map(|name| fleet.container(name, "one", Some(0)))).await {
        made.unwrap();
    }
    fleet.agrees().await;
    fleet.check_addresses();
    // It keeps the other's part where it is.
    for name in more.iter().chain([&"had".to_owned()]) {
        fleet.delete(&format!("/containers/{name}?force=1")).await.unwrap();
    }
    fleet.disconnect("one", &other).await.unwrap();
    eventually("what nobody is on is taken back", async || {
        fleet.parts(0).is_empty() && fleet.parts(1).keys().eq(["two"])
    })
    .await;
    fleet.agrees().await;
    assert!(refusal(fleet.delete("/networks/two").await).1.contains("active endpoints (other)"));
}

/// Does this and that, as one of several clients.
async fn client(fleet: &Fleet, number: u64, deeds: usize) {
    let mut dice = Dice::new(1000 + number);
    for deed in 0..deeds {
        let network = format!("net{}", dice.below(6));
        let node = usize::try_from(dice.below(fleet.agents.len() as u64)).unwrap();
        let mine = format!("c{number}-{}", dice.below(8));
        // Not all of it is possible at every moment.
        match dice.below(12) {
            0..=3 => {
                if let Ok(id) = fleet.container(&mine, &network, (deed % 2 == 0).then_some(node)).await {
                    drop(fleet.start_container(&id).await);
                }
            }
            4 | 5 => drop(fleet.delete(&format!("/containers/{mine}?force=1")).await),
            6 | 7 => drop(fleet.connect(&network, &mine, json!({"Aliases": [mine.clone()]})).await),
            8 => {
                let address = format!("10.8{}.0.{}", &network[3..], dice.below(64));
                drop(fleet.connect(&network, &mine, json!({"IPAMConfig": {"IPv4Address": address}})).await);
            }
            9 => drop(fleet.disconnect(&network, &mine).await),
            10 => drop(fleet.delete(&format!("/networks/{network}")).await),
            _ => {
                let range = format!("10.8{}.0.0/26", &network[3..]);
                drop(fleet.network(&network, subnet(&range)).await);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn churn_on_faulty_engines_leaves_every_address_with_one_owner_and_nothing_behind() {
    for seed in [1] {
        let fleet = Fleet::with(seed, 5, Conduct::default(), default_pools(), IDLE).await;
        let engines = fleet.engines.sim.engines();
        for (number, engine) in engines.iter().enumerate() {
            let share = u16::try_from(number * 20).unwrap();
            engine.set_faults(Faults {
                reset: share,
                lose_answers: share * 2,
                double_events: 200,
                reorder_events: 200,
                ..Faults::default()
            });
        }
        let clients = join_all((0..8).map(|number| client(&fleet, seed * 100 + number, 40)));
        let losses = async {
            for round in 0..6 {
                let engine = &engines[1 + round % 4];
                engine.set_faults(if round % 2 == 0 { Faults::refusing() } else { Faults::hung() });
                tokio::time::sleep(Duration::from_secs(2)).await;
                engine.set_faults(Faults::default());
            }
        };
        tokio::join!(clients, losses);
        engines.iter().for_each(|engine| engine.set_faults(Faults::default()));
        eventually("all are healthy", async || fleet.front().healthy().await.len() == 5).await;
        at_last("creates that were given up are undone", async || {
            fleet.engines.containers().keys().all(|name| !name.contains('/'))
        })
        .await;
        fleet.front().agrees_with(&fleet.engines).await;
        fleet.agrees().await;
        fleet.check_addresses();
        let left = fleet.engines.containers().len();
        println!("seed {seed}: {left} containers at the end, {} blocks", fleet.slices().len());

        // Nothing is promised any more: when all are gone, so are all parts, and every address can be had.
        stream::iter(fleet.engines.containers().into_keys())
            .for_each_concurrent(8, async |name| {
                let removed = fleet.delete(&format!("/containers/{name}?force=1")).await;
                assert!(removed.is_ok(), "{name}: {removed:?}");
            })
            .await;
        eventually("all parts are taken back", async || (0..5).all(|node| fleet.parts(node).is_empty())).await;
        fleet.agrees().await;
        assert!(fleet.slices().is_empty());
        for number in 0..6 {
            // Some are removed already.
            fleet.delete(&format!("/networks/net{number}")).await.ok();
        }
        fleet.network("all", subnet("10.80.0.0/28")).await.unwrap();
        let (made, said) = fill(&fleet, "all").await;
        assert_eq!(made, 13, "{said:?}");
    }
}

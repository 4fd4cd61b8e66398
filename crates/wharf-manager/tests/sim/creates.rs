//! Creates while everything fails: what is answered is so, once; what is refused leaves nothing.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;
use wharf_sim::{Dice, Faults, Shape};

use crate::world::{Engines, Front, eventually};

const GIB: u64 = 1 << 30;

/// Creates containers of these names at once; the ids of those that were made.
async fn burst(
    front: &Front,
    names: impl IntoIterator<Item = String>,
    more: serde_json::Value,
) -> BTreeMap<String, String> {
    let creates = names.into_iter().map(async |name| {
        let made = front.create(&name, more.clone()).await;
        made.ok().map(|id| (name, id))
    });
    join_all(creates).await.into_iter().flatten().collect()
}

/// Waits until the engines have what was made, and nothing else.
async fn settles(front: &Front, engines: &Engines, made: &BTreeMap<String, String>) {
    eventually("there is what was answered, and nothing else", async || engines.containers().keys().eq(made.keys()))
        .await;
    front.agrees_with(engines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_is_lost_exists_once() {
    let engines = Engines::alike(11, 3, 0).await;
    let front = engines.front().await;
    for engine in engines.sim.engines() {
        engine.set_faults(Faults { lose_answers: 1000, ..Faults::default() });
    }
    let made = burst(&front, (0..20).map(|number| format!("lost{number}")), json!({})).await;
    for engine in engines.sim.engines() {
        engine.set_faults(Faults::default());
    }
    assert!(!made.is_empty(), "an answer that is lost is looked for");
    settles(&front, &engines, &made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_on_faulty_engines_leave_nothing_behind() {
    for seed in 21..=23 {
        let engines = Engines::alike(seed, 12, 0).await;
        let front = engines.front().await;
        let mut dice = Dice::new(seed);
        let mut share = |limit: u64| u16::try_from(dice.below(limit)).unwrap();
        for (number, engine) in engines.sim.engines().iter().enumerate() {
            engine.set_faults(match number {
                0 => Faults::hung(),
                1 => Faults::refusing(),
                _ => Faults {
                    delay_ms: u64::from(share(30)),
                    reset: share(150),
                    lose_answers: share(400),
                    failing: share(100),
                    double_events: share(300),
                    reorder_events: share(300),
                    ..Faults::default()
                },
            });
        }
        let memory = json!({"HostConfig": {"Memory": GIB / 4}});
        let clients = (0..50).map(|client| {
            let names = (0..4).map(move |number| format!("burst{client}-{number}"));
            let (front, memory) = (&front, memory.clone());
            async move {
                let mut made = BTreeMap::new();
                for name in names {
                    made.extend(burst(front, [name], memory.clone()).await);
                }
                made
            }
        });
        let made: BTreeMap<_, _> = join_all(clients).await.into_iter().flatten().collect();
        for engine in engines.sim.engines() {
            engine.set_faults(Faults::default());
        }
        assert!(made.len() > 50, "most are made all the same: {}", made.len());
        settles(&front, &engines, &made).await;

        // Nothing is promised any more: once these are gone, every node can be filled to the brim.
        for id in made.values() {
            front.ask(http::Method::DELETE, &format!("/containers/{id}?force=1"), json!(null)).await.unwrap();
        }
        settles(&front, &engines, &BTreeMap::new()).await;
        eventually("all are healthy", async || front.healthy().await.len() == 12).await;
        let full = json!({"HostConfig": {"Memory": 8 * GIB}});
        let filled = burst(&front, (0..12).map(|number| format!("full{number}")), full.clone()).await;
        assert_eq!(filled.len(), 12, "one for each");
        assert!(front.create("more", full).await.is_err(), "and no other");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_never_overbook_and_keep_apart() {
    let engines = Engines::start(31, vec![Shape::default(); 2]).await;
    let front = engines.front().await;
    let apart = json!({"Labels": {"role": "db"}, "Env": ["affinity:role!=db"]});
    assert_eq!(burst(&front, (0..3).map(|number| format!("apart{number}")), apart).await.len(), 2);
    let memory = json!({"HostConfig": {"Memory": GIB}});
    // 8 GiB and 5 % each.
    assert_eq!(burst(&front, (0..40).map(|number| format!("memory{number}")), memory).await.len(), 16);
    let port = json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8000"}]}}});
    assert_eq!(burst(&front, (0..10).map(|number| format!("port{number}")), port).await.len(), 2);
    assert_eq!(burst(&front, ["name"; 10].map(str::to_owned), json!({})).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_hangs_and_happens_later_is_nobodys_and_removed() {
    let engines = Engines::alike(41, 2, 0).await;
    let front = engines.front().await;
    let hung = &engines.sim.engines()[0];
    let wanted = json!({"Env": [format!("constraint:node==~{}", hung.name())]});
    hung.set_faults(Faults::hung());
    let id = front.create("moved", wanted).await.unwrap();
    assert_eq!(engines.containers()["moved"].0, engines.sim.engines()[1].name(), "another node has taken it");
    // The engine takes up what it was asked while it hung.
    hung.set_faults(Faults::default());
    settles(&front, &engines, &[("moved".to_owned(), id)].into()).await;
}

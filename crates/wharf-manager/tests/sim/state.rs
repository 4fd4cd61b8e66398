//! What the manager knows: the same whatever way it came to know it.

use http::Method;
use serde_json::{Value, json};
use wharf_sim::{Dice, Faults};

use crate::world::{Engines, call, eventually};

/// Does this and that on the engines themselves, behind the manager's back.
async fn live(engines: &Engines, dice: &mut Dice, deeds: usize) {
    for deed in 0..deeds {
        let engine = usize::try_from(dice.below(engines.sim.engines().len() as u64)).unwrap();
        let client = engines.client(engine);
        let names: Vec<_> = engines.sim.engines()[engine].containers().into_keys().collect();
        let pick = names.get(usize::try_from(dice.below(names.len().max(1) as u64)).unwrap());
        let (method, path, body) = match (dice.below(6), pick) {
            (0 | 1, _) | (_, None) => {
                let path = format!("/v1.41/containers/create?name=deed{deed}-{engine}");
                (Method::POST, path, json!({"Image": "busybox"}))
            }
            (2, Some(name)) => (Method::DELETE, format!("/v1.41/containers/{name}?force=1"), Value::Null),
            (3, Some(name)) => (Method::POST, format!("/v1.41/containers/{name}/start"), Value::Null),
            (4, Some(name)) => (Method::POST, format!("/v1.41/containers/{name}/stop"), Value::Null),
            (_, Some(name)) => (Method::POST, format!("/v1.41/containers/{name}/pause"), Value::Null),
        };
        // Not all of it is possible in a container's state.
        call(&client, method, &path, body).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_and_reordered_events_give_the_state_that_is() {
    for seed in 1..=4 {
        let engines = Engines::alike(seed, 4, 5).await;
        let lived_through = engines.front().await;
        for engine in engines.sim.engines() {
            engine.set_faults(Faults { double_events: 300, reorder_events: 300, delay_ms: seed, ..Faults::default() });
        }
        live(&engines, &mut Dice::new(seed), 120).await;
        // What was held back to come late comes at the latest after this one.
        for (number, engine) in engines.sim.engines().iter().enumerate() {
            engine.set_faults(Faults::default());
            let create = format!("/v1.41/containers/create?name=last{number}");
            call(&engines.client(number), Method::POST, &create, json!({"Image": "busybox"})).await.unwrap();
        }
        lived_through.agrees_with(&engines).await;
        // A manager that has seen nothing of it knows the same, down to the last field.
        let listed_anew = engines.front().await;
        listed_anew.agrees_with(&engines).await;
        let all = "/containers/json?all=1";
        eventually("both list the same", async || {
            let (mut one, mut other) = (lived_through.get(all).await, listed_anew.get(all).await);
            for entry in [&mut one, &mut other].into_iter().flat_map(|list| list.as_array_mut().unwrap()) {
                // It tells the time that has passed.
                entry["Status"] = Value::Null;
            }
            one == other
        })
        .await;
        assert_eq!(lived_through.get("/networks").await, listed_anew.get("/networks").await);
        assert_eq!(lived_through.get("/images/json").await, listed_anew.get("/images/json").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_events_were_lost_is_read_when_the_stream_comes_back() {
    let engines = Engines::alike(7, 3, 5).await;
    let front = engines.front().await;
    for engine in engines.sim.engines() {
        engine.set_faults(Faults { drop_events: 1000, ..Faults::default() });
    }
    live(&engines, &mut Dice::new(7), 60).await;
    for engine in engines.sim.engines() {
        engine.set_faults(Faults::default());
        engine.close_connections();
    }
    front.agrees_with(&engines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_comes_back_with_other_containers() {
    let engines = Engines::alike(3, 3, 10).await;
    let front = engines.front().await;
    front.agrees_with(&engines).await;
    for containers in [3, 0, 40] {
        engines.sim.engines()[1].restart_with(containers);
        front.agrees_with(&engines).await;
    }
    assert_eq!(front.healthy().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_engine_keeps_nobody_waiting() {
    let engines = Engines::alike(5, 4, 10).await;
    let front = engines.front().await;
    front.agrees_with(&engines).await;
    let hung = &engines.sim.engines()[2];
    hung.set_faults(Faults::hung());
    // The hang is never lifted: whatever is answered has not waited for it.
    for number in 0..20 {
        front.create(&format!("beside{number}"), json!({})).await.unwrap();
        assert!(front.containers().await.len() >= 40 + number);
        front.get("/info").await;
    }
    eventually("it is known to be silent", async || !front.healthy().await.contains(hung.name())).await;
    let listed = front.get("/containers/json?all=1").await;
    let down = listed.as_array().unwrap().iter().filter(|entry| entry["Status"] == "Host Down");
    assert_eq!(down.count(), 10, "its containers stay known");
    hung.set_faults(Faults::default());
    front.agrees_with(&engines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_change_nothing() {
    let engines = Engines::alike(9, 3, 2).await;
    for (engine, ahead) in engines.sim.engines().iter().zip([-3_600_000, 0, 3_600_000]) {
        engine.set_faults(Faults { clock_ahead_ms: ahead, ..Faults::default() });
    }
    let front = engines.front().await;
    live(&engines, &mut Dice::new(9), 60).await;
    front.agrees_with(&engines).await;
    for engine in engines.sim.engines() {
        engine.close_connections();
    }
    live(&engines, &mut Dice::new(10), 30).await;
    front.agrees_with(&engines).await;
}

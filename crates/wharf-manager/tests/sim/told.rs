//! What agents are told: all that concerns their nodes, and nothing else.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use tokio::time::Instant;
use wharf_sim::{Dice, Faults};

use crate::{agent::Conduct, spanned::Fleet, world::eventually};

/// Clients that ask at the same time.
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_nodes_and_two_hundred_networks_come_to_know_what_they_should() {
    const NETWORKS: usize = 200;
    const CONTAINERS: usize = 1000;
    let began = Instant::now();
    let fleet = Fleet::start(1, 50, Conduct { delay: Duration::from_millis(5), ..Conduct::default() }).await;
    let with_agents = began.elapsed();
    let began = Instant::now();
    let networks: Vec<_> = (0..NETWORKS).map(|number| format!("net{number}")).collect();
    stream::iter(&networks)
        .for_each_concurrent(CLIENTS, async |name| drop(fleet.network(name, json!({})).await.unwrap()))
        .await;
    let with_networks = began.elapsed();
    println!("50 agents in {with_agents:?}; {NETWORKS} networks in {with_networks:?}");
    let told: u64 = fleet.agents.iter().map(|agent| agent.updates()).sum();
    let began = Instant::now();
    stream::iter(0..CONTAINERS)
        .for_each_concurrent(CLIENTS, async |number| {
            let id = fleet.container(&format!("c{number}"), &networks[number % NETWORKS], None).await.unwrap();
            fleet.start_container(&id).await.unwrap();
        })
        .await;
    let with_containers = began.elapsed();
    println!("{CONTAINERS} containers created and started in {with_containers:?}");
    fleet.agrees().await;
    fleet.check_addresses();
    let all: u64 = fleet.agents.iter().map(|agent| agent.updates()).sum();
    let mut kinds = std::collections::BTreeMap::new();
    for agent in &fleet.agents {
        for (kind, count) in &agent.known().updates {
            *kinds.entry(*kind).or_insert(0) += count;
        }
    }
    let slices = fleet.slices().len();
    println!(
        "50 agents in {with_agents:?}; {NETWORKS} networks in {with_networks:?}; {CONTAINERS} containers created and started in \
         {with_containers:?}; {slices} blocks; {} updates before, {all} after the second watch: {kinds:?}",
        told
    );
}

/// How many updates every agent of a fleet of so many nodes gets for a start on a network of three of them.
async fn cost(nodes: usize) -> Vec<u64> {
    let fleet = Fleet::start(2, nodes, Conduct::default()).await;
    fleet.agrees().await;
    let counts = || -> Vec<u64> { fleet.agents.iter().map(|agent| agent.updates()).collect() };
    let before = counts();
    fleet.network("blue", json!({})).await.unwrap();
    let id = fleet.container("a0", "blue", Some(0)).await.unwrap();
    // What was told of the network was told before this: all of them have seen the same changes in the same order.
    eventually("the first is told", async || counts()[0] > before[0]).await;
    assert_eq!(counts()[1..], before[1..], "nobody else is concerned");
    fleet.start_container(&id).await.unwrap();
    for node in 1..3 {
        let id = fleet.container(&format!("a{node}"), "blue", Some(node)).await.unwrap();
        fleet.start_container(&id).await.unwrap();
    }
    fleet.agrees().await;
    let id = fleet.container("last", "blue", Some(0)).await.unwrap();
    fleet.agrees().await;
    let before = counts();
    fleet.start_container(&id).await.unwrap();
    let up = |node: usize| {
        let known = fleet.agents[node].known();
        known.state.containers.get(&id).is_some_and(|container| container.up)
    };
    assert!((0..3).all(up), "they know before it runs");
    // Whatever else is told of it has been by the time that something later is.
    let other = fleet.container("other", "blue", Some(0)).await.unwrap();
    eventually("a later one is known", async || {
        (0..3).all(|node| fleet.agents[node].known().state.containers.contains_key(&other))
    })
    .await;
    counts().iter().zip(before).map(|(now, before)| now - before).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_told_to_those_on_its_network_whatever_the_fleets_size() {
    let (few, many) = (cost(10).await, cost(50).await);
    println!("updates for a start and a create, per node: {few:?}; in a fleet of 50: {many:?}");
    for counts in [&few, &many] {
        // One that it is about to run, one that there is another.
        assert!(counts[..3].iter().all(|count| *count <= 3), "{counts:?}");
        assert!(counts[3..].iter().all(|count| *count == 0), "{counts:?}");
    }
}

/// A fleet with a few networks over all nodes, and three containers on each node, each on two of them.
async fn populated(seed: u64, nodes: usize, conduct: Conduct) -> Fleet {
    let fleet = Fleet::start(seed, nodes, conduct).await;
    join_all(["n0", "n1", "n2", "n3"].map(|name| fleet.network(name, json!({})))).await;
    stream::iter(0..nodes * 3)
        .for_each_concurrent(CLIENTS, async |number| {
            let network = format!("n{}", number % 4);
            let name = format!("c{number}");
            let id = fleet.container(&name, &network, Some(number % nodes)).await.unwrap();
            let further = json!({"Aliases": [format!("{name}-also")]});
            fleet.connect(&format!("n{}", (number + 1) % 4), &id, further).await.unwrap();
            fleet.start_container(&id).await.unwrap();
        })
        .await;
    fleet.agrees().await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_vanishes_while_a_manager_is_killed_and_started() {
    let mut fleet = populated(3, 8, Conduct::default()).await;
    let slices = fleet.slices();
    for round in 0..3 {
        let joined: Vec<_> = fleet.agents.iter().map(|agent| agent.known().joined).collect();
        let resets: Vec<_> = fleet.agents.iter().map(|agent| agent.known().resets).collect();
        fleet.agents.iter().for_each(|agent| agent.known().vanished.clear());
        fleet.kill().await;
        if round == 1 {
            // They take a while to come back: their programs are theirs to run all the same.
            fleet.agents.iter().for_each(|agent| agent.behave(|conduct| conduct.cut_off = true));
        }
        if round == 2 {
            // One engine is slow to be read.
            let slow = Faults { delay_ms: 400, ..Faults::default() };
            fleet.engines.sim.engines()[0].set_faults(slow);
        }
        fleet.serve().await;
        if round == 1 {
            eventually("all are healthy", async || fleet.front().healthy().await.len() == 8).await;
            // Past the first looks for nodes without an agent.
            tokio::time::sleep(Duration::from_secs(2)).await;
            fleet.agents.iter().for_each(|agent| agent.behave(|conduct| conduct.cut_off = false));
        }
        let again = |node: usize| {
            let known = fleet.agents[node].known();
            known.resets > resets[node] && known.unread.is_empty()
        };
        eventually("all are told again", async || (0..8).all(again)).await;
        fleet.engines.sim.engines()[0].set_faults(Faults::default());
        fleet.agrees().await;
        for (node, agent) in fleet.agents.iter().enumerate() {
            assert_eq!(agent.known().vanished, Vec::<String>::new(), "node {node}, round {round}");
            assert_eq!(
                agent.known().joined,
                joined[node],
                "node {node}, round {round}: nobody replaced an agent that runs"
            );
            println!("round {round}: node {node} was told everything {} times", agent.known().resets - resets[node]);
        }
        assert_eq!(fleet.slices(), slices);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_cut_off_or_did_not_read_is_told_all_when_it_is_back() {
    let fleet = populated(4, 4, Conduct::default()).await;
    fleet.agents[1].behave(|conduct| conduct.cut_off = true);
    fleet.agents[2].behave(|conduct| conduct.stuck = true);
    let names: Vec<_> = (0..300).map(|number| format!("late{number}")).collect();
    let mut dice = Dice::new(4);
    let picks: Vec<_> = names.iter().map(|_| usize::try_from(dice.below(2)).unwrap() * 3).collect();
    stream::iter(names.iter().zip(picks))
        .for_each_concurrent(CLIENTS, async |(name, node)| {
            let id = fleet.container(name, "n1", Some(node)).await.unwrap();
            fleet.start_container(&id).await.unwrap();
        })
        .await;
    let resets = fleet.agents[2].known().resets;
    fleet.agents[1].behave(|conduct| conduct.cut_off = false);
    fleet.agents[2].behave(|conduct| conduct.stuck = false);
    fleet.agrees().await;
    println!("the one that did not read was told everything {} times more", fleet.agents[2].known().resets - resets);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_reports_holds_a_start_up_for_a_moment_only() {
    let fleet = populated(5, 3, Conduct::default()).await;
    fleet.agents[2].behave(|conduct| conduct.mute = true);
    let mut ids = Vec::new();
    let began = Instant::now();
    for number in 0..5 {
        ids.push(fleet.container(&format!("more{number}"), "n1", Some(number % 2)).await.unwrap());
    }
    let created = began.elapsed();
    let began = Instant::now();
    for id in &ids {
        fleet.start_container(id).await.unwrap();
    }
    let started = began.elapsed();
    println!("with an agent that never reports: five creates in {created:?}, five starts in {started:?}");
    assert!(started >= Duration::from_millis(900), "it is waited for: {started:?}");
    assert!(started < Duration::from_millis(2500), "{started:?}");
    assert!(created < Duration::from_millis(2500), "a network that is there already is not waited for: {created:?}");
    // Those that answer late are waited for as long as it takes them.
    fleet.agents[2].behave(|conduct| *conduct = Conduct { delay: Duration::from_millis(100), ..conduct.clone() });
    fleet.agents[2].behave(|conduct| conduct.mute = false);
    let known: BTreeSet<_> = fleet.agents[2].known().state.containers.keys().cloned().collect();
    assert!(ids.iter().all(|id| known.contains(id)));
}

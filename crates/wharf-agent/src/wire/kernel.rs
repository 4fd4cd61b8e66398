//! The converge loop's one turn: read, subtract, do.

use rtnetlink::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::wire::host::Host;
use crate::wire::observe::{Observed, observe};
use crate::wire::plan::{self, Plan};
use crate::wire::problem::{Error, Problem, Report};
use crate::wire::programs::{self, Choice, Program};
use crate::wire::rules;
use crate::wire::step::{Stale, Step};
use crate::wire::watch::{self, LinkEvent};
use crate::wire::wish::{BRIDGE_PREFIX, Family, PLAIN_TUNNEL, SECURE_TUNNEL, Sound, Wish};
use crate::wire::{apply, table::Table};

/// The kernel of this node, to be made as a wish says.
///
/// It works in the network namespace of the thread that made it, and has to be used on that thread's runtime where
/// threads are in different ones. It remembers nothing of the kernel: every call reads it anew.
#[derive(Debug)]
pub struct Wire {
    host: Host,
    handle: Handle,
    connection: JoinHandle<()>,
    /// Whether there may be rules of ours for IPv6: looked after at the start, and while a network has such addresses.
    six: bool,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The edits of one table by one program.
#[derive(Debug)]
struct TableEdits {
    program: Program,
    table: &'static str,
    edits: Vec<String>,
}

impl Wire {
    /// Opens a netlink socket in the calling thread's network namespace. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Socket`], and [`Error::NoRoot`] where the host's root is no folder.
    pub fn new(host: Host) -> Result<Self, Error> {
        host.verify()?;
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        Ok(Self { host, handle, connection: tokio::spawn(connection), six: true })
    }

    /// Makes the kernel as wished, as far as it can be: a step that fails is reported and the others are done.
    ///
    /// Rules come first, so that no device or route stands before what guards it. A kernel that is right is only read.
    /// A call that is dropped halfway leaves a state that the next call completes.
    pub async fn converge(&mut self, wish: &Wish) -> Report {
        let mut sound = wish.sound();
        let mut report = Report::default();
        report.problems.append(&mut sound.problems);
        self.converge_rules(Family::V4, wish, &sound, &mut report).await;
        let six = sound.have(Family::V6);
        if six {
            self.converge_rules(Family::V6, wish, &sound, &mut report).await;
        }
        if let Err(problem) = self.converge_kernel(wish, &sound, &mut report).await {
            report.problems.push(problem);
        }
        // They go last: as long as a tunnel has IPv6, it is guarded.
        if self.six && !six {
            self.remove_rules(Family::V6, &mut report).await;
        }
        self.six = six;
        report
    }

    /// What differs between the kernel and the wish: the changes that [`Wire::converge`] would make, and what would
    /// keep it from making others. What it would wait for is no difference.
    pub async fn check(&self, wish: &Wish) -> Vec<String> {
        let sound = wish.sound();
        let mut differences: Vec<String> = sound.problems.iter().map(Problem::to_string).collect();
        for family in [Family::V4, Family::V6] {
            if family == Family::V6 && !sound.have(family) {
                for program in programs::all(&self.host, family).await {
                    let filter = program.save(&self.host, "filter").await.unwrap_or_default();
                    differences.extend(self.leftovers(program, &filter).await.iter().flat_map(TableEdits::texts));
                }
                continue;
            }
            let (edits, problems) = self.rule_edits(family, wish, &sound).await;
            differences.extend(edits.iter().flat_map(TableEdits::texts));
            differences.extend(problems.iter().map(Problem::to_string));
        }
        match observe(&self.handle).await {
            Ok(observed) => {
                let plans = [plan::links(wish, &sound, &observed), plan::entries(wish, &sound, &observed)];
                for Plan { steps, problems, .. } in plans {
                    differences.extend(steps.iter().map(Step::to_string));
                    differences.extend(problems.iter().map(Problem::to_string));
                }
            }
            Err(problem) => differences.push(problem.to_string()),
        }
        differences
    }

    /// Removes all that is ours: tunnel devices, routes, chains and jumps; sets the bridges' settings back.
    ///
    /// Needs no wish, touches nothing else, and does nothing where there is nothing left.
    pub async fn cleanup(&self) -> Report {
        let mut report = Report::default();
        match observe(&self.handle).await {
            Ok(observed) => {
                let (devices, entries) = removal_of(&observed);
                apply::at_once(&self.handle, &observed.links, &entries, &mut report).await;
                apply::in_order(&self.handle, &devices, &mut report).await;
            }
            Err(problem) => report.problems.push(problem),
        }
        // The rules go last: as long as a device stands, it is guarded.
        for family in [Family::V4, Family::V6] {
            self.remove_rules(family, &mut report).await;
        }
        report
    }

    /// Removes our chains from the tables of every program that there is. One after the other: two may have the same tables.
    async fn remove_rules(&self, family: Family, report: &mut Report) {
        for program in programs::all(&self.host, family).await {
            for (table, chains) in rules::CHAINS {
                match program.save(&self.host, table).await {
                    Ok(present) => {
                        let edits = present.edits_without(chains);
                        self.restore(TableEdits { program, table, edits }, report).await;
                    }
                    Err(problem) => report.problems.push(problem),
                }
            }
        }
    }

    /// Tells when a bridge or tunnel of ours appears, vanishes, or goes up or down: then it is time to converge.
    ///
    /// Ends when the receiver is dropped. Events that nobody reads are left out once the queue is full, as a reader
    /// that converges after the ones that are in it sees all later changes too.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Ask`].
    pub async fn watch_links(&self) -> Result<mpsc::Receiver<LinkEvent>, Error> {
        watch::links(&self.handle).await
    }

    async fn converge_kernel(&self, wish: &Wish, sound: &Sound<'_>, report: &mut Report) -> Result<(), Problem> {
        let mut observed = observe(&self.handle).await?;
        let mut links = plan::links(wish, sound, &observed);
        report.problems.append(&mut links.problems);
        if !links.steps.is_empty() {
            apply::in_order(&self.handle, &links.steps, report).await;
            // A device that was made anew took its entries with it.
            observed = observe(&self.handle).await?;
        }
        let mut entries = plan::entries(wish, sound, &observed);
        report.problems.append(&mut entries.problems);
        report.waiting.append(&mut entries.waiting);
        apply::at_once(&self.handle, &observed.links, &entries.steps, report).await;
        Ok(())
    }

    async fn converge_rules(&self, family: Family, wish: &Wish, sound: &Sound<'_>, report: &mut Report) {
        let (edits, mut problems) = self.rule_edits(family, wish, sound).await;
        report.problems.append(&mut problems);
        for table in edits {
            self.restore(table, report).await;
        }
    }

    async fn restore(&self, table: TableEdits, report: &mut Report) {
        if table.edits.is_empty() {
            return;
        }
        match table.program.restore(&self.host, table.table, &table.edits).await {
            Ok(()) => report.done.extend(table.texts()),
            Err(problem) => report.problems.push(problem),
        }
    }

    /// The edits that lead to the wished rules, and those that remove our rules from where the engine is not.
    async fn rule_edits(&self, family: Family, wish: &Wish, sound: &Sound<'_>) -> (Vec<TableEdits>, Vec<Problem>) {
        let Choice { program, filter, others } = match programs::choose(&self.host, family).await {
            Ok(choice) => choice,
            Err(problem) => return (Vec::new(), vec![problem]),
        };
        let mut problems = Vec::new();
        let edits = filter.edits_towards(&rules::filter(family, wish, sound, &filter));
        let mut tables = vec![TableEdits { program, table: "filter", edits }];
        match program.save(&self.host, "nat").await {
            Ok(nat) => {
                let edits = nat.edits_towards(&rules::nat(family, sound, &nat));
                tables.push(TableEdits { program, table: "nat", edits });
            }
            Err(problem) => problems.push(problem),
        }
        for (other, filter) in others {
            tables.extend(self.leftovers(other, &filter).await);
        }
        (tables, problems)
    }

    /// The edits that remove our chains from the tables of a program that the engine does not use.
    async fn leftovers(&self, program: Program, filter: &Table) -> Vec<TableEdits> {
        let [(filter_name, filter_chains), (nat_name, nat_chains)] = rules::CHAINS;
        let edits = filter.edits_without(filter_chains);
        if edits.is_empty() {
            return Vec::new();
        }
        let nat = program.save(&self.host, nat_name).await.unwrap_or_default();
        let nat = TableEdits { program, table: nat_name, edits: nat.edits_without(nat_chains) };
        vec![TableEdits { program, table: filter_name, edits }, nat]
    }
}

impl TableEdits {
    fn texts(&self) -> impl Iterator<Item = String> {
        self.edits.iter().map(|edit| format!("{}: {edit}", self.table))
    }
}

/// The devices that go, and the routes and settings that go before them.
fn removal_of(observed: &Observed) -> (Vec<Step>, Vec<Step>) {
    let tunnels = [PLAIN_TUNNEL, SECURE_TUNNEL].into_iter().filter(|name| observed.links.contains_key(*name));
    let why = "cleanup".to_owned();
    let devices = tunnels.map(|name| Step::RemoveLink { name: name.to_owned(), why: why.clone() }).collect();
    let ours = observed.routes.iter().filter(|route| route.ours);
    let stale = ours.map(|route| Stale { to: route.to, device: route.device, via: route.via, metric: route.metric });
    let mut entries: Vec<Step> = stale.map(Step::RemoveRoute).collect();
    let bridges = observed.links.keys().filter(|name| name.starts_with(BRIDGE_PREFIX));
    entries.extend(bridges.flat_map(|bridge| plan::bridge_back(observed, bridge)));
    (devices, entries)
}

//! A table of filter rules as `iptables-save` prints it, and the edits that make chains of it as wanted.
//!
//! The edits are lines for `iptables-restore --noflush`, which takes all lines of a table at once or none.

use std::collections::BTreeMap;

/// A table's chains, each with its rules in order. A rule is the text after `-A CHAIN `, as `iptables-save` writes it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) chains: BTreeMap<String, Vec<String>>,
}

/// What one table is to have of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `filter`, `nat`.
    pub(crate) table: &'static str,
    /// Our chains and their rules; a chain that others jump to comes before them.
    pub(crate) chains: Vec<(&'static str, Vec<String>)>,
    /// Chains of others, each with the chain of ours that its first rule jumps to.
    pub(crate) jumps: Vec<Jump>,
}

/// A jump from a chain that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jump {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

impl Table {
    /// Reads what `iptables-save -t TABLE` prints. Lines of other forms (comments, `COMMIT`) say nothing here.
    pub(crate) fn parse(text: &str) -> Self {
        let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                chains.entry(chain.to_owned()).or_default();
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
                chains.entry(chain.to_owned()).or_default().push(rule.trim_end().to_owned());
            }
        }
        Self { chains }
    }

    /// Whether the table has a chain of this name.
    pub(crate) fn has(&self, chain: &str) -> bool {
        self.chains.contains_key(chain)
    }

    /// Whether every packet that enters one chain gets to another.
    pub(crate) fn leads(&self, from: &str, to: &str) -> bool {
        self.has(to) && self.chains.get(from).is_some_and(|rules| rules.contains(&jump_rule(to)))
    }

    /// The edits that make our chains and jumps as wanted, in the order in which they have to be made.
    pub(crate) fn edits_towards(&self, wanted: &Wanted) -> Vec<String> {
        let missing = wanted.chains.iter().filter(|(chain, _)| !self.has(chain));
        let mut edits: Vec<String> = missing.map(|(chain, _)| declaration(chain)).collect();
        for (chain, rules) in &wanted.chains {
            let present = self.chains.get(*chain).map(Vec::as_slice).unwrap_or_default();
            edits.extend(chain_edits(chain, present, rules));
        }
        for (chain, present) in &self.chains {
            edits.extend(jump_edits(chain, present, wanted));
        }
        edits
    }

    /// The edits that remove the chains of these names and every jump to them.
    pub(crate) fn edits_without(&self, ours: &[&str]) -> Vec<String> {
        let is_ours = |rule: &String| ours.iter().any(|chain| *rule == jump_rule(chain));
        let mut edits = Vec::new();
        for (chain, rules) in self.chains.iter().filter(|(chain, _)| !ours.contains(&chain.as_str())) {
            let positions = rules.iter().enumerate().rev().filter(|(_, rule)| is_ours(rule));
            edits.extend(positions.map(|(index, _)| deletion(chain, index)));
        }
        let present = || ours.iter().filter(|chain| self.has(chain));
        // All are emptied before the first is removed, as they refer to each other.
        edits.extend(present().map(|chain| format!("-F {chain}")));
        edits.extend(present().map(|chain| format!("-X {chain}")));
        edits
    }
}

fn jump_rule(chain: &str) -> String {
    format!("-j {chain}")
}

/// Declares a chain; one that exists is emptied by it.
fn declaration(chain: &str) -> String {
    format!(":{chain} - [0:0]")
}

fn deletion(chain: &str, index: usize) -> String {
    format!("-D {chain} {}", index + 1)
}

/// Turns one list of rules into another by replacing what lies between their common beginning and end: a network that
/// comes or goes costs its own rules. Where little is common, the chain is written anew.
fn chain_edits(chain: &str, present: &[String], wanted: &[String]) -> Vec<String> {
    let head = present.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let (rest_present, rest_wanted) = (&present[head..], &wanted[head..]);
    let tail = rest_present.iter().rev().zip(rest_wanted.iter().rev()).take_while(|(a, b)| a == b).count();
    let leaving = rest_present.len() - tail;
    let coming = &rest_wanted[..rest_wanted.len() - tail];
    if leaving + coming.len() > wanted.len() {
        let rewrite = (!present.is_empty()).then(|| declaration(chain));
        return rewrite.into_iter().chain(wanted.iter().map(|rule| format!("-A {chain} {rule}"))).collect();
    }
    let deletions = (head..head + leaving).rev().map(|index| deletion(chain, index));
    let insertions = coming.iter().enumerate().map(|(offset, rule)| format!("-I {chain} {} {rule}", head + offset + 1));
    deletions.chain(insertions).collect()
}

/// Makes the jump to a chain of ours the first rule of the chain it belongs to, and removes it from all others.
fn jump_edits(chain: &str, present: &[String], wanted: &Wanted) -> Vec<String> {
    if wanted.chains.iter().any(|(ours, _)| *ours == chain) {
        return Vec::new();
    }
    let mut edits = Vec::new();
    for jump in &wanted.jumps {
        let rule = jump_rule(jump.to);
        let belongs = jump.from == chain;
        let in_place = belongs && present.first() == Some(&rule);
        let stray = present.iter().enumerate().skip(usize::from(in_place)).filter(|(_, other)| **other == rule);
        edits.extend(stray.rev().map(|(index, _)| deletion(chain, index)));
        if belongs && !in_place {
            edits.push(format!("-I {chain} 1 {rule}"));
        }
    }
    edits
}

#[cfg(test)]
mod tests;

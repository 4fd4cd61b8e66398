//! The names that networks knew until just now. They are answered with NXDOMAIN for a while instead of being asked for
//! elsewhere: a replica that restarts must not turn into whatever the Internet has by that name.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::NetworkId;

/// How long a name is known to be gone: longer than a container takes to be moved or made anew.
pub(super) const REMEMBERED: Duration = Duration::from_secs(60);

/// How many gone names are remembered in all networks together: 20,000 containers that all go at once have about three
/// names each. Beyond, the oldest are forgotten.
const REMEMBERED_MOST: usize = 65_536;

#[derive(Default)]
pub(super) struct Gone {
    names: HashMap<NetworkId, HashMap<Arc<str>, Instant>>,
    /// Oldest first. A name that came back leaves its entry here, which then says nothing.
    order: VecDeque<(Instant, NetworkId, Arc<str>)>,
}

impl Gone {
    /// The network knows the name no longer.
    pub(super) fn add(&mut self, network: &NetworkId, name: Arc<str>, now: Instant) {
        self.order.push_back((now, network.clone(), name.clone()));
        self.names.entry(network.clone()).or_default().insert(name, now);
        while self.order.len() > REMEMBERED_MOST || self.order.front().is_some_and(|(since, ..)| past(*since, now)) {
            let Some((since, network, name)) = self.order.pop_front() else { break };
            if self.names.get(&network).and_then(|names| names.get(&name)) == Some(&since) {
                self.remove(&network, &name);
            }
        }
    }

    /// The network knows the name again.
    pub(super) fn remove(&mut self, network: &NetworkId, name: &str) {
        if let Some(names) = self.names.get_mut(network) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(network);
            }
        }
    }

    /// The network itself is no longer.
    pub(super) fn remove_network(&mut self, network: &NetworkId) {
        self.names.remove(network);
    }

    pub(super) fn knows(&self, network: &NetworkId, name: &str, now: Instant) -> bool {
        self.names.get(network).and_then(|names| names.get(name)).is_some_and(|since| !past(*since, now))
    }
}

fn past(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let (mut gone, network, now) = (Gone::default(), NetworkId::from("n"), Instant::now());
        for number in 0..=REMEMBERED_MOST {
            gone.add(&network, number.to_string().into(), now);
        }
        assert!(!gone.knows(&network, "0", now));
        assert!(gone.knows(&network, "1", now));
        assert_eq!(gone.names[&network].len(), REMEMBERED_MOST);
    }

    #[test]
    fn a_name_that_came_back_and_went_again_is_remembered_from_the_second_time() {
        let (mut gone, network, now) = (Gone::default(), NetworkId::from("n"), Instant::now());
        gone.add(&network, "web".into(), now);
        gone.remove(&network, "web");
        let later = now + REMEMBERED / 2;
        gone.add(&network, "web".into(), later);
        gone.add(&network, "other".into(), now + REMEMBERED);
        assert!(gone.knows(&network, "web", now + REMEMBERED));
        assert!(!gone.knows(&network, "web", later + REMEMBERED));
    }

    #[test]
    fn what_is_past_takes_no_room() {
        let (mut gone, network, now) = (Gone::default(), NetworkId::from("n"), Instant::now());
        (0..100).for_each(|number| gone.add(&network, number.to_string().into(), now));
        gone.add(&network, "last".into(), now + REMEMBERED);
        assert_eq!((gone.order.len(), gone.names[&network].len()), (1, 1));
    }
}

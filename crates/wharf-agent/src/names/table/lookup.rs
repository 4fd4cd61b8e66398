//! One question, answered from the index: what a name can mean, in which order, and who stands behind it.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use hickory_proto::rr::RecordType;
use tokio::time::Instant;

use super::{
    super::dice::Dice,
    Answer, Container, Data, Endpoint, Need, Network,
    index::{Index, Rank, short_id},
    question,
};

/// How many replicas one answer names: a message of 64 KiB holds about as many services (SRV with their addresses), and
/// who needs more than that asks for something else than an address.
const REPLICAS_MOST: usize = 1024;

/// How long a label and a whole name may be (RFC 1035 §2.3.4).
const LABEL_BYTES_MOST: usize = 63;
const NAME_BYTES_MOST: usize = 253;

pub(super) struct Lookup<'a> {
    index: &'a Index,
    asker: &'a Arc<Container>,
    /// Those that the asker is on, in its order.
    networks: Vec<&'a Network>,
    now: Instant,
    dice: Dice,
}

/// A container behind a name, and where the asker meets it.
#[derive(Clone, Copy)]
struct Replica<'a> {
    container: &'a Container,
    endpoint: &'a Endpoint,
    network: &'a Network,
}

enum Found<'a> {
    /// No name of ours.
    Unknown,
    /// A name of ours, or one until just now, but nobody is there.
    Nobody,
    Replicas(Vec<Replica<'a>>, Need),
}

/// One thing that a name can mean.
struct Reading<'name, 'a> {
    name: &'name str,
    networks: Vec<&'a Network>,
    need: Need,
}

// === impl Lookup ===

impl<'a> Lookup<'a> {
    pub(super) fn new(index: &'a Index, asker: &'a Arc<Container>, now: Instant, seed: u64) -> Self {
        let networks = asker.endpoints.iter().filter_map(|endpoint| index.networks.get(&endpoint.network)).collect();
        Self { index, asker, networks, now, dice: Dice::new(seed) }
    }

    pub(super) fn answer(mut self, name: &str, wanted: RecordType) -> Answer {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(address) = question::reversed(&name) {
            return self.reverse(address, wanted);
        }
        if let Some((port, name)) = question::service(&name) {
            return match (self.find(name, RecordType::ANY), port) {
                (Found::Unknown, _) => self.forward(),
                // Ports have no names here: that name is none of those below a name of ours.
                (Found::Nobody, _) | (Found::Replicas(..), None) => Answer::Gone,
                (Found::Replicas(replicas, need), Some(port)) => self.services(&replicas, port, wanted, need),
            };
        }
        match self.find(&name, wanted) {
            Found::Unknown => self.forward(),
            Found::Nobody => Answer::Gone,
            Found::Replicas(replicas, need) => self.addresses(&replicas, wanted, need),
        }
    }

    fn forward(&self) -> Answer {
        Answer::Forward(self.asker.clone())
    }

    /// The first reading of a name that leads to somebody.
    fn find(&self, name: &str, wanted: RecordType) -> Found<'a> {
        // The asker chose this name itself: it hides what others have by it, also while nobody is there.
        if let Some(replicas) = self.linked(name, wanted) {
            return if replicas.is_empty() { Found::Nobody } else { Found::Replicas(replicas, Need::Any) };
        }
        let mut known = false;
        for Reading { name, networks, need } in self.readings(name) {
            if let Some(replicas) = self.replicas(name, &networks, need, wanted) {
                return Found::Replicas(replicas, need);
            }
            known |= networks.iter().any(|network| self.index.knows(&network.id, name, self.now));
        }
        if known { Found::Nobody } else { Found::Unknown }
    }

    /// `NAME`, `tasks.NAME`, `NAME.NETWORK` and `tasks.NAME.NETWORK`. Names may have dots in them, so one name can be
    /// several of these.
    fn readings<'name>(&self, name: &'name str) -> Vec<Reading<'name, 'a>> {
        let all = &self.networks;
        let mut readings = vec![Reading { name, networks: all.clone(), need: Need::Any }];
        let tasks = |name: &'name str, networks| {
            name.strip_prefix("tasks.").map(|name| Reading { name, networks, need: Need::All })
        };
        readings.extend(tasks(name, all.clone()));
        for network in all {
            let base = without_network(name, &network.name).or_else(|| without_network(name, &network.id.0));
            let Some(base) = base else { continue };
            readings.push(Reading { name: base, networks: vec![network], need: Need::Any });
            readings.extend(tasks(base, vec![network]));
        }
        readings
    }

    /// Who runs behind the asker's own alias, which may stand for several; nothing if it has no such alias.
    fn linked(&self, name: &str, wanted: RecordType) -> Option<Vec<Replica<'a>>> {
        let mut found = None;
        let mut seen = BTreeSet::new();
        for endpoint in &self.asker.endpoints {
            let Some(own) = self.index.networks.get(&endpoint.network) else { continue };
            for (target, _) in endpoint.links.iter().filter(|(_, alias)| alias.eq_ignore_ascii_case(name)) {
                let others = self.networks.iter().copied().filter(|network| network.id != own.id);
                let networks: Vec<_> = std::iter::once(own).chain(others).collect();
                let replicas = self.replicas(&target.to_ascii_lowercase(), &networks, Need::Any, wanted);
                let replicas = replicas.into_iter().flatten();
                found
                    .get_or_insert_with(Vec::new)
                    .extend(replicas.filter(|replica| seen.insert(&replica.container.id)));
            }
        }
        found
    }

    /// Who runs behind a name, on the first network where somebody has an address of the wanted family, or else on the
    /// first where anybody is: the replicas of two networks' services are never mixed.
    fn replicas(&self, name: &str, on: &[&'a Network], need: Need, wanted: RecordType) -> Option<Vec<Replica<'a>>> {
        let ranks = match need {
            Need::Any => [Rank::Name, Rank::Id, Rank::Alias],
            Need::All => [Rank::Alias, Rank::Name, Rank::Id],
        };
        for rank in ranks {
            let mut best = None;
            for network in on {
                let group = self.group(network, name, rank);
                if group.iter().any(|replica| replica.addresses(wanted).next().is_some()) {
                    return Some(group);
                }
                if !group.is_empty() {
                    best.get_or_insert(group);
                }
            }
            if best.is_some() {
                return best;
            }
        }
        None
    }

    /// Who runs behind a name on one network. This is where a service's virtual address will take the replicas' place,
    /// for [`Rank::Alias`] unless all are needed.
    fn group(&self, network: &'a Network, name: &str, rank: Rank) -> Vec<Replica<'a>> {
        let living = self.index.holders(&network.id, name, rank).filter(|container| container.up);
        living
            .flat_map(|container| {
                let here = container.endpoints.iter().filter(|endpoint| endpoint.network == network.id);
                here.map(|endpoint| Replica { container, endpoint, network })
            })
            .collect()
    }

    fn addresses(&mut self, replicas: &[Replica<'a>], wanted: RecordType, need: Need) -> Answer {
        let mut data: Vec<_> =
            replicas.iter().flat_map(|replica| replica.addresses(wanted)).map(Data::Address).collect();
        self.dice.shuffle(&mut data);
        data.truncate(REPLICAS_MOST);
        Answer::Data { data, need }
    }

    fn services(&mut self, replicas: &[Replica<'a>], port: u16, wanted: RecordType, need: Need) -> Answer {
        if !matches!(wanted, RecordType::SRV | RecordType::ANY) {
            return Answer::Data { data: Vec::new(), need };
        }
        let mut replicas = replicas.to_vec();
        self.dice.shuffle(&mut replicas);
        replicas.truncate(REPLICAS_MOST);
        let data = replicas.iter().map(|replica| Data::Service {
            port,
            target: full_name(replica.container, replica.network),
            addresses: replica.endpoint.addresses.clone(),
        });
        Answer::Data { data: data.collect(), need }
    }

    /// Who has the address, as far as the asker may know.
    fn reverse(&self, address: IpAddr, wanted: RecordType) -> Answer {
        let mut known = false;
        for network in &self.networks {
            for container in self.index.at(address) {
                let here =
                    |endpoint: &Endpoint| endpoint.network == network.id && endpoint.addresses.contains(&address);
                if !container.endpoints.iter().any(here) {
                    continue;
                }
                known = true;
                if container.up {
                    let name = Data::Name(full_name(container, network));
                    let data =
                        if matches!(wanted, RecordType::PTR | RecordType::ANY) { vec![name] } else { Vec::new() };
                    return Answer::Data { data, need: Need::All };
                }
            }
        }
        // A few hundred comparisons at most; and addresses of networks that the asker is not on are nobody's business,
        // neither the asker's nor that of a server outside.
        let mut ranges = self.index.networks.values().flat_map(|network| &network.ranges);
        if known || ranges.any(|range| range.contains(&address)) { Answer::Gone } else { self.forward() }
    }
}

// === impl Replica ===

impl<'a> Replica<'a> {
    fn addresses(self, wanted: RecordType) -> impl Iterator<Item = IpAddr> + 'a {
        self.endpoint.addresses.iter().map(IpAddr::to_canonical).filter(move |address| match wanted {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        })
    }
}

fn without_network<'name>(name: &'name str, network: &str) -> Option<&'name str> {
    let at = name.len().checked_sub(network.len()).filter(|at| name.is_char_boundary(*at))?;
    let (base, suffix) = name.split_at(at);
    base.strip_suffix('.').filter(|base| !base.is_empty() && suffix.eq_ignore_ascii_case(network))
}

/// `NAME.NETWORK`, with ids for what no DNS name can hold.
fn full_name(container: &Container, network: &Network) -> String {
    let fits = |name: &str| name.split('.').all(|label| (1..=LABEL_BYTES_MOST).contains(&label.len()));
    let host = if fits(&container.name) { &*container.name } else { short_id(&container.id) };
    let network = if fits(&network.name) { &*network.name } else { &*network.id.0 };
    let name = format!("{host}.{network}");
    if fits(&name) && name.len() <= NAME_BYTES_MOST { name } else { short_id(&container.id).to_owned() }
}

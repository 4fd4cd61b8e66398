use std::{fmt, ops};

use crate::ByteSize;

/// An amount of processor time: thousand-millionths of a core, as `NanoCpus` in Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cpus(u64);

impl Cpus {
    /// From thousand-millionths of a core.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From whole cores.
    pub const fn from_cores(cores: u32) -> Self {
        Self(cores as u64 * 1_000_000_000)
    }

    /// Thousand-millionths of a core.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// What is left after taking `other` away; nothing if that is more.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Cpus {
    /// Cores, without needless zeros: `2`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 {
            return write!(f, "{cores}");
        }
        write!(f, "{cores}.{}", format!("{rest:09}").trim_end_matches('0'))
    }
}

/// What a container reserves on its node, or what a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Processor time.
    pub cpus: Cpus,
    /// Memory.
    pub memory: ByteSize,
}

impl ops::AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        self.cpus = Cpus(self.cpus.0.saturating_add(other.cpus.0));
        self.memory = ByteSize(self.memory.0.saturating_add(other.memory.0));
    }
}

impl ops::SubAssign for Resources {
    fn sub_assign(&mut self, other: Self) {
        self.cpus = self.cpus.saturating_sub(other.cpus);
        self.memory = ByteSize(self.memory.0.saturating_sub(other.memory.0));
    }
}

#[cfg(test)]
mod tests {
    use super::Cpus;

    #[test]
    fn cpus_print_without_needless_zeros() {
        assert_eq!(Cpus::from_cores(2).to_string(), "2");
        assert_eq!(Cpus::from_nanos(1_250_000_000).to_string(), "1.25");
    }
}

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// How a network's IPv6 addresses follow from its IPv4 addresses: each is as far from the start of its range as the other is.
///
/// So one decision gives a container both, blocks of one range are blocks of the other, and nothing more is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing {
    range: Ipv4Net,
    range6: Ipv6Net,
}

impl Pairing {
    /// A pairing of two ranges; `None` if the second has fewer addresses than the first.
    pub fn new(range: Ipv4Net, range6: Ipv6Net) -> Option<Self> {
        (range6.prefix_len() <= Self::longest_prefix(range)).then_some(Self { range, range6 })
    }

    /// The longest prefix of an IPv6 range that has an address for each of an IPv4 range.
    pub fn longest_prefix(range: Ipv4Net) -> u8 {
        128 - (32 - range.prefix_len())
    }

    /// The IPv6 address that goes with an IPv4 address of the range.
    pub fn six(&self, address: Ipv4Addr) -> Ipv6Addr {
        let distance = u32::from(address).wrapping_sub(u32::from(self.range.network()));
        Ipv6Addr::from(u128::from(self.range6.network()) | u128::from(distance))
    }

    /// The IPv6 block that goes with a block of the IPv4 range.
    pub fn six_block(&self, block: Ipv4Net) -> Ipv6Net {
        Ipv6Net::new_assert(self.six(block.network()), Self::longest_prefix(block))
    }

    /// The IPv4 address that goes with an IPv6 address; `None` if none does.
    pub fn four(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let distance = u128::from(address).checked_sub(u128::from(self.range6.network()))?;
        let four = u32::from(self.range.network()).checked_add(u32::try_from(distance).ok()?)?;
        Some(Ipv4Addr::from(four)).filter(|four| self.range.contains(four))
    }

    /// The IPv6 addresses that containers may have.
    pub fn paired(&self) -> Ipv6Net {
        self.six_block(self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks_go_with_each_other() {
        let pairing = Pairing::new("10.193.0.0/16".parse().unwrap(), "fd12:3::/64".parse().unwrap()).unwrap();
        let six: Ipv6Addr = "fd12:3::285".parse().unwrap();
        assert_eq!(pairing.six(Ipv4Addr::new(10, 193, 2, 133)), six);
        assert_eq!(pairing.four(six), Some(Ipv4Addr::new(10, 193, 2, 133)));
        assert_eq!(pairing.six_block("10.193.2.128/25".parse().unwrap()), "fd12:3::280/121".parse().unwrap());
        assert_eq!(pairing.paired(), "fd12:3::/112".parse().unwrap());
        for none in ["fd12:3::1:0", "fd12:2:ffff:ffff::", "fd12:4::1", "::1"] {
            assert_eq!(pairing.four(none.parse().unwrap()), None, "{none}");
        }
    }

    #[test]
    fn a_range_that_is_too_small_is_none() {
        let range = "10.193.0.0/16".parse().unwrap();
        assert!(Pairing::new(range, "fd12::/112".parse().unwrap()).is_some());
        assert!(Pairing::new(range, "fd12::/113".parse().unwrap()).is_none());
    }
}

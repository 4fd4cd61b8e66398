//! Names that ask for more than an address: services (RFC 2782) and addresses turned round (RFC 1035 §3.5, RFC 3596 §2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `_PORT._PROTOCOL.NAME` in lower case: the port, if it is a number of a port, and the name.
pub(super) fn service(name: &str) -> Option<(Option<u16>, &str)> {
    let (port, rest) = name.strip_prefix('_')?.split_once('.')?;
    let name = rest.strip_prefix("_tcp.").or_else(|| rest.strip_prefix("_udp."))?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some((port.parse().ok().filter(|port| digits && *port != 0), name))
}

/// The address that a whole name below `in-addr.arpa` or `ip6.arpa`, in lower case, stands for.
pub(super) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let address: Ipv4Addr = octets.rsplit('.').collect::<Vec<_>>().join(".").parse().ok()?;
        return Some(address.into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let mut address = 0u128;
    let mut count = 0;
    for nibble in nibbles.rsplit('.') {
        let &[digit] = nibble.as_bytes() else { return None };
        address = address << 4 | u128::from(char::from(digit).to_digit(16)?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(address).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read() {
        for (name, expected) in [
            ("_80._tcp.web", Some((Some(80), "web"))),
            ("_53._udp.dns.blue", Some((Some(53), "dns.blue"))),
            ("_http._tcp.web", Some((None, "web"))),
            ("_0._tcp.web", Some((None, "web"))),
            ("_65536._tcp.web", Some((None, "web"))),
            ("_+80._tcp.web", Some((None, "web"))),
            ("_80._sctp.web", None),
            ("80._tcp.web", None),
            ("_80._tcp", None),
            ("web", None),
            ("_", None),
        ] {
            assert_eq!(service(name), expected, "{name}");
        }
    }

    #[test]
    fn reversed_addresses_are_read() {
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (name, expected) in [
            ("4.3.2.10.in-addr.arpa", Some("10.2.3.4")),
            (six, Some("2001:db8::1")),
            (&six[2..], None),
            ("3.2.10.in-addr.arpa", None),
            ("5.4.3.2.10.in-addr.arpa", None),
            ("256.3.2.10.in-addr.arpa", None),
            ("in-addr.arpa", None),
            ("x.ip6.arpa", None),
            ("web", None),
        ] {
            assert_eq!(reversed(name).map(|address| address.to_string()).as_deref(), expected, "{name}");
        }
    }
}

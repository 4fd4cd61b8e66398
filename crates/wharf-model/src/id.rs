use std::{fmt, str::FromStr};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id of 64 hexadecimal digits")]
pub struct ParseIdError(String);

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The first digits of an id, as a user types them: the range of the ids that begin so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    first: [u8; 32],
    last: [u8; 32],
}

impl IdPrefix {
    /// Reads 1 to 64 hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 64 {
            return None;
        }
        let (mut first, mut last) = ([0; 32], [0xff; 32]);
        for (index, byte) in text.bytes().enumerate() {
            let (digit, cell) = (digit(byte)?, index / 2);
            if index % 2 == 0 {
                first[cell] = digit << 4;
                last[cell] = digit << 4 | 0x0f;
            } else {
                first[cell] |= digit;
                last[cell] = first[cell];
            }
        }
        Some(Self { first, last })
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $scheme:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The first of all ids.
            pub const MIN: Self = Self([0; 32]);

            /// The last of all ids.
            pub const MAX: Self = Self([0xff; 32]);

            /// From its 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The first 12 digits, as Docker shows ids.
            pub fn short(&self) -> String {
                self.0[..6].iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// The ids that begin with `prefix`, as a range.
            pub fn range(prefix: IdPrefix) -> std::ops::RangeInclusive<Self> {
                Self(prefix.first)..=Self(prefix.last)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($scheme)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text.strip_prefix($scheme).unwrap_or(text))
                    .map(Self)
                    .ok_or_else(|| ParseIdError(text.to_owned()))
            }
        }
    };
}

hex_id!(
    /// A container's id: 64 hexadecimal digits.
    ContainerId,
    ""
);
hex_id!(
    /// An image's id as an engine gives it: `sha256:` and 64 hexadecimal digits.
    ImageId,
    "sha256:"
);
hex_id!(
    /// An engine network's id: 64 hexadecimal digits.
    NetworkId,
    ""
);

/// A node: a small number from 1 on, which stays its own. Addresses of tunnels are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A promise of a name and a place on a node to a container that is being created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ContainerId, IdPrefix, ImageId};

    proptest! {
        #[test]
        fn an_id_prints_as_it_was_read_and_is_in_the_range_of_its_every_prefix(text in "[0-9a-f]{64}", cut in 1..=64usize) {
            let id: ContainerId = text.parse().unwrap();
            prop_assert_eq!(id.to_string(), text.as_str());
            prop_assert!(ContainerId::range(IdPrefix::parse(&text[..cut]).unwrap()).contains(&id));
        }

        #[test]
        fn an_id_is_in_no_range_of_another_prefix(text in "[0-9a-f]{64}", prefix in "[0-9a-f]{1,64}") {
            let id: ContainerId = text.parse().unwrap();
            let inside = ContainerId::range(IdPrefix::parse(&prefix).unwrap()).contains(&id);
            prop_assert_eq!(inside, text.starts_with(&prefix));
        }
    }

    #[test]
    fn image_ids_carry_their_scheme() {
        let text = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(text.parse::<ImageId>().unwrap().to_string(), text);
        assert!("sha256:ab".parse::<ImageId>().is_err());
        assert!("é".repeat(32).parse::<ContainerId>().is_err());
        assert!(IdPrefix::parse("").is_none() && IdPrefix::parse("xyz").is_none());
    }
}

//! The Internet checksum (RFC 1071), over 16-bit words in the machine's own byte order: the one's complement sum does not
//! mind which, as long as it is stored in the same.

/// A sum that is not folded to 16 bits yet. It cannot overflow: a packet has less than 2^16 words of 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum(u128);

impl Sum {
    /// The sum with `bytes` added; what was added before must have been of even length.
    pub(crate) fn add(self, bytes: &[u8]) -> Sum {
        // Several sums at once, so that the next addition need not wait for the last.
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [0u128; 4];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u128::from(u64::from_ne_bytes(*word));
            }
        }
        let (words, rest) = rest.as_chunks::<8>();
        let mut sum = self.0 + lanes.iter().sum::<u128>();
        sum += words.iter().map(|word| u128::from(u64::from_ne_bytes(*word))).sum::<u128>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        Sum(sum + u128::from(u64::from_ne_bytes(last)))
    }

    /// The sum with one number of the wire (big-endian) added.
    pub(crate) fn add_number(self, number: u16) -> Sum {
        Sum(self.0 + u128::from(u16::from_ne_bytes(number.to_be_bytes())))
    }

    /// The sum in 16 bits, as it is stored.
    pub(crate) fn fold(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).expect("the loop above ends with 16 bits").to_ne_bytes()
    }

    /// The checksum: the complement of the sum, as it is stored.
    pub(crate) fn checksum(self) -> [u8; 2] {
        self.fold().map(|byte| !byte)
    }

    /// Whether a sum over data with its checksum says that the data is whole.
    pub(crate) fn is_whole(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 to the letter.
    fn plain(bytes: &[u8]) -> [u8; 2] {
        let mut sum: u64 = 0;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    proptest! {
        #[test]
        fn it_is_what_the_plain_sum_gives(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().add(&bytes).checksum(), plain(&bytes));
        }

        #[test]
        fn the_largest_sums_fold(length in 0usize..65536) {
            let bytes = vec![0xff; length];
            prop_assert_eq!(Sum::default().add(&bytes).checksum(), plain(&bytes));
        }
    }
}

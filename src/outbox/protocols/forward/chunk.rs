//! The ids of chunks: the Base64 of 128 bits, as the specification wants them.
//!
//! The first half is random, and one for each outbox; the second is the number of the message. So an id is the same
//! whenever a message goes again, and no two messages have the same, not even of two programs.
//!
//! Next: [`Forward`](super::Forward), which uses them.

use rand::RngExt;

use crate::backoff::seeded_by_system;

/// The digits of Base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How many digits 128 bits have, before the padding.
const LEN: u32 = 22;

/// The ids of one outbox.
#[derive(Debug)]
pub(super) struct Chunks {
    /// The first half.
    prefix: u64,
}

impl Chunks {
    /// With a random prefix.
    pub(super) fn new() -> Self {
        Self { prefix: seeded_by_system().random() }
    }

    /// The id of a message.
    pub(super) fn id(&self, number: u64) -> String {
        let bits = u128::from(self.prefix) << 64 | u128::from(number);
        let mut id = String::with_capacity(24);
        for index in 0..LEN {
            // The last digit has two bits of it, and four zeros.
            let digit = if index + 1 < LEN { bits >> (122 - 6 * index) } else { bits << 4 };
            id.push(char::from(DIGITS[(digit & 63) as usize]));
        }
        id.push_str("==");
        id
    }

    /// The message that has this id. `None`: no message of this outbox.
    pub(super) fn number(&self, id: &[u8]) -> Option<u64> {
        let bits = id.get(..LEN as usize - 1)?.iter().try_fold(0_u128, |bits, byte| {
            let digit = DIGITS.iter().position(|digit| digit == byte)?;
            Some(bits << 6 | digit as u128)
        })?;
        // The last two bits stand in the last digit: there are four ids that begin like this.
        let numbers = (0..4).map(|last| (bits << 2 | last) as u64);
        numbers.into_iter().find(|number| self.id(*number).as_bytes() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_base64_of_128_bits() {
        // As `base64` prints them.
        let bits = |prefix, number| Chunks { prefix }.id(number);
        assert_eq!(bits(0, 0), "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(bits(u64::MAX, u64::MAX), "/////////////////////w==");
        assert_eq!(bits(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f), "AAECAwQFBgcICQoLDA0ODw==");
    }

    #[test]
    fn a_number_comes_back_from_its_id() {
        let chunks = Chunks { prefix: 0xfedc_ba98_7654_3210 };
        for number in [0, 1, 2, 3, 4, 17, 1 << 32, u64::MAX] {
            assert_eq!(chunks.number(chunks.id(number).as_bytes()), Some(number));
        }
    }

    #[test]
    fn other_ids_have_no_number() {
        let chunks = Chunks::new();
        let id = chunks.id(17);
        for other in ["", "17", &id[..22], &id[1..], &format!("{id}="), &id.replace("==", "=A"), &Chunks::new().id(17)]
        {
            assert_eq!(chunks.number(other.as_bytes()), None, "{other}");
        }
    }
}

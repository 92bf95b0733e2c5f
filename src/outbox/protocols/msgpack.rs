//! What the forward protocol needs of MessagePack: a handful of kinds out, and the length of any value.
//!
//! By hand, as a dependency would be larger than this file. Lengths beyond 32 bits have no encoding; a message of that
//! size is too long for an outbox.
//!
//! Next: `forward.rs`, which uses it.

use tokio_util::bytes::{BufMut, BytesMut};

/// The byte that no value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoValue;

/// Appends the beginning of an array of up to 15 values.
pub(super) fn put_array(values: u8, wire: &mut BytesMut) {
    wire.put_u8(0x90 | values);
}

/// Appends the beginning of a map. Its keys and values follow, in turns.
pub(super) fn put_map(pairs: usize, wire: &mut BytesMut) {
    match pairs {
        0..=15 => wire.put_u8(0x80 | pairs as u8),
        16..=0xffff => put_head(0xde, &(pairs as u16).to_be_bytes(), wire),
        _ => put_head(0xdf, &(pairs as u32).to_be_bytes(), wire),
    }
}

/// Appends a string.
pub(super) fn put_str(text: &str, wire: &mut BytesMut) {
    match text.len() {
        len @ 0..=31 => wire.put_u8(0xa0 | len as u8),
        len @ 32..=0xff => put_head(0xd9, &[len as u8], wire),
        len @ 0x100..=0xffff => put_head(0xda, &(len as u16).to_be_bytes(), wire),
        len => put_head(0xdb, &(len as u32).to_be_bytes(), wire),
    }
    wire.put_slice(text.as_bytes());
}

/// Appends a kind and its number.
fn put_head(kind: u8, number: &[u8], wire: &mut BytesMut) {
    wire.put_u8(kind);
    wire.put_slice(number);
}

/// How many bytes the first value has, with all that is in it. `None`: they are not all there.
///
/// # Errors
///
/// It is no value.
pub(super) fn value_len(bytes: &[u8]) -> Result<Option<usize>, NoValue> {
    let (mut at, mut values) = (0_usize, 1_u64);
    while values > 0 {
        let Some(head) = bytes.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
        let Some(shape) = shape(head)? else { return Ok(None) };
        at = at.saturating_add(shape.bytes);
        values = values - 1 + shape.values;
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// Takes a value off the front.
pub(super) fn take_value<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at(value_len(bytes).ok()??);
    *bytes = rest;
    Some(value)
}

/// The bytes of a string.
pub(super) fn as_str(value: &[u8]) -> Option<&[u8]> {
    let head = match value.first()? {
        0xa0..=0xbf => 1,
        0xc4 | 0xd9 => 2,
        0xc5 | 0xda => 3,
        0xc6 | 0xdb => 5,
        _ => return None,
    };
    value.get(head..)
}

/// Whether it is a map; and what is in it.
pub(super) fn as_map(value: &[u8]) -> Option<&[u8]> {
    let head = match value.first()? {
        0x80..=0x8f => 1,
        0xde => 3,
        0xdf => 5,
        _ => return None,
    };
    value.get(head..)
}

/// What follows the first byte of a value.
struct Shape {
    /// How many bytes it has, without the values in it.
    bytes: usize,
    /// How many values are in it.
    values: u64,
}

/// The shape of the value that begins with this. `None`: its length is not there yet.
fn shape((first, rest): (&u8, &[u8])) -> Result<Option<Shape>, NoValue> {
    let number = |len: usize| {
        rest.get(..len).map(|bytes| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let plain = |bytes: usize| Some(Shape { bytes: 1 + bytes, values: 0 });
    // A length of `len` bytes, and that many bytes and `more`.
    let sized =
        |len: usize, more: usize| plain(len.saturating_add(more).saturating_add(usize::try_from(number(len)?).ok()?));
    let nested = |len: usize, each: u64| Some(Shape { bytes: 1 + len, values: each * number(len)? });
    Ok(match *first {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => plain(0),
        0x80..=0x8f => Some(Shape { bytes: 1, values: 2 * u64::from(first & 0x0f) }),
        0x90..=0x9f => Some(Shape { bytes: 1, values: u64::from(first & 0x0f) }),
        0xa0..=0xbf => plain(usize::from(first & 0x1f)),
        0xc1 => return Err(NoValue),
        0xc4 | 0xd9 => sized(1, 0),
        0xc5 | 0xda => sized(2, 0),
        0xc6 | 0xdb => sized(4, 0),
        0xc7 => sized(1, 1),
        0xc8 => sized(2, 1),
        0xc9 => sized(4, 1),
        0xcc | 0xd0 => plain(1),
        0xcd | 0xd1 | 0xd4 => plain(2),
        0xca | 0xce | 0xd2 => plain(4),
        0xcb | 0xcf | 0xd3 => plain(8),
        0xd5 => plain(3),
        0xd6 => plain(5),
        0xd7 => plain(9),
        0xd8 => plain(17),
        0xdc => nested(2, 1),
        0xdd => nested(4, 1),
        0xde => nested(2, 2),
        0xdf => nested(4, 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_lengths_of_the_specification() {
        let long = [&[0xda, 1, 0][..], &[b'x'; 256]].concat();
        let values: &[&[u8]] = &[
            &[0x00],
            &[0x7f],
            &[0xc0],
            &[0xc2],
            &[0xc3],
            &[0xe0],
            &[0xff],
            &[0xcc, 1],
            &[0xd0, 1],
            &[0xcd, 1, 2],
            &[0xd1, 1, 2],
            &[0xce, 1, 2, 3, 4],
            &[0xd2, 1, 2, 3, 4],
            &[0xcf, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xd3, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xca, 1, 2, 3, 4],
            &[0xcb, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xa0],
            &[0xa2, b'a', b'b'],
            &[0xd9, 1, b'a'],
            &[0xdb, 0, 0, 0, 1, b'a'],
            &long,
            &[0xc4, 1, 9],
            &[0xc5, 0, 1, 9],
            &[0xc6, 0, 0, 0, 1, 9],
            &[0xd4, 0, 1],
            &[0xd5, 0, 1, 2],
            &[0xd6, 0, 1, 2, 3, 4],
            &[0xd7, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xd8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            &[0xc7, 1, 0, 9],
            &[0xc8, 0, 1, 0, 9],
            &[0xc9, 0, 0, 0, 1, 0, 9],
            &[0x90],
            &[0x92, 1, 2],
            &[0xdc, 0, 1, 7],
            &[0xdd, 0, 0, 0, 1, 7],
            &[0x80],
            &[0x81, 1, 2],
            &[0xde, 0, 1, 7, 8],
            &[0xdf, 0, 0, 0, 1, 7, 8],
            &[0x92, 0x81, 0xa1, b'a', 0x91, 0xc0, 0x90],
        ];
        for value in values {
            let followed = [*value, &[0xc1]].concat();
            assert_eq!(value_len(&followed), Ok(Some(value.len())), "{value:x?}");
            for cut in 0..value.len() {
                assert_eq!(value_len(&value[..cut]), Ok(None), "{value:x?} cut to {cut}");
            }
        }
        assert_eq!(value_len(&[0xc1]), Err(NoValue));
        assert_eq!(value_len(&[0x91, 0xc1]), Err(NoValue));
    }

    #[test]
    fn lengths_that_no_memory_has_are_just_not_there() {
        assert_eq!(value_len(&[0xdb, 0xff, 0xff, 0xff, 0xff]), Ok(None));
        assert_eq!(value_len(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0xdf, 0xff, 0xff, 0xff, 0xff]), Ok(None));
    }

    #[test]
    fn what_is_put_has_the_shortest_form() {
        let put = |put: &dyn Fn(&mut BytesMut)| {
            let mut wire = BytesMut::new();
            put(&mut wire);
            wire.to_vec()
        };
        for (len, head) in [
            (0, vec![0xa0]),
            (31, vec![0xbf]),
            (32, vec![0xd9, 32]),
            (256, vec![0xda, 1, 0]),
            (65_536, vec![0xdb, 0, 1, 0, 0]),
        ] {
            let text = "x".repeat(len);
            let value = put(&|wire| put_str(&text, wire));
            assert_eq!(value, [&head[..], text.as_bytes()].concat());
            assert_eq!(as_str(&value), Some(text.as_bytes()));
        }
        for (pairs, head) in
            [(0, vec![0x80]), (15, vec![0x8f]), (16, vec![0xde, 0, 16]), (65_536, vec![0xdf, 0, 1, 0, 0])]
        {
            assert_eq!(put(&|wire| put_map(pairs, wire)), head);
        }
    }
}

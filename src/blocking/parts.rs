//! A vectored write that goes on.

use std::io::IoSlice;

/// What comes next of `parts` when `done` bytes are written.
pub(super) fn rest_of<'a>(parts: &'a [IoSlice<'_>], mut done: usize) -> &'a [u8] {
    for part in parts {
        if done < part.len() {
            return &part[done..];
        }
        done -= part.len();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_of_several_parts_begins_where_the_write_stopped() {
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(rest_of(&parts, 0), b"ab");
        assert_eq!(rest_of(&parts, 1), b"b");
        assert_eq!(rest_of(&parts, 2), b"cde");
        assert_eq!(rest_of(&parts, 4), b"e");
        assert_eq!(rest_of(&parts, 5), b"");
    }
}

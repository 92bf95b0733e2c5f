//! Where a link is cut: after a number of bytes, or at a pattern. Pure.
//!
//! Next: [`pump`](super::pump), which asks for each piece of the stream how much of it may pass.

use super::plan::Cut;

/// A place in one direction of a link, and what happens there.
#[derive(Clone, Debug)]
pub(super) struct Trigger {
    /// Where.
    pub(super) place: Place,
    /// What happens.
    pub(super) cut: Cut,
}

/// A place in a stream of bytes.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// After this many bytes.
    After(u64),
    /// Behind this pattern, which is not empty.
    At(Vec<u8>),
}

impl Place {
    /// Behind a pattern. An empty one is found at the beginning.
    pub(super) fn at(pattern: &[u8]) -> Self {
        if pattern.is_empty() { Self::After(0) } else { Self::At(pattern.to_vec()) }
    }
}

/// Looks for triggers in a stream that comes in pieces.
#[derive(Debug)]
pub(super) struct Scanner {
    /// What to look for.
    triggers: Vec<Trigger>,
    /// How many bytes have passed.
    passed: u64,
    /// The last bytes that have passed, in which a pattern may begin.
    tail: Vec<u8>,
    /// The length of the longest pattern.
    longest: usize,
}

impl Scanner {
    /// At the beginning of a stream.
    pub(super) fn new(triggers: Vec<Trigger>) -> Self {
        let pattern = |trigger: &Trigger| match &trigger.place {
            Place::At(pattern) => pattern.len(),
            Place::After(_) => 0,
        };
        let longest = triggers.iter().map(pattern).max().unwrap_or_default();
        Self { triggers, passed: 0, tail: Vec::new(), longest }
    }

    /// How many of these bytes, which come next, may pass, and the cut behind the last of them. The bytes after it come
    /// next, if the stream goes on.
    pub(super) fn scan(&mut self, piece: &[u8]) -> (usize, Option<Cut>) {
        let seen = self.tail.len();
        self.tail.extend_from_slice(piece);
        let ends =
            self.triggers.iter().enumerate().filter_map(|(index, trigger)| Some((self.end(trigger, seen)?, index)));
        let first = ends.min();
        let length = first.map_or(piece.len(), |(end, _)| end);
        let cut = first.map(|(_, index)| self.triggers.remove(index).cut);
        self.tail.truncate(seen + length);
        self.passed += length as u64;
        let kept = self.tail.len().min(self.longest.saturating_sub(1));
        self.tail.drain(..self.tail.len() - kept);
        (length, cut)
    }

    /// How many bytes of the newest piece pass until this trigger; `seen` bytes were there before it.
    fn end(&self, trigger: &Trigger, seen: usize) -> Option<usize> {
        let new = self.tail.len() - seen;
        match &trigger.place {
            Place::After(bytes) => {
                let left = bytes.saturating_sub(self.passed);
                usize::try_from(left).ok().filter(|left| *left <= new)
            }
            Place::At(pattern) => {
                // One that ends in the old bytes was found before.
                let start = (seen + 1).saturating_sub(pattern.len());
                let found = self.tail[start..].windows(pattern.len()).position(|window| window == pattern)?;
                Some(start + found + pattern.len() - seen)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner(triggers: &[(Place, Cut)]) -> Scanner {
        Scanner::new(triggers.iter().map(|(place, cut)| Trigger { place: place.clone(), cut: *cut }).collect())
    }

    /// Scans pieces until the first cut. Returns how many bytes pass, and the cut.
    fn pass(triggers: &[(Place, Cut)], pieces: &[&[u8]]) -> (usize, Option<Cut>) {
        let mut scanner = scanner(triggers);
        let mut passed = 0;
        for piece in pieces {
            let (length, cut) = scanner.scan(piece);
            assert!(length <= piece.len(), "{length} bytes of {} pass", piece.len());
            passed += length;
            if cut.is_some() {
                return (passed, cut);
            }
            assert_eq!(length, piece.len());
        }
        (passed, None)
    }

    #[test]
    fn stream_without_triggers_passes() {
        assert_eq!(pass(&[], &[b"abc", b"", b"de"]), (5, None));
    }

    #[test]
    fn number_of_bytes_is_exact_wherever_the_pieces_end() {
        let after = [(Place::After(4), Cut::Reset)];
        for pieces in [&[&b"abcdef"[..]][..], &[b"abc", b"def"], &[b"abcd"], &[b"a", b"b", b"c", b"d", b"e"]] {
            assert_eq!(pass(&after, pieces), (4, Some(Cut::Reset)), "{pieces:?}");
        }
        assert_eq!(pass(&after, &[b"abc"]), (3, None));
        assert_eq!(pass(&[(Place::After(0), Cut::Close)], &[b""]), (0, Some(Cut::Close)));
    }

    #[test]
    fn pattern_is_found_across_pieces() {
        let at = [(Place::at(b"END"), Cut::Close)];
        for pieces in [&[&b"..END.."[..]][..], &[b"..E", b"ND.."], &[b"..", b"E", b"N", b"D"], &[b"..END"]] {
            assert_eq!(pass(&at, pieces), (5, Some(Cut::Close)), "{pieces:?}");
        }
        assert_eq!(pass(&at, &[b"..EN", b"END"]), (7, Some(Cut::Close)));
        assert_eq!(pass(&[(Place::at(b"aab"), Cut::Close)], &[b"aa", b"aab"]), (5, Some(Cut::Close)));
        assert_eq!(pass(&at, &[b"E.N", b"D"]), (4, None));
        assert_eq!(pass(&[(Place::at(b""), Cut::Stall)], &[b""]), (0, Some(Cut::Stall)));
    }

    #[test]
    fn stream_that_goes_on_behind_a_cut_comes_to_the_next() {
        let mut scanner = scanner(&[
            (Place::After(3), Cut::HalfClose),
            (Place::After(3), Cut::Stall),
            (Place::at(b"cde"), Cut::Close),
            (Place::at(b"ef"), Cut::Reset),
        ]);
        assert_eq!(scanner.scan(b"abcdefg"), (3, Some(Cut::HalfClose)));
        assert_eq!(scanner.scan(b"defg"), (0, Some(Cut::Stall)));
        assert_eq!(scanner.scan(b"defg"), (2, Some(Cut::Close)));
        assert_eq!(scanner.scan(b"fg"), (1, Some(Cut::Reset)));
        assert_eq!(scanner.scan(b"g"), (1, None));
    }

    #[test]
    fn first_of_several_counts() {
        let both = [(Place::After(6), Cut::Reset), (Place::at(b"x"), Cut::Close)];
        assert_eq!(pass(&both, &[b"ab", b"x.."]), (3, Some(Cut::Close)));
        assert_eq!(pass(&both, &[b"abcdefgx"]), (6, Some(Cut::Reset)));
        let with_longer = [(Place::After(6), Cut::Reset), (Place::at(b"END"), Cut::Close)];
        assert_eq!(pass(&with_longer, &[b"abcd", b"e", b"fgh"]), (6, Some(Cut::Reset)));
        let patterns = [(Place::at(b"longer"), Cut::Reset), (Place::at(b"ng"), Cut::Close)];
        assert_eq!(pass(&patterns, &[b"..lo", b"nger"]), (6, Some(Cut::Close)));
    }
}

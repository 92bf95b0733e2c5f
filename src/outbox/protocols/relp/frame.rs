//! The frames of RELP, in both directions.
//!
//! ```text
//! frame = TXNR SP COMMAND SP DATALEN [SP DATA] LF
//! ```
//!
//! Next: [`Relp`](super::Relp), which uses them.

use std::io;

use bytes::Bytes;
use tokio_util::bytes::{BufMut, BytesMut};

use crate::outbox::protocols::set_up::{invalid, start_of};

/// How long the data of a frame may be: "in relp version 1, it is always 128K".
pub(super) const MAX_DATA: usize = 128 * 1024;

/// A number of nine digits, a command of 32 letters, a length of nine digits, and what separates them.
const MAX_HEADER: usize = 9 + 1 + 32 + 1 + 9 + 1;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The number of the transaction; 0 for a hint.
    pub(super) txnr: u32,
    /// What it is.
    pub(super) command: String,
    /// What belongs to it.
    pub(super) data: Bytes,
}

impl Frame {
    /// The code and text of a response, and the lines after it.
    ///
    /// # Errors
    ///
    /// It is none.
    pub(super) fn response(&self) -> io::Result<(String, &[u8])> {
        let (status, rest) = match self.data.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&self.data[..end], &self.data[end + 1..]),
            None => (&self.data[..], &[][..]),
        };
        let has_code = status.len() >= 3 && status[..3].iter().all(u8::is_ascii_digit);
        let status = String::from_utf8_lossy(status).into_owned();
        if self.command != "rsp" || !has_code {
            return Err(invalid(format!("the server sent `{} {status}` of RELP, expected a response", self.command)));
        }
        Ok((status, rest))
    }
}

/// Appends a frame. The data has at most nine digits of bytes.
pub(super) fn put_frame(txnr: u32, command: &str, data: &[u8], wire: &mut BytesMut) {
    wire.put_slice(format!("{txnr} {command} {}", data.len()).as_bytes());
    if !data.is_empty() {
        wire.put_u8(b' ');
        wire.put_slice(data);
    }
    wire.put_u8(b'\n');
}

/// Takes the first frame out of what has arrived. `None`: more has to arrive.
///
/// # Errors
///
/// It is no frame, or a longer one than the protocol has.
pub(super) fn take_frame(inbound: &mut BytesMut) -> io::Result<Option<Frame>> {
    let start = &inbound[..inbound.len().min(MAX_HEADER)];
    let malformed = || Err(invalid(format!("not a RELP frame: {}", start_of(inbound))));
    let mut ends = (0..start.len()).filter(|index| matches!(start[*index], b' ' | b'\n'));
    let (Some(first), Some(second), Some(third)) = (ends.next(), ends.next(), ends.next()) else {
        return if start.len() == MAX_HEADER { malformed() } else { Ok(None) };
    };
    let command = &start[first + 1..second];
    let is_command = (1..=32).contains(&command.len()) && command.iter().all(u8::is_ascii_alphabetic);
    let (Some(txnr), true, Some(len)) = (number(&start[..first]), is_command, number(&start[second + 1..third])) else {
        return malformed();
    };
    let len = len as usize;
    // Without data, the line feed follows at once; some servers send a space before it all the same.
    let data = if start[third] == b' ' { third + 1 } else { third };
    if start[first] != b' ' || start[second] != b' ' || (data == third && len > 0) {
        return malformed();
    }
    if len > MAX_DATA {
        return Err(invalid(format!("a RELP frame of {len} bytes: expected at most {MAX_DATA}")));
    }
    match inbound.get(data + len) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return malformed(),
    }
    let command = String::from_utf8_lossy(command).into_owned();
    let frame = inbound.split_to(data + len + 1).freeze();
    Ok(Some(Frame { txnr, command, data: frame.slice(data..data + len) }))
}

/// A number of one to nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    let is_number = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(txnr: u32, command: &str, data: &'static str) -> Frame {
        Frame { txnr, command: command.into(), data: Bytes::from_static(data.as_bytes()) }
    }

    #[test]
    fn frames_come_back_as_they_were_sent_however_they_arrive() {
        let frames = [frame(1, "open", "a=1\nb=2"), frame(0, "serverclose", ""), frame(999_999_999, "rsp", "200 OK\n")];
        let mut wire = BytesMut::new();
        for Frame { txnr, command, data } in &frames {
            put_frame(*txnr, command, data, &mut wire);
        }
        assert!(wire.starts_with(b"1 open 7 a=1\nb=2\n0 serverclose 0\n"));
        let mut inbound = BytesMut::new();
        let mut seen = Vec::new();
        for byte in wire {
            inbound.put_u8(byte);
            seen.extend(take_frame(&mut inbound).unwrap());
        }
        assert_eq!(seen, frames);
        assert!(inbound.is_empty());
    }

    #[test]
    fn a_space_before_the_end_of_an_empty_frame_is_allowed() {
        assert_eq!(take_frame(&mut BytesMut::from("3 rsp 0 \n")).unwrap(), Some(frame(3, "rsp", "")));
    }

    #[test]
    fn what_is_no_frame_is_an_error_as_soon_as_that_is_certain() {
        let long = format!("1 {} 0\n", "x".repeat(33));
        for text in [
            "HTTP/1.1 400 Bad Request",
            "x rsp 0\n",
            " rsp 0\n",
            "-1 rsp 0\n",
            "1234567890 rsp 0\n",
            "1  0\n",
            "1 r5p 0\n",
            "1\nrsp 0\n",
            "1 rsp\n0\n",
            "1 rsp 3\n",
            "1 rsp 3 abcd\n",
            "1 rsp 0 x\n",
            &long,
            &"9".repeat(MAX_HEADER),
        ] {
            let error = take_frame(&mut BytesMut::from(text)).unwrap_err();
            assert!(error.to_string().contains("not a RELP frame"), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_length_of_a_frame_is_limited() {
        let error = take_frame(&mut BytesMut::from("1 rsp 131073 ")).unwrap_err();
        assert!(error.to_string().contains("131073"), "{error}");
        assert_eq!(take_frame(&mut BytesMut::from("1 rsp 131072 x")).unwrap(), None);
    }
}

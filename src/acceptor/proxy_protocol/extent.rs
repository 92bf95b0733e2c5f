//! How long a PROXY header is, as far as its beginning says. No I/O.
//!
//! Next: [`super::ProxyHeader`], which reads that much.

/// The first bytes of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2. Its last two bytes are the length of the rest.
const FIXED: usize = 16;

/// The longest header of version 2 that is read. The longest addresses take 216 bytes, and nginx takes 4096 in all.
const MAX_BINARY: usize = 4096;

/// The first bytes of version 1.
const PREFIX: &[u8] = b"PROXY ";

/// The longest header of version 1, by the specification.
const MAX_TEXT: usize = 107;

/// How many bytes are missing for sure when these have arrived. 0: the header is whole.
///
/// Fails if this is not the beginning of a header.
pub(super) fn missing(bytes: &[u8]) -> Result<usize, String> {
    // Every header has more: the shortest is "PROXY UNKNOWN\r\n".
    if bytes.len() < SIGNATURE.len() {
        return Ok(SIGNATURE.len() - bytes.len());
    }
    if bytes.starts_with(SIGNATURE) {
        let Some([high, low]) = bytes.get(FIXED - 2..FIXED) else { return Ok(FIXED - bytes.len()) };
        let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
        if length > MAX_BINARY {
            return Err(format!("PROXY header of {length} bytes: expected at most {MAX_BINARY}"));
        }
        return Ok(length.saturating_sub(bytes.len()));
    }
    if !bytes.starts_with(PREFIX) {
        return Err(format!("received {}: expected a PROXY header, as from a trusted proxy", shown(bytes)));
    }
    if bytes.ends_with(b"\r\n") {
        return Ok(0);
    }
    if bytes.contains(&b'\n') {
        return Err(format!(
            "PROXY header {}: expected it to end with a carriage return and a line feed",
            shown(bytes)
        ));
    }
    if bytes.len() >= MAX_TEXT {
        return Err(format!("PROXY header {}: expected its end within {MAX_TEXT} bytes", shown(bytes)));
    }
    Ok(if bytes.ends_with(b"\r") { 1 } else { 2.min(MAX_TEXT - bytes.len()) })
}

/// The beginning of what has arrived, for an error.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(MAX_TEXT)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as much as is missing, again and again. Returns how much was taken.
    fn taken(stream: &[u8]) -> Result<usize, String> {
        let mut length = 0;
        loop {
            match missing(&stream[..length])? {
                0 => return Ok(length),
                more => length += more,
            }
            if length > stream.len() {
                return Err("waits for more".into());
            }
        }
    }

    /// A header of version 2 with this length in it.
    fn binary(length: u16) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x21, 0x11]);
        header.extend(length.to_be_bytes());
        header.resize(FIXED + usize::from(length), 7);
        header
    }

    #[test]
    fn header_is_taken_up_to_its_last_byte() {
        let texts = [
            "PROXY UNKNOWN\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.10 192.0.2.11 65535 443\r\n",
            "PROXY TCP6 2001:db8::1 2001:db8::2 65535 443\r\n",
        ];
        let headers = texts.map(|text| text.as_bytes().to_vec()).into_iter().chain([0, 1, 12, 36, 4080].map(binary));
        for header in headers {
            for rest in [&b""[..], b"\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
                assert_eq!(taken(&[&header[..], rest].concat()), Ok(header.len()), "{}", header.escape_ascii());
            }
            let cut = &header[..header.len() - 1];
            assert_eq!(taken(cut), Err("waits for more".into()), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_an_error_at_once() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "7".repeat(MAX_TEXT - 16));
        assert_eq!(taken(longest.as_bytes()), Ok(MAX_TEXT));
        let cases = [
            (b"GET / HTTP/1.1".to_vec(), "received \"GET / HTTP/1\": expected a PROXY header, as from a trusted proxy"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(), "received \"\\x16\\x03\\x01"),
            (
                b"PROXY TCP4 1.1.1.1 2.2.2.2 1 22\n".to_vec(),
                "expected it to end with a carriage return and a line feed",
            ),
            (binary(4081), "PROXY header of 4097 bytes: expected at most 4096"),
            (longest.replace("\r\n", "77").into_bytes(), "expected its end within 107 bytes"),
        ];
        for (bytes, expected) in cases {
            let error = taken(&bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

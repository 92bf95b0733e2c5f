//! The forward protocol of Fluentd and Fluent Bit, with an acknowledgement of each event.
//!
//! The specification is the Fluentd Forward Protocol Specification v1, to which v1.5 adds nothing that matters here.
//! Each message is one event in the message mode, `[tag, time, record, {"chunk": id}]`, and the answer to it is
//! `{"ack": id}`.
//!
//! Next: `msgpack.rs`, the encoding.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio_util::bytes::{BufMut, BytesMut};

use self::chunk::Chunks;
use super::msgpack::{as_map, as_str, put_array, put_map, put_str, take_value, value_len};
use super::set_up::{invalid, start_of};
use crate::Builder;
use crate::outbox::{Answer, Outbox, OutboxBuilder, Protocol};

mod chunk;

/// How long an acknowledgement may be; it is a map with a string of 24 bytes.
const MAX_ACK: usize = 64 * 1024;

/// The forward protocol, to the input `forward` of Fluentd or Fluent Bit: at least once.
///
/// ```no_run
/// use std::time::{Duration, SystemTime};
/// use perconn::Conn;
/// use perconn::outbox::protocols::Forward;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Forward::new("app.access").outbox(Conn::builder("fluentd.example:24224")).start()?;
/// outbox.send(Forward::event(SystemTime::now(), [("level", "info"), ("message", "a line")])).await?;
/// outbox.flush().await; // until Fluentd has answered
/// let tally = outbox.close(Duration::from_secs(5)).await;
/// println!("{tally}"); // 1 accepted: 1 answered
/// # Ok(())
/// # }
/// ```
///
/// A message is an event: its time and its record, which [`event`](Self::event) and [`event_of`](Self::event_of)
/// encode. Anything else is [rejected](crate::outbox::Fate::Rejected), before it can confuse the server. All events of
/// an outbox have the same tag.
///
/// Each event asks for an acknowledgement of its own (`require_ack_response` of Fluentd's own client). Its chunk id is
/// the same whenever it goes again, and no other event has it: a receiver can tell by it what it has seen. Fluentd
/// itself does not.
///
/// # What the server has to do
///
/// Fluentd answers an event when it is in the buffer of the output that takes it. Give that output a buffer of the type
/// `file`: what is in one of the type `memory` is lost if Fluentd is killed, answered or not.
///
/// ```text
/// <source>
///   @type forward
/// </source>
/// <match app.**>
///   @type file
///   path /var/log/fluent/app
///   <buffer>
///     @type file
///     path /var/log/fluent/buffer
///   </buffer>
/// </match>
/// ```
///
/// Fluent Bit answers an event when its input has it: give the input `storage.type filesystem`. Both are what their
/// documentation says. The tests kill a server that was written for them from the specification.
///
/// # Limits
///
/// A server with a shared key (`<security>`, which begins with `HELO`) is not supported: the link breaks, and the error
/// says so. TLS with certificates of clients is. Events are not compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a protocol does nothing by itself, use `.outbox(..)`"]
#[doc(alias("fluentd", "fluent-bit", "fluent_bit", "fluent"))]
pub struct Forward {
    /// The tag of all events.
    tag: String,
}

impl Forward {
    /// Events with this tag, by which the server routes them.
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into() }
    }

    /// The message of an event whose record is a map of strings.
    ///
    /// Times before 1970 and after 2106 have no encoding, and become the nearest one that has.
    pub fn event<K, V, I>(time: SystemTime, record: I) -> Bytes
    where
        K: AsRef<str>,
        V: AsRef<str>,
        I: IntoIterator<Item = (K, V)>,
    {
        let mut fields = BytesMut::new();
        let mut count = 0;
        for (key, value) in record {
            put_str(key.as_ref(), &mut fields);
            put_str(value.as_ref(), &mut fields);
            count += 1;
        }
        let mut map = BytesMut::with_capacity(5 + fields.len());
        put_map(count, &mut map);
        map.put_slice(&fields);
        Self::event_of(time, &map)
    }

    /// The message of an event with any record: a map in MessagePack, by an encoder of your choice.
    pub fn event_of(time: SystemTime, record: &[u8]) -> Bytes {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut message = BytesMut::with_capacity(10 + record.len());
        // EventTime: the extension type 0, with the seconds and the nanoseconds.
        message.put_slice(&[0xd7, 0]);
        message.put_u32(u32::try_from(since_1970.as_secs()).unwrap_or(u32::MAX));
        message.put_u32(since_1970.subsec_nanos());
        message.put_slice(record);
        message.freeze()
    }

    /// The outbox of a connection that speaks this. All of its settings are still to choose; do not set
    /// [`protocol`](OutboxBuilder::protocol), [`framing`](OutboxBuilder::framing) or [`resend`](OutboxBuilder::resend).
    pub fn outbox<D>(self, conn: Builder<D>) -> OutboxBuilder<D> {
        Outbox::builder(conn).protocol(Events { tag: self.tag, chunks: Chunks::new() })
    }
}

/// The events of an outbox.
#[derive(Debug)]
struct Events {
    /// Their tag.
    tag: String,
    /// Their ids.
    chunks: Chunks,
}

impl Protocol for Events {
    fn encode(&mut self, number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        if !is_event(message) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not an event: expected a time and a map in MessagePack, as `Forward::event` makes them",
            ));
        }
        put_array(4, wire);
        put_str(&self.tag, wire);
        wire.put_slice(message);
        put_map(1, wire);
        put_str("chunk", wire);
        put_str(&self.chunks.id(number), wire);
        Ok(())
    }

    fn has_answers(&self) -> bool {
        true
    }

    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        let not_ours =
            |inbound: &[u8]| invalid(format!("not an acknowledgement of an event of ours: {}", start_of(inbound)));
        let Ok(len) = value_len(inbound) else { return Err(not_ours(inbound)) };
        let Some(len) = len.filter(|len| *len <= MAX_ACK) else {
            let is_too_long = inbound.len() > MAX_ACK;
            return if is_too_long { Err(invalid(format!("no acknowledgement in {MAX_ACK} bytes"))) } else { Ok(None) };
        };
        let value = inbound.split_to(len).freeze();
        if value.starts_with(b"\x92\xa4HELO") {
            return Err(io::Error::other("the server asks for a shared key (HELO), which is not supported"));
        }
        let number = ack(&value).and_then(|id| self.chunks.number(id));
        number.map(|number| Some(Answer::One(number))).ok_or_else(|| not_ours(&value))
    }
}

/// Whether these are a time and a map, and nothing more.
fn is_event(mut message: &[u8]) -> bool {
    let (time, record) = (take_value(&mut message), take_value(&mut message));
    let is_time = time.is_some_and(|time| matches!(time[0], 0x00..=0x7f | 0xcc..=0xcf | 0xd7));
    is_time && record.and_then(as_map).is_some() && message.is_empty()
}

/// The id in an acknowledgement.
fn ack(value: &[u8]) -> Option<&[u8]> {
    let mut pairs = as_map(value)?;
    while let (Some(key), Some(value)) = (take_value(&mut pairs), take_value(&mut pairs)) {
        if as_str(key) == Some(b"ack") {
            return as_str(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Events {
        Events { tag: "app".into(), chunks: Chunks::new() }
    }

    fn ack_of(id: &str) -> BytesMut {
        let mut wire = BytesMut::new();
        put_map(1, &mut wire);
        put_str("ack", &mut wire);
        put_str(id, &mut wire);
        wire
    }

    #[test]
    fn an_event_is_a_message_of_the_specification_with_its_chunk() {
        let mut events = events();
        // Windows counts in steps of 100 ns.
        let time = SystemTime::UNIX_EPOCH + Duration::new(0x0102_0304, 700);
        let mut wire = BytesMut::new();
        events.encode(7, &Forward::event(time, [("message", "hi")]), &mut wire).unwrap();
        let id = events.chunks.id(7);
        let expected = [
            b"\x94\xa3app".as_slice(),
            b"\xd7\0\x01\x02\x03\x04\0\0\x02\xbc",
            b"\x81\xa7message\xa2hi",
            b"\x81\xa5chunk\xb8",
            id.as_bytes(),
        ];
        assert_eq!(wire, expected.concat());
    }

    #[test]
    fn times_without_an_encoding_become_the_nearest_one() {
        let none: [(&str, &str); 0] = [];
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Forward::event(before, none)[..], *b"\xd7\0\0\0\0\0\0\0\0\0\x80");
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32);
        assert_eq!(Forward::event(after, none)[..6], *b"\xd7\0\xff\xff\xff\xff");
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let event = Forward::event_of(SystemTime::now(), b"\x81\xa1a\xc0");
        for message in [&event[..], b"\x07\x80", b"\xce\x01\x02\x03\x04\x80"] {
            assert!(events().encode(1, message, &mut BytesMut::new()).is_ok(), "{message:x?}");
        }
        let more = [&event[..], b"\xc0"].concat();
        for message in
            [&b"a line"[..], b"", b"\x07", b"\x07\x81", b"\x07\x90", b"\xc0\x80", &event[..9], &event[1..], &more]
        {
            let refused = events().encode(1, message, &mut BytesMut::new()).unwrap_err();
            assert!(refused.to_string().contains("not an event"), "{message:x?}");
        }
    }

    #[test]
    fn an_ack_answers_its_event_however_it_arrives() {
        let mut events = events();
        let mut inbound = BytesMut::new();
        let mut seen = Vec::new();
        let (first, second) = (ack_of(&events.chunks.id(1)), ack_of(&events.chunks.id(2)));
        for byte in [first, second].concat() {
            inbound.put_u8(byte);
            seen.extend(events.decode(&mut inbound).unwrap());
        }
        assert_eq!(seen, [Answer::One(1), Answer::One(2)]);
        // Other keys, and an id as bytes.
        let id = events.chunks.id(3);
        let mut inbound = BytesMut::from([b"\x82\xa1x\x07\xa3ack\xc4\x18", id.as_bytes()].concat().as_slice());
        assert_eq!(events.decode(&mut inbound).unwrap(), Some(Answer::One(3)));
    }

    #[test]
    fn anything_else_breaks_the_link() {
        let of_another = ack_of(&Chunks::new().id(1));
        for text in [&of_another[..], &ack_of("17")[..], b"\x80", b"\xc0", b"\x81\xa3ack\x01", b"\xc1", b"HTTP/1.1"] {
            let error = events().decode(&mut BytesMut::from(text)).unwrap_err();
            assert!(error.to_string().contains("not an acknowledgement"), "{text:x?}: {error}");
        }
        let error = events().decode(&mut BytesMut::from(&b"\x92\xa4HELO\x81\xa5nonce\xa0"[..])).unwrap_err();
        assert!(error.to_string().contains("shared key"), "{error}");
        let mut long = BytesMut::from(&b"\xdb\x7f\xff\xff\xff"[..]);
        assert_eq!(events().decode(&mut long).unwrap(), None);
        long.resize(MAX_ACK + 1, b'x');
        assert!(events().decode(&mut long).unwrap_err().to_string().contains("no acknowledgement in"));
    }
}

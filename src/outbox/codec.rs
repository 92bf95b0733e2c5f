//! The calls of the program's protocol: each panic is caught, and each contract checked.
//!
//! Next: [`Protocol`], whose methods are called.

use std::io;

use tokio_util::bytes::BytesMut;

use super::answer::IdleCalls;
use super::protocol::Protocol;
use super::store::Run;
use super::wire::Wire;
use super::{Answer, Answers};
use crate::panics::catch;

/// How many bytes may arrive without an answer in them. More than any frame of an answer has; a decoder that never gets
/// enough would fill the memory.
const MAX_INBOUND: usize = 16 << 20;

/// How messages become bytes, and bytes answers.
pub(super) struct Codec {
    /// Encodes. Decodes, too, if it has answers. `None`: the bytes of a message go out as they are.
    protocol: Option<Box<dyn Protocol>>,
    /// Decodes, if they were given apart.
    answers: Option<Answers>,
    /// Whether anybody decodes.
    has_answers: bool,
}

/// A message that the protocol cannot encode, and why.
pub(super) type Refused = (u64, String);

impl Codec {
    /// A protocol, and answers if they are not its business.
    pub(super) fn new(protocol: Option<Box<dyn Protocol>>, answers: Option<Answers>, has_answers: bool) -> Self {
        Self { protocol, answers, has_answers }
    }

    /// Begins with a new link.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let begun = catch(|| {
            if let Some(protocol) = &mut self.protocol {
                protocol.begin();
            }
            if let Some(answers) = &mut self.answers {
                answers.begin();
            }
        });
        begun.map_err(|message| panicked("begin", &message))
    }

    /// Encodes messages. An error is a fault of the protocol: the link has to go, and the message that caused it is refused;
    /// the runs end before it.
    pub(super) fn encode(
        &mut self,
        batch: &mut Vec<Run>,
        wire: &mut Wire,
        refused: &mut Vec<Refused>,
    ) -> io::Result<()> {
        let Some(protocol) = &mut self.protocol else {
            batch.iter().for_each(|run| wire.push(run.bytes()));
            return Ok(());
        };
        let wire = &mut wire.encoded;
        let mut outcome = Ok(());
        let mut encoded = 0;
        for run in batch.iter_mut() {
            let start = wire.len();
            run.encode(|number, message| {
                let before = wire.len();
                match encode(&mut **protocol, number, message, wire, start) {
                    Ok(end) => return Some(end),
                    Err(NotEncoded::Refused(reason)) => {
                        wire.truncate(before);
                        refused.push((number, reason));
                        return Some((before - start) as u32);
                    }
                    Err(NotEncoded::Broken(reason)) => {
                        refused.push((number, reason.clone()));
                        outcome = Err(io::Error::other(reason));
                    }
                }
                None
            });
            encoded += 1;
            if outcome.is_err() {
                break;
            }
        }
        batch.truncate(encoded);
        outcome
    }

    /// Takes all answers out of what has arrived. Those before an error are in `answers`.
    pub(super) fn decode(&mut self, inbound: &mut BytesMut, answers: &mut Vec<Answer>) -> io::Result<()> {
        if !self.has_answers {
            inbound.clear();
            return Ok(());
        }
        let mut idle = IdleCalls::new(inbound);
        let decoded = catch(|| {
            loop {
                let answer = match (&mut self.answers, &mut self.protocol) {
                    (Some(answers), _) => answers.decode(inbound)?,
                    (None, Some(protocol)) => protocol.decode(inbound)?,
                    (None, None) => None,
                };
                let Some(answer) = answer else { return Ok(()) };
                answers.push(answer);
                idle.check(inbound)?;
            }
        });
        decoded.unwrap_or_else(|message| Err(panicked("decode", &message)))?;
        if inbound.len() > MAX_INBOUND {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no answer in {} bytes: expected one within {MAX_INBOUND}", inbound.len()),
            ));
        }
        Ok(())
    }

    /// The last bytes of a link.
    pub(super) fn finish(&mut self, wire: &mut Wire) {
        let Some(protocol) = &mut self.protocol else { return };
        if catch(|| protocol.finish(&mut wire.encoded)).is_err() {
            wire.clear();
        }
    }
}

/// Why a message was not encoded.
enum NotEncoded {
    /// The protocol cannot.
    Refused(String),
    /// The protocol has a fault.
    Broken(String),
}

/// Encodes one message. Returns where it ends, from `start` on.
fn encode(
    protocol: &mut dyn Protocol,
    number: u64,
    message: &[u8],
    wire: &mut BytesMut,
    start: usize,
) -> Result<u32, NotEncoded> {
    let before = wire.len();
    let outcome = catch(|| protocol.encode(number, message, wire));
    let outcome = outcome.map_err(|panic| NotEncoded::Broken(format!("the protocol's `encode` panicked: {panic}")))?;
    if wire.len() < before {
        let fault = "the protocol's `encode` has taken bytes of other messages away";
        return Err(NotEncoded::Broken(fault.to_owned()));
    }
    outcome.map_err(|error| NotEncoded::Refused(error.to_string()))?;
    match u32::try_from(wire.len() - start) {
        Ok(_) if wire.len() == before => Err(NotEncoded::Refused("the protocol made no bytes of it".to_owned())),
        Ok(end) => Ok(end),
        Err(_) => Err(NotEncoded::Refused("the protocol made more than 4 GiB of it".to_owned())),
    }
}

/// The error of a link on which the program's code panicked.
fn panicked(method: &str, message: &str) -> io::Error {
    io::Error::other(format!("the protocol's `{method}` panicked: {message}"))
}

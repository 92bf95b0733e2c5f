//! The calls of the program's protocol: each panic is caught, and each contract checked.
//!
//! Next: [`Protocol`], whose methods are called.

use std::io;

use bytes::Bytes;
use tokio_util::bytes::BytesMut;

use super::protocol::Protocol;
use super::{Answer, Answers};
use crate::panics::catch;

/// How many bytes may arrive without an answer in them. More than any frame of an answer has; a decoder that never gets
/// enough would fill the memory.
const MAX_INBOUND: usize = 16 << 20;

/// How messages become bytes, and bytes answers.
pub(super) struct Codec {
    /// Encodes. Decodes, too, if it has answers.
    protocol: Box<dyn Protocol>,
    /// Decodes, if they were given apart.
    answers: Option<Answers>,
    /// Whether anybody decodes.
    has_answers: bool,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Encoded {
    /// It has this many bytes.
    Bytes(usize),
    /// The protocol cannot encode it.
    Refused(String),
}

impl Codec {
    /// Asks the protocol whether it has answers.
    pub(super) fn new(protocol: Box<dyn Protocol>, answers: Option<Answers>, has_answers: bool) -> Self {
        Self { protocol, answers, has_answers }
    }

    /// Begins with a new link.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let begun = catch(|| {
            self.protocol.begin();
            if let Some(answers) = &mut self.answers {
                answers.begin();
            }
        });
        begun.map_err(|message| panicked("begin", &message))
    }

    /// Encodes messages, and says for each of them what became of it. An error is a panic: the link has to go, and the
    /// messages after the one that caused it are not in `encoded`.
    pub(super) fn encode(
        &mut self,
        batch: &[(u64, Bytes)],
        wire: &mut BytesMut,
        encoded: &mut Vec<Encoded>,
    ) -> io::Result<()> {
        // One call for all of them: `encoded` says which message a panic belongs to.
        let outcome = catch(|| {
            for (number, message) in batch {
                let before = wire.len();
                let outcome = self.protocol.encode(*number, message, wire);
                if wire.len() < before {
                    encoded.push(Encoded::Refused("the protocol took bytes of other messages away".to_owned()));
                    return Err(io::Error::other("the protocol's `encode` has taken bytes of other messages away"));
                }
                encoded.push(match outcome {
                    Ok(()) if wire.len() > before => Encoded::Bytes(wire.len() - before),
                    Ok(()) => Encoded::Refused("the protocol made no bytes of it".to_owned()),
                    Err(error) => {
                        wire.truncate(before);
                        Encoded::Refused(error.to_string())
                    }
                });
            }
            Ok(())
        });
        outcome.unwrap_or_else(|message| {
            encoded.push(Encoded::Refused(format!("the encoder panicked: {message}")));
            Err(panicked("encode", &message))
        })
    }

    /// Takes all answers out of what has arrived. Those before an error are in `answers`.
    pub(super) fn decode(&mut self, inbound: &mut BytesMut, answers: &mut Vec<Answer>) -> io::Result<()> {
        if !self.has_answers {
            inbound.clear();
            return Ok(());
        }
        let decoded = catch(|| {
            loop {
                let answer = match &mut self.answers {
                    Some(decoder) => decoder.decode(inbound)?,
                    None => self.protocol.decode(inbound)?,
                };
                match answer {
                    Some(answer) => answers.push(answer),
                    None => return Ok(()),
                }
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
    pub(super) fn finish(&mut self, wire: &mut BytesMut) {
        if catch(|| self.protocol.finish(wire)).is_err() {
            wire.clear();
        }
    }
}

/// The error of a link on which the program's code panicked.
fn panicked(method: &str, message: &str) -> io::Error {
    io::Error::other(format!("the protocol's `{method}` panicked: {message}"))
}

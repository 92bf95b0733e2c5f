//! The outbox: what becomes of every accepted message.

#[path = "../support/mod.rs"]
mod support;

mod first;

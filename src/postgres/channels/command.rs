//! The commands about channels, as SQL.
//!
//! Next: [`Channels`](super::Channels), which decides when to send them.

use std::sync::Arc;

use super::ListenId;

/// A command to send. The calls in `waiters` wait for its answer.
pub(in crate::postgres) enum ChannelCommand<W> {
    /// `LISTEN`, for the `listen` with this number.
    Listen {
        /// As the program spells it. [`ChannelCommand::sql`] quotes it.
        channel: Arc<str>,
        /// Tells this `listen` from a later one of the same channel when the answer arrives.
        id: ListenId,
        /// Calls of `unlisten` that this `listen` has overtaken: the answer to it is theirs, too.
        waiters: Vec<W>,
    },
    /// `UNLISTEN` for each of these channels, in one query.
    Unlisten {
        /// Never empty.
        channels: Vec<Arc<str>>,
        /// The calls of `unlisten` and `unlisten_all` that end with the answer.
        waiters: Vec<W>,
    },
}

impl<W> ChannelCommand<W> {
    /// The command as SQL. Without UTF-8 in the database, a name may be longer there: the server would cut it and say so
    /// nowhere but in a notice, so the command asks for the length first.
    pub(in crate::postgres) fn sql(&self, is_utf8: bool) -> String {
        match self {
            Self::Listen { channel, .. } => listen_sql(channel, is_utf8),
            Self::Unlisten { channels, .. } => {
                channels.iter().map(|channel| format!("UNLISTEN {};", quoted(channel))).collect()
            }
        }
    }
}

/// A `LISTEN`, which fails with [`TOO_LONG`] instead of cutting the name.
fn listen_sql(channel: &str, is_utf8: bool) -> String {
    let listen = format!("LISTEN {}", quoted(channel));
    if is_utf8 || channel.is_ascii() {
        return listen;
    }
    let text = channel.replace('\\', "\\\\").replace('\'', "''");
    // `octet_length` counts in the encoding of the database. A cast of a constant would fail before the comparison.
    format!(
        "SELECT CASE WHEN octet_length(E'{text}') > current_setting('max_identifier_length')::int \
         THEN (current_setting('server_encoding') || ': the name of the channel is too long')::int END;{listen}"
    )
}

/// The code of the error of a `LISTEN` whose name is too long in the encoding of the database: invalid text representation.
pub(in crate::postgres) const TOO_LONG: &str = "22P02";

/// A name as an SQL identifier: case matters, and any character may be in it.
pub(in crate::postgres) fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_becomes_one_identifier_whatever_it_contains() {
        for (name, identifier) in [
            ("orders", r#""orders""#),
            ("Orders new", r#""Orders new""#),
            (r#"a"; DROP TABLE b; --"#, r#""a""; DROP TABLE b; --""#),
            (r#"""#, r#""""""#),
            (r"\", r#""\""#),
        ] {
            assert_eq!(quoted(name), identifier);
        }
    }

    #[test]
    fn only_names_that_may_be_longer_in_the_database_are_measured_there() {
        assert_eq!(listen_sql("a", false), r#"LISTEN "a""#);
        assert_eq!(listen_sql("é", true), r#"LISTEN "é""#);
        let sql = listen_sql(r#"é\'""#, false);
        assert!(sql.starts_with(r#"SELECT CASE WHEN octet_length(E'é\\''"') > "#), "{sql}");
        assert!(sql.ends_with(r#" END;LISTEN "é\'""""#), "{sql}");
    }
}

//! Entries for a stream of Redis: pipelined `XADD`.
//!
//! Next: `redis/reply.rs`, what the server answers.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::bytes::{BufMut, BytesMut};

use self::reply::{Reply, put_command, put_word, take_reply};
use super::set_up::{invalid, read_reply};
use crate::outbox::{Answer, Outbox, OutboxBuilder, Protocol};
use crate::{Builder, Dial};

mod reply;

/// A stream of Redis, or of a server that speaks its protocol: at least once.
///
/// ```no_run
/// use std::time::Duration;
/// use perconn::Conn;
/// use perconn::outbox::protocols::RedisStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stream = RedisStream::new("logs").max_len(1_000_000).password("secret");
/// let outbox = stream.outbox(Conn::builder("redis.example:6379")).start()?;
/// outbox.send("a line").await?; // XADD logs MAXLEN ~ 1000000 * message "a line"
/// outbox.flush().await; // until Redis has answered
/// let tally = outbox.close(Duration::from_secs(5)).await;
/// println!("{tally}"); // 1 accepted: 1 answered
/// # Ok(())
/// # }
/// ```
///
/// A message is the value of one field of one entry: any bytes. Many commands are on their way at once, at most
/// [`window`](OutboxBuilder::window) of them, and each reply answers the next. Each link begins with the login, the
/// choice of the database and a `PING`, as a part of the dial: a server that is loading its data refuses the `PING`,
/// and is dialed again later.
///
/// # What the server has to do
///
/// ```text
/// appendonly yes
/// appendfsync always
/// ```
///
/// Then what is answered survives a kill of Redis and a crash of the machine. With `appendfsync everysec` it survives
/// the kill, and a crash may cost a second. Without the append-only file, a kill costs everything since the last
/// snapshot. A failover to a replica can cost what the replica did not have yet; see `WAIT` and `min-replicas-to-write`
/// of Redis.
///
/// # Errors of the server
///
/// A reply `-ERR ...` is about the command: its message is [rejected](crate::outbox::Fate::Rejected), with that text.
/// Any other code is about the server, the stream or the user, and every message would meet it: `LOADING`, `READONLY`,
/// `OOM`, `MISCONF`, `MASTERDOWN`, `NOREPLICAS`, `BUSY`, `NOAUTH`, `NOPERM`, `MOVED`, `WRONGTYPE`. It breaks the link,
/// is reported as the cause of that, and the messages go again on the next one. So no message is lost, and the queue
/// fills until somebody mends the server.
#[derive(Clone)]
#[must_use = "a protocol does nothing by itself, use `.outbox(..)`"]
#[doc(alias("xadd", "valkey", "keydb", "dragonfly"))]
pub struct RedisStream {
    /// Its key.
    stream: String,
    /// The field of the message.
    field: String,
    /// The field of the message's number, if it is wanted.
    number_field: Option<String>,
    /// About how many entries the server keeps.
    max_len: Option<u64>,
    /// The words after `AUTH`; none without a login.
    login: Vec<String>,
    /// The number of the database.
    database: u32,
}

impl RedisStream {
    /// The stream with this key. It need not exist.
    pub fn new(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            field: "message".into(),
            number_field: None,
            max_len: None,
            login: Vec::new(),
            database: 0,
        }
    }

    /// The name of the field that has the message. Defaults to `message`.
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.field = name.into();
        self
    }

    /// Adds a field with the number of the message, which [`Outbox::send`] returns. Defaults to none.
    ///
    /// A message that goes again has the same number: a consumer that remembers the highest one knows what it has seen.
    #[doc(alias("deduplicate", "idempotent"))]
    pub fn number_field(mut self, name: impl Into<String>) -> Self {
        self.number_field = Some(name.into());
        self
    }

    /// About how many entries the server keeps (`MAXLEN ~`). Defaults to `None`: all of them.
    ///
    /// It drops the oldest ones, whether somebody has read them or not.
    #[doc(alias("maxlen", "trim"))]
    pub fn max_len(mut self, entries: impl Into<Option<u64>>) -> Self {
        self.max_len = entries.into();
        self
    }

    /// The password of the default user. Defaults to none: no login.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.login = vec![password.into()];
        self
    }

    /// The user that logs in, for a server with users (ACL). Defaults to none.
    ///
    /// It needs the commands `PING` and `XADD`, and `SELECT` if there is a [`database`](Self::database).
    #[doc(alias("acl", "username", "auth"))]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = vec![name.into(), password.into()];
        self
    }

    /// The number of the database. Defaults to 0.
    pub fn database(mut self, number: u32) -> Self {
        self.database = number;
        self
    }

    /// The outbox of a connection that speaks this. All of its settings are still to choose; do not set
    /// [`protocol`](OutboxBuilder::protocol), [`framing`](OutboxBuilder::framing) or [`resend`](OutboxBuilder::resend).
    pub fn outbox<D: Dial>(self, conn: Builder<D>) -> OutboxBuilder<impl Dial<Stream = D::Stream>> {
        let entries = Entries::new(&self);
        let commands = self.set_up();
        Outbox::builder(conn.and_then(move |stream| run(stream, commands.clone()))).protocol(entries)
    }

    /// The commands with which each link begins.
    fn set_up(&self) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        if !self.login.is_empty() {
            commands.push([&["AUTH".to_owned()], &self.login[..]].concat());
        }
        if self.database > 0 {
            commands.push(vec!["SELECT".into(), self.database.to_string()]);
        }
        // A server that is not ready refuses this: the dial fails, and the next one comes with the delays of the
        // connection.
        commands.push(vec!["PING".into()]);
        commands
    }
}

/// Without the password.
impl fmt::Debug for RedisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStream")
            .field("stream", &self.stream)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Sends commands and checks their replies: the session set-up of a link.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, commands: Vec<Vec<String>>) -> io::Result<S> {
    let mut wire = BytesMut::new();
    for words in &commands {
        put_command(words.len(), &mut wire);
        words.iter().for_each(|word| put_word(word.as_bytes(), &mut wire));
    }
    stream.write_all(&wire).await?;
    stream.flush().await?;
    for words in &commands {
        match read_reply(&mut stream, take_reply).await? {
            Reply::Status(_) => {}
            Reply::Error(text) => return Err(io::Error::other(format!("Redis refuses {}: {text}", words[0]))),
            Reply::Id => return Err(invalid(format!("Redis answers {} with a string", words[0]))),
        }
    }
    Ok(stream)
}

/// The commands that add entries.
#[derive(Debug)]
struct Entries {
    /// What each of them begins with: all but the message and its number.
    start: BytesMut,
    /// The field of the number.
    number_field: Option<String>,
}

impl Entries {
    /// Encodes what all commands share.
    fn new(stream: &RedisStream) -> Self {
        let mut words = vec!["XADD".to_owned(), stream.stream.clone()];
        if let Some(max_len) = stream.max_len {
            words.extend(["MAXLEN".to_owned(), "~".to_owned(), max_len.to_string()]);
        }
        words.extend(["*".to_owned(), stream.field.clone()]);
        let number_field = stream.number_field.clone();
        let mut start = BytesMut::new();
        put_command(words.len() + 1 + if number_field.is_some() { 2 } else { 0 }, &mut start);
        words.iter().for_each(|word| put_word(word.as_bytes(), &mut start));
        Self { start, number_field }
    }
}

impl Protocol for Entries {
    fn encode(&mut self, number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.put_slice(&self.start);
        put_word(message, wire);
        if let Some(field) = &self.number_field {
            put_word(field.as_bytes(), wire);
            put_word(number.to_string().as_bytes(), wire);
        }
        Ok(())
    }

    fn has_answers(&self) -> bool {
        true
    }

    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        Ok(Some(match take_reply(inbound)? {
            None => return Ok(None),
            Some(Reply::Id) => Answer::Next,
            Some(Reply::Error(text)) if text.starts_with("ERR ") => Answer::NextRejected(text),
            // All messages would meet it.
            Some(Reply::Error(text)) => return Err(io::Error::other(format!("Redis refuses XADD: {text}"))),
            Some(Reply::Status(text)) => return Err(invalid(format!("Redis answers XADD with {text}"))),
        }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn encode(stream: &RedisStream, number: u64, message: &'static str) -> String {
        let mut wire = BytesMut::new();
        Entries::new(stream).encode(number, &Bytes::from_static(message.as_bytes()), &mut wire).unwrap();
        String::from_utf8(wire.to_vec()).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn a_message_is_one_entry() {
        let stream = RedisStream::new("logs");
        assert_eq!(encode(&stream, 7, "a b"), "*5 $4 XADD $4 logs $1 * $7 message $3 a b ");
        let stream = stream.field("m").max_len(1000).number_field("n");
        let expected = "*10 $4 XADD $4 logs $6 MAXLEN $1 ~ $4 1000 $1 * $1 m $1 x $1 n $2 17 ";
        assert_eq!(encode(&stream, 17, "x"), expected);
    }

    #[test]
    fn err_rejects_the_message_and_any_other_code_breaks_the_link() {
        let mut entries = Entries::new(&RedisStream::new("logs"));
        let mut decode = |text: &str| entries.decode(&mut BytesMut::from(text)).map_err(|error| error.to_string());
        assert_eq!(decode("$3\r\n1-0\r\n"), Ok(Some(Answer::Next)));
        assert_eq!(decode("$3\r\n1-0"), Ok(None));
        assert_eq!(decode("-ERR syntax error\r\n"), Ok(Some(Answer::NextRejected("ERR syntax error".into()))));
        for code in ["LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "NOAUTH", "NOPERM", "WRONGTYPE", "ERRX"] {
            let error = decode(&format!("-{code} some reason\r\n")).unwrap_err();
            assert!(error.contains(&format!("{code} some reason")), "{error}");
        }
        assert!(decode("+OK\r\n").unwrap_err().contains("OK"));
    }

    #[test]
    fn a_link_begins_with_what_is_set() {
        let stream = RedisStream::new("logs");
        assert_eq!(stream.set_up(), [["PING"]]);
        let stream = stream.password("secret").database(3);
        assert_eq!(stream.set_up(), [vec!["AUTH", "secret"], vec!["SELECT", "3"], vec!["PING"]]);
        assert_eq!(stream.clone().user("me", "secret").set_up()[0], ["AUTH", "me", "secret"]);
        assert!(!format!("{stream:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_refused_set_up_says_which_command_and_why() {
        let commands = RedisStream::new("logs").password("wrong").set_up();
        let (client, mut server) = tokio::io::duplex(1024);
        server.write_all(b"-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n").await.unwrap();
        let error = run(client, commands.clone()).await.unwrap_err().to_string();
        assert!(error.contains("AUTH: WRONGPASS"), "{error}");
        let (client, mut server) = tokio::io::duplex(1024);
        server.write_all(b"+OK\r\n+PONG\r\n").await.unwrap();
        run(client, commands).await.unwrap();
    }
}

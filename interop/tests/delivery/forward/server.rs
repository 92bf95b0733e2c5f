//! A server of the forward protocol, written from the specification: it writes each event to its file, and acknowledges
//! it then. It is a process of its own, this test program once more, so that it can be killed with SIGKILL.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::real_server::RealServer;

/// What the process is to do, from the parent.
const VARIABLE: &str = "PERCONN_FORWARD_SERVER";

/// Starts the server.
pub fn start() -> RealServer {
    RealServer::start("forward", |folder, port| {
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "forward::server::process", "--ignored", "--nocapture"]);
            command.env(VARIABLE, format!("{port} {}", folder.join("arrived").display()));
            command
        }
    })
}

#[test]
#[ignore = "the server of another test"]
fn process() {
    let Ok(variable) = std::env::var(VARIABLE) else { return };
    let (port, path) = variable.split_once(' ').unwrap();
    let file = Arc::new(Mutex::new(OpenOptions::new().append(true).create(true).open(path).unwrap()));
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let file = Arc::clone(&file);
        std::thread::spawn(move || serve(stream.unwrap(), &file));
    }
}

/// Until the client closes the connection.
fn serve(mut stream: TcpStream, file: &Mutex<File>) -> io::Result<()> {
    let mut inbound = BufReader::new(stream.try_clone()?);
    loop {
        let event = Value::read(&mut inbound)?;
        let Value::Array(parts) = event else { return Err(io::Error::other("no array")) };
        let [Value::Text(tag), Value::Time(seconds), Value::Map(record), Value::Map(option)] = &parts[..] else {
            return Err(io::Error::other("not an event of the message mode"));
        };
        assert!(tag == "app" && *seconds > 1_700_000_000, "{tag} {seconds}");
        let (_, Value::Text(message)) = &record[1] else { return Err(io::Error::other("no text")) };
        let (Value::Text(key), Value::Text(chunk)) = &option[0] else { return Err(io::Error::other("no chunk")) };
        assert!(key == "chunk" && chunk.len() == 24, "{key} {chunk}");
        file.lock().unwrap().write_all(format!("{message}\n").as_bytes())?;
        // {"ack": chunk}: a map of one pair, a string of 3 bytes, a string of 24 bytes.
        stream.write_all(&[b"\x81\xa3ack\xb8", chunk.as_bytes()].concat())?;
    }
}

/// The values of MessagePack that an event of this test has.
enum Value {
    Text(String),
    Time(u64),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Value {
    fn read(inbound: &mut impl Read) -> io::Result<Self> {
        let [first] = bytes(inbound)?;
        Ok(match first {
            0x80..=0x8f => {
                let pairs = (0..first & 0x0f).map(|_| Ok((Self::read(inbound)?, Self::read(inbound)?)));
                Self::Map(pairs.collect::<io::Result<_>>()?)
            }
            0x90..=0x9f => Self::Array((0..first & 0x0f).map(|_| Self::read(inbound)).collect::<io::Result<_>>()?),
            0xa0..=0xbf => {
                let mut text = vec![0; usize::from(first & 0x1f)];
                inbound.read_exact(&mut text)?;
                Self::Text(String::from_utf8(text).map_err(io::Error::other)?)
            }
            0xd7 => {
                let [kind, time @ ..] = bytes::<9>(inbound)?;
                assert_eq!(kind, 0, "EventTime has the type 0");
                Self::Time(u64::from_be_bytes(time) >> 32)
            }
            other => return Err(io::Error::other(format!("{other:#x}"))),
        })
    }
}

fn bytes<const N: usize>(inbound: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    inbound.read_exact(&mut bytes)?;
    Ok(bytes)
}

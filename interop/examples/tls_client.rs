//! TLS with rustls on top of one connection that outlives its sockets: a handshake in each session.
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
//!     -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
//!     -keyout key.pem -out cert.pem
//! openssl s_server -quiet -rev -accept 8443 -cert cert.pem -key key.pem   # in another terminal; kill it at will
//! cargo run --features session --example tls_client -- 127.0.0.1:8443 cert.pem
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use perconn::{Conn, Session, Sessions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const USAGE: &str = "\
Sends a line to a TLS server that answers by a line, once a second, until Ctrl-C.

Usage: tls_client [HOST:PORT [CERTIFICATE]]        (127.0.0.1:8443 and cert.pem unless given)

The certificate, a PEM file, is the only one that is trusted. To make one, and a server to kill and start again:
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \\
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \\
    -keyout key.pem -out cert.pem
openssl s_server -quiet -rev -accept 8443 -cert cert.pem -key key.pem";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run("127.0.0.1:8443", "cert.pem").await,
        [address] if !address.starts_with('-') => run(address, "cert.pem").await,
        [address, certificate] if !address.starts_with('-') => run(address, certificate).await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this cannot panic if nobody reads.
            let _ = writeln!(io::stderr(), "tls_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "tls_client: {error}");
    ExitCode::FAILURE
}

/// Asks for ever. What ends it is the end of the connection itself.
async fn run(address: &str, certificate: &str) -> Result<Infallible, Box<dyn Error>> {
    let wrong = |error: &dyn Error| format!("{certificate:?}: {error}; expected a file with a certificate in PEM");
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate).map_err(|error| wrong(&error))?;
    roots.add(trusted).map_err(|error| wrong(&error))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    // Refuses what is no address.
    let conn = Conn::builder(address).on_event(|event| say(event)).logger(|_| {}).build()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host.trim_matches(['[', ']']));
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| format!("{host:?}: {error}; expected a name or an IP address that a certificate can have"))?;
    let mut sessions = Sessions::new(conn);
    let mut number = 1;
    loop {
        let session = sessions.next().await?;
        // A client for each session. It ends with an error, and the question that has no answer is asked again.
        let Err(error) = ask(session, &connector, name.clone(), &mut number).await;
        say(format_args!("{error}; question {number} is asked again"));
    }
}

async fn ask(
    session: Session,
    connector: &TlsConnector,
    name: ServerName<'static>,
    number: &mut u64,
) -> Result<Infallible, Box<dyn Error>> {
    // With the stream, the buffer is new in each session: no half a line of the one before is left in it.
    let mut stream = BufReader::new(connector.connect(name, session).await?);
    loop {
        stream.write_all(format!("question {number}\n").as_bytes()).await?;
        stream.flush().await?;
        let mut answer = String::new();
        if stream.read_line(&mut answer).await? == 0 {
            return Err("the server said goodbye".into());
        }
        say(format_args!("answer: {}", answer.trim_end()));
        *number += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}

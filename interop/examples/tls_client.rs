//! TLS with rustls on top of one connection that outlives its sockets: a handshake in each session.
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
//!     -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
//!     -keyout key.pem -out cert.pem
//! openssl s_server -quiet -rev -accept 8443 -cert cert.pem -key key.pem   # in another terminal; kill it at will
//! cargo run -p perconn-interop --example tls_client -- 127.0.0.1:8443 cert.pem
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
Sends a line to a TLS server once a second and prints the line that comes back, until Ctrl-C.

Usage: tls_client [HOST:PORT [CERTIFICATE]]        (127.0.0.1:8443 and cert.pem unless given)

The client trusts only this certificate, a PEM file. To make one, and a server to kill and restart:
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
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "tls_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "tls_client: {error}");
    ExitCode::FAILURE
}

/// Sends requests until the connection itself ends.
async fn run(address: &str, certificate: &str) -> Result<Infallible, Box<dyn Error>> {
    let invalid = |error: &dyn Error| format!("{certificate:?}: {error}; expected a file with a certificate in PEM");
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate).map_err(|error| invalid(&error))?;
    roots.add(trusted).map_err(|error| invalid(&error))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    // Fails if the address is not valid.
    let conn = Conn::builder(address).on_event(|event| say(event)).logger(|_| {}).build()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host.trim_matches(['[', ']']));
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| format!("{host:?}: {error}; expected a name or an IP address that a certificate can have"))?;
    let mut sessions = Sessions::new(conn);
    let mut number = 1;
    loop {
        let session = sessions.next().await?;
        // Each session gets a client of its own. The client ends with an error, and the request without an answer is repeated.
        let Err(error) = send_requests(session, &connector, name.clone(), &mut number).await;
        say(format_args!("{error}; request {number} is repeated"));
    }
}

async fn send_requests(
    session: Session,
    connector: &TlsConnector,
    name: ServerName<'static>,
    number: &mut u64,
) -> Result<Infallible, Box<dyn Error>> {
    // The buffer is new in each session, so it holds no part of a line of the session before.
    let mut stream = BufReader::new(connector.connect(name, session).await?);
    loop {
        stream.write_all(format!("request {number}\n").as_bytes()).await?;
        stream.flush().await?;
        let mut answer = String::new();
        if stream.read_line(&mut answer).await? == 0 {
            return Err("the server closed the session".into());
        }
        say(format_args!("answer: {}", answer.trim_end()));
        *number += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Prints a line on standard output. Ends the program if nobody reads any more, as after `| head -3`.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}

//! A real PostgreSQL for one test: a fresh cluster in a temporary folder, on a free loopback port and on a Unix socket in the
//! folder. Dropping it stops the server and removes the folder.
//!
//! Next: `real_server`, which starts, kills and freezes any kind of server; then `server/client`, its clients.

#![allow(dead_code, unreachable_pub, unused_imports)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::Config;

pub use self::client::Plain;
use self::cluster::{ACCOUNT, Guard, find, find_newer, remove_shared_memory, run, template};
pub use self::cluster::{give_away, is_installed, unprivileged};
use crate::real_server::RealServer;
use crate::support::HANG_LIMIT;

// Other packages include this file by its path, so that these need theirs, too.
#[path = "server/client.rs"]
mod client;
#[path = "server/cluster.rs"]
mod cluster;

pub const USER: &str = "perconn";
pub const PASSWORD: &str = "secret";
pub const DATABASE: &str = "postgres";

/// The settings of a test's server.
pub struct Setup {
    test: String,
    settings: Vec<String>,
    files: Vec<(String, String)>,
    place: Option<(SocketAddr, String)>,
    is_newer: bool,
}

impl Setup {
    pub fn of(test: &str) -> Self {
        let test = format!("postgres: {test}");
        Self { test, settings: Vec::new(), files: Vec::new(), place: None, is_newer: false }
    }

    /// Takes the newer version, which `scripts/test` unpacks, and not that of the system. It speaks no TLS.
    #[must_use]
    pub fn newer(mut self) -> Self {
        self.is_newer = true;
        self
    }

    /// Adds a line of postgresql.conf, such as `max_connections`, `20`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Adds a file to the server's folder, readable only by the server.
    #[must_use]
    pub fn file(mut self, name: &str, content: String) -> Self {
        self.files.push((name.to_owned(), content));
        self
    }

    /// Speaks TLS to clients that request it, with this certificate and key (PEM).
    #[must_use]
    pub fn tls(self, certificate: String, key: String) -> Self {
        self.set("ssl", "on")
            .set("ssl_cert_file", "certificate.pem")
            .set("ssl_key_file", "key.pem")
            .file("certificate.pem", certificate)
            .file("key.pem", key)
    }

    /// Runs the server at this address, in the network namespace of this name.
    #[must_use]
    pub fn at(mut self, address: SocketAddr, namespace: &str) -> Self {
        self.place = Some((address, namespace.to_owned()));
        self
    }

    /// Starts the server. `None`, after printing a line, if PostgreSQL is not installed.
    pub fn start(self) -> Option<Postgres> {
        let postgres = if self.is_newer { find_newer(&self.test)? } else { find(&self.test)? };
        let template = template(&postgres);
        let place = self.place.clone();
        let begin = |folder: &Path, port: u16| {
            let data = folder.join("data");
            run(Command::new("cp").arg("-a").arg(&template).arg(&data));
            for (name, content) in &self.files {
                let path = data.join(name);
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            give_away(folder);
            let folder = folder.to_owned();
            let (host, namespace) = match self.place {
                Some((address, namespace)) => (address.ip().to_string(), Some(namespace)),
                None => ("127.0.0.1".to_owned(), None),
            };
            let locks = [data.join("postmaster.pid"), folder.join(format!(".s.PGSQL.{port}.lock"))];
            move || {
                // A server that was killed during its start may leave an empty lock file, and the next server would refuse to start.
                for lock in &locks {
                    if fs::metadata(lock).is_ok_and(|lock| lock.len() == 0) {
                        fs::remove_file(lock).unwrap();
                    }
                }
                let mut command = match &namespace {
                    Some(name) => {
                        let mut command = Command::new("ip");
                        command.args(["netns", "exec", name, "setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT]);
                        command.args(["--clear-groups", "--"]).arg(&postgres);
                        command
                    }
                    None => unprivileged(&postgres),
                };
                command.args(["-h", &host, "-F", "-p", &port.to_string(), "-k"]).arg(&folder).arg("-D").arg(&data);
                for setting in &self.settings {
                    command.args(["-c", setting]);
                }
                command.current_dir(&folder);
                command
            }
        };
        let server = match place {
            Some((address, _)) => RealServer::start_at(address, "postgres", begin),
            None => RealServer::start("postgres", begin),
        };
        server.clean_up_by(remove_shared_memory);
        let guard = Guard::over(&server.folder);
        Some(Postgres { address: server.address, server, _guard: guard })
    }
}

/// A server, running or not.
pub struct Postgres {
    pub address: SocketAddr,
    pub server: RealServer,
    // Dropped last, as the last field.
    _guard: Guard,
}

impl Postgres {
    /// Starts a server with the default settings. `None`, after printing a line, if PostgreSQL is not installed.
    pub fn start(test: &str) -> Option<Self> {
        Setup::of(test).start()
    }

    // ===== how to reach it =====

    /// The configuration of a client over TCP.
    pub fn config(&self) -> Config {
        let mut config = self.config_without_host();
        config.host(self.address.ip().to_string()).port(self.address.port());
        config
    }

    /// The configuration of a client over the Unix socket.
    pub fn unix_config(&self) -> Config {
        let mut config = self.config_without_host();
        config.host_path(self.folder()).port(self.address.port());
        config
    }

    pub fn config_without_host(&self) -> Config {
        let mut config = Config::new();
        config.user(USER).password(PASSWORD).dbname(DATABASE);
        config
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join(format!(".s.PGSQL.{}", self.address.port()))
    }

    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{DATABASE}", self.address)
    }

    /// The folder of its files: `data`, `log`, and the socket.
    pub fn folder(&self) -> &Path {
        &self.server.folder
    }

    /// The log of the server since its start.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// A client without reconnection, as soon as the server accepts one.
    pub async fn client(&self) -> Plain {
        let begin = Instant::now();
        loop {
            match Plain::connect(&self.config()).await {
                Ok(client) => return client,
                Err(error) => {
                    assert!(begin.elapsed() < HANG_LIMIT, "accepts no client: {error:?}\n{}", self.log());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    // ===== failures =====

    /// Kills all of its processes with SIGKILL. The server stays down until [`Self::start_again`].
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Starts the server again. Returns when it listens; it may still answer that it is starting up.
    pub fn start_again(&self) {
        self.server.start_again();
    }

    /// Kills the server, and starts it again in another thread.
    pub fn kill_and_restart(&self) {
        self.server.kill_and_restart();
    }

    /// Shuts down as `pg_ctl stop -m fast` does: sessions end with 57P01.
    pub fn shut_down_fast(&self) {
        self.server.end_by(Signal::INT);
    }

    /// Shuts down as `pg_ctl stop -m immediate` does: sessions end with 57P02 or without a message.
    pub fn shut_down_immediately(&self) {
        self.server.end_by(Signal::QUIT);
    }

    /// Freezes all of its processes. The kernel still acknowledges what it receives.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.server.thaw();
    }
}

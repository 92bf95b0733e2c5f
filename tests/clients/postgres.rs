//! `tokio-postgres`, against PostgreSQL.

use std::fs;
use std::path::Path;
use std::process::Command;

use perconn::{Session, Sessions};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Config, NoTls};

use crate::servers::{RealServer, program};
use crate::support::soon;
use crate::through_kills::{AnyError, Client, QUESTIONS, on_one_and_two_threads, through_kills};

const USER: &str = "perconn";
const PASSWORD: &str = "secret";

struct Postgres {
    client: tokio_postgres::Client,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Client for Postgres {
    type Config = Config;

    async fn connect(config: &Config, sessions: &mut Sessions) -> Result<Self, AnyError> {
        let (client, connection) = config.connect_raw(sessions.next().await?, NoTls).await?;
        let connection: tokio_postgres::Connection<Session, NoTlsStream> = connection;
        let connection = tokio::spawn(connection);
        client.batch_execute("CREATE TABLE IF NOT EXISTS asked (number int PRIMARY KEY)").await?;
        Ok(Self { client, connection })
    }

    fn is_not_ready(error: &AnyError) -> bool {
        error.downcast_ref().and_then(tokio_postgres::Error::code) == Some(&SqlState::CANNOT_CONNECT_NOW)
    }

    /// May be asked twice, if the answer was lost: the second time changes nothing.
    async fn ask(&mut self, number: u32) -> Result<(), AnyError> {
        let number = i32::try_from(number)?;
        self.client.execute("INSERT INTO asked VALUES ($1) ON CONFLICT DO NOTHING", &[&number]).await?;
        let row =
            self.client.query_one("SELECT max(number), count(*) FROM asked WHERE number <= $1", &[&number]).await?;
        assert_eq!((row.get::<_, i32>(0), row.get::<_, i64>(1)), (number, i64::from(number) + 1));
        Ok(())
    }

    async fn ask_for_long(&mut self, kill: impl FnOnce()) -> Result<(), AnyError> {
        let question = self.client.batch_execute("SELECT pg_sleep(100)");
        let kill = async {
            tokio::task::yield_now().await;
            kill();
        };
        Ok(tokio::join!(question, kill).0?)
    }

    async fn ended(self) {
        println!("the connection's task: {:?}", self.connection.await.unwrap());
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.user(USER).password(PASSWORD).dbname("postgres");
    config
}

/// A server with a new cluster of its own.
fn server() -> Option<RealServer> {
    let mut versions: Vec<_> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort();
    let bin = versions.pop().unwrap_or_default().join("bin");
    let postgres = program("postgres", "postgres", &[&bin.to_string_lossy()])?;
    let initdb = postgres.with_file_name("initdb");
    let is_root = rustix::process::geteuid().is_root();
    Some(RealServer::start("postgres", |folder, port| {
        // PostgreSQL refuses to run as root.
        let command = move |program: &Path| {
            if !is_root {
                return Command::new(program);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        };
        let (data, password) = (folder.join("data"), folder.join("password"));
        fs::write(&password, PASSWORD).unwrap();
        if is_root {
            let chown = Command::new("chown").args(["-R", "postgres"]).arg(folder).status().unwrap();
            assert!(chown.success());
        }
        let made = command(&initdb)
            .args(["--no-sync", "--no-locale", "--auth=scram-sha-256", "-E", "UTF8", "-U", USER])
            .arg("--pwfile")
            .arg(password)
            .arg(&data)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let folder = folder.to_owned();
        move || {
            let mut command = command(&postgres);
            command.args(["-h", "127.0.0.1", "-F", "-p", &port.to_string(), "-k"]).arg(&folder).arg("-D").arg(&data);
            command.current_dir(&folder);
            command
        }
    }))
}

#[test]
fn queries_are_answered_through_kills_of_postgres() {
    let Some(server) = server() else { return };
    on_one_and_two_threads(async || {
        for error in through_kills::<Postgres>(&config(), &server).await {
            let error = error.downcast_ref::<tokio_postgres::Error>().expect("an error of tokio-postgres");
            assert!(error.is_closed(), "{error:?}");
        }
        let mut sessions = server.sessions();
        let client = soon("connect", Postgres::connect(&config(), &mut sessions)).await.unwrap();
        let row = client.client.query_one("SELECT count(*) FROM asked", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), i64::from(QUESTIONS));
        client.client.batch_execute("DROP TABLE asked").await.unwrap();
        // A client that is dropped says goodbye; the connection is there for another.
        let Postgres { client, connection } = client;
        drop(client);
        soon("the goodbye", connection).await.unwrap().unwrap();
        soon("connect", Postgres::connect(&config(), &mut sessions)).await.unwrap();
    });
}

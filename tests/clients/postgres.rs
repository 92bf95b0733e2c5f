//! `tokio-postgres`, against PostgreSQL.

use perconn::{Session, Sessions};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Config, NoTls};

use crate::postgres_server::Postgres as Server;
use crate::support::in_time;
use crate::through_kills::{AnyError, Client, QUESTIONS, on_one_and_two_threads, through_kills};

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

#[test]
fn queries_are_answered_through_kills_of_postgres() {
    let Some(postgres) = Server::start("tokio-postgres") else { return };
    let (server, config) = (&postgres.server, postgres.config());
    on_one_and_two_threads(async || {
        for error in through_kills::<Postgres>(&config, server).await {
            let error = error.downcast_ref::<tokio_postgres::Error>().expect("an error of tokio-postgres");
            assert!(error.is_closed(), "{error:?}");
        }
        let mut sessions = server.sessions();
        let client = in_time("connect", Postgres::connect(&config, &mut sessions)).await.unwrap();
        let row = client.client.query_one("SELECT count(*) FROM asked", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), i64::from(QUESTIONS));
        client.client.batch_execute("DROP TABLE asked").await.unwrap();
        // A client that is dropped says goodbye; the connection is there for another.
        let Postgres { client, connection } = client;
        drop(client);
        in_time("the goodbye", connection).await.unwrap().unwrap();
        in_time("connect", Postgres::connect(&config, &mut sessions)).await.unwrap();
    });
}

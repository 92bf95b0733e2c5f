//! A client of a test's server, without reconnection: it writes notifications, and ends the sessions of others.
//!
//! Next: the [parent module](super), the server.

use std::error::Error;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

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
async fn tcp(config: &Config) -> io::Result<TcpStream> {
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

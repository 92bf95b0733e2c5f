//! A real PgBouncer in front of a test's server: on a free loopback port, as an unprivileged user, for any client that names a
//! user. Dropping it stops it.
//!
//! Next: `poolers`, the tests with it.

use std::fs;

use tokio_postgres::Config;

use crate::real_server::{RealServer, program};
use crate::server::{DATABASE, PASSWORD, Postgres, USER, give_away, unprivileged};

pub struct PgBouncer {
    pub server: RealServer,
}

impl PgBouncer {
    /// Starts it with this `pool_mode` and further lines of the section `pgbouncer`. `None`, after printing a line, if it is not
    /// installed.
    pub fn start(test: &str, postgres: &Postgres, pool_mode: &str, more: &str) -> Option<Self> {
        let program = program(&format!("postgres: {test}"), "pgbouncer", &["/usr/sbin"])?;
        let (host, port) = (postgres.address.ip(), postgres.address.port());
        let server = RealServer::start("pgbouncer", |folder, own_port| {
            // Any client may come in. What the server gets is the user and the password of this line.
            let config = format!(
                "[databases]\n* = host={host} port={port} dbname={DATABASE} user={USER} password={PASSWORD}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own_port}\nauth_type = any\nunix_socket_dir =\n\
                 pool_mode = {pool_mode}\nserver_login_retry = 0.2\nignore_startup_parameters = extra_float_digits\n{more}\n"
            );
            let file = folder.join("pgbouncer.ini");
            fs::write(&file, config).unwrap();
            give_away(folder);
            let folder = folder.to_owned();
            move || {
                let mut command = unprivileged(&program);
                command.arg(&file).current_dir(&folder);
                command
            }
        });
        Some(Self { server })
    }

    /// The configuration of a client.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(self.server.address.ip().to_string()).port(self.server.address.port());
        config.user(USER).dbname(DATABASE);
        config
    }
}

//! The servers of these tests, and the connections to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use perconn::{Conn, Sessions};

pub use crate::real_server::RealServer;
use crate::support::quick;

impl RealServer {
    /// A connection with delays fit for a test, to be lent to clients.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(quick(Conn::builder(self.address)).build().unwrap())
    }
}

/// The path of a program, or a line that says that the test is skipped.
pub fn program(test: &str, name: &str, folders: &[&str]) -> Option<PathBuf> {
    crate::real_server::program(&format!("clients: {test}"), name, folders)
}

/// What nginx serves beside the answers to `/answer?n=`: a file that takes a while, as it is sent at a limited rate.
pub const SLOW_FILE: usize = 300_000;

/// The byte at a place in that file.
pub fn slow_byte(place: usize) -> u8 {
    (place % 251) as u8
}

/// nginx; `listen` is what follows the address in its directive, `more` belongs into the `server` block.
pub fn nginx(test: &str, listen: &str, more: impl FnOnce(&Path) -> String) -> Option<RealServer> {
    let program = program(test, "nginx", &["/usr/sbin"])?;
    Some(RealServer::start("nginx", |folder, port| {
        let slow: Vec<u8> = (0..SLOW_FILE).map(slow_byte).collect();
        fs::write(folder.join("slow"), slow).unwrap();
        let (root, more) = (folder.display(), more(folder));
        // One process, so that a kill leaves no worker behind.
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;
            events {{ worker_connections 64; }}
            http {{
                access_log off; keepalive_requests 1000000;
                client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
                uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
                server {{
                    listen 127.0.0.1:{port} {listen}; root {root}; {more}
                    location /answer {{ return 200 \"answer $arg_n\"; }}
                    location /slow {{ limit_rate 600k; }}
                }}
            }}"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&program);
            command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
            command
        }
    }))
}

//! The servers of these tests, and the connections to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use perconn::{Conn, Sessions};

pub use crate::real_server::RealServer;
use crate::support::quick;

impl RealServer {
    /// Sessions of a connection with short delays.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(quick(Conn::builder(self.address)).build().unwrap())
    }
}

/// The path of a program. `None`, and a line `skipped: ...`, if it is not installed.
pub fn program(test: &str, name: &str, folders: &[&str]) -> Option<PathBuf> {
    crate::real_server::program(&format!("clients: {test}"), name, folders)
}

/// The size of the file that nginx serves at a limited rate, beside the answers to `/answer?n=`.
pub const SLOW_FILE: usize = 300_000;

/// The byte at an index of that file.
pub fn slow_byte(index: usize) -> u8 {
    (index % 251) as u8
}

/// Starts nginx. `listen` follows the address in its directive, and `more` goes into the `server` block.
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

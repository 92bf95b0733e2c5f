//! Three machines in a row, made of network namespaces: client, router, server.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

/// The client's side is 192.0.2.0/24 and 2001:db8:1::/64, the server's 198.51.100.0/24 and 2001:db8:2::/64.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

/// The name of the server, with both of its addresses.
pub const SERVER_NAME: &str = "server.test";

const PREFIX: &str = "perconn-";

/// The namespaces' names.
#[derive(Clone)]
pub struct Names {
    pub lab: String,
    pub client: String,
    pub router: String,
    pub server: String,
}

impl Names {
    pub fn new(lab: &str) -> Self {
        let name = |machine| format!("{lab}-{machine}");
        Self { lab: lab.to_owned(), client: name("client"), router: name("router"), server: name("server") }
    }

    fn each(&self) -> [&str; 3] {
        [&self.client, &self.router, &self.server]
    }
}

/// The machines and their links. The drop removes them.
pub struct Lab {
    pub names: Names,
}

impl Lab {
    /// Builds a lab.
    ///
    /// # Errors
    ///
    /// The reason why this machine cannot have a lab. Any other failure is a panic.
    pub fn build() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { names: Names::new(&format!("{PREFIX}{}-{number}", std::process::id())) };
        lab.add_machines().map_err(reason_to_skip)?;
        remove_abandoned_labs();
        lab.join();
        lab.write_name_files();
        Ok(lab)
    }

    /// Does everything that needs a privilege: makes namespaces, mounts a /sys, sets up interfaces and writes to /proc.
    fn add_machines(&self) -> io::Result<()> {
        for name in self.names.each() {
            ip(&format!("netns add {name}"))?;
            ip(&format!("netns exec {name} true"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        let forward = "cd /proc/sys/net && echo 1 >ipv4/ip_forward && echo 1 >ipv6/conf/all/forwarding";
        run(Command::new("ip").args(["netns", "exec", &self.names.router, "sh", "-c", forward]))
    }

    fn join(&self) {
        let Names { client, router, server, .. } = &self.names;
        batch(
            router,
            &format!(
                "link add client type veth peer name router netns {client}
                 link add server type veth peer name router netns {server}
                 addr add 192.0.2.1/24 dev client
                 addr add 2001:db8:1::1/64 dev client nodad
                 addr add 198.51.100.1/24 dev server
                 addr add 2001:db8:2::1/64 dev server nodad
                 link set client up
                 link set server up"
            ),
        );
        for (name, v4, v6) in [(client, "192.0.2", "2001:db8:1"), (server, "198.51.100", "2001:db8:2")] {
            batch(
                name,
                &format!(
                    "addr add {v4}.2/24 dev router
                     addr add {v6}::2/64 dev router nodad
                     link set router up
                     route add 0.0.0.0/0 via {v4}.1
                     route add ::/0 via {v6}::1"
                ),
            );
        }
    }

    /// Inside `ip netns exec`, the files of this folder replace those in /etc.
    fn write_name_files(&self) {
        let folder = Path::new("/etc/netns").join(&self.names.client);
        fs::create_dir_all(&folder).unwrap();
        let hosts = format!("127.0.0.1 localhost\n{SERVER_V6} {SERVER_NAME}\n{SERVER} {SERVER_NAME}\n");
        fs::write(folder.join("hosts"), hosts).unwrap();
        // The server does not answer DNS. In a partition, a name that is not in the file above is a query without an end.
        fs::write(folder.join("resolv.conf"), format!("nameserver {SERVER}\n")).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.names);
    }
}

/// Removes the namespaces, and kills the lab's processes that are left in them.
fn remove(names: &Names) {
    for name in names.each() {
        let pids = Command::new("ip").args(["netns", "pids", name]).output().map(|output| output.stdout);
        for pid in String::from_utf8_lossy(&pids.unwrap_or_default()).split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
        let _ = ip(&format!("netns delete {name}"));
        let _ = fs::remove_dir_all(Path::new("/etc/netns").join(name));
    }
}

/// Removes labs whose process was killed before it could remove them.
fn remove_abandoned_labs() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((lab, _)) = name.rsplit_once('-') else { continue };
        let pid = lab.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&Names::new(lab));
        }
    }
}

/// Runs `ip` with these arguments.
pub fn ip(words: &str) -> io::Result<()> {
    run(Command::new("ip").args(words.split_whitespace()))
}

/// Runs a command. The error has what it wrote to stderr.
fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}", stderr.trim())))
}

fn batch(namespace: &str, lines: &str) {
    for line in lines.lines() {
        ip(&format!("-n {namespace} {}", line.trim())).unwrap();
    }
}

fn reason_to_skip(error: io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "there is no `ip` command".into();
    }
    let text = error.to_string();
    // The last two are from a kernel without namespaces, and from a container with a read-only file system.
    let refusals = ["Permission denied", "not permitted", "Invalid argument", "Read-only file system"];
    assert!(refusals.iter().any(|refusal| text.contains(refusal)), "{text}");
    text.replace('\n', "; ")
}

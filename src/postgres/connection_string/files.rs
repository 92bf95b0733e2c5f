//! Services and passwords in files, as libpq has them.
//!
//! Next: [`understand`](super::understand), which asks for them.

use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::Variables;

/// The settings of a service: in `PGSERVICEFILE`, in `~/.pg_service.conf`, or in `pg_service.conf` of `PGSYSCONFDIR`.
pub(super) fn service(name: &str, variables: Variables<'_>) -> Result<Vec<(String, String)>, String> {
    let folder = variables("PGSYSCONFDIR").map(PathBuf::from);
    let own = variables("PGSERVICEFILE").map(PathBuf::from).or_else(|| Some(home(variables)?.join(".pg_service.conf")));
    let files = own.into_iter().chain(folder.map(|folder| folder.join("pg_service.conf")));
    let mut looked = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(pairs) = section(&text, name) {
            return pairs
                .map_err(|line| format!("service {name}: {}: expected key=value, not {line:?}", file.display()));
        }
        looked.push(file.display().to_string());
    }
    Err(format!("service={name}: there is no such service in {}", looked.join(" or ")))
}

/// The pairs of a section, or the first line that is none. `None` without such a section.
fn section(text: &str, name: &str) -> Option<Result<Vec<(String, String)>, String>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) == Some(name))?;
    let lines =
        lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').ok_or_else(|| line.to_owned())?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    Some(lines.map(pair).collect())
}

/// The password of the first host that has one in the password file: `passfile`, or `~/.pgpass`. As libpq, it ignores a file
/// that others may read, and one that is not there.
pub(super) fn password(config: &Config, passfile: Option<String>, variables: Variables<'_>) -> Option<String> {
    let file = passfile.map(PathBuf::from).or_else(|| Some(home(variables)?.join(".pgpass")))?;
    if is_open_to_others(&file) {
        log::warn!(target: "perconn", "{}: it is ignored, as others may read it; expected the mode 0600", file.display());
        return None;
    }
    let text = std::fs::read_to_string(&file).ok()?;
    let user = config.get_user().map(str::to_owned).or_else(|| variables("USER"))?;
    let database = config.get_dbname().unwrap_or(&user);
    let count = config.get_hosts().len().max(1);
    (0..count).find_map(|index| {
        let host = match config.get_hosts().get(index) {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(_)) => "localhost".to_owned(),
            None => config.get_hostaddrs().get(index)?.to_string(),
        };
        let port = config.get_ports().get(index).or_else(|| config.get_ports().first()).copied().unwrap_or(5432);
        find(&text, [&host, &port.to_string(), database, &user])
    })
}

/// The password of the first line that matches: `host:port:database:user:password`, where `*` is anything.
fn find(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = fields(line);
        let is_it = wanted.iter().all(|wanted| fields.next().is_some_and(|field| field == "*" || field == *wanted));
        is_it.then(|| fields.next()).flatten()
    })
}

/// The fields of a line. A backslash takes the next letter as it is.
fn fields(line: &str) -> impl Iterator<Item = String> {
    let mut letters = line.chars().peekable();
    std::iter::from_fn(move || {
        letters.peek()?;
        let mut field = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => field.extend(letters.next()),
                ':' => break,
                letter => field.push(letter),
            }
        }
        Some(field)
    })
}

/// The folder of the user.
fn home(variables: Variables<'_>) -> Option<PathBuf> {
    let name = if cfg!(windows) { "APPDATA" } else { "HOME" };
    variables(name).filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Whether somebody other than the owner may read a file.
fn is_open_to_others(file: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

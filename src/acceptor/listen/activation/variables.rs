//! What a service manager says in the environment (sd_listen_fds(3)). No I/O, and nothing of this crate: the fuzz target
//! `activation` includes this file.
//!
//! Next: [`super::listeners`], which takes the descriptors.

use std::ffi::OsString;

/// The highest number to accept in either variable: Linux has no higher process ID (`PID_MAX_LIMIT`), and no process
/// has more descriptors to pass on.
const MAX_NUMBER: u32 = 1 << 22;

/// The names of the descriptors that the variables pass on to the process `own`; at least one. The error says what is wrong.
pub(super) fn names(own: u32, variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Option<String>>, String> {
    let (pid, count) = (number("LISTEN_PID", &variable)?, number("LISTEN_FDS", &variable)?);
    if pid != own {
        return Err(format!("LISTEN_PID {pid}: expected {own}, this process"));
    }
    if count == 0 {
        return Err("LISTEN_FDS 0: expected at least 1 socket".into());
    }
    let count = count as usize;
    let Some(value) = variable("LISTEN_FDNAMES") else { return Ok(vec![None; count]) };
    let names: Option<Vec<_>> = value.to_str().map(|value| value.split(':').collect());
    match names.filter(|names| names.len() == count) {
        // systemd calls a socket that has no name "unknown".
        Some(names) => Ok(names
            .into_iter()
            .map(|name| Some(name.to_owned()).filter(|name| !matches!(&name[..], "" | "unknown")))
            .collect()),
        None => Err(format!(
            "LISTEN_FDNAMES {value:?}: expected {count} names, one for each descriptor, separated by colons"
        )),
    }
}

/// A variable that has a number.
fn number(name: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<u32, String> {
    let value = variable(name).ok_or_else(|| format!("{name} is not set: expected it from a service manager"))?;
    let number = value.to_str().and_then(|value| value.parse().ok()).filter(|number| *number <= MAX_NUMBER);
    number.ok_or_else(|| format!("{name} {value:?}: expected a number"))
}

//! Any variables of a service manager: one name for each descriptor, or an error that names a variable.
//!
//! A process has only one environment, so the rules are taken from the source, with an environment of their own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

#[path = "../../src/acceptor/listen/activation/variables.rs"]
mod variables;

/// The process that the variables should be for.
const OWN: u32 = 4711;

/// The lines are `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`. One that is missing is not set.
pub(crate) fn check(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| OsStr::from_bytes(line).to_owned());
    let [pid, count, names] = [lines.next(), lines.next(), lines.next()];
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "LISTEN_PID" => pid.clone(),
            "LISTEN_FDS" => count.clone(),
            "LISTEN_FDNAMES" => names.clone(),
            other => panic!("{other}"),
        }
    };
    let number = |value: &Option<OsString>| value.as_ref().and_then(|value| value.to_str()?.parse::<usize>().ok());
    match variables::names(OWN, variable) {
        Ok(found) => {
            assert_eq!(number(&pid), Some(OWN as usize));
            assert!(!found.is_empty() && number(&count) == Some(found.len()));
            let given = names.map(|names| names.into_string().expect("names are text"));
            for (name, given) in found.iter().zip(given.iter().flat_map(|names| names.split(':'))) {
                assert!(name.as_deref().map_or(matches!(given, "" | "unknown"), |name| name == given));
            }
        }
        Err(error) => assert!(error.starts_with("LISTEN_"), "{error}"),
    }
}

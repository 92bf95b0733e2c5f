//! Connection strings as libpq understands them, with the PG* variables, services and password files. No I/O but for the files.
//!
//! What tokio-postgres understands goes to it unchanged; the rest is dealt with here, or refused with what to write instead.
//!
//! Next: [`ServerConfig`](super::ServerConfig), which has the table of what is understood.

use std::error::Error as _;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding;

use self::pairs::{Pairs, split};

mod files;
mod pairs;

/// The environment of a connection string: variables by name.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A configuration, and what it says that tokio-postgres has no setting for.
#[derive(Clone, Debug, Default)]
pub(super) struct Understood {
    /// What tokio-postgres has settings for.
    pub(super) config: Config,
    /// `target_session_attrs=primary`.
    pub(super) needs_primary: bool,
    /// What is said about certificates.
    pub(super) certificates: Certificates,
}

/// What a connection string says about certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    /// The setting that asks for a verified server: `sslmode=verify-full` and the like.
    pub(super) wanted_by: Option<String>,
    /// `sslrootcert`, unless it is `system`.
    pub(super) root: Option<PathBuf>,
    /// `sslcert` and `sslkey`.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Settings and the variables that give them if nothing else does.
const VARIABLES: [(&str, &str); 19] = [
    ("service", "PGSERVICE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
];

/// Understands a connection string. The error names what is wrong, and never contains the text itself: there may be a password
/// in it.
pub(super) fn understand(text: &str, variables: Variables<'_>) -> Result<Understood, String> {
    let (url, mut pairs) = split(text)?;
    let in_url = match &url {
        Some(url) => parse(url)?,
        None => Config::new(),
    };
    let is_given = |pairs: &Pairs, key: &str| pairs.has(key) || is_in(&in_url, key);
    if let Some(service) = pairs.take("service").or_else(|| variables("PGSERVICE").filter(|name| !name.is_empty())) {
        for (key, value) in files::service(&service, variables)? {
            if !is_given(&pairs, &key) {
                pairs.push(&key, &value);
            }
        }
    }
    for (key, variable) in VARIABLES.iter().skip(1) {
        // A host and an address belong together.
        let is_host = matches!(*key, "host" | "hostaddr");
        let is_known =
            if is_host { is_given(&pairs, "host") || is_given(&pairs, "hostaddr") } else { is_given(&pairs, key) };
        if let Some(value) = variables(variable).filter(|value| !value.is_empty() && !is_known) {
            pairs.push(key, &value);
        }
    }
    let mut understood = Understood::default();
    let passfile = pairs.take("passfile");
    understood.take_session(&mut pairs)?;
    understood.take_certificates(&mut pairs)?;
    refuse_foreign(&pairs)?;
    understood.config = match url {
        Some(url) => parse(&pairs.appended_to(&url))?,
        None => parse(&pairs.to_string())?,
    };
    if understood.config.get_channel_binding() == ChannelBinding::Require {
        // There is nothing to bind to without TLS.
        understood.certificates.wanted_by.get_or_insert_with(|| "channel_binding=require".into());
    }
    if understood.config.get_password().is_none() {
        if let Some(password) = files::password(&understood.config, passfile, variables) {
            understood.config.password(password);
        }
    }
    Ok(understood)
}

/// Parses what tokio-postgres understands.
fn parse(text: &str) -> Result<Config, String> {
    text.parse().map_err(|error: tokio_postgres::Error| {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        format!("connection string: {reason}; expected \"postgres://user@host/database\" or \"host=... user=...\"")
    })
}

/// Whether the part of a URL before its parameters has this setting.
fn is_in(config: &Config, key: &str) -> bool {
    match key {
        "user" => config.get_user().is_some(),
        "password" => config.get_password().is_some(),
        "dbname" => config.get_dbname().is_some(),
        "host" => !config.get_hosts().is_empty(),
        // Each host of a URL has one, 5432 unless it says another.
        "port" => !config.get_ports().is_empty(),
        _ => false,
    }
}

impl Understood {
    /// Takes what is said about the session.
    fn take_session(&mut self, pairs: &mut Pairs) -> Result<(), String> {
        pairs.change("target_session_attrs", |value| match value {
            "primary" => {
                self.needs_primary = true;
                Ok("any".into())
            }
            // A listener needs a server that can listen, and a standby cannot: the order of the hosts stays.
            "prefer-standby" => Ok("any".into()),
            "standby" => {
                Err("target_session_attrs=standby: a standby refuses LISTEN; write primary, read-write or any".into())
            }
            other => Ok(other.into()),
        })?;
        // The name in libpq, and the one in tokio-postgres.
        pairs.rename("keepalives_count", "keepalives_retries");
        if let Some(name) = pairs.take("fallback_application_name") {
            if !pairs.has("application_name") {
                pairs.push("application_name", &name);
            }
        }
        match pairs.take("client_encoding").as_deref() {
            None | Some("auto" | "UTF8" | "utf8" | "UTF-8" | "utf-8" | "unicode" | "UNICODE") => Ok(()),
            Some(other) => Err(format!("client_encoding={other}: expected UTF8, which a listener always uses")),
        }
    }

    /// Takes what is said about TLS.
    fn take_certificates(&mut self, pairs: &mut Pairs) -> Result<(), String> {
        let certificates = &mut self.certificates;
        pairs.change("sslmode", |value| match value {
            // The server is verified in every mode, and there is no TLS without settings for it.
            "allow" => Ok("prefer".into()),
            "verify-ca" | "verify-full" => {
                certificates.wanted_by = Some(format!("sslmode={value}"));
                Ok("require".into())
            }
            other => Ok(other.into()),
        })?;
        if let Some(root) = pairs.take("sslrootcert") {
            certificates.wanted_by.get_or_insert_with(|| format!("sslrootcert={root}"));
            if root != "system" {
                certificates.root = Some(root.into());
            } else if !pairs.has("sslmode") {
                // As libpq has it: nothing less goes with the roots of the system.
                pairs.push("sslmode", "require");
            }
        }
        match (pairs.take("sslcert"), pairs.take("sslkey")) {
            (Some(certificate), Some(key)) => {
                certificates.wanted_by.get_or_insert_with(|| format!("sslcert={certificate}"));
                certificates.client = Some((certificate.into(), key.into()));
            }
            (None, None) => {}
            _ => return Err("sslcert and sslkey: expected both of them, or none".into()),
        }
        match pairs.take("gssencmode").as_deref() {
            None | Some("disable" | "prefer") => {}
            Some(other) => return Err(format!("gssencmode={other}: expected disable; write sslmode=require for TLS")),
        }
        // They change nothing here.
        for key in ["sslcompression", "sslsni", "krbsrvname", "gsslib", "gssdelegation", "sslcertmode"] {
            pairs.take(key);
        }
        Ok(())
    }
}

/// Settings of other clients and of poolers that people have in their strings, and what to write instead.
const FOREIGN: [(&str, &str); 22] = [
    ("ssl", "write sslmode=require or sslmode=verify-full"),
    ("sslpassword", "a key in a file without a password"),
    ("sslcrl", "leave it out; certificates are not checked for revocation"),
    ("sslcrldir", "leave it out; certificates are not checked for revocation"),
    ("ssl_min_protocol_version", "leave it out; it is TLS 1.2 at least"),
    ("ssl_max_protocol_version", "leave it out, or give ListenerBuilder::tls a configuration of rustls"),
    ("requirepeer", "leave it out, or check the peer in a ListenerBuilder::dialer"),
    ("requiressl", "write sslmode=require"),
    ("require_auth", "leave it out"),
    ("replication", "leave it out; a session for replication cannot listen"),
    ("service_file", "write PGSERVICEFILE in the environment"),
    ("schema", "write options=-c search_path=..."),
    ("search_path", "write options=-c search_path=..."),
    ("timezone", "write options=-c timezone=..."),
    ("statement_timeout", "write options=-c statement_timeout=..."),
    ("pgbouncer", "leave it out; connect to a pool in session mode, or to the server itself"),
    ("pool_timeout", "leave it out; a listener has one connection"),
    ("connection_limit", "leave it out; a listener has one connection"),
    ("pool_max_conns", "leave it out; a listener has one connection"),
    ("statement_cache_capacity", "leave it out; a listener prepares no statements"),
    ("binary_parameters", "leave it out; a listener prepares no statements"),
    ("socket_timeout", "write connect_timeout, or set ListenerBuilder::ping_timeout"),
];

/// Refuses settings of other clients by name.
fn refuse_foreign(pairs: &Pairs) -> Result<(), String> {
    match FOREIGN.iter().find(|(key, _)| pairs.has(key)) {
        Some((key, instead)) => Err(format!("connection string: {key}: {instead}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::*;

/// Understands a text without any variables.
fn alone(text: &str) -> Result<Understood, String> {
    understand(text, &|_| None)
}

/// Understands a text with these variables.
fn with(text: &str, variables: &[(&str, &str)]) -> Result<Understood, String> {
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    understand(text, &|name| variables.get(name).cloned())
}

fn hosts(config: &Config) -> Vec<String> {
    let name = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    };
    config.get_hosts().iter().map(name).collect()
}

#[test]
fn what_tokio_postgres_understands_is_understood_as_before() {
    for text in [
        "postgres://u:p%40%3F@h:5433/db",
        "postgresql://u@a:1,b:2/db?connect_timeout=3&options=-c%20geqo%3Doff",
        "postgres://%2Frun%2Fpostgresql/db?user=u&password=p",
        "postgres:///db?host=h&application_name=a%20b",
        "host=h port=5433 user=u password=p dbname=db",
        "host = a,b user='it\\'s me' password='' keepalives=0 target_session_attrs=read-write",
        r"host=h user=u password=a\ b\\c",
        "host=h password=a'b user=u",
        "host=/run/postgresql user=u sslmode=disable load_balance_hosts=random",
        "user=u",
        "",
    ] {
        assert_eq!(alone(text).unwrap().config, text.parse::<Config>().unwrap(), "{text}");
    }
}

#[test]
fn settings_of_libpq_that_tokio_postgres_lacks_are_understood() {
    for (text, mode, wanted_by) in [
        ("sslmode=allow", SslMode::Prefer, None),
        ("sslmode=verify-ca", SslMode::Require, Some("sslmode=verify-ca")),
        ("sslmode=verify-full", SslMode::Require, Some("sslmode=verify-full")),
        ("sslrootcert=system", SslMode::Require, Some("sslrootcert=system")),
        ("sslrootcert=ca.pem", SslMode::Prefer, Some("sslrootcert=ca.pem")),
        ("sslmode=verify-full&sslrootcert=ca.pem", SslMode::Require, Some("sslmode=verify-full")),
        ("sslcert=c.pem&sslkey=k.pem", SslMode::Prefer, Some("sslcert=c.pem")),
        ("channel_binding=require", SslMode::Prefer, Some("channel_binding=require")),
        ("channel_binding=prefer", SslMode::Prefer, None),
    ] {
        let understood = alone(&format!("postgres://u@h/db?{text}")).unwrap();
        assert_eq!(understood.config.get_ssl_mode(), mode, "{text}");
        assert_eq!(understood.certificates.wanted_by.as_deref(), wanted_by);
        assert_eq!(understood.certificates.root.is_some(), text.contains("ca.pem"));
        assert_eq!(understood.certificates.client.is_some(), text.contains("c.pem"));
        // The other form says the same.
        let pairs = alone(&format!("user=u host=h dbname=db {}", text.replace('&', " "))).unwrap();
        assert_eq!((pairs.config.get_ssl_mode(), &pairs.certificates), (mode, &understood.certificates));
    }
    for (value, attributes, needs_primary) in [
        ("any", TargetSessionAttrs::Any, false),
        ("prefer-standby", TargetSessionAttrs::Any, false),
        ("primary", TargetSessionAttrs::Any, true),
        ("read-write", TargetSessionAttrs::ReadWrite, false),
        ("read-only", TargetSessionAttrs::ReadOnly, false),
    ] {
        let understood = alone(&format!("host=h target_session_attrs={value}")).unwrap();
        assert_eq!(understood.config.get_target_session_attrs(), attributes);
        assert_eq!(understood.needs_primary, needs_primary, "{value}");
    }
    let text = "host=h keepalives_count=3 client_encoding=auto gssencmode=prefer krbsrvname=postgres sslsni=1 \
        fallback_application_name=app";
    let config = alone(text).unwrap().config;
    assert_eq!((config.get_keepalives_retries(), config.get_application_name()), (Some(3), Some("app")));
}

#[test]
fn what_is_not_understood_is_named_with_what_to_write_instead() {
    for (text, expected) in [
        ("host=h ssl=true", "ssl: write sslmode=require"),
        ("postgres://u:hidden@h/db?pgbouncer=true", "pgbouncer: leave it out; connect to a pool in session mode"),
        ("postgres://u:hidden@h/db?search_path=a", "search_path: write options=-c search_path=..."),
        ("host=h target_session_attrs=standby", "a standby refuses LISTEN; write primary"),
        ("host=h sslcert=a", "sslcert and sslkey: expected both"),
        ("host=h client_encoding=LATIN1", "client_encoding=LATIN1: expected UTF8"),
        ("host=h gssencmode=require", "gssencmode=require: expected disable"),
        ("host=h colour=red", "unknown option `colour`"),
        ("host=h sslmode=maybe", "invalid value for option `sslmode`"),
        ("hidden", "expected \"postgres://"),
        ("host=h password='hidden", "has no end"),
        ("postgres://u:hidden@h/db?user=%zz", "hexadecimal"),
        ("service=nothing", "service=nothing: there is no such service in "),
    ] {
        let error = alone(text).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hidden"), "{text}: {error}");
    }
}

#[test]
fn variables_give_what_the_text_does_not() {
    let all = [
        ("PGHOST", "vh"),
        ("PGPORT", "7"),
        ("PGUSER", "vu"),
        ("PGPASSWORD", "vp"),
        ("PGDATABASE", "vd"),
        ("PGSSLMODE", "verify-full"),
        ("PGAPPNAME", "va"),
        ("PGCONNECT_TIMEOUT", ""),
    ];
    for text in ["", "postgres://"] {
        let understood = with(text, &all).unwrap();
        let config = &understood.config;
        assert_eq!((hosts(config), config.get_ports()), (vec!["vh".to_owned()], &[7][..]), "{text}");
        assert_eq!((config.get_user(), config.get_dbname()), (Some("vu"), Some("vd")));
        assert_eq!((config.get_password(), config.get_application_name()), (Some(&b"vp"[..]), Some("va")));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.get_connect_timeout(), None);
    }
    for text in ["postgres://u:p@h:5/d?sslmode=disable", "host=h port=5 user=u password=p dbname=d sslmode=disable"] {
        let config = with(text, &all).unwrap().config;
        assert_eq!((hosts(&config), config.get_ports()), (vec!["h".to_owned()], &[5][..]), "{text}");
        assert_eq!((config.get_user(), config.get_password()), (Some("u"), Some(&b"p"[..])));
        assert_eq!((config.get_dbname(), config.get_ssl_mode()), (Some("d"), SslMode::Disable));
    }
    // An address in the text is not combined with a host of the environment.
    assert!(hosts(&with("hostaddr=127.0.0.1", &all).unwrap().config).is_empty());
}

#[test]
fn services_and_passwords_are_read_from_files() {
    let folder = std::env::temp_dir().join(format!("perconn-strings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (services, passwords) = (folder.join("services"), folder.join("passwords"));
    std::fs::write(&services, "[other]\nhost=o\n\n[mine]\n# a comment\nhost = s\nuser=su\nport=9\n[last]\nno pair\n")
        .unwrap();
    std::fs::write(&passwords, "# host:port\no:*:*:*:no\ns:9:sd:su:a\\:b\\\\c\n*:*:*:su:any\n").unwrap();
    let variables =
        [("PGSERVICEFILE", services.to_str().unwrap()), ("PGPASSFILE", passwords.to_str().unwrap()), ("PGUSER", "vu")];
    let set_mode = |mode: u32| {
        #[cfg(unix)]
        std::fs::set_permissions(&passwords, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        #[cfg(not(unix))]
        let _ = mode;
    };
    set_mode(0o600);
    for text in ["service=mine dbname=sd", "postgres:///sd?service=mine"] {
        let config = with(text, &variables).unwrap().config;
        assert_eq!((hosts(&config), config.get_ports(), config.get_user()), (vec!["s".into()], &[9][..], Some("su")));
        assert_eq!(config.get_password(), Some(&b"a:b\\c"[..]), "{text}");
    }
    // The text comes first, then the service, then the variables.
    let config = with("service=mine dbname=sd host=t", &variables).unwrap().config;
    assert_eq!((hosts(&config), config.get_password()), (vec!["t".to_owned()], Some(&b"any"[..])));
    // Without variables of their own, they are in the home of the user.
    std::fs::copy(&services, folder.join(".pg_service.conf")).unwrap();
    std::fs::copy(&passwords, folder.join(".pgpass")).unwrap();
    let home = [(if cfg!(windows) { "APPDATA" } else { "HOME" }, folder.to_str().unwrap())];
    let config = with("service=mine dbname=sd", &home).unwrap().config;
    assert_eq!((hosts(&config), config.get_password()), (vec!["s".to_owned()], Some(&b"a:b\\c"[..])));
    // A variable may name the service, or none.
    for (service, expected) in [("mine", &["s".to_owned()][..]), ("", &[])] {
        let variables = [variables[0], ("PGSERVICE", service)];
        assert_eq!(hosts(&with("user=u", &variables).unwrap().config), expected, "{service}");
    }
    // In this form, a backslash of a path on Windows has to be escaped.
    let passfile = passwords.display().to_string().replace('\\', r"\\");
    let named = with(&format!("host=o user=u passfile={passfile}"), &[]).unwrap().config;
    assert_eq!(named.get_password(), Some(&b"no"[..]));
    assert_eq!(with("host=x", &variables).unwrap().config.get_password(), None);
    assert!(with("service=last", &variables).unwrap_err().contains("expected key=value"));
    if cfg!(unix) {
        set_mode(0o644);
        assert_eq!(with("service=mine dbname=sd", &variables).unwrap().config.get_password(), None);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

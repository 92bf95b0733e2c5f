use super::*;

fn names(text: &str) -> Vec<String> {
    let config: Config = text.parse().unwrap();
    hosts(&config).unwrap().iter().map(ToString::to_string).collect()
}

fn hosts(config: &Config) -> Result<Vec<Host>, Error> {
    check(config)?;
    from_config(
        config,
        #[cfg(feature = "tls")]
        None,
    )
}

#[test]
fn every_kind_of_host_has_its_port() {
    for (text, expected) in [
        ("host=db", &["db:5432"][..]),
        ("host=db port=6000", &["db:6000"]),
        ("host=a,b port=1,2", &["a:1", "b:2"]),
        ("host=a,b port=6000", &["a:6000", "b:6000"]),
        ("host=::1", &["[::1]:5432"]),
        ("host=a hostaddr=192.0.2.1", &["192.0.2.1:5432"]),
        ("hostaddr=192.0.2.1,2001:db8::1 port=1,2", &["192.0.2.1:1", "[2001:db8::1]:2"]),
        ("postgres://u@a:1,b:2/d", &["a:1", "b:2"]),
        #[cfg(unix)]
        ("host=/run/postgresql port=6000", &["/run/postgresql/.s.PGSQL.6000"]),
        #[cfg(unix)]
        ("postgres://%2Frun%2Fpg/d", &["/run/pg/.s.PGSQL.5432"]),
    ] {
        assert_eq!(names(text), expected, "{text}");
    }
}

#[test]
fn settings_that_cannot_apply_are_named() {
    for (text, reason) in [
        ("user=u", "no host"),
        ("host=a,b hostaddr=192.0.2.1", "hostaddr: 1 of them"),
        ("host=a,b port=1,2,3", "port: 3 of them"),
        ("host=a sslmode=require", "sslmode=require"),
        ("host=a channel_binding=require", "channel_binding=require"),
        ("host=a keepalives_idle=40000", "keepalives_idle 40000s"),
        ("host=a keepalives_interval=40000", "keepalives_interval 40000s"),
        ("host=a keepalives_retries=128", "keepalives_retries 128"),
        ("host=a tcp_user_timeout=9999999999", "tcp_user_timeout"),
        ("host=two_words:x", "two_words:x"),
        ("host=a port=0", "port 0"),
    ] {
        let error = hosts(&text.parse().unwrap()).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    assert!(hosts(&"host=a keepalives=0 keepalives_idle=40000".parse().unwrap()).is_ok());
}

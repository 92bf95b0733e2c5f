use std::io;

use super::*;

fn names(text: &str) -> Vec<String> {
    let config: Config = text.parse().unwrap();
    hosts(&config).unwrap().iter().map(ToString::to_string).collect()
}

fn hosts(config: &Config) -> Result<Vec<Host>, Error> {
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
        ("host=a channel_binding=require", "channel_binding=require: expected TLS"),
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

#[test]
fn sockets_have_the_options_of_the_configuration_and_the_times_of_linux_for_the_rest() {
    let seconds = Duration::from_secs;
    let keepalive = |idle, interval, probes| {
        let keepalive = Keepalive::new(seconds(idle)).interval(seconds(interval)).probes(probes);
        SocketOptions::new().nodelay(true).keepalive(keepalive)
    };
    let of_linux = keepalive(7200, 75, 9);
    for (text, expected) in [
        ("", of_linux),
        ("keepalives_idle=5 keepalives_interval=3 keepalives_retries=2", keepalive(5, 3, 2)),
        ("keepalives_idle=1 keepalives_interval=32767 keepalives_retries=127", keepalive(1, 32_767, 127)),
        ("keepalives_retries=0", of_linux),
        ("keepalives=0", SocketOptions::new().nodelay(true)),
        ("tcp_user_timeout=0", of_linux),
        #[cfg(all(target_os = "linux", not(perconn_portable)))]
        ("tcp_user_timeout=7", of_linux.user_timeout(seconds(7))),
    ] {
        assert_eq!(socket_options(&text.parse().unwrap()).unwrap(), expected, "{text}");
    }
}

#[test]
fn user_timeout_has_the_range_of_the_socket_option() {
    let is_accepted = |limit| socket_options(Config::new().tcp_user_timeout(limit)).is_ok();
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_millis(i32::MAX as u64));
    assert!(is_accepted(shortest) && is_accepted(longest));
    let nanosecond = Duration::from_nanos(1);
    assert!(!is_accepted(shortest - nanosecond) && !is_accepted(longest + nanosecond));
}

#[cfg(feature = "tls")]
#[test]
fn direct_tls_is_refused_only_where_plain_text_is_allowed_as_well() {
    let tls = crate::Tls::new();
    for (text, is_accepted) in [
        ("sslmode=prefer sslnegotiation=direct", false),
        ("sslmode=require sslnegotiation=direct", true),
        ("sslmode=disable sslnegotiation=direct", true),
        ("sslmode=prefer", true),
        ("sslmode=require", true),
    ] {
        let config: Config = format!("host=a {text}").parse().unwrap();
        let hosts = from_config(&config, Some(&tls));
        assert_eq!(hosts.is_ok(), is_accepted, "{text}");
        let with_tls = hosts.is_ok_and(|hosts| hosts[0].tls.is_some());
        assert_eq!(with_tls, is_accepted && !text.contains("disable"), "{text}");
    }
    let config: Config = "host=a sslmode=prefer sslnegotiation=direct".parse().unwrap();
    assert!(from_config(&config, None).is_ok(), "without settings there is no TLS");
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_what_the_program_sets_and_what_the_connection_string_asks_for() {
    let named = crate::Tls::new().server_name("db.example");
    let is_named = |tls: Option<crate::Tls>| format!("{tls:?}").contains("db.example");
    let silent = Certificates::default();
    assert!(tls(None, &silent).is_none());
    assert!(is_named(tls(Some(&named), &silent)));
    let root = std::env::temp_dir().join("perconn-no-such-root.pem");
    let verifying =
        Certificates { wanted_by: Some("sslmode=verify-full".into()), root: Some(root), ..Certificates::default() };
    for given in [None, Some(&named)] {
        let made = tls(given, &verifying);
        let error = from_config(&"host=a sslmode=require".parse().unwrap(), made.as_ref()).err().unwrap();
        assert!(error.to_string().contains("perconn-no-such-root.pem"), "{error}");
        assert_eq!(is_named(made), given.is_some());
    }
}

#[test]
fn hosts_are_shuffled_only_on_request() {
    for (text, expected) in [("", false), ("load_balance_hosts=disable", false), ("load_balance_hosts=random", true)] {
        assert_eq!(is_random(&text.parse().unwrap()), expected, "{text}");
    }
}

/// A dialer of the program with two addresses.
struct ProgramsDialer {
    addresses: [Address; 2],
    /// How many dials were of no use.
    failed: usize,
}

impl Dial for ProgramsDialer {
    type Stream = tokio::io::DuplexStream;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        std::future::pending().await
    }

    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.addresses.get(self.failed)
    }

    fn dial_failed(&mut self) {
        self.failed += 1;
    }

    fn take_warning(&mut self) -> Option<crate::Error> {
        Some(crate::Error::ClosedConnection)
    }
}

fn programs_dialer() -> BoxedDialer {
    BoxedDialer::new(ProgramsDialer { addresses: ["a:1", "b:2"].map(Address::from), failed: 0 })
}

#[test]
fn dialer_of_the_program_says_which_address_it_has_dialed_and_learns_which_was_of_no_use() {
    let mut host = Host::from_dialer(programs_dialer()).unwrap();
    assert_eq!((host.name(), host.addresses().len()), ("the dialer's server", 2));
    for address in ["a:1", "b:2"] {
        assert_eq!((host.dialed_address(), host.to_string().as_str()), (Some(&Address::from(address)), address));
        host.dial_failed();
    }
    assert!(matches!(host.take_warning(), Some(crate::Error::ClosedConnection)));
}

#[tokio::test(start_paused = true)]
async fn dial_ends_at_the_connect_timeout_if_there_is_one() {
    for (text, expected) in [("", None), ("connect_timeout=0", None), ("connect_timeout=3", Some(3))] {
        let config: Config = format!("host=a {text}").parse().unwrap();
        let mut hosts = hosts(&config).unwrap();
        let config = LoginConfig { config, needs_primary: false };
        hosts[0].dialer = programs_dialer();
        let began = tokio::time::Instant::now();
        let outcome = tokio::time::timeout(Duration::from_secs(3600), hosts[0].log_in(&config)).await;
        let error = outcome.ok().map(|dialed| dialed.err().expect("the dial never ends").to_string());
        assert_eq!(error.is_some(), expected.is_some(), "{text}");
        if let Some(seconds) = expected {
            assert_eq!(began.elapsed().as_secs(), seconds);
            assert_eq!(error.as_deref(), Some("no session within 3s (connect_timeout)"));
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn channel_binding_is_required_only_where_there_is_tls() {
    let root = rustls_native_certs::load_native_certs().certs.pop();
    let with_tls = |text: &str| from_config(&text.parse().unwrap(), Some(&crate::Tls::new())).map(drop);
    if root.is_some() {
        for text in ["host=a channel_binding=require", "host=a channel_binding=require sslmode=require"] {
            assert!(with_tls(text).is_ok(), "{text}");
        }
    }
    for (text, reason) in [
        ("host=a channel_binding=require sslmode=disable", "no sslmode=disable"),
        #[cfg(unix)]
        ("host=/run/pg channel_binding=require", "/run/pg/.s.PGSQL.5432 is a Unix socket"),
    ] {
        let error = with_tls(text).unwrap_err();
        assert!(matches!(&error, Error::InvalidConfig(text) if text.contains(reason)), "{text}: {error:?}");
    }
    assert!(with_tls("host=a channel_binding=prefer sslmode=disable").is_ok());
}

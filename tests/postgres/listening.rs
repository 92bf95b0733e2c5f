//! Channels: listened to, unlistened, through outages.

use perconn::postgres::Error;

use crate::server::Postgres;
use crate::support::soon;
use crate::world::{connected, named, on_one_and_two_threads, outage, payload, quick, terminate};

#[test]
fn notifications_arrive_before_and_after_the_session_is_terminated() {
    let Some(server) = Postgres::start("notifications_arrive_before_and_after") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(named(&server, "me")).await;
        let client = server.client().await;
        soon("listen", listener.listen("orders")).await.unwrap();
        client.notify("orders", "1").await.unwrap();
        assert_eq!(payload(&mut listener).await, "1");
        terminate(&client, "me").await;
        let cause = outage(&mut listener).await;
        assert_eq!(cause.code().unwrap().code(), "57P01");
        client.notify("orders", "2").await.unwrap();
        assert_eq!(payload(&mut listener).await, "2");
        assert_eq!(listener.channels(), ["orders"]);
        assert_eq!(listener.generation(), 2);
        soon("ping", listener.ping()).await.unwrap();
        soon("unlisten", listener.unlisten("orders")).await.unwrap();
        assert!(matches!(listener.unlisten("orders").await, Err(Error::NotListening { .. })));
        soon("close", listener.close()).await;
        assert!(matches!(listener.recv().await, Err(Error::Closed)));
    });
}

#[test]
fn names_of_every_kind_are_channels_as_they_are() {
    let Some(server) = Postgres::start("names_of_every_kind") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.config())).await;
        let client = server.client().await;
        let long = "x".repeat(63);
        let cut = "\u{e9}".repeat(31);
        let names = [
            "Orders",
            "orders",
            "two words",
            "a\"b",
            "\"\"",
            "'",
            "\\",
            ";--",
            "SELECT",
            "$1",
            "日本",
            &long,
            &cut,
            " ",
        ];
        for name in names {
            soon("listen", listener.listen(name)).await.unwrap();
        }
        for (number, name) in names.iter().enumerate() {
            client.notify(name, &number.to_string()).await.unwrap();
            assert_eq!(payload(&mut listener).await, number.to_string(), "{name}");
        }
        for (name, why) in
            [("", "empty"), ("a\0", "zero byte"), (&*"x".repeat(64), "63 bytes"), (&"\u{e9}".repeat(32), "63 bytes")]
        {
            for error in [listener.listen(name).await.unwrap_err(), listener.unlisten(name).await.unwrap_err()] {
                assert!(matches!(&error, Error::InvalidChannel { .. }), "{error:?}");
                assert!(error.to_string().contains(why), "{error}");
            }
        }
        assert_eq!(listener.channels().len(), names.len());
        soon("unlisten_all", listener.unlisten_all()).await.unwrap();
        assert!(listener.channels().is_empty());
        assert_eq!(server.client().await.query("SELECT * FROM pg_listening_channels()", &[]).await.unwrap().len(), 0);
    });
}

//! The end of an acceptor while clients are in their handshakes.

use std::sync::Arc;

use perconn::tokio_rustls::rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::authority::{Authority, session_rest, with};
use crate::common::{close_among_clients, counter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_acceptor_serves_no_session_that_was_on_its_way() {
    let authority = Authority::new();
    for _ in 0..10 {
        let open = Arc::default();
        let acceptor = with(authority.server()).on_event(counter(&open)).build().unwrap();
        let address = acceptor.local_addr().unwrap();
        let connector = authority.connector();
        close_among_clients(acceptor, open, || {
            let connector = connector.clone();
            async move {
                let Ok(stream) = TcpStream::connect(address).await else { return };
                let Ok(mut session) = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
                else {
                    return;
                };
                let _ = session_rest(&mut session).await;
            }
        })
        .await;
    }
}

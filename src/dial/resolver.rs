//! From a name to IP addresses: by the system's resolver, or by a function of the program.
//!
//! Next: [`BlockingCall`], which keeps the system's resolver from taking all threads, and [`TcpDialer`](super::TcpDialer).

use std::collections::HashSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::{fmt, io};

use super::at_address::name_error;
use super::blocking_call::BlockingCall;
use crate::Address;
use crate::panic_as_error::PanicAsError;

/// The most addresses that a function of the program may return for one name.
const MAX_ADDRESSES: usize = 1000;

/// A function of the program, boxed with its futures.
type Resolve = dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync;

/// Resolves the names of a dialer. `None` until there is a name or a function: an idle connection is small.
///
/// A clone has no look-up under way.
#[derive(Clone, Default)]
pub(super) struct Resolver(Option<Box<ResolverState>>);

/// How names are resolved, and what is under way.
#[derive(Clone, Default)]
struct ResolverState {
    /// The program's own. `None`: the system's.
    own: Option<Arc<Resolve>>,
    /// The look-ups by the system, by the index of the address. No longer than the highest index that needed one.
    lookups: Vec<BlockingCall<Vec<SocketAddr>>>,
    /// Whether a name is being resolved. It stays if the dial is dropped meanwhile.
    is_busy: bool,
}

impl Resolver {
    /// Resolves names by a function of the program.
    pub(super) fn own<F, Fut>(resolve: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let own: Arc<Resolve> = Arc::new(move |host, port| Box::pin(resolve(host, port)));
        Self(Some(Box::new(ResolverState { own: Some(own), ..ResolverState::default() })))
    }

    /// The IP addresses of the address with this index, in the resolver's order; at least one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a look-up by the system goes on, and the next call waits for it. One by the program is dropped.
    pub(super) async fn resolve(&mut self, index: usize, address: &Address) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = address.parse()?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let state = self.0.get_or_insert_default();
        state.is_busy = true;
        let found = match state.own.clone() {
            // An IPv6 address with a zone is no name. Only the system can tell the number of the zone.
            Some(own) if !host.contains(':') => ask(&*own, host, port).await,
            _ => state.look_up(index, host, port).await,
        };
        state.is_busy = false;
        match found {
            Ok(found) if found.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")),
            found => found,
        }
    }

    /// Whether the last call of [`resolve`](Self::resolve) was dropped.
    pub(super) fn is_unfinished(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.is_busy)
    }

    /// A dial begins that may need no name.
    pub(super) fn begin(&mut self) {
        if let Some(state) = &mut self.0 {
            state.is_busy = false;
        }
    }
}

impl ResolverState {
    /// Asks the system's resolver, with at most one call at a time for each address of the list.
    async fn look_up(&mut self, index: usize, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        if self.lookups.len() <= index {
            self.lookups.resize_with(index + 1, BlockingCall::default);
        }
        self.lookups[index].run(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
    }
}

/// Asks the program. A panic is an error, and so are more addresses than any service has.
async fn ask(resolve: &Resolve, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let answer = PanicAsError::of("the resolver", async move { resolve(host, port).await }).await;
    let mut found = answer.map_err(|error| name_error("name resolution".into(), error))?;
    if found.len() > MAX_ADDRESSES {
        let text = format!("the resolver returned {} addresses: expected at most {MAX_ADDRESSES}", found.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut seen = HashSet::new();
    found.retain_mut(|address| {
        if address.port() == 0 {
            address.set_port(port);
        }
        seen.insert(*address)
    });
    Ok(found)
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_own = self.0.as_ref().is_some_and(|state| state.own.is_some());
        f.write_str(if is_own { "Resolver(own)" } else { "Resolver(system)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literal_address_needs_no_thread() {
        let mut resolver = Resolver::default();
        for (index, literal) in ["[2001:db8::1]:1", "192.0.2.1:1"].into_iter().enumerate() {
            let found = resolver.resolve(index, &literal.into()).await.unwrap();
            assert_eq!((found, resolver.0.is_none()), (vec![literal.parse().unwrap()], true));
        }
        resolver.resolve(2, &"localhost:1".into()).await.unwrap();
        assert_eq!(resolver.0.unwrap().lookups.len(), 3);
    }

    #[tokio::test]
    async fn answer_has_the_port_of_the_address_where_it_has_none_and_no_address_twice() {
        let mut resolver = Resolver::own(|host, port| async move {
            assert_eq!((host.as_str(), port), ("db.example", 5432));
            let ports = [0, 5433, 5432, 0, 5433];
            Ok(ports.map(|port| SocketAddr::from(([192, 0, 2, 1], port))).to_vec())
        });
        let found = resolver.resolve(0, &"db.example:5432".into()).await.unwrap();
        assert_eq!(found, [5432, 5433].map(|port| SocketAddr::from(([192, 0, 2, 1], port))));
    }
}

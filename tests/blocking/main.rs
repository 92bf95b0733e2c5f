//! `perconn::blocking`: threads, std's traits, std's servers.

mod chaos;
mod std_like;
mod strange_places;
mod support;
mod the_end;
mod threads;
mod timeouts;
mod told_once;
mod waits;

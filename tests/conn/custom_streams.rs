//! Streams that are not sockets, or hide that they are: the promises hold for them as well.

mod closed_by_dialer;
mod controlled;
mod pipes;
mod wrapped_sockets;

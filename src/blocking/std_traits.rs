//! Std's `Read` and `Write` for a connection, and for a shared reference to one, as a `TcpStream` has them.
//!
//! Next: [`reading`](super::reading) and [`writing`](super::writing).

use std::io::{self, IoSlice, Read, Write};

use tokio::io::{AsyncRead, AsyncWrite};

use super::Conn;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Read for &Conn<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.shared.reader.read(buf, &self.state, self.timeouts(&self.read_timeout))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Write for &Conn<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.shared.writer.write(parts, &self.state, self.timeouts(&self.write_timeout))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.writer.flush(&self.state, self.timeouts(&self.write_timeout))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Read for Conn<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Write for Conn<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

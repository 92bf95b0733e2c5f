//! Reading and writing through std's traits, also by a shared reference, as a `TcpStream` can be.

use std::io::{self, IoSlice, Read, Write};

use tokio::io::{AsyncRead, AsyncWrite};

use super::Conn;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Read for &Conn<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.shared.reading.read(buf, &self.last_reported, self.deadline(&self.read_timeout))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Write for &Conn<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.shared.writing.write(parts, &self.memory(), self.deadline(&self.write_timeout))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.writing.flush(&self.memory(), self.deadline(&self.write_timeout))
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

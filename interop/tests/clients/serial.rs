//! A connection over a serial port, on a pseudoterminal: the port is opened again when its adapter is back.

use std::io;
use std::path::PathBuf;

use perconn::{Conn, Dial, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::{SerialPort, SerialPortBuilderExt, SerialStream};

use crate::support::{in_time, quick, wait_for_generation};

/// Opens the port. A link such as `/dev/serial/by-id/..` leads to the same adapter wherever it is plugged in.
fn serial_port(path: PathBuf) -> impl Dial<Stream = SerialStream> {
    dial_fn(move || {
        let port = tokio_serial::new(path.to_string_lossy(), 115_200).open_native_async();
        async { port.map_err(io::Error::from) }
    })
}

/// A device, and a link to its port.
fn plug_in(link: &PathBuf) -> SerialStream {
    let (device, port) = SerialStream::pair().unwrap();
    std::os::unix::fs::symlink(port.name().unwrap(), link).unwrap();
    device
}

#[tokio::test]
async fn serial_port_is_opened_again_when_its_adapter_is_back() {
    let link = std::env::temp_dir().join(format!("perconn-serial-{}", std::process::id()));
    let _ = std::fs::remove_file(&link);
    let mut device = plug_in(&link);
    let builder = quick(Conn::builder("the meter")).dialer(serial_port(link.clone()));
    let mut conn = in_time("connect", builder.connect()).await.unwrap();
    for generation in 1..=3 {
        wait_for_generation(&conn, generation).await;
        conn.write_all(b"read 1\r").await.unwrap();
        let mut request = [0; 7];
        in_time("the request", device.read_exact(&mut request)).await.unwrap();
        assert_eq!(&request, b"read 1\r");
        device.write_all(b"17.5\r").await.unwrap();
        let mut answer = [0; 5];
        in_time("the answer", conn.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"17.5\r");
        // The adapter is pulled out. Until it is back, there is no such port.
        std::fs::remove_file(&link).unwrap();
        drop(device);
        let end = in_time("the break", conn.read(&mut answer)).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        println!("the port has gone: {end:?}");
        device = plug_in(&link);
    }
    std::fs::remove_file(&link).unwrap();
}

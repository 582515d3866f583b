//! Asks an app whether it speaks HTTP/2 with prior knowledge: sends the preface on a connection of its own and
//! looks whether a SETTINGS frame comes back (RFC 9113 §3.4).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FRAME_HEADER: usize = 9;
const FRAME_TYPE_SETTINGS: u8 = 4;
const TIMEOUT: Duration = Duration::from_secs(2);

/// False also for an app that closes the connection or says nothing for 2 s; an error when there is no connection.
pub async fn speaks_h2(addr: SocketAddr) -> io::Result<bool> {
    let mut stream = tokio::time::timeout(TIMEOUT, TcpStream::connect(addr)).await??;
    let exchange = async {
        stream.write_all(PREFACE_AND_SETTINGS).await?;
        let mut header = [0; FRAME_HEADER];
        stream.read_exact(&mut header).await?;
        io::Result::Ok(header)
    };
    Ok(match tokio::time::timeout(TIMEOUT, exchange).await {
        // The first frame must be SETTINGS on stream 0.
        Ok(Ok(header)) => header[3] == FRAME_TYPE_SETTINGS && header[5..] == [0; 4],
        Ok(Err(_)) | Err(_) => false,
    })
}

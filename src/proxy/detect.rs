//! What an app speaks, found out once.
//!
//! HTTP/1 is simply tried. For HTTP/2 the app is asked: the preface goes out on a connection of its own, and a SETTINGS
//! frame comes back or does not (RFC 9113 §3.4).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FRAME_HEADER: usize = 9;
const FRAME_TYPE_SETTINGS: u8 = 4;
const TIMEOUT: Duration = Duration::from_secs(2);

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// What one replica speaks, as far as it is known.
#[derive(Debug, Default)]
pub struct Spoken {
    h1: AtomicU8,
    h2: OnceCell<bool>,
}

// === impl Spoken ===

impl Spoken {
    /// Whether HTTP/1 is worth a try.
    pub fn takes_h1(&self) -> bool {
        self.h1.load(Ordering::Relaxed) != NO
    }

    /// Whether HTTP/1 was answered.
    pub fn h1_proven(&self) -> bool {
        self.h1.load(Ordering::Relaxed) == YES
    }

    /// HTTP/1 was answered, or taken for garbage.
    pub fn set_h1(&self, takes: bool) {
        let said = if takes { YES } else { NO };
        // What is known stays: one odd answer must not send a replica's HTTP/1 clients elsewhere.
        let _ = self.h1.compare_exchange(UNKNOWN, said, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the app at `addr` speaks HTTP/2. Asks once, however many want to know; an error is not remembered.
    pub async fn takes_h2(&self, addr: SocketAddr) -> io::Result<bool> {
        self.h2.get_or_try_init(|| speaks_h2(addr)).await.copied()
    }
}

/// False also for an app that closes the connection or says nothing for 2 s; an error when there is no connection.
async fn speaks_h2(addr: SocketAddr) -> io::Result<bool> {
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

//! What an app speaks, found out once.
//!
//! HTTP/1 is simply tried. For HTTP/2 the app is asked: the preface goes out on a connection of its own, and a SETTINGS
//! frame comes back or does not (RFC 9113 §3.4).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::net::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::clock;

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FRAME_HEADER: usize = 9;
const FRAME_TYPE_SETTINGS: u8 = 4;
const TIMEOUT: Duration = Duration::from_secs(2);
/// An app that gave no definite answer is not asked again before.
const ASK_AGAIN: Duration = Duration::from_secs(10);

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// What one replica speaks, as far as it is known.
#[derive(Debug, Default)]
pub struct Spoken {
    h1: AtomicU8,
    h2: AtomicU8,
    /// One asks at a time, and not again before then.
    asking: Mutex<Option<Instant>>,
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

    /// Whether the app at `addr` speaks HTTP/2. Asks once, however many want to know. `None` when it did not say: it was
    /// silent, or is not there; that is no answer for good.
    pub async fn takes_h2(&self, addr: SocketAddr) -> Option<bool> {
        if let Some(known) = self.known_h2() {
            return Some(known);
        }
        let mut not_before = self.asking.lock().await;
        // Somebody may have asked while this waited for its turn.
        if let Some(known) = self.known_h2() {
            return Some(known);
        }
        if not_before.is_some_and(|at| clock::now() < at) {
            return None;
        }
        match speaks_h2(addr).await {
            Ok(answer) => {
                self.h2.store(if answer { YES } else { NO }, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(%addr, %error, "the app did not say whether it speaks HTTP/2");
                *not_before = Some(clock::now() + ASK_AGAIN);
                None
            }
        }
    }

    /// What is known of HTTP/2 without asking.
    pub fn known_h2(&self) -> Option<bool> {
        match self.h2.load(Ordering::Relaxed) {
            UNKNOWN => None,
            said => Some(said == YES),
        }
    }
}

/// False for an app that answers something else, or closes the connection in order.
async fn speaks_h2(addr: SocketAddr) -> io::Result<bool> {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(PREFACE_AND_SETTINGS).await?;
        let mut header = [0; FRAME_HEADER];
        let mut read = 0;
        while read < FRAME_HEADER {
            match stream.read(&mut header[read..]).await? {
                0 => return Ok(false),
                more => read += more,
            }
            // `HTTP/1.1 400`, or less, is answer enough: the first frame is a short one.
            if header[0] != 0 {
                return Ok(false);
            }
        }
        // The first frame must be SETTINGS on stream 0.
        Ok(header[3] == FRAME_TYPE_SETTINGS && header[5..] == [0; 4])
    };
    tokio::time::timeout(TIMEOUT, ask).await?
}

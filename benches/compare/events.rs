//! Open event streams: what an event costs, and how long it takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::loads::{Outcome, Stopwatch};
use crate::site::HOST;

/// Between the opening of two streams, so that their events are spread over time.
const APART: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts events once all streams are open.
pub(crate) async fn run(to: SocketAddr, streams: u32, pid: Option<u32>, seconds: u32) -> Outcome {
    let (counting, counted) = watch::channel(false);
    let (opened, mut open) = mpsc::channel(streams as usize);
    let mut readers = JoinSet::new();
    for _ in 0..streams {
        readers.spawn(read(to, opened.clone(), counted.clone()));
        tokio::time::sleep(APART).await;
    }
    for n in 0..streams {
        let first = tokio::time::timeout(PATIENCE, open.recv()).await;
        assert!(matches!(first, Ok(Some(()))), "{n} of {streams} streams through {to} have begun");
    }
    let (watch, from) = (Stopwatch::start(pid), Instant::now());
    counting.send(true).expect("the readers are there");
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    let (ran, wall) = (watch.stop(), from.elapsed());
    counting.send(false).expect("the readers are there");
    let (mut latencies, mut failed) = (Vec::new(), 0);
    while let Some(read) = readers.join_next().await {
        match read.expect("a reader does not panic") {
            Ok(mut of_one) => latencies.append(&mut of_one),
            Err(_) => failed += 1,
        }
    }
    Outcome::of(latencies, failed, wall, ran)
}

/// One stream: latencies, in µs, of the events that came while they were counted.
async fn read(
    to: SocketAddr,
    opened: mpsc::Sender<()>,
    mut counted: watch::Receiver<bool>,
) -> std::io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("GET /events HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await?;
    let (mut latencies, mut begun, mut counting) = (Vec::new(), false, false);
    let (mut buffer, mut held) = (vec![0; 4096], 0);
    loop {
        tokio::select! {
            changed = counted.changed() => {
                if changed.is_err() || counting {
                    return Ok(latencies);
                }
                counting = true;
            }
            n = stream.read(&mut buffer[held..]) => {
                let n = n?;
                if n == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                held += n;
                let text = &buffer[..held];
                let end = text.windows(2).rposition(|end| end == b"\n\n").map_or(0, |at| at + 2);
                for sent in stamps(&text[..end]) {
                    if !begun {
                        begun = true;
                        opened.try_send(()).expect("there is room for each stream");
                    }
                    if counting {
                        latencies.push(now().saturating_sub(sent) as f64 / 1e3);
                    }
                }
                buffer.copy_within(end..held, 0);
                held -= end;
            }
        }
    }
}

/// When the events in here were made, in nanoseconds.
fn stamps(text: &[u8]) -> impl Iterator<Item = u64> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.split("{\"at\":").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok())
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).expect("it is not the year 2554")
}

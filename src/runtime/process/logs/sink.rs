//! One replica's log.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::file::Rotating;
use super::lines::{Splitter, text};
use super::{FOLLOW_LINES, Opened, PENDING_BYTES, STALL, TAIL_BYTES, TAIL_LINES};

/// A finished line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counts the replica's lines from 0: whoever reads the tail and then follows can tell what was seen already.
    pub number: u64,
    /// Valid UTF-8 without control characters, without the line's end.
    pub text: Arc<str>,
}

/// One replica's log; clones are the same log.
#[derive(Clone, Debug)]
pub struct LogSink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    followers: broadcast::Sender<Line>,
    /// Bytes that wait for the disk.
    backlog: watch::Sender<usize>,
    /// Open pipes that still are read.
    readers: watch::Sender<usize>,
    /// Held by the blocking writer only.
    file: Mutex<Option<Rotating>>,
    opened: Option<Opened>,
}

#[derive(Debug, Default)]
struct State {
    tail: VecDeque<Line>,
    tail_bytes: usize,
    /// The line that has no end yet, as text.
    partial: String,
    next: u64,
    pending: Vec<u8>,
    /// Bytes that the blocking writer has taken and not finished.
    in_flight: usize,
    /// A blocking writer runs and will look at `pending` again before it ends.
    writing: bool,
    /// Bytes left out because the disk was too slow.
    dropped: usize,
    /// The last write failed, and that was said.
    failing: bool,
}

/// Ends the count of readers.
struct Reading(Arc<Shared>);

// === impl LogSink ===

impl LogSink {
    /// A log without a file: the tail and the followers only.
    pub fn memory() -> Self {
        Self::new(None, None)
    }

    pub(super) fn with_file(file: Rotating, opened: Opened) -> Self {
        Self::new(Some(file), Some(opened))
    }

    fn new(file: Option<Rotating>, opened: Option<Opened>) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            followers: broadcast::Sender::new(FOLLOW_LINES),
            backlog: watch::Sender::new(0),
            readers: watch::Sender::new(0),
            file: Mutex::new(file),
            opened,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.shared.opened.as_ref().map(|opened| opened.path.as_path())
    }

    /// Where the predecessor of [`LogSink::path`] lies, once there is one.
    pub fn previous_path(&self) -> Option<PathBuf> {
        self.path().map(super::previous)
    }

    /// The last `count` lines; the last may be unfinished.
    pub fn tail(&self, count: usize) -> Vec<Line> {
        let state = self.shared.state.lock();
        let partial = (!state.partial.is_empty())
            .then(|| Line { number: state.next, text: state.partial.as_str().into() });
        let finished = count.saturating_sub(partial.iter().len()).min(state.tail.len());
        state
            .tail
            .range(state.tail.len() - finished..)
            .cloned()
            .chain(partial.filter(|_| count > 0))
            .collect()
    }

    /// How many lines were finished so far: the number that the next one gets.
    pub fn finished(&self) -> u64 {
        self.shared.state.lock().next
    }

    /// The last `count` lines as one text, for an error message.
    pub fn last_lines(&self, count: usize) -> String {
        self.tail(count).iter().map(|line| &*line.text).collect::<Vec<_>>().join("\n")
    }

    /// Every line finished from now on. A follower that is [`FOLLOW_LINES`] behind is told how many it missed.
    pub fn follow(&self) -> broadcast::Receiver<Line> {
        self.shared.followers.subscribe()
    }

    /// Adds a line of pilotlight's own, such as how the replica ended.
    pub fn note(&self, line: &str) {
        self.shared.add(|each| line.lines().for_each(|line| each(line.as_bytes())));
    }

    /// Waits until the pipe's writers are gone and all is written, `at_most` this long: a process that left the group may
    /// hold the pipe open forever.
    pub async fn settled(&self, at_most: Duration) -> bool {
        let mut readers = self.shared.readers.subscribe();
        let mut backlog = self.shared.backlog.subscribe();
        let all = async {
            readers.wait_for(|n| *n == 0).await.is_ok() && backlog.wait_for(|n| *n == 0).await.is_ok()
        };
        timeout(at_most, all).await.unwrap_or(false)
    }

    /// Reads `pipe` to its end in a task of the current runtime.
    pub(in crate::runtime) fn attach(&self, pipe: OwnedFd) -> io::Result<()> {
        let pipe = pipe::Receiver::from_owned_fd(pipe)?;
        let reading = Reading::start(&self.shared);
        tokio::spawn(async move {
            let shared = &reading.0;
            let mut splitter = Splitter::default();
            let mut buffer = Vec::new();
            loop {
                // No buffer while the app is silent, which is most of the time.
                buffer.shrink_to(0);
                if pipe.readable().await.is_err() {
                    break;
                }
                buffer.reserve(64 << 10);
                match pipe.try_read_buf(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => break,
                }
                shared.add(|each| splitter.feed(&buffer, each));
                shared.state.lock().partial = text(splitter.partial());
                buffer.clear();
                shared.hold_up().await;
                tokio::task::yield_now().await; // a chatty app gets its turn like everyone else
            }
            shared.add(|each| splitter.end(each));
            shared.state.lock().partial = String::new();
        });
        Ok(())
    }
}

// === impl Shared ===

impl Shared {
    /// Adds the lines that `feed` gives.
    fn add(self: &Arc<Self>, feed: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        let mut state = self.state.lock();
        let to_file = self.opened.is_some();
        feed(&mut |line| {
            if to_file {
                state.pending.extend_from_slice(line);
                state.pending.push(b'\n');
            }
            let line = state.remember(text(line));
            let _ = self.followers.send(line); // nobody may be following
        });
        if state.pending.is_empty() {
            return;
        }
        self.backlog.send_replace(state.pending.len() + state.in_flight);
        if !std::mem::replace(&mut state.writing, true) {
            drop(state);
            let shared = Arc::clone(self);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || shared.write())),
                Err(_) => shared.write(),
            }
        }
    }

    /// Writes what is pending until nothing is. Runs on a blocking thread, one per log at a time.
    fn write(&self) {
        let mut file = self.file.lock();
        loop {
            let batch = {
                let mut state = self.state.lock();
                let mut batch = std::mem::take(&mut state.pending);
                let dropped = std::mem::take(&mut state.dropped);
                if dropped > 0 {
                    let mark =
                        format!("[pilotlight: {dropped} bytes left out here, the disk was too slow]\n");
                    batch.splice(0..0, mark.into_bytes());
                }
                state.in_flight = batch.len();
                state.writing = !batch.is_empty();
                self.backlog.send_replace(batch.len());
                batch
            };
            if batch.is_empty() {
                // Logs of replicas that are gone are kept, and are many.
                if let Some(file) = file.as_mut().filter(|_| *self.readers.borrow() == 0) {
                    file.rest();
                }
                return;
            }
            let written = file.as_mut().map_or(Ok(()), |file| file.write(&batch));
            let mut state = self.state.lock();
            match written {
                Ok(()) => state.failing = false,
                // Once, and in memory only.
                Err(e) if !std::mem::replace(&mut state.failing, true) => {
                    state.remember(format!("[pilotlight: cannot write the log file: {e}]"));
                }
                Err(_) => {}
            }
        }
    }

    /// Waits for a slow disk, but not long.
    async fn hold_up(&self) {
        if *self.backlog.borrow() <= PENDING_BYTES {
            return;
        }
        let mut backlog = self.backlog.subscribe();
        if timeout(STALL, backlog.wait_for(|bytes| *bytes <= PENDING_BYTES)).await.is_err() {
            let mut state = self.state.lock();
            state.dropped += state.pending.len();
            state.pending = Vec::new();
        }
    }
}

// === impl State ===

impl State {
    fn remember(&mut self, text: String) -> Line {
        let line = Line { number: self.next, text: text.into() };
        self.next += 1;
        self.tail_bytes += line.text.len();
        self.tail.push_back(line.clone());
        while self.tail.len() > TAIL_LINES || (self.tail_bytes > TAIL_BYTES && self.tail.len() > 1) {
            let Some(oldest) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= oldest.text.len();
        }
        line
    }
}

// === impl Reading ===

impl Reading {
    fn start(shared: &Arc<Shared>) -> Self {
        shared.readers.send_modify(|n| *n += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.send_modify(|n| *n -= 1);
        // Whether or not there is anything to write: the file may rest.
        let shared = Arc::clone(&self.0);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || shared.write());
        }
    }
}

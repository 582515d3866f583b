//! Bytes → lines of bounded length.

use std::ops::Range;

/// Longer lines are cut: memory for one line is bounded whatever the app prints.
pub(crate) const LINE_BYTES: usize = 64 << 10;

/// Splits a stream at `\n`. Of a progress bar (text, `\r`, text, …) the last state is kept, as a terminal shows it.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    line: Vec<u8>,
    /// Bytes of this line that were thrown away.
    cut: u64,
}

// === impl Splitter ===

impl Splitter {
    /// Takes `bytes` in and gives each finished line, without its end, to `each`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..at]);
            self.finish(each);
            bytes = &bytes[at + 1..];
        }
        self.append(bytes);
    }

    /// The end of the stream ends a line too.
    pub(crate) fn end(&mut self, each: &mut dyn FnMut(&[u8])) {
        if !self.line.is_empty() || self.cut > 0 {
            self.finish(each);
        }
    }

    /// The line that is not finished yet.
    pub(super) fn partial(&self) -> &[u8] {
        visible(&self.line)
    }

    fn append(&mut self, mut bytes: &[u8]) {
        if self.line.len() + bytes.len() > LINE_BYTES {
            // Drop what a later state of a progress bar overwrites.
            let newer = shown(bytes).start;
            if newer > 0 {
                self.line.clear();
                self.cut = 0;
                bytes = &bytes[newer..];
            } else {
                self.line.drain(..shown(&self.line).start);
            }
        }
        let room = LINE_BYTES - self.line.len();
        let (kept, lost) = bytes.split_at(bytes.len().min(room));
        self.line.extend_from_slice(kept);
        self.cut += lost.len() as u64;
    }

    fn finish(&mut self, each: &mut dyn FnMut(&[u8])) {
        if self.cut > 0 {
            let mark = format!(" [cut here: {} more bytes in this line]", self.cut);
            self.line.extend_from_slice(mark.as_bytes());
        }
        each(visible(&self.line));
        self.line.clear();
        self.line.shrink_to(4 << 10);
        self.cut = 0;
    }
}

fn visible(line: &[u8]) -> &[u8] {
    &line[shown(line)]
}

/// What a terminal would show: the text after the last `\r` that something follows.
fn shown(line: &[u8]) -> Range<usize> {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
    let start = line[..end].iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    start..end
}

/// A line as text: invalid UTF-8 and control characters (but tab and escape, for colours) are replaced.
pub(crate) fn text(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let odd = |c: char| c.is_control() && c != '\t' && c != '\u{1b}';
    if text.contains(odd) { text.replace(odd, "\u{fffd}") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, &mut |line| out.push(line.to_vec()));
        }
        splitter.end(&mut |line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn splits_lines() {
        assert_eq!(lines(&[b"a\nb", b"c\r", b"\n\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert_eq!(lines(&[b"10%\r20%", b"\r30%\r", b"\n"]), [&b"30%"[..]]);
        assert_eq!(lines(&[]), Vec::<Vec<u8>>::new());
        assert_eq!(text(b"a\0\xff\t\x1b[1m"), "a\u{fffd}\u{fffd}\t\u{1b}[1m");
    }

    #[test]
    fn cuts_long_lines() {
        let long = vec![b'x'; 10 << 20];
        let got = lines(&[&long, b"\nnext\n"]);
        assert_eq!(got.len(), 2);
        assert!(
            got[0].len() < LINE_BYTES + 100
                && got[0].ends_with(b"[cut here: 10420224 more bytes in this line]")
        );
        assert_eq!(got[1], b"next");
    }

    #[test]
    fn an_endless_progress_bar_stays_short() {
        let bar: Vec<u8> = (0..100_000).flat_map(|n| format!("\r{n} done").into_bytes()).collect();
        assert_eq!(lines(&bar.chunks(1000).collect::<Vec<_>>()), [b"99999 done"]);
        assert_eq!(lines(&bar.chunks(LINE_BYTES).collect::<Vec<_>>()), [b"99999 done"]);
    }

    proptest! {
        #[test]
        fn however_it_arrives_the_lines_are_the_same(bytes: Vec<u8>, at in 1_usize..50) {
            let whole = lines(&[&bytes]);
            prop_assert_eq!(whole, lines(&bytes.chunks(at).collect::<Vec<_>>()));
        }
    }
}

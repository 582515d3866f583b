//! Counts server-sent events in a stream that comes in any pieces (WHATWG HTML, "Server-sent events").

/// What OpenAI's streams end with: no token.
const DONE: &[u8] = b"[DONE]";
/// Bytes of a line that are kept: enough to know `data:` and `[DONE]`.
const KEPT: usize = 16;

/// Reads a stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The beginning of the line at hand.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The event at hand has data; `Some(true)`: it is all `[DONE]`.
    data: Option<bool>,
}

// === impl Parser ===

impl Parser {
    /// Takes the next bytes. Returns how many events with data ended in them, `[DONE]` not counted.
    pub(super) fn push(&mut self, bytes: &[u8]) -> u64 {
        let mut events = 0;
        for byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => events += u64::from(self.end_line()),
                _ if self.line.len() < KEPT => self.line.push(*byte),
                _ => {}
            }
        }
        events
    }

    /// Whether an event ended.
    fn end_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take() == Some(false);
        }
        // Comments begin with a colon, and other fields have other names.
        if let Some(value) = line.strip_prefix(b"data:").or((line == b"data").then_some(&[])) {
            let done = value.strip_prefix(b" ").unwrap_or(value) == DONE;
            self.data = Some(self.data.unwrap_or(true) && done);
        }
        // The allocation is used again.
        self.line = line;
        self.line.clear();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &[u8] = b": waiting\n\ndata: a\n\nevent: x\r\ndata:b\r\ndata:c\r\n\r\nid: 1\n\ndata\r\rdata: [DONE]\n\ndata: late";

    #[test]
    fn events_with_data_count() {
        // a, b and c together, and one with empty data; not the comment, the bare id, [DONE], or what never ended.
        assert_eq!(Parser::default().push(STREAM), 3);
    }

    #[test]
    fn done_is_no_token_but_a_text_with_it_is() {
        assert_eq!(Parser::default().push(b"data: [DONE]\n\n"), 0);
        assert_eq!(Parser::default().push(b"data: [DONE], she said\n\n"), 1);
        assert_eq!(Parser::default().push(b"data: x\ndata: [DONE]\n\n"), 1);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::default();
            let events: u64 = cuts.windows(2).map(|w| parser.push(&STREAM[w[0]..w[1]])).sum();
            prop_assert_eq!(events, 3);
        }
    }
}

//! As much of the websocket protocol (RFC 6455) as a proxy needs to end one properly: where frames begin, and how a
//! close looks. Payloads are never looked at.

use sha1::{Digest, Sha1};

/// Opcode, lengths and mask at their longest (§5.2).
const LONGEST_HEADER: usize = 14;
const OPCODE_CLOSE: u8 = 0x8;
/// "Going Away" (§7.4.1).
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
const FINAL_CLOSE: u8 = 0x80 | OPCODE_CLOSE;
const MASKED: u8 = 0x80;
/// What the server's answer to a key is made with (§1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Follows the frames of one direction as their bytes pass.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; LONGEST_HEADER],
    /// Bytes of the header so far.
    have: usize,
    /// Bytes of the payload to come.
    left: u64,
    closed: bool,
}

/// Which side a close comes from: a client's frames are masked (§5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Masked.
    Client,
    /// Not masked.
    Server,
}

/// A close frame that says "Going Away".
pub fn going_away(from: From) -> Vec<u8> {
    let mut frame = vec![FINAL_CLOSE, GOING_AWAY.len() as u8];
    match from {
        From::Server => frame.extend(GOING_AWAY),
        From::Client => {
            let mask: [u8; 4] = fastrand::u32(..).to_ne_bytes();
            frame[1] |= MASKED;
            frame.extend(mask);
            frame.extend(GOING_AWAY.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

/// A `Sec-WebSocket-Key`: 16 random bytes.
pub fn key() -> String {
    base64(&fastrand::u128(..).to_ne_bytes())
}

/// The `Sec-WebSocket-Accept` that belongs to a key (§4.2.2).
pub fn accept(key: &[u8]) -> String {
    base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let all =
            chunk.iter().enumerate().fold(0_u32, |all, (i, byte)| all | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(all >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

// === impl Frames ===

impl Frames {
    /// Whether all frames so far are complete: here, and only here, another one can go in between.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a close has passed.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Bytes pass.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.to_boundary(bytes)..];
        }
    }

    /// Bytes pass up to the end of a frame, if it is among them; returns how many.
    pub fn to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        if self.left == 0 {
            while self.have < self.header_len() {
                let Some(byte) = bytes.get(taken) else { return taken };
                self.header[self.have] = *byte;
                self.have += 1;
                taken += 1;
            }
            self.left = self.payload_len();
            self.closed |= self.header[0] & 0x0f == OPCODE_CLOSE;
        }
        let payload = self.left.min((bytes.len() - taken) as u64);
        self.left -= payload;
        if self.left == 0 {
            self.have = 0;
        }
        taken + payload as usize
    }

    /// What is known of it: two bytes tell.
    fn header_len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        self.length_len() + 2 + mask
    }

    fn length_len(&self) -> usize {
        match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload_len(&self) -> u64 {
        match self.length_len() {
            0 => u64::from(self.header[1] & !MASKED),
            n => self.header[2..2 + n].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as an endpoint would send it.
    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let mask = if masked { MASKED } else { 0 };
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 0x7e);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(masked.then_some([0x88; 4]).iter().flatten());
        // Payload that looks like headers must not be taken for any.
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    proptest! {
        #[test]
        fn boundaries_are_found_however_the_bytes_are_cut(
            frames in prop::collection::vec((any::<bool>(), prop_oneof![0..300_usize, 65_000..66_000_usize]), 1..6),
            cuts in prop::collection::vec(1..70_000_usize, 1..50),
        ) {
            let frames: Vec<Vec<u8>> = frames.iter().map(|(masked, n)| frame(2, *masked, *n)).collect();
            let mut ends = Vec::new();
            let mut all = Vec::new();
            for frame in &frames {
                all.extend(frame);
                ends.push(all.len());
            }
            let (mut parser, mut seen, mut at) = (Frames::default(), Vec::new(), 0);
            let mut cuts = cuts.iter().cycle();
            while at < all.len() {
                let end = all.len().min(at + cuts.next().unwrap());
                let mut piece = &all[at..end];
                while !piece.is_empty() {
                    let n = parser.to_boundary(piece);
                    prop_assert!(n > 0);
                    at += n;
                    piece = &piece[n..];
                    if parser.at_boundary() {
                        seen.push(at);
                    }
                }
            }
            prop_assert_eq!(seen, ends);
            prop_assert!(!parser.closed());
        }
    }

    #[test]
    fn a_close_is_seen_and_made() {
        for from in [From::Client, From::Server] {
            let mut frames = Frames::default();
            frames.pass(&frame(1, true, 5));
            assert!(!frames.closed());
            let close = going_away(from);
            frames.pass(&close);
            assert!(frames.closed() && frames.at_boundary(), "{close:?}");
        }
        assert_eq!(going_away(From::Server), [0x88, 2, 0x03, 0xe9]);
    }

    #[test]
    fn keys_are_answered_as_in_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key().len(), 24);
        assert_eq!(
            (base64(b"a"), base64(b"ab"), base64(b"abc")),
            ("YQ==".into(), "YWI=".into(), "YWJj".into())
        );
    }
}

//! Boundaries of websocket frames: those that a reading of the whole finds, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::websocket::{Frames, From, going_away};
use pilotlight_fuzz::pieces;

/// Ends of frames, and whether there was a close (RFC 6455 §5.2).
fn frames(bytes: &[u8]) -> (Vec<usize>, bool) {
    let (mut ends, mut closed, mut at) = (Vec::new(), false, 0_usize);
    let header = |at: usize| {
        let (first, second) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        let (length, extended) = match second & 0x7f {
            126 => (u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?).into(), 2),
            127 => (u64::from_be_bytes(bytes.get(at + 2..at + 10)?.try_into().ok()?), 8),
            short => (u64::from(short), 0),
        };
        let header = 2 + extended + if second & 0x80 == 0 { 0 } else { 4 };
        (bytes.len() - at >= header).then_some((first & 0x0f == 8, header, length))
    };
    while let Some((close, header, length)) = header(at) {
        closed |= close;
        let Some(end) = usize::try_from(length).ok().and_then(|length| (at + header).checked_add(length))
        else {
            break;
        };
        if end > bytes.len() {
            break;
        }
        ends.push(end);
        at = end;
    }
    (ends, closed)
}

fuzz_target!(|data: &[u8]| {
    let (pieces, bytes) = pieces(data);
    let (ends, closed) = frames(bytes);
    let (mut parser, mut found, mut at) = (Frames::default(), Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let taken = parser.to_boundary(piece);
            assert!(taken > 0, "nothing moves");
            (at, piece) = (at + taken, &piece[taken..]);
            if parser.at_boundary() {
                found.push(at);
            }
        }
    }
    assert_eq!((&found, parser.closed()), (&ends, closed));
    // There, and only there, a close of ours can go in between.
    if parser.at_boundary() {
        for side in [From::Client, From::Server] {
            let (ends, closed) = frames(&[bytes, &going_away(side)].concat());
            assert!(closed && ends.len() == found.len() + 1);
        }
    }
});

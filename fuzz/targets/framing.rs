//! The watch over HTTP/1 framing: how the bytes are cut does not matter, and it follows all that is sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::framing::{Framing, Refused};
use pilotlight_fuzz::http1::{self, End};
use pilotlight_fuzz::pieces;

/// A longer line that comes in pieces may be refused where a whole one is not.
const LONG_LINE: usize = 128;

fn watch<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Framing, Result<(), Refused>) {
    let mut framing = Framing::default();
    let verdict = pieces.into_iter().try_for_each(|piece| framing.read(piece));
    (framing, verdict)
}

fn state(framing: &Framing) -> (u32, bool, bool, bool) {
    (framing.heads(), framing.is_at_rest(), framing.is_in_head(), framing.is_off())
}

fuzz_target!(|data: &[u8]| {
    let (pieces, text) = pieces(data);
    let (whole, verdict) = watch([text]);
    let (cut, cut_verdict) = watch(pieces);
    let long = text.split(|byte| *byte == b'\n').any(|line| line.len() > LONG_LINE);
    if !(long && cut_verdict == Err(Refused::Length)) {
        assert_eq!((verdict, state(&whole)), (cut_verdict, state(&cut)), "the same bytes, cut otherwise");
    }
    let sound = http1::read(text);
    // HTTP/1.1 is over where HTTP/2 begins.
    if whole.is_off() {
        return;
    }
    let heads = (sound.messages.len() + usize::from(sound.last_head.is_some())) as u32;
    match sound.end {
        End::Clean => assert_eq!((verdict, whole.heads(), whole.is_at_rest()), (Ok(()), heads, true)),
        // A head is judged when it is complete, its lines are as they come.
        End::Cut { head: false } => assert_eq!(whole.heads(), heads),
        End::Cut { head: true } => {
            assert_eq!((verdict, whole.heads()), (Ok(()), heads));
            assert!(!whole.is_at_rest() && !whole.is_in_head(), "in a body");
        }
        // Refusing is hyper's part too: only what came before is certain.
        End::Wrong { .. } => assert!(whole.heads() >= sound.messages.len() as u32),
    }
});

//! One text of the first message of a gRPC call, found while its bytes still come
//! (<https://protobuf.dev/programming-guides/encoding>).

use super::Look;

/// Looks for the text of one field.
#[derive(Debug)]
pub struct Finder {
    field: u64,
    /// Where the next field begins.
    at: usize,
}

/// gRPC's own: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Bytes of a 64-bit number at most.
const LONGEST_NUMBER: usize = 10;

const COMPRESSED: &str = "the message is compressed";
const NO_MESSAGE: &str = "the body is not a protobuf message";

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

// === impl Finder ===

impl Finder {
    /// For the text of this field.
    pub fn new(field: u64) -> Self {
        Self { field, at: PREFIX }
    }

    /// Goes on in `bytes`, which are all that have come, those of the calls before among them.
    pub fn look<'b>(&mut self, bytes: &'b [u8]) -> Look<'b> {
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Look::More };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Look::Bad(COMPRESSED);
        }
        let end = PREFIX.saturating_add(u32::from_be_bytes(length) as usize);
        let message = &bytes[..bytes.len().min(end)];
        while self.at < end {
            let mut at = self.at;
            let number = |at: &mut usize| number(message, at, end);
            let tag = match number(&mut at) {
                Ok(tag) => tag,
                Err(look) => return look,
            };
            let length = match tag & 7 {
                VARINT => number(&mut at).map(|_| 0),
                FIXED_64 => Ok(8),
                FIXED_32 => Ok(4),
                LENGTH_DELIMITED => number(&mut at),
                _ => return Look::Bad(NO_MESSAGE),
            };
            let next = match length {
                Ok(length) => usize::try_from(length).ok().and_then(|length| at.checked_add(length)),
                Err(look) => return look,
            };
            let Some(next) = next.filter(|next| *next <= end) else { return Look::Bad(NO_MESSAGE) };
            if tag == self.field << 3 | LENGTH_DELIMITED {
                return message.get(at..next).map_or(Look::More, Look::Found);
            }
            self.at = next;
        }
        Look::Absent
    }
}

/// A number of variable length, and on behind it.
fn number<'b>(message: &[u8], at: &mut usize, end: usize) -> Result<u64, Look<'b>> {
    let mut value = 0;
    for shift in (0..).step_by(7).take(LONGEST_NUMBER) {
        let Some(&byte) = message.get(*at) else {
            return Err(if *at < end { Look::More } else { Look::Bad(NO_MESSAGE) });
        };
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Look::Bad(NO_MESSAGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(bytes: &[u8], step: usize) -> Result<Vec<u8>, &'static str> {
        let mut finder = Finder::new(1);
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            match finder.look(&bytes[..end]) {
                Look::More => {}
                Look::Found(text) => return Ok(text.to_vec()),
                Look::Absent => return Err("absent"),
                Look::Bad(COMPRESSED) => return Err("compressed"),
                Look::Bad(_) => return Err("bad"),
            }
        }
        Err("more")
    }

    fn message(fields: &[u8]) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(fields.len()).unwrap().to_be_bytes());
        message.extend(fields);
        message
    }

    #[test]
    fn the_field_is_found_behind_others() {
        let fields =
            [&[0x10, 0x96, 0x01][..], b"\x1a\x02xy", b"\x21abcdefgh", b"\x2dabcd", b"\x0a\x04iris"].concat();
        for step in 1..9 {
            assert_eq!(find(&message(&fields), step), Ok(b"iris".to_vec()));
            assert_eq!(find(&message(&fields[..fields.len() - 6]), step), Err("absent"));
        }
        assert_eq!(find(&message(b""), 1), Err("absent"));
        assert_eq!(find(b"\0\0\0\0\x06\x0a\x04ir", 1), Err("more"));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(find(b"\x01\0\0\0\0", 1), Err("compressed"));
        assert_eq!(find(&message(b"\x0a\x7firis"), 1), Err("bad"), "longer than the message");
        assert_eq!(find(&message(b"\x0b"), 1), Err("bad"), "a group");
        assert_eq!(find(&message(&[0xff; 11]), 1), Err("bad"), "a number without end");
        assert_eq!(
            find(&message(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), 1),
            Err("bad")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_pieces_make_no_difference(fields: Vec<u8>, step in 1_usize..9) {
            let message = message(&fields);
            prop_assert_eq!(find(&message, step), find(&message, message.len()));
        }
    }
}

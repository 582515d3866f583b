//! What apps and the kernel say: lines of logs, answers to health checks, `/proc/PID/stat`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight::fuzz::{LOG_LINE_BYTES, log_lines, process_stat, serving_status};
use pilotlight_fuzz::pieces;

/// Field 1 of the message by a second reading; the last one counts (protobuf, "Last One Wins").
fn status(mut message: &[u8]) -> Option<u64> {
    let varint = |bytes: &mut &[u8]| -> Option<u64> {
        let length = bytes.iter().position(|byte| *byte < 0x80)? + 1;
        let (number, rest) = bytes.split_at(length);
        *bytes = rest;
        let digits = number.iter().rev().map(|byte| u128::from(byte & 0x7f));
        (length <= 10).then(|| digits.fold(0, |sum, digit| sum << 7 | digit) as u64)
    };
    let mut found = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skip = match tag % 8 {
            0 => {
                let value = varint(&mut message)?;
                found = if tag / 8 == 1 { value } else { found };
                0
            }
            1 => 8,
            2 => varint(&mut message)?,
            5 => 4,
            _ => return None,
        };
        message = message.get(usize::try_from(skip).ok()?..)?;
    }
    Some(found)
}

fuzz_target!(|data: &[u8]| {
    let (pieces, bytes) = pieces(data);
    let (lines, cut) = (log_lines(std::iter::once(bytes)), log_lines(pieces.into_iter()));
    assert_eq!(lines, cut);
    let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
    let last = bytes.last().is_some_and(|byte| *byte != b'\n');
    assert_eq!(lines.len(), ends + usize::from(last));
    for line in &lines {
        assert!(line.len() < 3 * (LOG_LINE_BYTES + 100));
        assert!(!line.contains(|c: char| c.is_control() && c != '\t' && c != '\u{1b}'), "{line:?}");
    }

    let frame = [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat();
    assert_eq!(serving_status(&frame), status(bytes));
    if let Some((head, message)) = bytes.split_at_checked(5) {
        let framed = head[0] == 0 && head[1..] == (message.len() as u32).to_be_bytes();
        assert!(framed || serving_status(bytes).is_none());
    }

    let text = String::from_utf8_lossy(bytes);
    let line = format!("42 ({text}) S 1 41 40 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 987 11 12");
    assert_eq!(process_stat(&line), Some((text.into_owned(), 987)));
    process_stat(&String::from_utf8_lossy(bytes));
});

//! `$(PORT)` and its kin: what is made of known pieces is known, and nothing grows without end.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pilotlight::runtime::process::expand::{Ports, expand};

/// What the kernel takes of arguments and environment together, and more.
const MOST: usize = 16 << 20;

/// What is longer may be cut.
const CUT: usize = 64 << 10;

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    /// Without `$`.
    Text(&'a str),
    Port,
    GrpcPort,
    Bare,
    Variable(u8),
    Unknown(&'a str),
    Escaped(u8),
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    grpc: bool,
    command: Vec<Piece<'a>>,
    env: Vec<(u8, Vec<Piece<'a>>)>,
    raw: Vec<(u8, &'a str)>,
}

fn name(n: u8) -> String {
    format!("V{}", n % 8)
}

fuzz_target!(|input: Input<'_>| {
    let ports = Ports { http: 8123, grpc: input.grpc.then_some(9123) };
    let mut known: Vec<(String, String)> = Vec::new();
    let made = |pieces: &[Piece<'_>], known: &[(String, String)]| -> (String, String) {
        let (mut written, mut expected) = (String::new(), String::new());
        for piece in pieces {
            let (text, value) = match piece {
                Piece::Text(text) => {
                    let text = text.replace(['$', '(', ')'], "");
                    (text.clone(), text)
                }
                Piece::Port => ("$(PORT)".into(), "8123".into()),
                Piece::GrpcPort if input.grpc => ("$(GRPC_PORT)".into(), "9123".into()),
                Piece::GrpcPort => ("$(GRPC_PORT)".into(), "$(GRPC_PORT)".into()),
                // A blank behind it: a letter would make it another name.
                Piece::Bare => ("$PORT ".into(), "8123 ".into()),
                Piece::Variable(n) => {
                    let (name, written) = (name(*n), format!("$({})", name(*n)));
                    let value =
                        known.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
                    (written.clone(), value.unwrap_or(written))
                }
                Piece::Unknown(text) => {
                    let written = format!("$(?{})", text.replace(['$', '(', ')'], ""));
                    (written.clone(), written)
                }
                Piece::Escaped(n) => (format!("$$({})", name(*n)), format!("$({})", name(*n))),
            };
            written.push_str(&text);
            expected.push_str(&value);
        }
        (written, expected)
    };
    let mut env = Vec::new();
    let mut size = 0;
    for (n, pieces) in input.env.iter().take(30) {
        let (written, expected) = made(pieces, &known);
        size += expected.len();
        env.push((name(*n), written));
        known.push((name(*n), expected));
        if size > CUT {
            return;
        }
    }
    let (written, expected) = made(&input.command, &known);
    if expected.len() > CUT {
        return;
    }
    let expanded = expand(&[written], &env, ports);
    assert_eq!(expanded.argv, [expected]);
    assert!(expanded.env.ends_with(&known));

    let raw: Vec<(String, String)> =
        input.raw.iter().map(|(n, text)| (name(*n), (*text).to_owned())).collect();
    let expanded = expand(&[], &raw, ports);
    let size: usize = expanded.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(size < MOST, "{size} bytes of environment");
});

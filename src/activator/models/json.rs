//! One member of a JSON object, found while the object's bytes still come.
//!
//! The scanner knows as much of JSON as it needs to tell members of the outermost object from what is inside of them;
//! texts are decoded by `serde_json`. It remembers where it was, so that a body in pieces of a byte costs no more than
//! one in one piece. Of a key that is there twice the first counts: most apps take the last, but whoever waits for it
//! has to read the whole body.

use memchr::memchr2;

use super::Look;

/// Looks for the value of one key.
#[derive(Debug)]
pub struct Finder {
    key: &'static str,
    /// How far the bytes are read; beyond their end when an escaped byte is still to come.
    at: usize,
    state: State,
    /// Where the text or number began that is being read.
    from: usize,
    /// Open brackets within a value.
    depth: usize,
    /// Whether the value that is being read is the one looked for.
    is_it: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    Key,
    InKey,
    Colon,
    Value,
    InText,
    InScalar,
    /// Within a list or map.
    Inside,
    InsideText,
    /// Behind a value.
    Comma,
}

/// Some clients write it, and some apps accept it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

// === impl Finder ===

impl Finder {
    /// For the value of `key`.
    pub fn new(key: &'static str) -> Self {
        Self { key, at: 0, state: State::Begin, from: 0, depth: 0, is_it: false }
    }

    /// Goes on in `bytes`, which are all that have come, those of the calls before among them.
    pub fn look<'b>(&mut self, bytes: &'b [u8]) -> Look<'b> {
        while let Some(&byte) = bytes.get(self.at) {
            match self.state {
                State::InKey | State::InText | State::InsideText => {
                    let Some(length) = memchr2(b'"', b'\\', &bytes[self.at..]) else {
                        self.at = bytes.len();
                        break;
                    };
                    self.at += length + 1;
                    if bytes[self.at - 1] == b'\\' {
                        self.at += 1;
                        continue;
                    }
                    let text = &bytes[self.from..self.at];
                    match self.state {
                        State::InKey => {
                            self.is_it = self.is_key(text);
                            self.state = State::Colon;
                        }
                        State::InText if self.is_it => return Look::Found(text),
                        State::InText => self.state = State::Comma,
                        _ => self.state = State::Inside,
                    }
                }
                State::InScalar => {
                    if matches!(byte, b',' | b'}') || is_blank(byte) {
                        if self.is_it {
                            return Look::Found(&bytes[self.from..self.at]);
                        }
                        self.state = State::Comma;
                    } else {
                        self.at += 1;
                    }
                }
                State::Inside => {
                    match byte {
                        b'"' => self.state = State::InsideText,
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => self.depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if self.depth == 0 {
                        self.state = State::Comma;
                    }
                }
                State::Begin if BYTE_ORDER_MARK.get(self.at) == Some(&byte) => self.at += 1,
                _ if is_blank(byte) => self.at += 1,
                _ => {
                    self.state = match (self.state, byte) {
                        (State::Begin, b'{') | (State::Comma, b',') => State::Key,
                        (State::Key, b'"') => State::InKey,
                        (State::Key | State::Comma, b'}') => return Look::Absent,
                        (State::Colon, b':') => State::Value,
                        (State::Value, b'"') => State::InText,
                        (State::Value, b'{' | b'[') if self.is_it => {
                            return Look::Found(&bytes[self.at..=self.at]);
                        }
                        (State::Value, b'{' | b'[') => {
                            self.depth = 1;
                            State::Inside
                        }
                        (State::Value, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => State::InScalar,
                        _ => return Look::Bad("the body is not a JSON object"),
                    };
                    self.from = self.at;
                    self.at += 1;
                }
            }
        }
        Look::More
    }

    fn is_key(&self, text: &[u8]) -> bool {
        let plain = &text[1..text.len() - 1];
        plain == self.key.as_bytes()
            || (plain.contains(&b'\\') && self::text(text).as_deref() == Some(self.key))
    }
}

/// A text as it stands in JSON, decoded.
pub fn text(quoted: &[u8]) -> Option<String> {
    serde_json::from_slice(quoted).ok()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use serde_json::{Value, json};

    /// As its bytes come, `step` at a time.
    fn find(bytes: &[u8], step: usize) -> Result<Option<Vec<u8>>, &'static str> {
        let mut finder = Finder::new("model");
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            match finder.look(&bytes[..end]) {
                Look::More => {}
                Look::Found(value) => return Ok(Some(value.to_vec())),
                Look::Absent => return Ok(None),
                Look::Bad(_) => return Err("bad"),
            }
        }
        Err("more")
    }

    #[track_caller]
    fn found(json: &str) -> Option<String> {
        let all = find(json.as_bytes(), json.len()).unwrap();
        assert_eq!(find(json.as_bytes(), 1).unwrap(), all, "in pieces: {json}");
        all.map(|raw| text(&raw).unwrap_or_else(|| String::from_utf8(raw).unwrap()))
    }

    #[test]
    fn only_the_outermost_key_counts() {
        assert_eq!(found(r#"{"model":"a"}"#).as_deref(), Some("a"));
        let nested = r#" { "x" : {"model":"no","y":[{"model":"}]"}]} , "n":-1e3,"t":true, "model" : "a" }"#;
        assert_eq!(found(nested).as_deref(), Some("a"));
        assert_eq!(found(r#"{"a":"model","b":"\"model\":\"no\"","\\":"\\","models":1}"#), None);
        assert_eq!(found("\u{feff}{\"model\":\"a\"}").as_deref(), Some("a"));
        assert_eq!(found(r"{}"), None);
    }

    #[test]
    fn escapes_are_read_in_keys_and_values() {
        assert_eq!(found(r#"{"mod\u0065l":"\u0061\"\\\ud83d\ude00"}"#).as_deref(), Some("a\"\\😀"));
    }

    #[test]
    fn the_first_of_two_counts() {
        assert_eq!(found(r#"{"model":"a","model":"b"}"#).as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_text_is_told_from_none() {
        assert_eq!(found(r#"{"model":null}"#).as_deref(), Some("null"));
        assert_eq!(found(r#"{"model":12 }"#).as_deref(), Some("12"));
        assert_eq!(found(r#"{"model":["a"]}"#).as_deref(), Some("["));
    }

    #[test]
    fn what_is_no_object_is_bad() {
        for bad in ["[", "\"model\"", "model=a", "{model:1}", "{\"a\" 1}", "{\"a\":}", "{\"a\":1 2}", "1"] {
            assert_eq!(find(bad.as_bytes(), 1), Err("bad"), "{bad}");
        }
        for more in ["", "{", "{\"model", "{\"model\":\"a", "{\"model\":\"a\\\"", "{\"model\":1"] {
            assert_eq!(find(more.as_bytes(), 1), Err("more"), "{more}");
        }
    }

    /// An object's members in order, those of one name too.
    struct Members(Vec<(String, Value)>);

    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct InOrder;
            impl<'de> Visitor<'de> for InOrder {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(InOrder)
        }
    }

    /// Where `serde_json` finds an object, both find the same first `model`.
    fn agree(bytes: &[u8], step: usize) {
        let found = find(bytes, step);
        let Ok(Members(members)) = serde_json::from_slice(bytes) else { return };
        let expected = members.into_iter().find(|(key, _)| key == "model").map(|(_, value)| value);
        let is_same = match (&found, &expected) {
            (Ok(Some(raw)), Some(value)) => match value {
                Value::Array(_) => raw == b"[",
                Value::Object(_) => raw == b"{",
                value => serde_json::from_slice::<Value>(raw).ok().as_ref() == Some(value),
            },
            (Ok(None), None) => true,
            _ => false,
        };
        assert!(is_same, "{found:?} instead of {expected:?}: {}", String::from_utf8_lossy(bytes));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            any::<i32>().prop_map(|n| json!(n)),
            prop_oneof![Just("model".to_owned()), ".{0,8}"].prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![Just("model".to_owned()), "[a-z\"\\\\{}]{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn documents_are_read_as_serde_json_reads_them(value in value(), pretty: bool, step in 1_usize..9) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            agree(&text.unwrap(), step);
        }

        #[test]
        fn so_is_what_looks_like_one(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..16),
            step in 1_usize..9,
        ) {
            agree(format!("{{{}}}", pieces.concat()).as_bytes(), step);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, step in 1_usize..9) {
            let _ = find(&bytes, step);
        }
    }

    const PIECES: [&str; 14] =
        ["\"model\"", "\"mod\\u0065l\"", "\"a\"", ":", ":", ",", ",", "1", "{", "}", "[", "]", "\\", " \n"];
}

//! Texts that differ from request to request: `{{index}}`, `{{random 1 6}}`, `{{uuid}}` …

use std::fmt::Write as _;

use pilotlight::clock;

/// What may stand between `{{` and `}}`, for messages.
pub(crate) const PLACEHOLDERS: &str =
    "{{index}}, {{copy}}, {{service}}, {{uuid}}, {{random}}, {{random FROM TO}}, {{words N}}, {{time}}";
/// Words of one `{{words N}}`.
const WORDS_MAX: usize = 10_000;
const WORDS: [&str; 32] = [
    "light", "model", "river", "stone", "seven", "paper", "cloud", "green", "winter", "engine", "signal",
    "garden", "number", "silver", "bridge", "letter", "window", "market", "answer", "planet", "forest",
    "harbor", "copper", "thread", "simple", "island", "summer", "valley", "mirror", "candle", "orange",
    "pilot",
];

/// A text with places to be filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// The request's number within its service, from 0.
    Index,
    Uuid,
    /// A whole number, both ends included.
    Random(u64, u64),
    /// So many words.
    Words(usize),
    /// Milliseconds since the Unix epoch.
    Time,
}

/// Whose text it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// The service's name.
    pub(crate) service: &'a str,
    /// Which of its copies, from 0.
    pub(crate) copy: u32,
}

impl From<String> for Template {
    /// Taken as it is.
    fn from(text: String) -> Self {
        let mut template = Self::default();
        template.text(&text);
        template
    }
}

// === impl Template ===

impl Template {
    /// Reads a text. The error is the placeholder that means nothing.
    pub(crate) fn parse(text: &str, owner: Owner<'_>) -> Result<Self, String> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            template.text(before);
            let (inside, after) = after.split_once("}}").ok_or_else(|| short(&format!("{{{{{after}")))?;
            match inside.trim() {
                "copy" => template.text(&owner.copy.to_string()),
                "service" => template.text(owner.service),
                other => {
                    let part = Part::parse(other).ok_or_else(|| short(&format!("{{{{{inside}}}}}")))?;
                    template.parts.push(part);
                }
            }
            rest = after;
        }
        template.text(rest);
        Ok(template)
    }

    /// The text, if it is always the same.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text of one request.
    pub(crate) fn render(&self, index: u64, rng: &mut fastrand::Rng) -> String {
        let mut out = String::new();
        for part in &self.parts {
            // Writing to a String does not fail.
            let _ = match part {
                Part::Text(text) => out.write_str(text),
                Part::Index => write!(out, "{index}"),
                Part::Random(from, to) => write!(out, "{}", rng.u64(*from..=*to)),
                Part::Time => write!(out, "{}", clock::wall_millis()),
                Part::Uuid => write!(out, "{}", uuid(rng)),
                Part::Words(n) => {
                    for i in 0..*n {
                        out.push_str(if i > 0 { " " } else { "" });
                        out.push_str(WORDS[rng.usize(..WORDS.len())]);
                    }
                    Ok(())
                }
            };
        }
        out
    }

    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(before)) => before.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }
}

impl Part {
    fn parse(inside: &str) -> Option<Self> {
        let words: Vec<&str> = inside.split_whitespace().collect();
        Some(match words.as_slice() {
            ["index"] => Self::Index,
            ["uuid"] => Self::Uuid,
            ["time"] => Self::Time,
            ["random"] => Self::Random(0, u64::from(u32::MAX)),
            ["random", from, to] => {
                let (from, to) = (from.parse().ok()?, to.parse().ok()?);
                (from <= to).then_some(Self::Random(from, to))?
            }
            ["words", n] => Self::Words(n.parse().ok().filter(|n| *n <= WORDS_MAX)?),
            _ => return None,
        })
    }
}

/// A random UUID (version 4).
fn uuid(rng: &mut fastrand::Rng) -> String {
    let bits = rng.u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner<'_> = Owner { service: "iris-3", copy: 3 };

    fn render(text: &str) -> String {
        Template::parse(text, OWNER).unwrap().render(7, &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn places_are_filled_in() {
        assert_eq!(
            render("{\"id\": {{index}}, \"of\": \"{{ service }}/{{copy}}\"}"),
            r#"{"id": 7, "of": "iris-3/3"}"#
        );
        let die: u64 = render("{{random 1 6}}").parse().unwrap();
        assert!((1..=6).contains(&die));
        assert_eq!(render("{{words 5}}").split(' ').count(), 5);
        let uuid = render("{{uuid}}");
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"), "{uuid}");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }

    #[test]
    fn the_same_seed_gives_the_same_text() {
        assert_eq!(render("{{uuid}} {{words 3}} {{random}}"), render("{{uuid}} {{words 3}} {{random}}"));
    }

    #[test]
    fn what_does_not_change_is_known_beforehand() {
        assert_eq!(Template::parse("a{{copy}}b", OWNER).unwrap().fixed(), Some("a3b"));
        assert_eq!(Template::parse("", OWNER).unwrap().fixed(), Some(""));
        assert_eq!(Template::parse("{{index}}", OWNER).unwrap().fixed(), None);
    }

    #[test]
    fn unknown_places_are_mistakes() {
        for bad in ["{{idx}}", "{{}}", "{{random 6 1}}", "{{words x}}", "{{words 99999999}}", "{{random 1}}"]
        {
            assert_eq!(Template::parse(bad, OWNER).unwrap_err(), bad);
        }
        assert_eq!(Template::parse("a {{index", OWNER).unwrap_err(), "{{index");
    }
}

//! Colour on the terminal, where there is one that wants it.

use std::io::IsTerminal as _;

/// What a piece of text is; without colour it is the text alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    #[default]
    Plain,
    /// A heading.
    Strong,
    /// Units and remarks.
    Faint,
    /// It holds, or is better.
    Good,
    /// It does not hold, or is worse.
    Bad,
    /// To be read before the figures are believed.
    Warning,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

// === impl Paint ===

impl Paint {
    /// For what is written to standard output: colour on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb }
    }

    /// Text alone.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self { on: false }
    }

    /// Colours whatever it is written to.
    #[cfg(test)]
    pub(crate) fn on() -> Self {
        Self { on: true }
    }

    /// `text` in its style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Strong => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Bad => "31;1",
            Style::Warning => "33",
            Style::Plain => return text.to_owned(),
        };
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text from outside, without what a terminal would obey.
pub(crate) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

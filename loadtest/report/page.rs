//! The frame of a page: one file, that needs nothing else and may do nothing.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::chart::{Chart, Colour};
use super::markup::escape;

const STYLE: &str = include_str!("page.css");

/// A page that is being written. What comes from outside goes through [`escape`] before it gets here.
#[derive(Debug, Default)]
pub(crate) struct Page {
    body: String,
}

// === impl Page ===

impl Page {
    /// Adds markup.
    pub(crate) fn add(&mut self, markup: &str) {
        self.body.push_str(markup);
        self.body.push('\n');
    }

    /// Adds a paragraph of a class; `text` is escaped.
    pub(crate) fn line(&mut self, class: &str, text: &str) {
        let _ = writeln!(self.body, "<p class=\"{class}\">{}</p>", escape(text));
    }

    /// Adds large figures; all is escaped.
    pub(crate) fn figures(&mut self, figures: &[(String, &str, &str)]) {
        self.add("<div class=\"figures\">");
        for (value, what, class) in figures {
            let (value, what) = (escape(value), escape(what));
            let _ = writeln!(
                self.body,
                "<div class=\"figure\"><b class=\"{class}\">{value}</b><span>{what}</span></div>"
            );
        }
        self.add("</div>");
    }

    /// Adds a table; all is escaped. A row's class comes first.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[(&str, Vec<String>)]) {
        self.add("<div class=\"wide\"><table><thead><tr>");
        for title in head {
            let _ = write!(self.body, "<th>{}</th>", escape(title));
        }
        self.add("</tr></thead><tbody>");
        for (class, cells) in rows {
            let _ = write!(self.body, "<tr class=\"{class}\">");
            for cell in cells {
                let _ = write!(self.body, "<td>{}</td>", escape(cell));
            }
            self.add("</tr>");
        }
        self.add("</tbody></table></div>");
    }

    /// Adds charts, side by side where there is room.
    pub(crate) fn charts(&mut self, charts: &[Chart]) {
        self.add("<div class=\"charts\">");
        for chart in charts {
            let _ = writeln!(self.body, "<figure><h3>{}</h3>", escape(&chart.title));
            if chart.legend.len() > 1 {
                self.add("<ul class=\"legend\">");
                for (colour, name) in &chart.legend {
                    let _ =
                        writeln!(self.body, "<li><i class=\"{}\"></i>{}</li>", colour.class(), escape(name));
                }
                self.add("</ul>");
            }
            self.add(&chart.svg());
            if !chart.note.is_empty() {
                let _ = writeln!(self.body, "<figcaption>{}</figcaption>", escape(&chart.note));
            }
            self.add("</figure>");
        }
        self.add("</div>");
    }

    /// The whole page, as XML could have it too. Only its own style may act, by its hash: no script, no picture, no address.
    pub(crate) fn finish(self, title: &str) -> String {
        let style = format!("{STYLE}{}", colours());
        let hash = STANDARD.encode(Sha256::digest(&style));
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; \
             base-uri 'none'; form-action 'none'\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n<meta name=\"referrer\" content=\"no-referrer\"/>\n\
             <title>{}</title>\n<style>{style}</style>\n</head>\n<body>\n{}\
             <footer>Made by loadtest {version}, of pilotlight.</footer>\n</body>\n</html>\n",
            escape(title),
            self.body
        )
    }
}

/// Swatches, and the dark form of what charts draw in the light one.
fn colours() -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for (_, class, day, night) in Colour::ALL {
        let _ = writeln!(light, ".legend .{class} {{ background: #{day:06x}; }}");
        let _ = writeln!(
            dark,
            "svg [stroke=\"#{day:06X}\"] {{ stroke: #{night:06x}; }} svg [fill=\"#{day:06X}\"] {{ fill: #{night:06x}; }} \
             .legend .{class} {{ background: #{night:06x}; }}"
        );
    }
    format!("{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

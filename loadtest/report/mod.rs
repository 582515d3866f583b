//! What a person gets of a run: a table on the terminal, JSON, one HTML file; and two runs side by side.
//!
//! Everything here is made of [`crate::run::Run`] and nothing else, so a report can be made of a JSON file at any time.
//! `series` turns seconds and looks at replicas into lines, `chart` draws them, `html` puts them on a page.

mod chart;
mod charts;
mod codes;
pub(crate) mod compare;
mod grid;
pub(crate) mod html;
pub(crate) mod json;
mod markup;
mod numbers;
mod page;
mod paint;
mod replicas;
#[cfg(test)]
mod samples;
mod series;
pub(crate) mod table;

pub(crate) use paint::Paint;

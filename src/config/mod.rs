//! Files, flags and environment → typed, validated, printable configuration.

pub mod spec;

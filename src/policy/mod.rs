//! policy
pub mod dispatch;

//! queue_proxy

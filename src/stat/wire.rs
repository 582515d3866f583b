//! Load on the wire: the messages of Knative's `stat.proto`, so that either side can be the other project's
//! (reference/knative.md §1.9). Declared here field by field: no build script, no generated file.

/// What one pod's load was.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stat {
    /// Who says so; empty when unknown.
    #[prost(string, tag = "1")]
    pub pod_name: String,
    /// Time-weighted average of requests in it, executing and queued.
    #[prost(double, tag = "2")]
    pub average_concurrent_requests: f64,
    /// Those of them that came through an activator that reports them too. Always 0 here: activators report only what
    /// they have not handed over, so nothing counts twice.
    #[prost(double, tag = "3")]
    pub average_proxied_concurrent_requests: f64,
    /// Requests per second that arrived.
    #[prost(double, tag = "4")]
    pub request_count: f64,
    /// As the proxied concurrency.
    #[prost(double, tag = "5")]
    pub proxied_request_count: f64,
    /// Seconds since it started.
    #[prost(double, tag = "6")]
    pub process_uptime: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "7")]
    pub timestamp: i64,
}

/// A stat, and whose.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WireStatMessage {
    /// The service's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The service's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its load.
    #[prost(message, optional, tag = "3")]
    pub stat: Option<Stat>,
}

/// Several of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WireStatMessages {
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<WireStatMessage>,
}

/// The messages' content type.
pub const CONTENT_TYPE: &str = "application/protobuf";

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// By hand, from the field numbers: key = number × 8 + wire type (0 varint, 1 eight bytes, 2 length-delimited).
    const STAT: &[u8] = &[
        0x0a, 3, b'p', b'-', b'1', // 1: "p-1"
        0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, // 2: 1.5
        0x21, 0, 0, 0, 0, 0, 0, 0x44, 0x40, // 4: 40.0
        0x31, 0, 0, 0, 0, 0, 0, 0xd0, 0x3f, // 6: 0.25
        0x38, 0xac, 0x02, // 7: 300 = 0b10_0101100
    ];

    fn stat() -> Stat {
        Stat {
            pod_name: "p-1".into(),
            average_concurrent_requests: 1.5,
            request_count: 40.0,
            process_uptime: 0.25,
            timestamp: 300,
            ..Stat::default()
        }
    }

    #[test]
    fn a_stat_is_these_bytes() {
        assert_eq!(stat().encode_to_vec(), STAT);
        assert_eq!(Stat::decode(STAT).unwrap(), stat());
        assert_eq!(Stat::default().encoded_len(), 0);
    }

    #[test]
    fn messages_nest() {
        let message = WireStatMessage { namespace: "n".into(), name: "s".into(), stat: Some(stat()) };
        let all = WireStatMessages { messages: vec![message.clone(), WireStatMessage::default()] };
        let inner = [&[0x0a, 1, b'n', 0x12, 1, b's', 0x1a, STAT.len() as u8][..], STAT].concat();
        assert_eq!(message.encode_to_vec(), inner);
        let outer = [&[0x0a, inner.len() as u8][..], &inner, &[0x0a, 0]].concat();
        assert_eq!(all.encode_to_vec(), outer);
        assert_eq!(WireStatMessages::decode(&outer[..]).unwrap(), all);
    }

    #[test]
    fn what_a_later_version_adds_is_skipped_and_a_cut_one_is_an_error() {
        let more = [STAT, &[0x40, 1, 0x4a, 2, 0, 0]].concat();
        assert_eq!(Stat::decode(&more[..]).unwrap(), stat());
        assert!(Stat::decode(&STAT[..STAT.len() - 1]).is_err());
    }
}

//! gRPC's headers, and the load that Knative's components send: read strictly, written so that it reads back.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::grpc;
use pilotlight::stat::wire::WireStatMessages;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = HeaderValue::from_bytes(data.trim_ascii()) {
        let headers =
            |name: &'static str| HeaderMap::from_iter([(http::HeaderName::from_static(name), value.clone())]);
        match grpc::timeout(&headers("grpc-timeout")) {
            Ok(Some(patience)) => {
                // ABNF: 1 to 8 digits and a unit.
                let text = value.to_str().expect("digits and a letter");
                let (number, unit) = text.split_at(text.len() - 1);
                assert!((1..=8).contains(&number.len()) && "HMSmun".contains(unit), "{text}");
                let mut told = HeaderMap::new();
                grpc::set_timeout(&mut told, patience);
                let again = grpc::timeout(&told).expect("ours is sound").expect("it is there");
                // Never less, and never 0, which is no call at all.
                assert!(again >= patience.max(Duration::from_nanos(1)), "{text}: {again:?}");
                assert!(again - patience <= patience / 90_000 + Duration::from_nanos(1), "{text}: {again:?}");
            }
            Ok(None) => panic!("it was there"),
            Err(_) => {
                let digits = data.iter().filter(|byte| byte.is_ascii_digit()).count();
                let sound = digits > 0
                    && digits <= 8
                    && digits + 1 == data.len()
                    && b"HMSmun".contains(&data[digits]);
                assert!(!sound || !data[..digits].iter().all(u8::is_ascii_digit), "{value:?}");
            }
        }
        let call = grpc::is_call(&headers("content-type"));
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let rest = text.strip_prefix("application/grpc");
        let by_hand = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', ' ']));
        assert_eq!(call, by_hand, "{value:?}");
    }
    if let Ok(stats) = WireStatMessages::decode(data) {
        let bytes = stats.encode_to_vec();
        assert_eq!(bytes.len(), stats.encoded_len());
        let again = WireStatMessages::decode(&bytes[..]).expect("what was written is sound");
        // NaN is not itself: the bytes are compared.
        assert_eq!(again.encode_to_vec(), bytes);
        assert!(bytes.len() <= 4 * data.len() + 16, "{} bytes grew to {}", data.len(), bytes.len());
    }
});

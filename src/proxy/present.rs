//! Which of the fields that are a hop's business a head has.
//!
//! Most heads have hardly any. One look at each name finds that out, instead of one search for each field that could be
//! there.

use http::header::HeaderMap;

/// A set of fields, each a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present(u32);

/// Gives each field its bit, and its name its field.
macro_rules! fields {
    ($($length:literal: $($name:literal $field:ident)+;)+) => {
        /// A field that may be there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // they are their names
        pub enum Field { $($($field,)+)+ }

        impl Field {
            fn named(name: &str) -> Option<Self> {
                // By length first: nearly every name is done with that.
                match name.len() {
                    $($length => match name { $($name => Some(Self::$field),)+ _ => None },)+
                    _ => None,
                }
            }
        }
    };
}

fields! {
    2: "te" Te;
    6: "expect" Expect "cookie" Cookie;
    7: "upgrade" Upgrade;
    9: "forwarded" Forwarded;
    10: "connection" Connection "keep-alive" KeepAlive;
    14: "http2-settings" Http2Settings "content-length" ContentLength;
    15: "x-forwarded-for" XForwardedFor;
    16: "x-forwarded-host" XForwardedHost "proxy-connection" ProxyConnection;
    17: "x-forwarded-proto" XForwardedProto "transfer-encoding" TransferEncoding;
    18: "proxy-authenticate" ProxyAuthenticate;
    19: "proxy-authorization" ProxyAuthorization;
}

// === impl Present ===

impl Present {
    /// Those that `headers` have.
    pub fn of(headers: &HeaderMap) -> Self {
        let fields = headers.keys().filter_map(|name| Field::named(name.as_str()));
        Self(fields.fold(0, |bits, field| bits | Self::bit(field)))
    }

    /// Whether this one is there.
    pub fn has(self, field: Field) -> bool {
        self.0 & Self::bit(field) != 0
    }

    /// Whether one of these is.
    pub fn any(self, fields: &[Field]) -> bool {
        fields.iter().any(|field| self.has(*field))
    }

    const fn bit(field: Field) -> u32 {
        1 << field as u32
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_is_there_is_found() {
        let mut headers = HeaderMap::new();
        for name in ["te", "x-forwarded-proto", "host", "connections", "ex", "transfer-encodinq"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let present = Present::of(&headers);
        assert!(present.has(Field::Te) && present.has(Field::XForwardedProto));
        for field in [Field::Connection, Field::Expect, Field::TransferEncoding, Field::Upgrade] {
            assert!(!present.has(field), "{field:?}");
        }
        assert!(present.any(&[Field::Upgrade, Field::Te]) && !present.any(&[Field::Cookie]));
    }

    #[test]
    fn a_name_is_as_long_as_it_says() {
        for name in [
            "te",
            "expect",
            "cookie",
            "upgrade",
            "forwarded",
            "connection",
            "keep-alive",
            "http2-settings",
            "content-length",
            "x-forwarded-for",
            "x-forwarded-host",
            "proxy-connection",
            "x-forwarded-proto",
            "transfer-encoding",
            "proxy-authenticate",
            "proxy-authorization",
        ] {
            assert!(Field::named(name).is_some(), "{name}");
        }
    }
}

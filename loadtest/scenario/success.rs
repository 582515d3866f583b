//! Which codes are good.

use pilotlight::config::field::Field;
use pilotlight::config::node::Value;

/// Ranges of codes, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Success(Vec<(u16, u16)>);

/// Reads a list of codes. With gRPC, they are its status codes.
pub(crate) fn read(field: &Field<'_>, grpc: bool) -> Option<Success> {
    let form =
        if grpc { "gRPC status codes from 0 to 16" } else { "codes such as 200, or classes such as 2xx" };
    let allowed = if grpc { 0..=16 } else { 100..=599 };
    let items = field.list();
    let ranges: Vec<(u16, u16)> = items
        .iter()
        .filter_map(|item| {
            let found = match &item.node.value {
                Value::Int(code, _) => {
                    u16::try_from(*code).ok().filter(|c| allowed.contains(c)).map(|c| (c, c))
                }
                Value::Text(text) if !grpc => {
                    let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
                    class.filter(|c| (1..=5).contains(c)).map(|c| (c * 100, c * 100 + 99))
                }
                _ => None,
            };
            found.or_else(|| item.wrong(form))
        })
        .collect();
    if items.is_empty() && matches!(field.node.value, Value::List(_)) {
        return field.wrong(format!("at least one of {form}"));
    }
    (ranges.len() == items.len()).then_some(Success(ranges))
}

// === impl Success ===

impl Success {
    /// 2xx, and with gRPC status 0.
    pub(crate) fn default_of(grpc: bool) -> Self {
        Self(vec![if grpc { (0, 0) } else { (200, 299) }])
    }

    /// Whether a code is good.
    pub(crate) fn has(&self, code: u16) -> bool {
        self.0.iter().any(|(from, to)| (from..=to).contains(&&code))
    }
}

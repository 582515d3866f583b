//! What the targets share.

pub mod http1;
pub mod memory;

/// Cuts `data`'s tail into pieces whose lengths its first bytes tell: how a peer's bytes may come.
pub fn pieces(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    const CUTS: usize = 4;
    let (cuts, text) = data.split_at(data.len().min(CUTS));
    let mut pieces = Vec::new();
    let mut rest = text;
    for cut in cuts.iter().cycle().take_while(|_| !cuts.is_empty()) {
        if rest.is_empty() {
            break;
        }
        // 255: all that is left, so that whole texts are common.
        let length = if *cut == u8::MAX { rest.len() } else { rest.len().min(usize::from(*cut) + 1) };
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    (pieces, text)
}

//! Payloads that surely show a lost, doubled or misplaced byte.

/// Bytes without a period: no two stretches of them are alike, and each seed gives others.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// As `assert_eq!`, for payloads that are too long to show.
#[track_caller]
pub(crate) fn assert_same(actual: &[u8], expected: &[u8]) {
    if actual == expected {
        return;
    }
    let same = actual.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let shown = |bytes: &[u8]| bytes[same..bytes.len().min(same + 48)].escape_ascii().to_string();
    panic!(
        "{} bytes instead of {}, different from byte {same} on: b'{}' instead of b'{}'",
        actual.len(),
        expected.len(),
        shown(actual),
        shown(expected),
    );
}

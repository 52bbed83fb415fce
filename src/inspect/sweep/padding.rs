//! The padding that linkers put between functions to align the next one.
//!
//! Most padding is harmless to a decoder: INT3 and NOPs end where the next function
//! starts. Zeros, which mold and linker scripts use, may not. Two zeros are one instruction,
//! `add %al,(%rax)`. If the number of zeros is odd, the last of them and the first bytes of the
//! next function decode as one instruction:
//!
//! ```text
//! c3                  ret
//! 00 00               add %al,(%rax)
//! 00 ff               add %bh,%bh          ff was the first byte of `call *slot`
//! 15 …
//! ```
//!
//! With symbols the sweep starts anew at each function. Without them it has to skip padding.

/// The byte sequences that padding repeats, zeros and UD2, where a linker chose them: the last UD2
/// can be cut in half.
pub(super) const FILLS: &[&[u8]] = &[&[0x00], &[0x0f, 0x0b]];

/// The same for a kernel of which it is known that it does not pad with UD2. There, a byte `0f` at
/// the end of 16 bytes is the start of an instruction.
pub(super) const ZEROS: &[&[u8]] = &[&[0x00]];

/// The alignment of functions in bytes, unless a compiler is told otherwise.
const ALIGNMENT: u64 = 16;

/// The kind of code that stands directly before an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// An instruction behind which execution goes on.
    Code,
    /// A call. If the function that it calls does not return, padding may follow.
    Call,
    /// Code from which execution cannot go on here: a return, a jump, a trap, padding, or the
    /// start of the section.
    End,
}

/// Returns the first address behind the padding at `at`, or `None` if there is no padding. `bytes`
/// are the bytes of the section from `at` on, and `fills` what padding can repeat.
///
/// - Behind the end of a function ([`Before::End`]), zeros are padding up to the first byte that
///   is not zero, but at most up to the next multiple of 16: a function can start with a zero.
/// - Behind a call, where more code may follow, a fill is padding only if it reaches to the next
///   multiple of 16 or to the end of the section.
/// - Behind other code, zeros are code.
pub(super) fn end_of_padding(
    fills: &[&[u8]],
    before: Before,
    at: u64,
    bytes: &[u8],
) -> Option<u64> {
    if before == Before::Code {
        return None;
    }
    // Above the highest multiple of 16 that fits into 64 bits, no function can start: padding
    // reaches to the end of the section.
    let boundary = at.checked_add(1)?.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
    let up_to_boundary = usize::try_from(boundary - at).ok()?.min(bytes.len());
    fills.iter().find_map(|fill| {
        let pattern = fill.iter().cycle();
        let len = bytes.iter().zip(pattern).take_while(|(byte, fill)| byte == fill).count();
        let aligned = at.is_multiple_of(ALIGNMENT);
        match len {
            0 => None,
            // Behind a call, a lone `0f` may as well begin an instruction such as `movzbl`.
            len if before == Before::Call && len < fill.len() => None,
            len if len >= up_to_boundary => Some(at + up_to_boundary as u64),
            len if before == Before::End && !aligned && fill.len() == 1 => Some(at + len as u64),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Before, FILLS, ZEROS, end_of_padding};

    /// Tries bytes at an address behind each kind of code, and expects where code starts again.
    #[test]
    fn padding_ends_where_code_starts() {
        let zeros = [0; 40];
        let then = |zeros: usize, code: u8| [vec![0; zeros], vec![code, 0, 0]].concat();
        for (before, at, bytes, expected) in [
            // Up to the next multiple of 16, although more zeros follow.
            (Before::End, 0x1001, &zeros[..], Some(0x1010)),
            (Before::Call, 0x1001, &zeros[..], Some(0x1010)),
            (Before::End, 0x1010, &zeros[..], Some(0x1020)),
            // Up to the end of the section.
            (Before::Call, 0x1001, &zeros[..3], Some(0x1004)),
            // Up to the first byte of a function that is aligned to less.
            (Before::End, 0x1001, &then(3, 0x55), Some(0x1004)),
            (Before::End, 0x1005, &then(1, 0x55), Some(0x1006)),
            // Behind a call that may return, zeros before other bytes are code.
            (Before::Call, 0x1001, &then(3, 0x55), None),
            // A function whose first byte is a zero.
            (Before::End, 0x1010, &then(1, 0x05), None),
            (Before::Code, 0x1001, &zeros[..], None),
            (Before::End, 0x1001, &[0x55], None),
            (Before::End, 0x1001, &[], None),
            // Behind a call, half a UD2 is no padding.
            (Before::Call, 0x100f, &[0x0f, 0xb6, 0x05], None),
            (Before::End, 0x100f, &[0x0f, 0xb6, 0x05], Some(0x1010)),
            (Before::Call, 0x100e, &[0x0f, 0x0b, 0x55], Some(0x1010)),
            // At the last addresses.
            (Before::End, u64::MAX - 4, &zeros[..4], Some(u64::MAX)),
            (Before::End, u64::MAX, &zeros[..4], None),
            // UD2, cut in the middle.
            (Before::End, 0x100d, &[0x0f, 0x0b, 0x0f, 0x55], Some(0x1010)),
            (Before::End, 0x100d, &[0x0f, 0x0b, 0x55, 0x55], None),
        ] {
            let found = end_of_padding(FILLS, before, at, bytes);
            assert_eq!(found, expected, "{before:?} {at:#x} {bytes:02x?}");
        }
    }

    /// Tries a byte that is the last of 16: where UD2 is no padding, an instruction starts there.
    #[test]
    fn without_ud2_only_zeros_are_padding() {
        let movzbl = [0x0f, 0xb6, 0x05];
        assert_eq!(end_of_padding(FILLS, Before::End, 0x100f, &movzbl), Some(0x1010));
        assert_eq!(end_of_padding(ZEROS, Before::End, 0x100f, &movzbl), None);
        assert_eq!(end_of_padding(ZEROS, Before::End, 0x1001, &[0; 40]), Some(0x1010));
    }
}

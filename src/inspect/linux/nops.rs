//! The NOPs with which Linux fills what a replacement does not need.

use crate::insn::{LEA, LONG, Width};

/// A family of NOPs: for each length the bytes of one instruction or of several.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NopFamily {
    pub name: &'static str,
    pub width: Option<Width>,
    /// The NOPs of 1, 2, 3… bytes.
    nops: &'static [&'static [u8]],
}

/// All families. The newest come first: for a few kernels two of them explain everything.
pub(crate) const FAMILIES: &[NopFamily] = &[
    NopFamily { name: "p6", width: Some(Width::Bits64), nops: P6 },
    // Of the families of `lea`, the first has a prefix where the other has two instructions.
    NopFamily {
        name: "generic",
        width: Some(Width::Bits32),
        nops: &[
            LEA[0],
            LEA[1],
            LEA[2],
            LEA[3],
            &[0x3e, 0x8d, 0x74, 0x26, 0],
            LEA[5],
            LEA[6],
            &[0x3e, 0x8d, 0xb4, 0x26, 0, 0, 0, 0],
        ],
    },
    NopFamily {
        name: "intel",
        width: Some(Width::Bits32),
        nops: &[
            LEA[0],
            LEA[1],
            LEA[2],
            LEA[3],
            LEA[4],
            LEA[5],
            LEA[6],
            &[0x90, 0x8d, 0xb4, 0x26, 0, 0, 0, 0],
        ],
    },
    NopFamily { name: "p6", width: Some(Width::Bits32), nops: P6 },
    NopFamily {
        name: "k8",
        width: None,
        nops: &[
            &[0x90],
            &[0x66, 0x90],
            &[0x66, 0x66, 0x90],
            &[0x66, 0x66, 0x66, 0x90],
            &[0x66, 0x66, 0x90, 0x66, 0x90],
            &[0x66, 0x66, 0x90, 0x66, 0x66, 0x90],
            &[0x66, 0x66, 0x66, 0x90, 0x66, 0x66, 0x90],
            &[0x66, 0x66, 0x66, 0x90, 0x66, 0x66, 0x66, 0x90],
        ],
    },
    NopFamily {
        name: "k7",
        width: Some(Width::Bits32),
        nops: &[
            &[0x90],
            &[0x8b, 0xc0],
            &[0x8d, 0x04, 0x20],
            &[0x8d, 0x44, 0x20, 0],
            &[0x8d, 0x44, 0x20, 0, 0x90],
            &[0x8d, 0x80, 0, 0, 0, 0],
            &[0x8d, 0x04, 0x05, 0, 0, 0, 0],
            &[0x8d, 0x04, 0x05, 0, 0, 0, 0, 0x90],
        ],
    },
];

/// NOPL with operands of growing length. Linux prolongs it by more than eight bytes with other
/// prefixes than this crate does.
const P6: &[&[u8]] = &[
    LONG[0],
    LONG[1],
    LONG[2],
    LONG[3],
    LONG[4],
    LONG[5],
    LONG[6],
    LONG[7],
    &[0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];

impl NopFamily {
    /// Returns the NOP of a length.
    pub(crate) fn of(&self, len: usize) -> Option<&'static [u8]> {
        self.nops.get(len.checked_sub(1)?).copied()
    }

    /// Fills bytes with NOPs, the longest of at most `longest` bytes first.
    pub(crate) fn fill(&self, mut to: &mut [u8], longest: usize) {
        while !to.is_empty() {
            let len = to.len().min(longest).min(self.nops.len()).max(1);
            let (now, rest) = to.split_at_mut(len);
            now.copy_from_slice(self.of(len).unwrap_or(&[0x90]));
            to = rest;
        }
    }

    /// Fills bytes with one NOP, or with a jump over INT3 if no NOP is so long.
    pub(crate) fn fill_or_jump(&self, to: &mut [u8], longest: usize) {
        let len = to.len();
        if len <= longest
            && let Some(nop) = self.of(len)
        {
            to.copy_from_slice(nop);
            return;
        }
        let mut jump = Vec::with_capacity(5);
        if len < 128 {
            jump.extend([0xeb, (len.saturating_sub(2)) as u8]);
        } else {
            jump.push(0xe9);
            jump.extend((len.saturating_sub(5) as u32).to_le_bytes());
        }
        to.fill(0xcc);
        for (to, from) in to.iter_mut().zip(jump) {
            *to = from;
        }
    }
}

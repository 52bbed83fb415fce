//! What stands where a replacement needs less than its site has.

use super::Rules;
use super::code::{instruction_length, is_nop};
use super::habits::Filling;

impl Rules<'_, '_> {
    /// Makes longer NOPs of those in `bytes`, as far as this kernel does it.
    pub(super) fn optimize(&self, address: u64, bytes: &mut [u8]) {
        let longest = self.habits.longest(self.width());
        let mut at = 0;
        // The last jump, and where it leads.
        let mut jump = None;
        while at < bytes.len() {
            let code = bytes.get(at..).unwrap_or_default();
            let Some(len) = instruction_length(self.width(), address, code) else { return };
            let end = match self.habits.filling {
                Filling::Padding => return,
                Filling::Runs => at + code.iter().take_while(|&&byte| byte == 0x90).count(),
                Filling::Instructions => {
                    if !is_nop(code) {
                        at
                    } else if at + len == bytes.len() {
                        // One NOP at the end is left.
                        return;
                    } else {
                        let mut end = at;
                        while let Some(code) = bytes.get(end..).filter(|code| is_nop(code))
                            && let Some(len) = instruction_length(self.width(), address, code)
                        {
                            end += len;
                        }
                        end.min(bytes.len())
                    }
                }
            };
            if end == at {
                jump = jump_target(at, code).map(|target| (at, target)).or(jump);
                at += len;
                continue;
            }
            let start = match jump {
                Some((start, target)) if self.habits.joins_jumps && target == end => start,
                _ => at,
            };
            if let Some(run) = bytes.get_mut(start..end) {
                match self.habits.filling {
                    Filling::Instructions => self.habits.nops.fill_or_jump(run, longest),
                    _ => self.habits.nops.fill(run, longest),
                }
            }
            at = end;
        }
    }

    /// Returns the NOP of five bytes that is one instruction.
    pub(super) fn atomic_nop(&self) -> [u8; 5] {
        match self.habits.nops.name {
            "k8" => [0x66, 0x66, 0x66, 0x66, 0x90],
            "k7" => [0x3e, 0x8d, 0x44, 0x20, 0],
            "intel" | "generic" => [0x3e, 0x8d, 0x74, 0x26, 0],
            _ => [0x0f, 0x1f, 0x44, 0, 0],
        }
    }
}

/// Returns where the JMP leads with which code at an offset begins, if it is one and leads onwards.
fn jump_target(at: usize, code: &[u8]) -> Option<usize> {
    let (len, distance) = match *code {
        [0xeb, distance, ..] => (2, i32::from(distance.cast_signed())),
        [0xe9, a, b, c, d, ..] => (5, i32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    Some(at + len + usize::try_from(distance).ok()?)
}

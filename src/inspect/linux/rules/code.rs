//! Instructions as bytes: branches are written, others are decoded.

use iced_x86::Instruction;

use crate::disassemble::decoder;
use crate::insn::Width;
use crate::inspect::elf::little_endian;

/// Returns a CALL (0xe8) or JMP (0xe9) of five bytes at `site`.
pub(super) fn branch(opcode: u8, site: u64, target: u64) -> [u8; 5] {
    let distance = target.wrapping_sub(site.wrapping_add(5)) as u32;
    let [a, b, c, d] = distance.to_le_bytes();
    [opcode, a, b, c, d]
}

/// Returns the target of the CALL or JMP of five bytes with which code begins.
pub(in crate::inspect::linux) fn target_of_branch(address: u64, code: &[u8]) -> Option<u64> {
    let [0xe8 | 0xe9, distance @ ..] = code.first_chunk::<5>()? else { return None };
    let distance = i64::from(i32::from_le_bytes(*distance));
    Some(address.wrapping_add(5).wrapping_add_signed(distance))
}

/// Adds to a little-endian number in bytes.
pub(super) fn add_to(bytes: &mut [u8], at: usize, size: usize, distance: u64) {
    if let Some(field) = bytes.get_mut(at..at + size) {
        let sum = sign_extended(field).cast_unsigned().wrapping_add(distance);
        for (to, from) in field.iter_mut().zip(sum.to_le_bytes()) {
            *to = from;
        }
    }
}

/// Returns a little-endian number of at most eight bytes, sign-extended.
pub(super) fn sign_extended(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    (little_endian(bytes) << unused).cast_signed() >> unused
}

/// Decodes the first instruction, or returns `None` if it is none.
pub(in crate::inspect::linux) fn decode(
    width: Width,
    address: u64,
    code: &[u8],
) -> Option<Instruction> {
    let instruction = decoder(width, address, code).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Returns the length of the first instruction.
pub(super) fn instruction_length(width: Width, address: u64, code: &[u8]) -> Option<usize> {
    decode(width, address, code).map(|instruction| instruction.len())
}

/// Returns whether code begins with a NOP that newer kernels take for one: 0x90 or NOPL, with
/// prefixes but not with REP.
pub(super) fn is_nop(code: &[u8]) -> bool {
    let prefixes = code.iter().take_while(|byte| matches!(byte, 0x66 | 0x2e | 0x3e)).count();
    matches!(code.get(prefixes..), Some([0x90, ..] | [0x0f, 0x1f, ..]))
}

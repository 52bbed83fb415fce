//! Instructions as text, and other questions that the tool and the proof of contracts both ask
//! of the crate iced-x86.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, Instruction};

use crate::insn::Width;

/// The largest size of an instruction, in bytes (Intel SDM vol. 2A, "Instruction Prefixes").
pub(crate) const LONGEST_INSTRUCTION: usize = 15;

/// Returns the width as a number of bits, 32 or 64.
pub(crate) const fn bits(width: Width) -> u32 {
    width.pointer_size() as u32 * 8
}

/// Returns a decoder of the code that starts with `bytes` at `address`.
pub(crate) fn decoder(width: Width, address: u64, bytes: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(bits(width), bytes, address, DecoderOptions::NONE)
}

/// Returns the bytes at an address as AT&T assembly in one line, such as `pushfq; popq %rax`.
/// `name` returns the name of an address; it is asked for the targets of direct branches.
#[must_use]
pub(crate) fn disassemble(
    width: Width,
    address: u64,
    bytes: &[u8],
    name: impl Fn(u64) -> Option<String>,
) -> String {
    /// The largest number of instructions shown. A site has at most 32 bytes, and so at most
    /// 32 instructions; this limits what a damaged file makes the tool print.
    const SHOWN: usize = 40;
    let mut formatter = GasFormatter::new();
    let style = formatter.options_mut();
    style.set_gas_show_mnemonic_size_suffix(true);
    style.set_uppercase_hex(false);
    style.set_branch_leading_zeros(false);
    let mut text = String::new();
    // One-byte NOPs in a row are counted and shown as `nop ×5`: unpatched sites are padded with
    // them.
    let mut nops = 0;
    for instruction in decoder(width, address, bytes).into_iter().take(SHOWN) {
        let mut one = String::new();
        formatter.format(&instruction, &mut one);
        if one == "nop" {
            nops += 1;
            continue;
        }
        push_nops(&mut text, &mut nops);
        // Sources have `iret`, so that is what readers look for. Assemblers take it for `iretl`.
        push(&mut text, if one == "iretl" { "iret" } else { &one });
        if let Some(target) = branch_target(&instruction).and_then(&name) {
            text += &format!(" <{target}>");
        }
    }
    push_nops(&mut text, &mut nops);
    text
}

/// Appends an instruction to the text, with `; ` before it unless it is the first.
fn push(text: &mut String, instruction: &str) {
    if !text.is_empty() {
        *text += "; ";
    }
    *text += instruction;
}

/// Appends the NOPs that were counted, if any, and sets the count to 0.
fn push_nops(text: &mut String, nops: &mut usize) {
    match std::mem::take(nops) {
        0 => {}
        1 => push(text, "nop"),
        count => push(text, &format!("nop ×{count}")),
    }
}

/// Returns the target of a direct branch, or `None` for any other instruction. A target of 0 is
/// taken for none, because iced-x86 returns 0 for a branch that is not direct.
pub(crate) fn branch_target(instruction: &Instruction) -> Option<u64> {
    use FlowControl::{Call, ConditionalBranch, UnconditionalBranch, XbeginXabortXend};

    let branches = matches!(
        instruction.flow_control(),
        Call | ConditionalBranch | UnconditionalBranch | XbeginXabortXend
    );
    branches.then(|| instruction.near_branch_target()).filter(|&target| target != 0)
}

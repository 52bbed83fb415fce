//! Instructions as text, by iced-x86, and what the tool and the proof of contracts both
//! ask of that crate.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, Instruction};

use crate::insn::Width;

/// Returns the width as a number of bits, as iced-x86 takes it and people say it.
pub(crate) const fn bits(width: Width) -> u32 {
    width.pointer_size() as u32 * 8
}

/// Returns a decoder of the code that starts with `bytes` at `address`.
pub(crate) fn decoder(width: Width, address: u64, bytes: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(bits(width), bytes, address, DecoderOptions::NONE)
}

/// Returns bytes at an address as AT&T assembly, `pushfq; popq %rax`; `name` tells the
/// name of a direct branch's target.
#[must_use]
pub(crate) fn disassemble(
    width: Width,
    address: u64,
    bytes: &[u8],
    name: impl Fn(u64) -> Option<String>,
) -> String {
    /// More than any site has.
    const SHOWN: usize = 40;
    let mut formatter = GasFormatter::new();
    let style = formatter.options_mut();
    style.set_gas_show_mnemonic_size_suffix(true);
    style.set_uppercase_hex(false);
    style.set_branch_leading_zeros(false);
    let mut text = String::new();
    // What a site is padded with is one instruction many times.
    let mut nops = 0;
    for instruction in decoder(width, address, bytes).into_iter().take(SHOWN) {
        let mut one = String::new();
        formatter.format(&instruction, &mut one);
        if one == "nop" {
            nops += 1;
            continue;
        }
        push_nops(&mut text, &mut nops);
        // The only instruction for which assemblers take the plain name too.
        push(&mut text, if one == "iretl" { "iret" } else { &one });
        if let Some(target) = branch_target(&instruction).and_then(&name) {
            text += &format!(" <{target}>");
        }
    }
    push_nops(&mut text, &mut nops);
    text
}

/// Appends one more instruction.
fn push(text: &mut String, instruction: &str) {
    if !text.is_empty() {
        *text += "; ";
    }
    *text += instruction;
}

/// Appends the NOPs that were only counted so far.
fn push_nops(text: &mut String, nops: &mut usize) {
    match std::mem::take(nops) {
        0 => {}
        1 => push(text, "nop"),
        count => push(text, &format!("nop ×{count}")),
    }
}

/// Returns where a direct branch leads.
pub(crate) fn branch_target(instruction: &Instruction) -> Option<u64> {
    use FlowControl::{Call, ConditionalBranch, UnconditionalBranch, XbeginXabortXend};

    let branches = matches!(
        instruction.flow_control(),
        Call | ConditionalBranch | UnconditionalBranch | XbeginXabortXend
    );
    branches.then(|| instruction.near_branch_target()).filter(|&target| target != 0)
}

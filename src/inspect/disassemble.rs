//! Instructions as text, by iced-x86; nothing else here knows that crate but the
//! sweep over text (`verify/text.rs`).

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, Instruction};

use crate::insn::Width;

/// For iced-x86.
pub(super) const fn bitness(width: Width) -> u32 {
    match width {
        Width::Bits32 => 32,
        Width::Bits64 => 64,
    }
}

/// `9c 58`
#[must_use]
pub fn bytes_in_hex(bytes: &[u8]) -> String {
    /// More than any site has; the rest of a patchlet without sense is cut.
    const SHOWN: usize = 40;
    let mut text = String::new();
    for (at, byte) in bytes.iter().take(SHOWN).enumerate() {
        let space = if at > 0 { " " } else { "" };
        text += &format!("{space}{byte:02x}");
    }
    if bytes.len() > SHOWN {
        text += " …";
    }
    text
}

/// Bytes at an address as AT&T assembly, `pushfq; popq %rax`; `name` tells the
/// name of a direct branch's target.
#[must_use]
pub fn disassemble(
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
    let options = DecoderOptions::NONE;
    let decoder = Decoder::with_ip(bitness(width), bytes, address, options);
    for instruction in decoder.into_iter().take(SHOWN) {
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

/// One more instruction.
fn push(text: &mut String, instruction: &str) {
    if !text.is_empty() {
        *text += "; ";
    }
    *text += instruction;
}

/// The NOPs that were only counted so far.
fn push_nops(text: &mut String, nops: &mut usize) {
    match std::mem::take(nops) {
        0 => {}
        1 => push(text, "nop"),
        count => push(text, &format!("nop ×{count}")),
    }
}

/// Where a direct branch leads.
pub(super) fn branch_target(instruction: &Instruction) -> Option<u64> {
    use FlowControl::{Call, ConditionalBranch, UnconditionalBranch, XbeginXabortXend};

    let branches = matches!(
        instruction.flow_control(),
        Call | ConditionalBranch | UnconditionalBranch | XbeginXabortXend
    );
    branches.then(|| instruction.near_branch_target()).filter(|&target| target != 0)
}

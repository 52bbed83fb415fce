//! The meaning of a patchlet's bytes according to iced-x86, which is independent of the assembler
//! that made them. Its encoder gives the bytes that an op's instructions must have, and its decoder
//! gives the instructions of the bytes at hand.

use iced_x86::code_asm::*;
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, IcedError};

use super::table::{Expected, Width};

/// Checks that the encoder makes these bytes of the op's instructions.
pub fn check_encoded(width: Width, row: &Expected, bytes: &[u8]) -> Result<(), String> {
    let name = row.name;
    let encoded = encode(width, name).map_err(|error| format!("{width} `{name}`: {error}"))?;
    if encoded == bytes {
        return Ok(());
    }
    Err(format!(
        "{width} `{name}`: the bytes {} mean `{}`; its instructions encode to {}",
        hex(bytes),
        decode(width, bytes),
        hex(&encoded)
    ))
}

/// Checks that the decoder reads the op's instructions in these bytes.
pub fn check_decoded(width: Width, row: &Expected, bytes: &[u8]) -> Result<(), String> {
    let decoded = decode(width, bytes);
    if decoded == row.assembly {
        return Ok(());
    }
    Err(format!(
        "{width} `{}`: the bytes {} mean `{decoded}`, not `{}`",
        row.name,
        hex(bytes),
        row.assembly
    ))
}

/// Returns bytes in hexadecimal, such as `9c 58`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Encodes the instructions of an op, which are written here once more as Rust expressions.
fn encode(width: Width, name: &str) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(bitness(width))?;
    match (name, width) {
        ("irq_disable", _) => a.cli()?,
        ("irq_enable", _) => a.sti()?,
        ("save_fl", Width::Bits64) => {
            a.pushfq()?;
            a.pop(rax)?;
        }
        ("save_fl", Width::Bits32) => {
            a.pushfd()?;
            a.pop(eax)?;
        }
        ("restore_fl", Width::Bits64) => {
            a.push(rdi)?;
            a.popfq()?;
        }
        ("restore_fl", Width::Bits32) => {
            a.push(eax)?;
            a.popfd()?;
        }
        ("read_cr2", Width::Bits64) => a.mov(rax, cr2)?,
        ("read_cr2", Width::Bits32) => a.mov(eax, cr2)?,
        ("read_cr3", Width::Bits64) => a.mov(rax, cr3)?,
        ("read_cr3", Width::Bits32) => a.mov(eax, cr3)?,
        ("write_cr3", Width::Bits64) => a.mov(cr3, rdi)?,
        ("write_cr3", Width::Bits32) => a.mov(cr3, eax)?,
        ("wbinvd", _) => a.wbinvd()?,
        ("swapgs", Width::Bits64) => a.swapgs()?,
        ("usergs_sysret64", Width::Bits64) => {
            a.swapgs()?;
            a.sysretq()?;
        }
        ("iret", Width::Bits32) => a.iretd()?,
        ("ident_64", Width::Bits64) => a.mov(rax, rdi)?,
        ("queued_spin_unlock", Width::Bits64) => a.mov(byte_ptr(rdi), 0)?,
        ("queued_spin_unlock", Width::Bits32) => a.mov(byte_ptr(eax), 0)?,
        ("vcpu_is_preempted", _) => a.xor(eax, eax)?,
        ("ud2", _) => a.ud2()?,
        ("safe_halt", _) => {
            a.sti()?;
            a.hlt()?;
        }
        ("halt", _) => a.hlt()?,
        _ => panic!("say here which instructions the {width} `{name}` has"),
    }
    a.assemble(0)
}

/// Returns the bytes as assembly, written as in the table.
fn decode(width: Width, bytes: &[u8]) -> String {
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_gas_show_mnemonic_size_suffix(true);
    let instruction = |instruction| {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        // The table has `iret`, which assemblers take for `iretl`.
        if text == "iretl" { "iret".to_owned() } else { text }
    };
    Decoder::new(bitness(width), bytes, DecoderOptions::NONE)
        .iter()
        .map(instruction)
        .collect::<Vec<_>>()
        .join("; ")
}

fn bitness(width: Width) -> u32 {
    match width {
        Width::Bits64 => 64,
        Width::Bits32 => 32,
    }
}

//! Computes the bytes of stack: of the deepest chain of direct calls, by the frame sizes that the
//! compiler prints (`-Z emit-stack-sizes`). Functions that are called by pointer are not counted,
//! such as those that print an error.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::Result;

/// A function of the kernel: the bytes of its frame, with the return address, and
/// whom it calls.
struct Function {
    frame: u64,
    callees: Vec<u64>,
}

/// Bytes of stack that `root` and everything it calls need at the most.
pub fn depth(elf: &object::File<'_>, root: &str) -> Result<String> {
    let functions = functions(elf)?;
    let start = elf.symbol_by_name(root).ok_or_else(|| format!("no function {root}"))?.address();
    Ok(deepest(&functions, start, &mut Vec::new())?.to_string())
}

fn deepest(functions: &BTreeMap<u64, Function>, at: u64, path: &mut Vec<u64>) -> Result<u64> {
    let function = functions.get(&at).ok_or_else(|| format!("no function at {at:#x}"))?;
    if path.contains(&at) {
        return Err(format!("the function at {at:#x} calls itself").into());
    }
    path.push(at);
    let mut below = 0;
    for &callee in &function.callees {
        below = below.max(deepest(functions, callee, path)?);
    }
    path.pop();
    Ok(function.frame + below)
}

fn functions(elf: &object::File<'_>) -> Result<BTreeMap<u64, Function>> {
    let frames = frames(elf)?;
    let (bits, pointer) = if elf.is_64() { (64, 8) } else { (32, 4) };
    let text = elf.section_by_name(".text").ok_or("no .text")?;
    let mut functions = BTreeMap::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let (address, size) = (symbol.address(), symbol.size());
        let code = text.data_range(address, size)?.ok_or("a function outside .text")?;
        let inside = address..address + size;
        // A tail call is a jump. 0 is of what does not branch, or branches by
        // pointer.
        let callees = Decoder::with_ip(bits, code, address, DecoderOptions::NONE)
            .iter()
            .map(|instruction| instruction.near_branch_target())
            .filter(|to| *to != 0 && !inside.contains(to))
            .collect();
        // Those in assembly have no frame size, and push a word or two.
        let frame = frames.get(&address).copied().unwrap_or(2 * pointer) + pointer;
        functions.insert(address, Function { frame, callees });
    }
    Ok(functions)
}

/// Address of each function, and its frame: `.stack_sizes` is address and ULEB128.
fn frames(elf: &object::File<'_>) -> Result<BTreeMap<u64, u64>> {
    let section = elf.section_by_name(".stack_sizes").ok_or("no .stack_sizes")?;
    let mut bytes = section.data()?;
    let width = if elf.is_64() { 8 } else { 4 };
    // Little-endian, so many bits of each byte.
    let number = |bytes: &[u8], bits: u32| {
        bytes.iter().rev().fold(0, |sum, &byte| sum << bits | u64::from(byte) & ((1 << bits) - 1))
    };
    let mut frames = BTreeMap::new();
    while bytes.len() > width {
        let (address, rest) = bytes.split_at(width);
        let end = rest.iter().position(|byte| byte & 0x80 == 0).ok_or("a broken .stack_sizes")?;
        let (frame, rest) = rest.split_at(end + 1);
        frames.insert(number(address, 8), number(frame, 7));
        bytes = rest;
    }
    Ok(frames)
}

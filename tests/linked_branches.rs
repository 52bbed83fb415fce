//! Checks the static branches in the fat-LTO test kernels: one instruction of five bytes, with the
//! bytes of the state in which its key starts; nothing reads the key or compares on the way; and
//! the side that is not usual lies out of line.

mod support {
    pub mod kernel;
    #[allow(dead_code, reason = "the native set is for other tests")]
    pub mod table;
}

use std::collections::BTreeMap;
use std::fs;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use object::{Object, ObjectSection, ObjectSymbol};
use support::kernel::build;
use support::table::Width;

/// A branch, as its record says.
#[derive(Debug)]
struct Branch {
    site: u64,
    key: u64,
    shape: u32,
    target: u64,
}

/// Returns the address that is stored at this place relative to it.
fn relative(address: u64, bytes: &[u8], at: usize) -> u64 {
    let field = i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    address.wrapping_add(at as u64).wrapping_add_signed(field.into())
}

fn branches(file: &object::File<'_>) -> Vec<Branch> {
    let section = file.section_by_name("patchlet_branches").expect("there are branches");
    let (start, data) = (section.address(), section.data().expect("data"));
    assert_eq!(data.len() % 16, 0);
    (0..data.len())
        .step_by(16)
        .map(|at| Branch {
            site: relative(start, data, at),
            key: relative(start, data, at + 4),
            shape: u32::from_le_bytes(data[at + 8..at + 12].try_into().expect("four bytes")),
            target: relative(start, data, at + 12),
        })
        .collect()
}

/// Returns name, state at the start, and flags of each key, by its address.
fn keys(file: &object::File<'_>) -> BTreeMap<u64, (String, u8, u8)> {
    let section = file.section_by_name("patchlet_keys").expect("there are keys");
    let (start, data) = (section.address(), section.data().expect("data"));
    let (mut at, mut keys) = (0, BTreeMap::new());
    while at < data.len() {
        let [starts_on, flags, zero, len] = data[at + 4..at + 8] else { unreachable!() };
        let name = &data[at + 8..at + 8 + usize::from(len)];
        let name = String::from_utf8(name.to_vec()).expect("UTF-8");
        assert_eq!(zero, 0, "{name}");
        keys.insert(relative(start, data, at), (name, starts_on, flags));
        at += (8 + usize::from(len)).next_multiple_of(4);
    }
    assert_eq!(at, data.len());
    keys
}

/// Returns the function that contains an address: its name, its address and its bytes.
fn function<'f>(file: &'f object::File<'_>, address: u64) -> (String, u64, &'f [u8]) {
    let found = file.symbols().find(|symbol| {
        (symbol.address()..symbol.address() + symbol.size()).contains(&address)
            && symbol.kind() == object::SymbolKind::Text
    });
    let symbol = found.unwrap_or_else(|| panic!("no function at {address:#x}"));
    let text = file.section_by_name(".text").expect("text");
    let bytes = text.data_range(symbol.address(), symbol.size()).expect("data").expect("in text");
    (symbol.name().expect("a name").into(), symbol.address(), bytes)
}

/// Returns whether an instruction reads or writes memory at this address.
fn accesses(instruction: &Instruction, address: u64) -> bool {
    let has_memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
    has_memory && instruction.memory_displacement64() == address
}

fn kernel(width: Width) {
    let data = fs::read(build(width, "fat")).expect("the kernel");
    let file = object::File::parse(&*data).expect("ELF");
    let keys = keys(&file);
    let named = |name: &str| keys.values().find(|key| key.0 == name).map(|key| (key.1, key.2));
    assert_eq!(named("TRACE"), Some((0, 0)), "off");
    assert_eq!(named("TRACE_ASSEMBLY"), Some((0, 0)), "off");
    assert_eq!(named("COUNT"), Some((1, 1)), "on, counted");
    let bits = if width == Width::Bits64 { 64 } else { 32 };

    let (mut in_work, mut in_assembly) = (0, 0);
    for branch in branches(&file) {
        let (name, starts_on, _) = &keys[&branch.key];
        let (function, start, bytes) = function(&file, branch.site);
        assert_eq!(branch.shape & 0xff_ffff, 5 << 16, "{name} in {function}");
        let jumps_when_on = branch.shape >> 24 == 0;
        assert!(branch.shape >> 24 <= 1);

        // The bytes are those of the state in which the key starts.
        let decoder = Decoder::with_ip(bits, bytes, start, DecoderOptions::NONE);
        let all: Vec<Instruction> = decoder.into_iter().collect();
        let index = all.iter().position(|instruction| instruction.ip() == branch.site);
        let index = index.unwrap_or_else(|| panic!("{name} in {function}: inside an instruction"));
        assert_eq!(all[index].len(), 5, "{name} in {function}");
        if (*starts_on != 0) == jumps_when_on {
            assert_eq!(all[index].mnemonic(), Mnemonic::Jmp, "{name} in {function}");
            assert_eq!(all[index].near_branch_target(), branch.target);
        } else {
            let at = (branch.site - start) as usize;
            assert_eq!(bytes[at..at + 5], [0x0f, 0x1f, 0x44, 0, 0], "{name} in {function}");
        }
        let target = all.iter().position(|instruction| instruction.ip() == branch.target);
        let target = target.unwrap_or_else(|| panic!("{name}: its target is not in {function}"));

        // Nothing in the function that only does its work touches the key, or compares.
        let is_work = function.contains("5trace4work");
        in_assembly += usize::from(function == "trace_in_assembly");
        if is_work {
            in_work += 1;
            for instruction in &all {
                assert!(!accesses(instruction, branch.key), "{name}: {instruction}");
                let mnemonic = instruction.mnemonic();
                assert!(
                    !matches!(mnemonic, Mnemonic::Cmp | Mnemonic::Test)
                        && instruction.flow_control() != FlowControl::ConditionalBranch,
                    "{name}: {instruction}"
                );
            }
            // Out of line: behind an instruction that does not go on, and not where the usual side
            // runs through.
            assert!(target > index, "{name}");
            let before = all[target - 1].flow_control();
            assert!(
                matches!(before, FlowControl::Return | FlowControl::UnconditionalBranch),
                "{name}: the usual side runs into the other one, by {}",
                all[target - 1]
            );
        }
    }
    assert!(in_work >= 2 && in_assembly == 1, "{in_work} in `work`, {in_assembly} in assembly");
}

#[test]
fn kernel_64() {
    kernel(Width::Bits64);
}

#[test]
fn kernel_32() {
    kernel(Width::Bits32);
}

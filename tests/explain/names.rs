//! Names from kallsyms, in each form that its tables have had.

use patchlet::Width;
use patchlet::inspect::{LinuxKernel, unpack};

use crate::kernel::{Kernel, relative};

/// The form of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The number of names stands in front of them, aligned; in newer kernels it does not.
    pub has_count: bool,
    /// What each table is aligned to, in bytes.
    pub align: usize,
    pub addresses: Addresses,
}

/// The place and the meaning of the addresses.
#[derive(Clone, Copy, Debug)]
pub enum Addresses {
    /// In front of the names, from a base on.
    InFront,
    /// Behind the tokens, from a base on.
    Behind,
    /// Behind the tokens, relative to themselves.
    Relative,
}

pub const FORMS: [Form; 6] = [
    Form { has_count: true, align: 0, addresses: Addresses::InFront },
    Form { has_count: true, align: 0, addresses: Addresses::Behind },
    Form { has_count: false, align: 0, addresses: Addresses::Behind },
    Form { has_count: false, align: 4, addresses: Addresses::Behind },
    Form { has_count: false, align: 0, addresses: Addresses::Relative },
    Form { has_count: false, align: 4, addresses: Addresses::Relative },
];

/// Returns tables that are to stand at `start`: each byte from space to tilde is a token that stands
/// for itself, and 0 stands for `_the_`. An alignment of 0 is that of a pointer.
pub fn tables(width: Width, form: Form, start: u64, names: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let size = width.pointer_size() as usize;
    let alignment = if form.align == 0 { size } else { form.align };
    let align = |data: &mut Vec<u8>| data.resize(data.len().next_multiple_of(alignment), 0);
    let base = names.first().map_or(0, |name| name.0);
    // No multiple of eight, where four are enough.
    let mut data = vec![0xaa; 56 + alignment];
    let offsets = |data: &mut Vec<u8>| {
        align(data);
        for (address, _) in names {
            let at = start + data.len() as u64;
            match form.addresses {
                Addresses::Relative => data.extend(relative(at, *address)),
                // Negative numbers count from the base on.
                _ => data.extend((-1 - (address - base) as i32).to_le_bytes()),
            }
        }
        if !matches!(form.addresses, Addresses::Relative) {
            align(data);
            data.extend(&base.to_le_bytes()[..size]);
        }
    };
    if matches!(form.addresses, Addresses::InFront) {
        offsets(&mut data);
        align(&mut data);
    }
    if form.has_count {
        align(&mut data);
        data.extend((names.len() as u32).to_le_bytes());
        align(&mut data);
    } else {
        data.resize(data.len().next_multiple_of(4), 0);
    }
    let (first, mut markers) = (data.len(), vec![]);
    for (at, (_, name)) in names.iter().enumerate() {
        if at % 256 == 0 {
            markers.push((data.len() - first) as u32);
        }
        data.push(name.len() as u8);
        data.extend(name);
    }
    align(&mut data);
    markers.iter().for_each(|marker| data.extend(marker.to_le_bytes()));
    align(&mut data);
    let (first, mut tokens) = (data.len(), vec![]);
    for token in 0..=255_u8 {
        tokens.push((data.len() - first) as u16);
        match token {
            0 => data.extend(b"_the_"),
            b' '..=b'~' => data.push(token),
            _ => {}
        }
        data.push(0);
    }
    align(&mut data);
    tokens.iter().for_each(|token| data.extend(token.to_le_bytes()));
    if !matches!(form.addresses, Addresses::InFront) {
        offsets(&mut data);
    }
    data.extend([0xaa; 64]);
    data
}

/// Returns names of addresses in text. Each has a type in front and a zero, the token `_the_`,
/// behind it.
pub fn names(base: u64) -> Vec<(u64, Vec<u8>)> {
    (0..300).map(|number| (base + 4 * number, format!("Tname{number}\0").into_bytes())).collect()
}

#[test]
fn names_are_found_in_every_form() {
    for width in [Width::Bits64, Width::Bits32] {
        for form in FORMS {
            let mut kernel = Kernel::new(width);
            let site = kernel.code(&[0xf0, 0x90]);
            let record = move |at| relative(at, site);
            kernel.table(".smp_locks", &[&record]);
            kernel.filler(300 * 4);
            let rodata = kernel.sample.section_mut(".rodata");
            rodata.data.resize(rodata.data.len().next_multiple_of(8), 0);
            let start = rodata.address + rodata.data.len() as u64;
            let names = names(kernel.base);
            let bytes = tables(width, form, start, &names);
            let mut wrong = bytes.clone();
            // With another length of the first name no marker leads to a name.
            let at = wrong.windows(6).position(|part| part == b"\x07Tname").expect("the first");
            wrong[at] ^= 1;
            let old = kernel.sample.section(".rodata").data.clone();
            for (bytes, words) in [(bytes, "300 names from kallsyms"), (wrong, "without names")] {
                let rodata = kernel.sample.section_mut(".rodata");
                rodata.data.clone_from(&old);
                rodata.data.extend(bytes);
                let file = kernel.sample.clone().stripped().bytes();
                let unpacked = unpack(&file).expect("an ELF file");
                let linux = LinuxKernel::new(&unpacked).expect("a kernel");
                assert!(linux.words().ends_with(words), "{form:?}: {}", linux.words());
            }
        }
    }
}

//! Every form of table: what its sites become, and that another byte there is found.

use patchlet::Width;
use patchlet::inspect::{Explanation, LinuxKernel, RawAddress, Verdict, explain_linux, unpack};

use crate::kernel::{ABSENT, ALWAYS, Kernel, PHYSICAL, PRESENT, branch, relative};

const NOP3: [u8; 3] = [0x0f, 0x1f, 0x00];
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
const NOP8: [u8; 8] = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];

/// Explains a kernel in plain memory.
pub fn explain(file: &[u8], memory: &[u8]) -> Explanation {
    let unpacked = unpack(file).expect("an ELF file");
    let linux = LinuxKernel::new(&unpacked).unwrap_or_else(|error| panic!("{error}"));
    explain_linux(&linux, memory, Some(RawAddress::Physical(PHYSICAL)), true)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Checks that so many ranges of a cause are proven and nothing is unexplained; and that each other
/// byte at one of the sites is found.
pub fn check(kernel: &mut Kernel, cause: &str, proven: usize) {
    let (file, memory) = kernel.file_and_memory();
    let explanation = explain(&file, &memory);
    let unexplained: Vec<_> =
        explanation.list.iter().filter(|of| of.verdict == Verdict::Unexplained).collect();
    assert!(unexplained.is_empty(), "{unexplained:#x?}");
    let count = explanation.counts.get(&(cause, Verdict::Proven)).copied().unwrap_or_default();
    assert_eq!(count.ranges, proven, "{:?}", explanation.counts);
    crate::oops::check(kernel, &file, &memory);
    let text = kernel.sample.section(".text").address..kernel.sample.here();
    let sites = kernel.patched.iter().filter(|(address, _)| text.contains(address));
    for (&address, bytes) in sites {
        for at in 0..bytes.len() as u64 {
            let mut memory = memory.clone();
            memory[(address + at - kernel.base) as usize] ^= 0x40;
            let explanation = explain(&file, &memory);
            let found = explanation.list.iter().any(|of| {
                let range = of.address_in_file..of.address_in_file + of.seen.len() as u64;
                of.verdict == Verdict::Unexplained && range.contains(&(address + at))
            });
            assert!(found, "byte {at} of {address:#x} ({bytes:02x?})");
        }
    }
}

/// A record of an alternative, of 12, 13 or 14 bytes.
struct Alternative {
    site: u64,
    replacement: u64,
    feature: u16,
    not: bool,
    direct: bool,
    length: u8,
    other_length: u8,
    padding: u8,
}

impl Alternative {
    fn bytes(&self, at: u64, stride: usize) -> Vec<u8> {
        let mut record = relative(at, self.site);
        record.extend(relative(at + 4, self.replacement));
        let not_in_number = if stride != 14 && self.not { 1 << 15 } else { 0 };
        record.extend((self.feature | not_in_number).to_le_bytes());
        if stride == 14 {
            record.extend([u8::from(self.not) | u8::from(self.direct) << 1, 0]);
        }
        record.extend([self.length, self.other_length]);
        if stride == 13 {
            record.push(self.padding);
        }
        record
    }
}

fn with_alternatives(kernel: &mut Kernel, list: &[Alternative], stride: usize) {
    let records: Vec<Box<dyn Fn(u64) -> Vec<u8> + '_>> = list
        .iter()
        .map(|of| Box::new(move |at: u64| of.bytes(at, stride)) as Box<dyn Fn(u64) -> Vec<u8>>)
        .collect();
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> = records.iter().map(|of| &**of).collect();
    kernel.table(".altinstructions", &records);
}

const PLAIN: Alternative = Alternative {
    site: 0,
    replacement: 0,
    feature: PRESENT,
    not: false,
    direct: false,
    length: 0,
    other_length: 0,
    padding: 0,
};

/// Adds the alternatives that kernels of every age fill in the same way.
fn common(kernel: &mut Kernel, nop5: &[u8; 5], nop3: &[u8]) -> Vec<Alternative> {
    let target = kernel.function("target");
    let mut list = vec![];
    // Padding, and a short replacement.
    let clac = kernel.replacement(|_| vec![0x0f, 0x01, 0xca]);
    let mut seen = vec![0x0f, 0x01, 0xca];
    seen.extend(nop5);
    let site = kernel.site(&[0x90; 8], &seen);
    list.push(Alternative {
        site,
        replacement: clac,
        length: 8,
        other_length: 3,
        padding: 8,
        ..PLAIN
    });
    // The same for a feature that is not there, and the same for one that must not be.
    let site = kernel.site(&[0x90; 3], nop3);
    list.push(Alternative {
        site,
        replacement: clac,
        feature: ABSENT,
        length: 3,
        other_length: 3,
        padding: 3,
        ..PLAIN
    });
    let site = kernel.site(&[0x90; 3], &[0x0f, 0x01, 0xca]);
    list.push(Alternative {
        site,
        replacement: clac,
        feature: ABSENT,
        not: true,
        length: 3,
        other_length: 3,
        padding: 3,
        ..PLAIN
    });
    // A call and a far jump, which lead to where they did in the replacement.
    for opcode in [0xe8, 0xe9] {
        let replacement = kernel.replacement(|at| branch(opcode, at, target));
        let site = kernel.code(&[0x90; 5]);
        kernel.patched.insert(site, branch(opcode, site, target));
        list.push(Alternative {
            site,
            replacement,
            length: 5,
            other_length: 5,
            padding: 5,
            ..PLAIN
        });
    }
    list
}

#[test]
fn alternatives_of_13_bytes() {
    let mut kernel = Kernel::new(Width::Bits64);
    let mut list = common(&mut kernel, &NOP5, &NOP3);
    // Padding behind an instruction is left alone; padding alone becomes NOPs of at most eight.
    let site = kernel.code(&[0x31, 0xc0, 0x90, 0x90, 0x90]);
    let replacement = kernel.replacement(|_| vec![0x31, 0xdb, 0x31, 0xdb, 0x90]);
    list.push(Alternative {
        site,
        replacement,
        feature: ABSENT,
        length: 5,
        other_length: 5,
        padding: 3,
        ..PLAIN
    });
    let site = kernel.site(&[0x90; 11], &[&NOP8[..], &NOP3].concat());
    list.push(Alternative {
        site,
        replacement,
        feature: ABSENT,
        length: 11,
        other_length: 5,
        padding: 11,
        ..PLAIN
    });
    with_alternatives(&mut kernel, &list, 13);
    check(&mut kernel, "alternative", 6);
}

#[test]
fn alternatives_of_12_bytes() {
    let mut kernel = Kernel::new(Width::Bits64);
    let mut list = common(&mut kernel, &NOP5, &NOP3);
    // Runs of NOPs behind an instruction, too, become longer ones.
    let site = kernel.site(&[0x31, 0xc0, 0x90, 0x90, 0x90], &[0x31, 0xc0, 0x0f, 0x1f, 0x00]);
    list.push(Alternative {
        site,
        replacement: kernel.replacement(|_| vec![0x31, 0xdb]),
        feature: ABSENT,
        length: 5,
        other_length: 2,
        ..PLAIN
    });
    with_alternatives(&mut kernel, &list, 12);
    check(&mut kernel, "alternative", 6);
}

#[test]
fn alternatives_of_14_bytes() {
    let mut kernel = Kernel::new(Width::Bits64);
    let mut list = common(&mut kernel, &NOP5, &NOP3);
    // One jump over what is longer than a NOP can be.
    let mut seen = vec![0xeb, 0x0e];
    seen.resize(16, 0xcc);
    let site = kernel.site(&[0x90; 16], &seen);
    let replacement = kernel.replacement(|_| vec![0x31, 0xdb]);
    list.push(Alternative {
        site,
        replacement,
        feature: ABSENT,
        length: 16,
        other_length: 2,
        ..PLAIN
    });
    // An operand relative to the instruction pointer, and a jump inside of the replacement.
    let variable = kernel.variable("variable", &[0; 8], &[0; 8]);
    let load = |at: u64| [&[0x48, 0x8b, 0x05][..], &relative(at + 7, variable)].concat();
    let code = |at: u64| [&[0x74, 0x00][..], &load(at + 2)].concat();
    let replacement = kernel.replacement(code);
    let site = kernel.code(&[0x90; 9]);
    kernel.patched.insert(site, code(site));
    list.push(Alternative { site, replacement, length: 9, other_length: 9, ..PLAIN });
    // A near jump, which becomes short.
    let site = kernel.code(&[0x90; 5]);
    kernel.patched.insert(site, vec![0xeb, 0x10, 0xcc, 0xcc, 0xcc]);
    let replacement = kernel.replacement(|at| branch(0xe9, at, site + 18));
    list.push(Alternative { site, replacement, length: 5, other_length: 5, ..PLAIN });
    // A call through `pv_ops`: of a function, and of the one that does nothing.
    let bug = kernel.function("BUG_func");
    let (function, nothing) = (kernel.function("native"), kernel.function("nop_func"));
    let call_bug = kernel.replacement(|at| branch(0xe8, at, bug));
    for (name, function) in [("slot_a", Some(function)), ("slot_b", None)] {
        let slot = kernel.pointer(name, function.unwrap_or(nothing));
        let site = kernel.code(&[0x90; 6]);
        let call = [&[0xff, 0x15][..], &relative(site + 6, slot)].concat();
        kernel.sample.at(site)[..6].copy_from_slice(&call);
        let seen = match function {
            Some(function) => [&branch(0xe8, site, function)[..], &[0x90]].concat(),
            None => vec![0x66, 0x0f, 0x1f, 0x44, 0, 0],
        };
        kernel.patched.insert(site, seen);
        list.push(Alternative {
            site,
            replacement: call_bug,
            feature: ALWAYS,
            direct: true,
            length: 6,
            other_length: 5,
            ..PLAIN
        });
    }
    // A jump over code for other CPUs becomes a NOP: its replacement has no bytes.
    let nothing = kernel.replacement(|_| vec![]);
    let site = kernel.site(&[0xeb, 0x02, 0x31, 0xc0], &[0x66, 0x90, 0x31, 0xc0]);
    list.push(Alternative { site, replacement: nothing, length: 2, ..PLAIN });
    with_alternatives(&mut kernel, &list, 14);
    check(&mut kernel, "alternative", 11);
}

#[test]
fn alternatives_of_32_bit() {
    let mut kernel = Kernel::new(Width::Bits32);
    let nop5 = [0x3e, 0x8d, 0x74, 0x26, 0];
    let list = common(&mut kernel, &nop5, &[0x8d, 0x76, 0]);
    with_alternatives(&mut kernel, &list, 12);
    check(&mut kernel, "alternative", 5);
}

/// Of two records for one site the later wins if it applies.
#[test]
fn records_of_one_site_are_applied_in_order() {
    let mut kernel = Kernel::new(Width::Bits64);
    let (a, b) =
        (kernel.replacement(|_| vec![0x31, 0xc0]), kernel.replacement(|_| vec![0x31, 0xdb]));
    let site = kernel.site(&[0x90, 0x90], &[0x31, 0xdb]);
    let of = |replacement, feature| Alternative {
        site,
        replacement,
        feature,
        length: 2,
        other_length: 2,
        ..PLAIN
    };
    with_alternatives(&mut kernel, &[of(a, ALWAYS), of(b, PRESENT), of(a, ABSENT)], 14);
    check(&mut kernel, "alternative", 1);
}

/// Calls through `pv_ops`. The last record lacks its padding, as in kernels of 64 bit.
#[test]
fn paravirt_calls_of_both_strides() {
    for (width, size) in [(Width::Bits64, 12), (Width::Bits32, 8)] {
        let mut kernel = Kernel::new(width);
        with_alternatives(&mut kernel, &[], 12);
        kernel.sample.sections.retain(|section| section.name != ".altinstructions");
        let (function, nothing) = (kernel.function("native"), kernel.function("_paravirt_nop"));
        let slots = kernel.pointer("pv_ops", nothing);
        let second = kernel.pointer("second", function);
        assert_eq!(second, slots + 8);
        let slot = |number: u64| slots + 8 * number;
        let nop6: &[u8] = match width {
            Width::Bits64 => &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
            Width::Bits32 => &[0x8d, 0xb6, 0, 0, 0, 0],
        };
        let mut sites = vec![];
        for number in [0, 1] {
            let site = kernel.code(&[0x90; 6]);
            let call = kernel.sample.indirect(site, slot(number), 0);
            kernel.sample.at(site)[..6].copy_from_slice(&call);
            let seen = match number {
                0 => nop6.to_vec(),
                _ => [&branch(0xe8, site, function)[..], &[0x90]].concat(),
            };
            kernel.patched.insert(site, seen);
            sites.push(site);
        }
        let record = |site: u64, size: usize| {
            let mut bytes = site.to_le_bytes()[..width.pointer_size() as usize].to_vec();
            bytes.extend([7, 6]);
            bytes.resize(size, 0);
            bytes
        };
        let whole = if width == Width::Bits64 { 16 } else { 8 };
        let (first, last) = (sites[0], sites[1]);
        kernel.table(".parainstructions", &[&|_| record(first, whole), &|_| record(last, size)]);
        check(&mut kernel, "paravirt", 2);
    }
}

#[test]
fn jump_labels_are_what_their_keys_say() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut kernel = Kernel::new(width);
        let nop: [u8; 5] = if width == Width::Bits64 { NOP5 } else { [0x3e, 0x8d, 0x74, 0x26, 0] };
        let on = kernel.variable("on", &[0; 8], &[2, 0, 0, 0, 0, 0, 0, 0]);
        let off = kernel.variable("off", &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 8]);
        let target = kernel.function("target");
        let mut records: Vec<(u64, u64, u64)> = vec![];
        // Five bytes: a NOP that became a jump, and a jump that became a NOP; each by a key, and by
        // a key whose sense is inverted.
        for (key, jumps) in [(on, true), (off, false), (off | 1, true), (on | 1, false)] {
            let site = kernel.code(&nop);
            let jump = branch(0xe9, site, target);
            if jumps {
                kernel.patched.insert(site, jump);
            } else {
                kernel.sample.at(site)[..5].copy_from_slice(&jump);
                kernel.patched.insert(site, nop.to_vec());
            }
            records.push((site, target, key));
        }
        // Two bytes.
        let nop2: &[u8] = if width == Width::Bits64 { &[0x66, 0x90] } else { &[0x89, 0xf6] };
        let site = kernel.site(&[0xeb, 0x10], nop2);
        records.push((site, site + 18, off));
        kernel.filler(32);
        let long = width.pointer_size() as usize;
        let bytes = |at: u64, (site, target, key): (u64, u64, u64)| {
            let mut record = relative(at, site);
            record.extend(relative(at + 4, target));
            record.extend(&key.wrapping_sub(at + 8).to_le_bytes()[..long]);
            record
        };
        let records: Vec<_> = records.into_iter().map(|of| move |at| bytes(at, of)).collect();
        let records: Vec<&dyn Fn(u64) -> Vec<u8>> =
            records.iter().map(|of| of as &dyn Fn(u64) -> Vec<u8>).collect();
        kernel.table("__jump_table", &records);
        check(&mut kernel, "jump-label", 5);
    }
}

#[test]
fn static_calls_go_to_the_function_in_the_key() {
    let mut kernel = Kernel::new(Width::Bits64);
    let function = kernel.function("function");
    let zero = kernel.function("__static_call_return0");
    let keys = [
        kernel.pointer("__SCK__some", function),
        kernel.pointer("__SCK__none", 0),
        kernel.pointer("__SCK__zero", zero),
    ];
    let mut sites = vec![];
    for (key, tail) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)] {
        let site = kernel.code(&if tail == 1 { [0xe9, 0, 0, 0, 0] } else { CALL });
        let seen = match (key, tail) {
            (0, 0) => branch(0xe8, site, function),
            (0, _) => branch(0xe9, site, function),
            (1, 0) => NOP5.to_vec(),
            (1, _) => vec![0xc3, 0xcc, 0xcc, 0xcc, 0xcc],
            _ => vec![0x2e, 0x2e, 0x2e, 0x31, 0xc0],
        };
        kernel.patched.insert(site, seen);
        sites.push((site, keys[key] | tail));
    }
    // The trampoline of a call, which has no record.
    let trampoline = kernel.code(&[0xe9, 0, 0, 0, 0, 0x0f, 0xb9, 0xcc]);
    kernel.sample.symbol("__SCT__some", trampoline, 8, crate::sample::FUNC, ".text");
    kernel.patched.insert(trampoline, branch(0xe9, trampoline, function));
    let records: Vec<_> = sites
        .into_iter()
        .map(|(site, key)| move |at| [relative(at, site), relative(at + 4, key)].concat())
        .collect();
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> =
        records.iter().map(|of| of as &dyn Fn(u64) -> Vec<u8>).collect();
    kernel.table(".static_call_sites", &records);
    check(&mut kernel, "static-call", 6);
}

/// A key without a name is its address, also where functions have names.
#[test]
fn a_variable_without_a_name_is_its_address() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut kernel = Kernel::new(width);
        let target = kernel.function("target");
        let key = kernel.pointer("key", target);
        let site = kernel.code(&CALL);
        kernel.patched.insert(site, branch(0xe8, site, target));
        let record = move |at| [relative(at, site), relative(at + 4, key)].concat();
        kernel.table(".static_call_sites", &[&record]);
        for (depends, is_named) in
            [("key".to_owned(), true), (format!("variable at {key:#x}"), false)]
        {
            if !is_named {
                kernel.sample.symbols.retain(|symbol| symbol.kind == crate::sample::FUNC);
            }
            let (file, memory) = kernel.file_and_memory();
            let explanation = explain(&file, &memory);
            let of = explanation.list.iter().find(|of| of.address_in_file == site).expect("it");
            assert_eq!((of.verdict, &of.depends), (Verdict::Proven, &depends));
        }
    }
}

/// Kernels of some versions join a jump over NOPs with these, and others do not; all sites are of one
/// kind.
#[test]
fn a_jump_over_nops_can_be_joined_with_them() {
    let jump_over = |len: u8| [&[0xeb, len][..], &vec![0x90; usize::from(len)]].concat();
    for is_joined in [false, true] {
        let mut kernel = Kernel::new(Width::Bits64);
        let mut list = vec![];
        for len in [14, 8] {
            let site = kernel.code(&jump_over(len));
            let seen = match (is_joined, len) {
                (true, 14) => [&[0xeb, 14][..], &[0xcc; 14]].concat(),
                (true, _) => vec![0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
                (false, 14) => [&[0xeb, 14, 0xeb, 12][..], &[0xcc; 12]].concat(),
                (false, _) => [&[0xeb, 8][..], &NOP8].concat(),
            };
            kernel.patched.insert(site, seen);
            let replacement = kernel.replacement(|_| vec![0xcc]);
            let (not, direct, length) = (false, false, len + 2);
            let feature = ABSENT;
            let (other_length, padding) = (1, 0);
            let of = Alternative {
                site,
                replacement,
                feature,
                not,
                direct,
                length,
                other_length,
                padding,
            };
            list.push(of);
        }
        with_alternatives(&mut kernel, &list, 14);
        check(&mut kernel, "alternative", 2);
    }
}

/// Adds a table of nothing but sites.
fn sites(kernel: &mut Kernel, name: &'static str, sites: &[u64]) {
    let records: Vec<_> = sites.iter().map(|&site| move |at| relative(at, site)).collect();
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> =
        records.iter().map(|of| of as &dyn Fn(u64) -> Vec<u8>).collect();
    kernel.table(name, &records);
}

#[test]
fn lock_prefixes_are_for_several_cpus() {
    let mut kernel = Kernel::new(Width::Bits64);
    let alone = kernel.variable("uniproc_patched", &[0], &[1]);
    let site = kernel.site(&[0xf0, 0x48, 0xff, 0x07], &[0x3e, 0x48, 0xff, 0x07]);
    sites(&mut kernel, ".smp_locks", &[site]);
    check(&mut kernel, "smp-lock", 1);
    // With several CPUs they must stay: memory that has none now is found.
    kernel.patched.insert(alone, vec![0]);
    let (file, memory) = kernel.file_and_memory();
    assert_eq!(explain(&file, &memory).total(Verdict::Unexplained).ranges, 1);
}

#[test]
fn retpolines_become_indirect_branches() {
    let thunks = |kernel: &mut Kernel| {
        let rax = kernel.function("__x86_indirect_thunk_rax");
        let r11 = kernel.function("__x86_indirect_thunk_r11");
        (rax, r11)
    };
    for lfence in [false, true] {
        let mut kernel = Kernel::new(Width::Bits64);
        if lfence {
            kernel.words[11] |= 1 << 12 | 1 << 13;
        }
        let (rax, r11) = thunks(&mut kernel);
        let mut list = vec![];
        let shapes: [(u8, u64, &[u8], &[u8]); 3] = [
            (0xe8, rax, &[0xff, 0xd0, 0x0f, 0x1f, 0x00], &[0x0f, 0xae, 0xe8, 0xff, 0xd0]),
            (0xe9, rax, &[0xff, 0xe0, 0xcc, 0x66, 0x90], &[0x0f, 0xae, 0xe8, 0xff, 0xe0]),
            (0xe8, r11, &[0x41, 0xff, 0xd3, 0x66, 0x90], &[]),
        ];
        for (opcode, thunk, plain, fenced) in shapes {
            let site = kernel.code(&CALL);
            let call = branch(opcode, site, thunk);
            kernel.sample.at(site)[..5].copy_from_slice(&call);
            let seen = match (lfence, fenced) {
                (false, _) => plain.to_vec(),
                // It does not fit, and stays.
                (true, []) => call,
                (true, fenced) => fenced.to_vec(),
            };
            kernel.patched.insert(site, seen);
            list.push(site);
        }
        sites(&mut kernel, ".retpoline_sites", &list);
        check(&mut kernel, "retpoline", if lfence { 2 } else { 3 });
    }
    // The newer form: prefixes in front of calls, INT3 behind jumps.
    let mut kernel = Kernel::new(Width::Bits64);
    let (rax, r11) = thunks(&mut kernel);
    let mut list = vec![];
    let shapes: [(&[u8], u64, &[u8]); 5] = [
        (&[0xe8], rax, &[0x2e, 0x2e, 0x2e, 0xff, 0xd0]),
        (&[0xe9], rax, &[0xff, 0xe0, 0xcc, 0xcc, 0xcc]),
        (&[0x2e, 0xe8], r11, &[0x2e, 0x2e, 0x2e, 0x41, 0xff, 0xd3]),
        (&[0x2e, 0xe9], r11, &[0x41, 0xff, 0xe3, 0xcc, 0xcc, 0xcc]),
        // Four would be too many, so it is filled with a NOP.
        (&[0x2e, 0xe8], rax, &[0xff, 0xd0, 0x0f, 0x1f, 0x40, 0x00]),
    ];
    for (code, thunk, seen) in shapes {
        let site = kernel.code(&[code, &[0; 4]].concat());
        let at = site + code.len() as u64;
        let distance = relative(at + 4, thunk);
        kernel.sample.at(at)[..4].copy_from_slice(&distance);
        kernel.patched.insert(site, seen.to_vec());
        list.push(site);
    }
    sites(&mut kernel, ".retpoline_sites", &list);
    check(&mut kernel, "retpoline", 5);
    // Where thunks are needed, the calls stay.
    let mut kernel = Kernel::new(Width::Bits64);
    kernel.words[11] |= 1 << 12;
    let (rax, _) = thunks(&mut kernel);
    let site = kernel.code(&CALL);
    let call = branch(0xe8, site, rax);
    kernel.sample.at(site)[..5].copy_from_slice(&call);
    kernel.patched.insert(site, call);
    sites(&mut kernel, ".retpoline_sites", &[site]);
    check(&mut kernel, "retpoline", 0);
}

#[test]
fn returns_go_through_the_thunk_that_was_chosen() {
    for rethunk in [false, true] {
        let mut kernel = Kernel::new(Width::Bits64);
        let (default, chosen) =
            (kernel.function("__x86_return_thunk"), kernel.function("srso_return_thunk"));
        kernel.pointer("x86_return_thunk", chosen);
        if rethunk {
            kernel.words[11] |= 1 << 14;
        }
        let site = kernel.code(&CALL);
        let jump = branch(0xe9, site, default);
        kernel.sample.at(site)[..5].copy_from_slice(&jump);
        let seen = match rethunk {
            true => branch(0xe9, site, chosen),
            false => vec![0xc3, 0xcc, 0xcc, 0xcc, 0xcc],
        };
        kernel.patched.insert(site, seen);
        sites(&mut kernel, ".return_sites", &[site]);
        check(&mut kernel, "return", 1);
    }
}

#[test]
fn sealed_functions_have_no_endbr() {
    let mut kernel = Kernel::new(Width::Bits64);
    let site = kernel.site(&[0xf3, 0x0f, 0x1e, 0xfa], &[0x66, 0x0f, 0x1f, 0x00]);
    sites(&mut kernel, ".ibt_endbr_seal", &[site]);
    check(&mut kernel, "endbr", 1);
}

#[test]
fn runtime_constants_are_variables() {
    let mut kernel = Kernel::new(Width::Bits64);
    kernel.variable("table", &[0; 8], &[1, 2, 3, 4, 5, 6, 7, 8]);
    kernel.variable("bits", &[0; 4], &[23, 0, 0, 0]);
    kernel.variable("mask", &[0; 8], &[0xff, 1, 0, 0, 0, 0, 0, 0]);
    let pointer = kernel.site(&[0xef; 8], &[1, 2, 3, 4, 5, 6, 7, 8]);
    let shift = kernel.site(&[12], &[23]);
    let mask = kernel.site(&[0x78, 0x56, 0x34, 0x12], &[0xff, 1, 0, 0]);
    sites(&mut kernel, "runtime_ptr_table", &[pointer]);
    sites(&mut kernel, "runtime_shift_bits", &[shift]);
    sites(&mut kernel, "runtime_mask_mask", &[mask]);
    check(&mut kernel, "runtime-pointer", 1);
    check(&mut kernel, "runtime-mask", 1);
    check(&mut kernel, "runtime-shift", 1);
}

/// Without the variable, sites have the value that most of them have, and are allowed. What was
/// given back after boot does not count.
#[test]
fn runtime_constants_without_a_variable_agree() {
    let mut kernel = Kernel::new(Width::Bits64);
    let [a, b, c] = [[7; 8], [7; 8], [8; 8]].map(|seen| kernel.site(&[0xef; 8], &seen));
    let init = kernel.sample.section(".init.text").address;
    let all = [init, init + 8, init + 16, init + 24, a, b, c];
    sites(&mut kernel, "runtime_ptr_nameless", &all);
    let (file, memory) = kernel.file_and_memory();
    let explanation = explain(&file, &memory);
    let about = |site| explanation.list.iter().find(|of| of.address_in_file == site).expect("it");
    assert_eq!(
        [a, b, c].map(|site| about(site).verdict),
        [Verdict::Allowed, Verdict::Allowed, Verdict::Unexplained]
    );
    assert_eq!(about(c).expected, [7; 8]);
}

/// A call of the function that gives a lock back is its one instruction.
#[test]
fn a_static_call_that_gives_a_lock_back_is_a_store() {
    let mut kernel = Kernel::new(Width::Bits64);
    let (native, other) =
        (kernel.function("__native_queued_spin_unlock"), kernel.function("__pv_unlock"));
    let mut records: Vec<Box<dyn Fn(u64) -> Vec<u8>>> = vec![];
    for (name, function) in [("__SCK__queued_spin_unlock", native), ("__SCK__other", native)] {
        let key = kernel.pointer(name, function);
        let site = kernel.code(&CALL);
        let call = branch(0xe8, site, other);
        kernel.sample.at(site)[..5].copy_from_slice(&call);
        let seen = match name {
            "__SCK__other" => branch(0xe8, site, function),
            _ => vec![0x3e, 0x3e, 0xc6, 0x07, 0x00],
        };
        kernel.patched.insert(site, seen);
        records.push(Box::new(move |at| [relative(at, site), relative(at + 4, key)].concat()));
    }
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> = records.iter().map(|of| &**of).collect();
    kernel.table(".static_call_sites", &records);
    check(&mut kernel, "static-call", 2);
}

/// While nothing is traced the tracer's calls are NOPs; a call of the tracer is allowed, and
/// another call is not.
#[test]
fn calls_of_the_tracer() {
    let mut kernel = Kernel::new(Width::Bits64);
    let (caller, other) = (kernel.function("ftrace_caller"), kernel.function("other"));
    let site = kernel.site(&CALL, &NOP5);
    let pointer = move |_| site.to_le_bytes().to_vec();
    kernel.table("__mcount_loc", &[&pointer]);
    check(&mut kernel, "ftrace", 1);
    for (target, verdict) in [(caller, Verdict::Allowed), (other, Verdict::Unexplained)] {
        kernel.patched.insert(site, branch(0xe8, site, target));
        let (file, memory) = kernel.file_and_memory();
        let explanation = explain(&file, &memory);
        assert_eq!(explanation.total(verdict).ranges, 1, "{:?}", explanation.counts);
        assert_eq!(explanation.total(Verdict::Proven).ranges, 0);
    }
}

/// Of sites that overlap, one may be in another state only if all else is as it should be.
#[test]
fn a_state_that_is_allowed_excuses_no_other_byte() {
    let mut kernel = Kernel::new(Width::Bits64);
    let caller = kernel.function("ftrace_caller");
    // A call whose last bytes are the first ones of an ENDBR.
    let site = kernel.code(&[0xe8, 0, 0, 0xf3, 0x0f, 0x1e, 0xfa]);
    let pointer = move |_| site.to_le_bytes().to_vec();
    kernel.table("__mcount_loc", &[&pointer]);
    sites(&mut kernel, ".ibt_endbr_seal", &[site + 3]);
    for (last, verdict) in [(0x00, Verdict::Allowed), (0x01, Verdict::Unexplained)] {
        let seen = [&branch(0xe8, site, caller)[..], &[0x1f, last]].concat();
        kernel.patched.insert(site, seen);
        let (file, memory) = kernel.file_and_memory();
        let explanation = explain(&file, &memory);
        assert_eq!(explanation.total(verdict).ranges, 1, "{:?}", explanation.list);
        assert_eq!(explanation.list.len(), 1);
    }
}

/// A site that still has what the linker wrote is found, although no byte differs from the file.
#[test]
fn a_site_that_was_not_patched_is_found() {
    let mut kernel = Kernel::new(Width::Bits64);
    let list = common(&mut kernel, &NOP5, &NOP3);
    with_alternatives(&mut kernel, &list, 14);
    let site = list[0].site;
    kernel.patched.insert(site, vec![0x90; 8]);
    let (file, memory) = kernel.file_and_memory();
    let explanation = explain(&file, &memory);
    let of = explanation.list.iter().find(|of| of.verdict == Verdict::Unexplained).expect("one");
    assert_eq!((of.address_in_file, of.cause, &*of.depends), (site, "alternative", "smap"));
    assert_eq!((&of.file, &of.seen), (&vec![0x90; 8], &vec![0x90; 8]));
    assert_eq!(explanation.total(Verdict::Unexplained).ranges, 1);
}

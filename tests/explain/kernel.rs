//! A small Linux kernel, written byte by byte, and the memory of a machine that runs it. What the
//! machine's text is, a test says itself: no code of the crate computes it.

use std::collections::BTreeMap;

use patchlet::Width;

use crate::sample::{
    ALLOC, ET_EXEC, EXECUTE, FUNC, I386, OBJECT, PROGBITS, Sample, Section, WRITE, X86_64,
};

/// How far the running kernel is from where it is linked, and where it lies in physical memory.
pub const SLIDE: u64 = 0x1e0_0000;
pub const PHYSICAL: u64 = 0x60_0000;

/// Numbers of features that the CPU has: one that all CPUs have, and one to try.
pub const ALWAYS: u16 = 3 * 32 + 21;
pub const PRESENT: u16 = 9 * 32 + 20;
/// One that it does not have.
pub const ABSENT: u16 = 9 * 32 + 21;

/// Offsets of sections from the start of the kernel. Each has room for what follows.
const RODATA: u64 = 0x2_0000;
const REPLACEMENT: u64 = 0x3_0000;
const INIT: u64 = 0x3_8000;
const TABLES: u64 = 0x4_0000;
const DATA: u64 = 0x6_0000;
const SIZE: u64 = 0x7_0000;

#[derive(Clone)]
pub struct Kernel {
    pub sample: Sample,
    pub base: u64,
    /// What the running kernel has that differs from the file, by address of the file.
    pub patched: BTreeMap<u64, Vec<u8>>,
    /// The features of the CPU.
    pub words: [u32; 22],
    next_table: u64,
    random: u32,
    /// Whether text between what tests put there is NOPs, and not like no other.
    is_quiet: bool,
}

fn section(name: &'static str, flags: u64, address: u64) -> Section {
    Section {
        name,
        kind: PROGBITS,
        flags,
        address,
        data: vec![],
        link: 0,
        info: 0,
        size: None,
        offset: None,
    }
}

impl Kernel {
    pub fn new(width: Width) -> Self {
        let base = match width {
            Width::Bits64 => 0xffff_ffff_8100_0000,
            Width::Bits32 => 0xc100_0000,
        };
        let sample = Sample {
            width,
            file_kind: ET_EXEC,
            machine: if width == Width::Bits64 { X86_64 } else { I386 },
            sections: vec![
                section(".text", ALLOC | EXECUTE, base),
                section(".rodata", ALLOC, base + RODATA),
                section(".altinstr_replacement", ALLOC | EXECUTE, base + REPLACEMENT),
                section(".init.text", ALLOC | EXECUTE, base + INIT),
                section(".data", ALLOC | WRITE, base + DATA),
            ],
            symbols: vec![],
            segment_shift: 0,
            segment_flags: None,
            text: ".text",
            sites: vec![],
            branches: vec![],
        };
        let mut kernel = Self {
            sample,
            base,
            patched: BTreeMap::new(),
            words: [0; 22],
            next_table: base + TABLES,
            random: 1,
            is_quiet: false,
        };
        for number in [0, ALWAYS, PRESENT] {
            kernel.words[usize::from(number / 32)] |= 1 << (number % 32);
        }
        for at in 0..64 {
            kernel.filler(64);
            // Pointers to text, which move with it.
            let pointer = base + 64 * at + 1;
            let mut bytes = vec![];
            kernel.sample.put(&mut bytes, pointer);
            let place = base + RODATA + kernel.sample.section(".rodata").data.len() as u64;
            kernel.sample.section_mut(".rodata").data.extend(&bytes);
            let mut moved = vec![];
            kernel.sample.put(&mut moved, pointer.wrapping_add(SLIDE));
            kernel.patched.insert(place, moved);
        }
        kernel.sample.section_mut(".rodata").data.extend(b"Linux version 6.6.6-test (of nobody)\0");
        kernel.sample.section_mut(".init.text").data.extend([0xcc; 64]);
        kernel
    }

    /// Makes a kernel whose text is nothing but NOPs where a test does not put something else.
    pub fn quiet(width: Width) -> Self {
        let mut kernel = Self::new(width);
        kernel.is_quiet = true;
        kernel.sample.section_mut(".text").data.fill(0x90);
        kernel
    }

    /// Appends text that is like no other.
    pub fn filler(&mut self, len: usize) {
        if self.is_quiet {
            self.sample.code(&vec![0x90; len]);
            return;
        }
        for _ in 0..len {
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let byte = (self.random >> 24) as u8;
            self.sample.code(&[byte]);
        }
    }

    /// Appends code to text, and returns its address.
    pub fn code(&mut self, code: &[u8]) -> u64 {
        self.filler(24);
        let at = self.sample.here();
        self.sample.code(code);
        at
    }

    /// Appends code that the running kernel has in another form. Returns its address.
    pub fn site(&mut self, file: &[u8], seen: &[u8]) -> u64 {
        assert_eq!(file.len(), seen.len());
        let at = self.code(file);
        self.patched.insert(at, seen.to_vec());
        at
    }

    pub fn function(&mut self, name: &str) -> u64 {
        let at = self.code(&[0xc3; 16]);
        self.sample.symbol(name, at, 16, FUNC, ".text");
        at
    }

    /// Appends a variable, which has one value in the file and another in memory.
    pub fn variable(&mut self, name: &str, file: &[u8], seen: &[u8]) -> u64 {
        let data = self.sample.section_mut(".data");
        data.data.resize(data.data.len().next_multiple_of(8), 0);
        let at = data.address + data.data.len() as u64;
        data.data.extend(file);
        self.patched.insert(at, seen.to_vec());
        self.sample.symbol(name, at, file.len() as u64, OBJECT, ".data");
        at
    }

    /// Appends a pointer in data to what is at an address of the file.
    pub fn pointer(&mut self, name: &str, to: u64) -> u64 {
        let (mut file, mut seen) = (vec![], vec![]);
        self.sample.put(&mut file, to);
        self.sample.put(&mut seen, if to == 0 { 0 } else { to.wrapping_add(SLIDE) });
        self.variable(name, &file, &seen)
    }

    /// Appends the replacement of an alternative, and returns its address.
    pub fn replacement(&mut self, code: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let section = self.sample.section_mut(".altinstr_replacement");
        let at = section.address + section.data.len() as u64;
        section.data.extend(code(at));
        at
    }

    /// Adds a section with a table. Each record is given as a function of its address.
    pub fn table(&mut self, name: &'static str, records: &[&dyn Fn(u64) -> Vec<u8>]) {
        let mut table = section(name, ALLOC, self.next_table);
        for record in records {
            let at = table.address + table.data.len() as u64;
            table.data.extend(record(at));
        }
        self.next_table = (table.address + table.data.len() as u64 + 16).next_multiple_of(16);
        self.sample.sections.push(table);
    }

    /// Adds the variable with the features of the CPU.
    fn cpu(&mut self) -> Sample {
        let mut sample = self.sample.clone();
        let data = sample.section_mut(".data");
        data.data.resize(data.data.len().next_multiple_of(8), 0);
        let at = data.address + data.data.len() as u64;
        data.data.resize(data.data.len() + 160, 0);
        let mut cpu = vec![6, 0, 26, 3, 0, 0, 0, 0];
        cpu.extend(0x8000_0008_u32.to_le_bytes());
        cpu.extend(11_u32.to_le_bytes());
        self.words.iter().for_each(|word| cpu.extend(word.to_le_bytes()));
        cpu.extend(b"GenuineIntel\0\0\0\0");
        self.patched.insert(at, cpu);
        sample.symbol("boot_cpu_data", at, 160, OBJECT, ".data");
        sample
    }

    /// Returns the file, and the memory from where the kernel lies in it.
    pub fn file_and_memory(&mut self) -> (Vec<u8>, Vec<u8>) {
        let sample = self.cpu();
        let mut memory = vec![0; SIZE as usize];
        for section in &sample.sections {
            let at = (section.address - self.base) as usize;
            memory[at..at + section.data.len()].copy_from_slice(&section.data);
        }
        // What is freed after boot is somebody else's.
        memory[INIT as usize..INIT as usize + 64].fill(0x5a);
        let replacement = sample.section(".altinstr_replacement").data.len();
        memory[REPLACEMENT as usize..REPLACEMENT as usize + replacement].fill(0x5a);
        for (&address, bytes) in &self.patched {
            let at = (address - self.base) as usize;
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        }
        (sample.bytes(), memory)
    }
}

/// Returns a number of four bytes that leads from `at` to `to`.
pub fn relative(at: u64, to: u64) -> Vec<u8> {
    to.wrapping_sub(at).to_le_bytes()[..4].to_vec()
}

/// Returns a CALL (0xe8) or JMP (0xe9) at an address.
pub fn branch(opcode: u8, at: u64, to: u64) -> Vec<u8> {
    let mut code = vec![opcode];
    code.extend(relative(at + 5, to));
    code
}

/// An ELF core with segments of physical memory, and the note that QEMU writes about a CPU.
pub fn core(segments: &[(u64, &[u8])], cr3: u64) -> Vec<u8> {
    let mut note = vec![];
    note.extend(5_u32.to_le_bytes());
    note.extend(440_u32.to_le_bytes());
    note.extend(0_u32.to_le_bytes());
    note.extend(b"QEMU\0\0\0\0");
    let mut cpu = vec![0_u8; 440];
    cpu[0] = 1;
    // CR0.PG.
    cpu[392..396].copy_from_slice(&0x8000_0000_u32.to_le_bytes());
    cpu[416..424].copy_from_slice(&cr3.to_le_bytes());
    // CR4.PAE, as in 64-bit mode it always is.
    cpu[424] = 0x20;
    note.extend(&cpu);
    let headers = 1 + segments.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // ET_CORE, EM_X86_64, version, entry, program headers behind this one, no sections.
    file.extend(4_u16.to_le_bytes());
    file.extend(62_u16.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for field in [0_u64, 64, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for field in [64_u16, 56, headers as u16, 64, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    let mut offset = 64 + 56 * headers;
    let mut body: Vec<u8> = vec![];
    let parts = [(4_u32, 0, &note[..])].into_iter();
    let parts = parts.chain(segments.iter().map(|&(address, bytes)| (1, address, bytes)));
    for (kind, address, bytes) in parts {
        file.extend(kind.to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        for field in [offset, 0, address, bytes.len() as u64, bytes.len() as u64, 0] {
            file.extend(field.to_le_bytes());
        }
        offset += bytes.len() as u64;
        body.extend(bytes);
    }
    file.extend(body);
    file
}

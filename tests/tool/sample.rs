//! A small linked ELF file, written byte by byte: a kernel with the native set, two ops tables and
//! a few sites. Every part can be changed before it is written, which a linker would not do.

use object::elf;
use patchlet::Width;
use patchlet::inspect::native_set;

/// Types of sections.
pub const PROGBITS: u32 = elf::SHT_PROGBITS.0;
pub const RELA: u32 = elf::SHT_RELA.0;
pub const NOBITS: u32 = elf::SHT_NOBITS.0;
pub const REL: u32 = elf::SHT_REL.0;
pub const RELR: u32 = elf::SHT_RELR.0;

/// Attributes of sections.
pub const WRITE: u64 = elf::SHF_WRITE.0;
pub const ALLOC: u64 = elf::SHF_ALLOC.0;
pub const EXECUTE: u64 = elf::SHF_EXECINSTR.0;

/// Types of symbols.
pub const NOTYPE: u8 = elf::STT_NOTYPE.0;
pub const OBJECT: u8 = elf::STT_OBJECT.0;
pub const FUNC: u8 = elf::STT_FUNC.0;

/// Machines and types of files.
pub const X86_64: u16 = elf::EM_X86_64.0;
pub const I386: u16 = elf::EM_386.0;
pub const ET_EXEC: u16 = elf::ET_EXEC.0;
pub const ET_DYN: u16 = elf::ET_DYN.0;

/// The addresses of sections. Each has room for more than the section holds.
pub const TEXT: u64 = 0x10_0000;
pub const RODATA: u64 = 0x11_0000;
pub const DYNAMIC: u64 = 0x11_2000;
pub const DATA: u64 = 0x11_4000;
pub const SITES: u64 = 0x12_0000;
const TABLE_NAMES: u64 = 0x13_0000;
const OPS: u64 = 0x13_1000;
const VARIANTS: u64 = 0x13_2000;
const KEYS: u64 = 0x13_6000;
pub const BRANCHES: u64 = 0x13_7000;
pub const KEY_WORDS: u64 = 0x13_8000;
const VARIANT_WORDS: u64 = 0x13_9000;

/// The ops of the kernel's own table. The last has the name of a built-in one.
const OWN: [&str; 3] = ["invlpg", "tick", "ident"];

#[derive(Clone, Debug)]
pub struct Section {
    pub name: &'static str,
    pub kind: u32,
    pub flags: u64,
    pub address: u64,
    pub data: Vec<u8>,
    pub link: u32,
    pub info: u32,
    /// Says another size than it has.
    pub size: Option<u64>,
    /// Says another offset than it has.
    pub offset: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Symbol {
    pub name: String,
    pub address: u64,
    pub size: u64,
    pub kind: u8,
    pub section: &'static str,
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub width: Width,
    pub file_kind: u16,
    pub machine: u16,
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
    /// What is added to the offsets in program headers.
    pub segment_shift: u64,
    /// The section whose segment has other rights than itself, and which.
    pub segment_flags: Option<(&'static str, u64)>,
    /// The section that code is appended to.
    pub text: &'static str,
    /// Names of ops and addresses of their sites, in the order of the records.
    pub sites: Vec<(&'static str, u64)>,
    /// Addresses of branch sites, in the order of the records.
    pub branches: Vec<u64>,
}

/// Returns the ops of the built-in table, in the order of site.h.
pub fn builtin(width: Width) -> Vec<&'static str> {
    let mut ops = vec![
        "irq_disable",
        "irq_enable",
        "save_fl",
        "restore_fl",
        "read_cr2",
        "read_cr3",
        "write_cr3",
        "ident",
        "queued_spin_unlock",
        "vcpu_is_preempted",
    ];
    match width {
        Width::Bits64 => ops.extend(["wbinvd", "swapgs", "usergs_sysret64", "safe_halt", "halt"]),
        Width::Bits32 => ops.extend(["iret", "safe_halt", "halt"]),
    }
    ops
}

fn pointer(width: Width) -> u64 {
    width.pointer_size()
}

impl Sample {
    pub fn new(width: Width) -> Self {
        let mut sample = Self {
            width,
            file_kind: ET_EXEC,
            machine: if width == Width::Bits64 { X86_64 } else { I386 },
            sections: vec![
                section(".text", ALLOC | EXECUTE, TEXT),
                section(".rodata.patchlets", ALLOC, RODATA),
                section("patchlet_index", ALLOC, RODATA + 0x1000),
                section("patchlet_sites", ALLOC, SITES),
                section(".data", ALLOC | WRITE, DATA),
            ],
            symbols: vec![],
            segment_shift: 0,
            segment_flags: None,
            text: ".text",
            sites: vec![],
            branches: vec![],
        };
        let mut patchlets = native_set(width).to_vec();
        let invlpg: &[u8] =
            if width == Width::Bits64 { &[0x0f, 0x01, 0x3f] } else { &[0x0f, 0x01, 0x38] };
        patchlets.push(("invlpg", invlpg));
        for (name, bytes) in patchlets {
            sample.patchlet(name, bytes);
        }
        sample.function("patchlet_nop", &[0xc3]);
        if width == Width::Bits32 {
            sample.function("patchlet_ident", &[0xc3]);
        }
        // mov $1, %eax; ret
        sample.function("tick", &[0xb8, 1, 0, 0, 0, 0xc3]);
        sample.table("patchlet_pv_ops", &builtin(width));
        sample.table("own_ops", &OWN);

        // Each function starts with something else than a site.
        let start = sample.begin(&[0x90]);
        sample.site("patchlet_pv_ops", 2, 6, 0);
        sample.code(&[0x31, 0xd2]);
        sample.site("patchlet_pv_ops", 0, 6, 0);
        sample.code(&[0xc3]);
        sample.end("save_and_disable", start);
        let start = sample.begin(&[0x55]);
        sample.site("own_ops", 0, 9, 0);
        sample.site("own_ops", 1, 6, 0);
        sample.site("own_ops", 2, 16, 0);
        sample.code(&[0x5d, 0xc3]);
        sample.end("own_work", start);
        let start = sample.begin(&[0x90]);
        let leaves = ["usergs_sysret64", "iret"];
        let jump = builtin(width).iter().position(|op| leaves.contains(op)).expect("one of them");
        sample.site("patchlet_pv_ops", jump, 6, 1);
        sample.code(&[0x0f, 0x0b]);
        sample.end("leave", start);
        // A branch over it, and no site.
        let start = sample.begin(&[0x74, 0x01, 0x90, 0xe8, 0, 0, 0, 0, 0xc3]);
        sample.end("without_site", start);

        let (start, end) = {
            let sites = sample.section("patchlet_sites");
            (sites.address, sites.address + sites.data.len() as u64)
        };
        sample.symbol("__start_patchlet_sites", start, 0, NOTYPE, "patchlet_sites");
        sample.symbol("__stop_patchlet_sites", end, 0, NOTYPE, "patchlet_sites");
        sample
    }

    /// Adds the records of ops that `ops!` writes.
    pub fn with_op_records(mut self) -> Self {
        let own = [("tlb", "flush_page"), ("time", "ticks_low"), ("own", "ident")];
        let builtin = builtin(self.width).into_iter().map(|op| ("pv", op));
        let tables = [("patchlet_pv_ops", builtin.collect::<Vec<_>>()), ("own_ops", own.to_vec())];
        let mut names = section(".rodata.patchlet_table", ALLOC, TABLE_NAMES);
        let mut records = section("patchlet_ops", ALLOC, OPS);
        for (table, ops) in tables {
            let name_of_table = names.address + names.data.len() as u64;
            names.data.extend(table.bytes().chain([0]));
            for (index, (group, op)) in ops.into_iter().enumerate() {
                let name = format!("{group}.{op}");
                let mut relative = |address: u64| {
                    let here = records.address + records.data.len() as u64;
                    records.data.extend(&address.wrapping_sub(here).to_le_bytes()[..4]);
                };
                relative(self.slot(table, index));
                relative(name_of_table);
                // All callee-save, without arguments and result, but those that leave.
                let class = if ["usergs_sysret64", "iret"].contains(&op) { 2 } else { 0 };
                // What has no patchlet is a function.
                let is_function = op == "ticks_low" || (op, self.width) == ("ident", Width::Bits32);
                let class = class | if is_function { 1 << 5 } else { 0 };
                records.data.extend([index as u8, 0, class, 0, 0, name.len() as u8]);
                records.data.extend(name.bytes());
                records.data.resize(records.data.len().next_multiple_of(4), 0);
            }
        }
        self.sections.extend([names, records]);
        self
    }

    /// Adds variants to two ops of the kernel's own table, two keys, and three branch sites in a
    /// function that has a cold part.
    pub fn with_variants_and_branches(mut self) -> Self {
        self.sections.extend([
            section("patchlet_variants", ALLOC, VARIANTS),
            section(".variants", ALLOC | WRITE, VARIANT_WORDS),
            section("patchlet_keys", ALLOC, KEYS),
            section("patchlet_branches", ALLOC, BRANCHES),
            section(".keys", ALLOC | WRITE, KEY_WORDS),
        ]);
        self.patchlet("stac", &[0x0f, 0x01, 0xcb]);
        self.patchlet("copy_rep", &[0xf3, 0xa4]);
        // mov $2, %eax; ret
        let short = self.function("copy_short", &[0xb8, 2, 0, 0, 0, 0xc3]);
        let (stac, rep) =
            (self.address_of("patchlet_native_stac"), self.address_of("patchlet_native_copy_rep"));
        let nop = self.address_of("patchlet_nop");
        self.variant(1, 0, "SMAP_ENABLED", stac, PATCHLET);
        self.variant(1, 1, "ERMS !BROKEN", rep, PATCHLET);
        self.variant(1, 2, "FSRM", short, FUNCTION);
        self.variant(0, 0, "AMD", nop, NOTHING);
        self.key("TRACE", false, false);
        self.key("DEBUG", true, true);

        let start = self.begin(&[0x55]);
        let trace = self.branch("TRACE", 0);
        self.code(&[0x31, 0xd2]);
        let debug = self.branch("DEBUG", 1);
        let at_end = self.branch("DEBUG", 0);
        self.code(&[0x5d, 0xc3]);
        self.land(trace, self.here());
        self.land(at_end, self.here());
        // ud2, which could be taken for padding behind the return.
        self.code(&[0x0f, 0x0b]);
        self.end("traced", start);
        let cold = self.begin(&[0x31, 0xc0, 0xc3]);
        self.end("traced.cold", cold);
        self.land(debug, cold);

        let end = BRANCHES + self.section("patchlet_branches").data.len() as u64;
        self.symbol("__start_patchlet_branches", BRANCHES, 0, NOTYPE, "patchlet_branches");
        self.symbol("__stop_patchlet_branches", end, 0, NOTYPE, "patchlet_branches");
        self
    }

    /// Appends a variant of an op of the kernel's own table: the word with its function, and its
    /// record.
    pub fn variant(&mut self, op: usize, place: u8, condition: &str, function: u64, means: u8) {
        let (slot, data) = (self.slot("own_ops", op), self.section(".data"));
        let word = data.address + data.data.len() as u64;
        let mut bytes = Vec::new();
        self.put(&mut bytes, function);
        self.section_mut(".data").data.extend(bytes);
        self.relative("patchlet_variants", slot);
        self.relative("patchlet_variants", word);
        let records = &mut self.section_mut("patchlet_variants").data;
        records.extend([place | means << 6, condition.len() as u8]);
        records.extend(condition.bytes());
        records.resize(records.len().next_multiple_of(4), 0);
    }

    /// Appends a key and its record.
    pub fn key(&mut self, name: &str, is_on: bool, is_counted: bool) {
        let words = self.section_mut(".keys");
        let address = words.address + words.data.len() as u64;
        words.data.extend([is_on.into(), 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa]);
        self.symbol(name, address, 8, OBJECT, ".keys");
        self.relative("patchlet_keys", address);
        let records = &mut self.section_mut("patchlet_keys").data;
        records.extend([is_on.into(), is_counted.into(), 0, name.len() as u8]);
        records.extend(name.bytes());
        records.resize(records.len().next_multiple_of(4), 0);
    }

    /// Appends a branch site, in the form for what its key is from the start, and its record, whose
    /// target is the site itself. Returns its number.
    pub fn branch(&mut self, key: &str, direction: u8) -> usize {
        let (site, key) = (self.here(), self.address_of(key));
        let is_on = self.at(key)[0] != 0;
        let jumps = is_on == (direction == 0);
        self.code(if jumps { &[0xe9, 0xfb, 0xff, 0xff, 0xff] } else { &NOP5 });
        self.relative("patchlet_branches", site);
        self.relative("patchlet_branches", key);
        self.section_mut("patchlet_branches").data.extend([0, 0, 5, direction]);
        self.relative("patchlet_branches", site);
        self.branches.push(site);
        self.branches.len() - 1
    }

    /// Lets a branch site go to an address.
    pub fn land(&mut self, number: usize, target: u64) {
        let (site, field) = (self.branches[number], BRANCHES + 16 * number as u64 + 12);
        self.branch_record(number)[12..]
            .copy_from_slice(&target.wrapping_sub(field).to_le_bytes()[..4]);
        if self.at(site)[0] == 0xe9 {
            let jump = jump(site, target);
            self.at(site)[..5].copy_from_slice(&jump);
        }
    }

    /// Returns the bytes of the record of a branch site.
    pub fn branch_record(&mut self, number: usize) -> &mut [u8] {
        &mut self.section_mut("patchlet_branches").data[16 * number..16 * number + 16]
    }

    /// Appends an address to a section, relative to where it stands.
    fn relative(&mut self, section: &'static str, address: u64) {
        let section = self.section_mut(section);
        let here = section.address + section.data.len() as u64;
        section.data.extend(&address.wrapping_sub(here).to_le_bytes()[..4]);
    }

    /// Removes the symbols.
    pub fn stripped(mut self) -> Self {
        self.symbols.clear();
        self
    }

    /// Makes the sample a static PIE, whose slots are relocations.
    pub fn position_independent(mut self) -> Self {
        self.file_kind = ET_DYN;
        let (data, pointer) = (self.section(".data").clone(), pointer(self.width));
        let mut relocations = Vec::new();
        for at in (0..data.data.len()).step_by(pointer as usize) {
            let value = number(&data.data[at..at + pointer as usize]);
            let address = data.address + at as u64;
            self.put(&mut relocations, address);
            self.put(&mut relocations, 8);
            if self.width == Width::Bits64 {
                self.put(&mut relocations, value);
                self.section_mut(".data").data[at..at + 8].fill(0);
            }
        }
        let (name, kind) = match self.width {
            Width::Bits64 => (".rela.dyn", RELA),
            Width::Bits32 => (".rel.dyn", REL),
        };
        self.sections.push(Section { kind, data: relocations, ..section(name, ALLOC, DYNAMIC) });
        self
    }

    pub fn section(&self, name: &str) -> &Section {
        self.sections.iter().find(|section| section.name == name).expect(name)
    }

    pub fn section_mut(&mut self, name: &str) -> &mut Section {
        self.sections.iter_mut().find(|section| section.name == name).expect(name)
    }

    pub fn address_of(&self, symbol: &str) -> u64 {
        self.symbols.iter().find(|found| found.name == symbol).expect(symbol).address
    }

    pub fn symbol_mut(&mut self, name: &str) -> &mut Symbol {
        self.symbols.iter_mut().find(|found| found.name == name).expect(name)
    }

    /// Returns the bytes from an address on.
    pub fn at(&mut self, address: u64) -> &mut [u8] {
        let inside = |section: &&mut Section| {
            (section.address..section.address + section.data.len() as u64).contains(&address)
        };
        let section = self.sections.iter_mut().find(inside).expect("an address of the sample");
        let at = (address - section.address) as usize;
        &mut section.data[at..]
    }

    /// Returns the bytes of a record.
    pub fn record(&mut self, number: usize) -> &mut [u8] {
        &mut self.section_mut("patchlet_sites").data[12 * number..12 * number + 12]
    }

    /// Returns the bytes from the record of an op of the built-in table on.
    pub fn op_record(&mut self, number: usize) -> &mut [u8] {
        let data = &mut self.section_mut("patchlet_ops").data;
        let mut at = 0;
        for _ in 0..number {
            at += (14 + usize::from(data[at + 13])).next_multiple_of(4);
        }
        &mut data[at..]
    }

    /// Appends a function and returns its address.
    pub fn function(&mut self, name: &str, code: &[u8]) -> u64 {
        let start = self.begin(code);
        self.end(name, start);
        start
    }

    /// Returns the bytes of `call *slot` or `jmp *slot` at an address. There is no record of it.
    pub fn indirect(&self, at: u64, slot: u64, kind: u8) -> Vec<u8> {
        let operand = match self.width {
            Width::Bits64 => slot.wrapping_sub(at + 6),
            Width::Bits32 => slot,
        };
        let mut code = vec![0xff, if kind == 0 { 0x15 } else { 0x25 }];
        code.extend(&operand.to_le_bytes()[..4]);
        code
    }

    /// Returns the address of the next code.
    pub fn here(&self) -> u64 {
        let text = self.section(self.text);
        text.address + text.data.len() as u64
    }

    /// Returns the address of a slot.
    pub fn slot(&self, table: &str, index: usize) -> u64 {
        self.address_of(table) + pointer(self.width) * index as u64
    }

    pub fn symbol(&mut self, name: &str, address: u64, size: u64, kind: u8, section: &'static str) {
        self.symbols.push(Symbol { name: name.into(), address, size, kind, section });
    }

    pub fn code(&mut self, code: &[u8]) {
        self.section_mut(self.text).data.extend(code);
    }

    /// Starts a function with this code, after INT3 up to its alignment. Returns its address.
    pub fn begin(&mut self, code: &[u8]) -> u64 {
        while !self.here().is_multiple_of(16) {
            self.code(&[0xcc]);
        }
        let start = self.here();
        self.code(code);
        start
    }

    pub fn end(&mut self, name: &str, start: u64) {
        let size = self.here() - start;
        self.symbol(name, start, size, FUNC, self.text);
    }

    /// Appends a site with its padding, and its record.
    pub fn site(&mut self, table: &str, index: usize, capacity: u8, kind: u8) {
        let (at, slot) = (self.here(), self.slot(table, index));
        let code = self.indirect(at, slot, kind);
        self.code(&code);
        self.code(&vec![0x90; usize::from(capacity) - 6]);
        let records = self.section_mut("patchlet_sites");
        let record = records.address + records.data.len() as u64;
        records.data.extend(&at.wrapping_sub(record).to_le_bytes()[..4]);
        records.data.extend(&slot.wrapping_sub(record + 4).to_le_bytes()[..4]);
        records.data.extend((index as u16).to_le_bytes());
        records.data.extend([capacity, kind]);
        let op = if table == "patchlet_pv_ops" { builtin(self.width)[index] } else { OWN[index] };
        self.sites.push((op, at));
    }

    /// Sets the symbols that bound the table to the bounds of the records.
    pub fn bound_records(&mut self) {
        let records = self.section("patchlet_sites");
        let end = records.address + records.data.len() as u64;
        self.symbol_mut("__stop_patchlet_sites").address = end;
    }

    /// Adds a patchlet: its labels, its native function and its record in the index.
    pub fn patchlet(&mut self, name: &str, bytes: &[u8]) {
        let mut code = bytes.to_vec();
        if !matches!(name, "usergs_sysret64" | "iret" | "ud2") {
            code.push(0xc3);
        }
        let native = self.function(&format!("patchlet_native_{name}"), &code);
        let section = self.section_mut(".rodata.patchlets");
        let start = section.address + section.data.len() as u64;
        section.data.extend(bytes);
        let (len, end) = (bytes.len() as u64, start + bytes.len() as u64);
        self.symbol(&format!("patchlet_{name}_start"), start, len, OBJECT, ".rodata.patchlets");
        self.symbol(&format!("patchlet_{name}_end"), end, 0, NOTYPE, ".rodata.patchlets");
        let index = self.section_mut("patchlet_index");
        let record = index.address + index.data.len() as u64;
        index.data.extend(&start.wrapping_sub(record).to_le_bytes()[..4]);
        index.data.extend(&native.wrapping_sub(record + 4).to_le_bytes()[..4]);
        index.data.extend((bytes.len() as u16).to_le_bytes());
        index.data.extend((name.len() as u16).to_le_bytes());
        index.data.extend(name.as_bytes());
        while !index.data.len().is_multiple_of(4) {
            index.data.push(0);
        }
    }

    fn table(&mut self, name: &str, ops: &[&str]) {
        let section = self.section(".data");
        let start = section.address + section.data.len() as u64;
        let mut slots = Vec::new();
        for op in ops {
            let native = match (*op, self.width) {
                ("tick", _) => "tick".to_owned(),
                ("ident", Width::Bits64) => "patchlet_native_ident_64".to_owned(),
                ("ident", Width::Bits32) => "patchlet_ident".to_owned(),
                _ => format!("patchlet_native_{op}"),
            };
            let address = self.address_of(&native);
            self.put(&mut slots, address);
        }
        self.symbol(name, start, slots.len() as u64, OBJECT, ".data");
        self.section_mut(".data").data.extend(slots);
    }

    /// Appends a number of the file's width.
    pub fn put(&self, bytes: &mut Vec<u8>, value: u64) {
        bytes.extend(&value.to_le_bytes()[..pointer(self.width) as usize]);
    }

    /// Returns the file.
    pub fn bytes(&self) -> Vec<u8> {
        let wide = self.width == Width::Bits64;
        let (header, program_header, section_header): (u64, u64, u16) =
            if wide { (64, 56, 64) } else { (52, 32, 40) };
        let mut sections = self.sections.clone();
        if !self.symbols.is_empty() {
            let (symbols, strings) = self.symbol_table();
            let link = sections.len() as u32 + 2;
            let table = Section {
                kind: elf::SHT_SYMTAB.0,
                data: symbols,
                link,
                ..section(".symtab", 0, 0)
            };
            sections.push(table);
            sections.push(Section {
                kind: elf::SHT_STRTAB.0,
                data: strings,
                ..section(".strtab", 0, 0)
            });
        }
        let mut names = vec![0];
        let mut name_offsets = Vec::new();
        for name in sections.iter().map(|section| section.name).chain([".shstrtab"]) {
            name_offsets.push(names.len() as u64);
            names.extend(name.bytes().chain([0]));
        }
        sections.push(Section {
            kind: elf::SHT_STRTAB.0,
            data: names,
            ..section(".shstrtab", 0, 0)
        });

        let loaded: Vec<usize> =
            (0..sections.len()).filter(|&at| sections[at].flags & ALLOC != 0).collect();
        let mut offset = header + program_header * loaded.len() as u64;
        let mut body = Vec::new();
        for section in &mut sections {
            let padding = offset.next_multiple_of(16) - offset;
            body.resize(body.len() + padding as usize, 0);
            offset += padding;
            section.offset.get_or_insert(offset);
            if section.kind != NOBITS {
                body.extend(&section.data);
                offset += section.data.len() as u64;
            }
        }
        let table = offset.next_multiple_of(16);
        body.resize(body.len() + (table - offset) as usize, 0);

        let mut file = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
        file.resize(16, 0);
        file.extend(self.file_kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        self.put(&mut file, TEXT);
        self.put(&mut file, header);
        self.put(&mut file, table);
        file.extend(0_u32.to_le_bytes());
        for half in [
            header as u16,
            program_header as u16,
            loaded.len() as u16,
            section_header,
            sections.len() as u16 + 1,
            sections.len() as u16,
        ] {
            file.extend(half.to_le_bytes());
        }
        for section in loaded.into_iter().map(|at| &sections[at]) {
            let other = self.segment_flags.filter(|(name, _)| *name == section.name);
            let flags = other.map_or(section.flags, |(_, flags)| flags);
            let rights: u32 = elf::PF_R.0
                | if flags & WRITE != 0 { elf::PF_W.0 } else { 0 }
                | if flags & EXECUTE != 0 { elf::PF_X.0 } else { 0 };
            file.extend(elf::PT_LOAD.0.to_le_bytes());
            if wide {
                file.extend(rights.to_le_bytes());
            }
            let size = section.data.len() as u64;
            let offset = section.offset.unwrap_or(0).wrapping_add(self.segment_shift);
            for value in [offset, section.address, section.address, size, size] {
                self.put(&mut file, value);
            }
            if !wide {
                file.extend(rights.to_le_bytes());
            }
            self.put(&mut file, 1);
        }
        file.extend(body);
        file.extend(vec![0; usize::from(section_header)]);
        for (section, name) in sections.iter().zip(name_offsets) {
            file.extend((name as u32).to_le_bytes());
            file.extend(section.kind.to_le_bytes());
            let size = section.size.unwrap_or(section.data.len() as u64);
            for value in [section.flags, section.address, section.offset.unwrap_or(0), size] {
                self.put(&mut file, value);
            }
            file.extend(section.link.to_le_bytes());
            file.extend(section.info.to_le_bytes());
            self.put(&mut file, 1);
            const SYMTAB: u32 = elf::SHT_SYMTAB.0;
            let entry = match (section.kind, wide) {
                (SYMTAB, true) | (RELA, true) => 24,
                (SYMTAB, false) => 16,
                (REL, false) => 8,
                _ => 0,
            };
            self.put(&mut file, entry);
        }
        file
    }

    fn symbol_table(&self) -> (Vec<u8>, Vec<u8>) {
        let wide = self.width == Width::Bits64;
        let mut table = vec![0; if wide { 24 } else { 16 }];
        let mut strings = vec![0];
        for symbol in &self.symbols {
            let name = strings.len() as u32;
            strings.extend(symbol.name.bytes().chain([0]));
            let index = self.sections.iter().position(|section| section.name == symbol.section);
            let index = index.expect(symbol.section) as u16 + 1;
            let info = 0x10 | symbol.kind;
            table.extend(name.to_le_bytes());
            if !wide {
                self.put(&mut table, symbol.address);
                self.put(&mut table, symbol.size);
            }
            table.extend([info, 0]);
            table.extend(index.to_le_bytes());
            if wide {
                self.put(&mut table, symbol.address);
                self.put(&mut table, symbol.size);
            }
        }
        (table, strings)
    }
}

fn section(name: &'static str, flags: u64, address: u64) -> Section {
    let (data, size, offset) = (vec![], None, None);
    Section { name, kind: PROGBITS, flags, address, data, link: 0, info: 0, size, offset }
}

/// The means of a variant, as its record says them.
pub const PATCHLET: u8 = 0;
pub const FUNCTION: u8 = 1;
pub const NOTHING: u8 = 2;

/// The NOP of a branch site.
pub const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// Returns the bytes of `jmp target` at an address.
pub fn jump(at: u64, target: u64) -> [u8; 5] {
    let [a, b, c, d] = (target.wrapping_sub(at + 5) as u32).to_le_bytes();
    [0xe9, a, b, c, d]
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

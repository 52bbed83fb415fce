//! Dumps: where a kernel is found, and what of it is compared.

use patchlet::Width;
use patchlet::inspect::{
    Exit, LinuxKernel, RawAddress, SlideEvidence, Verdict, explain_linux, unpack,
};

use crate::kernel::{Kernel, PHYSICAL, SLIDE, core, relative};
use crate::tables::explain;
use crate::tool::{file, tool};

/// A kernel with one site, and an address in an instruction, which moves.
fn kernel(width: Width) -> (Kernel, u64) {
    let mut kernel = Kernel::new(width);
    let site = kernel.code(&[0xf3, 0x0f, 0x1e, 0xfa]);
    kernel.patched.insert(site, vec![0x66, 0x0f, 0x1f, 0x00]);
    let record = move |at| relative(at, site);
    kernel.table(".ibt_endbr_seal", &[&record]);
    // mov $address, %eax
    let target = kernel.function("target") as u32;
    let address = |slide: u32| [&[0xb8][..], &target.wrapping_add(slide).to_le_bytes()].concat();
    kernel.site(&address(0), &address(SLIDE as u32));
    (kernel, site)
}

#[test]
fn the_slide_is_what_pointers_in_data_say() {
    for width in [Width::Bits64, Width::Bits32] {
        let (mut kernel, site) = kernel(width);
        let (file, memory) = kernel.file_and_memory();
        let explanation = explain(&file, &memory);
        assert_eq!(explanation.slide, SLIDE);
        assert_eq!(explanation.slide_evidence, SlideEvidence::Pointers { agree: 64, of: 64 });
        assert!(!explanation.has_page_tables);
        assert_eq!(explanation.physical_distance, Some(PHYSICAL.wrapping_sub(kernel.base)));
        assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0, "{:?}", explanation.list);
        let moved = explanation.list.iter().find(|of| of.cause == "moved-address").expect("it");
        assert_eq!(moved.verdict, Verdict::Proven);
        let sealed = explanation.list.iter().find(|of| of.cause == "endbr").expect("it");
        assert_eq!(sealed.address, site.wrapping_add(SLIDE));
        // The two sections that are freed after boot.
        assert_eq!(explanation.not_executable, 64);
    }
}

#[test]
fn a_dump_can_have_virtual_addresses() {
    let (mut kernel, _) = kernel(Width::Bits64);
    let (file, memory) = kernel.file_and_memory();
    let unpacked = unpack(&file).expect("an ELF file");
    let linux = LinuxKernel::new(&unpacked).expect("a kernel");
    let start = kernel.base.wrapping_add(SLIDE);
    let explanation =
        explain_linux(&linux, &memory, Some(RawAddress::Virtual(start)), false).expect("found");
    assert_eq!(explanation.slide, SLIDE);
    assert_eq!(explanation.slide_evidence, SlideEvidence::Addresses);
    assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0);
}

/// Page tables of four levels that map the first pages of the kernel, each executable or not.
pub fn page_tables(at: u64, address: u64, physical: u64, executable: &[bool]) -> Vec<u8> {
    let mut tables = vec![0_u8; 4 * 0x1000];
    let mut put = |table: u64, index: u64, entry: u64| {
        let offset = (table * 0x1000 + index * 8) as usize;
        tables[offset..offset + 8].copy_from_slice(&entry.to_le_bytes());
    };
    for level in 0..3 {
        put(level, (address >> (39 - 9 * level)) & 0x1ff, (at + (level + 1) * 0x1000) | 3);
    }
    for (page, &executable) in executable.iter().enumerate() {
        let address = address + 0x1000 * page as u64;
        let entry = (physical + 0x1000 * page as u64) | 3;
        let forbidden = if executable { 0 } else { 1 << 63 };
        put(3, (address >> 12) & 0x1ff, entry | forbidden);
    }
    tables
}

#[test]
fn page_tables_say_where_it_runs_and_what_can_be_executed() {
    const TABLES: u64 = 0x10_0000;
    let (mut kernel, _) = kernel(Width::Bits64);
    kernel.filler(0x2000);
    let (file, mut memory) = kernel.file_and_memory();
    let run = |memory: &[u8], executable: &[bool]| {
        let address = kernel.base.wrapping_add(SLIDE);
        let tables = page_tables(TABLES, address, PHYSICAL, executable);
        let dump = core(&[(TABLES, &tables), (PHYSICAL, memory)], TABLES);
        let unpacked = unpack(&file).expect("an ELF file");
        let linux = LinuxKernel::new(&unpacked).expect("a kernel");
        explain_linux(&linux, &dump, None, true).unwrap_or_else(|error| panic!("{error}"))
    };
    let explanation = run(&memory, &[true, true, true, true, true]);
    assert_eq!(explanation.slide, SLIDE);
    assert_eq!(explanation.slide_evidence, SlideEvidence::PageTables);
    assert!(explanation.has_page_tables);
    assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0, "{:?}", explanation.list);
    let text = kernel.sample.section(".text").data.len() as u64;
    // Pages behind the text are not mapped: what the file has there cannot be executed.
    assert_eq!(explanation.compared, text);
    let others = explanation.not_executable;
    // A byte of the third page differs: found, unless no CPU can execute it.
    memory[0x2345] ^= 1;
    assert_eq!(run(&memory, &[true; 5]).total(Verdict::Unexplained).ranges, 1);
    let explanation = run(&memory, &[true, true, false, true, true]);
    assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0);
    assert_eq!(explanation.not_executable, others + 0x1000);
}

/// A dump can be in several parts, and a site in two of them.
#[test]
fn a_site_can_be_in_two_parts_of_a_dump() {
    const TABLES: u64 = 0x10_0000;
    const PAGE: usize = 0x1000;
    let (mut kernel, _) = kernel(Width::Bits64);
    let here = (kernel.sample.here() - kernel.base) as usize;
    // In front of a site stand 24 other bytes.
    kernel.filler(here.next_multiple_of(PAGE) - 2 - 24 - here);
    let site = kernel.code(&[0xf3, 0x0f, 0x1e, 0xfa]);
    let record = move |at| relative(at, site);
    kernel.sample.sections.retain(|section| section.name != ".ibt_endbr_seal");
    kernel.table(".ibt_endbr_seal", &[&record]);
    kernel.patched.insert(site, vec![0x66, 0x0f, 0x1f, 0x00]);
    kernel.filler(64);
    let (file, memory) = kernel.file_and_memory();
    let at = (site - kernel.base) as usize;
    assert_eq!(at % PAGE, PAGE - 2);
    let run = |changed: Option<usize>| {
        let mut memory = memory.clone();
        if let Some(changed) = changed {
            memory[changed] ^= 1;
        }
        let tables = page_tables(TABLES, kernel.base.wrapping_add(SLIDE), PHYSICAL, &[true; 5]);
        let (one, other) = memory.split_at(at + 2);
        let behind = PHYSICAL + one.len() as u64;
        let dump = core(&[(TABLES, &tables), (PHYSICAL, one), (behind, other)], TABLES);
        let unpacked = unpack(&file).expect("an ELF file");
        let linux = LinuxKernel::new(&unpacked).expect("a kernel");
        let explanation = explain_linux(&linux, &dump, None, true);
        let explanation = explanation.unwrap_or_else(|error| panic!("{error}"));
        let of = explanation.list.iter().find(|of| of.address_in_file == site).expect("the site");
        (of.verdict, of.seen.clone())
    };
    assert_eq!(run(None), (Verdict::Proven, vec![0x66, 0x0f, 0x1f, 0x00]));
    assert_eq!(run(Some(at + 1)), (Verdict::Unexplained, vec![0x66, 0x0e, 0x1f, 0x00]));
    assert_eq!(run(Some(at + 2)), (Verdict::Unexplained, vec![0x66, 0x0f, 0x1e, 0x00]));
}

/// On a CPU without NX, or with it switched off, page tables have no page that cannot be executed.
/// What was given back after boot is then not compared, as with page tables of two levels.
#[test]
fn page_tables_that_forbid_nothing() {
    const TABLES: u64 = 0x10_0000;
    let (mut kernel, site) = kernel(Width::Bits64);
    let (file, mut memory) = kernel.file_and_memory();
    // The section is written over.
    let freed = kernel.sample.section(".init.text").address - kernel.base;
    memory[freed as usize..][..64].fill(0);
    let text = kernel.sample.section(".text");
    let text = 0..text.data.len().div_ceil(0x1000);
    let run = |memory: &[u8], forbids: bool| {
        let address = kernel.base.wrapping_add(SLIDE);
        let pages = 0..memory.len().div_ceil(0x1000);
        let freed = (freed / 0x1000) as usize;
        let executable: Vec<bool> =
            pages.map(|page| !forbids || text.contains(&page) || page == freed).collect();
        let tables = page_tables(TABLES, address, PHYSICAL, &executable);
        let dump = core(&[(TABLES, &tables), (PHYSICAL, memory)], TABLES);
        let unpacked = unpack(&file).expect("an ELF file");
        let linux = LinuxKernel::new(&unpacked).expect("a kernel");
        explain_linux(&linux, &dump, None, true).unwrap_or_else(|error| panic!("{error}"))
    };
    let explanation = run(&memory, false);
    assert_eq!(explanation.slide_evidence, SlideEvidence::PageTables);
    assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0, "{:?}", explanation.list);
    // Where other pages are forbidden, that one is not, so somebody can execute it.
    assert_eq!(run(&memory, true).total(Verdict::Unexplained).ranges, 1);
    memory[(site - kernel.base) as usize] ^= 1;
    assert_eq!(run(&memory, false).total(Verdict::Unexplained).ranges, 1);
}

/// Page tables of two levels, without a bit that forbids execution: a page of 4 MiB where the
/// kernel runs, and one where the memory lies. What was given back after boot can be executed, and
/// is not compared.
#[test]
fn page_tables_of_two_levels() {
    const TABLES: u64 = 0x10_0000;
    /// Physical memory is mapped in the kernel's half from here on.
    const OFFSET: u64 = 0xc000_0000;
    let (mut kernel, site) = kernel(Width::Bits32);
    let physical = kernel.base.wrapping_add(SLIDE) - OFFSET;
    let (file, mut memory) = kernel.file_and_memory();
    let run = |memory: &[u8]| {
        // In front of the tables of the CPU lie others, which map memory only where it lies.
        let mut tables = vec![0; 0x2000];
        for (start, address) in [(0, physical), (0x1000, physical), (0x1000, physical + OFFSET)] {
            // Present, writable, and a page of 4 MiB.
            let entry = (physical & !0x3f_ffff) as u32 | 0x83;
            let at = start + (address >> 22) as usize * 4;
            tables[at..at + 4].copy_from_slice(&entry.to_le_bytes());
        }
        let mut dump = core(&[(TABLES, &tables), (physical, memory)], TABLES + 0x1000);
        // Without CR4.PAE.
        let cr4 = dump.windows(4).position(|part| part == b"QEMU").expect("the note") + 8 + 424;
        dump[cr4] = 0x10;
        let unpacked = unpack(&file).expect("an ELF file");
        let linux = LinuxKernel::new(&unpacked).expect("a kernel");
        explain_linux(&linux, &dump, None, true).unwrap_or_else(|error| panic!("{error}"))
    };
    let explanation = run(&memory);
    assert_eq!((explanation.slide, explanation.slide_evidence), (SLIDE, SlideEvidence::PageTables));
    assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0, "{:?}", explanation.list);
    assert_eq!(explanation.not_executable, 64);
    memory[(site - kernel.base) as usize] ^= 1;
    assert_eq!(run(&memory).total(Verdict::Unexplained).ranges, 1);
}

#[test]
fn the_command_prints_what_it_found() {
    let (mut kernel, site) = kernel(Width::Bits64);
    let (elf, mut memory) = kernel.file_and_memory();
    let elf = file("explain", "vmlinux", &elf);
    let dump = file("explain", "ram", &memory);
    let arguments = ["explain", &elf, "--memory", &dump, "--phys", "0x600000"];
    let output = tool(&arguments);
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
    for part in ["Linux 6.6.6-test", "moved by 0x1e00000", "nothing unexplained", "endbr"] {
        assert!(output.out.contains(part), "{part}: {}", output.out);
    }
    let all = tool(&[&arguments[..], &["--all"]].concat());
    let address = format!("{:#x}", site + SLIDE);
    assert!(all.out.contains(&address) && !output.out.contains(&address), "{}", all.out);
    let json = tool(&[&arguments[..], &["--json"]].concat());
    assert!(json.out.contains(r#""verdict": "proven""#), "{}", json.out);
    assert!(json.out.contains(&format!(r#""address": "{address}""#)), "{}", json.out);

    memory[(site - kernel.base) as usize] = 0xcc;
    let dump = file("explain", "changed", &memory);
    let output = tool(&["explain", &elf, "--memory", &dump, "--phys", "0x600000"]);
    assert_eq!(output.exit, Exit::Finding);
    for part in [&*address, "1 range unexplained", "66 0f 1f 00", "cc 0f 1f 00"] {
        assert!(output.out.contains(part), "{part}: {}", output.out);
    }
}

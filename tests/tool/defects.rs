//! Breaks a kernel for each finding, on both widths. The tool must report that finding and no
//! other.

use patchlet::Width;
use patchlet::inspect::{Exit, FindingCode};

use crate::blobs;
use crate::sample::{ALLOC, DYNAMIC, EXECUTE, NOBITS, REL, RELA, RELR, Sample, Section, WRITE};
use crate::tool::{file, findings, tool};

/// A defect: the expected finding, the function that breaks the sample, and the expected text.
pub type Defect = (FindingCode, fn(&mut Sample), &'static str);

const DEFECTS: &[Defect] = &[
    (
        FindingCode::PatchletMissing,
        without_ud2,
        "patchlet `ud2` of the native set: is not in the file",
    ),
    (
        FindingCode::PatchletBytes,
        other_bytes_twice,
        "has the bytes fb, in the native set it has fa",
    ),
    (FindingCode::PatchletNative, other_native, "has the bytes 9c 58, its native function at 0x"),
    (FindingCode::PatchletNative, native_in_data, "is not in an executable section"),
    (FindingCode::PatchletNative, no_native, "names its native function"),
    (FindingCode::PatchletLabel, no_end, "has no label patchlet_invlpg_end"),
    (FindingCode::PatchletLabel, end_before_start, "is not behind its start"),
    (FindingCode::PatchletLabel, empty, "its 0 bytes are not in one loaded section"),
    (FindingCode::PatchletOverlap, overlapping_patchlets, "shares bytes with `ud2`"),
    (FindingCode::BlobPlace, blobs::place_in_an_instruction, "is in the middle of an instruction"),
    (FindingCode::BlobHole, blobs::hole_behind_its_operand, "no instruction ends with an operand"),
    (FindingCode::BlobCode, blobs::branch_out_of_a_blob, "refers to something outside of the blob"),
    (FindingCode::Index, index_with_other_length, "says that `invlpg` has 2 bytes"),
    (
        FindingCode::Index,
        index_with_other_native,
        "says that the native function of `invlpg` is at 0x",
    ),
    (FindingCode::Index, index_cut, "is not whole"),
    (FindingCode::SectionFlags, writable_patchlets, "holds patchlets and is writable (flags 0x3)"),
    (
        FindingCode::SectionFlags,
        executable_patchlets,
        "holds patchlets and is executable (flags 0x6)",
    ),
    (FindingCode::SectionFlags, writable_records, "holds the records of the sites and is writable"),
    (FindingCode::SectionFlags, writable_index, "holds the index of patchlets and is writable"),
    (
        FindingCode::SegmentFlags,
        patchlets_in_text_segment,
        "holds patchlets and is loaded by the segment",
    ),
    (FindingCode::SegmentFlags, index_in_data_segment, "which is writable"),
    (FindingCode::SegmentFlags, records_in_text_segment, "which is executable"),
    (FindingCode::SectionSegment, moved_segments, "a loader takes those at 0x"),
    (FindingCode::Relocation, relocated_patchlet, "has a relocation at 0x"),
    (
        FindingCode::Relocation,
        packed_relocation,
        "patchlet `save_fl` at 0x110002: has a relocation",
    ),
    (FindingCode::Relocation, kept_relocation, "patchlet `save_fl` at 0x110002: has a relocation"),
    (FindingCode::Relocation, relocated_record, "table of records at 0x"),
    (FindingCode::Relocation, relocated_site, "a loader would write to 0x"),
    (
        FindingCode::RecordTable,
        half_a_record,
        "it has 76 bytes, which is no multiple of a record's 12",
    ),
    (FindingCode::RecordTable, bounds_too_small, "the symbols say 0x"),
    (FindingCode::RecordTable, bounds_backwards, "it ends at 0x"),
    (FindingCode::RecordTable, hidden, "cannot be found: there is no such section, and no symbols"),
    (
        FindingCode::RecordCapacity,
        capacity_5,
        "its capacity is 5 bytes, where 6 to 32 are possible",
    ),
    (FindingCode::RecordCapacity, capacity_33, "its capacity is 33 bytes"),
    (FindingCode::RecordKind, kind_2, "its kind is 2, neither call (0) nor jump (1)"),
    (FindingCode::RecordSlot, other_op, "is that of op 2 of patchlet_pv_ops, its op is 1"),
    (FindingCode::RecordSlot, slot_nowhere, "is no slot of any ops table (op 2)"),
    (FindingCode::RecordSlot, slot_askew, "is no slot of any ops table"),
    (FindingCode::SlotValue, slot_to_data, "which is not in an executable section"),
    (FindingCode::SiteOutsideText, site_in_data, "its 6 bytes are not in an executable section"),
    (FindingCode::SiteOutsideText, site_nowhere, "its 6 bytes are not in an executable section"),
    (FindingCode::SiteOutsideText, site_at_the_end, "its 6 bytes are not in an executable section"),
    (
        FindingCode::SiteBoundary,
        site_inside_an_instruction,
        "in the middle of the instruction at 0x",
    ),
    (FindingCode::SiteBoundary, function_inside_a_site, "starts in the middle of it, at 0x"),
    (FindingCode::SiteBytes, other_slot, "or its native form 9c 58 "),
    (FindingCode::SiteBytes, padding, "must be; emit sites by the macros"),
    (FindingCode::SiteCapacity, too_long, "the replacement has 8 bytes and the site only 6"),
    (FindingCode::SiteOverlap, two_records, "shares bytes with the site of 7 bytes at 0x"),
    (FindingCode::SiteBranch, branch_into_a_site, "leads into the middle of it, to 0x"),
    (
        FindingCode::Unrecorded,
        without_record,
        "of own_ops, and no record says so: it stays indirect",
    ),
    (FindingCode::Unrecorded, jump_without_record, "it calls or jumps through slot 0x"),
    (FindingCode::Unrecorded, beyond_the_records, "it calls or jumps through slot 0x"),
    (FindingCode::Unrecorded, by_a_register, "it calls or jumps through slot 0x"),
    (FindingCode::Unrecorded, by_a_thunk, "it calls or jumps through slot 0x"),
];

#[test]
fn the_sample_itself_has_no_finding() {
    for width in [Width::Bits64, Width::Bits32] {
        let sample = Sample::new(width);
        assert_eq!(findings(&sample.bytes()), [], "{width:?}");
        assert_eq!(findings(&sample.stripped().bytes()), [], "{width:?}, stripped");
    }
    let pie = Sample::new(Width::Bits64).position_independent();
    assert_eq!(findings(&pie.bytes()), [], "static PIE");
    assert_eq!(findings(&pie.stripped().bytes()), [], "static PIE, stripped");
}

/// Checks that two equal records are no finding: a linker that folds functions of the same code
/// (`--icf=all`) leaves them.
#[test]
fn a_record_that_is_there_twice_is_no_defect() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut sample = Sample::new(width);
        repeat_record(&mut sample, 0);
        assert_eq!(findings(&sample.bytes()), [], "{width:?}");
        let path = file("defect-twice", "kernel", &sample.bytes());
        let patched = format!("{path}.patched");
        assert_eq!(tool(&["apply", &path, "-o", &patched]).exit, Exit::Holds);
        assert_eq!(tool(&["verify", &patched]).exit, Exit::Holds);
        let back = format!("{path}.back");
        assert_eq!(tool(&["apply", "--revert", &patched, "-o", &back]).exit, Exit::Holds);
        assert!(std::fs::read(&back).expect("it was written") == sample.bytes());
    }
}

#[test]
fn each_defect_is_found_and_nothing_else() {
    for width in [Width::Bits64, Width::Bits32] {
        each_is_found(DEFECTS, || Sample::new(width));
    }
}

/// Checks that each defect, put into a sample, gives findings of its code and of no other.
pub fn each_is_found(defects: &[Defect], sample: impl Fn() -> Sample) {
    for (number, (code, defect, words)) in defects.iter().enumerate() {
        let mut sample = sample();
        let width = sample.width;
        defect(&mut sample);
        let found = findings(&sample.bytes());
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        let text = lines.join("\n");
        let others = found.iter().filter(|finding| finding.code != *code).count();
        assert!(!found.is_empty() && others == 0, "{width:?}, defect {number}, {code}:\n{text}");
        assert!(text.contains(words), "{width:?}, defect {number}: no `{words}` in\n{text}");
        assert!(lines.iter().all(|line| line.lines().count() == 1 && line.contains("; ")));
    }
}

#[test]
fn there_is_a_defect_for_each_code() {
    // These findings have tests elsewhere. tests/contract.rs breaks contracts, which are not in the
    // file. output.rs gives an expected number of sites, which is not in the file either. odd.rs
    // tests those about files that have nothing else.
    let elsewhere = [
        FindingCode::Contract,
        FindingCode::SiteCount,
        FindingCode::BranchCount,
        FindingCode::NothingHere,
        FindingCode::ArchiveEmpty,
    ];
    for code in FindingCode::ALL.iter().filter(|code| !elsewhere.contains(code)) {
        let mut all = DEFECTS.iter().chain(crate::branch_defects::DEFECTS);
        assert!(all.any(|defect| defect.0 == *code), "{code}");
    }
}

#[test]
fn what_is_found_comes_with_its_code_in_json() {
    let mut sample = Sample::new(Width::Bits64);
    kind_2(&mut sample);
    let path = file("defect-json", "kernel", &sample.bytes());
    let output = tool(&["verify", "--json", &path]);
    assert_eq!(output.exit, Exit::Finding);
    for line in [
        "\"holds\": false",
        "\"code\": \"record-kind\"",
        &format!("\"address\": \"{:#x}\"", sample.sites[0].1),
        "\"record-kind\": 1",
    ] {
        assert!(output.out.contains(line), "no {line} in\n{}", output.out);
    }
}

#[test]
fn a_thousand_findings_of_a_kind_are_counted_and_not_printed() {
    let mut sample = Sample::new(Width::Bits64);
    let start = sample.begin(&[0x90]);
    for _ in 0..994 {
        sample.site("own_ops", 1, 6, 0);
    }
    sample.end("many", start);
    sample.bound_records();
    for at in 0..1000 {
        sample.record(at)[11] = 9;
    }
    let path = file("thousand", "kernel", &sample.bytes());
    let output = tool(&["verify", &path]);
    assert_eq!(output.exit, Exit::Finding);
    assert_eq!(output.out.lines().count(), 102);
    assert!(output.out.contains("record-kind: and 900 more of this kind"), "{}", output.out);
    assert!(output.out.ends_with(": 1000 findings\n"));
}

/// Removes a patchlet: its labels and its record in the index.
fn without_ud2(sample: &mut Sample) {
    sample.symbols.retain(|symbol| !symbol.name.starts_with("patchlet_ud2"));
    let index = &mut sample.section_mut("patchlet_index").data;
    let at = index.windows(3).position(|name| name == b"ud2").expect("ud2 is in the index");
    index.splice(at - 12..at + 4, []);
    // The records behind it move by 16 bytes, and their addresses are relative to the fields.
    let mut record = at - 12;
    while record < index.len() {
        for field in [record, record + 4] {
            let old = u32::from_le_bytes(index[field..field + 4].try_into().expect("four bytes"));
            index[field..field + 4].copy_from_slice(&old.wrapping_add(16).to_le_bytes());
        }
        record += (12 + usize::from(index[record + 10])).next_multiple_of(4);
    }
}

/// Changes a patchlet and its native function alike, as if the source had other instructions.
fn other_bytes_twice(sample: &mut Sample) {
    for symbol in ["patchlet_irq_disable_start", "patchlet_native_irq_disable"] {
        let address = sample.address_of(symbol);
        sample.at(address)[0] = 0xfb;
    }
}

fn other_native(sample: &mut Sample) {
    let native = sample.address_of("patchlet_native_save_fl");
    sample.at(native)[1] = 0x59;
}

fn native_in_data(sample: &mut Sample) {
    let to = sample.section(".data").address;
    let symbol = sample.symbol_mut("patchlet_native_invlpg");
    (symbol.address, symbol.section) = (to, ".data");
    // The value is the distance from the field to the start of .data.
    let index = sample.section("patchlet_index");
    let field = index.address + index.data.len() as u64 - 20 + 4;
    let offset = to.wrapping_sub(field) as u32;
    index_of_invlpg(sample, |native| native[..4].copy_from_slice(&offset.to_le_bytes()), 4);
}

fn no_native(sample: &mut Sample) {
    sample.symbols.retain(|symbol| symbol.name != "patchlet_native_read_cr2");
    sample.section_mut("patchlet_index").name = "other_index";
}

fn no_end(sample: &mut Sample) {
    sample.symbols.retain(|symbol| symbol.name != "patchlet_invlpg_end");
}

fn end_before_start(sample: &mut Sample) {
    let start = sample.address_of("patchlet_invlpg_start");
    sample.symbol_mut("patchlet_invlpg_end").address = start - 1;
}

fn empty(sample: &mut Sample) {
    let start = sample.address_of("patchlet_invlpg_start");
    sample.symbol_mut("patchlet_invlpg_end").address = start;
}

/// Adds a patchlet that starts with the second byte of `ud2`, `0f 0b`.
fn overlapping_patchlets(sample: &mut Sample) {
    let start = sample.address_of("patchlet_ud2_start") + 1;
    let native = sample.function("patchlet_native_tail", &[0x0b]);
    assert!(native > 0);
    sample.symbol("patchlet_tail_start", start, 1, crate::sample::OBJECT, ".rodata.patchlets");
    sample.symbol("patchlet_tail_end", start + 1, 0, 0, ".rodata.patchlets");
}

/// Changes a field of the last record of the index: 12 bytes, `invlpg`, and 2 bytes of padding.
fn index_of_invlpg(sample: &mut Sample, change: impl Fn(&mut [u8]), field: usize) {
    let index = &mut sample.section_mut("patchlet_index").data;
    let at = index.len() - 20;
    change(&mut index[at + field..]);
}

fn index_with_other_length(sample: &mut Sample) {
    index_of_invlpg(sample, |len| len[0] = 2, 8);
}

fn index_with_other_native(sample: &mut Sample) {
    index_of_invlpg(sample, |native| native[0] ^= 1, 4);
}

fn index_cut(sample: &mut Sample) {
    let index = &mut sample.section_mut("patchlet_index").data;
    index.truncate(index.len() - 10);
}

fn writable_patchlets(sample: &mut Sample) {
    sample.section_mut(".rodata.patchlets").flags = ALLOC | WRITE;
}

fn executable_patchlets(sample: &mut Sample) {
    sample.section_mut(".rodata.patchlets").flags = ALLOC | EXECUTE;
}

fn writable_records(sample: &mut Sample) {
    sample.section_mut("patchlet_sites").flags = ALLOC | WRITE;
}

fn writable_index(sample: &mut Sample) {
    sample.section_mut("patchlet_index").flags = ALLOC | WRITE;
}

fn moved_segments(sample: &mut Sample) {
    sample.segment_shift = 16;
}

/// Puts the patchlets into the segment of text, as a script with PHDRS does that has their output
/// section behind `*(.text)`.
fn patchlets_in_text_segment(sample: &mut Sample) {
    sample.segment_flags = Some((".rodata.patchlets", EXECUTE));
}

fn index_in_data_segment(sample: &mut Sample) {
    sample.segment_flags = Some(("patchlet_index", WRITE));
}

fn records_in_text_segment(sample: &mut Sample) {
    sample.segment_flags = Some(("patchlet_sites", EXECUTE));
}

/// Adds a relocation of an address, which a loader applies.
pub fn relocated(sample: &mut Sample, address: u64) {
    let mut data = Vec::new();
    sample.put(&mut data, address);
    sample.put(&mut data, 8);
    if sample.width == Width::Bits64 {
        sample.put(&mut data, 0);
    }
    let kind = if sample.width == Width::Bits64 { RELA } else { REL };
    let (link, info, size, offset) = (0, 0, None, None);
    let (name, address) = (".rel.dyn", DYNAMIC);
    sample.sections.push(Section {
        name,
        kind,
        flags: ALLOC,
        address,
        data,
        link,
        info,
        size,
        offset,
    });
}

fn relocated_patchlet(sample: &mut Sample) {
    let address = sample.address_of("patchlet_save_fl_start");
    relocated(sample, address);
}

/// Adds a relocation by SHT_RELR, where an even number is an address.
fn packed_relocation(sample: &mut Sample) {
    let address = sample.address_of("patchlet_save_fl_start");
    relocated(sample, address);
    let mut data = Vec::new();
    sample.put(&mut data, address);
    let section = sample.sections.last_mut().expect("the one just added");
    (section.kind, section.data) = (RELR, data);
}

/// Adds a relocation that the linker has applied and kept (`--emit-relocs`).
fn kept_relocation(sample: &mut Sample) {
    let address = sample.address_of("patchlet_save_fl_start");
    relocated(sample, address);
    let section = sample.sections.last_mut().expect("the one just added");
    // The relocations are for section 2, .rodata.patchlets.
    (section.flags, section.info) = (0, 2);
}

fn relocated_record(sample: &mut Sample) {
    let address = sample.section("patchlet_sites").address + 16;
    relocated(sample, address);
}

fn relocated_site(sample: &mut Sample) {
    let address = sample.sites[1].1 + 2;
    relocated(sample, address);
}

fn half_a_record(sample: &mut Sample) {
    sample.section_mut("patchlet_sites").data.extend([0; 4]);
    sample.symbol_mut("__stop_patchlet_sites").address += 4;
}

fn bounds_too_small(sample: &mut Sample) {
    sample.symbol_mut("__stop_patchlet_sites").address -= 12;
    // The site whose record is lost would be a second finding, so it is removed as well.
    let site = sample.sites[5].1;
    sample.at(site)[..6].copy_from_slice(&[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
}

/// Hides the sections, as a link script does that puts everything into .rodata.
fn hidden(sample: &mut Sample) {
    sample.section_mut("patchlet_sites").name = ".rodata";
    sample.symbols.iter_mut().for_each(|symbol| {
        if symbol.section == "patchlet_sites" {
            symbol.section = ".rodata";
        }
    });
    // With symbols, everything is found.
    assert_eq!(findings(&sample.bytes()), []);
    sample.symbols.clear();
}

fn bounds_backwards(sample: &mut Sample) {
    let start = sample.address_of("__start_patchlet_sites");
    sample.symbol_mut("__stop_patchlet_sites").address = start - 12;
    for (_, site) in sample.sites.clone() {
        sample.at(site)[..6].copy_from_slice(&[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
    }
}

fn capacity_5(sample: &mut Sample) {
    sample.record(0)[10] = 5;
}

fn capacity_33(sample: &mut Sample) {
    let start = sample.begin(&[0x90]);
    sample.site("patchlet_pv_ops", 1, 33, 0);
    sample.code(&[0xc3]);
    sample.end("roomy", start);
    sample.bound_records();
}

fn kind_2(sample: &mut Sample) {
    sample.record(0)[11] = 2;
}

fn other_op(sample: &mut Sample) {
    sample.record(0)[8] = 1;
}

fn slot_nowhere(sample: &mut Sample) {
    let record = sample.section("patchlet_sites").address;
    let patchlets = sample.section(".rodata.patchlets").address;
    let offset = patchlets.wrapping_sub(record + 4) as u32;
    sample.record(0)[4..8].copy_from_slice(&offset.to_le_bytes());
    // A table is assumed where a record says that one begins, unless another symbol covers that
    // address.
    sample.symbol("other", patchlets - 64, 60, crate::sample::OBJECT, ".rodata.patchlets");
}

fn slot_askew(sample: &mut Sample) {
    sample.record(0)[4] += 1;
}

fn slot_to_data(sample: &mut Sample) {
    let (slot, data) = (sample.slot("own_ops", 1), sample.section(".data").address);
    sample.at(slot)[..4].copy_from_slice(&data.to_le_bytes()[..4]);
}

/// Points the first record at another address.
fn move_site(sample: &mut Sample, to: u64) {
    let record = sample.section("patchlet_sites").address;
    let offset = to.wrapping_sub(record) as u32;
    sample.record(0)[..4].copy_from_slice(&offset.to_le_bytes());
    // The site of the record has no record any more, so it is removed.
    let site = sample.sites[0].1;
    sample.at(site)[..6].copy_from_slice(&[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
}

fn site_in_data(sample: &mut Sample) {
    let to = sample.section(".data").address;
    move_site(sample, to);
}

fn site_nowhere(sample: &mut Sample) {
    move_site(sample, 0x4000_0000);
}

fn site_at_the_end(sample: &mut Sample) {
    let to = sample.here() - 5;
    move_site(sample, to);
}

/// Puts a byte before a site, so that its bytes belong to an instruction that starts before it.
fn site_inside_an_instruction(sample: &mut Sample) {
    // `mov $…, %al` takes the first byte of the site as its operand.
    let site = sample.sites[0].1;
    sample.at(site - 1)[0] = 0xb0;
}

fn function_inside_a_site(sample: &mut Sample) {
    let site = sample.sites[0].1;
    sample.symbol("inside", site + 2, 1, crate::sample::FUNC, ".text");
}

fn other_slot(sample: &mut Sample) {
    let site = sample.sites[0].1;
    let slot = sample.slot("patchlet_pv_ops", 3);
    let code = sample.indirect(site, slot, 0);
    sample.at(site)[..6].copy_from_slice(&code);
}

fn padding(sample: &mut Sample) {
    let site = sample.sites[2].1;
    sample.at(site)[8] = 0xcc;
}

/// Gives a patchlet of eight bytes to an op whose site has six.
fn too_long(sample: &mut Sample) {
    let nops = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
    let native = sample.function("patchlet_native_long", &nops);
    let section = sample.section_mut(".rodata.patchlets");
    let start = section.address + section.data.len() as u64;
    section.data.extend(nops);
    sample.symbol("patchlet_long_start", start, 8, crate::sample::OBJECT, ".rodata.patchlets");
    sample.symbol("patchlet_long_end", start + 8, 0, 0, ".rodata.patchlets");
    let slot = sample.slot("own_ops", 1);
    sample.at(slot)[..4].copy_from_slice(&native.to_le_bytes()[..4]);
}

/// Adds a second record of a site, with capacity 6 instead of 7.
fn two_records(sample: &mut Sample) {
    let start = sample.begin(&[]);
    sample.site("own_ops", 1, 7, 0);
    sample.end("twice", start);
    let last = sample.sites.len() - 1;
    repeat_record(sample, last);
    sample.record(last + 1)[10] = 6;
}

/// Adds a copy of a record at the end of the table.
fn repeat_record(sample: &mut Sample, number: usize) {
    let records = sample.section_mut("patchlet_sites");
    let mut again = records.data[12 * number..12 * (number + 1)].to_vec();
    let moved = (records.data.len() - 12 * number) as u32;
    for field in [0, 4] {
        let old = u32::from_le_bytes(again[field..field + 4].try_into().expect("four bytes"));
        again[field..field + 4].copy_from_slice(&old.wrapping_sub(moved).to_le_bytes());
    }
    records.data.extend(again);
    sample.bound_records();
}

fn branch_into_a_site(sample: &mut Sample) {
    let start = sample.begin(&[]);
    let distance = (sample.sites[0].1 + 2).wrapping_sub(start + 5) as u32;
    sample.code(&[0xe9]);
    sample.code(&distance.to_le_bytes());
    sample.end("brancher", start);
}

fn without_record(sample: &mut Sample) {
    let start = sample.begin(&[0x90]);
    let code = sample.indirect(sample.here(), sample.slot("own_ops", 1), 0);
    sample.code(&code);
    sample.code(&[0xc3]);
    sample.end("forgotten", start);
}

fn jump_without_record(sample: &mut Sample) {
    let start = sample.begin(&[0x90]);
    let code = sample.indirect(sample.here(), sample.slot("patchlet_pv_ops", 9), 1);
    sample.code(&code);
    sample.end("forgotten", start);
}

/// Adds a call through the fourth slot of a table in a stripped file, where only the native
/// function in that slot shows that it belongs to the table.
fn beyond_the_records(sample: &mut Sample) {
    let start = sample.begin(&[0x90]);
    let address = sample.section(".data").address + sample.section(".data").data.len() as u64;
    for native in ["save_fl", "ident", "read_cr2", "read_cr3"] {
        let native = match (native, sample.width) {
            ("ident", Width::Bits64) => "patchlet_native_ident_64".to_owned(),
            ("ident", Width::Bits32) => "patchlet_ident".to_owned(),
            (other, _) => format!("patchlet_native_{other}"),
        };
        let (mut slot, native) = (Vec::new(), sample.address_of(&native));
        sample.put(&mut slot, native);
        sample.section_mut(".data").data.extend(slot);
    }
    sample.symbol("third_ops", address, 0, crate::sample::NOTYPE, ".data");
    sample.site("third_ops", 1, 6, 0);
    let code = sample.indirect(sample.here(), sample.slot("third_ops", 3), 0);
    sample.code(&code);
    sample.code(&[0xc3]);
    sample.end("forgotten", start);
    sample.symbols.clear();
}

/// Adds `mov slot, %rax`.
pub fn load(sample: &mut Sample) {
    let slot = sample.slot("own_ops", 1);
    let (prefix, operand): (&[u8], u64) = match sample.width {
        Width::Bits64 => (&[0x48], slot.wrapping_sub(sample.here() + 7)),
        Width::Bits32 => (&[], slot),
    };
    sample.code(prefix);
    sample.code(&[0x8b, if prefix.is_empty() { 0x0d } else { 0x05 }]);
    sample.code(&operand.to_le_bytes()[..4]);
}

fn by_a_register(sample: &mut Sample) {
    let start = sample.begin(&[0x90]);
    load(sample);
    // `test` does not change the register with the slot's content, so the load is followed past it.
    sample.code(&[0x85, 0xd2, 0x74, 0x02]);
    let call = if sample.width == Width::Bits64 { 0xd0 } else { 0xd1 };
    sample.code(&[0xff, call, 0xc3]);
    sample.end("by_a_register", start);
}

fn by_a_thunk(sample: &mut Sample) {
    let name = if sample.width == Width::Bits64 {
        "__x86_indirect_thunk_rax"
    } else {
        "__x86_indirect_thunk_ecx"
    };
    let thunk = sample.function(name, &[0x90, 0xc3]);
    let start = sample.begin(&[0x90]);
    load(sample);
    let distance = thunk.wrapping_sub(sample.here() + 5) as u32;
    sample.code(&[0xe8]);
    sample.code(&distance.to_le_bytes());
    sample.code(&[0xc3]);
    sample.end("by_a_thunk", start);
}

/// Checks that control characters in names are not printed: a file must not be able to send escape
/// sequences to the terminal.
#[test]
fn names_are_shown_without_control_characters() {
    let mut sample = Sample::new(Width::Bits64);
    sample.symbol_mut("own_work").name = "own\u{1b}[2Jwork".to_owned();
    let path = file("control", "kernel", &sample.bytes());
    let output = tool(&["sites", &path]);
    assert!(output.out.contains("own?[2Jwork+0x1"), "{}", output.out);
    assert!(!output.out.contains('\u{1b}'));
}

/// Checks that executable memory without bytes in the file, such as a scratch area, is no finding.
#[test]
fn executable_memory_without_bytes_is_no_finding() {
    let mut sample = Sample::new(Width::Bits64);
    let (data, link, info, size, offset) = (vec![], 0, 0, Some(0x4000), None);
    let (name, kind, flags, address) = (".scratch", NOBITS, ALLOC | EXECUTE, 0x20_0000);
    sample.sections.push(Section { name, kind, flags, address, data, link, info, size, offset });
    assert_eq!(findings(&sample.bytes()), []);
}

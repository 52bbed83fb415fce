//! Breaks a kernel with variants, keys and branch sites for each finding about them, on both widths.

use patchlet::Width;
use patchlet::inspect::{Exit, FindingCode};

use crate::defects::{Defect, each_is_found, relocated};
use crate::sample::{
    ALLOC, BRANCHES, EXECUTE, FUNC, FUNCTION, KEY_WORDS, PATCHLET, Sample, WRITE, jump,
};
use crate::tool::{file, findings, tool};

/// Each with the expected finding, the function that breaks the sample, and the expected text.
pub const DEFECTS: &[Defect] = &[
    (
        FindingCode::Index,
        variants_cut,
        "record of patchlet_variants at 0x132040: is not whole, or its condition",
    ),
    (FindingCode::Index, condition_of_no_names, "record of patchlet_variants at 0x132000: is not"),
    (FindingCode::Index, condition_with_two_spaces, "record of patchlet_variants at 0x132018: is"),
    (FindingCode::Index, key_cut, "record of patchlet_keys at 0x136010: is not whole, or its name"),
    (FindingCode::Index, key_of_a_third_state, "record of patchlet_keys at 0x136000: is not"),
    (FindingCode::Index, key_with_another_flag, "record of patchlet_keys at 0x136000: is not"),
    (FindingCode::Index, key_without_zero, "record of patchlet_keys at 0x136000: is not"),
    (FindingCode::Index, variant_of_no_means, "record of patchlet_variants at 0x132000: is not"),
    (FindingCode::Index, variant_without_a_word, "record of patchlet_variants at 0x132000: is not"),
    (
        FindingCode::Variant,
        variant_of_no_op,
        "variant 0 of 0x110000 (FSRM): 0x110000 is no slot of any ops table",
    ),
    (
        FindingCode::Variant,
        variant_in_data,
        "variant 3 of time.ticks_low (ERMS): its function 0x114000 is not in an executable",
    ),
    (
        FindingCode::Variant,
        variant_twice,
        "variant 2 of time.ticks_low (FSRM): is number 2 in the list of its op, where 3 was due",
    ),
    (FindingCode::Variant, too_many_variants, "has more than 64 variants"),
    (
        FindingCode::SiteCapacity,
        variant_too_long,
        "variant 3 of time.ticks_low (ERMS) does not fit: the replacement has 8 bytes and the site",
    ),
    (FindingCode::BranchRecord, branch_of_six_bytes, "its capacity is 6, its direction 0"),
    (FindingCode::BranchRecord, branch_of_a_third_direction, "its direction 2 and its number 0"),
    (FindingCode::BranchRecord, branch_with_a_number, "its number 1, where 5, 0 or 1, and 0"),
    (
        FindingCode::BranchKey,
        branch_of_no_key,
        "(?, traced+0x1): 0x138004 is the address of no key",
    ),
    (FindingCode::BranchTarget, branch_to_data, "its target 0x114000 is not in an executable"),
    (FindingCode::BranchTarget, branch_to_another_function, "is in another function, without_site"),
    (
        FindingCode::BranchTarget,
        branch_into_an_instruction,
        "(traced+0x7) is not the start of an instruction",
    ),
    (
        FindingCode::BranchTarget,
        branch_into_a_site_of_its_own,
        "(traced+0xa) is not the start of an instruction",
    ),
    (
        FindingCode::BranchState,
        key_is_off_in_the_file,
        "it is a jump, and its key is off in the file",
    ),
    (FindingCode::Key, key_in_read_only_data, "is in .rodata.patchlets, which is no writable data"),
    (FindingCode::Key, key_nowhere, "key `NOWHERE` at 0x40000000: is in no section of the file"),
    (FindingCode::Key, key_askew, "key `ASKEW` at 0x138012: is not aligned to 4 bytes"),
    (FindingCode::Key, key_twice, "key `TRACE` at 0x138000: shares bytes with another key"),
    (
        FindingCode::SiteBytes,
        branch_of_other_bytes,
        "it holds 0f 1f 44 00 01, where 0f 1f 44 00 00 (off) or e9 0e 00 00 00 (on) must be",
    ),
    (FindingCode::SiteOverlap, two_branch_records, "shares bytes with the branch site of 5 bytes"),
    (FindingCode::SiteOutsideText, branch_in_data, "its 5 bytes are not in an executable section"),
    (
        FindingCode::SiteBoundary,
        branch_inside_an_instruction,
        "in the middle of the instruction at 0x",
    ),
    (FindingCode::SiteBoundary, function_inside_a_branch, "starts in the middle of it, at 0x"),
    (FindingCode::SiteBranch, branch_into_a_branch_site, "leads into the middle of it, to 0x"),
    (
        FindingCode::SectionFlags,
        writable_branches,
        "holds the records of the branch sites and is writable",
    ),
    (FindingCode::SegmentFlags, branches_in_text_segment, "which is executable"),
    (FindingCode::Relocation, relocated_key, "key `DEBUG` at 0x138008: has a relocation"),
    (FindingCode::Relocation, relocated_branch, "a loader would write to 0x"),
    (FindingCode::Relocation, relocated_record, "table of records at 0x137000: has a relocation"),
    (
        FindingCode::RecordTable,
        half_a_record,
        "it has 52 bytes, which is no multiple of a record's 16",
    ),
];

fn sample(width: Width) -> Sample {
    Sample::new(width).with_op_records().with_variants_and_branches()
}

#[test]
fn each_defect_of_branches_and_variants_is_found() {
    for width in [Width::Bits64, Width::Bits32] {
        each_is_found(DEFECTS, || sample(width));
    }
}

/// Checks that a site may be recorded twice, if both records say the same.
#[test]
fn a_branch_that_is_recorded_twice_is_no_defect() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut sample = sample(width);
        repeat_record(&mut sample);
        assert_eq!(findings(&sample.bytes()), [], "{width:?}");
    }
}

/// Checks that cold parts which compilers split off count as the function, under any of its names.
#[test]
fn cold_parts_belong_to_their_functions() {
    for (name, is_part) in [
        ("traced.cold.1", true),
        ("traced.__part.2", true),
        ("traced.llvm.7.cold", false),
        ("traced2.cold", false),
        ("cold", false),
    ] {
        let mut sample = sample(Width::Bits64);
        sample.symbol_mut("traced.cold").name = name.to_owned();
        let found = findings(&sample.bytes());
        assert_eq!(found.is_empty(), is_part, "{name}: {found:?}");
        // Another name of the function itself.
        let start = sample.address_of("traced");
        let alias = name.split(".cold").next().expect("a name");
        sample.symbol(alias, start, 0x30, FUNC, ".text");
        assert_eq!(findings(&sample.bytes()), [], "{name}");
    }
}

#[test]
fn as_many_branch_sites_as_are_expected() {
    let path = file("branches-expected", "kernel", &sample(Width::Bits64).bytes());
    for (expected, words) in [
        ("3", "everything holds"),
        ("2..", "everything holds"),
        ("4", "branch-count: table of branch sites: it has 3 sites, and 4 were expected; "),
        ("4..", "it has 3 sites, and at least 4 were expected; "),
    ] {
        let output = tool(&["verify", &path, "--expect-branches", expected]);
        let holds = words == "everything holds";
        assert_eq!(output.exit, if holds { Exit::Holds } else { Exit::Finding }, "{expected}");
        assert!(output.out.contains(words), "{expected}: {}", output.out);
    }
}

/// Shortens a section by so many bytes.
fn cut(sample: &mut Sample, section: &str, bytes: usize) {
    let data = &mut sample.section_mut(section).data;
    data.truncate(data.len() - bytes);
}

fn variants_cut(sample: &mut Sample) {
    cut(sample, "patchlet_variants", 8);
}

fn condition_of_no_names(sample: &mut Sample) {
    sample.section_mut("patchlet_variants").data[10] = b'+';
}

/// Changes the `!` of `ERMS !BROKEN`.
fn condition_with_two_spaces(sample: &mut Sample) {
    let data = &mut sample.section_mut("patchlet_variants").data;
    let at = data.iter().position(|&byte| byte == b'!').expect("one is there");
    data[at] = b' ';
}

fn key_cut(sample: &mut Sample) {
    cut(sample, "patchlet_keys", 4);
}

fn key_of_a_third_state(sample: &mut Sample) {
    sample.section_mut("patchlet_keys").data[4] = 2;
}

fn key_with_another_flag(sample: &mut Sample) {
    sample.section_mut("patchlet_keys").data[5] = 2;
}

fn key_without_zero(sample: &mut Sample) {
    sample.section_mut("patchlet_keys").data[6] = 1;
}

fn variant_of_no_means(sample: &mut Sample) {
    sample.section_mut("patchlet_variants").data[8] = 3 << 6;
}

fn variant_without_a_word(sample: &mut Sample) {
    sample.section_mut("patchlet_variants").data[7] ^= 0x40;
}

fn variant_of_no_op(sample: &mut Sample) {
    let tick = sample.address_of("tick");
    let records = sample.section("patchlet_variants");
    let here = records.address + records.data.len() as u64;
    let no_slot = sample.section(".rodata.patchlets").address;
    sample.variant(0, 0, "FSRM", tick, FUNCTION);
    let field = sample.at(here);
    field[..4].copy_from_slice(&no_slot.wrapping_sub(here).to_le_bytes()[..4]);
}

fn variant_in_data(sample: &mut Sample) {
    let data = sample.section(".data").address;
    sample.variant(1, 3, "ERMS", data, FUNCTION);
}

fn variant_twice(sample: &mut Sample) {
    let tick = sample.address_of("tick");
    sample.variant(1, 2, "FSRM", tick, FUNCTION);
}

fn too_many_variants(sample: &mut Sample) {
    let tick = sample.address_of("tick");
    for place in 3..=63 {
        sample.variant(1, place, "FSRM", tick, FUNCTION);
    }
    assert_eq!(findings(&sample.bytes()), [], "64 are not too many");
    sample.variant(1, 63, "FSRM", tick, FUNCTION);
}

fn variant_too_long(sample: &mut Sample) {
    let nops = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
    sample.patchlet("long", &nops);
    let native = sample.address_of("patchlet_native_long");
    // It fits the site of `flush_page`, which has nine bytes.
    sample.variant(0, 1, "ERMS", native, PATCHLET);
    assert_eq!(findings(&sample.bytes()), []);
    sample.variant(1, 3, "ERMS", native, PATCHLET);
}

fn branch_of_six_bytes(sample: &mut Sample) {
    sample.branch_record(0)[10] = 6;
}

fn branch_of_a_third_direction(sample: &mut Sample) {
    sample.branch_record(0)[11] = 2;
}

fn branch_with_a_number(sample: &mut Sample) {
    sample.branch_record(0)[8] = 1;
}

/// Lets a field of the record of a branch site name an address.
fn point(sample: &mut Sample, number: usize, field: usize, to: u64) {
    let here = BRANCHES + 16 * number as u64 + field as u64;
    let offset = &to.wrapping_sub(here).to_le_bytes()[..4];
    sample.branch_record(number)[field..field + 4].copy_from_slice(offset);
}

fn branch_of_no_key(sample: &mut Sample) {
    point(sample, 0, 4, KEY_WORDS + 4);
}

fn branch_to_data(sample: &mut Sample) {
    let data = sample.section(".data").address;
    sample.land(0, data);
}

fn branch_to_another_function(sample: &mut Sample) {
    let other = sample.address_of("without_site");
    sample.land(0, other);
}

/// Lets the first branch site go to the second byte of `xor %edx, %edx`, behind itself.
fn branch_into_an_instruction(sample: &mut Sample) {
    let site = sample.branches[0];
    sample.land(0, site + 6);
}

fn branch_into_a_site_of_its_own(sample: &mut Sample) {
    let site = sample.branches[1];
    sample.land(0, site + 2);
}

fn key_is_off_in_the_file(sample: &mut Sample) {
    sample.at(KEY_WORDS + 8)[0] = 0;
}

/// Adds the record of a key at an address.
fn key_at(sample: &mut Sample, name: &str, address: u64) {
    let records = sample.section("patchlet_keys");
    let here = records.address + records.data.len() as u64;
    sample.key(name, false, false);
    sample.at(here)[..4].copy_from_slice(&address.wrapping_sub(here).to_le_bytes()[..4]);
}

fn key_in_read_only_data(sample: &mut Sample) {
    let address = sample.section(".rodata.patchlets").address;
    key_at(sample, "CONSTANT", address);
}

fn key_nowhere(sample: &mut Sample) {
    key_at(sample, "NOWHERE", 0x4000_0000);
}

fn key_askew(sample: &mut Sample) {
    // Behind the two words of the others, and of eight bytes that nothing else uses.
    sample.section_mut(".keys").data.extend([0; 8]);
    key_at(sample, "ASKEW", KEY_WORDS + 18);
}

fn key_twice(sample: &mut Sample) {
    key_at(sample, "TRACE", KEY_WORDS);
}

fn branch_of_other_bytes(sample: &mut Sample) {
    let site = sample.branches[0];
    sample.at(site)[4] = 1;
}

/// Adds a copy of the record of the first branch site at the end of the table.
fn repeat_record(sample: &mut Sample) {
    let mut again = sample.branch_record(0).to_vec();
    let moved = sample.section("patchlet_branches").data.len() as u32;
    for field in [0, 4, 12] {
        let old = u32::from_le_bytes(again[field..field + 4].try_into().expect("four bytes"));
        again[field..field + 4].copy_from_slice(&old.wrapping_sub(moved).to_le_bytes());
    }
    sample.section_mut("patchlet_branches").data.extend(again);
    sample.symbol_mut("__stop_patchlet_branches").address += 16;
}

/// Adds a second record of the first branch site, with another target in its function.
fn two_branch_records(sample: &mut Sample) {
    repeat_record(sample);
    let start = sample.address_of("traced");
    point(sample, 3, 12, start);
}

fn branch_in_data(sample: &mut Sample) {
    let to = sample.section(".data").address;
    point(sample, 0, 0, to);
}

fn branch_inside_an_instruction(sample: &mut Sample) {
    // `mov $…, %al` takes the first byte of the site as its operand.
    let site = sample.branches[0];
    sample.at(site - 1)[0] = 0xb0;
}

fn function_inside_a_branch(sample: &mut Sample) {
    let site = sample.branches[0];
    sample.symbol("inside", site + 2, 1, FUNC, ".text");
}

fn branch_into_a_branch_site(sample: &mut Sample) {
    let start = sample.begin(&[]);
    let to = sample.branches[0] + 2;
    sample.code(&jump(start, to));
    sample.end("brancher", start);
}

fn writable_branches(sample: &mut Sample) {
    sample.section_mut("patchlet_branches").flags = ALLOC | WRITE;
}

fn branches_in_text_segment(sample: &mut Sample) {
    sample.segment_flags = Some(("patchlet_branches", EXECUTE));
}

fn relocated_key(sample: &mut Sample) {
    relocated(sample, KEY_WORDS + 8);
}

fn relocated_branch(sample: &mut Sample) {
    let site = sample.branches[0];
    relocated(sample, site + 1);
}

fn relocated_record(sample: &mut Sample) {
    relocated(sample, BRANCHES + 4);
}

fn half_a_record(sample: &mut Sample) {
    sample.section_mut("patchlet_branches").data.extend([0; 4]);
    sample.symbol_mut("__stop_patchlet_branches").address += 4;
}

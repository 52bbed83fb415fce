//! Blobs: what the tool lists of them, and each way in which a blob can be wrong. Every defect is the
//! only one of its file, and must be found alone, on both widths.

use patchlet::Width;
use patchlet::inspect::{Exit, FindingCode};

use crate::sample::{ALLOC, NOTYPE, OBJECT, PROGBITS, Sample, Section, WRITE};
use crate::tool::{file, findings, tool};

/// What stands at a place, as the records say it: the number of bytes of `incw %ax` in this mode.
const DATA: u8 = 0;
const BITS_16: u8 = 1;
const BITS_32: u8 = 2;
const BITS_64: u8 = 3;

const SIGNED: u8 = 0x80;

/// A record of a place: name, offset, width and sign, mode.
type Place = (&'static str, u16, u8, u8);

/// A blob of code in all modes, and of data.
const CODE: &[u8] = &[
    0x66, 0x68, 0x64, 0x65, 0x66, 0x67, // pushl $…
    0x66, 0xcb, // lretl
    0xb8, 0x64, 0x65, 0x66, 0x67, // movl $…, %eax
    0x83, 0xc4, 0x65, // addl $…, %esp
    0xeb, 0xf6, // jmp to the movl
    0xc3, // ret
    0x0f, 0x04, 0x06, 0x07, 0x0f, // data
    0x48, 0xb8, 0x26, 0x2e, 0x36, 0x3e, 0x67, 0x66, 0x65, 0x64, // movabsq $…, %rax
    0x48, 0x8b, 0x83, 0x64, 0x65, 0x66, 0x67, // movq …(%rbx), %rax
    0xc3, // ret
];

const PLACES: &[Place] = &[
    ("", 0, 0, BITS_32),
    ("", 0, 0, BITS_16),
    ("target", 2, 4, BITS_16),
    ("", 8, 0, BITS_32),
    ("protected", 8, 0, BITS_32),
    ("value", 9, 4, BITS_32),
    ("step", 15, 1 | SIGNED, BITS_32),
    ("", 19, 0, DATA),
    ("table", 19, 0, BITS_32),
    ("", 24, 0, BITS_64),
    ("wide", 26, 8, BITS_64),
    ("field", 37, 4 | SIGNED, BITS_64),
    ("end", 41, 0, BITS_64),
];

/// Returns a kernel with this blob, called `page`.
fn with_blob(width: Width, code: &[u8], places: &[Place]) -> Sample {
    let mut sample = Sample::new(width);
    let section = sample.section_mut(".rodata.patchlets");
    let start = section.address + section.data.len() as u64;
    section.data.extend(code);
    let (len, end) = (code.len() as u64, start + code.len() as u64);
    sample.symbol("patchlet_page_start", start, len, OBJECT, ".rodata.patchlets");
    sample.symbol("patchlet_page_end", end, 0, NOTYPE, ".rodata.patchlets");
    let index = sample.section_mut("patchlet_index");
    let record = index.address + index.data.len() as u64;
    index.data.extend(&start.wrapping_sub(record).to_le_bytes()[..4]);
    // No native function.
    index.data.extend([0; 4]);
    index.data.extend((code.len() as u16).to_le_bytes());
    index.data.extend(b"\x04\0page");
    index.data.resize(index.data.len().next_multiple_of(4), 0);

    let address = index.address + 0x800;
    let mut data = Vec::new();
    for (name, offset, width, mode) in places {
        let record = address + data.len() as u64;
        data.extend(&start.wrapping_sub(record).to_le_bytes()[..4]);
        data.extend(offset.to_le_bytes());
        data.extend([*width, *mode, name.len() as u8]);
        data.extend(name.bytes());
        data.resize(data.len().next_multiple_of(4), 0);
        if !name.is_empty() {
            let kind = if *width > 0 { "hole" } else { "at" };
            let label = format!("patchlet_page_{kind}_{name}");
            sample.symbol(&label, start + u64::from(*offset), 0, NOTYPE, ".rodata.patchlets");
        }
    }
    let (link, info, size, offset) = (0, 0, None, None);
    let (name, kind, flags) = ("patchlet_places", PROGBITS, ALLOC);
    sample.sections.push(Section { name, kind, flags, address, data, link, info, size, offset });
    sample
}

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

#[test]
fn a_good_blob_is_listed_and_has_no_finding() {
    for width in BOTH {
        let sample = with_blob(width, CODE, PLACES);
        for (sample, name) in [(sample.clone(), "symbols"), (sample.stripped(), "stripped")] {
            assert_eq!(findings(&sample.bytes()), [], "{width:?} {name}");
            let path = file("blob", name, &sample.bytes());
            let output = tool(&["list", &path]).out;
            let (_, places) = output.split_once("ADDRESS   BLOB").expect("a table of places");
            let rows: Vec<Vec<&str>> =
                places.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
            let expected = [
                "page 2 target hole u32 16-bit code",
                "page 8 protected place 32-bit code",
                "page 9 value hole u32 32-bit code",
                "page 15 step hole i8 32-bit code",
                "page 19 table place data",
                "page 26 wide hole u64 64-bit code",
                "page 37 field hole i32 64-bit code",
                "page 41 end place 64-bit code",
            ];
            let rows: Vec<String> = rows.iter().map(|row| row[1..].join(" ")).collect();
            assert_eq!(rows, expected, "{width:?} {name}");
            assert!(output.contains("blob: 3 places, 5 holes"), "{output}");
            let json = tool(&["list", "--json", &path]).out;
            let place = r#"{"name":"step","offset":15,"hole":"i8","mode":"32-bit code"}"#;
            let json: String = json.split_whitespace().collect();
            assert!(json.contains(&place.replace(' ', "")), "{json}");
            // The instructions of a blob are not what an op has, so none of them is looked for.
            assert_eq!(tool(&["raw", &path]).exit, Exit::Holds, "{name}");
        }
    }
}

/// Returns the records with one of them changed.
fn changed(name: &str, change: impl Fn(&mut Place)) -> Vec<Place> {
    let mut places = PLACES.to_vec();
    change(places.iter_mut().find(|place| place.0 == name).expect(name));
    places
}

/// Returns the code with some bytes changed.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut code = CODE.to_vec();
    code[at..at + bytes.len()].copy_from_slice(bytes);
    code
}

/// For `defects`, which has one defect of each code.
pub fn place_in_an_instruction(sample: &mut Sample) {
    *sample = with_blob(sample.width, CODE, &changed("protected", |place| place.1 = 10));
}

pub fn hole_behind_its_operand(sample: &mut Sample) {
    *sample = with_blob(sample.width, CODE, &changed("value", |place| place.1 += 1));
}

pub fn branch_out_of_a_blob(sample: &mut Sample) {
    *sample = with_blob(sample.width, &patched(16, &[0xeb, 0x7f]), PLACES);
}

#[test]
fn each_defect_of_a_blob_is_found_alone() {
    let same = || CODE.to_vec();
    let and = |more: Place| PLACES.iter().copied().chain([more]).collect::<Vec<_>>();
    let without = |at: usize| {
        let mut places = PLACES.to_vec();
        places.remove(at);
        places
    };
    let hole = FindingCode::BlobHole;
    let (place, code) = (FindingCode::BlobPlace, FindingCode::BlobCode);
    let cases: Vec<(FindingCode, Vec<u8>, Vec<Place>, &str)> = vec![
        // Holes.
        (
            hole,
            same(),
            changed("value", |place| place.1 += 1),
            "hole `value` at offset 0xa: no instruction ends with an operand there",
        ),
        (
            hole,
            same(),
            changed("value", |place| (place.1, place.2) = (11, 2)),
            "hole `value` at offset 0xb has 2 byte(s), and the operand that ends there 4",
        ),
        (
            hole,
            same(),
            changed("wide", |place| (place.1, place.2) = (30, 4)),
            "hole `wide` at offset 0x1e has 4 byte(s), and the operand that ends there 8",
        ),
        (
            hole,
            same(),
            changed("step", |place| place.2 = 1),
            "hole `step` at offset 0xf is an operand whose sign the CPU extends",
        ),
        (
            hole,
            same(),
            changed("field", |place| place.2 = 4),
            "hole `field` at offset 0x25 is an operand whose sign the CPU extends",
        ),
        (
            hole,
            same(),
            and(("far", 17, 1 | SIGNED, BITS_32)),
            "hole `far` at offset 0x11 is a distance from its instruction",
        ),
        (hole, same(), and(("far", 20, 1, BITS_32)), "hole `far` is in data, at offset 0x14"),
        (hole, same(), and(("far", 9, 4, BITS_32)), "holes `far` and `value` share bytes"),
        (
            hole,
            same(),
            and(("far", 43, 4, BITS_64)),
            "hole `far` at offset 0x2b: no instruction ends with an operand there",
        ),
        (
            hole,
            same(),
            changed("value", |place| place.3 = BITS_16),
            "hole `value` was made as 16-bit code, and stands in 32-bit code",
        ),
        // The displacement is an operand of its own, but not the last one: movb $…, …(%eax).
        (
            hole,
            patched(8, &[0xc6, 0x80, 0x64, 0x65, 0x66, 0x67, 0x01, 0x90]),
            changed("value", |place| place.1 = 10)
                .into_iter()
                .filter(|place| place.0 != "step")
                .collect(),
            "hole `value` at offset 0xa: no instruction ends with an operand there",
        ),
        // The opcode of a 3DNow! instruction stands behind the displacement: pfadd …(%eax), %mm0.
        (
            hole,
            patched(8, &[0x0f, 0x0f, 0x80, 0x64, 0x65, 0x66, 0x67, 0x9e]),
            changed("value", |place| place.1 = 12)
                .into_iter()
                .filter(|place| place.0 != "step")
                .collect(),
            "hole `value` at offset 0xc: no instruction ends with an operand there",
        ),
        // An EVEX instruction counts this displacement in units of 64 bytes: vmovups …(%eax), %zmm0.
        (
            hole,
            patched(8, &[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x40, 0x65, 0x90]),
            changed("value", |place| (place.1, place.2) = (14, 1 | SIGNED))
                .into_iter()
                .filter(|place| place.0 != "step")
                .collect(),
            "hole `value` at offset 0xe: no instruction ends with an operand there",
        ),
        // A displacement that counts from the instruction: movq …(%rip), %rax.
        (
            hole,
            patched(34, &[0x48, 0x8b, 0x05, 0xe0, 0xff, 0xff, 0xff]),
            PLACES.to_vec(),
            "hole `field` at offset 0x25 is a distance from its instruction",
        ),
        // Places.
        (
            place,
            same(),
            and(("value", 41, 0, BITS_64)),
            "has two places or holes that are called `value`",
        ),
        (place, same(), and(("far", 42, 0, BITS_64)), "place `far` at offset 0x2a is outside"),
        (
            place,
            same(),
            changed("protected", |place| place.1 = 10),
            "place `protected` at offset 0xa is in the middle of an instruction",
        ),
        (
            place,
            same(),
            changed("end", |place| place.3 = BITS_32),
            "place `end` at offset 0x29 was made as 32-bit code, and stands in 64-bit code",
        ),
        (place, same(), and(("", 4, 0, BITS_16)), "its records of PATCHLET_CODE are not in their"),
        (place, same(), vec![], "the section patchlet_places says nothing of it"),
        // Code.
        (
            code,
            patched(16, &[0xeb, 0x7f]),
            PLACES.to_vec(),
            "the instruction at offset 0x10 refers to something outside of the blob",
        ),
        (
            code,
            patched(16, &[0xeb, 0x80]),
            PLACES.to_vec(),
            "the instruction at offset 0x10 refers to something outside of the blob",
        ),
        // Data that nobody told.
        (code, same(), without(7), "its bytes at offset 0x13 are no instruction of 32-bit code"),
    ];
    for (expected, code, places, says) in cases {
        for width in BOTH {
            let sample = with_blob(width, &code, &places);
            for sample in [sample.clone(), sample.stripped()] {
                let found = findings(&sample.bytes());
                let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
                assert_eq!(found.len(), 1, "{width:?} {says}: {lines:#?}");
                assert_eq!(found[0].code, expected, "{says}");
                assert!(lines[0].contains(says), "{says}: {}", lines[0]);
                assert!(lines[0].contains("patchlet `page` at 0x"), "{}", lines[0]);
            }
        }
    }
}

/// Decodes the same bytes in another mode: the check goes by the mode of the records.
#[test]
fn the_mode_decides_what_a_hole_is() {
    for width in BOTH {
        // movl $…, %eax of 32-bit code has an operand of two bytes in 16-bit code.
        let code = [0xb8, 0x64, 0x65, 0x66, 0x67];
        let of = |mode| with_blob(width, &code, &[("", 0, 0, mode), ("value", 1, 4, mode)]);
        assert_eq!(findings(&of(BITS_32).bytes()), []);
        assert_eq!(findings(&of(BITS_64).bytes()), []);
        let found = findings(&of(BITS_16).bytes());
        assert!(found.iter().any(|finding| finding.code == FindingCode::BlobHole), "{found:?}");
    }
}

#[test]
fn damaged_records_of_places() {
    for width in BOTH {
        let good = with_blob(width, CODE, PLACES);
        let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut sample = good.clone();
            change(&mut sample.section_mut("patchlet_places").data);
            findings(&sample.bytes())
        };
        let says = |found: &[patchlet::inspect::Finding], words: &str| {
            let place = found.iter().find(|finding| finding.code == FindingCode::BlobPlace);
            let place = place.unwrap_or_else(|| panic!("{words}: {found:?}"));
            assert!(place.to_string().contains(words), "{place}");
        };
        let not_whole = "is not whole, or its name, mode or width are impossible";
        says(&damaged(&|data| data.truncate(data.len() - 1)), not_whole);
        says(&damaged(&|data| data.truncate(20)), not_whole);
        // Mode, width, length and bytes of the name of the third record.
        for (at, value) in [(31, 4), (30, 3), (30, 0x80), (32, 250), (33, 0x1b)] {
            says(&damaged(&|data| data[at] = value), not_whole);
        }
        says(&damaged(&|data| data[0] ^= 0x40), "where no patchlet starts");

        let mut writable = good.clone();
        writable.section_mut("patchlet_places").flags |= WRITE;
        let found = findings(&writable.bytes());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().contains("holds the places of blobs and is writable"));
    }
}

/// Verifies the sample with contracts of this text.
fn with_contracts(text: &str) -> (Exit, String) {
    let kernel = file("blob-contract", "kernel", &with_blob(Width::Bits64, CODE, PLACES).bytes());
    let source = file("blob-contract", "own.S", text.as_bytes());
    let output = tool(&["verify", &kernel, "--contracts", &source]);
    (output.exit, output.out + &output.err)
}

const CONTRACT: &str = "\
/* A blob of nothing.
 * offsets: protected = where 32-bit code begins
 *          table = some numbers, of which
 *                  there are five
 *          end = the end
 * holes: target = where it goes
 *        value = a number
 *        step (64-bit) = another
 *        other (32-bit) = not there
 *        wide = a = b
 *        field = the last */
PATCHLET_BLOB(page)
";

#[test]
fn contracts_say_what_each_place_means() {
    assert_eq!(with_contracts(CONTRACT).0, Exit::Holds, "{:?}", with_contracts(CONTRACT));
    let edit = |from: &str, to: &str| {
        assert!(CONTRACT.contains(from));
        with_contracts(&CONTRACT.replace(from, to))
    };
    for (from, to, says) in [
        (
            " *        value = a number\n",
            "",
            "has a hole `value` that its comment does not describe",
        ),
        ("value = a", "valeu = a", "has no hole `valeu`, which its comment describes"),
        ("          end = the end\n", "\n", "has a place `end` that its comment does not describe"),
        ("          end =", "          ned =", "has no place `ned`, which its comment describes"),
        ("BLOB(page)", "BLOB(paeg)", "patchlet `paeg` of the contracts: is not in the file"),
    ] {
        let (exit, out) = edit(from, to);
        assert_eq!(exit, Exit::Finding, "{out}");
        assert!(out.contains(says), "{says}: {out}");
    }
    for (from, to, says) in [
        ("holes:", "hloes:", "the contract of patchlet `page` has no field `holes`"),
        ("offsets: protected", "places: protected", "has no field `offsets`"),
        ("offsets: protected = where", "offsets: protected where", "write `name = meaning`"),
        ("holes:", "offsets:", "has a field twice"),
        (
            CONTRACT.split_once("PATCHLET").expect("a macro").0,
            "",
            "put a comment with it right above PATCHLET_BLOB",
        ),
    ] {
        let (exit, out) = edit(from, to);
        assert_eq!(exit, Exit::Failed, "{out}");
        assert!(out.contains(says), "{says}: {out}");
    }
}

/// Changes every byte of the blob, of its record in the index and of its places: every command ends
/// with an answer.
#[test]
fn every_changed_byte_of_a_blob_is_survived() {
    for width in BOTH {
        let good = with_blob(width, CODE, PLACES);
        for name in ["patchlet_places", "patchlet_index", ".rodata.patchlets"] {
            let len = good.section(name).data.len();
            for at in len.saturating_sub(240)..len {
                let mut changed = good.clone();
                changed.section_mut(name).data[at] ^= [0xff, 0x01, 0x80][at % 3];
                crate::replay::everything(&changed.bytes());
            }
        }
    }
}

//! Files and dumps that are damaged, or of another kind: each error says what is wrong, and no
//! damage makes the tool panic.

use std::path::Path;
use std::{env, fs};

use patchlet::Width;
use patchlet::inspect::{Exit, LinuxKernel, RawAddress, explain_linux, unpack};

use crate::kernel::{Kernel, PHYSICAL, core, relative};
use crate::names::{FORMS, names, tables};
use crate::own_broken;
use crate::sample::Sample;
use crate::tool::{file, tool};

fn small() -> Kernel {
    let mut kernel = Kernel::new(Width::Bits64);
    let site = kernel.code(&[0xf0, 0x90]);
    let record = move |at| relative(at, site);
    kernel.table(".smp_locks", &[&record]);
    kernel
}

/// Returns the error of reading a file.
fn error_of(file: &[u8]) -> String {
    let unpacked = match unpack(file) {
        Ok(unpacked) => unpacked,
        Err(error) => return error.to_string(),
    };
    LinuxKernel::new(&unpacked).expect_err("an error").to_string()
}

/// Returns the error of reading a dump.
fn error_of_dump(dump: &[u8], raw: Option<RawAddress>) -> String {
    let (file, _) = small().file_and_memory();
    let unpacked = unpack(&file).expect("an ELF file");
    let linux = LinuxKernel::new(&unpacked).expect("a kernel");
    explain_linux(&linux, dump, raw, false).expect_err("an error").to_string()
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    assert!(error_of(b"text").contains("not an ELF file"));
    let other = error_of(&Sample::new(Width::Bits64).bytes());
    assert!(other.contains("none of the tables"), "{other}");
    // A site outside of text.
    let mut kernel = small();
    let record = |at| relative(at, 0x1234);
    kernel.table(".return_sites", &[&record]);
    let error = error_of(&kernel.file_and_memory().0);
    assert!(error.contains(".return_sites") && error.contains("in no layout"), "{error}");
    // No layout of alternatives has ten bytes.
    let mut kernel = small();
    kernel.table(".altinstructions", &[&|_| vec![1; 10]]);
    let error = error_of(&kernel.file_and_memory().0);
    assert!(error.contains(".altinstructions"), "{error}");
}

#[test]
fn what_is_wrong_with_a_dump_is_said() {
    let memory = small().file_and_memory().1;
    for (dump, raw, part) in [
        (&b"text"[..], None, "not an ELF core"),
        (b"KDUMP   1234567890", None, "a compressed dump"),
        (b"makedumpfile\0\0\0\0", None, "a compressed dump"),
        (b"", Some(RawAddress::Physical(0)), "not in the dump"),
        (&[0x5a; 0x1000], Some(RawAddress::Physical(0)), "not in the dump"),
    ] {
        let error = error_of_dump(dump, raw);
        assert!(error.contains(part), "{part}: {error}");
    }
    let whole = core(&[(PHYSICAL, &memory)], 0);
    for (cut, part) in [(60, "unusable ELF core"), (whole.len() - 1, "truncated")] {
        let error = error_of_dump(&whole[..cut], None);
        assert!(error.contains(part), "{part}: {error}");
    }
    let mut other = whole.clone();
    other[18] = 40;
    assert!(error_of_dump(&other, None).contains("machine 40"));
    let (file, _) = small().file_and_memory();
    assert!(error_of_dump(&file, None).contains("type 2"));
    assert!(error_of_dump(&core(&[], 0), None).contains("without any memory"));
    // Two segments that are the same bytes of the dump.
    let mut twice = core(&[(PHYSICAL, &memory), (0, b"little")], 0);
    let (first, second) = (64 + 56, 64 + 2 * 56);
    twice.copy_within(first..first + 56, second);
    assert!(error_of_dump(&twice, None).contains("overlap"));
}

#[test]
fn the_command_names_the_file() {
    let (elf, _) = small().file_and_memory();
    let (elf, dump) = (file("broken", "vmlinux", &elf), file("broken", "dump", b"nothing"));
    let output = tool(&["explain", &elf, "--memory", &dump]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains(&dump) && output.err.contains("--phys"), "{}", output.err);
    let output = tool(&["explain", &dump, "--memory", &dump]);
    assert!(output.err.contains("not an ELF file"), "{}", output.err);
    let output = tool(&["explain", &elf, "--memory", &dump, "--phys", "0x0", "--base", "0x0"]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("cannot be used with"), "{}", output.err);
}

/// A boot image with the kernel in stored blocks of gzip (RFC 1951, "Non-compressed blocks").
fn boot_image(elf: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for (at, block) in elf.chunks(0xffff).enumerate() {
        let len = block.len() as u16;
        packed.push(u8::from((at + 1) * 0xffff >= elf.len()));
        packed.extend(len.to_le_bytes());
        packed.extend((!len).to_le_bytes());
        packed.extend(block);
    }
    packed.extend([0; 8]);
    boot_image_of(packed, elf.len())
}

/// A boot image: a sector of header, one of set-up code, and a packed kernel with its size.
fn boot_image_of(mut packed: Vec<u8>, size: usize) -> Vec<u8> {
    packed.extend((size as u32).to_le_bytes());
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    image.extend(packed);
    image
}

#[test]
fn a_boot_image_is_unpacked() {
    let (file, memory) = small().file_and_memory();
    let image = boot_image(&file);
    let unpacked = unpack(&image).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(unpacked.elf(), file);
    let linux = LinuxKernel::new(&unpacked).expect("a kernel");
    assert!(explain_linux(&linux, &memory, Some(RawAddress::Physical(PHYSICAL)), false).is_ok());
    for (change, part) in [
        (&(|image: &mut Vec<u8>| image.truncate(1500)) as &dyn Fn(&mut Vec<u8>), "truncated"),
        (&|image| image[1024] = 7, "packed in a form"),
        (&|image| *image.last_mut().expect("a byte") = 0x7f, "damaged"),
        (&|image| *image.iter_mut().nth_back(3).expect("a byte") ^= 1, "instead of"),
        (&|image| image[1035] = 0, "cannot be unpacked"),
    ] {
        let mut image = boot_image(&file);
        change(&mut image);
        let error = unpack(&image).expect_err(part).to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// Returns a kernel in blocks of LZ4's legacy format, without any match: a token with 15 in its
/// upper half, the rest of the length in bytes, and the bytes.
fn packed_by_lz4(elf: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
    for block in elf.chunks(8 << 20) {
        let rest = block.len() - 15;
        let mut coded = vec![0xf0];
        coded.resize(1 + rest / 255, 0xff);
        coded.push((rest % 255) as u8);
        coded.extend(block);
        packed.extend((coded.len() as u32).to_le_bytes());
        packed.extend(coded);
    }
    packed
}

/// What `xz --format=lzma` makes of `a kernel, packed by lzma; ` four times.
const PACKED_BY_LZMA: &[u8] = &[
    0x5d, 0x00, 0x00, 0x10, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x30, 0x88,
    0x09, 0x66, 0x94, 0x53, 0x74, 0xb6, 0x71, 0x69, 0xd8, 0x74, 0x7e, 0x47, 0x38, 0x75, 0x5e, 0x1a,
    0xf9, 0x84, 0xae, 0x6e, 0x69, 0x79, 0xf9, 0x7f, 0x30, 0xd8, 0xcd, 0x1e, 0xa5, 0xab, 0xb3, 0xff,
    0xff, 0xe3, 0xfb, 0xa0, 0x00,
];

#[test]
fn boot_images_of_lz4_and_lzma_are_unpacked() {
    // More than one block.
    let long: Vec<u8> = (0..(9_u32 << 20)).map(|at| (at % 251) as u8).collect();
    let packed = packed_by_lz4(&long);
    let image = boot_image_of(packed.clone(), long.len());
    assert!(unpack(&image).unwrap_or_else(|error| panic!("{error}")).elf() == long);
    let error = |packed: Vec<u8>, size: usize| {
        unpack(&boot_image_of(packed, size)).expect_err("damaged").to_string()
    };
    assert!(error(packed.clone(), long.len() + 1).contains("instead of"));
    let short = error(packed.clone(), long.len() - 1);
    assert!(short.contains("instead of"), "{short}");
    let cut = error(packed[..packed.len() - 9].to_vec(), long.len());
    assert!(cut.contains("cannot be unpacked"), "{cut}");

    let text = "a kernel, packed by lzma; ".repeat(4);
    let image = boot_image_of(PACKED_BY_LZMA.to_vec(), text.len());
    let unpacked = unpack(&image).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(unpacked.elf(), text.as_bytes());
    // A dictionary that no kernel has, for which memory would be needed.
    let mut large = PACKED_BY_LZMA.to_vec();
    large[4] = 0x7f;
    let error = error(large, text.len());
    assert!(error.contains("cannot be unpacked"), "{error}");
}

/// Changes every byte of headers, tables and memory in turn: nothing panics, and no time is without
/// a limit.
#[test]
fn damage_is_survived() {
    let mut kernel = small();
    let (file, memory) = kernel.file_and_memory();
    let dump = core(&[(PHYSICAL, &memory)], 0x1000);
    let raw = Some(RawAddress::Physical(PHYSICAL));
    let run = |file: &[u8], dump: &[u8], raw: Option<RawAddress>| {
        let Ok(unpacked) = unpack(file) else { return };
        let Ok(linux) = LinuxKernel::new(&unpacked) else { return };
        drop(explain_linux(&linux, dump, raw, true));
    };
    let interesting = (0..0x400).chain(file.len() - 0x600..file.len());
    for at in interesting.step_by(3) {
        for value in [0, 0xff] {
            let mut file = file.clone();
            file[at] = value;
            run(&file, &memory, raw);
        }
    }
    for at in (0..0x300).step_by(2) {
        for value in [0, 0xff] {
            let mut dump = dump.clone();
            dump[at] = value;
            run(&file, &dump, None);
        }
    }
}

/// The entry points of the fuzz targets.
#[allow(dead_code, reason = "tests of the tool use the others")]
#[path = "../../fuzz/entry.rs"]
mod entry;

/// Returns an input of the fuzz target: the length of the file in units of 16 bytes, the file, and
/// the dump.
fn input(file: &[u8], dump: &[u8], is_raw: bool) -> Vec<u8> {
    let mut units = file.len().div_ceil(16);
    if (units % 2 == 1) != is_raw {
        units += 1;
    }
    let mut input = (units as u16).to_le_bytes().to_vec();
    input.extend(file);
    input.resize(2 + 16 * units, 0);
    input.extend(dump);
    input
}

/// Returns the inputs that the fuzzer starts from, for each target.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let (file, memory) = small().file_and_memory();
    // As little of the memory as has all of the text.
    let memory = &memory[..0x1800];
    let with_header = core(&[(PHYSICAL, memory)], 0);
    let image = boot_image(&file);
    let text = b"a kernel that is not packed at all";
    let mut seeds = vec![
        ("explain", "raw".to_owned(), input(&file, memory, true)),
        ("explain", "core".to_owned(), input(&file, &with_header, false)),
        ("explain", "boot-image".to_owned(), input(&image, memory, true)),
        ("dump", "core".to_owned(), [&[2], &with_header[..]].concat()),
        ("dump", "virtual".to_owned(), [&[0], memory].concat()),
        ("dump", "physical".to_owned(), [&[1], memory].concat()),
        ("vmlinux", "symbols".to_owned(), file),
        ("boot", "gzip".to_owned(), boot_image(text)),
        ("boot", "lz4".to_owned(), boot_image_of(packed_by_lz4(text), text.len())),
        ("boot", "lzma".to_owned(), boot_image_of(PACKED_BY_LZMA.to_vec(), 104)),
    ];
    for width in [Width::Bits64, Width::Bits32] {
        let name = format!("tables-{width:?}");
        seeds.push(("audit", name, crate::audit::file_of_all_tables(width)));
        let name = format!("module-{width:?}");
        seeds.push(("audit", name, crate::audit::module(width, "seed", "call *%REG", "ret")));
    }
    seeds.push(("oops", "log".to_owned(), crate::audit::log_of_all_tables().into_bytes()));
    for (at, form) in FORMS.into_iter().enumerate() {
        let text = 0xffff_ffff_8100_0000;
        // The address of read-only data in the file that this target makes.
        let tables = tables(Width::Bits64, form, text + 0x2000, &names(text));
        seeds.push(("kallsyms", format!("form-{at}"), tables));
    }
    let with_crate = own_broken::seeds();
    seeds.extend(
        with_crate
            .into_iter()
            .map(|(name, file, dump, is_raw)| ("running", name, input(&file, &dump, is_raw))),
    );
    seeds
}

type EntryPoint = fn(&[u8]);

/// Replays the corpus of the fuzz targets. With `BLESS=1` in the environment, writes its seeds.
#[test]
fn the_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    if env::var_os("BLESS").is_some() {
        for (target, name, input) in seeds() {
            let folder = corpus.join(target);
            fs::create_dir_all(&folder).expect("a folder below fuzz/corpus");
            fs::write(folder.join(name), input).expect("a file below fuzz/corpus");
        }
    }
    let targets: [(&str, EntryPoint); 8] = [
        ("explain", entry::explain),
        ("dump", entry::dump),
        ("vmlinux", entry::vmlinux),
        ("boot", entry::boot),
        ("kallsyms", entry::kallsyms),
        ("running", entry::running),
        ("audit", entry::audit),
        ("oops", entry::oops),
    ];
    for (target, run) in targets {
        let inputs = fs::read_dir(corpus.join(target)).expect("the corpus");
        let mut count = 0;
        for input in inputs {
            run(&fs::read(input.expect("an entry").path()).expect("an input"));
            count += 1;
        }
        let least = seeds().iter().filter(|seed| seed.0 == target).count();
        assert!(count >= least, "{target}: {count} inputs");
    }
}

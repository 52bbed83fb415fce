//! Links programs with patchlets in all forms of docs/linking.md: with and without a script,
//! position-independent, from a static library, in two steps, as a shared object; by GNU ld, lld
//! and mold. Each program runs, and its exit status is the number of its sites.

#[allow(dead_code)] // Each test uses a part of it.
mod support {
    pub mod fixture;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Object, ObjectSection, ObjectSymbol, elf};

use support::fixture::{Output, cargo, copy_crate, run};

/// The number of sites in functions that are called.
const LIVE: i32 = 1;
/// The number of sites in all functions: `dead` has two more, `discarded` and a trampoline one each.
const ALL: i32 = 5;
/// The number of sites if only `discarded` is dropped.
const KEPT: i32 = 4;

/// The documentation, which must show the command lines and scripts that are tested here.
const DOCS: &str = include_str!("../docs/linking.md");

/// The inputs of the links.
struct Parts {
    /// The folder of tests/fixtures/forms in a copy of the crate.
    package: PathBuf,
    /// The folder of patchlet.ld.
    include: PathBuf,
    /// The builds for 64 bit without LTO, for 64 bit with fat LTO, and for 32 bit.
    builds: [Build; 3],
}

/// A static library, and the object in which its programs start.
struct Build {
    name: &'static str,
    library: PathBuf,
    start: PathBuf,
    /// The name of the width for a linker's option `-m`.
    emulation: &'static str,
}

impl Build {
    fn new(package: &Path, name: &'static str, target: &str, profile: &str) -> Self {
        let mut command =
            cargo(package, &["build", "--lib", "--target", target, "--profile", profile]);
        let is_64 = target.starts_with("x86_64");
        if !is_64 {
            // A 32-bit site has the absolute address of its slot.
            command.env("RUSTFLAGS", "-Crelocation-model=static");
        }
        succeed(&mut command);
        let library = target_folder().join(target).join(profile).join("libforms.a");
        let start = scratch().join(format!("start-{name}.o"));
        let width = if is_64 { "-m64" } else { "-m32" };
        let source = package.join("start.S");
        succeed(Command::new("gcc").args([width, "-c"]).arg(source).arg("-o").arg(&start));
        let emulation = if is_64 { "elf_x86_64" } else { "elf_i386" };
        Build { name, library, start, emulation }
    }

    /// Links the library by this command line, and expects the program to have so many sites.
    fn expect(&self, name: &str, line: &str, expected: i32) {
        let program = link(
            &format!("{name}-{}", self.name),
            &format!("{line} -m {}", self.emulation),
            &[&self.start, &self.library],
        );
        assert_eq!(sites(&program), expected, "{line}, {}", self.name);
        assert!(has_records(&program, USED), "{line}, {}", self.name);
        // The records of a table go with its slots; mold keeps every section with such a name.
        if line.contains("--gc-sections") && !line.starts_with("mold") {
            assert!(!has_records(&program, UNUSED), "{line}, {}", self.name);
            // Nor is there a byte of the ready-made table by CPU feature.
            assert!(!has_records(&program, BY_FEATURE), "{line}, {}", self.name);
            assert_eq!(ready_made(&program), [""; 0], "{line}, {}", self.name);
        }
        // A trampoline goes with its record if no code calls it.
        if expected == LIVE {
            assert!(!has_symbol(&program, "used_ops.any.trampoline"), "{line}, {}", self.name);
        }
    }
}

/// The name of an op and the condition of its variant: in a table that is used, and in one that is
/// not.
type Records = [(&'static str, &'static str); 2];
const USED: Records = [("patchlet_ops", "used.same"), ("patchlet_variants", "SMAP !ERMS")];
const UNUSED: Records = [("patchlet_ops", "unused.nothing"), ("patchlet_variants", "FSRM")];
/// Those of the ready-made table by CPU feature, which no program here uses.
const BY_FEATURE: Records =
    [("patchlet_ops", "hypercall.hypercall"), ("patchlet_variants", "OSXSAVE XSAVEOPT")];

/// Returns the symbols of the ready-made set by CPU feature in a program, and what its index names.
fn ready_made(program: &Path) -> Vec<String> {
    let bytes = fs::read(program).expect("the program was linked");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let symbols = file.symbols().filter_map(|symbol| symbol.name().ok());
    let mut found: Vec<String> = symbols
        .filter(|name| {
            name.starts_with("patchlet_cpu_") || name.starts_with("patchlet_native_cpu_")
        })
        // On 32 bit, these are numbers and no addresses, and stay without taking a byte.
        .filter(|name| !name.ends_with(".index"))
        .map(str::to_owned)
        .collect();
    for section in file.sections() {
        let data = section.data().expect("a section");
        if section.name() != Ok(".strtab") && data.windows(12).any(|name| name == b"cpu_xsaveopt") {
            found.push(format!("a name in {}", section.name().expect("a name")));
        }
    }
    found
}

/// Returns whether the program has the records of an op and of its variant. It must have both or
/// neither.
fn has_records(program: &Path, records: Records) -> bool {
    let bytes = fs::read(program).expect("the program was linked");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let [op, variant] = records.map(|(section, text)| {
        let Some(section) = file.section_by_name(section) else { return false };
        let data = section.data().expect("the records");
        data.windows(text.len()).any(|window| window == text.as_bytes())
    });
    assert_eq!(op, variant, "{}: {records:?}", program.display());
    op
}

/// Returns whether the program has a symbol of this name.
fn has_symbol(program: &Path, name: &str) -> bool {
    let bytes = fs::read(program).expect("the program was linked");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.symbols().any(|symbol| symbol.name() == Ok(name))
}

/// Builds the parts, once.
fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let root = copy_crate("forms");
        let package = root.join("tests/fixtures/forms");
        let builds = [
            Build::new(&package, "64", "x86_64-unknown-none", "release"),
            Build::new(&package, "64-fat", "x86_64-unknown-none", "fat"),
            Build::new(&package, "32", "i686-unknown-linux-gnu", "release"),
        ];
        Parts { include: root.join("asm"), package, builds }
    })
}

/// Returns the library for 64 bit without LTO.
fn plain_build() -> &'static Build {
    &parts().builds[0]
}

fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures-target")
}

/// Returns the folder for the programs that the tests link.
fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("link-forms");
    fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
    folder
}

fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.success, "{command:?}\n{}", output.stderr);
    output
}

/// Returns a linker with arguments, such as `ld.bfd -T plain.ld`. The folders of scripts and of
/// patchlet.ld come first, because GNU ld looks for an included file in the folders named before.
fn linker(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("the linker's name"));
    command.current_dir(&parts().package).arg("-L").arg(&parts().include).args(words);
    command
}

/// Links these inputs, and returns the program.
fn link(name: &str, line: &str, inputs: &[&Path]) -> PathBuf {
    let program = scratch().join(name);
    succeed(linker(line).args(inputs).arg("-o").arg(&program));
    program
}

/// Runs a program; returns its exit status.
fn sites(program: &Path) -> i32 {
    let status = Command::new(program).status().expect("the program starts");
    status.code().unwrap_or_else(|| panic!("{}: {status}", program.display()))
}

/// Links each library by this command line, and expects each program to have so many sites.
fn expect(name: &str, line: &str, expected: i32) {
    for build in &parts().builds {
        build.expect(name, line, expected);
    }
}

/// Checks that the documentation shows this command line.
fn documented(line: &str) {
    assert!(DOCS.contains(&format!("`{line}`")), "docs/linking.md does not have `{line}`");
}

/// Returns the flags of the segment that a section lies in.
fn segment_of(program: &Path, section: &str) -> u32 {
    let bytes = fs::read(program).expect("the program was linked");
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("an ELF file");
    let section = file.section_by_name(section).expect(section);
    let endian = file.endian();
    let holds = |header: &&elf::ProgramHeader64<object::Endianness>| {
        let start = header.p_vaddr(endian);
        header.p_type(endian) == elf::PT_LOAD
            && (start..start + header.p_memsz(endian)).contains(&section.address())
    };
    let segment = file.elf_program_headers().iter().find(holds).expect("a segment holds it");
    segment.p_flags(endian).0
}

#[test]
fn without_a_script() {
    for (name, line, expected) in [
        ("bare-bfd", "ld.bfd --gc-sections -z start-stop-gc", LIVE),
        ("bare-lld", "ld.lld --gc-sections", LIVE),
        // mold keeps every section whose name is a C identifier.
        ("bare-mold", "mold --gc-sections", ALL),
        // So does GNU ld if a `__start_` symbol of the section is referred to.
        ("bare-bfd-roots", "ld.bfd --gc-sections", ALL),
        // A script of two lines, in addition to the linker's own.
        ("bare-bfd-insert", "ld.bfd --gc-sections -T insert.ld", LIVE),
    ] {
        documented(line);
        expect(name, line, expected);
    }
}

#[test]
fn position_independent() {
    for (name, line, expected) in [
        ("pie-bfd", "ld.bfd --gc-sections -pie --no-dynamic-linker -z start-stop-gc", LIVE),
        ("pie-lld", "ld.lld --gc-sections -pie --no-dynamic-linker", LIVE),
        ("pie-mold", "mold --gc-sections -pie --no-dynamic-linker", ALL),
    ] {
        documented(line);
        // 64 bit only: 32-bit code is linked for a fixed address.
        for build in parts().builds.iter().filter(|build| build.emulation == "elf_x86_64") {
            build.expect(name, line, expected);
        }
    }
}

#[test]
fn by_a_script() {
    for script in ["plain.ld", "phdrs.ld", "discard.ld"] {
        for linker in ["ld.bfd", "ld.lld"] {
            documented(&format!("{linker} --gc-sections -T {script}").replace(script, "kernel.ld"));
            expect(
                &format!("{linker}-{script}"),
                &format!("{linker} --gc-sections -T {script}"),
                LIVE,
            );
        }
    }
}

/// Checks that the record of a function that a script discards is dropped without garbage
/// collection.
#[test]
fn code_that_a_script_discards() {
    for linker in ["ld.bfd", "ld.lld"] {
        expect(&format!("{linker}-all"), &format!("{linker} -T plain.ld"), ALL);
        expect(&format!("{linker}-discard"), &format!("{linker} -T discard.ld"), KEPT);
    }
}

/// Checks that the documentation shows the scripts that are tested.
#[test]
fn the_docs_show_these_scripts() {
    for script in ["plain.ld", "phdrs.ld", "insert.ld"] {
        let text = fs::read_to_string(parts().package.join(script)).expect("a script");
        let text = text.trim_end();
        assert!(DOCS.contains(text), "docs/linking.md does not show {script} as it is:\n{text}");
    }
}

/// Checks that the line which names the segment is needed: without it, the sections go into the
/// segment of the section before them.
#[test]
fn the_segment_of_read_only_data() {
    let script = fs::read_to_string(parts().package.join("phdrs.ld")).expect("a script");
    let line = "    .rodata.patchlets : { KEEP(*(.rodata.patchlets)) } :rodata\n";
    assert!(script.contains(line));
    let without = scratch().join("without-segment.ld");
    fs::write(&without, script.replace(line, "")).expect("a file below CARGO_TARGET_TMPDIR");
    for linker in ["ld.bfd", "ld.lld"] {
        for (script, flags) in
            [("phdrs.ld", elf::PF_R), (without.to_str().expect("UTF-8"), elf::PF_R | elf::PF_X)]
        {
            let program = link(
                &format!("{linker}-segment"),
                &format!("{linker} --gc-sections -T {script}"),
                &[&plain_build().start, &plain_build().library],
            );
            for section in
                [".rodata.patchlets", "patchlet_index", "patchlet_variants", "patchlet_sites"]
            {
                assert_eq!(segment_of(&program, section), flags.0, "{linker} {script} {section}");
            }
        }
    }
}

/// Checks that mistakes in a script are reported with the fix.
#[test]
fn a_wrong_script_is_told_so() {
    let plain = fs::read_to_string(parts().package.join("plain.ld")).expect("a script");
    let include = "    INCLUDE patchlet.ld\n";
    let late = plain.replace(include, "").replace("    .bss", &format!("{include}    .bss"));
    for (name, script, complaint) in [
        ("late", late.clone(), "ERROR(patchlet): there is no patchlet in the output section"),
        (
            "both",
            late.replace(".rodata.*)", ".rodata.* patchlet_index)"),
            "ERROR(patchlet): there is no patchlet in the output section",
        ),
        (
            "index",
            late.replace(".rodata.*)", "patchlet_index)"),
            "ERROR(patchlet): there is nothing in the output section patchlet_index",
        ),
        (
            "foreign",
            plain.replace(include, &format!("    patchlet_sites : {{ LONG(1) }}\n{include}")),
            "patchlet_sites has something other than records in it",
        ),
    ] {
        assert_ne!(script, plain);
        let path = scratch().join(format!("{name}.ld"));
        fs::write(&path, script).expect("a file below CARGO_TARGET_TMPDIR");
        for tool in ["ld.bfd", "ld.lld"] {
            let line = format!("{tool} --gc-sections -T {}", path.display());
            let output = run(linker(&line)
                .arg(&plain_build().start)
                .arg(&plain_build().library)
                .arg("-o")
                .arg(scratch().join(name)));
            assert!(!output.success, "{line} links");
            assert!(output.stderr.contains(complaint), "{line}: {}", output.stderr);
        }
    }
}

/// Links by a script that asserts the number of sites.
#[test]
fn a_script_that_counts_sites() {
    let line = "    ASSERT(SIZEOF(patchlet_sites) >= 12 * 1, \"ERROR: sites are missing\")\n";
    assert!(DOCS.contains(line));
    let plain = fs::read_to_string(parts().package.join("plain.ld")).expect("a script");
    let include = "    INCLUDE patchlet.ld\n";
    for (number, links) in [("12 * 1,", true), ("12 * 2,", false)] {
        let line = line.replace("12 * 1,", number);
        let path = scratch().join("counts.ld");
        fs::write(&path, plain.replace(include, &format!("{include}{line}")))
            .expect("a file below CARGO_TARGET_TMPDIR");
        for tool in ["ld.bfd", "ld.lld"] {
            let output = run(linker(&format!("{tool} --gc-sections -T {}", path.display()))
                .arg(&plain_build().start)
                .arg(&plain_build().library)
                .arg("-o")
                .arg(scratch().join("counts")));
            assert_eq!(output.success, links, "{tool} {number} {}", output.stderr);
            assert_eq!(output.stderr.contains("sites are missing"), !links, "{}", output.stderr);
        }
    }
}

/// Links in two steps, the first by `ld -r`. No record may be lost.
#[test]
fn in_two_steps() {
    for (first, merged) in [
        // GNU ld puts all records into one section, which is kept or dropped as a whole.
        ("ld.bfd -r", true),
        ("ld.bfd -r --unique=patchlet_sites", false),
        ("ld.lld -r -m elf_x86_64", false),
        ("mold -r", true),
    ] {
        let name = first.replace([' ', '='], "-");
        let object = scratch().join(format!("{name}.o"));
        succeed(
            linker(&format!("{first} --whole-archive"))
                .arg(&plain_build().library)
                .arg("-o")
                .arg(&object),
        );
        for second in ["ld.bfd --gc-sections -T plain.ld", "ld.lld --gc-sections"] {
            let program = link(&format!("{name}-2"), second, &[&plain_build().start, &object]);
            let expected = if merged { ALL } else { LIVE };
            assert_eq!(sites(&program), expected, "{first}, then {second}");
            assert!(has_records(&program, USED), "{first}, then {second}");
        }
    }
    documented("ld -r --unique=patchlet_sites");
}

/// Links a static library from which the kernel has already dropped the functions that its
/// interface does not reach.
#[test]
fn a_static_library_without_dead_functions() {
    let line = "ld.bfd -r --whole-archive --gc-sections -z start-stop-gc --unique=patchlet_sites -u status";
    documented(line);
    let object = scratch().join("kernel.o");
    succeed(linker(line).arg(&plain_build().library).arg("-o").arg(&object));
    for second in ["ld.bfd --gc-sections", "ld.lld --gc-sections", "mold --gc-sections"] {
        let program = link("interface", second, &[&plain_build().start, &object]);
        assert_eq!(sites(&program), LIVE, "{second}");
    }
}

/// Links objects with an OS/ABI of a kernel's own, for which GNU ld ignores SHF_GNU_RETAIN.
#[test]
fn objects_of_another_os_abi() {
    let mut archive = fs::read(&plain_build().library).expect("the library");
    // Set EI_OSABI, at offset 7 of every ELF file in the archive, to ELFOSABI_STANDALONE.
    let starts: Vec<_> = (0..archive.len() - 8)
        .filter(|at| archive[*at..].starts_with(b"\x7fELF\x02\x01\x01"))
        .collect();
    assert!(starts.len() > 2, "{starts:?}");
    for start in starts {
        archive[start + 7] = elf::ELFOSABI_STANDALONE.0;
    }
    let library = scratch().join("libstandalone.a");
    fs::write(&library, archive).expect("a file below CARGO_TARGET_TMPDIR");
    let line = "ld.bfd --gc-sections -z start-stop-gc";
    let program = link("standalone", line, &[&plain_build().start, &library]);
    assert_eq!(sites(&program), LIVE);
    assert_eq!(segment_of(&program, "patchlet_index"), elf::PF_R.0);
}

/// Lets cargo link a program whose script includes patchlet.ld, without any `-L`.
#[test]
fn a_program_that_cargo_links() {
    for script in ["plain.ld", "phdrs.ld"] {
        for (linker, flavor) in [("rust-lld", "ld.lld"), ("ld.bfd", "ld"), ("ld.lld", "ld.lld")] {
            for profile in ["release", "fat"] {
                let mut command = cargo(
                    &parts().package,
                    &["rustc", "--bin=forms", "--target=x86_64-unknown-none", "--profile", profile],
                );
                command.env("FORMS_SCRIPT", script).args([
                    "--",
                    "-Crelocation-model=static",
                    &format!("-Clinker={linker}"),
                    &format!("-Clinker-flavor={flavor}"),
                ]);
                succeed(&mut command);
                let program =
                    target_folder().join("x86_64-unknown-none").join(profile).join("forms");
                assert_eq!(sites(&program), LIVE, "{script} {linker} {profile}");
            }
        }
    }
}

#[test]
fn a_shared_object() {
    let package = copy_crate("forms").join("tests/fixtures/shared");
    // A dylib needs the shared object of std at run time.
    let sysroot = succeed(Command::new("rustc").args(["--print", "sysroot"])).stdout;
    let std_folder = format!("-Wl,-rpath,{}/lib", sysroot.trim());
    for kind in ["cdylib", "dylib"] {
        for linker in ["bfd", "lld", "mold"] {
            let build = ["rustc", "--lib", "--release", "--crate-type", kind];
            let linker_flag = format!("-Clink-arg=-fuse-ld={linker}");
            succeed(cargo(&package, &build).args(["--", &linker_flag]));
            let folder = target_folder().join("release");
            let program = scratch().join(format!("{kind}-{linker}"));
            succeed(
                Command::new("gcc")
                    .arg(package.join("main.c"))
                    .arg(folder.join("libshared.so"))
                    // A dylib has a name of its own, by which it is found.
                    .arg(format!("-Wl,-rpath,{}", folder.display()))
                    .arg(&std_folder)
                    .arg("-o")
                    .arg(&program),
            );
            assert_eq!(sites(&program), LIVE, "{kind} by {linker}");
            // What has no mangled name is not for other objects.
            let bytes = fs::read(folder.join("libshared.so")).expect("the shared object");
            let file = object::File::parse(&*bytes).expect("an ELF file");
            let visible = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
            let names = visible.filter_map(|symbol| symbol.name().ok());
            let ours: Vec<&str> = names.filter(|name| name.contains("patchlet_")).collect();
            assert_eq!(ours, [""; 0], "{kind} by {linker}");
        }
    }
}

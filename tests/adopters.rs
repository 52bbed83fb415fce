//! Builds three kinds of kernels as other people have built them with the crate: a static library
//! that is linked with a C program, a static PIE without a link script, and a kernel in the higher
//! half by a script with PHDRS. Each is linked by GNU ld, by lld and, if it has no script, by mold;
//! without LTO and with fat LTO. The linked file is verified, boots in QEMU, and patches itself.
#![cfg(feature = "inspect")]

mod support {
    #[allow(dead_code, reason = "the sites that a kernel prints are for tests/boot.rs")]
    pub mod boot;
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub mod fixture;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, SectionKind};

use support::boot::boot;
use support::fixture::{cargo, copy_crate, run};

/// The sites of the functions that the kernel uses: the five in `use_ops`.
const LIVE: usize = 5;
/// The same, and the site of `kernel_never_called`.
const ALL: usize = 6;

/// The address at which the PIE is loaded. It is linked for address 0.
const LOADED_AT: u64 = 0x20_0000;
/// `OFFSET` of higher_half.ld.
const HIGHER_HALF: u64 = 0xffff_ffff_8000_0000;

/// Returns the copy of the crate, and the library without LTO and with fat LTO.
fn parts() -> &'static (PathBuf, [PathBuf; 2]) {
    static PARTS: OnceLock<(PathBuf, [PathBuf; 2])> = OnceLock::new();
    PARTS.get_or_init(|| {
        let root = copy_crate("adopters");
        let package = root.join("tests/fixtures/adopter");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures-target");
        let libraries = ["release", "fat"].map(|profile| {
            let build = ["build", "--target", "x86_64-unknown-none", "--profile", profile];
            succeed(&mut cargo(&package, &build));
            target.join("x86_64-unknown-none").join(profile).join("libadopter.a")
        });
        (root, libraries)
    })
}

fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.success, "{command:?}\n{}{}", output.stdout, output.stderr);
    output.stdout
}

fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adopters-linked");
    fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
    folder
}

/// A kind of kernel.
struct Kernel {
    /// The macros with which boot.S is assembled.
    define: &'static [&'static str],
    /// The difference between the physical address of the entry and its linked address.
    offset: u64,
}

impl Kernel {
    /// Links each library by this command line, verifies the kernel, boots it, and expects so many
    /// sites.
    fn check(&self, name: &str, line: &str, expected: usize) {
        let (root, libraries) = parts();
        for (library, lto) in libraries.iter().zip(["", "-fat"]) {
            let kernel = scratch().join(format!("{name}{lto}"));
            // Linked twice: the address in the PVH note is known only after the first time.
            self.link(root, line, library, 0, &kernel);
            let bytes = fs::read(&kernel).expect("the kernel was linked");
            let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("an ELF file");
            let entry = file.entry().wrapping_add(self.offset);
            self.link(root, line, library, entry, &kernel);

            let verify = Command::new(env!("CARGO_BIN_EXE_patchlet"))
                .arg("verify")
                .arg(&kernel)
                .output()
                .expect("the tool starts");
            let said = String::from_utf8_lossy(&verify.stdout);
            assert!(verify.status.success(), "{line}, {}: {said}", library.display());

            if self.offset == LOADED_AT {
                load_at(&kernel, LOADED_AT);
            }
            let log = boot(&kernel, &[]);
            let sites = format!("{expected} indirect 0");
            assert_eq!(log.lines("sites").collect::<Vec<_>>(), [sites], "{line}\n{log}");
        }
    }

    fn link(&self, root: &Path, line: &str, library: &Path, entry: u64, kernel: &Path) {
        let package = root.join("tests/fixtures/adopter");
        let objects = ["boot.S", "main.c"].map(|source| {
            let object = kernel.with_extension(format!("{source}.o"));
            let mut command = Command::new("gcc");
            command.args(["-c", "-O2", "-ffreestanding", &format!("-DENTRY={entry:#x}")]);
            succeed(command.args(self.define).arg(package.join(source)).arg("-o").arg(&object));
            object
        });
        let mut words = line.split_whitespace();
        let mut linker = Command::new(words.next().expect("the linker's name"));
        linker.current_dir(&package).arg("-L").arg(root.join("asm")).args(words);
        succeed(linker.args(objects).arg(library).arg("-o").arg(kernel));
    }
}

/// Changes the physical addresses in the program headers, at which QEMU loads the kernel. A PIE
/// that is linked for address 0 would otherwise be loaded over memory that the BIOS uses.
fn load_at(kernel: &Path, address: u64) {
    let mut bytes = fs::read(kernel).expect("the kernel was linked");
    let read = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    // In the ELF header, e_phoff is at offset 32 and e_phnum at 56. A program header has 56 bytes,
    // with p_paddr at offset 24.
    let table = read(&bytes, 32) as usize;
    for index in 0..usize::from(bytes[56]) {
        let at = table + index * 56 + 24;
        let physical = read(&bytes, at) + address;
        bytes[at..at + 8].copy_from_slice(&physical.to_le_bytes());
    }
    fs::write(kernel, bytes).expect("the kernel is ours");
}

/// Links the program without further flags, as the author of an application would.
#[test]
fn a_static_library_in_a_program() {
    let kernel = Kernel { define: &[], offset: 0 };
    kernel.check("program-bfd", "ld.bfd --gc-sections -static", ALL);
    kernel.check("program-lld", "ld.lld --gc-sections -static", LIVE);
    kernel.check("program-mold", "mold --gc-sections -static", ALL);
}

/// Measures what a function that nobody calls costs if its site keeps it, and checks that each mend
/// of docs/linking.md takes all of that away. Prints the table that is shown there:
///
/// `cargo test --features inspect --test adopters cost -- --nocapture`
#[test]
fn cost_of_functions_that_nobody_calls() {
    /// A linker's padding may differ by so many bytes.
    const PADDING: u64 = 256;
    let kernel = Kernel { define: &[], offset: 0 };
    let (root, [library, _]) = parts();
    let interface = scratch().join("interface.o");
    let line = "ld.bfd -r --whole-archive --gc-sections -z start-stop-gc --unique=patchlet_sites";
    let mut words = line.split_whitespace();
    let mut first = Command::new(words.next().expect("the linker's name"));
    first.args(words).args(["-u", "kernel_boot"]);
    succeed(first.arg(library).arg("-o").arg(&interface));

    println!("linker  text  with the mend  without the library's dead functions");
    for (linker, mend, keeps) in
        [("ld.bfd", Some("-z start-stop-gc"), true), ("ld.lld", None, false), ("mold", None, true)]
    {
        let text = |flags: &str, library: &Path| {
            let program = scratch().join(format!("cost-{linker}"));
            let line = format!("{linker} --gc-sections -static {flags}");
            kernel.link(root, &line, library, 0, &program);
            size_of_text(&program)
        };
        let (plain, small) = (text("", library), text("", &interface));
        let mended = mend.map(|flags| text(flags, library));
        let words = mended.map_or("–".to_owned(), |mended| mended.to_string());
        println!("{linker:7} {plain}  {words}  {small}");
        if keeps {
            // What prints a fraction is not less than 4 KiB.
            assert!(plain > small + 4096, "{linker}: {plain} and {small}");
        } else {
            assert!(plain <= small + PADDING, "{linker}: {plain} and {small}");
        }
        assert!(mended.is_none_or(|mended| mended <= small + PADDING), "{linker}: {mended:?}");
    }
}

/// Returns the number of bytes in the executable sections of a program.
fn size_of_text(program: &Path) -> u64 {
    let bytes = fs::read(program).expect("the program was linked");
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("an ELF file");
    let text = file.sections().filter(|section| section.kind() == SectionKind::Text);
    text.map(|section| section.size()).sum()
}

#[test]
fn a_static_pie_without_a_script() {
    let kernel = Kernel { define: &["-DPIE"], offset: LOADED_AT };
    let flags = "--gc-sections -pie --no-dynamic-linker";
    kernel.check("pie-bfd", &format!("ld.bfd {flags} -z start-stop-gc"), LIVE);
    kernel.check("pie-lld", &format!("ld.lld {flags}"), LIVE);
    kernel.check("pie-mold", &format!("mold {flags}"), ALL);
}

/// Links by GNU ld and lld only, since mold accepts no script.
#[test]
fn the_higher_half_by_a_script_with_phdrs() {
    let define = &["-DVIRTUAL_OFFSET=0xffffffff80000000"];
    let kernel = Kernel { define, offset: HIGHER_HALF.wrapping_neg() };
    for linker in ["ld.bfd", "ld.lld"] {
        let line = format!("{linker} --gc-sections -T higher_half.ld");
        kernel.check(&format!("higher-{linker}"), &line, LIVE);
    }
}

//! The other constructions in C alone: `c/patch.c` and `c/main.c` under gcc and clang, with and
//! without LTO, at every optimization level, with every linker.

use std::process::Command;

use super::command::run;
use super::support::table::Width;
use super::verdict::{Case, Verdict, examine};

/// Flags that choose the construction, and its words.
const CONSTRUCTIONS: [(&[&str], &str); 3] = [
    (&["-DASM"], "top-level `asm`, global labels"),
    (&["-DASM", "-DLOCAL"], "top-level `asm`, no `.globl`"),
    (&["-DHEX"], "hex table"),
];

/// A compiler, its LTO flags, and the linkers that can read its objects then.
type Toolchain = (&'static str, &'static [&'static str], &'static [&'static str]);

const TOOLCHAINS: [Toolchain; 5] = [
    ("gcc", &[], &["bfd", "lld", "mold"]),
    ("gcc", &["-flto"], &["bfd", "mold"]),
    ("gcc", &["-flto", "-flto-partition=max"], &["bfd", "mold"]),
    ("clang", &[], &["bfd", "lld", "mold"]),
    ("clang", &["-flto"], &["bfd", "lld", "mold"]),
];

/// Returns all cases in C.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (construction, words) in CONSTRUCTIONS {
        for (compiler, lto, linkers) in TOOLCHAINS {
            for width in [Width::Bits64, Width::Bits32] {
                for opt in ["-O0", "-O1", "-O2", "-O3", "-Os", "-Oz"] {
                    for linker in linkers {
                        let flags = [construction, lto, &[opt]].concat();
                        let row = format!("C, {compiler} {}, {words}", lto.join(" "));
                        let row = row.replace(" ,", ",");
                        cases.push(case(row, compiler, flags, width, linker));
                    }
                }
            }
        }
    }
    cases
}

fn case(
    row: String,
    compiler: &'static str,
    flags: Vec<&'static str>,
    width: Width,
    linker: &'static str,
) -> Case {
    let bits = if width == Width::Bits64 { "-m64" } else { "-m32" };
    Case {
        row,
        name: format!("{compiler} {bits} {} -fuse-ld={linker}", flags.join(" ")),
        size: flags.len(),
        build: Box::new(move |tools, folder, log| {
            let program = folder.join("c-main");
            // Each as a file of its own, as in a kernel; one folder per worker.
            let object = |name: &str, log: &mut Vec<String>| {
                let object = folder.join(format!("{name}.o"));
                let mut command = Command::new(compiler);
                command.arg(bits).args(&flags).args(["-ffreestanding", "-fno-pie", "-c"]);
                command.args(["-fno-stack-protector", "-fno-asynchronous-unwind-tables"]);
                command.arg(tools.root.join(format!("tests/programs/rivals/c/{name}.c")));
                run(command.arg("-o").arg(&object), log).map(|()| object)
            };
            let link = || {
                // The entry is assembly: a linker knows of no use of C code that only
                // its own option names, and LTO takes it away.
                let start = folder.join("c-start.o");
                let source = tools.root.join("tests/programs/matrix/program/start.S");
                let mut command = Command::new("gcc");
                command.arg(bits).arg("-c").arg(source);
                run(command.arg("-o").arg(&start), log)?;
                let objects = [start, object("patch", log)?, object("main", log)?];
                let mut command = Command::new(compiler);
                command.arg(bits).args(&flags).args(["-nostdlib", "-static", "-no-pie"]);
                command.arg(format!("-fuse-ld={linker}"));
                command.arg("-Wl,--gc-sections");
                run(command.args(&objects).arg("-o").arg(&program), log)
            };
            if let Err(reason) = { link }() {
                return Verdict::NotBuilt(reason);
            }
            examine(&program, width, true, |_, hex| hex.to_owned())
        }),
    }
}

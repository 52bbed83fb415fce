//! Builds the program of one configuration. It calls rustc and the assemblers directly, because
//! cargo would take longer than they do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::run;
use super::factors::Config;
use super::tools::{TARGETS, Tools};

/// Where the program is linked to with the place `high`.
pub const HIGH: &str = "0xffffffff80100000";
/// And with `script`.
const LOW: &str = "0x400000";

/// Returns the target triple that rustc builds for.
fn target(config: &Config) -> &'static str {
    TARGETS[usize::from(!config.is("width", "64"))]
}

/// Builds in `folder`, which exists; the program comes back. `log` gets every
/// command.
///
/// # Errors
/// The command that failed and what it said.
pub fn build(
    tools: &Tools,
    config: &Config,
    folder: &Path,
    log: &mut Vec<String>,
) -> Result<PathBuf, String> {
    let root = &tools.root;
    let program = root.join("tests/programs/matrix/program");
    let part = CPart { source: program.join("part.c"), flags: &[] };
    let builder = Builder { tools, config, folder, part };
    let width = config.get("width");

    let assembly = root.join(format!("asm/patch_{width}.S"));
    builder.archive("patchlet_asm", &builder.assemble(&assembly, "patch.o", &[], log)?, log)?;
    let by_feature = root.join(format!("asm/cpu_{width}.S"));
    let by_feature = builder.assemble(&by_feature, "cpu.o", &["-DPATCHLET_OPTIONAL"], log)?;
    builder.archive("patchlet_cpu_asm", &by_feature, log)?;
    builder.archive("own", &builder.assemble(&program.join("own.S"), "own.o", &[], log)?, log)?;
    let start = builder.assemble(&program.join("start.S"), "start.o", &[], log)?;

    let mut patchlet = builder.rustc("patchlet", "lib");
    // As the build script says, which has assembled them for this target.
    patchlet.args(["--cfg", "patchlet_assembled"]);
    patchlet.arg(root.join("src/lib.rs")).args(["-l", "static:+whole-archive=patchlet_asm"]);
    patchlet.args(["-l", "static=patchlet_cpu_asm"]);
    // The messages of `cargo build` are enough.
    run(patchlet.args(["--cap-lints", "allow"]), log)?;

    let mut second = builder.rustc("second", "lib");
    second.arg(program.join("second.rs")).args(["-l", "static:+whole-archive=own"]);
    run(second.arg("--extern").arg(builder.rlib("patchlet")), log)?;

    let binary = folder.join("main");
    let mut main = builder.rustc("main", "bin");
    main.arg(program.join("main.rs")).arg("-o").arg(&binary);
    main.args(["--check-cfg", "cfg(with_c)"]);
    main.arg("--extern").arg(builder.rlib("patchlet"));
    main.arg("--extern").arg(builder.rlib("second"));
    builder.link(&mut main, &start, log)?;
    run(&mut main, log)?;
    Ok(binary)
}

/// The C part of a program, where the configuration has one.
#[derive(Clone, Debug)]
pub struct CPart {
    pub source: PathBuf,
    pub flags: &'static [&'static str],
}

/// Builds a program of one source file, `start.S` and this C part, with this
/// `--cfg`, the same way otherwise.
///
/// # Errors
/// The command that failed and what it said.
#[allow(dead_code, reason = "for the other constructions, in tests/programs/rivals")]
pub fn build_single(
    tools: &Tools,
    config: &Config,
    folder: &Path,
    (source, cfg, part): (&Path, &str, &CPart),
    log: &mut Vec<String>,
) -> Result<PathBuf, String> {
    let builder = Builder { tools, config, folder, part: part.clone() };
    let start = tools.root.join("tests/programs/matrix/program/start.S");
    let start = builder.assemble(&start, "start.o", &[], log)?;
    let binary = folder.join("main");
    let mut main = builder.rustc("main", "bin");
    main.arg(source).arg("-o").arg(&binary).args(["--cfg", cfg, "-A", "warnings"]);
    builder.link(&mut main, &start, log)?;
    run(&mut main, log)?;
    Ok(binary)
}

struct Builder<'a> {
    tools: &'a Tools,
    config: &'a Config,
    folder: &'a Path,
    part: CPart,
}

impl Builder<'_> {
    fn rlib(&self, name: &str) -> String {
        format!("{name}={}/lib{name}.rlib", self.folder.display())
    }

    /// Returns a compiler with the flags that every run for the target needs.
    fn compiler(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        let (width, triple) = match self.config.get("width") {
            "64" => ("-m64", "--target=x86_64-unknown-none-elf"),
            _ => ("-m32", "--target=i686-unknown-none-elf"),
        };
        command.arg(width);
        if name == "clang" {
            command.arg(triple);
        }
        command
    }

    fn assemble(
        &self,
        source: &Path,
        object: &str,
        flags: &[&str],
        log: &mut Vec<String>,
    ) -> Result<PathBuf, String> {
        let object = self.folder.join(object);
        let mut command = self.compiler(self.config.get("assembler"));
        if self.config.is("place", "pie") {
            command.arg("-DPIE");
        }
        command.args(flags).arg("-c").arg(source).arg("-o").arg(&object);
        run(command.arg("-I").arg(self.tools.root.join("asm")), log)?;
        Ok(object)
    }

    fn archive(&self, name: &str, object: &Path, log: &mut Vec<String>) -> Result<(), String> {
        let archive = self.folder.join(format!("lib{name}.a"));
        // It would be added to.
        let _ = fs::remove_file(&archive);
        run(Command::new("ar").arg("crs").arg(&archive).arg(object), log)
    }

    fn rustc(&self, name: &str, kind: &str) -> Command {
        let config = self.config;
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "--crate-name", name, "--crate-type", kind]);
        command.args(["--target", target(config), "-C", "panic=abort"]);
        command.args(["-C", "debuginfo=line-tables-only"]);
        let mut codegen = |option: &str| {
            command.arg("-C").arg(option);
        };
        codegen(&format!("opt-level={}", config.get("opt")));
        codegen(&format!("codegen-units={}", config.get("units")));
        codegen(&format!("debug-assertions={}", config.get("debug-assertions")));
        codegen(&format!("overflow-checks={}", config.get("overflow-checks")));
        let relocation = if config.is("place", "pie") { "pic" } else { "static" };
        codegen(&format!("relocation-model={relocation}"));
        if !config.is("code-model", "default") {
            codegen(&format!("code-model={}", config.get("code-model")));
        }
        match (config.get("lto"), kind) {
            ("plugin", _) => codegen("linker-plugin-lto"),
            (lto, "bin") => codegen(&format!("lto={lto}")),
            _ => {}
        }
        if config.is("struct-layout", "random") {
            // Stable has it too, for those who ask like this.
            command.env("RUSTC_BOOTSTRAP", "1");
            command.args(["-Z", "randomize-layout", "-Z", "layout-seed=20190425"]);
        }
        command.arg("--out-dir").arg(self.folder).arg("-L").arg(self.folder);
        command
    }

    /// Adds all arguments of the link.
    fn link(&self, main: &mut Command, start: &Path, log: &mut Vec<String>) -> Result<(), String> {
        let config = self.config;
        let linker = config.get("linker");
        let flavor = if matches!(linker, "ld.lld" | "rust-lld") { "ld.lld" } else { "ld" };
        main.arg("-C").arg(format!("linker={linker}"));
        main.arg("-C").arg(format!("linker-flavor={flavor}"));
        main.arg("-C").arg(format!("strip={}", config.get("strip")));

        let mut arguments = vec![start.display().to_string()];
        let mut add = |argument: &str| arguments.push(argument.to_owned());
        if config.is("width", "32") {
            add("-melf_i386");
        }
        match config.get("place") {
            // The kernel maps it; nobody else loads it.
            "pie" => add("--no-dynamic-linker"),
            "static" => {}
            place => {
                let root = &self.tools.root;
                // The folder first: GNU ld looks for what a script includes at once.
                add(&format!("-L{}", root.join("asm").display()));
                let script = root.join("tests/programs/matrix/program/program.ld");
                add(&format!("--script={}", script.display()));
                let base = if place == "high" { HIGH } else { LOW };
                add(&format!("--defsym=MATRIX_BASE={base}"));
            }
        }
        match config.get("gc") {
            "off" => add("--no-gc-sections"),
            "sections" => add("--gc-sections"),
            _ => {
                add("--gc-sections");
                add("-zstart-stop-gc");
            }
        }
        if config.is("icf", "all") {
            add("--icf=all");
        }
        if config.is("link-opt", "O2") {
            add("-O2");
        }
        if !config.is("c", "none") {
            main.args(["--cfg", "with_c"]);
            add(&self.c_part(log)?.display().to_string());
            self.plugin(main, &mut arguments);
        }
        for argument in arguments {
            main.arg("-C").arg(format!("link-arg={argument}"));
        }
        Ok(())
    }

    fn c_part(&self, log: &mut Vec<String>) -> Result<PathBuf, String> {
        let config = self.config;
        let (compiler, lto) = match config.get("c").split_once('-') {
            Some((compiler, _)) => (compiler, true),
            None => (config.get("c"), false),
        };
        let object = self.folder.join("part.o");
        let mut command = self.compiler(compiler);
        command.args(["-ffreestanding", "-fno-stack-protector", "-mgeneral-regs-only"]);
        let opt = config.get("opt");
        command.arg(format!("-O{opt}"));
        command.arg(if config.is("place", "pie") { "-fpie" } else { "-fno-pie" });
        if config.is("place", "high") {
            command.arg("-mcmodel=kernel");
        }
        if lto {
            command.arg("-flto");
        }
        command.args(self.part.flags).arg("-c").arg(&self.part.source);
        run(command.arg("-o").arg(&object), log)?;
        Ok(object)
    }

    /// Makes the linker load the plugin that reads the objects of the C part, if they are not of
    /// the linker's own kind.
    fn plugin(&self, main: &mut Command, arguments: &mut Vec<String>) {
        let takes_plugins = matches!(self.config.get("linker"), "ld" | "mold");
        let tools = self.tools;
        match self.config.get("c") {
            "gcc-lto" => {
                arguments.extend(["-plugin".to_owned(), tools.gcc_plugin.clone()]);
                arguments.push(format!("-plugin-opt={}", tools.gcc_wrapper));
                let resolution = self.folder.join("part.res");
                arguments.push(format!("-plugin-opt=-fresolution={}", resolution.display()));
                // gcc tells its plugin about itself by these.
                let width = if self.config.is("width", "64") { "-m64" } else { "-m32" };
                main.env("COLLECT_GCC", "gcc");
                main.env("COLLECT_GCC_OPTIONS", format!("'{width}'"));
            }
            "clang-lto" if takes_plugins => {
                arguments.extend(["-plugin".to_owned(), tools.llvm_plugin.clone()]);
            }
            _ => {}
        }
    }
}

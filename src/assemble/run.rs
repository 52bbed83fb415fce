//! Runs the compiler on a `.S` file, and finds out which files it read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Assembly;
use super::error::{AssembleError, io, one_line};
use super::target::{BuildTarget, TargetWidth};
use super::tracking;

impl Assembly {
    /// Assembles the source into `object`. Returns every file that was read.
    pub(super) fn assemble(
        &self,
        object: &Path,
        target: &BuildTarget,
    ) -> Result<Vec<PathBuf>, AssembleError> {
        if !self.source.exists() {
            return Err(AssembleError::Io {
                path: self.source.clone(),
                reason: "no such file".into(),
            });
        }
        let mut build = target.build();
        // The default flags of `cc` (optimization, debug information, PIC) do not change the
        // result, and a CC that only assembles might not know them.
        build.no_default_flags(true).warnings(false).includes(&self.include);
        let tool = build
            .try_get_compiler()
            .map_err(|error| AssembleError::Compiler { reason: one_line(&error.to_string()) })?;
        let mut compiler = tool.to_command();
        // Without its default flags, `cc` does not pass on the target either. gcc is built for one
        // architecture and needs only the width. clang needs the target.
        let (flag, triple) = match target.width {
            TargetWidth::Bits32 => ("-m32", "--target=i686-unknown-none-elf"),
            TargetWidth::Bits64 => ("-m64", "--target=x86_64-unknown-none-elf"),
        };
        compiler.arg(flag);
        if tool.is_like_clang() {
            compiler.arg(triple);
        }
        // patchlet.h goes by the compiler's default only where this is not defined.
        let tracked = u8::from(tracking::is_on(tool.args()));
        compiler.arg(format!("-DPATCHLET_IBT={tracked}"));
        if self.optional {
            compiler.arg("-DPATCHLET_OPTIONAL");
        }

        let headers = object.with_extension("d");
        let included = object.with_extension("included.d");
        let mut command = copy(&compiler);
        command.arg("-c").arg(&self.source).arg("-o").arg(object);
        // Two lists of files: the preprocessor writes that of `#include` to `headers`, GNU as that
        // of `.include` and `.incbin` to `included`. The flags for GNU as go by -Xassembler,
        // since `-Wa,` would split a path that has a comma.
        command.arg("-MD").arg("-MF").arg(&headers);
        let _ = fs::remove_file(&included);
        if !tool.is_like_clang() {
            command.args(["-Xassembler", "--MD", "-Xassembler"]).arg(&included);
        }
        self.run(command, tool.path())?;

        let list = fs::read_to_string(&headers).map_err(|error| io(&headers, &error))?;
        let mut inputs = parse_rule(&list);
        match fs::read_to_string(&included) {
            // The list of GNU as also names the preprocessor's temporary file, which is deleted.
            Ok(list) => inputs.extend(parse_rule(&list).into_iter().filter(|path| path.exists())),
            // LLVM's assembler writes no such list, and a compiler cache does not restore it. The
            // directives are then looked up in the preprocessed source.
            Err(_) => {
                let mut command = copy(&compiler);
                command.arg("-E").arg(&self.source);
                let text = self.run(command, tool.path())?;
                self.find_included(&text, &mut inputs);
            }
        }
        Ok(inputs)
    }

    /// Runs a compiler. Returns what it printed to standard output.
    fn run(&self, mut command: Command, compiler: &Path) -> Result<String, AssembleError> {
        let output = command.output().map_err(|error| {
            let program = Path::new(command.get_program());
            if program == compiler {
                return AssembleError::Compiler {
                    reason: format!("`{}`: {error}", compiler.display()),
                };
            }
            AssembleError::Wrapper {
                wrapper: program.to_owned(),
                compiler: compiler.to_owned(),
                reason: error.to_string(),
            }
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut reason = first_complaint(&String::from_utf8_lossy(&output.stderr));
        if reason.is_empty() {
            reason = format!("`{}` ended with {}", compiler.display(), output.status);
        }
        let text = fs::read_to_string(&self.source).unwrap_or_default();
        if let Some(missing) = find_unpaired(&text) {
            reason += &format!("; is {missing} missing?");
        }
        Err(AssembleError::Assembler { source: self.source.clone(), reason })
    }

    /// Adds to `inputs` the files that preprocessed assembly takes in by `.include` and `.incbin`,
    /// and the files that these take in.
    fn find_included(&self, text: &str, inputs: &mut Vec<PathBuf>) {
        for name in text.lines().filter_map(included_name) {
            if name.contains('\\') {
                // The name contains an argument of a macro, which only the assembler expands.
                println!(
                    "cargo::warning=patchlet: {}: {name:?} is pulled in by a macro, and this \
                     assembler does not tell which file that is: print a line \
                     cargo::rerun-if-changed for it in the build script",
                    self.source.display()
                );
                continue;
            }
            // Like both assemblers, look in the current folder first.
            let folders =
                std::iter::once(Path::new("")).chain(self.include.iter().map(AsRef::as_ref));
            let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
            let Some(path) = found.filter(|path| !inputs.contains(path)) else { continue };
            inputs.push(path.clone());
            // A file of `.incbin` is data. A line in it that looks like one of these directives
            // adds a file too many at worst.
            if let Ok(text) = fs::read_to_string(path) {
                self.find_included(&text, inputs);
            }
        }
    }
}

/// Returns a copy of a command with its program, arguments and environment.
fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    copy
}

/// Returns the quoted name in a line with `.include` or `.incbin`, or `None` for another line.
fn included_name(line: &str) -> Option<&str> {
    // After preprocessing, a line that starts with `#` is a comment or a line marker.
    if line.trim_start().starts_with('#') {
        return None;
    }
    let rest = [".include", ".incbin"].iter().find_map(|word| Some(line.split_once(word)?.1))?;
    rest.trim_start().strip_prefix('"')?.split('"').next()
}

/// Returns the first line of a compiler's messages that has "error:", or else all lines as one.
///
/// gcc and clang put the file and line before that word. For an error in a macro it is the line of
/// the macro. The lines behind the error then say where the macro was used, the outermost use
/// last; that place is added.
fn first_complaint(stderr: &str) -> String {
    let is_error = |line: &&str| line.to_ascii_lowercase().contains("error:");
    let mut lines = stderr.lines().skip_while(|line| !is_error(line));
    let Some(first) = lines.next() else { return one_line(stderr) };
    let used_at = lines
        .take_while(|line| !is_error(line))
        .filter(|line| line.contains("macro invoked") || line.contains("macro instantiation"))
        .filter_map(|line| line.split_once(": "))
        .last();
    match used_at {
        Some((place, _)) => format!("{} (by the macro at {place})", one_line(first)),
        None => one_line(first),
    }
}

/// Returns the first PATCHLET or END_PATCHLET, of a patchlet or a blob, that is missing in a source.
/// Where the two are not paired, the message of the assembler is about something else.
fn find_unpaired(source: &str) -> Option<String> {
    let argument = |line: &str, name: &str| {
        let rest = line.trim_start().strip_prefix(name)?;
        Some(rest.trim_start().strip_prefix('(')?.split_once(')')?.0.trim().to_owned())
    };
    // For a blob and for a patchlet: what begins it, and what ends it.
    let macros = [
        ("PATCHLET", ["END_PATCHLET", "END_PATCHLET_JUMP"]),
        ("PATCHLET_BLOB", ["END_PATCHLET_BLOB"; 2]),
    ];
    let mut open: Option<(&str, String)> = None;
    for line in source.lines() {
        for (begin, ends) in macros {
            if let Some(name) = argument(line, begin) {
                if let Some((begin, before)) = open.replace((begin, name)) {
                    return Some(format!("END_{begin}({before})"));
                }
            } else if let Some(name) = ends.iter().find_map(|end| argument(line, end)) {
                match open.take() {
                    None => return Some(format!("{begin}({name})")),
                    Some(before) if before != (begin, name) => {
                        return Some(format!("END_{}({})", before.0, before.1));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    open.map(|(begin, name)| format!("END_{begin}({name})"))
}

/// Returns the prerequisites of a make rule, `object: a b \`, as gcc, clang and GNU as write it.
///
/// In a name they write a space as `\ `, `#` as `\#` (GNU as writes `#`) and `$` as `$$`.
/// Backslashes before such a character are doubled: the name `a\ b` becomes `a\\\ b`.
fn parse_rule(rule: &str) -> Vec<PathBuf> {
    // The rule's colon is the first with white space behind it: the object's name may have a
    // colon, and a space in it has a backslash before it.
    let names = rule
        .match_indices(':')
        .map(|(at, _)| &rule[at + 1..])
        .find(|rest| rest.starts_with(|c: char| c.is_whitespace()))
        .unwrap_or_default();
    let mut files = Vec::new();
    let mut name = String::new();
    let mut rest = names;
    while let Some(c) = rest.chars().next() {
        let backslashes = rest.len() - rest.trim_start_matches('\\').len();
        let behind = &rest[backslashes..];
        if backslashes % 2 == 1 && behind.starts_with(['\n', '\r']) {
            // A single backslash at the end of a line continues the rule.
            rest = behind;
        } else if backslashes > 0 {
            let quoted = behind.starts_with([' ', '\t', '#']);
            let literal = if quoted { backslashes / 2 } else { backslashes };
            name.extend(std::iter::repeat_n('\\', literal));
            rest = behind;
            if quoted && backslashes % 2 == 1 {
                name.push_str(&behind[..1]);
                rest = &behind[1..];
            }
        } else if let Some(behind) = rest.strip_prefix("$$") {
            name.push('$');
            rest = behind;
        } else if c.is_whitespace() {
            if !name.is_empty() {
                files.push(PathBuf::from(std::mem::take(&mut name)));
            }
            rest = &rest[c.len_utf8()..];
        } else {
            name.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if !name.is_empty() {
        files.push(PathBuf::from(name));
    }
    files
}

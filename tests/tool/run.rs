//! Calls the tool as a function, and returns what it printed and its exit status.

use std::path::{Path, PathBuf};
use std::{env, fs};

use patchlet::inspect::{Exit, Finding, Model, Reference, Terminal, parse, run, verify};

/// The results of a run of the tool.
#[derive(Debug)]
pub struct Output {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

/// Runs the tool as in a pipe: without colour, with lines of any length.
pub fn tool<A: AsRef<str>>(arguments: &[A]) -> Output {
    on_terminal(arguments, false, None)
}

pub fn on_terminal<A: AsRef<str>>(arguments: &[A], colour: bool, width: Option<usize>) -> Output {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned());
    let mut terminal = Terminal::new(&mut out, &mut err);
    (terminal.colour, terminal.width) = (colour, width);
    let exit = run(["patchlet".to_owned()].into_iter().chain(arguments), &mut terminal);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Output { exit, out: text(out), err: text(err) }
}

/// Writes a file for the tool to read, in a folder of this test's own. Returns its path.
pub fn file(test: &str, name: &str, bytes: &[u8]) -> String {
    let folder = folder(test);
    let path = folder.join(name);
    fs::write(&path, bytes).expect("a file below CARGO_TARGET_TMPDIR");
    path.to_str().expect("UTF-8").to_owned()
}

/// Returns a folder of this test's own. Files of earlier runs may still be in it.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inspect").join(test);
    fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
    folder
}

/// Returns all findings of `verify` in these bytes.
pub fn findings(bytes: &[u8]) -> Vec<Finding> {
    let image = parse(bytes).unwrap_or_else(|error| panic!("{error}"));
    let model = Model::new(image).unwrap_or_else(|error| panic!("{error}"));
    verify(&model, &Reference::native(&model), &mut |_, _| ()).sorted()
}

/// Compares a text with `tests/golden/<name>`. With `BLESS=1` in the environment, writes the text
/// to that file instead.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    if wanted != text {
        let line = wanted.lines().zip(text.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or(wanted.lines().count().min(text.lines().count()));
        panic!(
            "{} differs from line {} on:\n  golden: {:?}\n  found:  {:?}\n`make bless` takes the new text",
            path.display(),
            line + 1,
            wanted.lines().nth(line),
            text.lines().nth(line)
        );
    }
}

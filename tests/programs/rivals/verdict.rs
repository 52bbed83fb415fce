//! The verdict about one program of another construction.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};

use super::support::table::{Width, native};
use super::tools::Tools;

/// Builds a program and looks at it.
type Build = Box<dyn Fn(&Tools, &Path, &mut Vec<String>) -> Verdict + Send + Sync>;

/// One program.
pub struct Case {
    /// The row of the table that it counts for.
    pub row: String,
    /// What it is, for the result file and to repeat it.
    pub name: String,
    /// How many things about it are not as plain as can be.
    pub size: usize,
    pub build: Build,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It could not be built, for this reason.
    NotBuilt(String),
    Built(Findings),
}

/// What is left of the sequences in the program.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    /// The running program has the right bytes and lengths. `None`: it cannot run.
    pub inside: Option<bool>,
    /// All of them are in a loaded section, one behind the other, in order.
    pub in_one_piece: bool,
    /// Every sequence of three bytes or more is somewhere in a loaded section.
    pub somewhere: bool,
    /// Symbols say where each is. `None`: the symbols were stripped.
    pub named: Option<bool>,
}

impl Verdict {
    /// Returns whether the program does what it should when it runs, which is the least that is
    /// asked.
    pub fn is_good(&self) -> bool {
        matches!(self, Verdict::Built(findings) if findings.inside != Some(false))
    }

    /// Returns what is wrong with the program, in words. Messages of tools are given without names.
    fn weak(&self) -> Vec<String> {
        let findings = match self {
            Verdict::NotBuilt(reason) => {
                let undefined = reason.contains("undefined ");
                let kind = if undefined { "undefined symbols" } else { reason };
                return vec![format!("not built: {kind}")];
            }
            Verdict::Built(findings) => findings,
        };
        let mut weak = Vec::new();
        let mut add = |is: bool, what: &str| {
            if is {
                weak.push(what.to_owned());
            }
        };
        add(findings.inside == Some(false), "wrong when run");
        add(!findings.in_one_piece && findings.somewhere, "in pieces, or not in source order");
        add(!findings.somewhere, "bytes nowhere in the binary");
        add(findings.named == Some(false), "not named, though it has symbols");
        weak
    }

    pub fn json(&self, case: &Case) -> String {
        let result = match self {
            Verdict::NotBuilt(reason) => format!("\"not built\": {reason:?}"),
            Verdict::Built(findings) => {
                let tri = |value: Option<bool>| {
                    value.map_or("null", |value| if value { "true" } else { "false" })
                };
                format!(
                    "\"inside\": {}, \"in one piece\": {}, \"somewhere\": {}, \"named\": {}",
                    tri(findings.inside),
                    findings.in_one_piece,
                    findings.somewhere,
                    tri(findings.named)
                )
            }
        };
        format!("{{\"program\": {:?}, {result}}}", format!("{}: {}", case.row, case.name))
    }
}

/// Returns the sequences of the programs in `rust/` and `c/`, in their order: the native set
/// without those that they leave out, and `swapgs` last.
pub fn sequences(width: Width) -> Vec<(&'static str, Vec<u8>)> {
    let left_out = [
        "wbinvd",
        "ident_64",
        "queued_spin_unlock",
        "vcpu_is_preempted",
        "ud2",
        "safe_halt",
        "halt",
    ];
    let mut rows = native(width);
    rows.retain(|row| !left_out.contains(&row.name));
    rows.sort_by_key(|row| row.name == "swapgs");
    rows.into_iter().map(|row| (row.name, row.bytes)).collect()
}

/// Looks at a program, and runs it if it can run; `prints` makes a line for a
/// sequence.
pub fn examine(
    program: &Path,
    width: Width,
    run: bool,
    prints: impl Fn(&str, &str) -> String,
) -> Verdict {
    let Ok(file) = fs::read(program) else {
        return Verdict::NotBuilt("there is no program".to_owned());
    };
    let Ok(file) = object::File::parse(&*file) else {
        return Verdict::NotBuilt("the program is no ELF file".to_owned());
    };
    let sequences = sequences(width);
    let loaded: Vec<&[u8]> = file
        .sections()
        .filter(|section| {
            matches!(section.flags(), SectionFlags::Elf { sh_flags, .. }
                if sh_flags.contains(elf::SHF_ALLOC))
        })
        .filter_map(|section| section.data().ok())
        .collect();
    let has = |bytes: &[u8]| {
        loaded.iter().any(|data| data.windows(bytes.len()).any(|window| window == bytes))
    };
    let all: Vec<u8> = sequences.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let symbols: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    let named = |name: &str| {
        let own = [format!("start_{name}"), format!("end_{name}")];
        symbols.contains(&"patch_data_xxl")
            || own.iter().all(|label| symbols.contains(&label.as_str()))
    };
    Verdict::Built(Findings {
        inside: run.then(|| {
            let output = Command::new("timeout").arg("20").arg(program).output();
            output.is_ok_and(|output| {
                let text = String::from_utf8_lossy(&output.stdout);
                let hex =
                    |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
                let expected = sequences.iter().map(|(name, bytes)| prints(name, &hex(bytes)));
                let said = text.lines().filter(|line| !line.starts_with("end"));
                output.status.success()
                    && said.map(without_address).eq(expected.map(|line| without_address(&line)))
            })
        }),
        in_one_piece: has(&all),
        somewhere: sequences.iter().all(|(_, bytes)| bytes.len() < 3 || has(bytes)),
        named: (!symbols.is_empty()).then(|| sequences.iter().all(|(name, _)| named(name))),
    })
}

/// Returns a line `native NAME ADDRESS BYTES` without the address, which may differ.
fn without_address(line: &str) -> String {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["native", name, _, bytes] => format!("{name} {bytes}"),
        ["native", name, _] => format!("{name} nothing"),
        _ => line.trim().to_owned(),
    }
}

/// A row of the table.
#[derive(Debug, Default)]
pub struct Counts {
    pub all: usize,
    built: usize,
    run: usize,
    right: usize,
    in_one_piece: usize,
    somewhere: usize,
    with_symbols: usize,
    named: usize,
    /// What is not as it should be: how often, and where.
    pub weak: BTreeMap<String, Weak>,
}

/// One thing that is not as it should be.
#[derive(Debug, Default)]
pub struct Weak {
    pub count: usize,
    /// The smallest program with it, and its size.
    pub smallest: String,
    size: usize,
}

/// The head of the table.
pub const HEAD: &str = "\
| construction | built | right when run | in one piece, in source order | bytes anywhere in the binary | named by symbols, unless stripped |
|---|---|---|---|---|---|";

impl Counts {
    pub fn add(&mut self, case: &Case, verdict: &Verdict) {
        self.all += 1;
        for what in verdict.weak() {
            let weak = self.weak.entry(what).or_default();
            weak.count += 1;
            if weak.count == 1 || case.size < weak.size {
                (weak.smallest, weak.size) = (case.name.clone(), case.size);
            }
        }
        match verdict {
            Verdict::NotBuilt(_) => {}
            Verdict::Built(findings) => {
                self.built += 1;
                self.run += usize::from(findings.inside.is_some());
                self.right += usize::from(findings.inside == Some(true));
                self.in_one_piece += usize::from(findings.in_one_piece);
                self.somewhere += usize::from(findings.somewhere);
                self.with_symbols += usize::from(findings.named.is_some());
                self.named += usize::from(findings.named == Some(true));
            }
        }
    }

    pub fn row(&self, name: &str) -> String {
        let Self { all, built, run, right, in_one_piece, somewhere, with_symbols, named, .. } =
            self;
        format!(
            "| {name} | {built} of {all} | {right} of {run} | {in_one_piece} of {built} | \
             {somewhere} of {built} | {named} of {with_symbols} |"
        )
    }
}

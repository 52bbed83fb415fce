//! The command `patchlet explain`: says of the text in a memory dump why it differs from the
//! file. What it says has one shape for all kernels.

use std::path::Path;

use serde::Serialize;

use crate::inspect::explain::{Explained, Explanation, RawAddress, SlideEvidence, Verdict};
use crate::inspect::hex;
use crate::inspect::linux::{self, LinuxKernel, unpack};
use crate::inspect::running::{self, ModuleFile};
use crate::inspect::tool::arguments::ExplainArguments;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::open::{Program, cpu, kind_of, linked, read, read_memory};
use crate::inspect::tool::output::{Stream, count, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

pub(in crate::inspect::tool) fn explain(
    arguments: &ExplainArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let data = read(&arguments.file)?;
    match kind_of(&data) {
        Program::Crate => explain_own(arguments, &data, terminal),
        Program::Linux => explain_linux(arguments, &data, terminal),
    }
}

/// Explains a kernel with this crate.
fn explain_own(
    arguments: &ExplainArguments,
    data: &[u8],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    if arguments.cpu.is_some() {
        let words = "--cpu is for Linux: the slots of this kernel say what its CPU selected";
        return Err(Stop::Failed(format!("{}: {words}", path.display())));
    }
    let model = linked(path, data)?;
    let dump = read_memory(arguments.dump())?;
    let mut objects = vec![];
    for path in &arguments.module {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        objects.push((name, read(path)?));
    }
    let modules: Vec<ModuleFile<'_>> =
        objects.iter().map(|(name, object)| ModuleFile::new(name, object)).collect();
    let all = arguments.all || arguments.json;
    let explanation = running::explain(&model, data, &dump, raw(arguments), &modules, all)
        .map_err(in_file(arguments.dump()))?;
    let kernel = format!("a kernel with patchlet, {}", model.image().words());
    print(arguments, &ExplainedKernel { kernel, release: None, explanation }, terminal)
}

/// Explains a Linux kernel.
fn explain_linux(
    arguments: &ExplainArguments,
    data: &[u8],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    if !arguments.module.is_empty() {
        let words = "--module is for kernels with patchlet: Linux' modules are not compared";
        return Err(Stop::Failed(format!("{}: {words}", path.display())));
    }
    let unpacked = unpack(data).map_err(in_file(path))?;
    let mut kernel = LinuxKernel::new(&unpacked).map_err(in_file(path))?;
    if let Some(words) = &arguments.cpu {
        let cpu = cpu(words, arguments.accel, kernel.width())?;
        kernel = kernel.on_cpu(&cpu).map_err(|error| Stop::Failed(error.to_string()))?;
    }
    let dump = read_memory(arguments.dump())?;
    let explanation =
        linux::explain(&kernel, &dump, raw(arguments), arguments.all || arguments.json)
            .map_err(in_file(arguments.dump()))?;
    let release = kernel.release().map(str::to_owned);
    let words = release.as_deref().unwrap_or("of an unknown release");
    let kernel = format!("Linux {words}, {}", kernel.words());
    print(arguments, &ExplainedKernel { kernel, release, explanation }, terminal)
}

/// Returns the address of the first byte of a dump without a header, if the command line says it.
fn raw(arguments: &ExplainArguments) -> Option<RawAddress> {
    match (arguments.base, arguments.phys) {
        (Some(base), _) => Some(RawAddress::Virtual(base)),
        (None, phys) => phys.map(RawAddress::Physical),
    }
}

/// A kernel that was explained.
struct ExplainedKernel {
    /// What kernel it is, in words.
    kernel: String,
    /// How a Linux kernel calls itself.
    release: Option<String>,
    explanation: Explanation,
}

/// Prints what was found, as text or as JSON.
fn print(
    arguments: &ExplainArguments,
    explained: &ExplainedKernel,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let (path, explanation) = (&arguments.file, &explained.explanation);
    let exit = match explanation.total(Verdict::Unexplained).ranges {
        0 => Exit::Holds,
        _ => Exit::Finding,
    };
    if arguments.json {
        json(path, explained, terminal)?;
        return Ok(exit);
    }
    let heading = format!("{}: {}", path.display(), explained.kernel);
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    for line in notes(explanation) {
        writeln!(terminal.out, "{line}")?;
    }
    if !explanation.list.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("VERDICT"),
            text("CAUSE"),
            text("DEPENDS ON"),
            text("FILE"),
            text("EXPECTED"),
            text("SEEN"),
            text("FUNCTION"),
        ];
        columns::print(terminal, &columns, || explanation.list.iter().map(row))?;
    }
    let columns = [text("CAUSE"), text("VERDICT"), number("RANGES"), number("BYTES")];
    columns::print(terminal, &columns, || {
        explanation.counts.iter().map(|((cause, verdict), count)| {
            let [ranges, bytes] = [count.ranges, count.bytes].map(|number| number.to_string());
            vec![(*cause).to_owned(), verdict.name().to_owned(), ranges, bytes]
        })
    })?;
    let total = |verdict| explanation.total(verdict);
    let unexplained = total(Verdict::Unexplained);
    let verdict = match unexplained.ranges {
        0 => terminal.paint(Paint::Good, "nothing unexplained"),
        ranges => {
            let words = format!("{} unexplained", count(ranges, "range"));
            terminal.paint(Paint::Bad, &words)
        }
    };
    writeln!(
        terminal.out,
        "{} proven, {} allowed: {verdict}",
        count(total(Verdict::Proven).bytes, "byte"),
        count(total(Verdict::Allowed).bytes, "byte"),
    )?;
    Ok(exit)
}

/// Returns what there is to say about how the kernel was found, and about what was not compared.
fn notes(explanation: &Explanation) -> Vec<String> {
    let (found, of) = explanation.pieces;
    let evidence = match explanation.slide_evidence {
        SlideEvidence::Addresses => "by the addresses of the dump".to_owned(),
        SlideEvidence::PageTables => "by the page tables".to_owned(),
        SlideEvidence::Pointers { agree, of } => format!("by {agree} of {of} pointers in data"),
    };
    let mut lines = vec![format!(
        "found by {found} of {of} pieces of its text, moved by {:#x} ({evidence})",
        explanation.slide
    )];
    let pages = if explanation.has_page_tables {
        "the page tables say"
    } else {
        "there are no page tables, so the names of sections say"
    };
    lines.push(format!(
        "{:#x} bytes of text compared; {:#x} cannot be executed any more ({pages})",
        explanation.compared, explanation.not_executable
    ));
    if explanation.missing > 0 {
        lines.push(format!("{:#x} bytes of text are not in the dump", explanation.missing));
    }
    lines.extend_from_slice(&explanation.notes);
    lines
}

fn row(explained: &Explained) -> Vec<String> {
    let Explained { address, function, cause, depends, file, expected, seen, verdict, .. } =
        explained;
    vec![
        format!("{address:#x}"),
        verdict.name().to_owned(),
        (*cause).to_owned(),
        depends.clone(),
        hex::bytes_in_hex(file),
        hex::bytes_in_hex(expected),
        hex::bytes_in_hex(seen),
        function.clone(),
    ]
}

/// Prints all of it as JSON.
fn json(path: &Path, explained: &ExplainedKernel, terminal: &mut Terminal<'_>) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Row<'e> {
        address: String,
        address_in_file: String,
        function: &'e str,
        cause: &'static str,
        depends: &'e str,
        file: String,
        expected: String,
        seen: String,
        verdict: &'static str,
    }
    #[derive(Serialize)]
    struct CountRow {
        cause: &'static str,
        verdict: &'static str,
        ranges: usize,
        bytes: usize,
    }
    #[derive(Serialize)]
    struct Document<'e, S: Serialize> {
        file: String,
        kernel: &'e str,
        release: Option<&'e str>,
        slide: String,
        compared: u64,
        not_executable: u64,
        missing: u64,
        notes: &'e [String],
        counts: Vec<CountRow>,
        list: S,
    }
    let explanation = &explained.explanation;
    let counts = explanation.counts.iter().map(|(&(cause, verdict), count)| CountRow {
        cause,
        verdict: verdict.name(),
        ranges: count.ranges,
        bytes: count.bytes,
    });
    let rows = || {
        explanation.list.iter().map(|of| Row {
            address: format!("{:#x}", of.address),
            address_in_file: format!("{:#x}", of.address_in_file),
            function: &of.function,
            cause: of.cause,
            depends: &of.depends,
            file: hex::bytes_in_hex(&of.file),
            expected: hex::bytes_in_hex(&of.expected),
            seen: hex::bytes_in_hex(&of.seen),
            verdict: of.verdict.name(),
        })
    };
    print_json(
        terminal,
        &Document {
            file: path.display().to_string(),
            kernel: &explained.kernel,
            release: explained.release.as_deref(),
            slide: format!("{:#x}", explanation.slide),
            compared: explanation.compared,
            not_executable: explanation.not_executable,
            missing: explanation.missing,
            notes: &explanation.notes,
            counts: counts.collect(),
            list: Stream(rows),
        },
    )
}

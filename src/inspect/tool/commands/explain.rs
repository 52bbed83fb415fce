//! The command `patchlet explain`: says of the text in a memory dump why it differs from the file.

use std::path::Path;

use serde::Serialize;

use crate::inspect::explain::{Explained, Explanation, RawAddress, SlideEvidence, Verdict};
use crate::inspect::hex;
use crate::inspect::linux::{LinuxKernel, explain as explain_linux, unpack};
use crate::inspect::tool::arguments::ExplainArguments;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::open::{Program, cpu, kind_of, read};
use crate::inspect::tool::output::{Stream, count, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

pub(in crate::inspect::tool) fn explain(
    arguments: &ExplainArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    if kind_of(&data) == Program::Crate {
        let words =
            "kernels with this crate are not compared in memory yet; `verify` compares files";
        return Err(Stop::Failed(format!("{}: {words}", path.display())));
    }
    let unpacked = unpack(&data).map_err(in_file(path))?;
    let mut kernel = LinuxKernel::new(&unpacked).map_err(in_file(path))?;
    if let Some(words) = &arguments.cpu {
        let cpu = cpu(words, arguments.accel, kernel.width())?;
        kernel = kernel.on_cpu(&cpu).map_err(|error| Stop::Failed(error.to_string()))?;
    }
    let dump = read(arguments.dump())?;
    let raw = match (arguments.base, arguments.phys) {
        (Some(base), _) => Some(RawAddress::Virtual(base)),
        (None, phys) => phys.map(RawAddress::Physical),
    };
    let explanation = explain_linux(&kernel, &dump, raw, arguments.all || arguments.json)
        .map_err(in_file(arguments.dump()))?;
    let exit = match explanation.total(Verdict::Unexplained).ranges {
        0 => Exit::Holds,
        _ => Exit::Finding,
    };
    if arguments.json {
        json(path, &kernel, &explanation, terminal)?;
        return Ok(exit);
    }
    let heading = format!(
        "{}: Linux {}, {}",
        path.display(),
        kernel.release().unwrap_or("of an unknown release"),
        kernel.words()
    );
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    for line in notes(&explanation) {
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
fn json(
    path: &Path,
    kernel: &LinuxKernel<'_>,
    explanation: &Explanation,
    terminal: &mut Terminal<'_>,
) -> Result<(), Stop> {
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
        release: Option<&'e str>,
        slide: String,
        compared: u64,
        not_executable: u64,
        missing: u64,
        notes: &'e [String],
        counts: Vec<CountRow>,
        list: S,
    }
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
            release: kernel.release(),
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

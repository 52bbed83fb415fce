//! The command `patchlet explain --oops`: the code that a kernel printed when it crashed, against the
//! kernel's file.

use std::io::Read;
use std::path::Path;

use serde::Serialize;

use crate::inspect::error::FileError;
use crate::inspect::explain::Verdict;
use crate::inspect::hex;
use crate::inspect::linux::{
    CodeLine, ComparedOops, ExplainedLog, LineSign, LinuxKernel, OopsDifference, explain_oopses,
    unpack,
};
use crate::inspect::tool::arguments::ExplainArguments;
use crate::inspect::tool::open::{Program, kind_of, read};
use crate::inspect::tool::output::{count, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

pub(in crate::inspect::tool) fn oops(
    arguments: &ExplainArguments,
    log: &Path,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    if kind_of(&data) == Program::Crate {
        return Err(in_file(path)(FileError::new(
            "a kernel that is patched by this crate: --oops reads the logs of Linux",
        )));
    }
    let unpacked = unpack(&data).map_err(in_file(path))?;
    let kernel = LinuxKernel::new(&unpacked).map_err(in_file(path))?;
    let text = read_log(log)?;
    let explained = explain_oopses(&kernel, &text).map_err(in_file(log))?;
    let exit = match explained.count(Verdict::Unexplained) {
        0 => Exit::Holds,
        _ => Exit::Finding,
    };
    if arguments.json {
        json(path, &kernel, &explained, terminal)?;
        return Ok(exit);
    }
    let heading = format!("{}: {}", path.display(), kernel.heading());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    if let Some(note) = other_release(&kernel, &explained) {
        writeln!(terminal.out, "{note}")?;
    }
    for oops in &explained.oopses {
        let heading = format!("line {}: {}", oops.line, oops.place);
        writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
        match &oops.outcome {
            Ok(compared) => print(compared, terminal)?,
            Err(why) => writeln!(terminal.out, "not compared: {why}")?,
        }
    }
    if explained.unusable > 0 {
        let lines = count(explained.unusable, "oops line");
        writeln!(terminal.out, "{lines} without bytes that can be used")?;
    }
    let [proven, allowed, unexplained] =
        [Verdict::Proven, Verdict::Allowed, Verdict::Unexplained].map(|of| explained.count(of));
    let verdict = match unexplained {
        0 => terminal.paint(Paint::Good, "nothing unexplained"),
        ranges => terminal.paint(Paint::Bad, &format!("{} unexplained", count(ranges, "range"))),
    };
    let oopses = count_oopses(explained.oopses.len());
    writeln!(terminal.out, "{oopses}: {proven} proven, {allowed} allowed: {verdict}")?;
    Ok(exit)
}

/// Returns a number of oopses in words.
fn count_oopses(oopses: usize) -> String {
    if oopses == 1 { "1 oops".to_owned() } else { format!("{oopses} oopses") }
}

/// Reads a log, or standard input for `-`.
fn read_log(path: &Path) -> Result<Vec<u8>, Stop> {
    /// More than a log has that is read for its oopses.
    const LARGEST: u64 = 1 << 30;
    if path != Path::new("-") {
        return Ok(read(path)?.to_vec());
    }
    let mut log = Vec::new();
    let bad = |error: std::io::Error| Stop::Failed(format!("standard input: {error}"));
    std::io::stdin().lock().take(LARGEST).read_to_end(&mut log).map_err(bad)?;
    Ok(log)
}

/// Returns a sentence if the log is of another kernel than the file.
fn other_release(kernel: &LinuxKernel<'_>, explained: &ExplainedLog) -> Option<String> {
    let (log, file) = (explained.release.as_deref()?, kernel.release()?);
    (log != file).then(|| format!("the log is of Linux {log}: this is the file of another kernel"))
}

fn print(compared: &ComparedOops, terminal: &mut Terminal<'_>) -> Result<(), Stop> {
    let (bytes, known) = compared.bytes;
    let moved = match compared.slide {
        Some(slide) => format!("moved by {:#x} ({})", slide.distance, slide.from.words()),
        None => "not known how far it was moved".to_owned(),
    };
    let lost = match bytes - known {
        0 => String::new(),
        lost => format!(", {lost} of them unreadable"),
    };
    writeln!(
        terminal.out,
        "{:#x} in the file, {moved}; {}{lost}",
        compared.address_in_file,
        count(bytes, "byte")
    )?;
    if compared.is_other_file {
        writeln!(
            terminal.out,
            "more than half of the bytes differ: this is probably the file of another build"
        )?;
    }
    let mut shown = None;
    let width = compared.lines.iter().map(|line| 3 * line.bytes.len()).max().unwrap_or(0);
    let mut lines = compared.lines.iter().peekable();
    while let Some(line) = lines.next() {
        // Padding is many instructions that are the same.
        let is_same = |next: &&CodeLine| {
            line.sign == LineSign::Same
                && next.sign == LineSign::Same
                && !next.is_failing
                && next.bytes == line.bytes
        };
        let mut times = 1;
        while !line.is_failing && lines.next_if(is_same).is_some() {
            times += 1;
        }
        let times = if times > 1 { format!(" ×{times}") } else { String::new() };
        let sign = match (line.sign, line.is_failing) {
            (LineSign::Same, false) => ' ',
            (LineSign::Same, true) => '>',
            (LineSign::File, _) => '-',
            (LineSign::Log, _) => '+',
        };
        let running = line.address_in_file.wrapping_add(compared.distance());
        let bytes = hex_of(&line.bytes);
        let text = format!("{sign} {running:#x}  {bytes:width$} {}{times}", line.instruction);
        let text = text.trim_end();
        let text = match line.sign {
            LineSign::Same => text.to_owned(),
            LineSign::File => terminal.paint(Paint::Bad, text),
            LineSign::Log => terminal.paint(Paint::Good, text),
        };
        writeln!(terminal.out, "{text}")?;
        let ends = lines.peek().is_none_or(|next| next.difference != line.difference);
        if ends && shown != line.difference {
            shown = line.difference;
            let difference = shown.and_then(|at| compared.differences.get(at));
            if let Some(difference) = difference {
                explain(difference, terminal)?;
            }
        }
    }
    Ok(())
}

/// Prints what there is to say about a difference.
fn explain(difference: &OopsDifference, terminal: &mut Terminal<'_>) -> Result<(), Stop> {
    /// How many forms are listed.
    const SHOWN: usize = 8;
    let verdict = match difference.verdict {
        Verdict::Unexplained => terminal.paint(Paint::Bad, difference.verdict.name()),
        _ => difference.verdict.name().to_owned(),
    };
    let depends = match &*difference.depends {
        "" => String::new(),
        depends => format!(" ({depends})"),
    };
    let OopsDifference { cause, words, function, .. } = difference;
    writeln!(terminal.out, "    {verdict}: {cause}{depends} at {function}: {words}")?;
    if difference.verdict == Verdict::Unexplained {
        for form in difference.forms.iter().take(SHOWN) {
            let bytes = hex::bytes_in_hex(&form.bytes);
            writeln!(terminal.out, "      can be {bytes}  {}", form.condition)?;
        }
        let more = difference.forms.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(terminal.out, "      and {more} more forms")?;
        }
    }
    Ok(())
}

/// Returns bytes of which some are not known.
fn hex_of(bytes: &[Option<u8>]) -> String {
    let byte = |byte: &Option<u8>| byte.map_or_else(|| "??".to_owned(), |of| format!("{of:02x}"));
    bytes.iter().map(byte).collect::<Vec<_>>().join(" ")
}

fn json(
    path: &Path,
    kernel: &LinuxKernel<'_>,
    explained: &ExplainedLog,
    terminal: &mut Terminal<'_>,
) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Form<'a> {
        bytes: String,
        condition: &'a str,
    }
    #[derive(Serialize)]
    struct Difference<'a> {
        address: String,
        address_in_file: String,
        function: &'a str,
        cause: &'a str,
        depends: &'a str,
        file: String,
        seen: String,
        verdict: &'static str,
        words: &'a str,
        forms: Vec<Form<'a>>,
    }
    #[derive(Serialize)]
    struct Line<'a> {
        sign: &'static str,
        address: String,
        bytes: String,
        instruction: &'a str,
        failing: bool,
    }
    #[derive(Serialize)]
    struct Oops<'a> {
        line: usize,
        place: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_compared: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        address_in_file: Option<String>,
        slide: Option<String>,
        is_other_file: bool,
        differences: Vec<Difference<'a>>,
        code: Vec<Line<'a>>,
    }
    #[derive(Serialize)]
    struct Document<'a> {
        file: String,
        release: Option<&'a str>,
        release_of_log: Option<&'a str>,
        unusable: usize,
        oopses: Vec<Oops<'a>>,
    }
    let difference = |of: &ComparedOops, difference: &'_ OopsDifference| {
        let address = difference.address_in_file.wrapping_add(of.distance());
        format!("{address:#x}")
    };
    let oopses = explained.oopses.iter().map(|oops| {
        let compared = oops.outcome.as_ref().ok();
        let differences = compared.into_iter().flat_map(|compared| {
            compared.differences.iter().map(move |of| Difference {
                address: difference(compared, of),
                address_in_file: format!("{:#x}", of.address_in_file),
                function: &of.function,
                cause: &of.cause,
                depends: &of.depends,
                file: hex::bytes_in_hex(&of.file),
                seen: hex_of(&of.seen),
                verdict: of.verdict.name(),
                words: &of.words,
                forms: of
                    .forms
                    .iter()
                    .map(|form| Form {
                        bytes: hex::bytes_in_hex(&form.bytes),
                        condition: &form.condition,
                    })
                    .collect(),
            })
        });
        let code = compared.into_iter().flat_map(|compared| {
            compared.lines.iter().map(|line| Line {
                sign: match line.sign {
                    LineSign::Same => "same",
                    LineSign::File => "file",
                    LineSign::Log => "log",
                },
                address: format!("{:#x}", line.address_in_file.wrapping_add(compared.distance())),
                bytes: hex_of(&line.bytes),
                instruction: &line.instruction,
                failing: line.is_failing,
            })
        });
        Oops {
            line: oops.line,
            place: &oops.place,
            not_compared: oops.outcome.as_ref().err().map(|why| &**why),
            address_in_file: compared.map(|of| format!("{:#x}", of.address_in_file)),
            slide: compared.and_then(|of| of.slide).map(|slide| format!("{:#x}", slide.distance)),
            is_other_file: compared.is_some_and(|of| of.is_other_file),
            differences: differences.collect(),
            code: code.collect(),
        }
    });
    let document = Document {
        file: path.display().to_string(),
        release: kernel.release(),
        release_of_log: explained.release.as_deref(),
        unusable: explained.unusable,
        oopses: oopses.collect(),
    };
    print_json(terminal, &document)
}

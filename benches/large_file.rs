//! Measures how long `list`, `sites` and `verify` take for a file like a vmlinux: 60 MB, half of it
//! text, 200,000 functions, 10,000 sites. `cargo bench --features inspect --bench large_file` runs
//! it.

#[allow(dead_code, reason = "what breaks files is for tests/tool.rs")]
#[path = "../tests/tool/sample.rs"]
mod sample;

use std::time::{Duration, Instant};
use std::{env, fs, io};

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use patchlet::Width;
use patchlet::inspect::{Exit, Terminal, map, parse, run};
use sample::{ALLOC, EXECUTE, PROGBITS, Sample, Section};

const FUNCTIONS: usize = 200_000;
const SITES: usize = 10_000;
const TEXT: usize = 30 << 20;
const FILE: usize = 60 << 20;

fn main() {
    let path = env::temp_dir().join(format!("patchlet-bench-{}", std::process::id()));
    let file = file();
    fs::write(&path, &file).expect("a temporary file");
    println!("{} MB, {FUNCTIONS} functions, {SITES} sites", file.len() >> 20);
    let name = path.to_str().expect("UTF-8");
    for arguments in
        [&["list", name][..], &["sites", name], &["sites", name, "--json"], &["verify", name]]
    {
        let (best, exit) = measure(arguments);
        println!("{:>6} {:>4} ms  {exit:?}", arguments[0], best.as_millis());
    }
    fs::remove_file(&path).expect("it is ours");
}

/// Measures a command. Returns the best of ten times, because other work of the machine can only
/// add time.
fn measure(arguments: &[&str]) -> (Duration, Exit) {
    let once = |_| {
        let (mut out, mut err) = (io::sink(), io::sink());
        let mut terminal = Terminal::new(&mut out, &mut err);
        let start = Instant::now();
        let arguments = ["patchlet"].iter().chain(arguments).map(|argument| (*argument).to_owned());
        let exit = run(arguments, &mut terminal);
        (start.elapsed(), exit)
    };
    (0..10).map(once).min_by_key(|run| run.0).expect("ten runs")
}

/// Returns the instructions of this program in pieces of the size of a function. Each branch, whose
/// target would be meaningless, is replaced by one to the next instruction.
fn code() -> Vec<Vec<u8>> {
    let own = map(&env::current_exe().expect("the system knows it")).expect("it can be read");
    let own = parse(&own).expect("ELF");
    let text = own.sections().iter().find(|section| section.name == ".text").expect(".text").data;
    let mut pieces = vec![vec![]];
    for instruction in &mut Decoder::new(64, text, DecoderOptions::NONE) {
        let at = instruction.ip() as usize;
        if pieces.last().is_none_or(|piece: &Vec<u8>| piece.len() >= TEXT / FUNCTIONS) {
            pieces.push(vec![]);
        }
        let code = pieces.last_mut().expect("there is one");
        match instruction.flow_control() {
            FlowControl::Next if !instruction.is_invalid() => {
                code.extend(&text[at..at + instruction.len()]);
            }
            _ => code.extend([0x74, 0]),
        }
    }
    pieces
}

/// Makes the sample with much more text: functions of these pieces, repeated, one in twenty with a
/// site.
fn file() -> Vec<u8> {
    let pieces = code();
    let mut pieces = pieces.iter().cycle();
    let mut sample = Sample::new(Width::Bits64);
    let (data, link, info, size, offset) = (vec![], 0, 0, None, None);
    let flags = ALLOC | EXECUTE;
    let (name, kind, address) = (".text.more", PROGBITS, 0x100_0000);
    sample.sections.push(Section { name, kind, flags, address, data, link, info, size, offset });
    sample.text = ".text.more";
    for number in 0..FUNCTIONS {
        let start = sample.begin(&[0x90]);
        if number % (FUNCTIONS / SITES) == 0 {
            sample.site("patchlet_pv_ops", number / 20 % 10, 6, 0);
        }
        sample.code(pieces.next().expect("it is a cycle"));
        sample.end(&format!("function_number_{number}"), start);
    }
    sample.bound_records();
    let rest = FILE.saturating_sub(sample.bytes().len());
    let (data, name, flags, address) = (vec![0; rest], ".debug_info", 0, 0);
    sample.sections.push(Section { name, kind, flags, address, data, link, info, size, offset });
    sample.bytes()
}

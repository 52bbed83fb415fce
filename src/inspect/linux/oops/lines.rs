//! The code of an oops as a listing: each instruction of the log, and where it differs from the
//! file that of the file, too. The bytes of a log begin in the middle of an instruction; the file
//! says where the next one starts.

use super::forms::Forms;
use super::log::LoggedOops;
use super::outcome::{CodeLine, LineSign, OopsDifference};
use crate::disassemble::{decoder, disassemble};
use crate::inspect::linux::kernel::LinuxKernel;

/// Returns the listing of an oops.
pub(super) fn lines(
    kernel: &LinuxKernel<'_>,
    oops: &LoggedOops,
    forms: &Forms<'_, '_>,
    differences: &[OopsDifference],
    start: u64,
    failing: u64,
) -> Vec<CodeLine> {
    let end = start + oops.code.len() as u64;
    let starts = instructions(kernel, start, end);
    let mut lines = Listing { kernel, failing, lines: vec![] };
    let mut at = start;
    let mut next = 0;
    while at < end {
        while differences.get(next).is_some_and(|of| behind(of) <= at) {
            next += 1;
        }
        let following = starts.iter().copied().find(|&start| start > at).unwrap_or(end);
        let mut stop = following.min(end);
        // A range that differs is shown as a whole, up to the next instruction behind it.
        let mut found = None;
        if let Some(of) = differences.get(next).filter(|of| of.address_in_file < stop) {
            found = Some(next);
            if of.address_in_file > at && starts.contains(&of.address_in_file) {
                stop = of.address_in_file;
                found = None;
            } else {
                let behind = behind(of);
                stop = starts.iter().copied().find(|&start| start >= behind).unwrap_or(end);
                stop = stop.max(behind).min(end);
            }
        }
        let (from, to) = ((at - start) as usize, (stop - start) as usize);
        let seen = oops.code.get(from..to).unwrap_or_default();
        let is_start = starts.contains(&at);
        match found {
            None => lines.add(LineSign::Same, at, seen, is_start, None),
            Some(difference) => {
                let file = forms.moved(at, to - from).unwrap_or_default();
                let file: Vec<Option<u8>> = file.iter().copied().map(Some).collect();
                lines.add(LineSign::File, at, &file, is_start, Some(difference));
                lines.add(LineSign::Log, at, seen, is_start, Some(difference));
            }
        }
        at = stop;
    }
    lines.lines
}

/// Returns the address behind a difference.
fn behind(of: &OopsDifference) -> u64 {
    of.address_in_file + of.seen.len() as u64
}

/// Returns where instructions start in `start..end`, by the file.
fn instructions(kernel: &LinuxKernel<'_>, start: u64, end: u64) -> Vec<u64> {
    /// The largest distance from the start of a function at which its start is used.
    const FAR: u64 = 1 << 18;
    let distance = kernel.names.function(start).map_or(0, |(_, distance)| distance);
    let from = if distance < FAR { start - distance } else { start };
    let len = usize::try_from(end - from).unwrap_or(0);
    let code = kernel.code(from, len);
    let mut starts = Vec::new();
    let mut decoder = decoder(kernel.image.width(), from, code);
    let mut function = kernel.names.next(from);
    let mut at = from;
    while at < end {
        let Ok(position) = usize::try_from(at - from) else { break };
        if decoder.set_position(position).is_err() {
            break;
        }
        decoder.set_ip(at);
        if at >= start {
            starts.push(at);
        }
        let instruction = decoder.decode();
        let behind = at + (instruction.len() as u64).max(1);
        // Padding or data can reach into the next function.
        at = if (at + 1..behind).contains(&function) { function } else { behind };
        if at >= function {
            function = kernel.names.next(at);
        }
    }
    starts
}

/// The listing while it is made.
struct Listing<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    failing: u64,
    lines: Vec<CodeLine>,
}

impl Listing<'_, '_> {
    /// Adds the instructions in bytes. Those that start in the middle of one are shown as they are.
    fn add(
        &mut self,
        sign: LineSign,
        address: u64,
        bytes: &[Option<u8>],
        is_start: bool,
        difference: Option<usize>,
    ) {
        let known: Option<Vec<u8>> = bytes.iter().copied().collect();
        let (Some(known), true) = (known, is_start) else {
            self.line(sign, address, bytes, String::new(), difference);
            return;
        };
        let width = self.kernel.image.width();
        let name = |target| Some(self.kernel.names.place(target)).filter(|name| !name.is_empty());
        let mut at = 0;
        while at < known.len() {
            let rest = known.get(at..).unwrap_or_default();
            let here = address + at as u64;
            let instruction = decoder(width, here, rest).decode();
            let len = instruction.len().clamp(1, rest.len());
            let of = rest.get(..len).unwrap_or_default();
            let text = match instruction.is_invalid() {
                true => String::new(),
                false => disassemble(width, here, of, name),
            };
            let of: Vec<Option<u8>> = of.iter().copied().map(Some).collect();
            self.line(sign, here, &of, text, difference);
            at += len;
        }
    }

    fn line(
        &mut self,
        sign: LineSign,
        address: u64,
        bytes: &[Option<u8>],
        instruction: String,
        difference: Option<usize>,
    ) {
        let range = address..address + bytes.len() as u64;
        self.lines.push(CodeLine {
            sign,
            address_in_file: address,
            bytes: bytes.to_vec(),
            instruction,
            is_failing: range.contains(&self.failing),
            difference,
        });
    }
}

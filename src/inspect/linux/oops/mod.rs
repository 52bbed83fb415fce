//! The code that a kernel prints when it crashes (an *oops*), against the kernel's file: which bytes
//! differ, and which of them its tables allow. A log says nothing of keys and features, so a site
//! may have each form that any state gives it; nothing here is *proven* but addresses that moved.
//!
//! `log` reads the oopses; `place` finds each in the file; `forms` says what its sites can be;
//! `compare` puts down each byte that differs to its cause, and `lines` makes a listing of it.

mod compare;
mod forms;
mod lines;
mod log;
mod outcome;
mod place;
mod states;

pub use forms::SiteForm;
pub(super) use forms::{Forms, return_thunks};
pub use outcome::{CodeLine, ComparedOops, ExplainedLog, ExplainedOops, LineSign, OopsDifference};
pub use place::{Slide, SlideFrom};

use super::kernel::LinuxKernel;
use crate::inspect::error::FileError;
use log::LoggedOops;

/// Explains the oopses in a log.
///
/// # Errors
/// Returns an error if there is no oops in it, or none that can be compared with this file.
pub fn explain_oopses(kernel: &LinuxKernel<'_>, log: &[u8]) -> Result<ExplainedLog, FileError> {
    /// More than a person reads; a limit for a log that has nothing else.
    const MOST: usize = 1000;
    let read = log::read(log);
    if read.oopses.is_empty() {
        return Err(FileError::new(match read.unusable {
            0 => "no oops in it: there is no line with `Code: ` and bytes".to_owned(),
            lines => format!(
                "no oops that can be used: {lines} with `Code: ` and no bytes, or none in <…>, which \
                 marks the one at the address"
            ),
        }));
    }
    let logged = read.oopses.get(..MOST).unwrap_or(&read.oopses);
    let slide = place::slide(kernel, logged, read.kernel_offset);
    let oopses = logged.iter().map(|oops| ExplainedOops {
        line: oops.line,
        place: place::words(&oops.pointer),
        outcome: explained(kernel, oops, slide),
    });
    let oopses: Vec<ExplainedOops> = oopses.collect();
    if let Some(why) = oopses.iter().find_map(|oops| oops.outcome.as_ref().err())
        && oopses.iter().all(|oops| oops.outcome.is_err())
    {
        let first = oopses.first().map_or("", |oops| &*oops.place);
        return Err(FileError::new(format!(
            "no oops that can be compared with this file: {first}: {why}"
        )));
    }
    Ok(ExplainedLog { oopses, release: read.release, unusable: read.unusable })
}

/// Compares one oops with the file.
fn explained(
    kernel: &LinuxKernel<'_>,
    oops: &LoggedOops,
    slide: Option<Slide>,
) -> Result<ComparedOops, String> {
    let address = place::find(kernel, oops, slide)?;
    let start = address.checked_sub(oops.at as u64).ok_or("its address is lower than its bytes")?;
    let end = start.checked_add(oops.code.len() as u64).ok_or("its bytes reach beyond the end")?;
    if kernel.code(start, oops.code.len()).len() != oops.code.len() {
        return Err(format!("{start:#x}..{end:#x} is not all in text of the file"));
    }
    Ok(compare::compare(kernel, oops, start, address, slide))
}

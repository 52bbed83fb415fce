//! Progress on a terminal. A library such as indicatif does not fit: it opens the terminal
//! itself, while the tool writes to any `Write`.

use std::time::{Duration, Instant};

use super::terminal::Terminal;
use crate::inspect::finding::Findings;
use crate::inspect::linux::{Audit, LinuxKernel, audit};
use crate::inspect::model::Model;
use crate::inspect::raw::{RawInstruction, raw};
use crate::inspect::verify::{Reference, verify};

/// Verifies a file, and shows progress if that takes longer than a second.
pub(super) fn verify_with_progress(
    model: &Model<'_>,
    reference: &Reference<'_>,
    terminal: &mut Terminal<'_>,
) -> Findings {
    with_progress("verifying text", terminal, |progress| verify(model, reference, progress))
}

/// Searches a file for raw instructions, and shows progress if that takes longer than a second.
pub(super) fn raw_with_progress(
    model: &Model<'_>,
    terminal: &mut Terminal<'_>,
) -> Vec<RawInstruction> {
    with_progress("reading text", terminal, |progress| raw(model, progress))
}

/// Audits a Linux kernel, and shows progress if that takes longer than a second.
pub(super) fn audit_with_progress(kernel: &LinuxKernel<'_>, terminal: &mut Terminal<'_>) -> Audit {
    with_progress("reading text", terminal, |progress| audit(kernel, progress))
}

fn with_progress<T>(
    doing: &str,
    terminal: &mut Terminal<'_>,
    work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T,
) -> T {
    /// The time after which progress is shown.
    const PATIENCE: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut shown = false;
    let result = work(&mut |done, of| {
        if terminal.progress && start.elapsed() >= PATIENCE {
            shown = true;
            let percent = u128::from(done) * 100 / u128::from(of.max(1));
            // The result does not depend on progress, so a failed write is ignored.
            let _ = write!(terminal.err, "\r{doing}: {percent} %");
            let _ = terminal.err.flush();
        }
    });
    if shown {
        // Return to the start of the line and erase the line (ECMA-48, "EL").
        let _ = write!(terminal.err, "\r\x1b[K");
    }
    result
}

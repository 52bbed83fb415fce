//! Progress on a terminal. By hand and not by a library such as indicatif: those want to own
//! the terminal, and the tool writes to any `Write`.

use std::time::{Duration, Instant};

use super::terminal::Terminal;
use crate::inspect::finding::Findings;
use crate::inspect::model::Model;
use crate::inspect::raw::{RawInstruction, raw};
use crate::inspect::verify::{Reference, verify};

/// Verifies, and shows progress if it takes so long that somebody wonders.
pub(super) fn verify_with_progress(
    model: &Model<'_>,
    reference: &Reference<'_>,
    terminal: &mut Terminal<'_>,
) -> Findings {
    with_progress("verifying text", terminal, |progress| verify(model, reference, progress))
}

/// Looks for raw instructions, and shows progress likewise.
pub(super) fn raw_with_progress(
    model: &Model<'_>,
    terminal: &mut Terminal<'_>,
) -> Vec<RawInstruction> {
    with_progress("reading text", terminal, |progress| raw(model, progress))
}

fn with_progress<T>(
    doing: &str,
    terminal: &mut Terminal<'_>,
    work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T,
) -> T {
    /// Before this nobody wonders.
    const PATIENCE: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut shown = false;
    let result = work(&mut |done, of| {
        if terminal.progress && start.elapsed() >= PATIENCE {
            shown = true;
            let percent = u128::from(done) * 100 / u128::from(of.max(1));
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(terminal.err, "\r{doing}: {percent} %");
            let _ = terminal.err.flush();
        }
    });
    if shown {
        // Back to the start of the line, which is erased (ECMA-48, "EL").
        let _ = write!(terminal.err, "\r\x1b[K");
    }
    result
}

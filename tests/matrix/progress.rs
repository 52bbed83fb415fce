//! A progress bar on standard error.

use std::io::{IsTerminal, Write, stderr};

/// The bar, on a terminal: `[#####.....] 12/165, 0 failed`; elsewhere a line for
/// every tenth.
pub fn show(done: usize, all: usize, failed: usize) {
    let tenth = |count: usize| count * 10 / all.max(1);
    let bar = format!("{}{}", "#".repeat(done * 40 / all.max(1)), ".".repeat(40));
    let bar: String = bar.chars().take(40).collect();
    let text = format!("[{bar}] {done}/{all}, {failed} failed");
    let mut err = stderr().lock();
    // Nobody to tell if this fails.
    let _ = if err.is_terminal() {
        let end = if done == all { "\n" } else { "" };
        write!(err, "\r{text}{end}").and_then(|()| err.flush())
    } else if tenth(done) != tenth(done.saturating_sub(1)) {
        writeln!(err, "{text}")
    } else {
        Ok(())
    };
}

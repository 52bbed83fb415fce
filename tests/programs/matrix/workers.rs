//! Builds and inspects many things on all CPUs, with a progress bar on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::tools::target_folder;

/// Runs a job on each item and returns the results in the order of the items. Each CPU takes the
/// next item and works in a folder of its own, `worker-N` of this program. `failed` says whether
/// the bar counts a result as a failure.
///
/// # Errors
/// No folder, or a job that panicked.
pub fn run_all<T: Sync, R: Send>(
    program: &str,
    items: &[T],
    job: impl Fn(&T, &Path) -> R + Sync,
    failed: impl Fn(&R) -> bool + Sync,
) -> Result<Vec<R>, String> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let folders: Vec<PathBuf> = (0..workers)
        .map(|worker| target_folder(program, &format!("worker-{worker}")))
        .collect::<Result<_, _>>()?;
    let next = AtomicUsize::new(0);
    let shown = Mutex::new((0, 0));
    let work = |folder: &Path| {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return results };
            let result = job(item, folder);
            if let Ok(mut shown) = shown.lock() {
                let (done, wrong) = &mut *shown;
                *done += 1;
                *wrong += usize::from(failed(&result));
                show(*done, items.len(), *wrong);
            }
            results.push((index, result));
        }
    };
    let finished: Vec<thread::Result<_>> = thread::scope(|scope| {
        let workers: Vec<_> = folders.iter().map(|folder| scope.spawn(|| work(folder))).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut results = Vec::new();
    for worker in finished {
        results.extend(worker.map_err(|_| "a worker panicked")?);
    }
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Shows the progress: a bar on a terminal, `[#####.....] 12/165, 0 failed`, elsewhere a line for
/// every tenth.
fn show(done: usize, all: usize, failed: usize) {
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

//! Measures a cold build: the kernel with the crate and without, from the downloaded sources of the
//! dependencies.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use crate::{BOOT, Result, TARGETS, kernel};

pub fn cold() -> Result<()> {
    let (target, _) = TARGETS[0];
    if !kernel::cargo().args(["fetch", "--quiet", "--locked"]).status()?.success() {
        return Err("the dependencies could not be fetched".into());
    }
    let mut best = [f64::INFINITY; 2];
    for _ in 0..3 {
        for (best, features) in best.iter_mut().zip(["", BOOT]) {
            let folder = kernel::folder().join("cold");
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            let start = Instant::now();
            if !kernel::command(target, &folder, features).arg("--offline").status()?.success() {
                return Err("the kernel was not built".into());
            }
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    let [without, with] = best;
    println!("A cold build, best of three: {with:.1} s with the crate, {without:.1} s without it.");

    let names = crates(target)?;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    println!("{} crates are compiled for it: {}.", names.len(), names.join(", "));
    Ok(())
}

/// Returns the crate and the crates that it is built with.
fn crates(target: &str) -> Result<BTreeSet<String>> {
    let output = kernel::cargo()
        .args(["tree", "--offline", "--locked", "--features", BOOT, "--target", target])
        .args(["--edges", "normal,build", "--prefix", "none", "--format", "{lib}"])
        .output()?;
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split_whitespace().filter(|name| *name != "(*)").map(str::to_owned).collect())
}

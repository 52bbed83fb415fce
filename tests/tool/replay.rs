//! Replays the corpus of the fuzz targets through the same entry points.

use std::path::Path;
use std::{env, fs};

use patchlet::Width;

use crate::sample::Sample;

#[allow(dead_code, reason = "tests of `explain` use the other one")]
#[path = "../../fuzz/entry.rs"]
mod entry;

/// Runs every entry point on one input.
pub fn everything(data: &[u8]) {
    entry::list(data);
    entry::sites(data);
    entry::verify(data);
    entry::patch(data);
    entry::cpu(data);
}

const TARGETS: [&str; 5] = ["list", "sites", "verify", "patch", "cpu"];

/// Returns small files of every kind, which the fuzzer starts from.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let dump = b"CPU 0:\n0x00000007 0x00: eax=0x0 ebx=0x200 ecx=0x0 edx=0x10\n";
    let mut seeds = vec![
        ("archive".to_owned(), b"!<arch>\n".to_vec()),
        ("cpuid".to_owned(), dump.to_vec()),
        ("model".to_owned(), b"Haswell,-erms,+smap,fsrm=on".to_vec()),
    ];
    for width in [Width::Bits64, Width::Bits32] {
        let sample = Sample::new(width);
        let pie = sample.clone().position_independent();
        seeds.push((format!("{width:?}"), sample.bytes()));
        seeds.push((format!("{width:?}-stripped"), sample.stripped().bytes()));
        seeds.push((format!("{width:?}-pie-stripped"), pie.stripped().bytes()));
        let branches = Sample::new(width).with_op_records().with_variants_and_branches();
        seeds.push((format!("{width:?}-branches"), branches.bytes()));
        seeds.push((format!("{width:?}-branches-stripped"), branches.stripped().bytes()));
    }
    seeds
}

#[test]
fn the_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target);
        if env::var_os("BLESS").is_some() {
            fs::create_dir_all(&folder).expect("a folder below fuzz/corpus");
            for (name, bytes) in seeds() {
                fs::write(folder.join(name), bytes).expect("a file below fuzz/corpus");
            }
        }
        let mut count = 0;
        for input in fs::read_dir(&folder).expect("a target's corpus") {
            let bytes = fs::read(input.expect("an entry").path()).expect("an input");
            everything(&bytes);
            count += 1;
        }
        assert!(count >= seeds().len(), "only {count} inputs for {target}");
    }
}

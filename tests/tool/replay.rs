//! Replays the corpus of the fuzz targets through the same entry points.

use std::path::Path;
use std::{env, fs};

use patchlet::Width;

use crate::sample::Sample;

#[path = "../../fuzz/entry.rs"]
mod entry;

/// Runs every entry point on one input.
pub fn everything(data: &[u8]) {
    entry::list(data);
    entry::sites(data);
    entry::verify(data);
    entry::patch(data);
}

const TARGETS: [&str; 4] = ["list", "sites", "verify", "patch"];

/// Returns small files of every kind, which the fuzzer starts from.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![("archive".to_owned(), b"!<arch>\n".to_vec())];
    for width in [Width::Bits64, Width::Bits32] {
        let sample = Sample::new(width);
        let pie = sample.clone().position_independent();
        seeds.push((format!("{width:?}"), sample.bytes()));
        seeds.push((format!("{width:?}-stripped"), sample.stripped().bytes()));
        seeds.push((format!("{width:?}-pie-stripped"), pie.stripped().bytes()));
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

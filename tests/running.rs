//! Boots the test kernels, dumps their memory in each of their states, and explains their text: nothing
//! is unexplained. Then bytes are changed at random, and each is found.
#![cfg(feature = "inspect")]

#[path = "running/machine.rs"]
mod machine;
mod support {
    pub mod kernel;
    pub mod qmp;
    pub mod table;
}

use std::fs;
use std::path::Path;

use machine::Machine;
use patchlet::inspect::{Explanation, Model, Verdict, explain_running, parse};
use support::kernel;
use support::table::Width;

fn explain(kernel: &Path, dump: &[u8]) -> Explanation {
    let file = fs::read(kernel).expect("the kernel");
    let model = Model::new(parse(&file).expect("an ELF file")).expect("a kernel");
    explain_running(&model, &file, dump, None, true).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn probe() {
    let states = ["unpatched","native","installed","guest","mixed","reverted","native-at-last","selected",
        "1/published","1/int3-synced","1/tails-synced","1/first-synced","2/tails-synced","module","traced"];
    for width in [Width::Bits64, Width::Bits32] {
        let kernel = kernel::build(width, "fat");
        let mut machine = Machine::start(&kernel, "max", &states);
        for state in states {
            let dump = machine.dump(state, false);
            if std::env::var_os("KEEP").is_some() { fs::write(format!("/tmp/own-{width}-{}", state.replace('/', "-")), &dump).unwrap(); }
            let start = std::time::Instant::now();
            let explanation = explain(&kernel, &dump);
            println!("{width} {state} {:?} {:#x} {:?} {:?}", start.elapsed(), explanation.slide, explanation.slide_evidence, explanation.notes);
            println!("   compared {:#x} not {:#x} missing {:#x}", explanation.compared, explanation.not_executable, explanation.missing);
            for (key, count) in &explanation.counts { println!("   {key:?} {count:?}"); }
            for of in explanation.list.iter().filter(|of| of.verdict == Verdict::Unexplained).take(5) { println!("   {of:x?}"); }
            machine.go_on();
        }
    }
}

//! Boots a test kernel on a CPU model of QEMU, with nothing but the ops by CPU feature, and reads what
//! it says.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSymbol};

/// What the kernel said on one model.
pub struct Run {
    pub features: BTreeSet<String>,
    pub sites: Vec<Site>,
    /// What QEMU said, which is what TCG leaves out of the model.
    pub complaints: String,
}

/// A site of an op, and what stands there.
pub struct Site {
    pub op: String,
    pub address: u64,
    pub bytes: Vec<u8>,
}

/// Boots a kernel on a model.
///
/// # Panics
/// Panics with the output if the kernel fails.
pub fn boot(kernel: &Path, model: &str) -> Run {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/run.sh"))
        .arg(kernel)
        .args(["-append", "cpu=only"])
        .env("CPU", model)
        .output()
        .expect("run.sh starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{model}:\n{said}{complaints}");
    let mut run = Run { features: BTreeSet::new(), sites: Vec::new(), complaints };
    for line in said.lines() {
        if let Some(names) = line.strip_prefix("cpu-features") {
            run.features = names.split_whitespace().map(str::to_owned).collect();
        } else if let Some(site) = line.strip_prefix("cpu-site ") {
            let [op, address, bytes] =
                site.split(' ').collect::<Vec<_>>().try_into().expect("three words");
            let address = u64::from_str_radix(address, 16).expect("an address");
            run.sites.push(Site { op: op.to_owned(), address, bytes: unhex(bytes) });
        }
    }
    run
}

/// Returns the addresses of the functions of a kernel by their symbols.
pub fn functions(kernel: &Path) -> BTreeMap<String, u64> {
    let bytes = fs::read(kernel).expect("the kernel");
    let file = object::File::parse(&*bytes).expect("ELF");
    let symbols = file.symbols().filter(|symbol| symbol.is_definition());
    symbols.filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address()))).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
    (0..digits.len()).step_by(2).map(byte).collect()
}

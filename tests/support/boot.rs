//! The test kernel, booted in QEMU, and what it said.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// What the kernel said.
pub struct Log(pub String);

impl Log {
    /// The rest of the lines that begin with this word.
    pub fn lines(&self, word: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    /// The sites as printed in this state.
    pub fn sites(&self, state: &str) -> Vec<Site> {
        self.lines("site").filter_map(|line| Site::parse(line.strip_prefix(state)?)).collect()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first site of an op, and how many it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub op: String,
    pub address: u64,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
    pub count: usize,
}

impl Site {
    /// ` irq.irq_disable 0x1003c2 ff15c85c0200 fa0f1f440000 259`
    fn parse(line: &str) -> Option<Self> {
        // The state's whole name, not the start of a longer one.
        let [op, address, old, new, count] =
            line.strip_prefix(' ')?.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(Self {
            op: op.to_owned(),
            address: u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?,
            old: unhex(old)?,
            new: unhex(new)?,
            count: count.parse().ok()?,
        })
    }
}

/// Bytes from a run of hex digits.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Boots a kernel; panics with what it said if it does not end well.
pub fn boot(kernel: &Path, arguments: &[&str]) -> Log {
    match try_boot(kernel, arguments) {
        Ok(log) => log,
        Err(failure) => panic!("{failure}"),
    }
}

/// Boots a kernel; what it said, and on failure why as well.
pub fn try_boot(kernel: &Path, arguments: &[&str]) -> Result<Log, String> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/run.sh"))
        .arg(kernel)
        .args(arguments)
        .output()
        .expect("run.sh starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(Log(said));
    }
    Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

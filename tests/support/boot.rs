//! Boots the test kernel in QEMU and reads its output.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// The output of the kernel.
pub struct Log(pub String);

impl Log {
    /// Returns the rest of each line that begins with this word.
    pub fn lines(&self, word: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    /// Returns the sites that the kernel printed in this state.
    pub fn sites(&self, state: &str) -> Vec<Site> {
        self.lines("site").filter_map(|line| Site::parse(line.strip_prefix(state)?)).collect()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first site of an op, and the number of its sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub op: String,
    pub address: u64,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
    pub count: usize,
}

impl Site {
    /// Parses the rest of a line, such as ` irq.irq_disable 0x1003c2 ff15c85c0200 fa0f1f440000
    /// 259`.
    fn parse(line: &str) -> Option<Self> {
        // With another number of words, the state is only the start of a longer name.
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

/// Returns the bytes that hexadecimal digits without spaces stand for.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Boots a kernel and returns its output.
///
/// # Panics
/// Panics with the output if the kernel fails.
pub fn boot(kernel: &Path, arguments: &[&str]) -> Log {
    match try_boot(kernel, arguments) {
        Ok(log) => log,
        Err(failure) => panic!("{failure}"),
    }
}

/// Boots a kernel and returns its output.
///
/// # Errors
/// Returns the output and the reason if the kernel fails.
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

//! QEMU that runs beside the test: it ends with its owner, and is spoken to by its machine protocol,
//! lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

/// How long a kernel may take until it has come up, and an answer of QEMU. Emulated CPUs are slow.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A child that does not outlive its owner.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection to QEMU's machine protocol.
pub struct Qmp {
    lines: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to a machine.
    pub fn connect(socket: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("QMP: {error}");
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut lines = BufReader::new(stream);
        // The greeting.
        lines.read_line(&mut String::new()).map_err(failed)?;
        let mut qmp = Self { lines };
        qmp.execute(r#"{"execute":"qmp_capabilities"}"#)?;
        Ok(qmp)
    }

    /// Stops the machine and dumps its memory to a file; with the virtual addresses of the first
    /// CPU, if `paging`.
    pub fn dump(&mut self, core: &Path, paging: bool) -> Result<(), String> {
        self.execute(r#"{"execute":"stop"}"#)?;
        self.execute(&format!(
            r#"{{"execute":"dump-guest-memory","arguments":{{"paging":{paging},"protocol":"file:{}"}}}}"#,
            core.display()
        ))
    }

    /// Executes a command, and waits for its answer. Lines about events are left out.
    pub fn execute(&mut self, command: &str) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("QMP: {error}");
        self.lines.get_mut().write_all(format!("{command}\n").as_bytes()).map_err(failed)?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).map_err(failed)? == 0 {
                return Err("QMP: QEMU has closed the connection".to_owned());
            }
            if line.starts_with(r#"{"return""#) {
                return Ok(());
            }
            if line.starts_with(r#"{"error""#) {
                return Err(format!("QMP: {command}: {line}"));
            }
        }
    }
}

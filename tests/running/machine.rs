//! A machine that runs the test kernel and stops in states, in which its memory is dumped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::support::qmp::{Qmp, Running};

pub struct Machine {
    // In the order in which they are dropped: QEMU ends first.
    _running: Running,
    qmp: Qmp,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What the kernel has printed.
    pub log: String,
    folder: PathBuf,
}

impl Machine {
    /// Starts a machine with this CPU model and two CPUs. The kernel stops in each of these states,
    /// in the order in which it comes to them.
    pub fn start(kernel: &Path, cpu: &str, states: &[&str]) -> Self {
        let is_32_bit = fs::read(kernel).expect("the kernel")[4] == 1;
        let name = format!("{}-{cpu}-{is_32_bit}-{}", std::process::id(), states.len());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("running").join(name);
        fs::create_dir_all(&folder).expect("a folder for the dumps");
        let socket = folder.join("qmp");
        let _ = fs::remove_file(&socket);
        let program = if is_32_bit { "qemu-system-i386" } else { "qemu-system-x86_64" };
        let mut child = Command::new(program)
            .args(["-accel", "tcg,thread=single", "-m", "16M", "-smp", "2", "-cpu", cpu])
            .args([
                "-display",
                "none",
                "-vga",
                "none",
                "-serial",
                "stdio",
                "-monitor",
                "none",
                "-no-reboot",
            ])
            .args(["-net", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .args(["-append", &format!("cpus=2 stop={}", states.join(","))])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(kernel.with_file_name("patchlet-test-module.o"))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("errors")).expect("a file"))
            .spawn()
            .expect("QEMU, which `make setup` fetches");
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let running = Running(child);
        // The first line says that QEMU has made its socket.
        let mut log = String::new();
        output.read_line(&mut log).expect("a line");
        let qmp = Qmp::connect(&socket).unwrap_or_else(|error| panic!("{error}\n{log}"));
        Self { _running: running, qmp, input, output, log, folder }
    }

    /// Goes on until the kernel stops in this state, and returns the dump of its memory.
    pub fn dump(&mut self, state: &str, paging: bool) -> Vec<u8> {
        let wanted = format!("stopped: {state}");
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("a line");
            assert!(read > 0, "the kernel ended before `{state}`:\n{}{}", self.log, self.errors());
            self.log.push_str(&line);
            if line.trim_end() == wanted {
                break;
            }
        }
        let core = self.folder.join("core");
        self.qmp.dump(&core, paging).unwrap_or_else(|error| panic!("{error}"));
        let dump = fs::read(&core).expect("the dump");
        fs::remove_file(&core).expect("the dump");
        dump
    }

    /// Returns what QEMU has complained about.
    fn errors(&self) -> String {
        fs::read_to_string(self.folder.join("errors")).unwrap_or_default()
    }

    /// Lets the kernel go on from a state.
    pub fn go_on(&mut self) {
        self.qmp.execute(r#"{"execute":"cont"}"#).unwrap_or_else(|error| panic!("{error}"));
        self.input.write_all(b"\n").expect("the kernel reads");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It is of no use to anybody; a test that fails does so for another reason.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

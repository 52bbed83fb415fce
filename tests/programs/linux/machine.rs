//! A virtual machine: it boots a kernel with one program in its initial RAM disk, waits until the
//! program says that it is ready, and dumps the machine's memory through QEMU's QMP socket.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::qmp::{PATIENCE, Qmp, Running};

pub(crate) struct Machine<'a> {
    pub kernel: &'a Path,
    pub is_32_bit: bool,
    pub cpu: &'a str,
    pub cpus: u32,
    pub append: &'a str,
}

/// Builds the program that the machines run, and returns the initial RAM disk with it.
pub(crate) fn build_init(folder: &Path) -> Result<Vec<u8>, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/linux/init.rs");
    let program = folder.join("init");
    let output = Command::new("rustc")
        .args(["--edition=2024", "-O", "--target=i686-unknown-linux-musl", "-Cstrip=symbols"])
        .args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Crelocation-model=static", "-o"])
        .args([&program, &source])
        .output()
        .map_err(|error| format!("rustc does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("rustc: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let program = fs::read(&program).map_err(|error| error.to_string())?;
    let mut archive = Archive::default();
    archive.entry("dev", 0o040_755, (0, 0), &[]);
    archive.entry("dev/console", 0o020_600, (5, 1), &[]);
    // The second serial line.
    archive.entry("dev/ttyS1", 0o020_600, (4, 65), &[]);
    archive.entry("init", 0o100_755, (0, 0), &program);
    archive.entry("TRAILER!!!", 0, (0, 0), &[]);
    Ok(archive.bytes)
}

/// An archive of cpio's format `newc`, as Linux unpacks it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("a small program");
        let name_size = u32::try_from(name.len() + 1).expect("a short name");
        self.bytes.extend(b"070701");
        // Inode, mode, owner, group, links, time, size, device, special device, name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Boots a machine, and dumps its memory to the file `core`.
pub(crate) fn dump(
    machine: &Machine<'_>,
    init: &[u8],
    folder: &Path,
    core: &Path,
) -> Result<(), String> {
    fn failed(what: &str) -> impl Fn(std::io::Error) -> String {
        move |error| format!("{what}: {error}")
    }
    let (disk, socket) = (folder.join("initrd"), folder.join("qmp"));
    fs::write(&disk, init).map_err(failed("the initial RAM disk"))?;
    for old in [&socket, &core.to_path_buf()] {
        if old.exists() {
            fs::remove_file(old).map_err(failed("a file of an earlier run"))?;
        }
    }
    let program = if machine.is_32_bit { "qemu-system-i386" } else { "qemu-system-x86_64" };
    // Emulated timers can be too late for the kernel's check of them.
    let append = format!("console=ttyS0 loglevel=4 panic=-1 no_timer_check {}", machine.append);
    let child = Command::new(program)
        .args(["-accel", "tcg,thread=single", "-m", "256M", "-display", "none", "-no-reboot"])
        .args(["-net", "none", "-serial", "stdio", "-monitor", "none", "-cpu", machine.cpu])
        .args(["-smp", &machine.cpus.to_string(), "-append", &append])
        .args(["-serial", &format!("file:{}", folder.join("kcore").display())])
        .arg("-kernel")
        .arg(machine.kernel)
        .arg("-initrd")
        .arg(&disk)
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed(program))?;
    let mut running = Running(child);
    let console = running.0.stdout.take().expect("it is piped");
    let (ready, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let mut last = VecDeque::new();
        for line in BufReader::new(console).lines().map_while(Result::ok) {
            let result = match line.trim() {
                "init: ready" => Ok(()),
                line if line.starts_with("init: failed") => Err(line.to_owned()),
                line => {
                    last.push_back(line.to_owned());
                    if last.len() > 30 {
                        last.pop_front();
                    }
                    continue;
                }
            };
            // Who waits may have lost patience.
            let _ = ready.send(result);
            return;
        }
        let last = Vec::from(last).join("\n    ");
        let _ = ready.send(Err(format!("the machine ended; its last lines:\n    {last}")));
    });
    wait.recv_timeout(PATIENCE)
        .map_err(|_| format!("not ready after {} s", PATIENCE.as_secs()))??;
    Qmp::connect(&socket)?.dump(core, false)
}

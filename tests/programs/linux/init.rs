//! The first and only program of the virtual machines that `make linux` boots. It does what the
//! kernel's command line asks for, says so on the console, and waits. A program of 32 bit without
//! a C library of the machine's: it runs under kernels of both widths.

// The tool's own reader of `/proc/kcore`, which is tried here on a real one.
#[path = "../../../src/inspect/explain/kcore.rs"]
mod kcore;

use std::ffi::c_char;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: u32,
        data: *const u8,
    ) -> i32;
    fn sleep(seconds: u32) -> u32;
    fn tcgetattr(file: i32, state: *mut TerminalState) -> i32;
    fn cfmakeraw(state: *mut TerminalState);
    fn tcsetattr(file: i32, when: i32, state: *const TerminalState) -> i32;
}

/// The state of a terminal, as large as the C library's at least.
#[repr(C, align(8))]
struct TerminalState([u8; 128]);

fn main() {
    for (kind, target) in [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"tracefs", c"/trace")] {
        let folder = target.to_str().expect("ASCII");
        fs::create_dir(folder).expect(folder);
        // SAFETY: the three texts end with a zero and live longer than the call; no data is given.
        let status = unsafe {
            mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null())
        };
        if status != 0 {
            println!("init: failed: mount {folder}: {}", io::Error::last_os_error());
        }
    }
    // The kernel gives to this program as variables what it does not know itself. `do` is a list
    // of `file:text`, with a comma between two and a tilde for each space.
    // The step `wait` waits for some seconds, and `kcore` writes a copy of `/proc/kcore` to a
    // device.
    let steps = std::env::var("do").unwrap_or_default();
    for step in steps.split(',').filter(|step| !step.is_empty()) {
        let (file, text) = step.split_once(':').unwrap_or((step, ""));
        if file == "wait" {
            // SAFETY: it only waits.
            unsafe { sleep(text.parse().expect("seconds")) };
            continue;
        }
        if file == "kcore" {
            if let Err(error) = copy_kcore(text) {
                println!("init: failed: /proc/kcore to {text}: {error}");
            }
            continue;
        }
        let text = text.replace('~', " ");
        let file_now = OpenOptions::new().append(true).open(file);
        if let Err(error) = file_now.and_then(|mut file| file.write_all(text.as_bytes())) {
            println!("init: failed: {text} to {file}: {error}");
        }
    }
    println!("init: ready");
    loop {
        // SAFETY: it only waits.
        unsafe { sleep(1000) };
    }
}

/// Copies the kernel's image out of `/proc/kcore` to a serial line.
fn copy_kcore(device: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(device)?;
    let mut state = TerminalState([0; 128]);
    // SAFETY: the file is open, and the state is larger than the C library's.
    unsafe {
        tcgetattr(file.as_raw_fd(), &mut state);
        cfmakeraw(&mut state);
        tcsetattr(file.as_raw_fd(), 0, &state);
    }
    let mut core = File::open("/proc/kcore")?;
    kcore::copy(&mut core, &mut BufWriter::new(file))
}

//! The first and only program of the virtual machines that `make linux` boots. It does what the
//! kernel's command line asks for, says so on the console, and waits. A program of 32 bit without
//! a C library of the machine's: it runs under kernels of both widths.

use std::ffi::c_char;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: u32,
        data: *const u8,
    ) -> i32;
    fn sleep(seconds: u32) -> u32;
}

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
    let steps = std::env::var("do").unwrap_or_default();
    for step in steps.split(',').filter(|step| !step.is_empty()) {
        let (file, text) = step.split_once(':').unwrap_or((step, ""));
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

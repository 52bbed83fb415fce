//! The first and only program of the virtual machines that `make linux` boots. It does what the
//! kernel's command line asks for, says so on the console, and waits.

use std::fs;

unsafe extern "C" {
    fn mount(source: *const i8, target: *const i8, kind: *const i8, flags: usize, data: *const u8) -> i32;
    fn sleep(seconds: u32) -> u32;
}

fn main() {
    for (kind, target) in [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"tracefs", c"/trace")] {
        let _ = fs::create_dir(target.to_str().unwrap());
        if unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } != 0 {
            println!("init: cannot mount {kind:?}: {}", std::io::Error::last_os_error());
        }
    }
    // What the command line says as `do=file:text,file:text`.
    for step in std::env::var("do").unwrap_or_default().split(',').filter(|step| !step.is_empty()) {
        let (file, text) = step.split_once(':').unwrap_or((step, ""));
        match fs::write(file, text.replace('~', " ")) {
            Ok(()) => println!("init: {file} has {text}"),
            Err(error) => println!("init: {file}: {error}"),
        }
    }
    println!("init: ready");
    loop {
        unsafe { sleep(1000) };
    }
}

//! The words of QEMU's `-append`:
//!
//! | word | what |
//! |---|---|
//! | `cpus=N` | the machine must have N CPUs |
//! | `patched=1` | the sites were patched for bare metal before boot, in the file |
//! | `soak=N` | N live switches |
//! | `break=NAME` | the live switches are made by a broken writer, see `live_broken` |
//!
//! Any other word fails the kernel: a misspelt demand must not look like one that was met.

use core::str;

/// The words that may stand before `=`.
const NAMES: &[&str] = &["cpus", "patched", "soak", "break"];

const LENGTH: usize = 256;

static mut TEXT: [u8; LENGTH] = [0; LENGTH];

/// Xen, `public/arch-x86/hvm/start_info.h`.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    /// Physical address of a text that ends with 0, or 0.
    command_line: u64,
}

const MAGIC: u32 = 0x336e_c578;

/// Copies the command line, for where it lies will not be mapped.
///
/// # Safety
///
/// `start_info` is what the PVH entry got, all memory is still reachable at its physical address,
/// and no other function here was called.
pub unsafe fn save(start_info: usize) {
    // SAFETY: the PVH entry gets the address of one.
    let info = unsafe { &*(start_info as *const StartInfo) };
    assert_eq!(info.magic, MAGIC, "no PVH start info");
    let line = info.command_line as *const u8;
    if line.is_null() {
        return;
    }
    // SAFETY: the text ends with a 0, and nothing is read behind that.
    let bytes = (0..).map(|at| unsafe { line.add(at).read() });
    for (at, byte) in bytes.take_while(|&byte| byte != 0).enumerate() {
        assert!(at < LENGTH, "the command line has more than {LENGTH} bytes");
        // SAFETY: inside, and nobody else uses it yet.
        unsafe { (&raw mut TEXT).cast::<u8>().add(at).write(byte) };
    }
}

/// Fails the kernel on a word that nobody reads.
pub fn check() {
    for word in text().split_ascii_whitespace() {
        let name = word.split_once('=').map(|(name, _)| name);
        assert!(name.is_some_and(|name| NAMES.contains(&name)), "unknown: -append {word}");
    }
}

/// What stands behind `name=`.
pub fn value(name: &str) -> Option<&'static str> {
    assert!(NAMES.contains(&name));
    let mut words = text().split_ascii_whitespace().filter_map(|word| word.split_once('='));
    words.find(|word| word.0 == name).map(|word| word.1)
}

/// The number behind `name=`.
pub fn number(name: &str) -> Option<usize> {
    value(name).map(|text| match text.parse() {
        Ok(number) => number,
        Err(_) => panic!("-append {name}={text}: not a number"),
    })
}

fn text() -> &'static str {
    let text = &raw const TEXT;
    // SAFETY: only `save` writes to it, before this can be called.
    let bytes: &'static [u8; LENGTH] = unsafe { &*text };
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(LENGTH);
    match str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(_) => panic!("the command line is not UTF-8"),
    }
}

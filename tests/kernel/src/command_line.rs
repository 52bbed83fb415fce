//! The kernel's command line, which QEMU's `-append` gives:
//!
//! | word | what |
//! |---|---|
//! | `cpus=N` | the machine must have N CPUs |
//! | `patched=1` | the sites were patched for bare metal before boot, in the file |
//! | `soak=N` | N live switches |
//! | `cpu=only` | only the ops by CPU feature are tested, see `by_feature` |
//! | `modules=N` | the module is loaded and unloaded N times meanwhile; 0 if there is none |
//! | `stop=STATE,…` | the kernel waits in each of these states, see `stop` |
//! | `break=NAME` | the live switches are made by a broken writer, see `live_broken` |
//!
//! Any other word fails the kernel: a run with a misspelt word must not look as if it had met it.

use core::str;

use crate::start_info::StartInfo;

/// The words that may stand before `=`.
const NAMES: &[&str] = &["cpus", "patched", "soak", "cpu", "modules", "break", "stop"];

const LENGTH: usize = 512;

static mut TEXT: [u8; LENGTH] = [0; LENGTH];

/// Copies the command line, because the page tables of this kernel will not map its place.
///
/// # Safety
/// - all memory is still mapped at its physical address;
/// - no other function of this module was called before.
pub unsafe fn save(info: &StartInfo) {
    let line = info.command_line as *const u8;
    if line.is_null() {
        return;
    }
    // SAFETY: the text ends with a zero byte, and nothing is read behind that byte.
    let bytes = (0..).map(|at| unsafe { line.add(at).read() });
    for (at, byte) in bytes.take_while(|&byte| byte != 0).enumerate() {
        assert!(at < LENGTH, "the command line has more than {LENGTH} bytes");
        // SAFETY: `at` is less than the length, and no other code uses `TEXT` yet.
        unsafe { (&raw mut TEXT).cast::<u8>().add(at).write(byte) };
    }
}

/// Returns whether the command line consists of this word, without a function of `core` that is
/// compiled already.
pub fn is(word: &[u8]) -> bool {
    let text = &raw const TEXT;
    // SAFETY: `save` has written it, and no code writes it any more.
    let bytes: &[u8; LENGTH] = unsafe { &*text };
    bytes.iter().copied().take_while(|&byte| byte != 0).eq(word.iter().copied())
}

/// Fails the kernel if the command line has an unknown word.
pub fn check() {
    for word in text().split_ascii_whitespace() {
        let name = word.split_once('=').map(|(name, _)| name);
        assert!(name.is_some_and(|name| NAMES.contains(&name)), "unknown: -append {word}");
    }
}

/// Returns the text behind `name=`, or `None` if the command line has no such word.
pub fn value(name: &str) -> Option<&'static str> {
    assert!(NAMES.contains(&name));
    let mut words = text().split_ascii_whitespace().filter_map(|word| word.split_once('='));
    words.find(|word| word.0 == name).map(|word| word.1)
}

/// Returns the number behind `name=`, or `None` if the command line has no such word.
pub fn number(name: &str) -> Option<usize> {
    value(name).map(|text| match text.parse() {
        Ok(number) => number,
        Err(_) => panic!("-append {name}={text}: not a number"),
    })
}

fn text() -> &'static str {
    let text = &raw const TEXT;
    // SAFETY: only `save` writes to `TEXT`, and its contract says that it runs before this.
    let bytes: &'static [u8; LENGTH] = unsafe { &*text };
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(LENGTH);
    match str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(_) => panic!("the command line is not UTF-8"),
    }
}

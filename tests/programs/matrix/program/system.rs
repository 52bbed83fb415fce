//! The three system calls of the program.

use core::arch::asm;
use core::ops::Range;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const MPROTECT: usize = 10;
    pub const EXIT: usize = 60;
}

#[cfg(target_arch = "x86")]
mod number {
    pub const WRITE: usize = 4;
    pub const MPROTECT: usize = 125;
    pub const EXIT: usize = 1;
}

#[cfg(target_arch = "x86_64")]
fn call(number: usize, arguments: [usize; 3]) -> usize {
    let [first, second, third] = arguments;
    let result;
    // SAFETY: the calls above, on memory of our own.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first, in("rsi") second, in("rdx") third,
            out("rcx") _, out("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "x86")]
fn call(number: usize, arguments: [usize; 3]) -> usize {
    let [first, second, third] = arguments;
    let result;
    // SAFETY: the calls above, on memory of our own. The compiler may have its
    // own use for EBX.
    unsafe {
        asm!(
            "xchg ebx, {first}",
            "int 0x80",
            "xchg ebx, {first}",
            first = inout(reg) first => _,
            inlateout("eax") number => result,
            in("ecx") second, in("edx") third,
        );
    }
    result
}

pub fn write(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = call(number::WRITE, [1, rest.as_ptr().addr(), rest.len()]);
        match rest.get(written..) {
            Some(more) if written > 0 => rest = more,
            _ => exit(4),
        }
    }
}

/// Makes whole pages readable, writable and executable.
pub fn make_writable(pages: Range<usize>) -> bool {
    call(number::MPROTECT, [pages.start, pages.len(), 7]) == 0
}

pub fn exit(status: usize) -> ! {
    loop {
        call(number::EXIT, [status, 0, 0]);
    }
}

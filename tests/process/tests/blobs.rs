//! Copies a blob into a page of this process, fills its hole, and executes the copy: a system call,
//! and the return from a signal handler.
#![allow(unsafe_code)]

use std::io::Error;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use patchlet::FillError;
use patchlet::blob::HoleOperand;
use patchlet_process::blobs::stubs;

/// Page size, in bytes.
const PAGE: usize = 4096;

/// Maps a page, fills it with a copy of the stubs, and makes it executable. Returns its address.
fn page_of_stubs(number: u64) -> usize {
    // SAFETY: a new page, which nothing else uses. It is executable only once it is not writable
    // any more.
    unsafe {
        let (rights, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let page = libc::mmap(ptr::null_mut(), PAGE, rights, kind, -1, 0);
        assert_ne!(page, libc::MAP_FAILED, "{}", Error::last_os_error());
        let buffer = std::slice::from_raw_parts_mut(page.cast::<u8>(), PAGE);
        let code = stubs::Holes { number }.fill(buffer).expect("the number fits");
        assert_eq!(code.bytes().len(), stubs::BLOB.bytes().len());
        assert_eq!(libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC), 0);
        page.expose_provenance()
    }
}

#[test]
fn a_system_call_from_a_copy() {
    // SAFETY: the stub is a function of this type. It makes a system call without arguments, whose
    // numbers are small and not negative.
    let call = |number: libc::c_long| unsafe {
        let stub =
            page_of_stubs(number.try_into().expect("a number")) + stubs::offset::system_call();
        mem::transmute::<*const (), extern "C" fn() -> isize>(ptr::with_exposed_provenance(stub))()
    };
    // SAFETY: neither call has an effect.
    let (process, group) = unsafe { (libc::getpid(), libc::getpgrp()) };
    assert_eq!(call(libc::SYS_getpid), process as isize);
    assert_eq!(call(libc::SYS_getpgrp), group as isize);
}

/// The signal that the handler got.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn handler(signal: libc::c_int) {
    CAUGHT.store(signal, Ordering::SeqCst);
}

/// What the system call rt_sigaction takes: `struct kernel_sigaction` of the C libraries.
#[repr(C)]
struct KernelAction {
    handler: extern "C" fn(libc::c_int),
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

#[test]
fn a_signal_handler_returns_by_a_copy() {
    /// The kernel makes the handler return to `restorer`: asm/signal.h.
    const SA_RESTORER: libc::c_ulong = 0x0400_0000;
    let page = page_of_stubs(0);
    let restorer = page + stubs::offset::signal_return();
    assert_eq!(restorer % 16, 0);
    // With three arguments the signal's frame is that of rt_sigreturn.
    let flags = SA_RESTORER | libc::SA_SIGINFO as libc::c_ulong;
    let action = KernelAction { handler, flags, restorer, mask: 0 };
    // SAFETY: the structure is that of the system call, the handler only stores a number, and the
    // stub returns from it.
    unsafe {
        let none = ptr::null_mut::<KernelAction>();
        let set = libc::syscall(libc::SYS_rt_sigaction, libc::SIGUSR1, &action, none, 8);
        assert_eq!(set, 0, "{}", Error::last_os_error());
        libc::raise(libc::SIGUSR1);
        assert_eq!(CAUGHT.load(Ordering::SeqCst), libc::SIGUSR1);
        // Without the page the process would have died above: the second signal shows that the
        // restorer is in use.
        assert_eq!(
            libc::mprotect(ptr::with_exposed_provenance_mut(page), PAGE, libc::PROT_NONE),
            0
        );
        let child = libc::fork();
        if child == 0 {
            libc::raise(libc::SIGUSR1);
            libc::_exit(0);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV,
            "{status:#x}"
        );
    }
}

/// A number that the hole cannot hold, and a page that is too small: the buffer stays as it was.
#[test]
fn what_cannot_be_filled() {
    let mut buffer = [0xa5; PAGE];
    let number = 1 << 32;
    let operand = HoleOperand::Unsigned { value: number, width: 4 };
    assert_eq!(
        stubs::Holes { number }.fill(&mut buffer).err(),
        Some(FillError::OutOfRange { blob: "stubs", hole: "number", operand })
    );
    let needed = stubs::BLOB.bytes().len();
    let small = &mut buffer[..needed - 1];
    let error = stubs::Holes { number: 1 }.fill(small).err();
    assert_eq!(error, Some(FillError::TooSmall { blob: "stubs", needed, len: needed - 1 }));
    assert_eq!(buffer, [0xa5; PAGE]);

    let holes = stubs::Holes { number: u32::MAX.into() };
    holes.fill(&mut buffer).expect("it fits");
    // The opcode of `movl $…, %eax`, and its operand.
    assert_eq!(buffer[..5], [0xb8, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(buffer[5..needed], stubs::BLOB.bytes()[5..]);
    assert_eq!(buffer[needed..], [0xa5; PAGE][needed..]);
}

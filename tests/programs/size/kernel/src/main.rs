//! The variants of a kernel whose sizes are compared. They are linked and never run.
#![no_std]
#![no_main]

#[cfg(feature = "unused")]
use patchlet as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

unsafe extern "C" {
    fn memcpy();
    fn memmove();
    fn memset();
    fn memcmp();
    fn bcmp();
}

// The target is one of user programs, which have these from libc.
#[cfg(target_arch = "x86")]
core::arch::global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    ".irp name, memcpy, memmove, memset, memcmp, bcmp",
    ".type \\name, @function",
    ".endr",
    "memcpy: memmove: memset: memcmp: bcmp: ret"
);

/// Starts the kernel. This function is all that the kernel has without the crate.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    core::hint::black_box([memcpy, memmove, memset, memcmp, bcmp]);
    #[cfg(feature = "boot")]
    core::hint::black_box(boot());
    #[cfg(feature = "message")]
    core::hint::black_box(message());
    #[cfg(feature = "code")]
    core::hint::black_box(code());
    #[cfg(feature = "branches")]
    core::hint::black_box(branches());
    #[cfg(feature = "int3")]
    core::hint::black_box((int3(), breakpoint()));
    #[cfg(feature = "rendezvous")]
    core::hint::black_box(rendezvous());
    #[cfg(feature = "by_feature")]
    by_feature();
    #[cfg(feature = "sites")]
    sites();
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(feature = "boot")]
fn platform() -> patchlet::SecondMapping {
    unsafe extern "C" {
        static __text_start: [u8; 0];
        static __text_end: [u8; 0];
    }
    let text = (&raw const __text_start).addr()..(&raw const __text_end).addr();
    // SAFETY: this is never run.
    unsafe { patchlet::SecondMapping::new(text, 0x4000_0000) }
}

#[cfg(all(
    any(feature = "boot", feature = "int3", feature = "rendezvous"),
    not(any(feature = "by_feature", feature = "branches"))
))]
patchlet::site_set! {
    static KERNEL = [patchlet::pv];
}
#[cfg(feature = "by_feature")]
patchlet::site_set! {
    static KERNEL = [patchlet::pv, patchlet::cpu_ops];
}

/// Selects variants by what CPUID says.
#[cfg(feature = "by_feature")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn by_feature() {
    // SAFETY: this is never run.
    unsafe { patchlet::cpu_ops::select(&patchlet::cpu::Features::detect()) };
}

#[cfg(all(feature = "branches", not(feature = "by_feature")))]
patchlet::site_set! {
    static KERNEL = [patchlet::pv], branches;
}

#[cfg(feature = "branches")]
patchlet::keys! {
    static KEY: off;
}

/// Turns a key on, and returns what its branch says.
#[cfg(feature = "branches")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn branches() -> bool {
    use patchlet::{OneCpu, Patcher};
    let mut patcher = Patcher::new(&KERNEL, platform());
    // SAFETY: this is never run.
    let changed =
        unsafe { OneCpu::with_interrupts_off(|cpu| patcher.change(&mut [KEY.on()], cpu)) };
    changed.is_ok() && patchlet::branch!(KEY)
}

/// Patches all sites. The function is in the program once, whatever else is measured.
#[cfg(feature = "boot")]
#[inline(never)]
fn apply() -> Result<patchlet::text::Report, patchlet::Error> {
    use patchlet::{OneCpu, Patcher};
    let mut patcher = Patcher::new(&KERNEL, platform());
    // SAFETY: this is never run.
    unsafe { OneCpu::with_interrupts_off(|cpu| patcher.apply(cpu)) }
}

/// Runs patching at boot. Like the functions below, it is a root from which the stack's depth is
/// measured.
#[cfg(feature = "boot")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn boot() -> usize {
    match apply() {
        Ok(report) => report.indirect,
        Err(_) => usize::MAX,
    }
}

#[cfg(feature = "message")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn message() -> bool {
    struct Console;
    impl core::fmt::Write for Console {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            core::hint::black_box(text);
            Ok(())
        }
    }
    use core::fmt::Write;
    match apply() {
        Ok(_) => true,
        Err(error) => write!(Console, "{error}").is_ok(),
    }
}

#[cfg(feature = "code")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn code() -> bool {
    fn print(text: &[u8]) {
        core::hint::black_box(text);
    }
    let Err(error) = apply() else { return true };
    print(error.code().as_bytes());
    let mut site = error.site().unwrap_or(0);
    let mut digits = [b'0'; 2 * size_of::<usize>()];
    for digit in digits.iter_mut().rev() {
        let value = (site % 16) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + (value - 10) };
        site /= 16;
    }
    print(&digits);
    false
}

#[cfg(any(feature = "int3", feature = "rendezvous"))]
static LIVE: patchlet::live::Live<'static> = patchlet::live::Live::new(&[&KERNEL]);

#[cfg(feature = "int3")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn int3() -> bool {
    struct Ipis;
    // SAFETY: this is never run.
    unsafe impl patchlet::live::Synchronize for Ipis {
        fn sync_all(&self) {
            patchlet::Serializer::default().serialize();
        }
    }
    // SAFETY: this is never run.
    let mut int3 = unsafe { patchlet::live::Int3::new(&LIVE, platform(), Ipis) };
    int3.apply().is_ok()
}

#[cfg(feature = "int3")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn breakpoint() -> bool {
    struct Frame([usize; 2]);
    // SAFETY: this is never run.
    unsafe impl patchlet::live::TrapFrame for Frame {
        fn ip(&self) -> usize {
            self.0[0]
        }
        fn set_ip(&mut self, ip: usize) {
            self.0[0] = ip;
        }
        fn push(&mut self, value: usize) {
            self.0[1] = value;
        }
    }
    let mut frame = core::hint::black_box(Frame([1, 2]));
    LIVE.handle(&mut frame) == patchlet::live::Handled::Yes
}

#[cfg(feature = "rendezvous")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rendezvous() -> bool {
    struct Others;
    // SAFETY: this is never run.
    unsafe impl patchlet::live::StopOthers for Others {
        fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
            write()
        }
    }
    // SAFETY: this is never run.
    let mut rendezvous = unsafe { patchlet::live::Rendezvous::new(&LIVE, platform(), Others) };
    rendezvous.apply().is_ok()
}

#[cfg(feature = "sites")]
fn sites() {
    macro_rules! ten {
        ($($call:tt)*) => {
            $($call)* $($call)* $($call)* $($call)* $($call)*
            $($call)* $($call)* $($call)* $($call)* $($call)*
        };
    }
    use patchlet::pv::irq_disable;
    ten! { ten! { irq_disable(); } }
}

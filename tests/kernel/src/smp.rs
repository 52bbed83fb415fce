//! Starts the other CPUs and gives them jobs. A CPU without a job waits with interrupts on.

use core::{
    hint,
    ops::Range,
    ptr, slice,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering},
};

use crate::{
    apic, cpu, own::start::start_cpu, paging, park, qemu, segments, segments::MAX_CPUS, traps, wait,
};

/// The page in which the other CPUs start, in real mode. It is free memory on a PC. `paging` maps
/// its alias only, because a CPU has paging off while it executes there.
pub const TRAMPOLINE: Range<usize> = 0x8000..0x8000 + paging::PAGE_SIZE;

/// The number of CPUs that run, the boot CPU included.
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// The job of each CPU: a `fn()` until it has returned, otherwise null.
static JOBS: [AtomicPtr<()>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

/// The number of the next CPU that starts. The boot CPU is number 0.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

const STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// The stacks of the other CPUs.
static mut STACKS: [Stack; MAX_CPUS - 1] = [const { Stack([0; STACK_SIZE]) }; MAX_CPUS - 1];

/// Returns how many CPUs run. They are numbered from 0, which is the boot CPU.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// Starts every other CPU that the machine has, and waits until each is ready for a job.
///
/// # Safety
/// - called once, by the boot CPU, with everything that `kernel_main` sets up.
pub unsafe fn start() {
    let expected = qemu::cpu_count();
    assert!(expected <= MAX_CPUS, "{expected} CPUs, there is room for {MAX_CPUS}");

    // SAFETY: `paging` maps the alias of the page, and nothing else uses it.
    let page =
        unsafe { slice::from_raw_parts_mut(paging::alias(TRAMPOLINE.start), TRAMPOLINE.len()) };
    let code = holes(TRAMPOLINE.start).fill(page).expect("the holes can be filled");
    // The page's other end is the first stack of these CPUs.
    assert!(code.bytes().len() <= TRAMPOLINE.len() - 64);
    // SAFETY: the page holds code for these CPUs, which no CPU executes yet. The sequence INIT, 10 ms,
    // SIPI, 200 us, SIPI is that of SDM vol. 3A section 8.4.4.1, "Typical BSP Initialization Sequence".
    unsafe {
        apic::enable();
        apic::reset_others();
        delay(10_000);
        for _ in 0..2 {
            apic::start_others(TRAMPOLINE.start);
            delay(200);
        }
    }
    wait::until("every CPU starts", || count() >= expected);
}

/// Returns what fills the holes of the code in which a CPU starts, if the code is at `page`.
fn holes(page: usize) -> start_cpu::Holes {
    // The type of a hole is as wide as its operand: what does not fit is an error of `fill`.
    let address = |address: usize| address as u64;
    #[cfg(target_arch = "x86_64")]
    unsafe extern "C" {
        /// The page tables of asm/boot_64.S.
        static boot_pml4: [u8; 0];
    }
    start_cpu::Holes {
        gdt_address: address(page + start_cpu::offset::gdt()),
        protected_address: address(page + start_cpu::offset::protected()),
        next_number: address(NEXT_NUMBER.as_ptr().addr()),
        stack_size: address(STACK_SIZE),
        stacks: address((&raw const STACKS).addr()),
        #[cfg(target_arch = "x86_64")]
        page_table: address((&raw const boot_pml4).addr()),
        #[cfg(target_arch = "x86_64")]
        long_address: address(page + start_cpu::offset::long()),
        entry: address(ap_main as *const () as usize),
    }
}

/// Waits for about so many microseconds: an access to a port of the ISA bus takes about one. No
/// device uses this port.
fn delay(microseconds: usize) {
    for _ in 0..microseconds {
        // SAFETY: port 0x80 is for diagnostics and delays; a write has no effect on the kernel.
        unsafe { cpu::out_8(0x80, 0) };
    }
}

/// Runs a CPU other than the boot CPU. `asm/ap.S` calls it with interrupts off, and with a number
/// from 1 on that is different on each CPU.
extern "C" fn ap_main(number: usize) -> ! {
    // SAFETY: the boot CPU has built page tables, GDT and IDT before it started this CPU.
    unsafe {
        segments::load(number);
        traps::load();
        paging::activate();
        apic::enable();
    }
    COUNT.fetch_add(1, Ordering::Release);

    cpu::with_interrupts_on(|| {
        loop {
            // Pairs with the store in `run_on`.
            let job = JOBS[number].load(Ordering::Acquire);
            if job.is_null() {
                park::point();
                hint::spin_loop();
                continue;
            }
            // SAFETY: `run_on` has made the pointer from a `fn()`.
            let job = unsafe { core::mem::transmute::<*mut (), fn()>(job) };
            job();
            // Pairs with the load in `Job::is_done`.
            JOBS[number].store(ptr::null_mut(), Ordering::Release);
        }
    })
}

/// Makes `cpu` call `job` with interrupts on. `cpu` must be another CPU that has no job.
#[must_use]
pub fn run_on(cpu: usize, job: fn()) -> Job {
    assert!(cpu < count() && cpu != segments::current_cpu());
    let before = JOBS[cpu].swap(job as *mut (), Ordering::Release);
    assert!(before.is_null(), "CPU {cpu} has a job");
    Job { cpu }
}

/// Calls `job` on every CPU, with interrupts on, and waits until all calls have returned.
pub fn run_on_all(job: fn()) {
    let here = segments::current_cpu();
    let mut jobs = [const { None }; MAX_CPUS];
    for cpu in (0..count()).filter(|&cpu| cpu != here) {
        jobs[cpu] = Some(run_on(cpu, job));
    }
    cpu::with_interrupts_on(job);
    jobs.into_iter().flatten().for_each(Job::wait);
}

/// A job that was given to another CPU.
pub struct Job {
    cpu: usize,
}

impl Job {
    /// Returns whether the job has returned.
    pub fn is_done(&self) -> bool {
        JOBS[self.cpu].load(Ordering::Acquire).is_null()
    }

    /// Waits until the job has returned. Interrupts are on meanwhile, because the job may wait for
    /// an answer of this CPU.
    #[track_caller]
    pub fn wait(self) {
        cpu::with_interrupts_on(|| wait::until("a job ends", || self.is_done()));
    }
}

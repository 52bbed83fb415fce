//! The very stores, traced. The second mapping is read-only; each store to it
//! faults, is written down, let through, and the mapping closed again behind it
//! by a single step.
//!
//! The code being patched was used by the patcher, and half-written
//! instructions were executed: so a site is composed elsewhere, and each of its
//! bytes is stored once, with its final value.
//!
//! And the instruction that serializes: single steps find it, nothing else shows that
//! it was executed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use patchlet::ops::Target;
use patchlet::{Patcher, SecondMapping, Serializer};

use crate::image::{Image, Site, call, jump, target};
use crate::platforms::one_cpu;

#[path = "../support/registers.rs"]
mod registers;

use registers::{Register, saved};

/// Handlers are the whole process's: one test at a time has them.
static HANDLERS: Mutex<()> = Mutex::new(());

/// The pages that are watched.
static START: AtomicUsize = AtomicUsize::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);
/// Offsets stored to, and the byte that was there after.
static STORES: [[AtomicUsize; 2]; 1024] = [const { [const { AtomicUsize::new(0) }; 2] }; 1024];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// EFLAGS.TF: a trap after the next instruction.
const TF: usize = 1 << 8;

fn access(rights: i32) {
    let (start, len) = (START.load(Ordering::Relaxed), LEN.load(Ordering::Relaxed));
    // SAFETY: the pages of the arena under test.
    let done = unsafe { libc::mprotect(std::ptr::with_exposed_provenance_mut(start), len, rights) };
    assert_eq!(done, 0);
}

fn flags(context: *mut libc::c_void) -> *mut usize {
    saved(context, Register::Flags)
}

extern "C" fn on_store(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's, for the time of the handler.
    let address = unsafe { (*info).si_addr() }.addr();
    let offset = address.wrapping_sub(START.load(Ordering::Relaxed));
    if offset >= LEN.load(Ordering::Relaxed) {
        // Not this test's: let it happen again, and kill the process.
        // SAFETY: restores the default.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        return;
    }
    let count = COUNT.load(Ordering::Relaxed);
    STORES[count][0].store(offset, Ordering::Relaxed);
    access(libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: `flags` points into the context.
    unsafe { *flags(context) |= TF };
}

extern "C" fn on_step(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let count = COUNT.load(Ordering::Relaxed);
    let address = START.load(Ordering::Relaxed) + STORES[count][0].load(Ordering::Relaxed);
    // SAFETY: inside the watched pages, which are readable.
    let byte = unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() };
    STORES[count][1].store(byte.into(), Ordering::Relaxed);
    COUNT.store(count + 1, Ordering::Relaxed);
    access(libc::PROT_READ);
    // SAFETY: `flags` points into the context.
    unsafe { *flags(context) &= !TF };
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn install(signal: i32, handler: Handler) -> libc::sigaction {
    // SAFETY: zeros are a valid value; the handler has the signature SA_SIGINFO
    // asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let mut old = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal, &action, &mut old), 0);
        old
    }
}

/// The stores to text while `f` runs: offset and byte, in their order.
fn traced(image: &Image, f: impl FnOnce()) -> Vec<(usize, u8)> {
    let text = crate::arena::TEXT_PAGES;
    START.store(
        image.arena.address(text.start).wrapping_add(image.arena.alias_offset()),
        Ordering::Relaxed,
    );
    LEN.store(text.len(), Ordering::Relaxed);
    COUNT.store(0, Ordering::Relaxed);
    let old = [(libc::SIGSEGV, on_store as Handler), (libc::SIGTRAP, on_step)]
        .map(|(signal, handler)| (signal, install(signal, handler)));
    access(libc::PROT_READ);
    f();
    access(libc::PROT_READ | libc::PROT_WRITE);
    for (signal, old) in old {
        // SAFETY: what was there before.
        unsafe { libc::sigaction(signal, &old, std::ptr::null_mut()) };
    }
    let stores = STORES.iter().take(COUNT.load(Ordering::Relaxed));
    stores.map(|[at, byte]| [at, byte].map(|n| n.load(Ordering::Relaxed))).map(pair).collect()
}

fn pair([at, byte]: [usize; 2]) -> (usize, u8) {
    (at, byte as u8)
}

/// Where the stores to a site start: of six bytes, 4 and 2; of another site, each byte.
fn starts(site: &Site) -> impl Iterator<Item = usize> {
    let width_of_first = if site.capacity == 6 { 4 } else { 1 };
    (0..usize::from(site.capacity)).step_by(width_of_first).map(|offset| site.at + offset)
}

#[test]
fn the_patcher_composes_in_a_buffer_and_writes_once() {
    let _alone = HANDLERS.lock();
    let mut image = Image::new(&[Some(&[0xfa]), None, Some(&[0x0f, 0x20, 0xd0])]);
    let sites = [
        call(0x200, 0),
        jump(0x206, 1),
        Site { capacity: 32, ..call(0x300, 2) },
        Site { capacity: 13, ..jump(0x400, 1) },
        // Out of order: the order is the table's.
        Site { capacity: 7, ..call(0x1f0, 0) },
    ];
    for site in sites {
        image.site(site);
    }
    image.arena.protect_text();
    let near = target(image.arena.address(0x9000));
    let mut patcher = image.patcher(image.second_mapping());
    let rounds = [
        (Some(Target::NOP), true),
        (None, true),
        (None, true),
        (Some(Target::NULL), true),
        (Some(near), true),
        (Some(Target::IDENT), true),
        (None, false),
        (None, false),
    ];
    for (held, patch) in rounds {
        // Only the first op's: the sites of the others stay as they are.
        image.set(0, held.unwrap_or(image.table.ops()[0].native()));
        let before = image.bytes();
        let stores = traced(&image, || {
            one_cpu(|cpu| if patch { patcher.apply(cpu) } else { patcher.revert(cpu) }).unwrap();
        });
        let after = image.bytes();
        let changed = |site: &&Site| {
            let range = site.at..site.at + usize::from(site.capacity);
            before[range.clone()] != after[range]
        };
        let expected: Vec<_> = sites
            .iter()
            .filter(changed)
            .flat_map(|site| starts(site).map(|at| (at, after[at])))
            .collect();
        assert_eq!(stores, expected, "for {held:?}");
    }
}

/// Whether each instruction is to be looked at, and how many were CPUID and IRET.
static STEPPING: AtomicBool = AtomicBool::new(false);
static CPUIDS: AtomicUsize = AtomicUsize::new(0);
static IRETS: AtomicUsize = AtomicUsize::new(0);

/// Called in front of each instruction.
extern "C" fn on_instruction(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's, for the time of the handler.
    let ip = unsafe { *saved(context, Register::InstructionPointer) };
    // SAFETY: about to be executed; what is shorter has another instruction behind it.
    let next = unsafe { std::ptr::with_exposed_provenance::<[u8; 2]>(ip).read() };
    let is_iret = if cfg!(target_arch = "x86_64") { next == [0x48, 0xcf] } else { next[0] == 0xcf };
    CPUIDS.fetch_add(usize::from(next == [0x0f, 0xa2]), Ordering::Relaxed);
    IRETS.fetch_add(usize::from(is_iret), Ordering::Relaxed);
    let flags = flags(context);
    // SAFETY: points into the context.
    unsafe { *flags = if STEPPING.load(Ordering::Relaxed) { *flags | TF } else { *flags & !TF } };
}

/// How often `f` executes IRET and CPUID.
fn serializing(f: impl FnOnce()) -> (usize, usize) {
    IRETS.store(0, Ordering::Relaxed);
    CPUIDS.store(0, Ordering::Relaxed);
    let old = install(libc::SIGTRAP, on_instruction);
    STEPPING.store(true, Ordering::Relaxed);
    // SAFETY: the handler above takes it, and begins.
    assert_eq!(unsafe { libc::raise(libc::SIGTRAP) }, 0);
    f();
    STEPPING.store(false, Ordering::Relaxed);
    // SAFETY: what was there before; the step to this call was the last.
    unsafe { libc::sigaction(libc::SIGTRAP, &old, std::ptr::null_mut()) };
    (IRETS.load(Ordering::Relaxed), CPUIDS.load(Ordering::Relaxed))
}

#[test]
fn a_ready_made_platform_serializes_once_by_the_instruction_it_was_told() {
    let _alone = HANDLERS.lock();
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x200, 0));
    image.site(call(0x300, 0));
    let by_default = image.second_mapping();
    let by_iret = image.writable().with_serializer(Serializer::Iret);
    let by_cpuid = image.second_mapping().with_serializer(Serializer::Cpuid);
    let executed = |mut patcher: Patcher<'_, SecondMapping>| {
        serializing(|| assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().sites, 2))
    };
    assert_eq!(executed(image.patcher(by_default)), (1, 0));
    assert_eq!(executed(image.patcher(by_cpuid)), (0, 1));
    let mut patcher = image.patcher(by_iret);
    let executed = serializing(|| assert!(one_cpu(|cpu| patcher.revert(cpu)).is_ok()));
    assert_eq!(executed, (1, 0));
}

/// The stack, the flags and every register are as they were, at any alignment of the stack.
#[test]
fn serializing_changes_nothing_but_what_the_compiler_knows() {
    let kept: Vec<usize> = (0..64).collect();
    for serializer in [Serializer::Iret, Serializer::Cpuid] {
        for turn in 0..1000 {
            let before = kept.iter().map(|n| n * turn).sum::<usize>();
            serializer.serialize();
            assert_eq!(kept.iter().map(|n| n * turn).sum::<usize>(), before);
        }
    }
}

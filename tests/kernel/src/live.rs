//! What `patchlet::live` needs of a kernel: the #BP hook, a way to make every CPU serialize itself,
//! and a way to stop the others.

use core::{
    cell::{Cell, OnceCell},
    hint,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use patchlet::{
    Platform, SecondMapping, SiteSet, Sites, branch,
    live::{
        BatchStep, Handled, Int3, Live, LivePlatform, Rendezvous, StopOthers, Synchronize,
        TrapFrame,
    },
    ops::{OpSource, OpState},
    site::Record,
    text::Part,
};

use crate::{
    image, live_readers, live_sites, module::loaded, own, paging, park, segments,
    segments::MAX_CPUS, stop, sync, trace, traps,
};

pub type Shared = Live<'static>;

/// The site set of the sites of `live_sites`, and the `Live` over it. They are made at run time, as
/// for a loaded module. Each field borrows from the one before.
struct Once {
    parts: OnceCell<[Part<'static>; 2]>,
    set: OnceCell<SiteSet<'static>>,
    sets: OnceCell<[&'static SiteSet<'static>; 1]>,
    shared: OnceCell<Shared>,
}

// SAFETY: only `shared` writes to the cells. The boot CPU calls it first, before it gives the other
// CPUs the jobs in which they read; `smp::run_on` orders the writes before these jobs.
unsafe impl Sync for Once {}

static SHARED: Once = Once {
    parts: OnceCell::new(),
    set: OnceCell::new(),
    sets: OnceCell::new(),
    shared: OnceCell::new(),
};

static STATES: [OpState; own::ops::COUNT] = [const { OpState::new() }; own::ops::COUNT];
// SAFETY: nothing else uses these states.
static SOURCE: OpSource<'static> = unsafe { OpSource::new(&[&own::ops::TABLE], &STATES) };

/// Returns what the writers and the #BP hook share: the sites of `live_sites`. The thousands of
/// other sites of this kernel are left out, because checking them would only take time.
///
/// # Safety
/// - the first call is the boot CPU's, while the others run no site.
pub unsafe fn shared() -> &'static Shared {
    SHARED.shared.get_or_init(|| {
        let linked = Sites::linked();
        let is_ours = |record: &Record| live_sites::has_slot(record.subject());
        let first = linked.records().position(is_ours).expect("there are such sites");
        let ours = linked.part(first..first + live_sites::count());
        // The linker sorts the records by the addresses of the sites, which lie together.
        assert!(ours.records().all(is_ours));
        let count = linked.records().filter(|record| is_ours(record)).count();
        assert_eq!((count, ours.records().len()), (live_sites::count(), live_sites::count()));
        // SAFETY: no other part has this front end.
        let sites = unsafe { Part::new(ours, &SOURCE) };
        let parts = SHARED.parts.get_or_init(|| [sites, branch::linked()]);
        let set = SHARED.set.get_or_init(|| SiteSet::new(parts));
        Live::new(SHARED.sets.get_or_init(|| [set]))
    })
}

/// The number of #BPs at sites, for each CPU.
static BREAKPOINTS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

pub fn breakpoints(cpu: usize) -> usize {
    BREAKPOINTS[cpu].load(Relaxed)
}

/// Handles a #BP if it was raised by the INT3 of a site. Returns whether it was.
pub fn breakpoint(frame: &mut traps::TrapFrame) -> bool {
    let in_ring_0 = frame.cs & 3 == 0;
    let mut hooks = SHARED.shared.get().into_iter().chain([&trace::LIVE]);
    let ours = in_ring_0 && hooks.any(|live| live.handle(frame) == Handled::Yes);
    if ours {
        BREAKPOINTS[segments::current_cpu()].fetch_add(1, Relaxed);
    }
    ours
}

// SAFETY: `breakpoint` passes only frames of #BPs in ring 0, and `asm/traps_*.S` restores the
// frame. There is room to push: in 64-bit mode the frame is on another stack, and in 32-bit mode it
// was moved down.
unsafe impl TrapFrame for traps::TrapFrame {
    fn ip(&self) -> usize {
        self.ip
    }

    fn set_ip(&mut self, ip: usize) {
        self.ip = ip;
    }

    fn push(&mut self, value: usize) {
        self.sp -= size_of::<usize>();
        // SAFETY: the word right below the interrupted stack pointer is free, as said above.
        unsafe { (self.sp as *mut usize).write(value) };
    }
}

/// The text of the kernel and of the module that is loaded. All is mapped a second time, always
/// writable.
pub struct AllText(SecondMapping);

/// Returns the platform of all text.
pub fn platform() -> AllText {
    // SAFETY: `paging` maps the whole image a second time, writable.
    AllText(unsafe { SecondMapping::new(image::text(), paging::DIRECT_MAP_OFFSET) })
}

// SAFETY: as for `SecondMapping`; the text of a module is readable as long as it is loaded, and the
// region for modules is a part of the image.
unsafe impl Platform for AllText {
    fn text(&self) -> Range<usize> {
        self.0.text()
    }

    fn text_around(&self, address: usize) -> Range<usize> {
        let in_module = image::modules().contains(&address);
        if in_module { loaded::text() } else { self.0.text() }
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.0.alias(address)
    }
}

// SAFETY: the second mapping is always there, and is another one.
unsafe impl LivePlatform for AllText {}

/// The number of synchronizations in a batch.
const SYNCS: usize = 3;

/// Makes every CPU serialize itself, by an interrupt.
pub struct Interrupts {
    /// Whether to wait as well until every reader has been outside every site.
    outside: bool,
    /// The number of the synchronization that a broken writer leaves out.
    omitted: Option<usize>,
    /// Whether the readers are given turns between the steps.
    turns: bool,
    /// The number of synchronizations so far in this batch.
    calls: Cell<usize>,
}

impl Interrupts {
    /// Makes synchronizations that are enough for the INT3 protocol and, if `outside`, also for
    /// switches during which no reader may be inside a site.
    fn enough(outside: bool) -> Self {
        Self { outside, omitted: None, turns: true, calls: Cell::new(0) }
    }

    /// Makes synchronizations that are too few, for a broken writer. Readers get no turns between
    /// the steps: a turn would let a reader catch up, although the writer did not wait for it.
    pub fn too_few(outside: bool, omitted: Option<usize>) -> Self {
        Self { outside, omitted, turns: false, calls: Cell::new(0) }
    }
}

// SAFETY: `sync::all` makes every CPU serialize, and only the readers and this CPU execute sites.
// If a synchronization is left out, the duty is not met on purpose: a broken writer shows what
// happens.
unsafe impl Synchronize for Interrupts {
    fn sync_all(&self) {
        let call = self.calls.replace((self.calls.get() + 1) % SYNCS);
        if self.omitted == Some(call) {
            return;
        }
        sync::all();
        if self.outside {
            live_readers::wait_until_outside();
        }
    }

    /// Gives the readers a turn and runs the sites on this CPU, between two steps of the protocol.
    fn between_steps(&self, step: BatchStep) {
        stop::in_batch(step);
        if !self.turns {
            return;
        }
        for _ in 0..4 {
            hint::spin_loop();
        }
        live_sites::run_all();
    }
}

/// A way to stop the other CPUs where they run no site.
pub struct Parking;

// SAFETY: the other CPUs wait in `park::point`, which they call from outside every site. This CPU
// is outside every site, too, and no handler uses a site.
unsafe impl StopOthers for Parking {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        park::with_others_parked(write)
    }
}

pub type Int3Writer = Int3<'static, AllText, Interrupts>;

/// Returns a writer by the INT3 protocol that admits readers inside sites.
pub fn int3(live: &'static Shared) -> Int3Writer {
    // SAFETY: `trap_dispatch` calls the hook on #BP, on a stack of the kernel. The code has no red
    // zone, and no site is on the way to the hook. From now on, only writers over this `live` write
    // to its sites, and never in a handler.
    unsafe { Int3::new(live, platform(), Interrupts::enough(false)) }
}

/// Returns a writer by the INT3 protocol that waits until no reader is inside a site.
pub fn int3_outside(live: &'static Shared) -> Int3Writer {
    int3_outside_by(live, Interrupts::enough(true))
}

/// Returns such a writer with the given synchronizations, which may be too few.
pub fn int3_outside_by(live: &'static Shared, interrupts: Interrupts) -> Int3Writer {
    // SAFETY: as in `int3`, and `wait_until_outside` lets every reader leave the sites. A broken
    // writer does not meet this duty, on purpose.
    unsafe { Int3::with_nobody_inside(live, platform(), interrupts) }
}

/// Returns a writer that stops all other CPUs.
pub fn rendezvous(live: &'static Shared) -> Rendezvous<'static, AllText, Parking> {
    // SAFETY: as in `int3`; `Parking` stops the other CPUs.
    unsafe { Rendezvous::new(live, platform(), Parking) }
}

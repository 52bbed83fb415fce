//! What `patchlet::live` needs of a kernel: the #BP hook, a way to make every CPU serialize itself,
//! and a way to stop the others.

use core::{
    cell::{Cell, OnceCell},
    hint,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use patchlet::{
    SecondMapping, SiteSet, Sites,
    live::{BatchStep, Handled, Int3, Live, Rendezvous, StopOthers, Synchronize, TrapFrame},
    ops::{OpSource, OpState},
    site::Record,
    text::Part,
};

use crate::{
    image, live_readers, live_sites, own, paging, park, segments, segments::MAX_CPUS, sync, traps,
};

pub type Shared = Live<'static>;

/// The site set of the sites of `live_sites`, made at run time as that of a loaded module would
/// be: each level borrows from the one before.
struct Once {
    parts: OnceCell<[Part<'static>; 1]>,
    set: OnceCell<SiteSet<'static>>,
    sets: OnceCell<[&'static SiteSet<'static>; 1]>,
    shared: OnceCell<Shared>,
}

// SAFETY: written once, by `shared`, which is called by the boot CPU before it gives the others the jobs in which they read
// it; `run_on` orders these.
unsafe impl Sync for Once {}

static SHARED: Once = Once {
    parts: OnceCell::new(),
    set: OnceCell::new(),
    sets: OnceCell::new(),
    shared: OnceCell::new(),
};

static STATES: [OpState; own::ops::COUNT] = [const { OpState::new() }; own::ops::COUNT];
static SOURCE: OpSource<'static> = OpSource::new(&[&own::ops::TABLE], &STATES);

/// What the writers and the #BP hook share: the sites of `live_sites`, without the thousands of
/// others, which would only take their time.
///
/// # Safety
///
/// The first call is the boot CPU's, while the others run no site.
pub unsafe fn shared() -> &'static Shared {
    SHARED.shared.get_or_init(|| {
        let records = Sites::linked().records();
        let is_ours = |record: &Record| live_sites::has_slot(record.subject());
        let first = records.iter().position(is_ours).expect("there are such sites");
        let ours = &records[first..][..live_sites::count()];
        // The linker sorts the records by the addresses of the sites, which lie together.
        assert!(ours.iter().all(is_ours));
        assert_eq!(records.iter().filter(|record| is_ours(record)).count(), ours.len());
        // SAFETY: a part of the table of all, which is read-only.
        let sites = unsafe { Sites::between(ours.as_ptr().cast(), size_of_val(ours)) };
        let parts = SHARED.parts.get_or_init(|| [Part::new(sites, &SOURCE)]);
        let set = SHARED.set.get_or_init(|| SiteSet::new(parts));
        Live::new(SHARED.sets.get_or_init(|| [set]))
    })
}

/// #BPs that were a site's, of each CPU.
static BREAKPOINTS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

pub fn breakpoints(cpu: usize) -> usize {
    BREAKPOINTS[cpu].load(Relaxed)
}

/// The hook: whether the #BP was that of a site.
pub fn breakpoint(frame: &mut traps::TrapFrame) -> bool {
    let Some(live) = SHARED.shared.get() else { return false };
    let in_ring_0 = frame.cs & 3 == 0;
    let ours = in_ring_0 && live.handle(frame) == Handled::Yes;
    if ours {
        BREAKPOINTS[segments::current_cpu()].fetch_add(1, Relaxed);
    }
    ours
}

// SAFETY: `breakpoint` passes only frames of #BPs in ring 0, and `asm/traps_*.S` restores the frame.
// There is room to push: in 64-bit mode the frame is on another stack, and in 32-bit mode it was
// moved down.
unsafe impl TrapFrame for traps::TrapFrame {
    fn ip(&self) -> usize {
        self.ip
    }

    fn set_ip(&mut self, ip: usize) {
        self.ip = ip;
    }

    fn push(&mut self, value: usize) {
        self.sp -= size_of::<usize>();
        // SAFETY: the interrupted stack, right below what is in use.
        unsafe { (self.sp as *mut usize).write(value) };
    }
}

/// Text and its alias, which is always writable.
pub fn platform() -> SecondMapping {
    // SAFETY: `paging` maps the whole image a second time, writable.
    unsafe { SecondMapping::new(image::text(), paging::DIRECT_MAP_OFFSET) }
}

/// The synchronizations of a batch.
const SYNCS: usize = 3;

/// Makes every CPU serialize itself, by an interrupt.
pub struct Interrupts {
    /// Waits until every reader has been outside every site as well.
    outside: bool,
    /// The one that is left out, by a broken writer.
    omitted: Option<usize>,
    /// Whether the readers are given turns between the steps.
    turns: bool,
    /// Of the batch, so far.
    calls: Cell<usize>,
}

impl Interrupts {
    /// Enough for the INT3 protocol, if `outside` even for when nobody may be inside.
    fn enough(outside: bool) -> Self {
        Self { outside, omitted: None, turns: true, calls: Cell::new(0) }
    }

    /// Too few, for a broken writer. A reader that it should have waited for must not get its turn
    /// in another way.
    pub fn too_few(outside: bool, omitted: Option<usize>) -> Self {
        Self { outside, omitted, turns: false, calls: Cell::new(0) }
    }
}

// SAFETY: `sync::all` does that; the readers are all that executes sites, but for this CPU. With one
// left out it is not true, and that is what a broken writer is for.
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

    /// Gives the readers a turn, and runs the sites here too: with each step done, and the next one
    /// not begun.
    fn between_steps(&self, _: BatchStep) {
        if !self.turns {
            return;
        }
        for _ in 0..4 {
            hint::spin_loop();
        }
        live_sites::run_all();
    }
}

/// Stops the others where they run no site.
pub struct Parking;

// SAFETY: the other CPUs are in `park::point`, which they call from outside every site; this one is
// not in a site either, and no handler uses one.
unsafe impl StopOthers for Parking {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        park::with_others_parked(write)
    }
}

pub type Int3Writer = Int3<'static, SecondMapping, Interrupts>;

/// The INT3 protocol, whoever is inside.
pub fn int3(live: &'static Shared) -> Int3Writer {
    // SAFETY: `trap_dispatch` calls the hook, with a stack of the kernel's own; there is no red
    // zone, and no site on the way. Only users of this `live` write to these sites from now on, and
    // they do it in no handler.
    unsafe { Int3::new(live, platform(), Interrupts::enough(false)) }
}

/// The INT3 protocol for when nobody is inside.
pub fn int3_outside(live: &'static Shared) -> Int3Writer {
    int3_outside_by(live, Interrupts::enough(true))
}

/// The same, with synchronizations that may be too few for it.
pub fn int3_outside_by(live: &'static Shared, interrupts: Interrupts) -> Int3Writer {
    // SAFETY: as above, and `wait_until_outside`; but for a broken writer, which is broken.
    unsafe { Int3::with_nobody_inside(live, platform(), interrupts) }
}

/// The rendezvous.
pub fn rendezvous(live: &'static Shared) -> Rendezvous<'static, SecondMapping, Parking> {
    // SAFETY: as above.
    unsafe { Rendezvous::new(live, platform(), Parking) }
}

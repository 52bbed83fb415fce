//! What the CPUs share: the sites, the state of the batch, and the #BP hook.
//!
//! Unsafe code here reads one byte of text, in front of an address that the CPU
//! put into a trap frame.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crate::error::Error;
use crate::live::INT3;
use crate::ops::{Row, Table, Target};
use crate::patchlet::native;
use crate::site::{Kind, Record, Sites};
use crate::text::Aim;

/// The frame of a #BP, as the kernel's entry code keeps it.
///
/// Making room for [`push`](Self::push): in 64-bit mode the CPU puts its frame
/// right below the interrupted stack pointer (rounded down to 16) unless #BP has
/// an IST stack, and 32-bit mode pushes no stack pointer at all when the trap
/// comes from ring 0. The entry code must have moved the frame, or return by one
/// it has built anew.
///
/// # Safety
/// - the frame is that of an INT3 that this CPU executed in code with sites (in a
///   kernel: not in user mode), and returning from the trap restores it;
/// - [`ip`](Self::ip) is the address behind the INT3;
/// - returning, the interrupted code goes on at the last [`set_ip`](Self::set_ip),
///   with the stack as [`push`](Self::push) left it and all else unchanged.
pub unsafe trait TrapFrame {
    /// The interrupted code's instruction pointer: the address behind the INT3.
    fn ip(&self) -> usize;

    /// Where the interrupted code is to go on.
    fn set_ip(&mut self, ip: usize);

    /// Pushes a word onto the interrupted code's stack, as its own `call` would;
    /// with shadow stacks onto that one, too.
    fn push(&mut self, value: usize);
}

/// Whose INT3 it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an INT3 that is not ours is somebody else's to handle"]
pub enum Handled {
    /// Not ours, the frame is untouched: a debugger's, or a bug.
    No,
    /// Ours: return from the trap.
    Yes,
}

/// What is shared between the CPU that writes and those that trap: one per table
/// of sites, usually a static.
///
/// ```no_run
/// use patchlet::live::{Handled, Live, TrapFrame};
/// use patchlet::pv;
///
/// static LIVE: Live<'static, 1> = Live::linked([&pv::TABLE]);
///
/// fn breakpoint(frame: &mut impl TrapFrame) {
///     if LIVE.handle(frame) == Handled::No {
///         // somebody else's
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Live<'a, const TABLES: usize> {
    /// `None` for [`Sites::linked`], which is no constant.
    sites: Option<Sites<'a>>,
    tables: [&'a Table; TABLES],
    /// A writer is at work. Asked for, never waited for.
    busy: AtomicBool,
    /// [`NONE`], [`TO_KEPT`] or [`TO_INDIRECT`], and above these two bits the number of
    /// batches so far.
    batch: AtomicUsize,
    /// CPUs in the hook.
    inside: AtomicUsize,
}

/// No batch.
const NONE: usize = 0;
/// A batch towards what the slots held when it began.
const TO_KEPT: usize = 1;
/// A batch towards indirect calls and jumps.
const TO_INDIRECT: usize = 2;
/// The bits of the three above.
const MODE: usize = 3;

impl<'a, const TABLES: usize> Live<'a, TABLES> {
    /// Of all sites of the program and the tables of all their ops.
    #[must_use]
    pub const fn linked(tables: [&'a Table; TABLES]) -> Self {
        Self::of(None, tables)
    }

    /// Of these sites and the tables of all their ops.
    #[must_use]
    pub const fn new(sites: Sites<'a>, tables: [&'a Table; TABLES]) -> Self {
        Self::of(Some(sites), tables)
    }

    const fn of(sites: Option<Sites<'a>>, tables: [&'a Table; TABLES]) -> Self {
        Self {
            sites,
            tables,
            busy: AtomicBool::new(false),
            batch: AtomicUsize::new(NONE),
            inside: AtomicUsize::new(0),
        }
    }

    /// The sites.
    #[must_use]
    pub fn sites(&self) -> Sites<'a> {
        match self.sites {
            Some(sites) => sites,
            None => Sites::linked(),
        }
    }

    pub(super) const fn tables(&self) -> [&'a Table; TABLES] {
        self.tables
    }

    /// The hook, to be called for every #BP, first thing: if the INT3 is that of a
    /// batch, the frame is changed so that the CPU does what the site does. Takes
    /// no lock, waits for nobody, and executes no site.
    pub fn handle<F: TrapFrame>(&self, frame: &mut F) -> Handled {
        let address = frame.ip().wrapping_sub(1);
        let Some(record) = self.sites().find(address) else { return Handled::No };
        let _inside = Inside::enter(&self.inside);
        loop {
            // Pairs with `publish`: INT3 in the text is seen after the batch.
            let batch = self.batch.load(Ordering::SeqCst);
            let target = match batch & MODE {
                TO_KEPT => self.row(record).map(Row::kept),
                TO_INDIRECT => self.row(record).map(Row::held),
                _ => {
                    // SAFETY: the CPU has just fetched this byte of text, by the
                    // contract of `TrapFrame`; the platforms have text readable.
                    let byte = unsafe {
                        core::ptr::with_exposed_provenance::<u8>(address).read_volatile()
                    };
                    if byte != INT3 {
                        // Late: the site was finished, and the batch retired,
                        // between the trap and here. There is an instruction now.
                        frame.set_ip(address);
                        return Handled::Yes;
                    }
                    if self.batch.load(Ordering::SeqCst) == batch {
                        return Handled::No;
                    }
                    // A batch began meanwhile, and the INT3 is its. It cannot be
                    // retired, and so no third one begin, while this is inside.
                    continue;
                }
            };
            return target.map_or(Handled::No, |target| emulate(record, target, frame));
        }
    }

    fn row(&self, record: &Record) -> Option<Row> {
        let number = usize::from(record.op());
        self.tables.iter().find_map(|table| table.row(number, record.slot()))
    }

    /// Begins to write.
    pub(super) fn begin(&self) -> Result<Writer<'_, 'a, TABLES>, Error> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(Error::Busy);
        }
        Ok(Writer { live: self })
    }
}

/// What the unpatched site would do if its slot held this.
fn emulate<F: TrapFrame>(record: &Record, target: usize, frame: &mut F) -> Handled {
    let end = record.site().wrapping_add(usize::from(record.capacity()));
    let Ok(kind) = record.kind() else { return Handled::No };
    if kind == Kind::Call && target == Target::NOP.address() {
        frame.set_ip(end);
        return Handled::Yes;
    }
    if kind == Kind::Call {
        // Behind the NOPs: nobody comes back into a site that is being written.
        frame.push(end);
    }
    // The trap is its native function, `ud2`; what was pushed tells the site.
    let trap = native::ud2.native() as *const ();
    frame.set_ip(if target == 0 { trap.addr() } else { target });
    Handled::Yes
}

/// Counts this CPU in the hook.
struct Inside<'h>(&'h AtomicUsize);

impl<'h> Inside<'h> {
    fn enter(inside: &'h AtomicUsize) -> Self {
        // Pairs with `retire`: either it sees this CPU, or this CPU sees no batch.
        inside.fetch_add(1, Ordering::SeqCst);
        Self(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// The one writer. Dropped, it lets the next one begin; unless a batch is still
/// published, for then there may be INT3s in the text, and the hook must go on
/// answering for them.
#[derive(Debug)]
pub(super) struct Writer<'l, 'a, const TABLES: usize> {
    live: &'l Live<'a, TABLES>,
}

impl<const TABLES: usize> Writer<'_, '_, TABLES> {
    pub(super) fn publish(&self, aim: Aim) {
        let mode = if aim == Aim::Indirect { TO_INDIRECT } else { TO_KEPT };
        let number = self.live.batch.load(Ordering::Relaxed) & !MODE;
        self.live.batch.store(number | mode, Ordering::SeqCst);
        // Pairs with the load in `handle`: no INT3 before this.
        fence(Ordering::SeqCst);
    }

    /// Waits for the CPUs in the hook only, and those wait for nobody.
    pub(super) fn retire(&self, relax: impl Fn()) {
        let number = self.live.batch.load(Ordering::Relaxed) & !MODE;
        self.live.batch.store(number.wrapping_add(MODE + 1) | NONE, Ordering::SeqCst);
        // Pairs with `enter`.
        while self.live.inside.load(Ordering::SeqCst) != 0 {
            relax();
        }
    }
}

impl<const TABLES: usize> Drop for Writer<'_, '_, TABLES> {
    fn drop(&mut self) {
        if self.live.batch.load(Ordering::Relaxed) & MODE == NONE {
            self.live.busy.store(false, Ordering::Release);
        }
    }
}

//! Live switching in a process. Threads take the place of CPUs, SIGTRAP that of #BP, and
//! `membarrier` that of interrupts to other CPUs.

pub mod broken;
pub mod readers;
pub mod signal;
pub mod switching;
pub mod sync;
pub mod writer;

use patchlet::branch::{BranchSource, BranchState, Keys};
use patchlet::live::Live;
use patchlet::ops::__private::Slot;
use patchlet::ops::{Abi, Op, OpSource, OpState, Table, Target};
use patchlet::text::Part;
use patchlet::{Patchlet, SiteSet, Sites};

patchlet::patchlets! {
    /// The patchlets of `asm/live.S`.
    pub mod patchlets {
        live_probe,
        live_extend,
    }
}

/// An op of sites in `asm/live.S`. The numbers are the indices there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveOp {
    /// An op whose sites call.
    Probe = 0,
    /// An op whose sites jump.
    Leap = 1,
    /// An op whose sites call, with a patchlet of one byte.
    Extend = 2,
}

impl LiveOp {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Probe, Self::Leap, Self::Extend];

    const fn patchlet(self) -> &'static Patchlet {
        match self {
            Self::Probe | Self::Leap => &patchlets::live_probe,
            Self::Extend => &patchlets::live_extend,
        }
    }
}

const fn op(name: &'static str, op: LiveOp) -> Op {
    let native = Target::function(op.patchlet().native() as *const ());
    Op::new("live", name, Abi::CalleeSave, native, Some(op.patchlet()))
}

const fn slot(op: LiveOp) -> Slot {
    Slot::new(Target::function(op.patchlet().native() as *const ()))
}

static OPS: [Op; 3] =
    [op("probe", LiveOp::Probe), op("leap", LiveOp::Leap), op("extend", LiveOp::Extend)];
#[unsafe(export_name = "live_ops")]
static SLOTS: [Slot; 3] = [slot(LiveOp::Probe), slot(LiveOp::Leap), slot(LiveOp::Extend)];

/// The table of these ops. It is not made by `ops!`, because jump sites and results that depend on
/// the preset of a register have no functions there.
// SAFETY: the native functions are those of the patchlets, and `asm/live.S` knows what they do.
pub static TABLE: Table = unsafe { Table::new(&OPS, &SLOTS) };

patchlet::keys! {
    /// The key of the branches in `asm/live.S`.
    pub static KEY as "live_key": off;
    /// The key of the branches of the benchmark.
    pub static MANY_KEY as "live_many_key": off;
}

static MANY_OPS: [Op; 1] = [Op::new("live", "many", Abi::CalleeSave, Target::NOP, None)];
#[unsafe(export_name = "live_many_ops")]
static MANY_SLOTS: [Slot; 1] = [Slot::new(Target::NOP)];

/// The op of the benchmark's sites: natively it does nothing.
// SAFETY: the sites take and give nothing.
pub static MANY: Table = unsafe { Table::new(&MANY_OPS, &MANY_SLOTS) };

/// The state of the sites of one ops table that the writer and the signal handler share.
pub type ProcessLive = Live<'static>;

unsafe extern "C" {
    fn live_a();
    fn live_b();
    fn live_many();
    fn live_one();
    fn live_many_branches();
    static live_functions: [u8; 0];
    static live_functions_end: [u8; 0];
    static live_branches: [u8; 0];
    static live_branches_end: [u8; 0];
}

/// A state that a site can be switched to. The trap of a null slot is left out, because it ends the
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The indirect call or jump through the slot.
    Indirect,
    /// The patchlet.
    Native,
    /// A direct call or jump to the function of the first hypervisor.
    A,
    /// A direct call or jump to the function of the second hypervisor.
    B,
    /// NOPs.
    Nops,
    /// The identity patchlet; NOPs on 32 bit.
    Identity,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Indirect, Self::Native, Self::A, Self::B, Self::Nops, Self::Identity];

    /// Returns the state of this number, from 0.
    pub const fn from_index(index: usize) -> Self {
        Self::ALL[index]
    }

    /// Returns the target to put into the slot of an op. In the state `Indirect`, sites go through
    /// the slot to the native function.
    pub fn target(self, op: LiveOp) -> Target {
        match self {
            Self::Indirect | Self::Native => Target::function(op.patchlet().native() as *const ()),
            Self::A => Target::function(live_a as *const ()),
            Self::B => Target::function(live_b as *const ()),
            Self::Nops => Target::NOP,
            Self::Identity => Target::IDENT,
        }
    }

    /// Returns the result of an op with this argument, if the result register holds `preset`
    /// before. On 32 bit, argument and result are in one register.
    pub const fn result(self, op: LiveOp, argument: usize, preset: usize) -> usize {
        match (self, op) {
            (Self::Indirect | Self::Native, LiveOp::Extend) => preset as i16 as i32 as u32 as usize,
            (Self::Indirect | Self::Native, _) => argument.swap_bytes(),
            (Self::A, _) => argument.wrapping_add(1),
            (Self::B, _) => argument.wrapping_add(2),
            (Self::Nops, _) => preset,
            (Self::Identity, _) => argument,
        }
    }

    /// Puts the target of this state into the slot of an op.
    pub fn install(self, op: LiveOp) {
        // SAFETY: the functions of `asm/live.S` keep to the ABI class of the ops and are part of
        // the program.
        assert!(unsafe { TABLE.set(op as usize, self.target(op)) });
    }
}

/// A function of `asm/live.S`: one site and a return.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Address of the function, which is also that of its site.
    pub address: usize,
    /// Op of the site.
    pub op: LiveOp,
}

/// Returns all functions of `asm/live.S` but those of the benchmark.
pub fn functions() -> Vec<Function> {
    let start = (&raw const live_functions).expose_provenance();
    let end = (&raw const live_functions_end).addr();
    let word = size_of::<usize>();
    (start..end)
        .step_by(2 * word)
        .map(|at| {
            // SAFETY: between the two labels, `asm/live.S` has pairs of words.
            let [address, op] =
                unsafe { std::ptr::with_exposed_provenance::<[usize; 2]>(at).read() };
            Function { address, op: LiveOp::ALL[op] }
        })
        .collect()
}

/// Returns the addresses of all functions of `asm/live.S` with a branch. Each returns whether
/// [`KEY`] is on.
pub fn branches() -> Vec<usize> {
    let start = (&raw const live_branches).expose_provenance();
    let end = (&raw const live_branches_end).addr();
    (start..end)
        .step_by(size_of::<usize>())
        // SAFETY: between the two labels, `asm/live.S` has words.
        .map(|at| unsafe { std::ptr::with_exposed_provenance::<usize>(at).read() })
        .collect()
}

/// Executes a function with a branch, and returns whether the key is on.
///
/// No register but EAX may change, not even by a trap on the way: the compiler goes on using them.
#[inline(always)]
pub fn execute_branch(address: usize) -> bool {
    let is_on: u32;
    // SAFETY: the function is one of `asm/live.S`: it sets EAX and returns.
    unsafe { std::arch::asm!("call {address}", address = in(reg) address, out("eax") is_on) };
    match is_on {
        0 | 1 => is_on != 0,
        _ => panic!("{is_on:#x} in EAX"),
    }
}

/// Executes a function with `argument` in the argument's register and `preset` in the result's.
/// Returns the result.
///
/// Checks that only the result register and the flags change: the ABI class allows no more, and a
/// trap on the way must not change more either.
#[inline(always)]
pub fn execute(function: Function, argument: usize, preset: usize) -> usize {
    let result;
    #[cfg(target_arch = "x86_64")]
    {
        const MARK: usize = 0x5a5a_a5a5_1234_8765;
        let [mut rcx, mut rdx, mut rsi, mut rdi, mut r8, mut r11] =
            [MARK, MARK + 1, MARK + 2, argument, MARK + 3, MARK + 4];
        // SAFETY: the function is a site of an op of the callee-save class, and a
        // return.
        unsafe {
            std::arch::asm!(
                "call {function}",
                function = in(reg) function.address,
                inlateout("rax") preset => result,
                inlateout("rcx") rcx,
                inlateout("rdx") rdx,
                inlateout("rsi") rsi,
                inlateout("rdi") rdi,
                inlateout("r8") r8,
                inlateout("r11") r11,
            );
        }
        let found = [rcx, rdx, rsi, rdi, r8, r11];
        unchanged(found == [MARK, MARK + 1, MARK + 2, argument, MARK + 3, MARK + 4]);
    }
    #[cfg(target_arch = "x86")]
    {
        let _ = preset;
        const MARK: usize = 0x5a5a_a5a5;
        let [mut ecx, mut edx] = [MARK, MARK + 1];
        // SAFETY: as above.
        unsafe {
            std::arch::asm!(
                "call {function}",
                function = in(reg) function.address,
                inlateout("eax") argument => result,
                inlateout("ecx") ecx,
                inlateout("edx") edx,
            );
        }
        unchanged([ecx, edx] == [MARK, MARK + 1]);
    }
    result
}

/// Ends the process if a register changed. It does not panic, because the writer would then wait
/// for ever for this reader.
#[inline(always)]
fn unchanged(yes: bool) {
    if !yes {
        eprintln!("a register changed that must not");
        std::process::abort();
    }
}

/// Executes all sites of the benchmark except the last, once.
pub fn execute_many() {
    // SAFETY: 4096 sites of the callee-save class without a result, and a return.
    unsafe { std::arch::asm!("call {many}", many = sym live_many) };
}

/// Executes the last site of the benchmark.
#[inline(always)]
pub fn execute_one() {
    // SAFETY: a site of the callee-save class without a result, and a return.
    unsafe { std::arch::asm!("call {one}", one = sym live_one) };
}

/// Returns a table of `count` sites of `asm/live.S`: those at the addresses from `start` on.
pub fn sites_from(start: usize, count: usize) -> Sites<'static> {
    let linked = Sites::linked();
    let first = linked.records().position(|record| record.site() >= start).unwrap_or(0);
    linked.part(first..first + count)
}

/// Returns the last `count` of the [`MANY_SITES`] sites of the benchmark.
pub fn many_sites(count: usize) -> Sites<'static> {
    // The function of one site lies behind the `ret` of the other.
    let last = (live_one as *const ()).addr();
    let first = (live_many as *const ()).addr() + (MANY_SITES - count) * 6;
    sites_from(if count == 1 { last } else { first }, count)
}

/// Makes the state that writers and the signal handler share for the first `count` branches of the
/// benchmark.
pub fn many_branches(count: usize) -> &'static ProcessLive {
    let linked = patchlet::branch::linked().sites();
    let start = (live_many_branches as *const ()).addr();
    let first = linked.records().position(|record| record.site() == start).expect("a branch");
    let branches = linked.part(first..first + count);
    let states: Vec<BranchState> = (0..64).map(|_| BranchState::new()).collect();
    let keys = vec![Keys::linked()].leak();
    // SAFETY: a part of the linker's table; nobody else has these states.
    let source = unsafe { BranchSource::new(branches, keys, states.leak()) };
    live_of(vec![Box::leak(Box::new(source)).part()])
}

/// Executes all branches of the benchmark.
pub fn execute_many_branches() {
    // SAFETY: branches that all go on with the next one, and a return.
    unsafe { std::arch::asm!("call {many}", many = sym live_many_branches) };
}

/// The number of sites of the benchmark.
pub const MANY_SITES: usize = 4097;

/// Returns the sites of all [`functions`].
pub fn sites() -> Sites<'static> {
    let functions = functions();
    let first = functions.iter().map(|function| function.address).min();
    sites_from(first.expect("there are functions"), functions.len())
}

/// Makes the state that writers and the signal handler share for these sites of this table. It
/// lives for ever, because a signal can come at any time.
pub fn live(sites: Sites<'static>, table: &'static Table) -> &'static ProcessLive {
    live_of(vec![part(sites, table)])
}

/// Makes the same for these sites and all branches of the program.
pub fn live_with_branches(sites: Sites<'static>, table: &'static Table) -> &'static ProcessLive {
    live_of(vec![part(sites, table), patchlet::branch::linked()])
}

fn live_of(parts: Vec<Part<'static>>) -> &'static ProcessLive {
    let set: &SiteSet<'static> = Box::leak(Box::new(SiteSet::new(parts.leak())));
    Box::leak(Box::new(Live::new(vec![set].leak())))
}

fn part(sites: Sites<'static>, table: &'static Table) -> Part<'static> {
    let states: Vec<OpState> = table.ops().iter().map(|_| OpState::new()).collect();
    // SAFETY: nobody else has these states.
    let source = unsafe { OpSource::new(vec![table].leak(), states.leak()) };
    // SAFETY: the front end has this part only.
    unsafe { Part::new(sites, Box::leak(Box::new(source))) }
}

//! Ops tables: what each op does now. The native, no-op and identity functions,
//! the macro that defines a table, and the built-in table. Knows no address in
//! text.
//!
//! Unsafe code here declares functions of two bytes whose ABI is not C's, and
//! thunks that save what C may change.
#![allow(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::choose::Choice;
use crate::patchlet::{Patchlet, native};

/// Which registers the functions in an op's slot may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// Only the result register (RAX; 32-bit: EAX, and EDX for a 64-bit result)
    /// and the flags. Argument in RDI (32-bit: EAX, and EDX for its high half).
    CalleeSave,
    /// What C may change. Arguments in RDI, RSI, RDX (32-bit: EAX, EDX, ECX),
    /// result in RAX (32-bit: EAX and EDX).
    C,
    /// Its own; used from assembly only.
    Assembly,
}

/// One thing a kernel does that a hypervisor may want to replace.
#[derive(Debug)]
pub struct Op {
    group: &'static str,
    name: &'static str,
    abi: Abi,
    native: Target,
    patchlet: Option<&'static Patchlet>,
}

impl Op {
    /// Of its parts; `native` is the default of its slot and `patchlet` the same
    /// instructions as a template. For [`ops!`](crate::ops!), and for tests that
    /// make tables of their own.
    #[must_use]
    pub const fn new(
        group: &'static str,
        name: &'static str,
        abi: Abi,
        native: Target,
        patchlet: Option<&'static Patchlet>,
    ) -> Self {
        Self { group, name, abi, native, patchlet }
    }

    /// The group it stands in, `irq`.
    #[must_use]
    pub const fn group(&self) -> &'static str {
        self.group
    }

    /// Its name in the group, `irq_disable`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its ABI class.
    #[must_use]
    pub const fn abi(&self) -> Abi {
        self.abi
    }

    /// Its native function.
    #[must_use]
    pub const fn native(&self) -> Target {
        self.native
    }

    /// Its patchlet, if its native function has one.
    #[must_use]
    pub const fn patchlet(&self) -> Option<&'static Patchlet> {
        self.patchlet
    }

    /// The facts its replacement is chosen by.
    #[must_use]
    pub fn choice(&self) -> Choice<'static> {
        Choice {
            native: self.native.address() as u64,
            patchlet: self.patchlet.map_or(&[], Patchlet::bytes),
            nop: Target::NOP.address() as u64,
            ident: Target::IDENT.address() as u64,
            #[cfg(target_arch = "x86_64")]
            ident_patchlet: native::ident_64.bytes(),
            #[cfg(target_arch = "x86")]
            ident_patchlet: &[],
            trap: native::ud2.bytes(),
        }
    }
}

/// `irq.irq_disable`
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.group, self.name)
    }
}

/// What a slot can hold: the address of a function, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(*const ());

// SAFETY: an address; whoever calls it answers for that.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Nothing: the op must never be used. Its sites become traps (`ud2`).
    pub const NULL: Self = Self(core::ptr::null());

    /// The no-op function: its sites become NOPs, and a result is undefined.
    pub const NOP: Self = Self::function(nop as *const ());

    /// The identity function: the result is the argument.
    #[cfg(target_arch = "x86_64")]
    pub const IDENT: Self = Self::function(patchlet_native_ident_64 as *const ());
    /// The identity function: argument and result are the same registers.
    #[cfg(target_arch = "x86")]
    pub const IDENT: Self = Self::function(ident as *const ());

    /// A function of the op's ABI class; [`slot_fn!`](crate::slot_fn) makes one
    /// of a Rust function.
    #[must_use]
    pub const fn function(function: *const ()) -> Self {
        Self(function)
    }

    /// Its address; 0 is null.
    #[must_use]
    pub fn address(self) -> usize {
        self.0.addr()
    }
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn patchlet_native_ident_64();
}

/// Under a name of its own, so that a program that reads the binary knows it.
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_nop")]
extern "C" fn nop() {
    core::arch::naked_asm!("ret")
}

#[cfg(target_arch = "x86")]
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_ident")]
extern "C" fn ident() {
    core::arch::naked_asm!("ret")
}

/// One function pointer of an ops table; unpatched sites call through it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(AtomicPtr<()>);

impl Slot {
    /// A slot that holds this.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self(AtomicPtr::new(target.0.cast_mut()))
    }

    fn get(&self) -> Target {
        Target(self.0.load(Ordering::Acquire))
    }

    fn set(&self, target: Target) {
        self.0.store(target.0.cast_mut(), Ordering::Release);
    }
}

/// What the sites of one op were last patched for, and what they are being
/// patched for.
#[derive(Debug)]
pub struct Applied {
    now: AtomicUsize,
    /// What that was before it became what it is now. Where a table has several
    /// patchers (a kernel's and its modules'), one is the first to follow a slot.
    before: AtomicUsize,
    /// The slot as it was when the batch in progress began. Other CPUs may set
    /// the slot while a batch is written; every site of it follows this.
    next: AtomicUsize,
}

/// No function is at address 1.
const NEVER: usize = 1;

impl Applied {
    /// Not patched: the sites hold their indirect calls and jumps.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            now: AtomicUsize::new(NEVER),
            before: AtomicUsize::new(NEVER),
            next: AtomicUsize::new(NEVER),
        }
    }
}

/// An ops table: one slot per op.
#[derive(Debug)]
pub struct Table {
    ops: &'static [Op],
    slots: &'static [Slot],
    applied: &'static [Applied],
}

impl Table {
    /// Of its parts, which have one element per op each.
    #[must_use]
    pub const fn new(
        ops: &'static [Op],
        slots: &'static [Slot],
        applied: &'static [Applied],
    ) -> Self {
        assert!(ops.len() == slots.len() && ops.len() == applied.len());
        assert!(ops.len() <= u16::MAX as usize);
        Self { ops, slots, applied }
    }

    /// The ops, in the order of their indices.
    #[must_use]
    pub const fn ops(&self) -> &'static [Op] {
        self.ops
    }

    /// What the slot of this op holds; `None` if there is no such op.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Target> {
        Some(self.slots.get(index)?.get())
    }

    /// Puts a function into the slot of an op; false, and nothing done, if there
    /// is no such op. Sites that are patched already keep doing what they did
    /// until the patcher is run again.
    ///
    /// # Safety
    /// - `target` is null, [`Target::NOP`], [`Target::IDENT`] or a function that
    ///   keeps to the op's ABI class and signature and does what the op is for;
    /// - it stays there for as long as the slot, or a site patched for it, can
    ///   be executed.
    pub unsafe fn set(&self, index: usize, target: Target) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        slot.set(target);
        true
    }

    /// Puts every native function back.
    pub fn reset(&self) {
        for (slot, op) in self.slots.iter().zip(self.ops) {
            slot.set(op.native);
        }
    }

    /// The index of the op whose slot is at this address.
    #[must_use]
    pub fn index_of_slot(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.slots.as_ptr().addr())?;
        let index = offset / size_of::<Slot>();
        (offset % size_of::<Slot>() == 0 && index < self.slots.len()).then_some(index)
    }

    /// What the sites of this op were last patched for; `None` if they were not.
    pub(crate) fn applied(&self, index: usize) -> Option<usize> {
        let address = self.applied.get(index)?.now.load(Ordering::Relaxed);
        (address != NEVER).then_some(address)
    }

    /// What they were patched for before that, by another patcher.
    pub(crate) fn before(&self, index: usize) -> Option<usize> {
        let address = self.applied.get(index)?.before.load(Ordering::Relaxed);
        (address != NEVER).then_some(address)
    }

    /// Keeps what the slots hold, for a batch that takes time.
    pub(crate) fn keep(&self) {
        for (applied, slot) in self.applied.iter().zip(self.slots) {
            applied.next.store(slot.get().address(), Ordering::Relaxed);
        }
    }

    /// What the slot of this op held at the last [`keep`](Self::keep).
    pub(crate) fn kept(&self, index: usize) -> Option<usize> {
        Some(self.applied.get(index)?.next.load(Ordering::Relaxed))
    }

    /// Notes that all sites are patched for what was kept, or reverted.
    pub(crate) fn note(&self, patched: bool) {
        for applied in self.applied {
            let was = applied.now.load(Ordering::Relaxed);
            let is = if patched { applied.next.load(Ordering::Relaxed) } else { NEVER };
            if was != is {
                applied.before.store(was, Ordering::Relaxed);
                applied.now.store(is, Ordering::Relaxed);
            }
        }
    }
}

/// A result of an op, from the result register.
#[doc(hidden)]
pub trait FromRegister {
    fn from_register(register: usize) -> Self;
}

impl FromRegister for usize {
    fn from_register(register: usize) -> Self {
        register
    }
}

impl FromRegister for bool {
    /// C and Rust return a bool in AL and say nothing of the bits above.
    fn from_register(register: usize) -> Self {
        register as u8 != 0
    }
}

#[cfg(target_pointer_width = "64")]
impl FromRegister for u64 {
    fn from_register(register: usize) -> Self {
        register as u64
    }
}

/// Defines an ops table, its ops, and for each op an inline function that is a
/// patch site. The built-in table [`pv`](crate::pv) is its first user.
///
/// ```no_run
/// # patchlet::patchlets! { mod own { invlpg, rdtsc } }
/// # unsafe extern "C" fn yield_natively() {}
/// patchlet::ops! {
///     /// What this kernel lets a hypervisor replace beside the built-in ops.
///     pub mod own_ops as "my_kernel_ops" {
///         tlb {
///             /// Forgets the translation of one page.
///             flush_page: callee_save unsafe fn(address: usize) = patchlet own::invlpg;
///         }
///         time {
///             /// Lets the other virtual CPUs run. It has no patchlet: a native
///             /// function that is too long for a site is called directly.
///             yield_cpu: c fn() = function yield_natively;
///         }
///     }
/// }
/// # fn main() {}
/// ```
///
/// - `as "symbol"` is the linker's name of the table's slots, for `.S` files.
/// - Each op: its name; its ABI class, `callee_save`, `c`, or `assembly` (then it
///   has no function and no signature); the signature, with at most one argument
///   and one result of the size of a register (`u64` to `u64` on 32-bit, too);
///   and what it does natively, a `patchlet` or a `function` without one.
/// - An op may be for one width only: `#[cfg(…)]` before its name, after the docs.
///
/// The module holds the functions, `Id` (the ops by name), `TABLE` for the
/// patcher, `install` and `reset` for the slots.
#[macro_export]
macro_rules! ops {
    (
        $(#[doc = $table_doc:literal])*
        $vis:vis mod $table:ident as $symbol:literal {
            $(
                $group:ident {
                    $(
                        $(#[doc = $doc:literal])*
                        $(#[cfg($($cfg:tt)*)])?
                        $name:ident : $($word:ident)+ $(($($arg:tt)*) $(-> $ret:tt)?)? = $how:ident $what:path;
                    )*
                }
            )*
        }
    ) => {
        $(#[doc = $table_doc])*
        $vis mod $table {
            #[allow(unused_imports)]
            use super::*;

            /// The ops of this table, by name. The number is the op's index.
            #[allow(non_camel_case_types)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[repr(u16)]
            pub enum Id {
                $($(
                    $(#[cfg($($cfg)*)])?
                    $(#[doc = $doc])*
                    $name,
                )*)*
            }

            /// Apart from the functions below, whose names could otherwise hide
            /// the native functions that the table is made of.
            mod table {
                #[allow(unused_imports)]
                use super::super::*;

                const COUNT: usize = [$($($(#[cfg($($cfg)*)])? super::Id::$name,)*)*].len();

                /// The slots. Unpatched sites, in `.S` files too, call through them.
                #[doc(hidden)]
                #[allow(unsafe_code)]
                #[unsafe(export_name = $symbol)]
                pub static SLOTS: [$crate::ops::Slot; COUNT] = [
                    $($($(#[cfg($($cfg)*)])? $crate::ops::Slot::new($crate::__op_native!($how $what)),)*)*
                ];

                /// The table, for the patcher.
                pub static TABLE: $crate::ops::Table = {
                    static OPS: [$crate::ops::Op; COUNT] = [
                        $($($(#[cfg($($cfg)*)])? $crate::ops::Op::new(
                            ::core::stringify!($group),
                            ::core::stringify!($name),
                            $crate::__op_abi!($($word)+),
                            $crate::__op_native!($how $what),
                            $crate::__op_patchlet!($how $what),
                        ),)*)*
                    ];
                    static APPLIED: [$crate::ops::Applied; COUNT] =
                        [const { $crate::ops::Applied::never() }; COUNT];
                    $crate::ops::Table::new(&OPS, &SLOTS, &APPLIED)
                };
            }
            pub use table::{SLOTS, TABLE};

            /// Puts functions into slots, all in one call: the hypervisor layer.
            /// Sites follow when the patcher is run.
            ///
            /// # Safety
            /// - each function keeps to the ABI class and signature of its op, and
            ///   does what the op is for;
            /// - each stays there for as long as its slot, or a site patched for
            ///   it, can be executed.
            #[allow(unsafe_code, dead_code)]
            pub unsafe fn install(layer: &[(Id, $crate::ops::Target)]) {
                for &(id, target) in layer {
                    // SAFETY: the caller answers for every pair of the layer.
                    unsafe { TABLE.set(id as usize, target) };
                }
            }

            /// Puts every native function back into its slot.
            #[allow(dead_code)]
            pub fn reset() {
                TABLE.reset();
            }

            $($(
                $(#[cfg($($cfg)*)])?
                $crate::__op_fn! { [$($word)+] $(#[doc = $doc])* $name $(($($arg)*) $(-> $ret)?)? }
            )*)*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_native {
    (patchlet $patchlet:path) => {
        $crate::ops::Target::function($patchlet.native() as *const ())
    };
    (function $function:path) => {
        $crate::ops::Target::function($function as *const ())
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_patchlet {
    (patchlet $patchlet:path) => {
        ::core::option::Option::Some(&$patchlet)
    };
    (function $function:path) => {
        ::core::option::Option::None
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_abi {
    (callee_save $($rest:tt)*) => {
        $crate::ops::Abi::CalleeSave
    };
    (c $($rest:tt)*) => {
        $crate::ops::Abi::C
    };
    (assembly) => {
        $crate::ops::Abi::Assembly
    };
}

/// The function of an op: the safety and the signature, around `__op_asm!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_fn {
    ([assembly] $($rest:tt)*) => {};
    ([$abi:ident fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ $abi [] $($rest)* }
    };
    ([$abi:ident unsafe fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ $abi [unsafe] $($rest)* }
    };
    (@ $abi:ident [$($unsafe:tt)?] $(#[doc = $doc:literal])* $name:ident ($($arg:ident : $($ty:tt)+)?) $(-> $ret:tt)?) => {
        $(#[doc = $doc])*
        #[inline(always)]
        #[allow(unsafe_code, clippy::missing_safety_doc)]
        pub $($unsafe)? fn $name($($arg: $($ty)+)?) $(-> $ret)? {
            // SAFETY: the index is this op's, and the operands are those of its
            // ABI class; whatever is in the slot keeps to it, by the contract of
            // `install`. What the op does to the machine is the caller's matter.
            unsafe { $crate::__op_asm!($abi, $name, ($($arg : $($ty)+)?) $(-> $ret)?) }
        }
    };
}

/// The site of an op with the operands of its ABI class.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __op_asm {
    ($abi:ident, $name:ident, ()) => {
        $crate::__op_site!($abi, $name,)
    };
    ($abi:ident, $name:ident, () -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, lateout("rax") result,);
        <$ret as $crate::ops::FromRegister>::from_register(result)
    }};
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty)) => {
        $crate::__op_site!($abi, $name, in("rdi") $arg,)
    };
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty) -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, in("rdi") $arg, lateout("rax") result,);
        <$ret as $crate::ops::FromRegister>::from_register(result)
    }};
}

/// The site of an op with the operands of its ABI class.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __op_asm {
    ($abi:ident, $name:ident, ()) => {
        $crate::__op_site!($abi, $name,)
    };
    ($abi:ident, $name:ident, () -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, lateout("eax") result,);
        <$ret as $crate::ops::FromRegister>::from_register(result)
    }};
    ($abi:ident, $name:ident, ($arg:ident : u64) -> u64) => {{
        let (low, high): (u32, u32);
        $crate::__op_site!(
            $abi, $name,
            inlateout("eax") $arg as u32 => low,
            inlateout("edx") ($arg >> 32) as u32 => high,
        );
        u64::from(high) << 32 | u64::from(low)
    }};
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty)) => {
        $crate::__op_site!($abi, $name, in("eax") $arg,)
    };
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty) -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, inlateout("eax") $arg => result,);
        <$ret as $crate::ops::FromRegister>::from_register(result)
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_site {
    (callee_save, $name:ident, $($operand:tt)*) => {
        $crate::site_asm!(call, SLOTS, Id::$name as usize, capacity = 6, $($operand)*)
    };
    (c, $name:ident, $($operand:tt)*) => {
        $crate::site_asm!(call, SLOTS, Id::$name as usize, capacity = 6, $($operand)* clobber_abi("C"),)
    };
}

ops! {
    /// The built-in ops table: the ops of the native set.
    ///
    /// The functions are patch sites. Before patching they go through the table
    /// and work; after it they are the instructions themselves.
    pub mod pv as "patchlet_pv_ops" {
        irq {
            /// Keeps external interrupts off this CPU (`cli`).
            irq_disable: callee_save fn() = patchlet native::irq_disable;
            /// Lets external interrupts in, after the next instruction (`sti`).
            irq_enable: callee_save fn() = patchlet native::irq_enable;
            /// Reads RFLAGS (EFLAGS). Bit 9 is IF.
            save_fl: callee_save fn() -> usize = patchlet native::save_fl;
            /// Writes RFLAGS (EFLAGS), usually to a value of [`save_fl`].
            ///
            /// # Safety
            /// - `flags` has the direction flag clear, and no flag that the code
            ///   behind the call does not expect (TF, AC, IOPL, NT).
            restore_fl: callee_save unsafe fn(flags: usize) = patchlet native::restore_fl;
        }
        mmu {
            /// Reads CR2, the linear address of the last page fault.
            read_cr2: callee_save fn() -> usize = patchlet native::read_cr2;
            /// Reads CR3: the physical address of the top page table, and flags.
            read_cr3: c fn() -> usize = patchlet native::read_cr3;
            /// Writes CR3, and with it flushes non-global translations.
            ///
            /// # Safety
            /// - `cr3` names page tables that map everything this CPU goes on to
            ///   use, as it used it before.
            write_cr3: c unsafe fn(cr3: usize) = patchlet native::write_cr3;
            /// The identity; hypervisors replace it where page-table entries need
            /// translating between what the kernel means and what hardware sees.
            #[cfg(target_arch = "x86_64")]
            ident: callee_save fn(value: u64) -> u64 = patchlet native::ident_64;
            /// The identity; hypervisors replace it where page-table entries need
            /// translating between what the kernel means and what hardware sees.
            #[cfg(target_arch = "x86")]
            ident: callee_save fn(value: u64) -> u64 = function ident;
        }
        lock {
            /// Releases a spinlock: stores 0 to its byte.
            ///
            /// # Safety
            /// - `lock` points to the lock's byte, valid for writes;
            /// - this CPU holds the lock.
            queued_spin_unlock: callee_save unsafe fn(lock: *mut u8) = patchlet native::queued_spin_unlock;
            /// Whether the virtual CPU of this number is off its core, so that
            /// waiting for it is in vain. On bare metal: no.
            vcpu_is_preempted: callee_save fn(cpu: usize) -> bool = patchlet native::vcpu_is_preempted;
        }
        cpu {
            /// Writes all caches back and invalidates them. Slow: milliseconds.
            #[cfg(target_arch = "x86_64")]
            wbinvd: c fn() = patchlet native::wbinvd;
            /// Exchanges the GS bases. From assembly: `PATCHLET_CALL swapgs`.
            #[cfg(target_arch = "x86_64")]
            swapgs: assembly = patchlet native::swapgs;
            /// Back to user mode: `PATCHLET_JMP usergs_sysret64`.
            #[cfg(target_arch = "x86_64")]
            usergs_sysret64: assembly = patchlet native::usergs_sysret64;
            /// Back from an interrupt: `PATCHLET_JMP iret`.
            #[cfg(target_arch = "x86")]
            iret: assembly = patchlet native::iret;
        }
    }
}

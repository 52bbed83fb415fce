//! The ready-made table: what kernels do in different ways on different CPUs. It is made by `ops!`,
//! as are the tables of a kernel, and a kernel that does not name it has no byte of it.

use crate::patchlet::cpu_native;

crate::ops! {
    /// The ready-made table of ops that differ by CPU. Its function `select` chooses.
    ///
    /// Before that, each op does what its default does, which works on every CPU of this width: from
    /// the first instruction on, in code that is not patched yet, and on a CPU that has none of the
    /// features. [`guide::features`](crate::guide::features) has a table of all variants.
    ///
    /// ```no_run
    /// use patchlet::cpu::Features;
    /// use patchlet::cpu_ops;
    ///
    /// patchlet::site_set! {
    ///     static KERNEL = [patchlet::pv, cpu_ops];
    /// }
    ///
    /// // SAFETY: this is ring 0; all CPUs are alike, and no bit of CR4 or XCR0 will be cleared.
    /// let features = unsafe { Features::detect_with_control_registers() };
    /// unsafe { cpu_ops::select(&features) };
    /// // Then the sites of KERNEL are patched, once.
    /// ```
    pub mod cpu_ops as "patchlet_cpu_ops" {
        user {
            /// Lets the kernel access user memory, until [`clac`]: sets the flag AC (`stac`). Without
            /// SMAP it does nothing.
            ///
            /// Code between the two is as short as can be, and calls nothing: everything that runs
            /// there can access user memory. An interrupt saves AC with the flags, and its handler
            /// begins with [`clac`].
            stac: callee_save fn() = nothing, if [SMAP] => patchlet cpu_native::cpu_stac;
            /// Forbids the kernel to access user memory again: clears the flag AC (`clac`). Without
            /// SMAP it does nothing.
            clac: callee_save fn() = nothing, if [SMAP] => patchlet cpu_native::cpu_clac;
        }
        segment {
            /// Reads the base of FS: by an MSR, or by `rdfsbase` if CR4.FSGSBASE is set.
            #[cfg(target_arch = "x86_64")]
            read_fs_base: callee_save fn() -> usize
                = assembly "patchlet_cpu_rdmsr_fs_base",
                if [FSGSBASE_ENABLED] => patchlet cpu_native::cpu_rdfsbase;
            /// Writes the base of FS: by an MSR, or by `wrfsbase` if CR4.FSGSBASE is set.
            ///
            /// # Safety
            /// - `base` is canonical, else #GP comes;
            /// - code that uses FS from now on expects this base.
            #[cfg(target_arch = "x86_64")]
            write_fs_base: callee_save unsafe fn(base: usize)
                = assembly "patchlet_cpu_wrmsr_fs_base",
                if [FSGSBASE_ENABLED] => patchlet cpu_native::cpu_wrfsbase;
            /// Reads the base of GS: by an MSR, or by `rdgsbase` if CR4.FSGSBASE is set.
            ///
            /// It is the base that GS has now. In a kernel that uses SWAPGS that is the kernel's; the
            /// user's is in IA32_KERNEL_GS_BASE meanwhile, and no instruction but RDMSR reads it there.
            /// `swapgs; rdgsbase; swapgs` is faster and is no variant of this op: an NMI or machine
            /// check between the two SWAPGS finds the kernel's CS and the user's GS. A kernel whose
            /// handlers can cope with that defines an op of its own.
            #[cfg(target_arch = "x86_64")]
            read_gs_base: callee_save fn() -> usize
                = assembly "patchlet_cpu_rdmsr_gs_base",
                if [FSGSBASE_ENABLED] => patchlet cpu_native::cpu_rdgsbase;
            /// Writes the base of GS that GS has now, see [`read_gs_base`]: by an MSR, or by `wrgsbase`
            /// if CR4.FSGSBASE is set.
            ///
            /// # Safety
            /// - `base` is canonical, else #GP comes;
            /// - code that uses GS from now on expects this base, handlers of interrupts included.
            #[cfg(target_arch = "x86_64")]
            write_gs_base: callee_save unsafe fn(base: usize)
                = assembly "patchlet_cpu_wrmsr_gs_base",
                if [FSGSBASE_ENABLED] => patchlet cpu_native::cpu_wrgsbase;
        }
        memory {
            /// Copies memory: by loads and stores, and long ranges by `rep movsq` (32 bit: `rep movsl`) or,
            /// with ERMS, `rep movsb`; with FSRM also those of the short ranges for which that is faster.
            ///
            /// It is no copy that may fault: which instruction a page fault hits, and with how many
            /// bytes left, depends on the variant.
            ///
            /// # Safety
            /// - `len` bytes at `from` are valid for reads, and as many at `to` for writes;
            /// - the two ranges do not overlap.
            copy: c unsafe fn(to: *mut u8, from: *const u8, len: usize)
                = assembly "patchlet_cpu_copy",
                if [ERMS] => assembly "patchlet_cpu_copy_long_movsb",
                if [ERMS, FSRM] => assembly "patchlet_cpu_copy_short_movsb";
            /// Fills memory with one byte: by stores, and long ranges by `rep stosq` (32 bit: `rep stosl`)
            /// or, with ERMS, `rep stosb`.
            ///
            /// # Safety
            /// - `len` bytes at `to` are valid for writes.
            fill: c unsafe fn(to: *mut u8, value: u8, len: usize)
                = assembly "patchlet_cpu_fill",
                if [ERMS] => assembly "patchlet_cpu_fill_long_stosb";
        }
        time {
            /// Reads the time-stamp counter, not before all earlier instructions have been executed.
            /// (Later ones may begin before it is read.) By `rdtscp`, or `rdtsc` behind what orders it
            /// on this CPU: `lfence`, or `mfence; lfence`.
            ///
            /// Where user mode may not read the counter (CR4.TSD), only ring 0 may do this.
            #[cfg(target_arch = "x86_64")]
            #[capacity(15)]
            time_stamp: c fn() -> u64 = patchlet cpu_native::cpu_rdtsc_mfence,
                if [INTEL] => patchlet cpu_native::cpu_rdtsc_lfence,
                if [LFENCE_SERIALIZING] => patchlet cpu_native::cpu_rdtsc_lfence,
                if [RDTSCP] => patchlet cpu_native::cpu_rdtscp;
            /// Reads the time-stamp counter, not before all earlier instructions have been executed.
            /// (Later ones may begin before it is read.) By `rdtscp`, or `rdtsc` behind what orders it
            /// on this CPU: `lfence`, `mfence; lfence`, or without SSE2 `cpuid`.
            ///
            /// Returns 0 on a CPU that has no such counter, and on each before [`select`]. Where user
            /// mode may not read the counter (CR4.TSD), only ring 0 may do this.
            #[cfg(target_arch = "x86")]
            #[capacity(10)]
            time_stamp: c fn() -> u64 = patchlet cpu_native::cpu_no_time_stamp,
                if [TSC] => patchlet cpu_native::cpu_rdtsc_cpuid,
                if [TSC, SSE2] => patchlet cpu_native::cpu_rdtsc_mfence,
                if [TSC, SSE2, INTEL] => patchlet cpu_native::cpu_rdtsc_lfence,
                if [TSC, SSE2, LFENCE_SERIALIZING] => patchlet cpu_native::cpu_rdtsc_lfence,
                if [RDTSCP] => patchlet cpu_native::cpu_rdtscp;
        }
        hypercall {
            /// Calls the hypervisor, with arguments and results in the registers of its own
            /// convention: by `vmcall` on CPUs of Intel, Centaur and Zhaoxin, by `vmmcall` on those
            /// of AMD and Hygon. Before [`select`] it asks CPUID each time.
            ///
            /// Used by [`site_asm!`](crate::site_asm), whose operands say which registers the hypercall
            /// reads and changes, or from assembly: `PATCHLET_CALL`.
            hypercall: assembly = assembly "patchlet_cpu_hypercall",
                if [INTEL] => patchlet cpu_native::cpu_vmcall,
                if [CENTAUR] => patchlet cpu_native::cpu_vmcall,
                if [ZHAOXIN] => patchlet cpu_native::cpu_vmcall,
                if [AMD] => patchlet cpu_native::cpu_vmmcall,
                if [HYGON] => patchlet cpu_native::cpu_vmmcall;
        }
        state {
            /// Saves the state components of `mask` (bits as in XCR0) in memory, and leaves the
            /// registers as they are: by the best of `xsaves`, `xsavec`, `xsaveopt`, `xsave` and
            /// `fxsave64`. [`restore_state`] loads it again.
            ///
            /// `fxsave64` saves x87 and SSE state whatever the mask is. `xsaveopt` and `xsaves` leave
            /// out what did not change since it was restored from the same address, and all but
            /// `xsave` and `fxsave64` leave out what is in its initial state.
            ///
            /// # Safety
            /// - `area` is valid for reads and writes of as many bytes as the state takes: 512, or with
            ///   XSAVE what CPUID leaf 0DH says (sub-leaf 0 EBX, with XSAVEC sub-leaf 1 EBX);
            /// - `area` is a multiple of 16, or with XSAVE of 64;
            /// - the area was zero before the first state was saved in it, and since then only this op
            ///   has written to it;
            /// - CR0.TS is clear, else #NM comes;
            /// - for as long as any area holds a state, no other variant is selected: their formats
            ///   differ.
            #[cfg(target_arch = "x86_64")]
            #[capacity(13)]
            save_state: c unsafe fn(area: *mut u8, mask: u64) = patchlet cpu_native::cpu_fxsave,
                if [OSXSAVE] => patchlet cpu_native::cpu_xsave,
                if [OSXSAVE, XSAVEOPT] => patchlet cpu_native::cpu_xsaveopt,
                if [OSXSAVE, XSAVEC] => patchlet cpu_native::cpu_xsavec,
                if [OSXSAVE, XSAVES] => patchlet cpu_native::cpu_xsaves;
            /// Loads the state components of `mask` that [`save_state`] saved: by `xrstors`, `xrstor`
            /// or `fxrstor64`. A component of the mask that is not in the area becomes initial.
            ///
            /// # Safety
            /// - `area` is one in which [`save_state`] has saved a state, by the variant that is
            ///   selected now;
            /// - CR0.TS is clear, else #NM comes;
            /// - the code behind the call expects the registers to have what was saved.
            #[cfg(target_arch = "x86_64")]
            #[capacity(13)]
            restore_state: c unsafe fn(area: *const u8, mask: u64) = patchlet cpu_native::cpu_fxrstor,
                if [OSXSAVE] => patchlet cpu_native::cpu_xrstor,
                if [OSXSAVE, XSAVES] => patchlet cpu_native::cpu_xrstors;
            /// Saves the state components of `mask` (bits as in XCR0) in memory, and leaves the
            /// registers as they are: by the best of `xsaves`, `xsavec`, `xsaveopt`, `xsave`, `fxsave`
            /// and `fnsave`. [`restore_state`] loads it again.
            ///
            /// `fxsave` saves x87 and SSE state whatever the mask is, and `fnsave` x87 state. `xsaveopt`
            /// and `xsaves` leave out what did not change since it was restored from the same address,
            /// and all but `xsave`, `fxsave` and `fnsave` leave out what is in its initial state.
            ///
            /// # Safety
            /// - `area` is valid for reads and writes of as many bytes as the state takes: 512, or with
            ///   XSAVE what CPUID leaf 0DH says (sub-leaf 0 EBX, with XSAVEC sub-leaf 1 EBX);
            /// - `area` is a multiple of 16, or with XSAVE of 64;
            /// - the area was zero before the first state was saved in it, and since then only this op
            ///   has written to it;
            /// - CR0.TS and CR0.EM are clear, else #NM comes;
            /// - for as long as any area holds a state, no other variant is selected: their formats
            ///   differ.
            #[cfg(target_arch = "x86")]
            save_state: c unsafe fn(area: *mut u8, mask: u64) = patchlet cpu_native::cpu_fnsave,
                if [FXSR] => patchlet cpu_native::cpu_fxsave,
                if [OSXSAVE] => patchlet cpu_native::cpu_xsave,
                if [OSXSAVE, XSAVEOPT] => patchlet cpu_native::cpu_xsaveopt,
                if [OSXSAVE, XSAVEC] => patchlet cpu_native::cpu_xsavec,
                if [OSXSAVE, XSAVES] => patchlet cpu_native::cpu_xsaves;
            /// Loads the state components of `mask` that [`save_state`] saved: by `xrstors`, `xrstor`,
            /// `fxrstor` or `frstor`. A component of the mask that is not in the area becomes initial.
            ///
            /// # Safety
            /// - `area` is one in which [`save_state`] has saved a state, by the variant that is
            ///   selected now;
            /// - CR0.TS and CR0.EM are clear, else #NM comes;
            /// - the code behind the call expects the registers to have what was saved.
            #[cfg(target_arch = "x86")]
            restore_state: c unsafe fn(area: *const u8, mask: u64) = patchlet cpu_native::cpu_frstor,
                if [FXSR] => patchlet cpu_native::cpu_fxrstor,
                if [OSXSAVE] => patchlet cpu_native::cpu_xrstor,
                if [OSXSAVE, XSAVES] => patchlet cpu_native::cpu_xrstors;
        }
        cache {
            /// Writes the cache line of an address back to memory, if it was modified, and forgets it:
            /// by `clflushopt`, `clflush`, or without either all caches by `wbinvd`.
            ///
            /// `clflushopt` is not ordered with other lines: behind the last of them comes a store
            /// fence (SDM vol. 2A, "CLFLUSHOPT").
            ///
            /// # Safety
            /// - the address is mapped, else #PF comes;
            /// - the line may be written back: it is not memory that a device changes meanwhile.
            #[cfg(target_arch = "x86_64")]
            flush_line: callee_save unsafe fn(address: *const u8) = patchlet cpu_native::cpu_clflush,
                if [CLFLUSHOPT] => patchlet cpu_native::cpu_clflushopt;
            /// Writes the cache line of an address back to memory, if it was modified, and forgets it:
            /// by `clflushopt`, `clflush`, or without either all caches by `wbinvd`, which only ring 0
            /// may do.
            ///
            /// `clflushopt` is not ordered with other lines: behind the last of them comes a store
            /// fence (SDM vol. 2A, "CLFLUSHOPT").
            ///
            /// # Safety
            /// - the address is mapped, else #PF comes;
            /// - the line may be written back: it is not memory that a device changes meanwhile.
            #[cfg(target_arch = "x86")]
            flush_line: callee_save unsafe fn(address: *const u8) = patchlet cpu_native::cpu_wbinvd,
                if [CLFSH] => patchlet cpu_native::cpu_clflush,
                if [CLFLUSHOPT] => patchlet cpu_native::cpu_clflushopt;
        }
    }
}

/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The macros for patch sites in assembly. `patchlet.h` includes this file. The only instructions
 * here are the indirect call and jump of a site, and the NOP or jump of a branch. GNU as (through gcc) and LLVM's assembler
 * (through clang) both accept the file. It is for `.S` files, which the C preprocessor reads first.
 *
 * A site is one line, at the place of the call or jump:
 *
 *	PATCHLET_CALL swapgs
 *	PATCHLET_JMP  usergs_sysret64
 *	PATCHLET_CALL flush_page, table=my_kernel_ops
 *	PATCHLET_CALL long_op, capacity=16, table=my_kernel_ops
 *	PATCHLET_CALL table=made_by_hand, index=3
 *
 *	op		the name of the op in its table. If the table has no such op, the
 *			linker reports an undefined symbol, such as `my_kernel_ops.flush_pgae`.
 *	capacity	the size of the site in bytes, 6 to 32; 6 if it is left out. Bytes behind
 *			the instruction are NOPs. Patching fails if a patchlet is longer.
 *	table		the symbol of the ops table: the name behind `as` in `ops!`. If it is left
 *			out, the table is the built-in one, `patchlet::pv`.
 *	index		the number of the op, instead of its name, for a table that was not
 *			made by `ops!` and therefore has no symbols for its ops.
 *
 * PATCHLET_CALL returns to the code behind the site. PATCHLET_JMP is for ops that leave, such as
 * `iret`: from a patchlet that does not leave, the CPU runs on into the bytes behind the site.
 *
 * A static branch is one line as well:
 *
 *	PATCHLET_BRANCH my_trace_key, 1f
 *	PATCHLET_BRANCH my_trace_key, 1f, if=off
 *	PATCHLET_BRANCH my_fast_key, slow_path, starts=on, if=off
 *
 *	key		the symbol of the key: the name behind `as` in `keys!`
 *	target		where the branch jumps: a label of this file, or a symbol
 *	if		the state of the key in which it jumps, `on` or `off`; `on` if it is left out.
 *			In the other state the branch is a NOP, and the CPU goes on behind it.
 *	starts		the state in which the key starts, as `keys!` says; `off` if it is left out.
 *			If the key starts in the other one, the linker reports an undefined symbol,
 *			such as `my_fast_key.off`.
 *
 * A branch has 5 bytes, whichever it is. A CPU must be able to take #BP at it, if the branches of the
 * kernel are switched by the INT3 protocol.
 *
 * A replacement can have several instructions, NOPs among them. So no prefix (LOCK, REP) may
 * stand before a site, and code must not rely on the effect of an instruction before the site that
 * lasts for one instruction only (MOV SS, POP SS, STI).
 */
#ifndef PATCHLET_SITE_H
#define PATCHLET_SITE_H

#if !defined(__ASSEMBLER__)
#error "patchlet.h is for assembly (.S) files"
#endif
/* __ELF__ is not tested, because clang does not define it for x86_64-unknown-none. */
#if defined(_WIN32) || defined(__CYGWIN__) || defined(__APPLE__) || \
	!(defined(__i386__) || (defined(__x86_64__) && !defined(__ILP32__)))
#error "patchlet.h: only 32-bit and 64-bit x86 ELF targets are supported"
#endif

/* Emits a site that calls; the parameters are described above. */
.macro PATCHLET_CALL op, capacity=6, table=patchlet_pv_ops, index
	patchlet_site call, 0, \capacity, \table, \op, \index
.endm

/* Emits a site that jumps; the parameters are described above. */
.macro PATCHLET_JMP op, capacity=6, table=patchlet_pv_ops, index
	patchlet_site jmp, 1, \capacity, \table, \op, \index
.endm

/* Finds the slot and the index of an op by its name or by its index, and emits the site.
 *	opcode		the mnemonic of the unpatched site, `call` or `jmp`
 *	kind		its number in the record, as in `patchlet::Kind`: 0 for `call`, 1 for `jmp`
 *	capacity, table, op, index
 *			as for PATCHLET_CALL */
.macro patchlet_site opcode:req, kind:req, capacity:req, table:req, op, index
	.ifb \op
	.ifb \index
	.error "a patch site names its op, or gives the index of one"
	.else
	patchlet_emit_site \opcode, \kind, \capacity, \table, PATCHLET_POINTER*(\index), \index
	.endif
	.else
	.ifnb \index
	.error "a patch site names its op or gives its index, and not both: take `index=` away"
	.else
	.ifc \table, patchlet_pv_ops
	.ifndef PATCHLET_OP_\op
	.error "the built-in table has no op `\op`; one of another table needs table="
	.else
	patchlet_emit_site \opcode, \kind, \capacity, \table, PATCHLET_POINTER*PATCHLET_OP_\op, PATCHLET_OP_\op
	.endif
	.else
	/* `ops!` defines two symbols for each op: the slot's address, and one that tells the index. */
	patchlet_emit_site \opcode, \kind, \capacity, \table\().\op, 0, \table\().\op\().index, 1
	.endif
	.endif
	.endif
.endm

/* Emits a site and its record, a `patchlet::site::Record`. The layout is asserted in
 * src/site.rs.
 *
 * Flag "o" (SHF_LINK_ORDER) ties the record's section to the section of the site: the linker
 * drops both together, and sorts the records by the addresses of their sites.
 *
 * The relocation at the site changes no byte. It makes the site's section refer to the record's.
 * `ld -r` merges the records of all sites into one section that is tied to the section of some
 * one site; without this reference, all records would be dropped with that site.
 *
 * The name of the section is a C identifier, so that every linker defines the symbols that bound
 * it, __start_patchlet_sites and __stop_patchlet_sites.
 *	opcode, kind	as for patchlet_site
 *	capacity	the size of the site, in bytes
 *	slot		a symbol
 *	offset		the distance from that symbol to the op's slot, in bytes
 *	index		the index of the op, a number or a symbol
 *	named		1 if it is a symbol of `ops!`, else 0. On 64 bit the index is then the size of
 *			the symbol, because GNU ld refuses a 16-bit value of a symbol in a program
 *			that is position-independent. One long holds index, capacity and kind. */
.macro patchlet_emit_site opcode:req, kind:req, capacity:req, slot:req, offset:req, index:req, named=0
	.if \capacity < 6 || \capacity > 32
	.error "a patch site has 6 to 32 bytes"
	.endif
	/* Hidden for shared objects: the site reaches the slots at a distance that is
	 * fixed at link time, so no other object may preempt them. */
	.hidden	\slot
.Lpatchlet_site_\@:
#ifdef __x86_64__
	\opcode	*(\slot + \offset)(%rip)
#else
	\opcode	*(\slot + \offset)
#endif
	/* Not for a length of 0, of which GNU as warns. */
	.if \capacity > 6
	.skip	\capacity - 6, 0x90
	.endif
	.reloc	.Lpatchlet_site_\@, BFD_RELOC_NONE, .Lpatchlet_record_\@
	.pushsection patchlet_sites, "ao", @progbits, .Lpatchlet_site_\@
	.balign	4
.Lpatchlet_record_\@:
	.long	.Lpatchlet_site_\@ - .
	.long	\slot + \offset - .
#ifdef __x86_64__
	.if \named
	.long	\index\()@SIZE + ((\capacity) << 16) + (\kind << 24)
	.else
#endif
	.short	\index
	.byte	\capacity, \kind
#ifdef __x86_64__
	.endif
#endif
	.popsection
.endm

/* Emits a static branch and its record; the parameters are described above. The bytes are those of
 * the state in which the key starts, so the branch is right before anything was patched. */
.macro PATCHLET_BRANCH key:req, target:req, if=on, starts=off
	.ifc	\if, \starts
	patchlet_emit_branch \key, \target, \if, \starts, 1
	.else
	patchlet_emit_branch \key, \target, \if, \starts, 0
	.endif
.endm

/* The record has 16 bytes: the site, the key (both relative to the field), a long of the number,
 * which is 0, the capacity and the kind, and the target. Why it is tied to its site in this way is
 * told at patchlet_emit_site.
 *	key, target, if, starts
 *			as for PATCHLET_BRANCH
 *	jumps		1 if the branch jumps as long as the key is as it started */
.macro patchlet_emit_branch key:req, target:req, if:req, starts:req, jumps:req
	.hidden	\key\().\starts, \key\().record
.Lpatchlet_branch_\@:
	.if \jumps
	/* Not `jmp`, for which the assembler chooses two bytes where these reach. */
	.byte	0xe9
	.long	\target - . - 4
	.else
#ifdef __x86_64__
	.long	0x00441f0f
#else
	/* The NOP that Rust code has in its branches. */
	.hidden	\key\().nop
	.long	\key\().nop
#endif
	.byte	0
	.endif
	.reloc	.Lpatchlet_branch_\@, BFD_RELOC_NONE, .Lpatchlet_record_\@
	.reloc	.Lpatchlet_branch_\@, BFD_RELOC_NONE, \key\().record
	.pushsection patchlet_branches, "ao", @progbits, .Lpatchlet_branch_\@
	.balign	4
.Lpatchlet_record_\@:
	.long	.Lpatchlet_branch_\@ - .
	/* The address of the key, under a name that only a key of this state has. */
	.long	\key\().\starts - .
	.short	0
	.ifc	\if, on
	.byte	5, 0
	.else
	.ifc	\if, off
	.byte	5, 1
	.else
	.error	"a branch has `if=on` or `if=off`"
	.endif
	.endif
	.long	\target - .
	.popsection
.endm

/* Size of a slot, in bytes. */
#ifdef __x86_64__
	.set	PATCHLET_POINTER, 8
#else
	.set	PATCHLET_POINTER, 4
#endif

/* The index of each op in the built-in table, `patchlet::pv`. A test compares them with the
 * Rust side. The symbols are absolute and local to the object. */
	.set	PATCHLET_OP_irq_disable,		0
	.set	PATCHLET_OP_irq_enable,			1
	.set	PATCHLET_OP_save_fl,			2
	.set	PATCHLET_OP_restore_fl,			3
	.set	PATCHLET_OP_read_cr2,			4
	.set	PATCHLET_OP_read_cr3,			5
	.set	PATCHLET_OP_write_cr3,			6
	.set	PATCHLET_OP_ident,			7
	.set	PATCHLET_OP_queued_spin_unlock,		8
	.set	PATCHLET_OP_vcpu_is_preempted,		9
#ifdef __x86_64__
	.set	PATCHLET_OP_wbinvd,			10
	.set	PATCHLET_OP_swapgs,			11
	.set	PATCHLET_OP_usergs_sysret64,		12
	.set	PATCHLET_OP_safe_halt,			13
	.set	PATCHLET_OP_halt,			14
#else
	.set	PATCHLET_OP_iret,			10
	.set	PATCHLET_OP_safe_halt,			11
	.set	PATCHLET_OP_halt,			12
#endif

/* Without this section, GNU ld takes it that the object needs an executable stack. */
	.section .note.GNU-stack, "", @progbits
	.text

#endif /* PATCHLET_SITE_H */

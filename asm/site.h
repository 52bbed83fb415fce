/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The macros of `patchlet` for patch sites in assembly. `patchlet.h` includes this file. There
 * is no instruction in it but the indirect call and jump of a site. GNU as (gcc) and LLVM's
 * assembler (clang) both take it; it is for `.S` files, the C preprocessor runs first.
 *
 * A site is one line, where the call or jump shall stand:
 *
 *	PATCHLET_CALL swapgs
 *	PATCHLET_JMP  usergs_sysret64
 *	PATCHLET_CALL flush_page, table=my_kernel_ops
 *	PATCHLET_CALL long_op, capacity=16, table=my_kernel_ops
 *	PATCHLET_CALL table=made_by_hand, index=3
 *
 *	op		the name of the op in its table. A name that the table does not have
 *			is an undefined symbol for the linker, `my_kernel_ops.flush_pgae`.
 *	capacity	how many bytes the site has, 6 to 32. The rest is filled with NOPs;
 *			a patchlet that is longer is an error when the site is patched.
 *	table		the linker's name of the ops table: what stands behind `as` in `ops!`.
 *			Without it: `patchlet::pv`, the built-in one.
 *	index		the number of the op, in place of its name, for a table that was not
 *			made by `ops!` and therefore has no names.
 *
 * PATCHLET_CALL comes back behind the site. PATCHLET_JMP is for ops that do not come back; a
 * patchlet that ends without leaving runs on into what follows the site.
 *
 * The site replaces the code around it in one respect: its patchlet is not the first and only
 * instruction there. No prefix (LOCK, REP) may stand before a site, and no instruction whose
 * effect lasts for one instruction (MOV SS, POP SS, STI) may rely on what follows.
 */
#ifndef PATCHLET_SITE_H
#define PATCHLET_SITE_H

#if !defined(__ASSEMBLER__)
#error "patchlet.h is for assembly (.S) files"
#endif
/* Not by __ELF__: clang does not define it for x86_64-unknown-none. */
#if defined(_WIN32) || defined(__CYGWIN__) || defined(__APPLE__) || \
	!(defined(__i386__) || (defined(__x86_64__) && !defined(__ILP32__)))
#error "patchlet.h: only 32-bit and 64-bit x86 ELF targets are supported"
#endif

.macro PATCHLET_CALL op, capacity=6, table=patchlet_pv_ops, index
	patchlet_site call, 0, \capacity, \table, \op, \index
.endm

.macro PATCHLET_JMP op, capacity=6, table=patchlet_pv_ops, index
	patchlet_site jmp, 1, \capacity, \table, \op, \index
.endm

/* Finds the slot and the index of an op by its name or by its index.
 *	opcode		the mnemonic of the unpatched site, `call` or `jmp`
 *	kind		its number in the record: 0 or 1, `patchlet::site::Kind`
 *	the others	as above */
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
	/* The two symbols that `ops!` defines for each op. */
	patchlet_emit_site \opcode, \kind, \capacity, \table\().\op, 0, \table\().\op\().index, 1
	.endif
	.endif
	.endif
.endm

/* Emits a site and its record, which is `patchlet::site::Record`; the layout is asserted
 * there. "o" (SHF_LINK_ORDER) ties a record to the section of its site: it is dropped with
 * it, and the linker sorts the records by the address of their sites. The relocation at the
 * site, which relocates nothing, ties them the other way round: `ld -r` makes one section of
 * all records, tied to the section of any one site, and without the relocation all would go
 * with that one. The section name is a C identifier so that every linker gives it bounds,
 * __start_patchlet_sites and __stop_patchlet_sites.
 *	slot		a symbol,
 *	offset		and how far from it the slot of the op is, in bytes
 *	index		the index of the op, a number or a symbol
 *	named		whether it is a symbol of `ops!`. On 64 bit the index is then the symbol's
 *			size: GNU ld puts no 16-bit value of a symbol into a position-independent
 *			program. The long is index, capacity and kind, in this order. */
.macro patchlet_emit_site opcode:req, kind:req, capacity:req, slot:req, offset:req, index:req, named=0
	.if \capacity < 6 || \capacity > 32
	.error "a patch site has 6 to 32 bytes"
	.endif
	/* In a shared object the slots are reached at a fixed distance, which they
	 * have only if no other object can replace them. */
	.hidden	\slot
.Lpatchlet_site_\@:
#ifdef __x86_64__
	\opcode	*(\slot + \offset)(%rip)
#else
	\opcode	*(\slot + \offset)
#endif
	/* GNU as warns of a length of 0. */
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

/* Size of a slot, in bytes. */
#ifdef __x86_64__
	.set	PATCHLET_POINTER, 8
#else
	.set	PATCHLET_POINTER, 4
#endif

/* The index of each op in the built-in table, `patchlet::pv`; a test compares
 * them with the Rust side. Absolute, local to the object. */
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

/* Assembly never needs an executable stack; say so, or linkers assume it. */
	.section .note.GNU-stack, "", @progbits
	.text

#endif /* PATCHLET_SITE_H */

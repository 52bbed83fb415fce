/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The macros of `patchlet` for assembly: patchlets and patch sites.
 * There is no instruction in this file but the indirect call and jump of a
 * site. GNU as (gcc) and LLVM's assembler (clang) both take it; it is for
 * `.S` files, the C preprocessor runs first.
 *
 * A patchlet is its instructions between two macros:
 *
 *	PATCHLET(irq_disable)
 *		cli
 *	END_PATCHLET(irq_disable)
 *
 * which gives, from the same lines,
 *
 *	patchlet_irq_disable_start, patchlet_irq_disable_end
 *		hidden labels around the bytes in .rodata.patchlets, and
 *	patchlet_native_irq_disable
 *		the native function: the same instructions and a `ret`, and
 *	a record in the section patchlet_index
 *		with the name, for binaries whose symbols are stripped.
 *
 * END_PATCHLET_JUMP(name) ends a patchlet that leaves by itself (`iret`): its
 * native function has no `ret`.
 *
 * A site is one line, where the call or jump shall stand:
 *
 *	PATCHLET_CALL swapgs
 *	PATCHLET_JMP usergs_sysret64
 *	PATCHLET_CALL my_op, capacity=8, table=my_ops, index=3
 */
#ifndef PATCHLET_H
#define PATCHLET_H

#if !defined(__ASSEMBLER__)
#error "patchlet.h is for assembly (.S) files"
#endif
/* Not by __ELF__: clang does not define it for x86_64-unknown-none. */
#if defined(_WIN32) || defined(__CYGWIN__) || defined(__APPLE__) || \
	!(defined(__i386__) || (defined(__x86_64__) && !defined(__ILP32__)))
#error "patchlet.h: only 32-bit and 64-bit x86 ELF targets are supported"
#endif

/* The body becomes an assembler macro, so that one text makes both copies. */
#define PATCHLET(name)		.macro patchlet_body_##name
#define END_PATCHLET(name)	.endm ; patchlet_emit name, ret
#define END_PATCHLET_JUMP(name)	.endm ; patchlet_emit name

.macro patchlet_emit name:req, return
	.ifdef patchlet_\name\()_start
	.error "patchlet `\name` is defined twice"
	.else
	/* "R" (SHF_GNU_RETAIN) keeps the section through --gc-sections. No
	 * .balign here: padding would lie between two labels. */
	.pushsection .rodata.patchlets, "aR", @progbits
	.globl	patchlet_\name\()_start, patchlet_\name\()_end
	.hidden	patchlet_\name\()_start, patchlet_\name\()_end
	.type	patchlet_\name\()_start, @object
	.type	patchlet_\name\()_end, @notype
patchlet_\name\()_start:
	patchlet_body_\name
patchlet_\name\()_end:
	.size	patchlet_\name\()_start, . - patchlet_\name\()_start
	.popsection

	.pushsection .text.patchlet_native_\name, "ax", @progbits
	.globl	patchlet_native_\name
	.hidden	patchlet_native_\name
	.type	patchlet_native_\name, @function
patchlet_native_\name:
	/* Relocates nothing, but refers to the index: GNU ld heeds "R" only in
	 * objects whose OS/ABI is GNU's or FreeBSD's, and some kernels have another. */
5100:	.reloc	5100b, BFD_RELOC_NONE, .Lpatchlet_index_\name
	patchlet_body_\name
	\return
	.size	patchlet_native_\name, . - patchlet_native_\name
	.popsection

	/* The index: what tells a patchlet's name, length and native function
	 * when the symbols are stripped. The native function is the second copy
	 * that the bytes are checked against. A C identifier, so that the
	 * section keeps its name through links without a script. */
	.pushsection patchlet_index, "aR", @progbits
	.balign	4
.Lpatchlet_index_\name:
	.long	patchlet_\name\()_start - .
	.long	patchlet_native_\name - .
	.short	patchlet_\name\()_end - patchlet_\name\()_start
	.short	5102f - 5101f
5101:	.ascii	"\name"
5102:
	.balign	4
	.popsection

	/* An empty piece makes the section of the records, and with it its bounds,
	 * exist in a link without a single site. Once in an object, tied to the
	 * patchlets, which are always there: with other flags than the records'
	 * mold 1.10 makes two sections of that name, and one pair of bounds. */
	.ifndef	.Lpatchlet_sites_exist
	.set	.Lpatchlet_sites_exist, 1
	.pushsection patchlet_sites, "ao", @progbits, patchlet_\name\()_start
	.balign	4
	.popsection
	.endif
	.endif
	.purgem	patchlet_body_\name
.endm

/* ---- sites ---------------------------------------------------------------
 *
 * The record is `patchlet::site::Record`; the layout is asserted there.
 *
 * "o" (SHF_LINK_ORDER) ties a record to the section of its site: it is dropped
 * with it, and the linker sorts the records by the address of their sites. The
 * relocation at the site, which relocates nothing, ties them the other way round:
 * `ld -r` makes one section of all records, tied to the section of any one site,
 * and without the relocation all would go with that one. The section name is a
 * C identifier so that every linker gives it bounds,
 * __start_patchlet_sites and __stop_patchlet_sites.
 */
.macro patchlet_site opcode:req, kind:req, capacity:req, table:req, index:req
	.if \capacity < 6 || \capacity > 32
	.error "a patch site has 6 to 32 bytes"
	.endif
	/* In a shared object the slots are reached at a fixed distance, which they
	 * have only if no other object can replace them. */
	.hidden	\table
.Lpatchlet_site_\@:
#ifdef __x86_64__
	\opcode	*(\table + 8 * (\index))(%rip)
#else
	\opcode	*(\table + 4 * (\index))
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
#ifdef __x86_64__
	.long	\table + 8 * (\index) - .
#else
	.long	\table + 4 * (\index) - .
#endif
	.short	\index
	.byte	\capacity, \kind
	.popsection
.endm

.macro PATCHLET_CALL op:req, capacity=6, table=patchlet_pv_ops, index
	.ifb \index
	patchlet_site call, 0, \capacity, \table, PATCHLET_OP_\op
	.else
	patchlet_site call, 0, \capacity, \table, \index
	.endif
.endm

.macro PATCHLET_JMP op:req, capacity=6, table=patchlet_pv_ops, index
	.ifb \index
	patchlet_site jmp, 1, \capacity, \table, PATCHLET_OP_\op
	.else
	patchlet_site jmp, 1, \capacity, \table, \index
	.endif
.endm

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
#else
	.set	PATCHLET_OP_iret,			10
#endif

/* Assembly never needs an executable stack; say so, or linkers assume it. */
	.section .note.GNU-stack, "", @progbits
	.text

#endif /* PATCHLET_H */

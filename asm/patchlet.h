/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The macros of `patchlet` for patchlets in assembly; those for sites, which
 * this file includes, are in `site.h`. There is no instruction in it but the ENDBR
 * of native functions. GNU as (gcc) and LLVM's assembler (clang) both take it;
 * it is for `.S` files, the C preprocessor runs first.
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
 *	name	of the patchlet; part of the labels, and what the tool and
 *		`patchlets!` call it. The same in both macros.
 *
 * PATCHLET_IBT, 0 or 1, can be defined before this file is included: whether
 * native functions begin with ENDBR.
 */
#ifndef PATCHLET_H
#define PATCHLET_H

#include "site.h"

/* With indirect branch tracking (CET-IBT) the target of an indirect call begins with ENDBR.
 * That is the native function; a site is no target, so the patchlet has none. The build
 * script says what is wanted; where there is none, the compiler does (-fcf-protection). */
#if !defined(PATCHLET_IBT)
#if defined(__CET__)
#define PATCHLET_IBT (__CET__ & 1)
#else
#define PATCHLET_IBT 0
#endif
#endif

/* Emits what a native function begins with: ENDBR, or nothing. */
.macro patchlet_endbr
#if PATCHLET_IBT && defined(__x86_64__)
	endbr64
#elif PATCHLET_IBT
	endbr32
#endif
.endm

/* The body becomes an assembler macro, so that one text makes both copies. */
#define PATCHLET(name)		.macro patchlet_body_##name
#define END_PATCHLET(name)	.endm ; patchlet_emit name, ret
#define END_PATCHLET_JUMP(name)	.endm ; patchlet_emit name

/* Emits both copies of a patchlet and its record in the index.
 *	name	of the patchlet
 *	return	the instruction that ends the native function, or nothing */
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
	patchlet_endbr
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

#endif /* PATCHLET_H */

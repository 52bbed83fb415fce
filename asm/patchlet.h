/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The macros for patchlets in assembly. This file includes `site.h`, which has the
 * macros for sites, and `blob.h`, which has those for blobs. The only instruction here
 * is the ENDBR of native functions.
 * GNU as (through gcc) and LLVM's assembler (through clang) both accept the file.
 * It is for `.S` files, which the C preprocessor reads first.
 *
 * A patchlet is its instructions between two macros:
 *
 *	PATCHLET(irq_disable)
 *		cli
 *	END_PATCHLET(irq_disable)
 *
 * From these lines the macros make
 *
 *	patchlet_irq_disable_start, patchlet_irq_disable_end
 *		hidden labels around the bytes in .rodata.patchlets,
 *	patchlet_native_irq_disable
 *		the native function, with the same instructions and a `ret`, and
 *	a record in the section patchlet_index
 *		with the name, for files whose symbols are stripped.
 *
 * END_PATCHLET_JUMP(name) ends a patchlet that leaves by itself, such as `iret`: its
 * native function has no `ret`.
 *
 *	name	the name of the patchlet, the same in both macros. It is part of the
 *		labels, and the tool and `patchlets!` know the patchlet by it.
 *
 * PATCHLET_IBT can be defined before this file is included: 1 if native functions
 * begin with ENDBR, 0 if they do not.
 *
 * PATCHLET_OPTIONAL can be defined before this file is included. The patchlets of the
 * file, and all that the macros make of them, are then linked if something refers to
 * them, and otherwise go with --gc-sections. Without it, they are always linked.
 */
#ifndef PATCHLET_H
#define PATCHLET_H

#include "site.h"
#include "blob.h"

/* With indirect branch tracking (CET-IBT), the target of an indirect call must begin with
 * ENDBR. An unpatched site calls the native function, so that begins with it. No indirect
 * branch leads to a patchlet in a site, so the patchlet has no ENDBR. `patchlet::assemble`
 * defines PATCHLET_IBT. Without it, the compiler's option -fcf-protection decides. */
#if !defined(PATCHLET_IBT)
#if defined(__CET__)
#define PATCHLET_IBT (__CET__ & 1)
#else
#define PATCHLET_IBT 0
#endif
#endif

/* Emits ENDBR if native functions begin with it, else nothing. */
.macro patchlet_endbr
#if PATCHLET_IBT && defined(__x86_64__)
	endbr64
#elif PATCHLET_IBT
	endbr32
#endif
.endm

/* The input sections of patchlets and of their index, with their flags. "R" (SHF_GNU_RETAIN) keeps
 * a section through --gc-sections. patchlet.ld has these names, too. */
#if defined(PATCHLET_OPTIONAL)
#define PATCHLET_SECTION	.rodata.patchlets.optional, "a", @progbits
#define PATCHLET_INDEX		patchlet_index.optional, "a", @progbits
#else
#define PATCHLET_SECTION	.rodata.patchlets, "aR", @progbits
#define PATCHLET_INDEX		patchlet_index, "aR", @progbits
#endif

/* The instructions between the two become an assembler macro `patchlet_body_<name>`, which
 * patchlet_emit expands twice: for the patchlet and for the native function. */
#define PATCHLET(name)		.macro patchlet_body_##name
#define END_PATCHLET(name)	.endm ; patchlet_emit name, ret
#define END_PATCHLET_JUMP(name)	.endm ; patchlet_emit name

/* Emits a patchlet, its native function and its record in the index.
 *	name	the name of the patchlet
 *	return	the instruction that ends the native function, or nothing */
.macro patchlet_emit name:req, return
	.ifdef patchlet_\name\()_start
	.error "patchlet `\name` is defined twice"
	.else
	/* The section has no .balign, because padding would be bytes of no patchlet,
	 * which `patchlet::assemble` refuses. */
	.pushsection PATCHLET_SECTION
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
	/* This relocation changes no byte. It makes the linker keep the index with the
	 * native function: GNU ld heeds "R" only in objects whose OS/ABI is GNU's or
	 * FreeBSD's, and some kernels have another. */
5100:	.reloc	5100b, BFD_RELOC_NONE, .Lpatchlet_index_\name
	patchlet_endbr
	patchlet_body_\name
	\return
	.size	patchlet_native_\name, . - patchlet_native_\name
	.popsection

	/* The record in the index: start of the patchlet, native function (both
	 * relative to the field), length of the patchlet, length of the name, name.
	 * The tool reads it in files whose symbols are stripped. The name of the
	 * section is a C identifier, so that a linker without a script does not merge
	 * the section into another. */
	.pushsection PATCHLET_INDEX
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

	/* An empty input section, once in each object, so that patchlet_sites and the
	 * symbols that bound it exist in a program without a single site. It has the
	 * same flags as the records of sites, "ao", and is tied to the patchlets, which
	 * are always linked (those of the native set, if these are optional). With other flags, mold 1.10 makes two output sections of
	 * that name, and the symbols bound only one of them. */
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

/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The macros for blobs. `patchlet.h` includes this file. GNU as (through gcc) and LLVM's assembler
 * (through clang) both accept it. It is for `.S` files, which the C preprocessor reads first.
 *
 * A blob is a patchlet that is copied whole, into a page for example, and entered there: a
 * hypercall page, the code in which a CPU starts. No site gets it, so it has no native function.
 * In it, places have names, and operands can be left open:
 *
 *	PATCHLET_BLOB(start_cpu)
 *	PATCHLET_CODE(start_cpu, 16)
 *		cli
 *		...
 *	PATCHLET_CODE(start_cpu, 64)
 *	PATCHLET_OFFSET(start_cpu, long_mode)
 *		movabsq	$PATCHLET_UNFILLED(8), %rsp
 *	PATCHLET_HOLE(start_cpu, stack, 8)
 *		...
 *	END_PATCHLET_BLOB(start_cpu)
 *
 * Rust declares the blob by `patchlet::blobs!`, reads the offsets as numbers, and fills the holes
 * of a copy.
 *
 * PATCHLET_BLOB(blob), END_PATCHLET_BLOB(blob)
 *		Begin and end it. It begins with code of the target's width, and that is again the
 *		width behind it.
 * PATCHLET_CODE(blob, bits)
 *		What follows is code of 16, 32 or 64 bit: `.code16` and so on, and a note of it. Without
 *		the note, the hole check of `patchlet verify` would decode it wrongly.
 * PATCHLET_DATA(blob)
 *		What follows is data, such as a descriptor table, until the next PATCHLET_CODE.
 * PATCHLET_ALIGN(blob, bytes)
 *		Fills with NOPs up to a multiple of `bytes`, a power of two, counted from the start of
 *		the blob. (`.balign` counts from the start of the section.)
 * PATCHLET_OFFSET(blob, name)
 *		Names this place.
 * PATCHLET_HOLE(blob, name, width)
 *		Makes a hole of the operand that ends here: the immediate or displacement with which
 *		the instruction before this line ends. `width` is its size in bytes: 1, 2, 4 or 8. The
 *		instruction is written with PATCHLET_UNFILLED(width) as that operand. The operand must
 *		mean a number by itself: not the distance of a branch or of a RIP-relative address,
 *		which would depend on the place of the copy.
 * PATCHLET_HOLE_SIGNED(blob, name, width)
 *		The same for an operand whose sign the CPU extends, such as the immediate of
 *		`movq $…, %rax` with 4 bytes, or a displacement in a 64-bit address. It is filled with a
 *		signed number.
 *
 *	blob	the name of the blob, the same in all of them
 *	name	the name of the place or hole; no other of the blob has it
 *
 * A blob has at most 16 holes.
 */
#ifndef PATCHLET_BLOB_H
#define PATCHLET_BLOB_H

#define PATCHLET_BLOB(blob)			patchlet_blob blob
#define END_PATCHLET_BLOB(blob)			patchlet_end_blob blob
#define PATCHLET_CODE(blob, bits)		.code##bits ; patchlet_code blob
#define PATCHLET_DATA(blob)			patchlet_data blob
#define PATCHLET_ALIGN(blob, bytes)		patchlet_align blob, bytes
#define PATCHLET_OFFSET(blob, name)		patchlet_offset blob, name
#define PATCHLET_HOLE(blob, name, width)	patchlet_hole blob, name, width, u
#define PATCHLET_HOLE_SIGNED(blob, name, width)	patchlet_hole blob, name, width, i

/* The operand of an instruction that has a hole. The value is one that needs all of its bytes, so
 * that no assembler chooses a shorter form. Bytes like these in front of PATCHLET_HOLE are an
 * operand, which `patchlet::assemble` relies on: no instruction ends with them in another way. As
 * opcodes they are prefixes; as ModRM, 0x64 to 0x67 announce a displacement, and so 0x64, 0x66 and
 * 0x67 are no SIB behind one of them; as SIB, 0x65 announces a displacement as well. No value ends
 * with the bytes of a narrower one, so that a hole of the wrong width is seen. */
#define PATCHLET_UNFILLED(width)		PATCHLET_UNFILLED_##width
#define PATCHLET_UNFILLED_1			0x65
#define PATCHLET_UNFILLED_2			0x6665
#define PATCHLET_UNFILLED_4			0x67666564
#define PATCHLET_UNFILLED_8			0x646566673e362e26

/* Begins a blob. */
.macro patchlet_blob blob:req
	.ifdef patchlet_\blob\()_start
	.error "patchlet `\blob` is defined twice"
	.endif
	.ifndef .Lpatchlet_in_blob
	.set	.Lpatchlet_in_blob, 0
	.endif
	.if	.Lpatchlet_in_blob
	.error "PATCHLET_BLOB(\blob) is inside of another blob: is an END_PATCHLET_BLOB missing?"
	.endif
	.set	.Lpatchlet_in_blob, 1
	.set	.Lpatchlet_in_\blob, 1
	.set	.Lpatchlet_holes, 0
	/* The section as in patchlet.h. */
	.pushsection .rodata.patchlets, "aR", @progbits
	.globl	patchlet_\blob\()_start
	.hidden	patchlet_\blob\()_start
	.type	patchlet_\blob\()_start, @object
patchlet_\blob\()_start:
	/* This relocation changes no byte. It makes the linker keep the index with the blob. */
	.reloc	patchlet_\blob\()_start, BFD_RELOC_NONE, .Lpatchlet_index_\blob
	patchlet_place \blob, 0, 0, patchlet_mode
.endm

/* Ends a blob, and emits its record in the index, where the address of the native function is that
 * of the field: there is none. */
.macro patchlet_end_blob blob:req
	.ifndef .Lpatchlet_in_\blob
	.error "END_PATCHLET_BLOB(\blob) has no PATCHLET_BLOB(\blob) before it"
	.else
	.globl	patchlet_\blob\()_end
	.hidden	patchlet_\blob\()_end
	.type	patchlet_\blob\()_end, @notype
patchlet_\blob\()_end:
	.size	patchlet_\blob\()_start, . - patchlet_\blob\()_start
	/* For `blobs!`, which refers to this symbol: a blob with a hole that Rust does not know
	 * of does not link. */
	.irp	count, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
	.if	.Lpatchlet_holes == \count
	.globl	patchlet_\blob\()_holes_are_\count
	.hidden	patchlet_\blob\()_holes_are_\count
patchlet_\blob\()_holes_are_\count:
	.endif
	.endr
	.if	.Lpatchlet_holes > 16
	.error "blob `\blob` has more than 16 holes"
	.endif
	.set	.Lpatchlet_in_blob, 0
	.set	.Lpatchlet_in_\blob, 0
#ifdef __x86_64__
	.code64
#else
	.code32
#endif
	.popsection

	.pushsection patchlet_index, "aR", @progbits
	.balign	4
.Lpatchlet_index_\blob:
	/* Likewise, to keep the places with the index. */
	.reloc	.Lpatchlet_index_\blob, BFD_RELOC_NONE, patchlet_places
	.long	patchlet_\blob\()_start - .
	.long	0
	.short	patchlet_\blob\()_end - patchlet_\blob\()_start
	.short	5102f - 5101f
5101:	.ascii	"\blob"
5102:
	.balign	4
	.popsection
	.endif
.endm

/* Notes that code of the present mode begins here. */
.macro patchlet_code blob:req
	patchlet_check_open \blob, "PATCHLET_CODE(\blob)"
	patchlet_place \blob, 0, 0, patchlet_mode
.endm

/* Notes that data begins here. */
.macro patchlet_data blob:req
	patchlet_check_open \blob, "PATCHLET_DATA(\blob)"
	patchlet_place \blob, 0, 0, patchlet_no_mode
.endm

.macro patchlet_align blob:req, bytes:req
	patchlet_check_open \blob, "PATCHLET_ALIGN(\blob, \bytes)"
5103:	.skip	(patchlet_\blob\()_start - 5103b) & (\bytes - 1), 0x90
.endm

.macro patchlet_offset blob:req, name:req
	patchlet_check_open \blob, "PATCHLET_OFFSET(\blob, \name)"
	patchlet_check_new \blob, \name
	.globl	patchlet_\blob\()_at_\name
	.hidden	patchlet_\blob\()_at_\name
	.type	patchlet_\blob\()_at_\name, @notype
patchlet_\blob\()_at_\name:
	patchlet_place \blob, 0, 0, patchlet_mode, \name
.endm

/* Defines the labels of a hole, and emits its record. Of the two labels, the second says the type
 * of the hole, so that Rust code with another type does not link.
 *	sign	`u` or `i`, as in the name of Rust's types */
.macro patchlet_hole blob:req, name:req, width:req, sign:req
	patchlet_check_open \blob, "PATCHLET_HOLE(\blob, \name, \width)"
	patchlet_check_new \blob, \name
	.globl	patchlet_\blob\()_hole_\name
	.hidden	patchlet_\blob\()_hole_\name
	.type	patchlet_\blob\()_hole_\name, @notype
	.set	patchlet_\blob\()_hole_\name, . - \width
	.size	patchlet_\blob\()_hole_\name, \width
	.ifc	\width, 1
	patchlet_typed \blob, \name, \sign\()8
	.else
	.ifc	\width, 2
	patchlet_typed \blob, \name, \sign\()16
	.else
	.ifc	\width, 4
	patchlet_typed \blob, \name, \sign\()32
	.else
	.ifc	\width, 8
	patchlet_typed \blob, \name, \sign\()64
	.else
	.error "hole `\name` of blob `\blob` has \width bytes: the operand of an instruction has 1, 2, 4 or 8"
	.endif
	.endif
	.endif
	.endif
	.set	.Lpatchlet_holes, .Lpatchlet_holes + 1
	.ifc	\sign, i
	patchlet_place \blob, \width, 0x80, patchlet_mode, \name
	.else
	patchlet_place \blob, \width, 0, patchlet_mode, \name
	.endif
.endm

.macro patchlet_typed blob:req, name:req, type:req
	.globl	patchlet_\blob\()_hole_\name\()_\type
	.hidden	patchlet_\blob\()_hole_\name\()_\type
	.set	patchlet_\blob\()_hole_\name\()_\type, patchlet_\blob\()_hole_\name
.endm

/* Refuses a place outside of its blob. */
.macro patchlet_check_open blob:req, what:req
	.ifndef .Lpatchlet_in_\blob
	.error "\what stands before PATCHLET_BLOB(\blob), or in another blob or patchlet"
	.else
	.if	.Lpatchlet_in_\blob == 0
	.error "\what stands behind END_PATCHLET_BLOB(\blob), or in another blob or patchlet"
	.endif
	.endif
.endm

/* Refuses a second place or hole of a name. */
.macro patchlet_check_new blob:req, name:req
	.ifdef	.Lpatchlet_place_\blob\()_\name
	.error "blob `\blob` has two places or holes that are called `\name`"
	.endif
	.set	.Lpatchlet_place_\blob\()_\name, 1
.endm

/* Emits a record of a place or hole that ends here. src/inspect/formats/places.rs reads it, and
 * src/assemble/places.rs:
 *
 *	0	4	start of the blob, relative to this field
 *	4	2	offset of the place in the blob
 *	6	1	0 for a place; for a hole its width, and 0x80 besides if it is signed
 *	7	1	what stands there: 1, 2, 3 for code of 16, 32, 64 bit; 0 for data
 *	8	1	length of the name; 0 for a place where code of another mode or data begins
 *	9	n	name, and zeros up to a multiple of 4
 *
 *	mode	the macro that tells what stands there: patchlet_mode or patchlet_no_mode */
.macro patchlet_place blob:req, width:req, signed:req, mode:req, name
5104:
	.pushsection .discard.patchlet_mode, "e", @progbits
5105:	\mode
5106:	.popsection

	.pushsection patchlet_places, "aR", @progbits
	.balign	4
	.long	patchlet_\blob\()_start - .
	.short	5104b - patchlet_\blob\()_start - \width
	.byte	\width + \signed
	.byte	5106b - 5105b
	.byte	5108f - 5107f
5107:	.ascii	"\name"
5108:
	.balign	4
	.popsection
.endm

/* An instruction that has as many bytes as the number of its mode: `40` in 16-bit code, `66 40` in
 * 32-bit code, `66 ff c0` in 64-bit code. It goes into a section that no linker takes. */
.macro patchlet_mode
	incw	%ax
.endm

.macro patchlet_no_mode
.endm

#endif /* PATCHLET_BLOB_H */

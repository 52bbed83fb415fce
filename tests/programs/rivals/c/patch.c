/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The patch data of a kernel in C, in the two other constructions of the mail.
 *
 * -DASM: DEF_NATIVE, top-level inline assembly with global labels, as Linux had it
 * until v5.2; with -DLOCAL its labels are not global. -DHEX: the table that
 * replaced it in v5.3. native_patch() copies a sequence as Linux does, with the
 * length known to the compiler in the case of the table. */
typedef unsigned char u8;

#ifdef __x86_64__
#define EACH(X) \
	X(0, irq_disable, "cli", 0xfa) \
	X(1, irq_enable, "sti", 0xfb) \
	X(2, save_fl, "pushfq; popq %rax", 0x9c, 0x58) \
	X(3, restore_fl, "pushq %rdi; popfq", 0x57, 0x9d) \
	X(4, read_cr2, "movq %cr2, %rax", 0x0f, 0x20, 0xd0) \
	X(5, read_cr3, "movq %cr3, %rax", 0x0f, 0x20, 0xd8) \
	X(6, write_cr3, "movq %rdi, %cr3", 0x0f, 0x22, 0xdf) \
	X(7, usergs_sysret64, "swapgs; sysretq", 0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07) \
	X(8, swapgs, "swapgs", 0x0f, 0x01, 0xf8)
#else
#define EACH(X) \
	X(0, irq_disable, "cli", 0xfa) \
	X(1, irq_enable, "sti", 0xfb) \
	X(2, save_fl, "pushfl; popl %eax", 0x9c, 0x58) \
	X(3, restore_fl, "pushl %eax; popfl", 0x50, 0x9d) \
	X(4, read_cr2, "movl %cr2, %eax", 0x0f, 0x20, 0xd0) \
	X(5, read_cr3, "movl %cr3, %eax", 0x0f, 0x20, 0xd8) \
	X(6, write_cr3, "movl %eax, %cr3", 0x0f, 0x22, 0xd8) \
	X(7, iret, "iret", 0xcf)
#endif

/* The calls of this, one per op, are what a kernel has; the compiler may inline. */
static unsigned copy(u8 *buffer, const u8 *start, const u8 *end)
{
	unsigned len = (unsigned)(end - start);

	for (unsigned i = 0; i < len && i < 8; i++)
		buffer[i] = start[i];
	return len;
}

#ifdef ASM
#ifdef LOCAL
#define GLOBL(label)
#else
#define GLOBL(label) ".globl " #label "\n"
#endif
#define DEF_NATIVE(number, name, code, ...) \
	extern const u8 start_##name[], end_##name[]; \
	asm(GLOBL(start_##name) "start_" #name ":\n\t" code "\n" \
	    GLOBL(end_##name) "end_" #name ":\n");
EACH(DEF_NATIVE)
#define CASE(number, name, code, ...) \
	case number: \
		return copy(buffer, start_##name, end_##name);
#endif

#ifdef HEX
#define FIELD(number, name, code, ...) u8 name[sizeof((u8[]){__VA_ARGS__})];
struct patch_xxl { EACH(FIELD) };
#define VALUE(number, name, code, ...) .name = { __VA_ARGS__ },
static const struct patch_xxl patch_data_xxl = { EACH(VALUE) };
#define CASE(number, name, code, ...) \
	case number: \
		__builtin_memcpy(buffer, patch_data_xxl.name, sizeof(patch_data_xxl.name)); \
		return sizeof(patch_data_xxl.name);
#endif

unsigned native_patch(unsigned op, u8 *buffer);
unsigned native_patch(unsigned op, u8 *buffer)
{
	switch (op) {
	EACH(CASE)
	default:
		return copy(buffer, buffer, buffer);
	}
}

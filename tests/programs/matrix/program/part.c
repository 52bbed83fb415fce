/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The C part of the program: called from Rust, calls Rust and assembly. */
unsigned long matrix_from_c(unsigned long value);
unsigned long matrix_asm_call(unsigned long value);
unsigned long matrix_c_part(unsigned long value);

static const unsigned long table[4] = {1, 22, 333, 4444};

static unsigned long mix(unsigned long value)
{
	return value * 3 + table[value & 3];
}

unsigned long matrix_c_part(unsigned long value)
{
	return mix(matrix_from_c(value)) ^ matrix_asm_call(mix(value));
}

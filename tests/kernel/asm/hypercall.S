/*
 * The page through which a guest makes hypercalls: the hypervisor fills it, and the guest calls
 * into it at the offsets that the hypervisor tells. An Intel CPU has VMCALL and an AMD CPU VMMCALL,
 * each of which raises #UD on the other.
 */
#include "patchlet.h"

/* An entry: EAX is the number of the hypercall, and gets the bits of the interface besides. */
.macro ENTRY name, instruction
        PATCHLET_OFFSET(hypercall_page, \name)
        orl     $PATCHLET_UNFILLED(4), %eax
        PATCHLET_HOLE(hypercall_page, \name\()_interface, 4)
        \instruction
        ret
        PATCHLET_ALIGN(hypercall_page, 16)
.endm

/*
 * hypercall_page: hypercalls, for guests of both widths on CPUs of both vendors.
 * offsets: intel_64 = fn(RAX = number, …) -> RAX, in 64-bit code
 *          amd_64 = the same on AMD
 *          intel_32 = fn(EAX = number, …) -> EAX, in 32-bit code
 *          amd_32 = the same on AMD
 * holes: intel_64_interface = bits that the number of each hypercall gets
 *        amd_64_interface = the same
 *        intel_32_interface = the same
 *        amd_32_interface = the same
 */
PATCHLET_BLOB(hypercall_page)
PATCHLET_CODE(hypercall_page, 64)
        ENTRY   intel_64, vmcall
        ENTRY   amd_64, vmmcall
PATCHLET_CODE(hypercall_page, 32)
        ENTRY   intel_32, vmcall
        ENTRY   amd_32, vmmcall
END_PATCHLET_BLOB(hypercall_page)

        .section .note.GNU-stack, "", @progbits

//! `patchlet sites` on a Linux kernel.

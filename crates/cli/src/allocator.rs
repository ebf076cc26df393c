//! What the allocator does with memory that was freed.

#![allow(unsafe_code)] // mallopt(3) has no safe form.

/// Bytes: a larger piece is mapped and unmapped alone, each time.
#[cfg(target_env = "gnu")]
const MAPPED_ALONE: i32 = 1 << 20;
/// Bytes: so much of what is free at the end of a heap is kept; threads have heaps of their own.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 8 << 20;

/// Keeps what was freed for who asks next. Pieces of a body that comes from a registry are some hundred kilobytes, and one
/// thread frees what another one will need: glibc by itself gives that back to the kernel and has it cleared anew each time, a
/// third of the time that receiving takes. To be called before there are other threads; it is for the whole process, so that
/// no library may do it.
pub(crate) fn keep_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets two numbers of the allocator, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_ALONE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

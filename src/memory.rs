//! How the C library's allocator treats large pieces of memory.

/// Has every piece from 128 KiB on mapped by itself, so that it goes back to the system when it is freed. To be called
/// before there are threads.
///
/// Without it glibc learns from the first large body that is freed to keep the next ones, in one heap for each group of
/// threads, of which there are up to eight for each processor: tens of megabytes that nobody uses, in a container that has
/// sixteen.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back_large_pieces() {
    const THRESHOLD: libc::c_int = 128 * 1024;
    // SAFETY: sets a number within the allocator, under its own lock. There is no other way to set it but the environment
    // of the process, and no crate for it.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_large_pieces() {}

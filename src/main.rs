//! The `tallyd` program.
//!
//! Its allocator is jemalloc. Records pass from thread to thread, and behind a backlog glibc's arenas kept twice the
//! memory in use. Two arenas whose free pages go back within half a second keep a tenth more.
//!
//! One background thread gives pages back for both arenas. It is made before `main`; if that fails, the program does
//! not start. With two threads, jemalloc would try endlessly to make the second if the operating system refused it, and
//! neither would work on.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// SAFETY: jemalloc declares this symbol as a pointer to a C string and reads it once, before `main`. A reference to an
// array is such a pointer, the text ends with a NUL, and no other symbol of that name is linked.
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 94] =
    b"narenas:2,background_thread:true,max_background_threads:1,dirty_decay_ms:500,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    tallyd::main()
}

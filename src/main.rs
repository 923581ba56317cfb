//! The `tallyd` program.

fn main() {}

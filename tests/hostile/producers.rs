//! Other producers' names, sequence numbers that leap, evictions.

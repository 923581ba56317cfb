//! SQL roles that want the owner's rights, and rows that overflow.

//! Bytes that a parser gives a meaning of its own: magic keys, depth, exponents.

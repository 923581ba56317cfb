//! Refusals without end: the store of dead letters stays bounded.

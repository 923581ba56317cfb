//! Costs that a client states to its own benefit.

//! Records paid API calls to a tallyd daemon without ever blocking the caller.

//! Connections that hold on, say nothing, or never read.

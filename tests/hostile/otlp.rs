//! OTLP numbers that do not read.

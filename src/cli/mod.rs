//! The command line: one file a command. A command prints data on stdout and messages on stderr.
//!
//! Exit codes: 0 done; 1 failed; 2 called wrongly; 3 the data folder is in use, or no daemon is running.

// First, because the other modules print with its macros.
#[macro_use]
mod output;

mod adopt;
mod alerts;
mod bill_check;
mod budgets;
mod completions;
mod config;
mod confirm;
mod costs;
mod dead_letters;
mod demo;
mod dimensions;
mod doctor;
mod duplicates;
        Command::Export(args) => export::run(&args, &config),

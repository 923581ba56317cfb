//! The outputs that people and programs rely on: the help of every command, the OpenAPI document, the metrics.
//!
//! Each is a file in `tests/snapshots/`. Its change is a change for users, so its diff is reviewed with the code. `make
//! snapshots` writes the files anew.

use insta::assert_snapshot;
use tallyd_base::registry;

/// Compares with the file of this name, and shows a diff.
fn holds(name: &str, now: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
        .set_description("Written by `make snapshots`, which needs no cargo-insta. Users rely on it: review its diff.");
    settings.bind(|| assert_snapshot!(name, now));
}

#[test]
fn the_help_of_every_command_is_as_reviewed() {
    let mut root = tallyd::command().term_width(100);
    root.build();
    let mut text = String::new();
    let mut waiting = vec![root];
    while let Some(command) = waiting.pop() {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
        // A variable's value in this environment is not part of the help.
        let mut command = command.mut_args(|argument| argument.hide_env_values(true));
        let help = command.render_long_help().to_string();
        let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        text.push_str(&format!("$ {name} --help\n{help}\n\n"));
        // `help` repeats the tree.
        let below: Vec<_> = command.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect();
        // The stack is popped from its end, so the first command is pushed last.
        waiting.extend(below.into_iter().rev());
    }
    assert!(text.matches("$ tallyd ").count() > 50, "only {} commands", text.matches("$ tallyd ").count());
    holds("help", &text);
}

#[test]
fn the_openapi_document_is_as_reviewed() {
    let mut document = tallyd::document();
    document.info.version = "(the version)".to_owned();
    holds("openapi", &serde_json::to_string_pretty(&document).unwrap());
}

#[test]
fn the_metrics_are_as_reviewed() {
    let lines = registry::ALL.iter().map(|metric| {
        let labels = if metric.labels.is_empty() { String::new() } else { format!("{{{}}}", metric.labels.join(", ")) };
        format!("{} {}{labels}\n    {}\n", metric.kind, metric.name, metric.help.trim())
    });
    holds("metrics", &lines.collect::<String>());
}

//! The command line, from clap.

use clap::{Arg, Command};

use super::{head, holds};

/// An argument as usage lines show it: `--to <TIME>`, `[FILE]...`.
fn spelled(argument: &Arg) -> String {
    let mut names: Vec<String> = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let takes_value = argument.get_action().takes_values();
    let values: Vec<String> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .filter(|_| takes_value)
        .map(|name| {
            if argument.is_positional() && !argument.is_required_set() {
                format!("[{name}]")
            } else {
                format!("<{name}>")
            }
        })
        .collect();
    let spelled = [names.join(", "), values.join(" ")];
    spelled.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// An argument's line: its help, values, default and variable.
fn line(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = format!("* `{}`: {}", spelled(argument), help.trim().replace('\n', "\n  "));
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() && !values.iter().all(|value| value == "`true`" || value == "`false`") {
        text.push_str(&format!(". One of {}", values.join(", ")));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() && !argument.is_hide_default_value_set() {
        text.push_str(&format!(". Default {}", defaults.join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        text.push_str(&format!(". Variable `{}`", variable.to_string_lossy()));
    }
    text + "\n"
}

/// A command's section, and those of its subcommands.
fn section(command: &Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let level = if name.split(' ').count() > 2 { "###" } else { "##" };
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    text.push_str(&format!("\n{level} `{name}`\n\n{}\n\n```text\n{usage}\n```\n", about.trim()));
    let own = |argument: &&Arg| {
        !argument.is_hide_set()
            && !argument.is_global_set()
            && !["help", "version"].contains(&argument.get_id().as_str())
    };
    let lines: String = command.get_arguments().filter(own).map(line).collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n{lines}"));
    }
    if let Some(examples) = command.get_after_long_help().or(command.get_after_help()) {
        let examples = examples.to_string();
        for (number, part) in examples.trim().split("\n\n").enumerate() {
            let (language, part) = match part.strip_prefix("Examples:\n") {
                Some(part) if number == 0 => ("sh", part),
                _ => ("text", part),
            };
            let lines = part.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>();
            text.push_str(&format!("\n```{language}\n{}\n```\n", lines.join("\n")));
        }
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        section(below, text);
    }
}

#[test]
fn the_page_of_the_command_line_is_clap_s() {
    let mut root = tallyd::command();
    root.build();
    let mut text = head("Command line", "`src/cli/`");
    text.push_str(
        "Without a command tallyd runs the daemon. Data goes to standard output, messages to standard error. A command that removes or\n\
         rewrites something asks for `--yes`, shows with `--dry-run` what it would do, and exits with status 2 without either.\n\n\
         Every command takes these options:\n\n",
    );
    text.extend(root.get_arguments().filter(|argument| argument.is_global_set() && !argument.is_hide_set()).map(line));
    for command in root.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set()) {
        section(command, &mut text);
    }
    assert!(text.matches("\n## `tallyd ").count() > 15 && text.matches("\n### `tallyd ").count() > 20, "commands");
    holds("docs/reference/cli.md", &text);
}

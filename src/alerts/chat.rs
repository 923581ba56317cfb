//! Bodies for chats. Senders choose the names of models and users, so nothing of a message may be markup:
//! `crates/store/src/budgets/slack.rs` breaks up Slack's, and runs of text of an adaptive card have none.

use serde_json::{Value, json};

use super::receiver::Shown;
use tallyd_model::quote;
use tallyd_store::budgets::slack;

/// Slack's message, which many other services accept.
pub(super) fn slack(shown: &Shown) -> Value {
    let lines: Vec<String> = shown.lines.iter().map(|line| slack::text(line)).collect();
    json!({ "text": lines.join("\n") })
}

/// An adaptive card, as a webhook of Teams' Workflows takes it.
pub(super) fn teams(shown: &Shown) -> Value {
    let block = |(at, line): (usize, &String)| {
        let run = json!({ "type": "TextRun", "text": quote::line(line), "weight": if at == 0 { "bolder" } else { "default" } });
        // A list without any text is refused.
        json!({ "type": "RichTextBlock", "inlines": [run] })
    };
    let is_filled = |(_, line): &(usize, &String)| !line.trim().is_empty();
    let body: Vec<Value> = shown.lines.iter().enumerate().filter(is_filled).map(block).collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "msteams": { "width": "Full" }, "body": body,
    });
    let attachment =
        json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card });
    json!({ "type": "message", "attachments": [attachment] })
}

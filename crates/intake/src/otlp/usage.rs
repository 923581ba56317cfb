//! Turns a span's attributes into disjoint buckets, by the table ([`super::table`]).
//!
//! The buckets of a record are disjoint; spans differ in their nesting. The span itself decides if it can: by a total,
//! by a count without the cached tokens, or by numbers with only one interpretation. Next the instrumentation's scope
//! decides, and last the setting. Counts that do not add up are not understood, and the attribute is named.

use std::collections::BTreeMap;

use super::attributes::{AttributeValue, Attributes, Count};
use super::table::{COSTS, Means, NO_USAGE, NO_USAGE_TOGETHER, PREFIXES, ROWS, SCOPES};
use tallyd_model::pricing::Usd;

/// The usage in a span's attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanUsage {
    /// By meaning: the count, and its attribute. Zeros are left out.
    counts: BTreeMap<Means, (i64, &'static str)>,
    /// The first attribute that is not understood.
    not_understood: Option<String>,
}

/// Disjoint counts in a record's form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    /// By the record's field.
    pub fields: Vec<(&'static str, i64)>,
    /// By unit.
    pub units: Vec<(&'static str, i64)>,
    /// The name of unknown usage: the rest is then approximate, and not priced.
    pub not_understood: Option<String>,
}

/// The rule for spans whose own numbers do not decide.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// The instrumentation's name.
    pub scope: &'a str,
    /// The provider in the span.
    pub provider: &'a str,
    /// The setting `otlp.input_includes_cached`.
    pub input_includes_cached: bool,
}

impl SpanUsage {
    /// Reads the attributes.
    #[must_use]
    pub fn of(attributes: &Attributes) -> Self {
        let mut found = Self::default();
        for (name, value) in attributes.iter() {
            if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                found.add(name, value);
            }
        }
        found.add_of_litellm(attributes);
        found
    }

    /// LiteLLM's usual spans have the cached tokens only in the vendor's usage, written as a Python dictionary.
    fn add_of_litellm(&mut self, attributes: &Attributes) {
        let Some(written) = attributes.text(&["metadata.usage_object"]) else { return };
        for (key, means, name) in [
            ("'cached_tokens': ", Means::CacheRead, "metadata.usage_object cached_tokens"),
            ("'cache_creation_input_tokens': ", Means::CacheWrite, "metadata.usage_object cache_creation_input_tokens"),
        ] {
            let Some((_, rest)) = written.split_once(key) else { continue };
            match rest.split([',', '}']).next().unwrap_or_default().trim() {
                "None" => {}
                count => match count.parse::<i64>() {
                    Ok(0) => {}
                    Ok(count) if count > 0 => drop(self.counts.entry(means).or_insert((count, name))),
                    _ => self.doubt(name),
                },
            }
        }
    }

    /// True if any usage was found, understood or not.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.counts.is_empty() || self.not_understood.is_some()
    }

    fn add(&mut self, name: &str, value: &AttributeValue) {
        let count = value.count();
        let Some(row) = ROWS.iter().find(|row| row.name == name) else {
            if tells_usage(name, value) {
                self.doubt(name);
            }
            return;
        };
        match count {
            _ if row.means == Means::Part => {}
            Count::Nothing | Count::Whole(0) => {}
            Count::Unreadable => self.doubt(name),
            Count::Whole(number) => {
                let (known, _) = *self.counts.entry(row.means).or_insert((number, row.name));
                if known != number {
                    self.doubt(name);
                }
            }
        }
    }

    fn doubt(&mut self, name: &str) {
        if self.not_understood.is_none() {
            self.not_understood = Some(name.to_owned());
        }
    }

    fn get(&self, means: Means) -> i64 {
        self.counts.get(&means).map_or(0, |(count, _)| *count)
    }

    fn name(&self, means: Means) -> &str {
        self.counts.get(&means).map_or("usage", |(_, name)| name)
    }

    /// The disjoint buckets.
    #[must_use]
    pub fn buckets(mut self, rule: Rule<'_>) -> Buckets {
        // A negative count is left for the record's refusal, without arithmetic.
        if self.counts.values().any(|(count, _)| *count < 0) {
            return self.without_arithmetic();
        }
        let (write_5m, write_1h) = self.written();
        let read = self.read(write_5m.saturating_add(write_1h));
        let cached = read.saturating_add(write_5m).saturating_add(write_1h);
        let within = self.within(cached, rule);
        let mut input = self.get(Means::Input);
        if input == 0 && self.get(Means::Uncached) > 0 {
            input = self.get(Means::Uncached);
        } else if within.cached {
            input = input.saturating_sub(cached);
        }
        if !within.tools {
            input = input.saturating_add(self.get(Means::ToolUse));
        }
        let mut output = self.get(Means::Output);
        if !within.thoughts {
            output = output.saturating_add(self.thoughts());
        }
        let heard = self.get(Means::AudioInput);
        let heard_again = self.get(Means::AudioCacheRead);
        let seen = self.get(Means::ImageInput);
        let (spoken, drawn) = (self.get(Means::AudioOutput), self.get(Means::ImageOutput));
        let input = self.less(input, heard.saturating_sub(heard_again).max(0).saturating_add(seen), Means::Input);
        let output = self.less(output, spoken.saturating_add(drawn), Means::Output);
        let read = self.less(read, heard_again, Means::CacheRead);
        Buckets {
            fields: vec![
                ("input_tokens", input),
                ("output_tokens", output),
                ("cache_read_tokens", read),
                ("cache_write_5m_tokens", write_5m),
                ("cache_write_1h_tokens", write_1h),
            ],
            units: vec![
                ("audio_input_token", heard.saturating_sub(heard_again).max(0)),
                ("audio_cache_read_token", heard_again),
                ("audio_output_token", spoken),
                ("image_input_token", seen),
                ("image_output_token", drawn),
                ("web_search", self.get(Means::WebSearch)),
            ],
            not_understood: self.not_understood,
        }
    }

    /// `whole` minus a part of it. A part larger than its whole is not understood.
    fn less(&mut self, whole: i64, part: i64, means: Means) -> i64 {
        if part > whole {
            let name = self.name(means).to_owned();
            self.doubt(&name);
        }
        whole.saturating_sub(part).max(0)
    }

    /// Tokens written to a cache, for five minutes and for an hour.
    fn written(&mut self) -> (i64, i64) {
        let (all, short, long) =
            (self.get(Means::CacheWrite), self.get(Means::CacheWrite5m), self.get(Means::CacheWrite1h));
        if all == 0 {
            return (short, long);
        }
        if all < short.saturating_add(long) {
            let name = self.name(Means::CacheWrite).to_owned();
            self.doubt(&name);
        }
        (all.saturating_sub(long).max(0), long)
    }

    fn read(&mut self, written: i64) -> i64 {
        let (read, cached) = (self.get(Means::CacheRead), self.get(Means::CacheInput));
        if read == 0 || cached == 0 {
            return read.max(cached);
        }
        if cached != read && cached != read.saturating_add(written) {
            let name = self.name(Means::CacheInput).to_owned();
            self.doubt(&name);
        }
        read
    }

    fn thoughts(&self) -> i64 {
        self.get(Means::Reasoning).max(self.get(Means::Thoughts))
    }

    /// Decides the nesting of counts.
    fn within(&mut self, cached: i64, rule: Rule<'_>) -> Within {
        let (input, output) = (self.get(Means::Input), self.get(Means::Output));
        let (thoughts, tools, total) = (self.thoughts(), self.get(Means::ToolUse), self.get(Means::Total));
        let sums = Within::all().filter(|within| {
            // A missing count is treated as within, to have one representation.
            (cached > 0 || within.cached) && (thoughts > 0 || within.thoughts) && (tools > 0 || within.tools)
        });
        let mut usual = Within { cached: true, thoughts: thoughts <= output, tools: false };
        usual.tools |= tools == 0;
        let own = self.own_numbers(input, cached);
        let scope = by_scope(rule);
        usual.cached = own.or(scope).unwrap_or(rule.input_includes_cached) || cached == 0;
        if total == 0 {
            if self.get(Means::Thoughts) > 0 && thoughts <= output {
                let name = self.name(Means::Thoughts).to_owned();
                self.doubt(&name);
            }
            return usual;
        }
        let possible = |within: &Within| {
            (!within.thoughts || thoughts <= output) && own.is_none_or(|own| cached == 0 || own == within.cached)
        };
        let sum = |within: &Within| {
            let beside = [(within.cached, cached), (within.thoughts, thoughts), (within.tools, tools)];
            let beside = beside.iter().filter(|(is_within, _)| !is_within).map(|(_, count)| *count);
            beside.fold(input.saturating_add(output), i64::saturating_add)
        };
        let matching: Vec<Within> = sums.filter(|within| possible(within) && sum(within) == total).collect();
        match matching.as_slice() {
            // A total without the cached tokens does not decide about them if the scope is known to count otherwise.
            [one] if one.cached && cached > 0 && own.is_none() && scope == Some(false) => {
                Within { cached: false, ..*one }
            }
            [one] => *one,
            [] if own == Some(false) && input.saturating_add(output) == total => usual,
            [] => {
                let name = self.name(Means::Total).to_owned();
                self.doubt(&name);
                usual
            }
            several if several.contains(&usual) => usual,
            _ => {
                let name = self.name(Means::Total).to_owned();
                self.doubt(&name);
                usual
            }
        }
    }

    /// True if the input includes the cached tokens, if its own numbers decide that.
    fn own_numbers(&self, input: i64, cached: i64) -> Option<bool> {
        if input < cached {
            return Some(false);
        }
        let uncached = self.get(Means::Uncached);
        match uncached {
            0 => None,
            _ if input == uncached && cached > 0 => Some(false),
            _ if input.saturating_sub(cached) == uncached => Some(true),
            _ => None,
        }
    }

    /// The counts without any arithmetic.
    fn without_arithmetic(self) -> Buckets {
        let fields = [
            (Means::Input, "input_tokens"),
            (Means::Output, "output_tokens"),
            (Means::CacheRead, "cache_read_tokens"),
            (Means::CacheWrite, "cache_write_5m_tokens"),
            (Means::CacheWrite1h, "cache_write_1h_tokens"),
        ];
        let fields: Vec<_> = fields.map(|(means, field)| (field, self.get(means))).to_vec();
        let negative = self.counts.values().find(|(count, _)| *count < 0);
        let is_in_a_field = fields.iter().any(|(_, count)| *count < 0);
        let unread = negative.filter(|_| !is_in_a_field).map(|(_, name)| (*name).to_owned());
        Buckets { fields, units: Vec::new(), not_understood: self.not_understood.or(unread) }
    }
}

/// Counts within the input's and the output's tokens; the others are beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Within {
    cached: bool,
    thoughts: bool,
    tools: bool,
}

impl Within {
    fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self { cached: bits & 1 == 0, thoughts: bits & 2 == 0, tools: bits & 4 == 0 })
    }
}

fn by_scope(rule: Rule<'_>) -> Option<bool> {
    // Before version 6 the AI SDK passed on Anthropic's own count; version 6 also has the uncached tokens.
    if rule.scope == "ai" && rule.provider.starts_with("anthropic") {
        return Some(false);
    }
    SCOPES.iter().find(|(scope, _)| rule.scope.starts_with(scope)).map(|(_, includes)| *includes)
}

/// True if an attribute outside of the table concerns usage: any number but 0, and any non-empty value whose name
/// mentions tokens.
fn tells_usage(name: &str, value: &AttributeValue) -> bool {
    let name = separated(name);
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    if words.any(|word| NO_USAGE.contains(&word)) || NO_USAGE_TOGETHER.iter().any(|together| name.contains(together)) {
        return false;
    }
    match value.count() {
        Count::Nothing => false,
        Count::Whole(number) => number != 0,
        Count::Unreadable => name.contains("token") || matches!(value, AttributeValue::Float(_)),
    }
}

/// The name in lower case, with separated words of `inCamelCase`.
fn separated(name: &str) -> String {
    let mut separated = String::with_capacity(name.len() + 4);
    let mut was_lower = false;
    for letter in name.chars() {
        if was_lower && letter.is_ascii_uppercase() {
            separated.push('_');
        }
        was_lower = letter.is_ascii_lowercase();
        separated.push(letter.to_ascii_lowercase());
    }
    separated
}

/// The cost in the span, in USD. None for 0, which senders use for models that they do not know.
///
/// # Errors
/// The attribute whose amount is negative or not a number.
pub fn cost(attributes: &Attributes) -> Result<Option<String>, &'static str> {
    for (name, _) in COSTS {
        let Some(text) = attributes.number_text(name).filter(|text| !text.trim().is_empty()) else { continue };
        match Usd::parse_rounded(text.trim()) {
            Ok(usd) if usd == Usd::ZERO => {}
            Ok(usd) if usd > Usd::ZERO => return Ok(Some(usd.to_string())),
            _ => return Err(name),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;

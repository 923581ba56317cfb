use super::*;

const RULE: Rule<'static> = Rule { scope: "", provider: "anthropic", input_includes_cached: true };

/// Input, output, read, written for five minutes, written for an hour; unknown usage.
fn read(rule: Rule<'_>, pairs: &[(&str, i64)]) -> ([i64; 5], Option<String>) {
    let mut attributes = Attributes::default();
    for (name, count) in pairs {
        attributes.insert((*name).to_owned(), AttributeValue::Integer(*count));
    }
    let buckets = SpanUsage::of(&attributes).buckets(rule);
    let counts: Vec<i64> = buckets.fields.iter().map(|(_, count)| *count).collect();
    (counts.try_into().unwrap(), buckets.not_understood)
}

const IN: &str = "gen_ai.usage.input_tokens";
const OUT: &str = "gen_ai.usage.output_tokens";
const READ: &str = "gen_ai.usage.cache_read.input_tokens";
const WRITE: &str = "gen_ai.usage.cache_write.input_tokens";
const TOTAL: &str = "gen_ai.usage.total_tokens";
const THOUGHT: &str = "gen_ai.usage.details.thoughts_tokens";

#[test]
fn each_span_decides_whether_its_input_has_the_cached_tokens() {
    let exclusive = Rule { input_includes_cached: false, ..RULE };
    for (rule, pairs, expected) in [
        (RULE, vec![(IN, 1000), (OUT, 5), (READ, 600), (WRITE, 150)], [250, 5, 600, 150, 0]),
        (exclusive, vec![(IN, 1000), (OUT, 5), (READ, 600), (WRITE, 150)], [1000, 5, 600, 150, 0]),
        // The total, for any setting.
        (RULE, vec![(IN, 5000), (OUT, 100), (READ, 3000), (TOTAL, 8100)], [5000, 100, 3000, 0, 0]),
        (exclusive, vec![(IN, 5000), (OUT, 100), (READ, 3000), (TOTAL, 5100)], [2000, 100, 3000, 0, 0]),
        // Numbers with only one interpretation.
        (RULE, vec![(IN, 10), (READ, 600)], [10, 0, 600, 0, 0]),
        (RULE, vec![(IN, 10), (OUT, 5), (READ, 600), (TOTAL, 15)], [10, 5, 600, 0, 0]),
        (
            exclusive,
            vec![(IN, 1000), (READ, 600), ("ai.usage.inputTokenDetails.noCacheTokens", 400)],
            [400, 0, 600, 0, 0],
        ),
        (RULE, vec![(IN, 400), (READ, 300), ("ai.usage.inputTokenDetails.noCacheTokens", 400)], [400, 0, 300, 0, 0]),
        // The scope.
        (Rule { scope: "ai", ..RULE }, vec![(IN, 1000), (READ, 600)], [1000, 0, 600, 0, 0]),
        (Rule { scope: "pydantic-ai", ..exclusive }, vec![(IN, 1000), (READ, 600)], [400, 0, 600, 0, 0]),
    ] {
        assert_eq!(read(rule, &pairs), (expected, None), "{pairs:?}");
    }
}

#[test]
fn a_word_that_stands_within_another_excuses_no_number() {
    for (name, tells) in [
        ("gen_ai.usage.image_generation_tokens", true),
        ("gen_ai.usage.realtime_units", true),
        ("ai.usage.iterationTokens", true),
        ("gen_ai.usage.max_tokens", false),
        ("ai.usage.queueTime", false),
        ("ai.usage.totalCost", false),
        ("llm.usage.tokens_per_second", false),
    ] {
        assert_eq!(tells_usage(name, &AttributeValue::Integer(7)), tells, "{name}");
    }
}

#[test]
fn thoughts_are_within_the_output_or_beside_it_as_the_total_says() {
    for (pairs, output) in [
        (vec![(IN, 55_021), (OUT, 923), (THOUGHT, 785), (TOTAL, 56_729)], 1_708),
        (vec![(IN, 55_021), (OUT, 1_708), (THOUGHT, 785), (TOTAL, 56_729)], 1_708),
        (vec![(IN, 10), (OUT, 100), ("gen_ai.usage.reasoning_tokens", 60)], 100),
        (vec![(IN, 10), (OUT, 100), ("gen_ai.usage.reasoning_tokens", 60), (TOTAL, 170)], 160),
        (vec![(IN, 10), (OUT, 5), (THOUGHT, 60)], 65),
    ] {
        assert_eq!((read(RULE, &pairs).0[1], read(RULE, &pairs).1), (output, None), "{pairs:?}");
    }
    let open = vec![(IN, 10), (OUT, 100), (THOUGHT, 60)];
    assert_eq!(read(RULE, &open).1.as_deref(), Some(THOUGHT), "within or beside, nobody knows");
}

#[test]
fn what_does_not_add_up_is_named() {
    for (pairs, name) in [
        (vec![(IN, 10), (OUT, 5), (TOTAL, 25)], TOTAL),
        (vec![(IN, 10), (OUT, 5), (TOTAL, 14)], TOTAL),
        (vec![(IN, 10), ("gen_ai.usage.prompt_tokens", 11)], "gen_ai.usage.prompt_tokens"),
        (vec![(IN, 10), ("gen_ai.usage.some_new_cache_tokens", 1)], "gen_ai.usage.some_new_cache_tokens"),
        (vec![(IN, 10), ("ai.usage.newKind", 1)], "ai.usage.newKind"),
        (vec![(IN, 10), ("llm.token_count.prompt_details.video", 1)], "llm.token_count.prompt_details.video"),
        (vec![(IN, 10), ("gen_ai.usage.audio.input_tokens", 11)], IN),
    ] {
        assert_eq!(read(RULE, &pairs).1.as_deref(), Some(name), "{pairs:?}");
    }
    let fine = [(IN, 10), ("gen_ai.usage.new_tokens", 0), ("gen_ai.usage.cost", 3), ("gen_ai.usage.max_tokens", 9)];
    assert_eq!(read(RULE, &fine), ([10, 0, 0, 0, 0], None));
}

#[test]
fn audio_and_images_leave_the_text_and_hours_the_five_minutes() {
    let mut attributes = Attributes::default();
    for (name, count) in [
        (IN, 100),
        (OUT, 80),
        ("llm.token_count.prompt_details.audio", 30),
        ("gen_ai.usage.details.cache_audio_read_tokens", 5),
        ("llm.token_count.completion_details.audio", 60),
        (READ, 20),
    ] {
        attributes.insert(name.to_owned(), AttributeValue::Integer(count));
    }
    let found = SpanUsage::of(&attributes).buckets(RULE);
    assert_eq!(found.not_understood, None);
    assert_eq!(found.fields[..3], [("input_tokens", 55), ("output_tokens", 20), ("cache_read_tokens", 15)]);
    let used: Vec<_> = found.units.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(used, [("audio_input_token", 25), ("audio_cache_read_token", 5), ("audio_output_token", 60)]);
    let hours = [(IN, 1000), (WRITE, 500), ("gen_ai.usage.cache_creation.ephemeral_1h_input_tokens", 300)];
    assert_eq!(read(RULE, &hours), ([500, 0, 0, 200, 300], None));
}

#[test]
fn litellms_cached_tokens_stand_in_the_vendors_usage() {
    let written = "{'prompt_tokens': 1000, 'prompt_tokens_details': {'audio_tokens': 0, 'cached_tokens': 600}}";
    let attributes = Attributes::from([(IN, 1000.into()), ("metadata.usage_object", written.into())]);
    let buckets = SpanUsage::of(&attributes).buckets(RULE);
    assert_eq!(buckets.fields[..3], [("input_tokens", 400), ("output_tokens", 0), ("cache_read_tokens", 600)]);
    let attributes = Attributes::from([(IN, 1000.into()), ("metadata.usage_object", "{'cached_tokens': None}".into())]);
    assert_eq!(SpanUsage::of(&attributes).buckets(RULE).fields[0], ("input_tokens", 1000));
}

#[test]
fn a_cost_is_whole_and_not_nothing() {
    let of = |name: &str, value: AttributeValue| cost(&Attributes::from([(name, value)]));
    assert_eq!(of("gen_ai.usage.cost", AttributeValue::Float(0.0045)), Ok(Some("0.0045".into())));
    assert_eq!(of("llm.cost.total", "3.5250000000000003e-05".into()), Ok(Some("0.00003525".into())));
    assert_eq!(of("gen_ai.cost.total_cost", AttributeValue::Float(0.0)), Ok(None));
    assert_eq!(of("gen_ai.cost.input_cost", AttributeValue::Float(0.1)), Ok(None));
    assert_eq!(of("gen_ai.usage.cost", AttributeValue::Float(f64::NAN)), Err("gen_ai.usage.cost"));
    assert_eq!(of("gen_ai.usage.cost", AttributeValue::Float(-0.1)), Err("gen_ai.usage.cost"));
}

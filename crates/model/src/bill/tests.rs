//! Exports written by hand from the vendors' descriptions; the repository does not have exports of real accounts.

use super::compare::{RecordedDay, Tolerance, compare};
use super::*;

const COST: &str = r#"{"data": [
    {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z", "results": [
        {"amount": "123.45", "currency": "USD", "model": "claude-sonnet-4-5-20250929", "cost_type": "tokens"},
        {"amount": "0.55", "currency": "USD", "model": "claude-sonnet-4-5", "cost_type": "tokens"},
        {"amount": "10", "currency": "USD", "model": null, "cost_type": "web_search"}]},
    {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z", "results": []}],
    "has_more": false, "next_page": null}"#;

fn read(text: &str) -> Bill {
    let mut bill = Bill::default();
    bill.read("file", text).expect("an export");
    bill
}

fn day(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

/// Each line as day, model, cost and tokens.
fn lines(bill: &Bill) -> Vec<String> {
    let line = |(key, sums): (&BillKey, &BillSums)| {
        let cost = sums.cost_usd.map_or("-".to_owned(), |usd| usd.to_string());
        let tokens = sums.tokens.map_or("-".to_owned(), |tokens| {
            format!("{}/{}/{}/{}", tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
        });
        format!("{} {} {:?} {cost} {tokens}", key.day, key.provider, key.model)
    };
    bill.sums().iter().map(line).collect()
}

#[test]
fn anthropics_costs_are_in_cents_and_named_by_family() {
    let bill = read(COST);
    assert_eq!(lines(&bill), ["2026-11-01 claude \"\" 0.1 -", "2026-11-01 claude \"claude-sonnet-4-5\" 1.24 -"]);
    assert_eq!(bill.days(), [(day("2026-11-01"), "claude"), (day("2026-11-02"), "claude")].into());
}

#[test]
fn anthropics_usage_is_in_disjoint_buckets_also_by_the_hour_and_over_several_pages() {
    let page = |at: &str| {
        format!(
            r#"{{"data": [{{"starting_at": "{at}", "results": [{{"uncached_input_tokens": 1500, "output_tokens": 500,
            "cache_read_input_tokens": 200, "cache_creation": {{"ephemeral_1h_input_tokens": 1000,
            "ephemeral_5m_input_tokens": 500}}, "model": "claude-opus-4-5"}}]}}], "has_more": true}}"#
        )
    };
    let bill = read(&format!("{}\n{}", page("2026-11-01T22:00:00Z"), page("2026-11-02T00:30:00+01:00")));
    assert_eq!(lines(&bill), ["2026-11-01 claude \"claude-opus-4-5\" - 3000/1000/400/3000"]);
}

#[test]
fn openais_numbers_keep_their_digits_and_cached_tokens_are_not_counted_twice() {
    let costs = r#"{"object": "page", "data": [{"object": "bucket", "start_time": 1793491200, "results": [
        {"object": "organization.costs.result", "amount": {"value": 0.0600000000000000001, "currency": "usd"},
         "line_item": "gpt-4o-mini-2024-07-18, input"},
        {"object": "organization.costs.result", "amount": {"value": 1e-2, "currency": "usd"},
         "line_item": "gpt-4o-mini-2024-07-18, output"},
        {"object": "organization.costs.result", "amount": {"value": "0.5", "currency": "usd"},
         "line_item": "web search tool calls"}]}]}"#;
    let bill = read(costs);
    assert_eq!(lines(&bill), ["2026-11-01 openai \"\" 0.5 -", "2026-11-01 openai \"gpt-4o-mini\" 0.07 -"]);
    let usage = r#"[{"data": [{"start_time": 1793491200, "results": [
        {"object": "organization.usage.completions.result", "input_tokens": 1000, "input_cached_tokens": 800,
         "output_tokens": 50, "model": "gpt-4o-mini-2024-07-18"}]}]}]"#;
    assert_eq!(lines(&read(usage)), ["2026-11-01 openai \"gpt-4o-mini\" - 200/50/800/0"]);
}

#[test]
fn consoles_tables_are_read_by_the_names_of_their_columns() {
    let csv = "usage_date_utc,model,workspace,cost_usd,token_type\n2026-11-01,claude-haiku-4-5,w,\"1.5\",output\n\
               2026-11-01,claude-haiku-4-5,w,0.25,input\n";
    assert_eq!(lines(&read(csv)), ["2026-11-01 claude \"claude-haiku-4-5\" 1.75 -"]);
    let usage = "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_output_tokens,usage_input_tokens_cache_read\n\
                 2026-11-01 13:00,claude-haiku-4-5-20251001,7,8,9\n";
    assert_eq!(lines(&read(usage)), ["2026-11-01 claude \"claude-haiku-4-5\" - 7/8/9/0"]);
    let tsv = "start_time\tend_time\tamount_value\tamount_currency\tline_item\n\
               1793491200\t1793577600\t0.8958740000000000000000\tusd\t\n1793577600\t1793664000\t\t\t\n";
    let bill = read(tsv);
    assert_eq!(lines(&bill), ["2026-11-01 openai \"\" 0.895874 -"]);
    assert_eq!(bill.days().len(), 2, "a day without costs is a day of the bill");
}

#[test]
fn what_is_no_bill_or_would_count_twice_is_refused_by_name() {
    let refused = |first: &str, then: &str| {
        let mut bill = Bill::default();
        match bill.read("a.json", first).and_then(|()| bill.read("b.json", then)) {
            Ok(()) => panic!("it was read: {then}"),
            Err(error) => error.to_string(),
        }
    };
    let said = refused(COST, COST);
    assert!(said.starts_with("b.json and a.json both have claude's costs of 2026-11-01"), "{said}");
    for unknown in ["{}", "[1]", "day,usd\n1,2\n", "", r#"{"data": [{"results": [{"object": "other"}]}]}"#] {
        let said = refused(r#"{"data": [{"results": []}]}"#, unknown);
        assert!(said.contains("b.json"), "{unknown}: {said}");
    }
    let said = refused(r#"{"data": [{"results": []}]}"#, &format!("{COST}\n{COST}"));
    assert!(said.contains("its costs stand here a second time"), "{said}");
    let usage = r#"{"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"uncached_input_tokens": 1, "output_tokens": "7"}]}]}"#;
    let said = refused(r#"{"data": [{"results": []}]}"#, usage);
    assert!(said.ends_with("output_tokens is not a count: \"7\""), "{said}");
    let usage = r#"{"data": [{"start_time": 1793491200, "results": [
        {"object": "organization.usage.completions.result", "input_tokens": -1}]}]}"#;
    let said = refused(r#"{"data": [{"results": []}]}"#, usage);
    assert!(said.ends_with("input_tokens is not a count: -1"), "{said}");
    let said = refused(r#"{"data": [{"results": []}]}"#, "usage_date_utc,cost_usd\n2026-11-01,1\n2026-13-01,2\n");
    assert_eq!(said, "b.json, line 3: usage_date_utc: \"2026-13-01\" is not a date: expected 2026-08-05");
    let said = refused(r#"{"data": [{"results": []}]}"#, &COST.replace("\"USD\"", "\"EUR\""));
    assert!(said.contains("amounts are in EUR"), "{said}");
}

fn recorded(model: &str, cost: &str, calls: i64, unpriced: i64) -> RecordedDay {
    let cost_usd = Usd::parse(cost).expect("an amount");
    let (day, provider) = (day("2026-11-01"), "claude".to_owned());
    RecordedDay {
        day,
        provider,
        model: model.to_owned(),
        tier: String::new(),
        price_id: None,
        calls,
        unpriced,
        with_extra_units: 0,
        tokens: BillTokens::default(),
        cost_usd,
    }
}

const NONE: Tolerance = Tolerance { usd: Usd::ZERO, permille: 0 };

#[test]
fn a_day_is_judged_by_its_sum_because_web_searches_name_no_model() {
    let bill = read(COST);
    let whole = [recorded("claude-sonnet-4-5-20250929", "1.34", 3, 0)];
    let found = compare(&bill, &whole, NONE);
    assert!(found.agrees, "{found:?}");
    assert_eq!(found.days[0].difference_usd, Some(Usd::ZERO));
    assert_eq!(found.days[1].billed_usd, Some(Usd::ZERO), "a day of the bill on which nothing was billed");

    let off = [recorded("claude-sonnet-4-5", "1.33", 3, 0)];
    assert!(!compare(&bill, &off, NONE).agrees);
    let cent = Tolerance { usd: Usd::parse("0.01").expect("a cent"), permille: 0 };
    assert!(compare(&bill, &off, cent).agrees);
    assert!(
        compare(&bill, &off, Tolerance { usd: Usd::ZERO, permille: 8 }).agrees,
        "0.8 % of 1.34 is more than a cent"
    );
    assert!(!compare(&bill, &off, Tolerance { usd: Usd::ZERO, permille: 7 }).agrees);
}

#[test]
fn amounts_at_the_end_of_what_can_be_held_and_refunds_are_compared() {
    let least = read("usage_date_utc,cost_usd\n2026-11-01,-170141183460469231731.687303715884105727\n");
    assert!(!compare(&least, &[recorded("claude-sonnet-4-5", "1", 1, 0)], NONE).agrees);
    let refund = read(&COST.replace("123.45", "-1000.55"));
    assert!(compare(&refund, &[recorded("claude-sonnet-4-5", "-9.9", 1, 0)], NONE).agrees, "-10.0055 + 0.0055 + 0.1");
}

#[test]
fn a_difference_is_explained_by_what_is_seen() {
    let bill = read(COST);
    let causes = |recorded: &[RecordedDay]| compare(&bill, recorded, NONE).days[0].causes.join("\n");
    let said = causes(&[recorded("claude-sonnet-4-5", "1", 3, 2), recorded("claude-opus-4-5", "5", 1, 0)]);
    assert!(said.contains("2 calls have no price (claude-sonnet-4-5)"), "{said}");
    assert!(said.contains("recorded and not on the bill: claude-opus-4-5"), "{said}");
    assert!(said.contains("part of the bill names no model"), "{said}");
    let said = causes(&[recorded("claude-opus-4-5", "5", 1, 0)]);
    assert!(said.contains("billed and never recorded: claude-sonnet-4-5"), "{said}");
    assert!(causes(&[]).contains("nothing was recorded"));
    // Records of days and providers that the bill does not cover are ignored.
    let elsewhere = RecordedDay { day: day("2026-10-31"), ..recorded("claude-opus-4-5", "5", 1, 0) };
    assert_eq!(compare(&bill, std::slice::from_ref(&elsewhere), NONE).days.len(), 2);
    assert!(compare(&bill, &[elsewhere], NONE).days.iter().all(|day| day.recorded_usd == Usd::ZERO));
}

#[test]
fn tokens_are_compared_where_usage_is_given_and_point_at_prices() {
    let mut bill = read(COST);
    bill.read(
        "usage",
        r#"{"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"uncached_input_tokens": 100,
            "output_tokens": 10, "model": "claude-sonnet-4-5"}]}]}"#,
    )
    .expect("an export");
    let tokens = BillTokens { input: 100, output: 10, ..BillTokens::default() };
    let same = RecordedDay { tokens, ..recorded("claude-sonnet-4-5", "2", 1, 0) };
    let found = compare(&bill, &[same], NONE);
    assert!(found.days[0].causes.iter().any(|cause| cause.contains("a price differs")), "{found:?}");
    let tokens = BillTokens { input: 99, ..tokens };
    let fewer = RecordedDay { tokens, ..recorded("claude-sonnet-4-5", "1.34", 1, 0) };
    assert!(!compare(&bill, std::slice::from_ref(&fewer), NONE).agrees, "the cost agrees, the tokens do not");
    assert!(compare(&bill, &[fewer], Tolerance { usd: Usd::ZERO, permille: 10 }).agrees);
}

#[test]
fn tables_that_went_through_a_spreadsheet_are_read_as_the_flags_say() {
    let form = |thousands, decimal_comma, dates| BillForm { numbers: Numbers { thousands, decimal_comma }, dates };
    let read = |form: BillForm, text: &str| {
        let mut bill = Bill::in_form(form);
        bill.read("bill.csv", text).map(|()| lines(&bill)).map_err(|error| error.to_string())
    };
    let plain = BillForm::default();
    let german = "sep=;\r\nusage_date_utc;model;cost_usd\r\n05.08.2026;Claude Sonnet 4.5;1.234,50\r\n";
    let expected = Ok(vec!["2026-08-05 claude \"claude-sonnet-4-5\" 1234.5 -".to_owned()]);
    assert_eq!(read(form(Some('.'), true, None), german), expected);
    let said = read(plain, german).unwrap_err();
    assert!(said.starts_with("bill.csv, line 3: cost_usd: ") && said.contains("--decimal-comma"), "{said}");
    let american = "usage_date_utc,model,cost_usd\n8/5/2026,Claude Sonnet 4.5,\"$1,234.50\"\n";
    assert_eq!(read(form(Some(','), false, Some(DateOrder::Mdy)), american), expected);
    assert!(read(form(Some(','), false, None), american).unwrap_err().contains("--dates mdy or --dates dmy"));
    let serial = "usage_date_utc;model;cost_usd\n46239;claude-sonnet-4-5;1234.5\n";
    assert_eq!(read(plain, serial), expected);
}

#[test]
fn an_amount_in_another_currency_is_refused_and_not_compared() {
    let said = |text: &str| Bill::default().read("bill.csv", text).unwrap_err().to_string();
    let stated = "start_time,amount_value,amount_currency,line_item\n1785888000,0.21,eur,\n";
    assert_eq!(said(stated), "bill.csv, line 2: amounts are in eur, and only USD is kept");
    for amount in ["€0.21", "0.21 EUR", "0.21 €", "CHF 0.21", "A$0.21", "-£1"] {
        let text = format!("usage_date_utc,cost_usd\n2026-08-05,{amount}\n");
        assert!(said(&text).contains("only USD is kept"), "{amount}: {}", said(&text));
    }
    let bill = read("usage_date_utc,cost_usd\n2026-08-05,$0.21\n2026-08-06,-$1.5\n2026-08-07,1.5e-1 USD\n");
    let sums = ["2026-08-05 claude \"\" 0.21 -", "2026-08-06 claude \"\" -1.5 -", "2026-08-07 claude \"\" 0.15 -"];
    assert_eq!(lines(&bill), sums);
}

#[test]
fn openrouters_activity_is_a_bill_with_its_tokens() {
    let text = "generation_id,created_at,cost_total,byok_usage_inference,tokens_prompt,tokens_completion,tokens_cached,model_permaslug\n\
        gen-1,2026-08-05 23:59:59.999,0.0045,0,1000,100,0,anthropic/claude-sonnet-4.5\n\
        gen-2,2026-08-05 10:00:00,0.0002,0.004,1000,100,900,anthropic/claude-sonnet-4.5\n";
    assert_eq!(lines(&read(text)), ["2026-08-05 openrouter \"anthropic/claude-sonnet-4.5\" 0.0087 1100/200/900/0"]);
}

#[test]
fn openrouters_activity_is_read_as_its_api_answers_it() {
    let item = |date: &str, endpoint: &str, usage: &str| {
        format!(
            r#"{{"date": "{date}", "model": "openai/gpt-4.1", "model_permaslug": "openai/gpt-4.1-2025-04-14",
            "endpoint_id": "{endpoint}", "provider_name": "OpenAI", "usage": {usage}, "byok_usage_inference": 0.012,
            "requests": 5, "prompt_tokens": 50, "completion_tokens": 125, "reasoning_tokens": 25}}"#
        )
    };
    let page = |items: &[String]| format!(r#"{{"data": [{}]}}"#, items.join(","));
    let read = |text: &str| {
        let mut bill = Bill::default();
        bill.read("activity.json", text).map(|()| bill)
    };
    let items =
        [item("2026-08-24", "a", "0.015"), item("2026-08-24 00:00:00", "b", "1e-3"), item("2026-08-25", "a", "0")];
    let bill = read(&page(&items)).unwrap();
    let costs: Vec<_> = bill.sums().values().map(|sums| sums.cost_usd.unwrap().to_string()).collect();
    assert_eq!(costs, ["0.04", "0.012"]);
    assert!(bill.sums().values().all(|sums| sums.tokens.is_none()), "cached tokens are not told apart");
    assert!(bill.sums().keys().all(|key| key.provider == "openrouter"), "{:?}", bill.sums());
    for (wrong, says) in [
        (page(&[items[0].clone(), items[0].clone()]), "second time"),
        (page(&[item("yesterday", "a", "1")]), "yesterday"),
        (page(&[item("2026-08-24", "a", "\"much\"")]), "usage"),
        (page(&[items[0].clone(), r#"{"object": "bucket"}"#.to_owned()]), "not a known export"),
    ] {
        let error = read(&wrong).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn every_vendor_has_its_name_in_the_records_and_stands_in_the_error() {
    let error = BillError::Unknown { file: String::new() }.to_string();
    for (provider, vendor) in VENDORS {
        assert_eq!(crate::pricing::normalise_provider(provider), provider, "records have another name of {vendor}");
        assert!(error.contains(vendor), "BillError::Unknown does not name {vendor}: {error}");
    }
}

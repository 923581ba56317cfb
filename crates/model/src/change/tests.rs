//! The parts add up for any cells, and a change of one factor alone is one cause alone.

use proptest::prelude::*;

use super::*;

const CACHE_READ: usize = 2;

fn rates(scale: i128) -> Rates {
    let nano = |count: i128| Some(Usd::from_attos(count * scale * 1_000_000_000));
    Rates {
        input: nano(3_000),
        output: nano(15_000),
        cache_read: nano(300),
        cache_write_5m: nano(3_750),
        cache_write_1h: nano(6_000),
        ..Rates::default()
    }
}

/// A side whose cost is its list cost.
fn side(calls: i128, tokens: [i128; 5], rates: &Rates) -> Side {
    let listed = list_cost(rates, &tokens, calls);
    Side { calls, tokens, requests: calls, cost: listed.unwrap(), listed, ..Side::default() }
}

fn cell(model: &str, before: Side, after: Side) -> Cell {
    Cell { provider: "claude".into(), model: model.into(), rates: Some(rates(1)), before, after }
}

fn times(tokens: [i128; 5], factor: i128) -> [i128; 5] {
    tokens.map(|count| count * factor)
}

fn total(cells: &[Cell]) -> (i128, i128) {
    let sum = |of: fn(&Cell) -> Usd| cells.iter().map(|cell| of(cell).attos()).sum();
    (sum(|cell| cell.before.cost), sum(|cell| cell.after.cost))
}

/// Fails unless the whole difference has this cause.
fn all_of(cause: Cause, cells: &[Cell], known: &Known) -> Result<(), TestCaseError> {
    let (before, after) = total(cells);
    for part in split(cells, known) {
        let expected = if part.cause == cause { after - before } else { 0 };
        prop_assert_eq!(part.usd.attos(), expected, "{:?} in a change by {:?}: {:?}", part.cause, cause, part.note);
    }
    Ok(())
}

const TOKENS: std::ops::Range<i128> = 1..2_000_000_000;

fn tokens() -> impl Strategy<Value = [i128; 5]> {
    [TOKENS, TOKENS, TOKENS, TOKENS, TOKENS]
}

fn any_side() -> impl Strategy<Value = Side> {
    let listed = || prop::option::of(0..10_i128.pow(24));
    let counts = (0..1_000_000_i128, 0..1_000_000_i128, 0..10_i128);
    (
        counts,
        [0..TOKENS.end, 0..TOKENS.end, 0..TOKENS.end, 0..TOKENS.end, 0..TOKENS.end],
        -10_i128.pow(20)..10_i128.pow(27),
        listed(),
        listed(),
    )
        .prop_map(|((calls, errors, unpriced), tokens, cost, listed, tiered)| Side {
            calls,
            errors: errors.min(calls),
            unpriced,
            tokens,
            requests: calls,
            cost: Usd::from_attos(cost),
            listed: listed.map(Usd::from_attos),
            tiered: tiered.map(Usd::from_attos),
        })
}

fn any_cell() -> impl Strategy<Value = Cell> {
    (any_side(), any_side(), prop::option::of(0..5_i128)).prop_map(|(before, after, scale)| Cell {
        provider: "claude".into(),
        model: "m".into(),
        rates: scale.map(rates),
        before,
        after,
    })
}

proptest! {
    #[test]
    fn the_parts_add_up_to_the_last_digit(cells in prop::collection::vec(any_cell(), 0..8), new in prop::option::of(0..2_000_000_i128)) {
        let parts = split(&cells, &Known { new_user_calls: new, log_is_read: true });
        let (before, after) = total(&cells);
        prop_assert_eq!(parts.iter().map(|part| part.usd.attos()).sum::<i128>(), after - before);
        prop_assert_eq!(parts.iter().map(|part| part.cause).collect::<Vec<_>>(), Cause::ALL);
        let other = parts.last().unwrap();
        prop_assert_eq!(other.note.is_some(), other.usd != Usd::ZERO);
    }

    #[test]
    fn one_factor_alone_is_one_cause_alone(
        a in tokens(), b in tokens(), calls in [10..100_000_i128, 10..100_000_i128], factor in 2..9_i128, percent in 1..100_i128,
    ) {
        let [one, two] = calls;
        let nobody = Known { new_user_calls: Some(0), log_is_read: false };
        // Costs beside the list do not disturb: all calls at half the list price and more.
        let billed = |side: Side, numerator: i128| Side { cost: Usd::from_attos(side.cost.attos() / 100 * numerator), ..side };
        let priced = |calls, tokens| billed(side(calls, tokens, &rates(1)), percent);
        let pair = |after: [Side; 2]| [cell("a", priced(one, a), after[0]), cell("b", priced(two, b), after[1])];

        let more = [priced(one * factor, times(a, factor)), priced(two * factor, times(b, factor))];
        all_of(Cause::Volume, &pair(more), &nobody)?;
        let new_user_calls = Some((one + two) * (factor - 1));
        all_of(Cause::NewUsers, &pair(more), &Known { new_user_calls, log_is_read: false })?;

        let same = [priced(one, a), priced(two, b)];
        let mut longer = same.map(|side| billed(super::tests::side(side.calls, times(side.tokens, factor), &rates(1)), percent));
        longer.iter_mut().for_each(|side| side.requests *= factor);
        all_of(Cause::TokensPerCall, &pair(longer), &nobody)?;

        // Half of the input is read from the cache.
        let cached = [a, b].map(|mut tokens| {
            tokens[CACHE_READ] += tokens[0] / 2;
            tokens[0] -= tokens[0] / 2;
            tokens
        });
        all_of(Cause::CacheShare, &pair([priced(one, cached[0]), priced(two, cached[1])]), &nobody)?;

        let dearer = |side: Side| Side {
            cost: Usd::from_attos(side.cost.attos() * factor),
            listed: side.listed.map(|listed| Usd::from_attos(listed.attos() * factor)),
            ..side
        };
        all_of(Cause::Price, &pair(same.map(dearer)), &nobody)?;

        // Each successful call as before, but a part of the calls fails.
        let failing = |side: Side| {
            let calls = side.calls * factor;
            Side { errors: calls - side.calls, ..billed(super::tests::side(calls, times(side.tokens, 1), &rates(1)), percent) }
        };
        let before = [priced(one * factor, times(a, factor)), priced(two * factor, times(b, factor))];
        let cells = [cell("a", before[0], failing(same[0])), cell("b", before[1], failing(same[1]))];
        all_of(Cause::Errors, &cells, &nobody)?;

        let batch = |side: Side| {
            let tiered = |numerator: i128| Some(Usd::from_attos(side.listed.unwrap().attos() / 100 * numerator));
            (Side { tiered: tiered(100), cost: tiered(100).unwrap(), ..side }, Side { tiered: tiered(percent), cost: tiered(percent).unwrap(), ..side })
        };
        let cells = [cell("a", batch(same[0]).0, batch(same[0]).1), cell("b", batch(same[1]).0, batch(same[1]).1)];
        all_of(Cause::Tier, &cells, &Known { log_is_read: true, ..nobody })?;
        // Without the call log, the same difference is not guessed.
        let told = |cell: &Cell| Cell {
            before: Side { tiered: None, ..cell.before }, after: Side { tiered: None, ..cell.after }, ..cell.clone()
        };
        let cells = [told(&cells[0]), told(&cells[1])];
        all_of(Cause::Other, &cells, &nobody)?;
        prop_assert!(split(&cells, &nobody)[7].note.is_some());

        // As many calls, another model.
        let silent = Side::default();
        let cells = [cell("a", priced(one, a), silent), cell("b", silent, priced(one, b))];
        all_of(Cause::ModelMix, &cells, &nobody)?;
    }
}

#[test]
fn a_known_case_is_split_as_by_hand() {
    // 10 calls at 1 USD become 15: 12 of them at 1 USD by new prices of 1.5, 3 of a new model at 4.
    let unit = |calls: i128, cost: i128, listed: i128| Side {
        calls,
        tokens: [calls, 0, 0, 0, 0],
        cost: Usd::from_attos(cost),
        listed: Some(Usd::from_attos(listed)),
        ..Side::default()
    };
    let rates = Some(Rates { input: Some(Usd::from_attos(100)), ..Rates::default() });
    let cells = [
        Cell { rates, ..cell("old", unit(10, 1_000, 1_000), unit(12, 1_800, 1_800)) },
        cell("new", Side::default(), unit(3, 1_200, 1_200)),
    ];
    let parts = split(&cells, &Known { new_user_calls: Some(2), log_is_read: false });
    let parts: Vec<i128> = parts.iter().map(|part| part.usd.attos()).collect();
    // 13 calls of old users: +300; 2 of new users: +200; 12 * 100 + 1200 - 1500: +900; prices: +600.
    assert_eq!(parts, [300, 200, 900, 0, 0, 0, 600, 0, 0]);
}

#[test]
fn what_cannot_be_told_is_other_and_says_why() {
    let plain = |cost: i128, unpriced| Side { calls: 10, unpriced, cost: Usd::from_attos(cost), ..Side::default() };
    let listless = |model: &str, before, after| Cell { rates: None, ..cell(model, before, after) };
    let cells = [
        listless("own", plain(100, 0), plain(150, 0)),
        listless("late", plain(0, 10), plain(1_000, 0)),
        listless("", plain(5, 0), plain(4, 0)),
        listless("x", plain(5, 0), plain(6, 0)),
    ];
    let parts = split(&cells, &Known::default());
    let other = parts.last().unwrap();
    assert_eq!(other.usd.attos(), 1_050);
    assert_eq!(
        other.note.as_deref(),
        Some(
            "late: unpriced calls, whose cost is not in the sums; own: no list price of its usage; claude: no list price of its usage; and 1 more"
        )
    );
    assert!(parts[1].note.as_deref().unwrap().contains("count in volume"));
}

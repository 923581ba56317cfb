use crate::zone::Tz;
use proptest::prelude::*;

use super::super::dimensions::Dimension;
use super::super::guard::KeyBounds;
use super::*;
use crate::call::Cost;
use crate::pricing::{Tokens, Usd};

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = DAY_US / 24;

/// Calls, errors, input tokens, attodollars, unpriced calls.
type Sums = (i64, i64, i64, i128, i64);

#[derive(Debug, Clone)]
struct Sample {
    day: i64,
    names: [usize; 6],
    input: u64,
    status: u16,
    cost: Option<i64>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let names = prop::array::uniform6(0..4usize);
    (0..3i64, names, 0..1_000u64, prop_oneof![Just(200u16), Just(400), Just(529)], any::<Option<i64>>())
        .prop_map(|(day, names, input, status, cost)| Sample { day, names, input, status, cost })
}

const NAMES: [&str; 4] = ["", "a", "ab", "a name that does not fit the row that it belongs to"];

/// Each sample's own copies of its names, so that equal names have several addresses.
fn texts(samples: &[Sample]) -> Vec<[String; 6]> {
    let of = |sample: &Sample| {
        let [.., tags] = sample.names;
        let mut texts = sample.names.map(|name| NAMES[name].to_owned());
        texts[5] = if tags == 0 { String::new() } else { format!(r#"{{"a":"x","team":"{}"}}"#, NAMES[tags]) };
        texts
    };
    samples.iter().map(of).collect()
}

/// The tag `team`, from the second day on.
fn team() -> Dimensions {
    let counted_from = NaiveDate::default() + chrono::Days::new(1);
    Dimensions::new(vec![Dimension { name: "team".into(), place: 3, counted_from }])
}

fn calls<'a>(samples: &[Sample], texts: &'a [[String; 6]]) -> Vec<Call<'a>> {
    let call =
        |(place, (sample, [provider, model, endpoint, user_id, app, tags])): (usize, (&Sample, &'a [String; 6]))| {
            Call {
                // Two hours, and distinct microseconds.
                occurred_at_us: sample.day * DAY_US + (place % 2) as i64 * HOUR_US + place as i64,
                provider,
                model,
                endpoint,
                user_id,
                app,
                tags,
                tokens: Tokens { input: sample.input, ..Tokens::default() },
                status: sample.status,
                cost: sample.cost.map_or(Cost::Unpriced, |attos| Cost::Client(Usd::from_attos(attos.into()))),
                ..Call::default()
            }
        };
    samples.iter().zip(texts).enumerate().map(call).collect()
}

proptest! {
    #[test]
    fn the_sums_are_those_of_a_plain_map(samples in prop::collection::vec(sample(), 0..80)) {
        let texts = texts(&samples);
        let calls = calls(&samples, &texts);
        let guard = KeyGuard::new(KeyBounds { models: 2, endpoints: 3, apps: 2, values: 2 });
        let team = team();
        let mut fold = Fold::new(&guard, Days::new(Tz::UTC), &team);
        let mut expected: BTreeMap<(i64, [String; 3]), Sums> = BTreeMap::new();
        let mut users: BTreeMap<(i64, &str, &str), (i64, i64, i64)> = BTreeMap::new();
        let (mut dimensions, mut hours) = (BTreeMap::<_, i64>::new(), BTreeMap::<_, i64>::new());
        for (call, sample) in calls.iter().zip(&samples) {
            let other = fold.add(call);
            prop_assert_eq!(other, fold.other_of(call));
            let day = call.occurred_at_us / DAY_US;
            let name = |bit: i16, name: &str| if other & bit == 0 { name.to_owned() } else { OTHER.to_owned() };
            let names = [call.provider.to_owned(), name(OTHER_MODEL, call.model), name(OTHER_ENDPOINT, call.endpoint)];
            let of_call = [("app", OTHER_APP, call.app), ("team", 8, NAMES[sample.names[5]])];
            for (dimension, bit, value) in of_call.into_iter().filter(|(dimension, ..)| *dimension == "app" || day > 0) {
                let key = (day, dimension.to_owned(), name(bit, value), names[0].clone(), names[1].clone());
                *dimensions.entry(key).or_default() += 1;
            }
            *hours.entry((call.occurred_at_us / HOUR_US, names[0].clone(), names[1].clone())).or_default() += 1;
            let sums = expected.entry((day, names)).or_default();
            sums.0 += 1;
            sums.1 += i64::from(call.status >= 400);
            sums.2 += call.tokens.input as i64;
            sums.3 += call.cost.usd().map_or(0, Usd::attos);
            sums.4 += i64::from(call.cost.usd().is_none());
            let user = users.entry((day, NAMES[sample.names[3]], NAMES[sample.names[0]])).or_insert((0, i64::MAX, i64::MIN));
            *user = (user.0 + 1, user.1.min(call.occurred_at_us), user.2.max(call.occurred_at_us));
        }
        let mut together = Fold::new(&guard, Days::new(Tz::UTC), &team);
        let mut others = Vec::new();
        for some in calls.chunks(7) {
            together.add_all(some, &mut others);
            let expected: Vec<_> = some.iter().map(|call| fold.other_of(call)).collect();
            prop_assert_eq!(&others, &expected);
        }
        let (deltas, together) = (fold.deltas(), together.deltas());
        prop_assert_eq!(&deltas.costs, &together.costs);
        prop_assert_eq!(&deltas.dimensions, &together.dimensions);
        prop_assert_eq!(&deltas.hours, &together.hours);
        prop_assert_eq!(&deltas.users, &together.users);
        let found = deltas.costs.iter().map(|(key, sums)| {
            let day = key.day.signed_duration_since(NaiveDate::default()).num_days();
            let names = [key.provider, key.model, key.endpoint].map(str::to_owned);
            ((day, names), (sums.calls, sums.errors, sums.units[0], sums.cost.attos(), sums.unpriced))
        });
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
        let found = deltas.users.iter().map(|(key, sums)| {
            let day = key.day.signed_duration_since(NaiveDate::default()).num_days();
            ((day, key.user_id, key.provider), (sums.measures.calls, sums.first_us, sums.last_us))
        });
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), users);
        let found = deltas.dimensions.iter().map(|(key, sums)| {
            let day = key.day.signed_duration_since(NaiveDate::default()).num_days();
            let names = [key.dimension, key.value, key.provider, key.model].map(str::to_owned);
            let [dimension, value, provider, model] = names;
            ((day, dimension, value, provider, model), sums.calls)
        });
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), dimensions);
        let found = deltas.hours.iter().map(|(key, sums)| {
            ((key.hour_us / HOUR_US, key.provider.to_owned(), key.model.to_owned()), sums.calls)
        });
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), hours);
        prop_assert!(deltas.users.is_sorted_by_key(|(key, _)| (key.user_id, key.provider, key.day)));
    }
}

proptest! {
    /// A cost is rounded once, when its record is priced. Sums are of integers, so the division of records into batches
    /// cannot matter.
    #[test]
    fn any_split_over_batches_adds_up_to_the_same(
        samples in prop::collection::vec(sample(), 1..60),
        cuts in prop::collection::vec(0..60usize, 0..6),
    ) {
        let texts = texts(&samples);
        let calls = calls(&samples, &texts);
        let guard = KeyGuard::new(KeyBounds { models: 100, endpoints: 100, apps: 100, values: 100 });
        let team = team();
        let sums_of = |batches: &[&[Call<'_>]]| {
            let mut sums: BTreeMap<String, Measures> = BTreeMap::new();
            for batch in batches {
                let mut fold = Fold::new(&guard, Days::new(Tz::UTC), &team);
                fold.add_all(batch, &mut Vec::new());
                let deltas = fold.deltas();
                for (key, measures) in &deltas.costs {
                    sums.entry(format!("{key:?}")).or_default().add(measures);
                }
                for (key, measures) in &deltas.dimensions {
                    sums.entry(format!("{key:?}")).or_default().add(measures);
                }
                for (key, user) in &deltas.users {
                    sums.entry(format!("{key:?}")).or_default().add(&user.measures);
                }
            }
            sums
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(calls.len())).chain([0, calls.len()]).collect();
        cuts.sort_unstable();
        let batches: Vec<&[Call<'_>]> = cuts.windows(2).map(|cut| &calls[cut[0]..cut[1]]).collect();
        prop_assert_eq!(sums_of(&batches), sums_of(&[&calls]));
    }
}

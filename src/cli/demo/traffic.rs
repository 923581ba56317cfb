//! Made-up calls that look like a product's. A few users make most of them. Prompts are mostly read from a cache, and
//! the output decides a call's latency. Some calls fail, and one model is unpriced.
//!
//! Over a past period the traffic looks like that of office software with a growing number of users: busy by day, quiet
//! at weekends.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyd_client::Record;

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// Models, each with its share of calls per thousand. No price list has the last one.
const MODELS: [(&str, u32); 6] = [
    ("claude-sonnet-4-5-20250929", 455),
    ("claude-haiku-4-5", 305),
    ("claude-opus-4-5", 140),
    ("claude-sonnet-4-20250514", 78),
    ("claude-opus-4-1", 20),
    ("claude-experimental-preview", 2),
];
const RENTCAST: [(&str, u32); 4] =
    [("/v1/avm/value", 450), ("/v1/avm/rent/long-term", 300), ("/v1/properties", 200), ("/v1/listings/sale", 50)];
const APPS: [(&str, u32); 3] = [("web", 620), ("worker", 260), ("mobile-api", 120)];
/// Statuses of failed calls, each with its share per thousand: too many requests, overloaded, a gateway's timeout, a
/// broken server.
const FAILURES: [(u16, u32); 4] = [(429, 600), (529, 250), (504, 100), (500, 50)];

/// Traffic of each hour of a day, in hundredths of the busiest, from midnight UTC on.
const HOURS: [u32; 24] = [14, 10, 8, 7, 8, 12, 22, 40, 64, 84, 95, 98, 88, 92, 100, 99, 93, 82, 66, 52, 42, 34, 26, 19];
/// Traffic of each day of a week, in hundredths of the busiest, from Monday on.
const WEEKDAYS: [u32; 7] = [94, 100, 99, 96, 86, 38, 32];

/// Makes calls; the same seed makes the same calls.
pub(crate) struct Traffic {
    random: StdRng,
    users: u32,
    backfill_days: u32,
}

impl Traffic {
    /// Calls of at least one user, spread over `backfill_days` past days, or made now if that is 0.
    pub(crate) fn new(seed: u64, users: u32, backfill_days: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), users: users.max(1), backfill_days }
    }

    /// The next call, at a time up to `now_us`.
    pub(crate) fn call(&mut self, now_us: i64) -> Record {
        let mut call = if self.one_in(7) { self.rentcast() } else { self.claude() };
        call.user_id = format!("user-{:05}", self.user()).into();
        call.app = self.pick(&APPS).into();
        call.occurred_at = Some(self.time(now_us));
        if self.one_in(60) {
            self.fail(&mut call);
        }
        call
    }

    fn claude(&mut self) -> Record {
        let model = self.pick(&MODELS);
        let output = self.about(20, 4_000);
        let mut call = Record::claude(model, self.about(30, 12_000), output);
        call.endpoint = "/v1/messages".into();
        match self.random.random_range(0..20) {
            // A conversation that goes on: the cache has the earlier part, and the new part is written to it.
            0..9 => {
                call.cache_read_tokens = self.about(1_500, 120_000);
                call.cache_write_5m_tokens = self.about(100, 6_000);
            }
            9..12 => call.cache_write_5m_tokens = self.about(1_200, 30_000),
            12 => call.cache_write_1h_tokens = self.about(1_200, 30_000),
            _ => {}
        }
        if self.one_in(12) {
            // A batch is answered within a day, so it has no latency.
            call.service_tier = "batch".into();
            return call;
        }
        let ms_per_token = self.random.random_range(8..22);
        let latency_ms = self.about(350, 1_800) + output * ms_per_token;
        call.latency_ms = u32::try_from(latency_ms).ok();
        if self.one_in(25) {
            call.extra_units = vec![("web_search".into(), self.random.random_range(1..4).to_string().into())];
        }
        call
    }

    fn rentcast(&mut self) -> Record {
        let mut call = Record::rentcast(self.pick(&RENTCAST));
        call.latency_ms = u32::try_from(self.about(80, 1_500)).ok();
        call
    }

    /// Turns a call into a failed one, which is answered early and costs nothing.
    fn fail(&mut self, call: &mut Record) {
        *call = Record {
            status: self.pick(&FAILURES),
            latency_ms: u32::try_from(self.about(20, 700)).ok(),
            input_tokens: 0,
            output_tokens: 0,
            cache_read_tokens: 0,
            cache_write_5m_tokens: 0,
            cache_write_1h_tokens: 0,
            requests: 0,
            extra_units: Vec::new(),
            ..std::mem::take(call)
        };
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.random_ratio(1, many)
    }

    /// Picks one of the choices, by their shares per thousand.
    fn pick<T: Copy>(&mut self, choices: &[(T, u32)]) -> T {
        let mut left = self.random.random_range(0..1_000);
        for (choice, share) in choices {
            if left < *share {
                return *choice;
            }
            left -= share;
        }
        // Unreachable: the shares add up to a thousand, as a test checks.
        choices[0].0
    }

    /// A number whose logarithm is uniform: small ones are common, large ones are rare.
    fn about(&mut self, low: u32, high: u32) -> u64 {
        let exponent: f64 = self.random.random();
        (f64::from(low) * (f64::from(high) / f64::from(low)).powf(exponent)) as u64
    }

    /// Zipf's law, nearly: the user of rank `r` makes calls in proportion to `1 / r`.
    fn user(&mut self) -> u32 {
        let exponent: f64 = self.random.random();
        let rank = (f64::from(self.users) + 1.0).powf(exponent) as u32;
        rank.clamp(1, self.users)
    }

    /// Now, or a time in the past days. Times are drawn until one passes by its hour, its weekday and the growth.
    fn time(&mut self, now_us: i64) -> i64 {
        let span_us = i64::from(self.backfill_days) * DAY_US;
        if span_us == 0 {
            return now_us;
        }
        loop {
            let ago_us = self.random.random_range(0..span_us);
            let us = now_us - ago_us;
            let growth = 100 - u32::try_from(50 * ago_us / span_us).unwrap_or(0);
            let share = HOURS[hour(us)] * WEEKDAYS[weekday(us)] * growth;
            if self.random.random_ratio(share, 1_000_000) {
                return us;
            }
        }
    }
}

/// 0 to 23, UTC.
fn hour(us: i64) -> usize {
    usize::try_from(us.rem_euclid(DAY_US) / HOUR_US).unwrap_or(0)
}

/// 0 is Monday. 1970 began on a Thursday.
fn weekday(us: i64) -> usize {
    usize::try_from((us.div_euclid(DAY_US) + 3).rem_euclid(7)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// 2025-06-15T15:06:40Z, a Sunday.
    const NOW_US: i64 = 1_750_000_000_000_000;

    fn calls(seed: u64, count: usize, backfill_days: u32) -> Vec<Record> {
        let mut traffic = Traffic::new(seed, 100, backfill_days);
        (0..count).map(|_| traffic.call(NOW_US)).collect()
    }

    #[test]
    fn a_seed_makes_the_same_calls_and_they_lie_in_the_past_days() {
        assert_eq!(calls(7, 500, 30), calls(7, 500, 30));
        assert_ne!(calls(7, 500, 30), calls(8, 500, 30));
        for call in calls(7, 500, 30) {
            let at = call.occurred_at.unwrap();
            assert!((NOW_US - 30 * DAY_US..=NOW_US).contains(&at));
        }
        assert!(calls(7, 50, 0).iter().all(|call| call.occurred_at == Some(NOW_US)));
    }

    #[test]
    fn shares_add_up() {
        let sum = |shares: &[u32]| shares.iter().sum::<u32>();
        assert_eq!(sum(&MODELS.map(|(_, share)| share)), 1_000);
        assert_eq!(sum(&RENTCAST.map(|(_, share)| share)), 1_000);
        assert_eq!(sum(&APPS.map(|(_, share)| share)), 1_000);
        assert_eq!(sum(&FAILURES.map(|(_, share)| share)), 1_000);
        assert!(HOURS.iter().chain(&WEEKDAYS).all(|share| (1..=100).contains(share)));
    }

    #[test]
    fn the_calls_look_like_a_products() {
        let calls = calls(1, 20_000, 0);
        let share = |is: fn(&Record) -> bool| calls.iter().filter(|call| is(call)).count() as f64 / 20_000.0;
        assert!((0.12..0.17).contains(&share(|call| call.provider == "rentcast")));
        assert!((0.01..0.025).contains(&share(|call| call.status >= 400)));
        assert!((0.05..0.10).contains(&share(|call| call.service_tier == "batch")));
        assert!((0.3..0.5).contains(&share(|call| call.cache_read_tokens > 0)));
        assert!((0.0003..0.004).contains(&share(|call| call.model == "claude-experimental-preview")));
        assert_eq!(share(|call| call.status >= 400 && call.input_tokens + call.requests > 0), 0.0);

        // By Zipf's law the first of a hundred users makes about a seventh of the calls, the second a good half of that.
        let mut users = BTreeMap::new();
        calls.iter().for_each(|call| *users.entry(call.user_id.clone()).or_insert(0.0) += 1.0 / 20_000.0);
        assert_eq!(users.len(), 100);
        assert!((0.13..0.18).contains(&users["user-00001"]), "{}", users["user-00001"]);
        assert!(users["user-00002"] < 0.7 * users["user-00001"] && users["user-00100"] < 0.01);
    }

    #[test]
    fn the_past_has_days_weeks_and_growth() {
        assert_eq!((weekday(NOW_US), hour(NOW_US)), (6, 15));
        let calls = calls(3, 20_000, 28);
        let count = |is: fn(i64) -> bool| calls.iter().filter(|call| is(call.occurred_at.unwrap())).count();
        assert!(count(|us| hour(us) == 14) > 5 * count(|us| hour(us) == 3));
        assert!(count(|us| weekday(us) == 1) > 2 * count(|us| weekday(us) == 6));
        let late = count(|us| us > NOW_US - 14 * DAY_US);
        assert!((11_000..12_500).contains(&late), "{late}");
    }
}

//! Made-up calls that look like a product's: a few users make most of them, prompts are often cached, some calls fail,
//! some models have no known price.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyd_client::Record;

const DAY_US: i64 = 86_400_000_000;

/// Models, and how many calls of a hundred go to each.
const MODELS: [(&str, u32); 6] = [
    ("claude-sonnet-4-5-20250929", 45),
    ("claude-haiku-4-5", 30),
    ("claude-opus-4-5", 14),
    ("claude-sonnet-4-20250514", 8),
    ("claude-opus-4-1", 2),
    ("claude-experimental-preview", 1),
];
const RENTCAST: [&str; 3] = ["/v1/avm/value", "/v1/avm/rent/long-term", "/v1/properties"];
const APPS: [&str; 3] = ["web", "worker", "mobile-api"];

/// Makes calls; the same seed makes the same ones.
pub struct Traffic {
    random: StdRng,
    users: u32,
    backfill_days: u32,
}

impl Traffic {
    /// Calls of so many users, spread over so many past days, or made now if that is 0.
    pub fn new(seed: u64, users: u32, backfill_days: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), users, backfill_days }
    }

    /// The next call, at a time up to `now_us`.
    pub fn call(&mut self, now_us: i64) -> Record {
        let mut call = if self.random.random_ratio(1, 7) { self.rentcast() } else { self.claude() };
        call.user_id = format!("user-{:05}", self.user()).into();
        call.app = APPS[self.random.random_range(0..APPS.len())].into();
        call.occurred_at = Some(self.time(now_us));
        if self.random.random_ratio(1, 60) {
            call.status = if self.random.random_ratio(2, 3) { 429 } else { 529 };
            call.output_tokens = 0;
        }
        call
    }

    fn claude(&mut self) -> Record {
        let pick = self.random.random_range(0..100);
        let mut below = 0;
        let model = MODELS.iter().find(|(_, share)| {
            below += share;
            pick < below
        });
        // The shares add up to a hundred.
        let model = model.map_or(MODELS[0].0, |(model, _)| *model);
        let input = self.random.random_range(50..6_000);
        let mut call = Record::claude(model, input, self.random.random_range(20..1_500));
        call.endpoint = "/v1/messages".into();
        call.latency_ms = Some(self.random.random_range(400..9_000));
        match self.random.random_range(0..10) {
            0..4 => call.cache_read_tokens = self.random.random_range(1_000..40_000),
            4 => call.cache_write_5m_tokens = self.random.random_range(1_000..20_000),
            5 if self.random.random_ratio(1, 4) => call.cache_write_1h_tokens = self.random.random_range(1_000..20_000),
            _ => {}
        }
        if self.random.random_ratio(1, 12) {
            call.service_tier = "batch".into();
        } else if self.random.random_ratio(1, 25) {
            call.extra_units = vec![("web_search".into(), self.random.random_range(1..4).to_string().into())];
        }
        call
    }

    fn rentcast(&mut self) -> Record {
        let mut call = Record::rentcast(RENTCAST[self.random.random_range(0..RENTCAST.len())]);
        call.latency_ms = Some(self.random.random_range(80..900));
        call
    }

    /// A few users make most of the calls: the cube of a uniform number leans towards the first.
    fn user(&mut self) -> u32 {
        let uniform: f64 = self.random.random();
        (uniform.powi(3) * f64::from(self.users)) as u32
    }

    /// Now, or at some time of the past days: fewer calls at weekends and at night.
    fn time(&mut self, now_us: i64) -> i64 {
        if self.backfill_days == 0 {
            return now_us;
        }
        loop {
            let us = now_us - self.random.random_range(0..i64::from(self.backfill_days) * DAY_US);
            let hour = us.rem_euclid(DAY_US) / 3_600_000_000;
            // 1970 began on a Thursday.
            let weekday = (us.div_euclid(DAY_US) + 3).rem_euclid(7);
            let share = if weekday >= 5 { 35 } else { 100 } * if (7..22).contains(&hour) { 10 } else { 3 } / 10;
            if self.random.random_range(0..100) < share {
                return us;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_calls_and_they_lie_in_the_past_days() {
        let now_us = 1_750_000_000_000_000;
        let calls = |seed| {
            let mut traffic = Traffic::new(seed, 100, 30);
            (0..500).map(|_| traffic.call(now_us)).collect::<Vec<_>>()
        };
        assert_eq!(calls(7), calls(7));
        assert_ne!(calls(7), calls(8));
        for call in calls(7) {
            let at = call.occurred_at.unwrap();
            assert!((now_us - 30 * DAY_US..=now_us).contains(&at));
        }
        let shares: u32 = MODELS.iter().map(|(_, share)| share).sum();
        assert_eq!(shares, 100);
    }
}

//! The difference between the costs of two periods, split by cause, exactly.
//!
//! *Method: sequential substitution.* The cost of a period is a product of factors. Beginning with the first period, one
//! factor after the other takes its value of the second period; a cause's part is the step that its factor makes. Steps
//! of one walk add up to the difference by construction, without a remainder that nobody owns. Each state of the walk is
//! rounded to 18 decimals (half to even), so a step is off by at most one last digit a model, which the next step
//! returns. A split by averages over all orders (Shapley) would be symmetric, but takes 2⁸ states, and people could not
//! check it by hand.
//!
//! | step | from the first period | from the second |
//! |---|---|---|
//! | `volume` | models' shares, all usage a call, all prices | calls, without those of new users |
//! | `new_users` | the same | calls of users whose first call is in the period |
//! | `model_mix` | usage a call, prices | calls of each model |
//! | `errors` | usage a successful call, prices | the share of calls that succeed |
//! | `tokens_per_call` | the shares of cached tokens in the prompt, prices | tokens and requests a successful call |
//! | `cache_share` | prices | tokens of each bucket |
//! | `price` | the ratio of cost to list price | list prices of the standard tier |
//! | `tier` | the ratio of cost to the tiers' list prices | service tiers and platforms |
//! | `other` | | the cost |
//!
//! *Order.* Quantities come before prices, as in a price index of Laspeyres, and coarse quantities before fine ones: an
//! operator first asks how much was called, then what, then how. The part that two factors make together (twice the
//! calls at twice the price) goes to the later one.
//!
//! *Prices.* The quantities are weighed with the rates of the first period's last day, and the days' own list costs say
//! how prices moved. Both scale the first period's cost. So a model that is always billed at half of the list does not
//! disturb the split: twice the calls are `volume` alone.
//!
//! *Limits.* A model that only one of the periods has is `model_mix` as a whole. The rollups do not have service tiers;
//! [`Side::tiered`] takes them from the call log. Without it, and without a list price, the change of cost a call is
//! `other`, with the reason: it is never guessed.

#[cfg(test)]
mod tests;

use serde::Serialize;
use utoipa::ToSchema;

use crate::pricing::Usd;
use crate::pricing::catalog::Rates;
use crate::ratio::proportion;

/// A model's usage in one period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// Calls.
    pub calls: i128,
    /// Those whose status was 400 or above.
    pub errors: i128,
    /// Those without a cost.
    pub unpriced: i128,
    /// Tokens, in the order of [`Rates::token_rates`].
    pub tokens: [i128; 5],
    /// Requests.
    pub requests: i128,
    /// The cost of the priced calls.
    pub cost: Usd,
    /// The cost at the list prices of the standard tier, each day at its own. None if a unit does not have one.
    pub listed: Option<Usd>,
    /// The same at the list prices of the calls' service tiers and platforms. None if they are not known.
    pub tiered: Option<Usd>,
}

/// A model of one provider in both periods.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// The provider.
    pub provider: String,
    /// The model; may be empty.
    pub model: String,
    /// The list prices of the first period's last day, standard tier.
    pub rates: Option<Rates>,
    /// The first period.
    pub before: Side,
    /// The second.
    pub after: Side,
}

/// A cause of a difference, in the order of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// More or fewer calls, without those of new users.
    Volume,
    /// Calls of users whose first call is in the period.
    NewUsers,
    /// Other shares of the models.
    ModelMix,
    /// Another share of failed calls.
    Errors,
    /// More or fewer tokens and requests a successful call.
    TokensPerCall,
    /// Another share of the prompt is read from a cache or written to one.
    CacheShare,
    /// List prices changed.
    Price,
    /// Other service tiers or platforms.
    Tier,
    /// The rest, with its reason.
    Other,
}

impl Cause {
    /// All, in the order of the walk.
    pub const ALL: [Self; 9] = [
        Self::Volume,
        Self::NewUsers,
        Self::ModelMix,
        Self::Errors,
        Self::TokensPerCall,
        Self::CacheShare,
        Self::Price,
        Self::Tier,
        Self::Other,
    ];
}

/// A cause's part of the difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Part {
    /// The cause.
    pub cause: Cause,
    /// Its part: above 0, it made the second period dearer.
    #[schema(value_type = String, example = "-12.5")]
    pub usd: Usd,
    /// A limit of the part, or its reason; null if there is neither.
    pub note: Option<String>,
}

/// Facts that the caller has read beside the rollup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// Calls of new users in the second period; none if no table tells them under the filters.
    pub new_user_calls: Option<i128>,
    /// True if the call log was read for service tiers.
    pub log_is_read: bool,
}

/// The cost of usage at `rates`. None if a used unit does not have a rate, or the cost needs more than 127 bits.
#[must_use]
pub fn list_cost(rates: &Rates, tokens: &[i128; 5], requests: i128) -> Option<Usd> {
    // Most vendors do not bill requests as such.
    let request = Some(rates.request.unwrap_or_default());
    let token_rates = rates.token_rates().map(|(_, rate)| rate);
    let units = tokens.iter().copied().zip(token_rates).chain([(requests, request)]);
    units.filter(|(count, _)| *count != 0).try_fold(Usd::ZERO, |sum, (count, rate)| {
        let cost = if count < 0 { None } else { rate?.checked_mul(count) };
        sum.checked_add(cost?)
    })
}

/// Splits the difference. The parts are in the order of [`Cause::ALL`] and add up to it to the last digit.
#[must_use]
pub fn split(cells: &[Cell], known: &Known) -> Vec<Part> {
    let walks: Vec<Walk> = cells.iter().map(Walk::of).collect();
    let sum = |of: &dyn Fn(&Cell, &Walk) -> i128| -> Option<i128> {
        cells.iter().zip(&walks).try_fold(0_i128, |sum, (cell, walk)| sum.checked_add(of(cell, walk)))
    };
    let before = sum(&|cell, _| cell.before.cost.attos()).unwrap_or_default();
    let after = sum(&|cell, _| cell.after.cost.attos()).unwrap_or_default();
    let states = || -> Option<[i128; 10]> {
        let (calls, calls_after) = (sum(&|cell, _| cell.before.calls)?, sum(&|cell, _| cell.after.calls)?);
        let new = known.new_user_calls.unwrap_or_default().clamp(0, calls_after.max(0));
        let (volume, new_users) = if calls > 0 {
            (proportion(before, calls_after - new, calls)?, proportion(before, calls_after, calls)?)
        } else {
            (proportion(after, calls_after - new, calls_after.max(1))?, after)
        };
        let mut states = [before, volume, new_users, 0, 0, 0, 0, 0, 0, after];
        for (step, state) in states[3..9].iter_mut().enumerate() {
            *state = sum(&|_, walk| walk.0[step])?;
        }
        Some(states)
    };
    // Amounts beyond 10^20 USD are not split.
    let states = states().unwrap_or([before, before, before, before, before, before, before, before, before, after]);
    let part = |(step, cause): (usize, Cause)| {
        let usd = Usd::from_attos(states[step + 1].saturating_sub(states[step]));
        Part { cause, usd, note: note(cause, usd, known, cells, &walks) }
    };
    Cause::ALL.into_iter().enumerate().map(part).collect()
}

/// The states of one model's cost after `model_mix`, `errors`, `tokens_per_call`, `cache_share`, `price` and `tier`.
struct Walk([i128; 6]);

impl Walk {
    fn of(cell: &Cell) -> Self {
        // A model without earlier calls enters at its own usage and prices.
        let is_new = cell.before.calls <= 0;
        let entered = cell.after.cost.attos();
        if is_new { Self([entered; 6]) } else { Self::through(cell).unwrap_or(Self([cell.before.cost.attos(); 6])) }
    }

    fn through(cell: &Cell) -> Option<Self> {
        let (before, after) = (&cell.before, &cell.after);
        let cost = before.cost.attos();
        let mix = proportion(cost, after.calls, before.calls)?;
        let (good, good_after) = (before.calls - before.errors, after.calls - after.errors);
        let errors = if good > 0 && good_after > 0 { proportion(cost, good_after, good)? } else { mix };
        let Some([weighed, longer, cached, listed, listed_after]) = Self::weights(cell) else {
            return Some(Self([mix, errors, errors, errors, errors, errors]));
        };
        let price = proportion(cost, listed_after, listed)?;
        let tier = match (before.tiered, after.tiered) {
            (Some(tiered), Some(later)) if tiered > Usd::ZERO => proportion(cost, later.attos(), tiered.attos())?,
            _ => price,
        };
        Some(Self([mix, errors, proportion(cost, longer, weighed)?, proportion(cost, cached, weighed)?, price, tier]))
    }

    /// At the rates of before: the usage of before, that of after with the cached shares of before, that of after; and
    /// the list costs of both. None without list prices.
    fn weights(cell: &Cell) -> Option<[i128; 5]> {
        const OUTPUT: usize = 1;
        let (before, after, rates) = (&cell.before, &cell.after, cell.rates.as_ref()?);
        let prompt = |side: &Side| {
            let mut tokens = side.tokens;
            tokens[OUTPUT] = 0;
            let value = list_cost(rates, &tokens, 0)?.attos();
            Some((tokens.iter().try_fold(0_i128, |sum, count| sum.checked_add(*count))?, value))
        };
        let (weighed, cached) =
            (list_cost(rates, &before.tokens, before.requests)?, list_cost(rates, &after.tokens, after.requests)?);
        let ((tokens, value), (tokens_after, value_after)) = (prompt(before)?, prompt(after)?);
        let alike = if tokens > 0 { proportion(value, tokens_after, tokens)? } else { value_after };
        let longer = cached.attos().checked_sub(value_after)?.checked_add(alike)?;
        let (listed, listed_after) = (before.listed?, after.listed?);
        let told = weighed > Usd::ZERO && listed > Usd::ZERO;
        told.then_some([weighed.attos(), longer, cached.attos(), listed.attos(), listed_after.attos()])
    }
}

/// Models that a note names.
const NAMED: usize = 3;

fn note(cause: Cause, usd: Usd, known: &Known, cells: &[Cell], walks: &[Walk]) -> Option<String> {
    match cause {
        Cause::NewUsers if known.new_user_calls.is_none() => Some(
            "no rollup tells new users apart under these filters: their calls count in volume".to_owned(),
        ),
        Cause::Tier if !known.log_is_read && unlike(cells, walks).any(|(_, why)| why == Why::Unlike) => Some(
            "only the call log has service tiers, and it is read for periods of up to 31 days that it has whole: a change of tiers is in other"
                .to_owned(),
        ),
        Cause::Other if usd != Usd::ZERO => Some(other(cells, walks)),
        _ => None,
    }
}

/// Why the cost of a model is not explained whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Unpriced,
    Unlisted,
    Unlike,
}

/// The models with a rest, the largest first.
fn unlike<'c>(cells: &'c [Cell], walks: &[Walk]) -> impl Iterator<Item = (&'c Cell, Why)> {
    let rest =
        |(cell, walk): (&'c Cell, &Walk)| (cell, cell.after.cost.attos().saturating_sub(walk.0[5]).unsigned_abs());
    let mut rests: Vec<_> = cells.iter().zip(walks).map(rest).filter(|(_, rest)| *rest > 0).collect();
    rests.sort_by_key(|(_, rest)| std::cmp::Reverse(*rest));
    rests.into_iter().map(|(cell, _)| {
        let unpriced = cell.before.unpriced > 0 || cell.after.unpriced > 0;
        let why = match Walk::weights(cell) {
            _ if unpriced => Why::Unpriced,
            None => Why::Unlisted,
            Some(_) => Why::Unlike,
        };
        (cell, why)
    })
}

fn other(cells: &[Cell], walks: &[Walk]) -> String {
    let rests: Vec<_> = unlike(cells, walks).collect();
    let mut reasons: Vec<String> = rests
        .iter()
        .take(NAMED)
        .map(|(cell, why)| {
            let why = match why {
                Why::Unpriced => "unpriced calls, whose cost is not in the sums",
                Why::Unlisted => "no list price of its usage",
                Why::Unlike => "costs beside the list price: tiers, long prompts, other units, stated costs",
            };
            let name = if cell.model.is_empty() { &cell.provider } else { &cell.model };
            format!("{name}: {why}")
        })
        .collect();
    match rests.len().saturating_sub(NAMED) {
        0 if reasons.is_empty() => reasons.push("the amounts are too large to be split".to_owned()),
        0 => {}
        more => reasons.push(format!("and {more} more")),
    }
    reasons.join("; ")
}

//! Why a price catalog is refused.

use crate::pricing::money::Usd;
use crate::pricing::plan::Plan;

/// Why a catalog is refused. It names the entry at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The text is not TOML, or has an unknown key or a wrong type.
    #[error("the price catalog does not parse: {0}")]
    Toml(Box<toml::de::Error>),
    /// Two prices have one id.
    #[error("price id {id} is given twice; stored rows refer to ids, so give the newer price one of its own")]
    DuplicateId {
        /// The id.
        id: i32,
    },
    /// A price does not have any rate.
    #[error("price {id} has no rate at all; add per_million or per_unit")]
    NoRates {
        /// The price's id.
        id: i32,
    },
    /// A rate is below zero.
    #[error("price {id} has the negative rate {rate}")]
    NegativeRate {
        /// The price's id.
        id: i32,
        /// The rate, as quoted.
        rate: Usd,
    },
    /// A rate per million tokens is not a whole number of attodollars per token.
    #[error("price {id}: {rate} for a million tokens has more than 12 decimals")]
    RateTooPrecise {
        /// The price's id.
        id: i32,
        /// The rate, as quoted.
        rate: Usd,
    },
    /// Prices of one model and service tier must follow each other in time.
    #[error("price {id} does not take effect after the one before it; order a model's prices by effective_from")]
    Order {
        /// The later price's id.
        id: i32,
    },
    /// Prompt sizes must rise, and a larger prompt must be priced for the same token buckets, or for none.
    #[error("price {id}: `above` must rise by prompt_tokens, and rate the same token buckets each time, or none")]
    SizeTiers {
        /// The price's id.
        id: i32,
    },
    /// A price has a rate for some sizes of prompts only.
    #[error("{bucket} needs a rate for every size of prompts{}", lacks(*prompt_tokens))]
    SizeLacks {
        /// Prompts larger than this lack it; 0: prompts of the usual size do.
        prompt_tokens: u64,
        /// The token bucket.
        bucket: &'static str,
    },
    /// One name stands for two models, or an alias for an unknown model.
    #[error("the name {name:?} of provider {provider:?} must stand for exactly one model")]
    AmbiguousName {
        /// The provider.
        provider: String,
        /// The name.
        name: String,
    },
    /// A person's name for a model stands for a model without a price.
    #[error(
        "the name {name:?} is to stand for {model:?}, which has no price there; add one first: `tallyd prices set`"
    )]
    NoModel {
        /// The name.
        name: String,
        /// The model.
        model: String,
    },
    /// The configured plan is not in the catalog.
    #[error("the catalog has no terms for the plan {}", .plan.name())]
    MissingPlan {
        /// The plan.
        plan: Plan,
    },
    /// A row of `api_prices` does not have the form of a price.
    #[error("price {id} of api_prices: {reason}; rates look like {{\"per_million_tokens\": {{\"input\": \"3\"}}}}")]
    Row {
        /// The row's id.
        id: i32,
        /// The first problem.
        reason: String,
    },
    /// A date does not parse.
    #[error("{entry}: {text:?} is not a date; write 2026-10-07, or 2026-10-07T12:00:00Z where a time is meant")]
    Date {
        /// The model or plan.
        entry: String,
        /// The invalid text.
        text: String,
    },
}

fn lacks(prompt_tokens: u64) -> String {
    match prompt_tokens {
        0 => ", also for those of the usual size".to_owned(),
        size => format!(", also for those above {size} tokens"),
    }
}

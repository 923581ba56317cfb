//! What tallyd's words mean: a call, its usage, what it costs, and the sums of many. Pure: text and numbers in, numbers out.
//! No clock, no file, no network, no async runtime; a dependency of that kind does not belong here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`call`] | [`Call`](call::Call): one accepted call, validated, normalised and priced |
//! | [`pricing`] | what things cost: amounts, names, the catalog, others' price lists |
//! | [`role`] | what a token or a user may do |
//! | [`rollup`] | what a batch adds to the rollup tables |
//! | [`bill`] | the vendor's bill, read from its exports and laid beside the calls |
//! | [`forecast`] | what spending will come to, from what it was |
//! | [`json`] | JSON from outside, read by one bounded reader; answers in it |
//! | [`decimal`] | exact decimal text |
//! | [`files`] | encodings, separators, numbers and dates of files as people and programs write them |
//! | [`quote`] | text of others, on a terminal and in the daemon log |
//! | [`wording`] | numbers, amounts and their nouns in messages and lists |

#![warn(unreachable_pub)]

pub mod bill;
pub mod call;
pub mod decimal;
pub mod files;
pub mod forecast;
pub mod json;
pub mod pricing;
pub mod quote;
pub mod role;
pub mod rollup;
pub mod wording;

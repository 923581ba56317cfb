//! tallyd's model: calls, their usage, costs and sums. Pure: text and numbers in, numbers out. It must not depend on a
//! clock, file, network or async runtime.
//!
//! | module | content |
//! |---|---|
//! | [`call`] | [`Call`](call::Call): one accepted call, validated, normalised and priced |
//! | [`pricing`] | costs: amounts, names, the catalog, public price lists |
//! | [`report`] | a report of a period, as text and as HTML |
//! | [`role`] | rights of tokens and users |
//! | [`rollup`] | the sums that a batch adds to the rollups |
//! | [`bill`] | the vendor's bill, read from its exports and compared with the calls |
//! | [`closing`] | closed vendor-days as a hash-chained record |
//! | [`forecast`] | future spend, from past spend |
//! | [`bounds`] | the least and the largest cost of unpriced calls |
//! | [`change`] | the difference between the costs of two periods, split by cause |
//! | [`json`] | JSON from outside, read by one bounded reader; JSON of answers |
//! | [`tags`] | tags in their stored form |
//! | [`units`] | cost per unit and margin |
//! | [`decimal`] | exact decimal text |
//! | [`ratio`] | an amount in proportion, by a product of 256 bits |
//! | [`files`] | encodings, separators, numbers and dates of files as people and programs write them |
//! | [`quiet`] | quiet hours of a day |
//! | [`quote`] | escapes foreign text on a terminal and in the daemon log |
//! | [`wording`] | numbers, amounts and their nouns in messages and lists |
//! | [`zone`] | time zones of the IANA database |

#![warn(unreachable_pub)]

pub mod bill;
pub mod bounds;
pub mod call;
pub mod change;
pub mod closing;
pub mod decimal;
pub mod files;
pub mod forecast;
pub mod json;
pub mod pricing;
pub mod quiet;
pub mod quote;
pub mod ratio;
pub mod report;
pub mod role;
pub mod rollup;
pub mod tags;
pub mod units;
pub mod wording;
pub mod zone;

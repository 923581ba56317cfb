//! The one list of a record's fields.

/// Hands the list of a record's fields to the macro `$with`: for each field its documentation, name, type in a
/// [`Record`](crate::Record), default, and kind. The order is that of the array form, so a new field goes to the end.
///
/// A kind gives the values that a field takes: `id`, `time`, `required` (a text that must not be missing), `text`, `count`,
/// `units`, `status`, `latency`, `decimal`, `json`, `tags`. Code that handles fields by the list has one function or type a kind,
/// named like the kind. So a new field of a known kind needs no change there.
///
/// ```
/// macro_rules! names_of_texts {
///     ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
///         [$((stringify!($name), stringify!($kind))),*].into_iter().filter(|(_, kind)| *kind == "text")
///     };
/// }
/// assert_eq!(tallyd_protocol::for_each_field!(names_of_texts).next(), Some(("model", "text")));
/// ```
#[macro_export]
macro_rules! for_each_field {
    ($with:ident) => {
        $with! {
            /// Identity of the call, a UUID. One of version 7 is made, if none is given.
            id: Option<[u8; 16]> = None, id;
            /// When the call was made: microseconds since 1970 UTC, or RFC 3339 where it is text. Now, if nothing is given.
            occurred_at: Option<i64> = None, time;
            /// `claude`, `rentcast`, `openai` … Required.
            provider: Text = Text::Borrowed(""), required;
            /// The model as the vendor names it, or empty.
            model: Text = Text::Borrowed(""), text;
            /// The endpoint's path, or empty. The daemon cuts a query string off.
            endpoint: Text = Text::Borrowed(""), text;
            /// The product's user on whose behalf the call was made, or empty.
            user_id: Text = Text::Borrowed(""), text;
            /// The application that made the call, or empty.
            app: Text = Text::Borrowed(""), text;
            /// The provider's own id of the call, or empty.
            request_id: Text = Text::Borrowed(""), text;
            /// Prompt tokens billed at the full rate: those from a cache are not among them.
            input_tokens: u64 = 0, count;
            /// Generated tokens, thinking included.
            output_tokens: u64 = 0, count;
            /// Prompt tokens read from a cache.
            cache_read_tokens: u64 = 0, count;
            /// Prompt tokens written to a cache that lives 5 minutes.
            cache_write_5m_tokens: u64 = 0, count;
            /// Prompt tokens written to a cache that lives an hour.
            cache_write_1h_tokens: u64 = 0, count;
            /// Billable units of an API that is priced per request. Default 1.
            requests: u64 = 1, count;
            /// Any other priced units and their quantities as decimal text, such as `{"web_search": "2"}`.
            extra_units: Vec<(Text, Text)> = Vec::new(), units;
            /// `standard`, `batch`, `priority` … Default `standard`.
            service_tier: Text = Text::Borrowed("standard"), text;
            /// HTTP status of the call. Default 200; 400 and above count as errors.
            status: u16 = 200, status;
            /// How long the call took, in milliseconds.
            latency_ms: Option<u32> = None, latency;
            /// Cost of the call, USD as decimal text, where the application knows better than the price catalog.
            cost_usd: Option<Text> = None, decimal;
            /// A JSON object, or the text of one, that is stored with the call.
            metadata: Option<Text> = None, json;
            /// Where the model ran, if not at its vendor: `bedrock`, `vertex`, `azure`, `openrouter`; or empty. Its price applies.
            platform: Text = Text::Borrowed(""), text;
            /// Cost allocation, such as `{"team": "search"}`. Of an `api_key` only a short hash is stored.
            tags: Vec<(Text, Text)> = Vec::new(), tags;
        }
    };
}

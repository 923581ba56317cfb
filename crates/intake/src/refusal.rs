//! Why a record is refused: a stable code, the field, and a sentence for a person.

use std::borrow::Cow;

/// Stable names for the reasons, as in the wire specification. They are also a metric's label values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A required field is missing.
    Missing,
    /// A field has a value of another type.
    Type,
    /// The name is not that of a field.
    UnknownField,
    /// A number outside its bounds.
    Range,
    /// A text or a list beyond its bound.
    TooLong,
    /// A NUL character, which PostgreSQL cannot store.
    Nul,
    /// A text that does not have its field's form.
    Format,
    /// A text that is not UTF-8.
    Encoding,
    /// `occurred_at` is before the accepted time.
    TooEarly,
    /// `occurred_at` is too far ahead.
    TooLate,
    /// A value that this sender may not give.
    Forbidden,
    /// Not a record at all.
    Invalid,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::Missing,
        Self::Type,
        Self::UnknownField,
        Self::Range,
        Self::TooLong,
        Self::Nul,
        Self::Format,
        Self::Encoding,
        Self::TooEarly,
        Self::TooLate,
        Self::Forbidden,
        Self::Invalid,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Type => "type",
            Self::UnknownField => "unknown_field",
            Self::Range => "range",
            Self::TooLong => "too_long",
            Self::Nul => "nul",
            Self::Format => "format",
            Self::Encoding => "encoding",
            Self::TooEarly => "too_early",
            Self::TooLate => "too_late",
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
        }
    }
}

/// One record's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason's name.
    pub code: Code,
    /// The field at fault, or empty. An unknown name is the sender's text, bounded and printable.
    pub field: Cow<'static, str>,
    /// The problem, and the accepted values.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal of one field.
    pub fn new(code: Code, field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, field: field.into(), message: message.into() }
    }
}

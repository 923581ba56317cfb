//! Reasons for a refusal: a name for the metric, a status, a sentence, and a hint.

use axum::http::StatusCode;

use super::failures;
use crate::http::error::ApiError;

/// Why a request is refused. Each is a value of the metric's label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Denied {
    Missing,
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    UnknownToken,
    Session,
    Password,
    NotAdmin,
    Role,
    CrossSite,
    TooManyFailures,
    Unavailable,
}

impl Denied {
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::UnknownToken => "unknown_token",
            Self::Session => "session",
            Self::Password => "password",
            Self::NotAdmin => "not_admin",
            Self::Role => "role",
            Self::CrossSite => "cross_site",
            Self::TooManyFailures => "too_many_failures",
            Self::Unavailable => "unavailable",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Missing => "this needs a token",
            Self::Malformed => "the token is neither a JWT nor one of tallyd's",
            Self::Algorithm => "the token's algorithm is not accepted",
            Self::UnknownKey => "the token names a key that its issuer does not have",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::UnknownToken => "the token is unknown, revoked or expired",
            Self::Session => "the session has ended, or this browser's page did not begin it",
            Self::Password => "the e-mail address and the password do not match",
            Self::NotAdmin => "the user is not an admin",
            Self::Role => "the token's role does not allow this",
            Self::CrossSite => "the request does not come from the page that signed in",
            Self::TooManyFailures => "too many failed attempts from this address",
            Self::Unavailable => "the token cannot be verified at the moment",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Missing | Self::Malformed | Self::UnknownToken => {
                "send `Authorization: Bearer …`; `tallyd token create --name me --role read` makes a token, and \
                 auth.issuer admits the JWTs of an issuer"
            }
            Self::Algorithm => "ES256 and RS256 are, and HS256 where auth.hs256_secret is set",
            Self::UnknownKey | Self::Signature => "log in again; is auth.issuer the one that signs your tokens?",
            Self::Expired | Self::NotYetValid => "log in again, and compare the clocks of issuer and daemon",
            Self::Issuer => "compare the token's `iss` with auth.issuer",
            Self::Audience => "compare the token's `aud` with auth.audience",
            Self::Session => "sign in again; programs show a token in the header Authorization",
            Self::Password => "they are those of the Supabase project; a session that has ended is begun anew",
            Self::NotAdmin => "an admin has app_metadata.role = 'admin', or a row of user_profiles with is_admin",
            Self::Role => "admin may do all, read may ask, ingest may send records: `tallyd token list`",
            Self::CrossSite => "programs show their token in the header Authorization",
            Self::TooManyFailures => "wait a minute; valid tokens are let in meanwhile",
            Self::Unavailable => "the issuer or the database does not answer; see the daemon's log, and try again",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::NotAdmin | Self::Role | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooManyFailures => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let code = match denied.status() {
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::TOO_MANY_REQUESTS => "too_many_failures",
            _ => "auth_unavailable",
        };
        let error = Self::new(denied.status(), code, denied.message(), denied.hint());
        match denied {
            Denied::TooManyFailures => error.retry_after(failures::WINDOW.as_secs()),
            Denied::Unavailable => error.retry_after(2),
            _ => error,
        }
    }
}

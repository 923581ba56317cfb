//! The admin page: its files, and signing in.
//!
//! The page is a program in the browser that asks the same API as everybody else. Its files are in the binary
//! ([`assets`]), and nothing of it comes from another host: the policy that is sent with it forbids that.
//!
//! ## Signing in ([`sign_in`])
//! The browser shows the token once and gets it back as a cookie that scripts cannot read; from then on the cookie stands
//! for the header `Authorization`. So there is one way to decide who asks, and a revoked token, an expired JWT or a
//! demoted admin is out as fast on the page as anywhere.
//!
//! * A cookie goes along with requests that another site's page makes a browser send. `SameSite=Strict` keeps it from
//!   those, and a change needs the header `x-tallyd-page` beside it, which no other origin may send.
//! * Where `auth.publishable_key` is set, an e-mail address and a password do as well ([`gotrue`]): the daemon asks the
//!   Supabase project for an access token, which is verified like any other and becomes the cookie. Its refresh token is a
//!   second one, for `/session` alone; the page asks there for the next access token when one has ended, and goes on.
//! * Whoever runs the daemon need not make a token: `tallyd open` prints a link with a code that signs in once, within
//!   minutes ([`codes`]). The code becomes a token of its own ([`minted`]), for half a day; it is listed and revoked like any other,
//!   and by signing out.

pub mod assets;
pub mod codes;
pub mod cookies;
mod gotrue;
mod minted;
pub mod sign_in;

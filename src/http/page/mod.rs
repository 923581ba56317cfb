//! The admin page: its files, and signing in.
//!
//! The page is a program in the browser that uses the same API as every other client. Its files are in the binary
//! ([`assets`]). Its content policy forbids loading anything from another host.
//!
//! ## Signing in ([`sign_in`])
//! The browser shows a token once and gets a session of two random values. The *id* is in a cookie that scripts cannot
//! read. The *proof* is in the answer; the page keeps it in the storage of its origin and sends it as the header
//! `x-tallyd-page`. A request needs both, and they are valid on the page's routes alone ([`secret`], [`sessions`]).
//! Neither is a token.
//!
//! * A browser sends a host's cookies to every port of it, so another program on `127.0.0.1` may receive the id. The id
//!   alone is worthless, and only pages of this origin (this scheme, host and port) can read the proof.
//! * Another site's page can make a browser send requests. `SameSite=Strict` keeps the cookie from those, no other
//!   origin may send the header, and a request that the browser calls cross-site is refused.
//! * A session keeps the result of checking the token, not the token: a static token's number, or a JWT's subject. Each
//!   request checks the owner again, so a revoked token or a demoted admin is out as fast on the page as anywhere.
//! * Sessions are in the database, hashed. So they survive a restart, are valid on every daemon behind one address, and
//!   end on all of them within a second or two.
//! * If `auth.publishable_key` is set, an e-mail address and a password sign in as well ([`gotrue`]): the daemon gets
//!   an access token from the Supabase project, and verifies it like any other. The tokens that renew and end the
//!   project's session are stored encrypted with a key of id and proof, so the table alone is of no use.
//! * The daemon's own user needs no token: `tallyd open` prints a link with a code that signs in once, within
//!   minutes ([`codes`]). The code becomes a token without a known text ([`minted`]), for twelve hours. It is listed
//!   and revoked like any other token, and revoked by signing out.

pub(crate) mod assets;
pub(crate) mod codes;
mod gotrue;
mod minted;
pub(crate) mod secret;
pub(crate) mod sign_in;

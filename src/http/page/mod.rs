//! The admin page: its files, and signing in.
//!
//! The page is a program in the browser that asks the same API as everybody else. Its files are in the binary
//! ([`assets`]), and nothing of it comes from another host: the policy that is sent with it forbids that.
//!
//! ## Signing in ([`sign_in`])
//! The browser shows a token once and gets a session: a random *id* in a cookie that scripts cannot read, and a random
//! *proof* in the answer, which the page keeps in the storage of its origin and sends as the header `x-tallyd-page`. A
//! request needs both, and they are good for the page's routes alone ([`secret`], [`sessions`]). Neither is a token.
//!
//! * A browser sends a host's cookies to every port of it, so another program on `127.0.0.1` may receive the id. Without the
//!   proof it is worth nothing, and the proof is read by pages of this origin (this scheme, host and port) alone.
//! * Another site's page can make a browser send requests with the cookie. `SameSite=Strict` keeps the cookie from those,
//!   no other origin may send the header, and a request that the browser calls cross-site is refused.
//! * A session keeps what the token proved, not the token: a static token's number, or a JWT's subject. Each request asks
//!   again who that is, so a revoked token or a demoted admin is out as fast on the page as anywhere.
//! * Sessions are in the database, hashed. So they survive a restart, hold on every daemon behind one address, and end on
//!   all of them within a second or two.
//! * Where `auth.publishable_key` is set, an e-mail address and a password do as well ([`gotrue`]): the daemon asks the
//!   Supabase project for an access token, which is verified like any other. The tokens that renew and end the project's
//!   session are stored encrypted with a key of id and proof, so that the table alone opens nothing.
//! * Whoever runs the daemon need not make a token: `tallyd open` prints a link with a code that signs in once, within
//!   minutes ([`codes`]). The code becomes a token whose text nobody has ([`minted`]), for half a day; it is listed and
//!   revoked like any other, and by signing out.

pub(crate) mod assets;
pub(crate) mod codes;
mod gotrue;
mod minted;
pub(crate) mod secret;
pub(crate) mod sign_in;

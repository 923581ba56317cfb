//! The admin page: its files, and how its user signs in.
//!
//! The page is part of the program (`build.rs` embeds what `make page` has built from `page/`), calls nobody but the daemon
//! that served it, and reads the same API as everybody else. What is here is only what the API has no use for:
//!
//! | path | what |
//! |---|---|
//! | `/`, `/assets/…` | the files ([`files`]): open, since they tell nothing |
//! | `GET /page/session` | who is signed in, and what the daemon is called ([`session`]) |
//! | `POST /page/session` | signs in: a token, or the code of a link, becomes a cookie |
//! | `DELETE /page/session` | signs out |
//!
//! [`link`] makes links that sign in once, for whoever runs the daemon on their own machine.

pub mod files;
pub mod link;
pub mod session;

use axum::Router;
use axum::routing::get;

use super::router::Handle;

/// The page's routes. They are no part of the API, and not in its document.
pub fn routes() -> Router<Handle> {
    Router::new()
        .merge(files::routes())
        .route("/page/session", get(session::show).post(session::sign_in).delete(session::sign_out))
}

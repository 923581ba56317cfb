//! The two forms of the table of routes: the router that answers, and the OpenAPI document.
//!
//! A handler's path, methods and documentation stand in its `#[utoipa::path]`, and both forms are made of them. The router
//! makes no documentation: the program has the document as a file, and 1.4 MB of code that would make it are left out.

use axum::Router;
use axum::routing::MethodRouter;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::SharedDaemon;

/// A form of the table.
pub(super) trait Table: Default {
    /// Adds the handlers of one path, from [`routes!`].
    fn routes(self, entry: (impl FnOnce() -> Vec<Route>, impl FnOnce() -> UtoipaMethodRouter<SharedDaemon>)) -> Self;
}

/// A path, and a handler by its methods.
pub(super) type Route = (String, MethodRouter<SharedDaemon>);

impl Table for Router<SharedDaemon> {
    fn routes(
        self,
        (routes, _): (impl FnOnce() -> Vec<Route>, impl FnOnce() -> UtoipaMethodRouter<SharedDaemon>),
    ) -> Self {
        routes().into_iter().fold(self, |router, (path, handlers)| router.route(&path, handlers))
    }
}

impl Table for OpenApiRouter<SharedDaemon> {
    fn routes(
        self,
        (_, document): (impl FnOnce() -> Vec<Route>, impl FnOnce() -> UtoipaMethodRouter<SharedDaemon>),
    ) -> Self {
        Self::routes(self, document())
    }
}

/// The handlers of one path, for [`Table::routes`].
macro_rules! routes {
    ($($($part:ident)::+),+) => {
        (
            || {
                vec![$({
                    let methods = ::utoipa_axum::routes!(@path [methods()] of $($part)::+);
                    let handlers = methods.iter().fold(::axum::routing::MethodRouter::new(), |handlers, method| {
                        handlers.on(::utoipa_axum::PathItemExt::to_method_filter(method), $($part)::+)
                    });
                    (::utoipa_axum::routes!(@path [path()] of $($part)::+), handlers)
                }),+]
            },
            || ::utoipa_axum::routes!($($($part)::+),+),
        )
    };
}

pub(super) use routes;

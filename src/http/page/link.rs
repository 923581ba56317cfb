//! Links that sign in once: `http://127.0.0.1:7420/#open=<code>`.
//!
//! Whoever may ask the local socket could make an admin token on the same machine; a link spares them that. So it is made
//! there only (`tallyd open`, or `tallyd serve` on a terminal), and only where the page is not reachable from other machines.
//! A code has 256 random bits, is good for one sign-in within [`GOOD_FOR`], is kept as its digest in this process alone,
//! and stands behind the `#`: no browser sends that to anybody.

use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::http::auth::sessions::digest;
use crate::http::error::ApiError;
use crate::http::router::Handle;

/// How long a link is good for.
pub const GOOD_FOR: Duration = Duration::from_secs(5 * 60);
/// Links that are open at once; beyond, the oldest is not good any more.
const LINKS_MAX: usize = 8;

/// The links that are open.
#[derive(Default)]
pub struct Links {
    /// Where the page is.
    address: OnceLock<SocketAddr>,
    open: Mutex<Vec<([u8; 32], Instant)>>,
}

impl Links {
    /// Tells where the page is. Only the first time counts.
    pub fn is_at(&self, address: SocketAddr) {
        let _ = self.address.set(address);
    }

    /// Makes a link. None where other machines can reach the page.
    #[must_use]
    pub fn make(&self) -> Option<String> {
        let address = self.address.get().filter(|address| address.ip().is_loopback())?;
        let bits: [u8; 32] = rand::random();
        let code: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, made)| made.elapsed() < GOOD_FOR);
        if open.len() >= LINKS_MAX {
            open.remove(0);
        }
        open.push((digest(&code), Instant::now()));
        Some(format!("http://{address}/#open={code}"))
    }

    /// Takes a code. True once for each.
    #[must_use]
    pub fn take(&self, code: &str) -> bool {
        let digest = digest(code);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.iter().position(|(known, made)| *known == digest && made.elapsed() < GOOD_FOR);
        found.map(|at| open.remove(at)).is_some()
    }
}

/// A link, as `tallyd open` gets it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    /// The page, with the code.
    pub url: String,
    /// Seconds that it is good for.
    pub expires_in_seconds: u64,
}

/// `POST /open`, on the local socket only.
pub async fn open(State(view): State<Handle>) -> Response {
    let Some(url) = view.links.make() else {
        let message = "the page can be reached from other machines, so no link may sign in by itself";
        let hint = "`tallyd token create --name me --role admin` makes a token to sign in with";
        return ApiError::new(axum::http::StatusCode::CONFLICT, "not_local", message, hint).into_response();
    };
    Json(Link { url, expires_in_seconds: GOOD_FOR.as_secs() }).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(link: &str) -> &str {
        link.split_once("#open=").unwrap().1
    }

    #[test]
    fn a_code_is_good_once_and_only_on_this_machine() {
        let links = Links::default();
        assert_eq!(links.make(), None, "nobody knows where the page is");
        links.is_at("127.0.0.1:7420".parse().unwrap());
        let link = links.make().unwrap();
        assert!(link.starts_with("http://127.0.0.1:7420/#open="), "{link}");
        assert!(!links.take("") && !links.take(&code(&link)[1..]));
        assert!(links.take(code(&link)));
        assert!(!links.take(code(&link)), "twice");
        let open = Links::default();
        open.is_at("0.0.0.0:7420".parse().unwrap());
        assert_eq!(open.make(), None);
    }

    #[test]
    fn links_are_few() {
        let links = Links::default();
        links.is_at("[::1]:1".parse().unwrap());
        let first = links.make().unwrap();
        let rest: Vec<String> = (0..LINKS_MAX).map(|_| links.make().unwrap()).collect();
        assert!(!links.take(code(&first)));
        assert!(rest.iter().all(|link| links.take(code(link))));
    }
}

//! Many who ask the same share one answer.
//!
//! A dashboard that a thousand people look at asks the same few questions a thousand times. Each would take a connection and a
//! good part of a processor from PostgreSQL, which needs both for loading. So once more than [`FEW`] questions are under
//! way, those for the same path and parameters wait for one answer, and the next is asked for [`PAUSE`] later at the
//! earliest. Whoever waits gets an answer whose question was asked after their own: it is never older than without a crowd,
//! only later. The pause is what bounds how often a page that asks at once again is served: answering alone takes the
//! processors that acknowledgements need (`make bench BENCH="--only dashboard"`).
//!
//! * With few questions under way each is asked of the database at once.
//! * Nothing is kept for later. An answer lives as long as somebody in the crowd holds it ([`Weak`]), so there is no memory
//!   to bound beyond what the connections bound.
//! * Only GETs whose answer does not depend on who asks are put behind this, after it was decided that they may ask.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};

use super::places::Place;
use crate::scheduling;

/// Questions under way that are no crowd.
const FEW: usize = 16;
/// The least time between two questions for the same, in a crowd.
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes of the longest answer that is shared.
const SHARED_BYTES_MAX: usize = 1024 * 1024;

/// A whole answer.
struct Answer {
    asked: Instant,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// What the bytes are held by.
    place: Option<Place>,
}

impl Answer {
    fn response(&self) -> Response {
        let mut response = (self.status, self.headers.clone(), Body::from(self.body.clone())).into_response();
        if let Some(place) = &self.place {
            response.extensions_mut().insert(place.clone());
        }
        response
    }
}

/// A question, while somebody waits for its answer. Whoever holds the lock is asking.
type Shared = tokio::sync::Mutex<Option<Answer>>;

/// What is being asked.
#[derive(Default)]
pub struct Crowd {
    under_way: AtomicUsize,
    shared: Mutex<HashMap<String, Weak<Shared>>>,
}

/// One question under way; its drop also forgets what nobody holds any more.
struct UnderWay<'a>(&'a Crowd);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::Relaxed) <= FEW {
            self.0.lock().retain(|_, shared| shared.strong_count() > 0);
        }
    }
}

impl Crowd {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Shared>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the questions under way, and whether they are a crowd.
    fn enter(&self) -> (UnderWay<'_>, bool) {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        (UnderWay(self), before >= FEW)
    }

    fn shared(&self, path: &str) -> Arc<Shared> {
        let mut shared = self.lock();
        if let Some(known) = shared.get(path).and_then(Weak::upgrade) {
            return known;
        }
        // Answers of which nobody holds one any more; there are at most as many others as connections.
        shared.retain(|_, shared| shared.strong_count() > 0);
        let new = Arc::new(Shared::default());
        shared.insert(path.to_owned(), Arc::downgrade(&new));
        new
    }
}

/// Middleware, for questions whose answer is the same for everybody who may ask.
pub async fn share(State(crowd): State<Arc<Crowd>>, request: Request, next: Next) -> Response {
    let (_under_way, many) = crowd.enter();
    if !many || request.method() != Method::GET {
        return next.run(request).await;
    }
    let arrived = Instant::now();
    let shared = crowd.shared(request.uri().path_and_query().map_or("/", |path| path.as_str()));
    let mut answer = shared.lock().await;
    match &*answer {
        Some(known) if known.asked >= arrived => {
            // All who waited are answered one after another, for milliseconds: acknowledgements come in between.
            scheduling::step_aside();
            return known.response();
        }
        // Those who come meanwhile wait for the lock, and for the same answer.
        Some(known) => sleep_until(known.asked + PAUSE).await,
        None => {}
    }
    let asked = Instant::now();
    let response = next.run(request).await;
    let bytes = http_body::Body::size_hint(response.body()).exact();
    // What is streamed is nobody else's.
    if bytes.is_none_or(|bytes| bytes > SHARED_BYTES_MAX as u64) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let place = parts.extensions.get::<Place>().cloned();
    let new = Answer { asked, status: parts.status, headers: parts.headers, body, place };
    let response = new.response();
    *answer = Some(new);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    /// A database that answers with the number of the question, once it is let go on.
    struct Slow {
        asked: AtomicUsize,
        go: Notify,
    }

    fn router(slow: &Arc<Slow>, crowd: &Arc<Crowd>) -> Router {
        let slow = Arc::clone(slow);
        let ask = move || {
            let slow = Arc::clone(&slow);
            async move {
                let number = slow.asked.fetch_add(1, Ordering::SeqCst);
                slow.go.notified().await;
                number.to_string()
            }
        };
        Router::new().route("/q", get(ask)).layer(from_fn_with_state(Arc::clone(crowd), share))
    }

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn ask(router: Router, path: &str) -> String {
        let request = Request::get(path).body(Body::empty()).unwrap();
        text(router.oneshot(request).await.unwrap()).await
    }

    fn fixture() -> (Arc<Slow>, Arc<Crowd>, Router) {
        let slow = Arc::new(Slow { asked: AtomicUsize::new(0), go: Notify::new() });
        let crowd = Arc::new(Crowd::default());
        let router = router(&slow, &crowd);
        (slow, crowd, router)
    }

    /// Asks so often at once; all wait by the time this returns. The runtime has one thread, so yielding is enough.
    async fn ask_many(
        router: &Router,
        crowd: &Crowd,
        many: usize,
        path: &'static str,
    ) -> Vec<tokio::task::JoinHandle<String>> {
        let before = crowd.under_way.load(Ordering::SeqCst);
        let tasks = (0..many).map(|_| tokio::spawn(ask(router.clone(), path))).collect();
        while crowd.under_way.load(Ordering::SeqCst) < before + many {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        tasks
    }

    async fn let_go(slow: &Slow, tasks: Vec<tokio::task::JoinHandle<String>>) -> Vec<String> {
        let mut answers = Vec::new();
        for task in tasks {
            while !task.is_finished() {
                slow.go.notify_waiters();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            answers.push(task.await.unwrap());
        }
        answers
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_each_answered_for_themselves() {
        let (slow, crowd, router) = fixture();
        let tasks = ask_many(&router, &crowd, FEW, "/q").await;
        let_go(&slow, tasks).await;
        assert_eq!(slow.asked.load(Ordering::SeqCst), FEW);
        assert!(crowd.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_shares_an_answer_and_other_questions_have_their_own() {
        let (slow, crowd, router) = fixture();
        let mut tasks = ask_many(&router, &crowd, FEW, "/q").await;
        tasks.extend(ask_many(&router, &crowd, 500, "/q?days=1").await);
        tasks.extend(ask_many(&router, &crowd, 500, "/q?days=2").await);
        let answers = let_go(&slow, tasks).await;
        assert_eq!(slow.asked.load(Ordering::SeqCst), FEW + 2);
        let (one, two) = answers[FEW..].split_at(500);
        assert!(one.iter().all(|answer| *answer == one[0]) && two.iter().all(|answer| *answer == two[0]));
        assert_ne!(one[0], two[0]);
        assert!(crowd.lock().is_empty(), "nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_an_answer_to_a_question_from_before_their_own() {
        let (slow, crowd, router) = fixture();
        let before = ask_many(&router, &crowd, FEW + 100, "/q").await;
        // The first of the crowd is asking: whoever comes now comes too late for its answer.
        tokio::time::advance(Duration::from_millis(1)).await;
        let after = ask_many(&router, &crowd, 100, "/q").await;
        let began = Instant::now();
        let (before, after) = (let_go(&slow, before).await, let_go(&slow, after).await);
        assert_eq!(slow.asked.load(Ordering::SeqCst), FEW + 2);
        assert!(!before.contains(&after[0]) && after.iter().all(|answer| *answer == after[0]), "{after:?}");
        assert!(began.elapsed() >= PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_and_leaves_takes_nobody_along() {
        let (slow, crowd, router) = fixture();
        let few = ask_many(&router, &crowd, FEW, "/q?few").await;
        let mut tasks = ask_many(&router, &crowd, 50, "/q").await;
        // The first of them is the one that asks.
        tasks.remove(0).abort();
        assert_eq!(let_go(&slow, tasks).await.len(), 49);
        let_go(&slow, few).await;
    }
}

//! Where the budgets stand, as the daemon said last. Asked before a call: a lock that is nearly never held, and a few lookups.
//!
//! What the daemon said is believed for [`BELIEVED`], which is five times as long as it takes to say it again: an application
//! whose daemon is gone is held back no longer than that.

use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use tallyd_protocol::budgets::{BELIEVED, UsedUp};

#[derive(Debug, Default)]
pub struct Standing(RwLock<Option<Heard>>);

#[derive(Debug)]
struct Heard {
    at: Instant,
    used_up: UsedUp,
}

impl Standing {
    /// The daemon has said this.
    pub fn hear(&self, used_up: UsedUp, now: Instant) {
        let heard = Some(Heard { at: now, used_up });
        // What was heard before is dropped after the lock.
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), heard);
        drop(before);
    }

    /// Asks what was heard last. False if nothing was, or too long ago.
    pub fn ask(&self, now: Instant, is: impl FnOnce(&UsedUp) -> bool) -> bool {
        let heard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        heard.as_ref().is_some_and(|heard| now.saturating_duration_since(heard.at) < BELIEVED && is(&heard.used_up))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_heard_is_believed_for_a_bounded_time() {
        let (standing, start) = (Standing::default(), Instant::now());
        let asks = |now| standing.ask(now, UsedUp::everything);
        assert!(!asks(start), "nothing was heard");
        standing.hear(UsedUp::new(true, []), start);
        let last = start + BELIEVED - Duration::from_nanos(1);
        assert!(asks(start) && asks(last));
        assert!(!asks(start + BELIEVED), "the daemon may be gone");
        standing.hear(UsedUp::new(true, []), last);
        assert!(asks(start + BELIEVED), "it has said it again");
        standing.hear(UsedUp::new(false, []), last);
        assert!(!asks(last));
    }
}

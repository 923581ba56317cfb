//! The ring's parts, in two versions. With the feature `model` they are loom's, which tries every order in which threads can
//! run, and every value that a load may see. The model beside the ring runs the ring itself.
//!
//! The model does not examine crossbeam's queue; a bounded queue behind a lock replaces it.

#[cfg(not(feature = "model"))]
pub use crossbeam_queue::ArrayQueue;
#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicU64, Ordering};

/// A bounded queue behind a lock.
#[cfg(feature = "model")]
pub struct ArrayQueue<T> {
    items: loom::sync::Mutex<std::collections::VecDeque<T>>,
    capacity: usize,
}

#[cfg(feature = "model")]
impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> Self {
        Self { items: loom::sync::Mutex::default(), capacity }
    }

    pub fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.lock();
        if items.len() == self.capacity {
            return Err(item);
        }
        items.push_back(item);
        Ok(())
    }

    pub fn pop(&self) -> Option<T> {
        self.lock().pop_front()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> loom::sync::MutexGuard<'_, std::collections::VecDeque<T>> {
        // loom's locks are not poisoned: a panic ends the model.
        self.items.lock().expect("a model's lock")
    }
}

//! A value that is replaced while others use it: whoever has begun with the old one ends with it.

use std::sync::{Arc, PoisonError, RwLock};

/// The value in use. Its lock is held for the time of a copied pointer.
pub(crate) struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    pub fn new(value: T) -> Current<T> {
        Current(RwLock::new(Arc::new(value)))
    }

    pub fn get(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set(&self, value: T) {
        let mut new = Arc::new(value);
        std::mem::swap(
            &mut *self.0.write().unwrap_or_else(PoisonError::into_inner),
            &mut new,
        );
        // The old value is dropped here, if nobody has it any more, after the lock.
    }
}

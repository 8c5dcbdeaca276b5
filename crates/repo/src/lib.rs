//! The stored format, on object_store.

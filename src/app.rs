//! The origin as a whole.

//! Guides. Every code block in them is compiled as a test.

#[doc = include_str!("moving_over.md")]
pub mod moving_over {}

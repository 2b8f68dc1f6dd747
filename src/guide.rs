//! Guide: what was measured, and how each step of the pipeline is used, a page for each topic.

#[doc = include_str!("guide/results.md")]
pub mod results {}

#[doc = include_str!("guide/paper.md")]
pub mod paper {}

#[doc = include_str!("guide/training.md")]
pub mod training {}

#[cfg(feature = "onnx")]
#[doc = include_str!("guide/import.md")]
pub mod import {}

#[doc = include_str!("guide/simulation.md")]
pub mod simulation {}

#[doc = include_str!("guide/imported.md")]
#[doc = include_str!("guide/max_pooling.md")]
pub mod imported {}

#[doc = include_str!("guide/neurons.md")]
pub mod neurons {}

#[doc = include_str!("guide/evolution.md")]
pub mod evolution {}

#[doc = include_str!("guide/through_time.md")]
pub mod through_time {}

#[doc = include_str!("guide/attacks.md")]
pub mod attacks {}

#[doc = include_str!("guide/notebooks.md")]
pub mod notebooks {}

#[doc = include_str!("guide/reliability.md")]
pub mod reliability {}

#[doc = include_str!("guide/machines.md")]
pub mod machines {}

#[doc = include_str!("guide/cuda.md")]
pub mod cuda {}

#[doc = include_str!("guide/architecture.md")]
pub mod architecture {}

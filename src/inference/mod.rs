//! KServe's objects → services: `InferenceService`, `ServingRuntime`, `ClusterServingRuntime`.
//!
//! [`isvc`] and [`runtime`] read, [`select`] finds the runtime of a model, [`storage`] the model's files, and
//! [`translate`] makes [`crate::config::spec::ServiceSpec`]s for one machine.

pub mod container;
pub mod isvc;
pub mod runtime;
pub mod select;
pub mod storage;
pub mod translate;

#[cfg(test)]
mod tests;

//! Trained networks in ONNX files.

mod fold;
mod layout;
mod model;
mod node;
mod operators;
mod protobuf;
mod read;
mod tensor;

pub use read::Onnx;

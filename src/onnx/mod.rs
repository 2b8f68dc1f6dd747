//! Trained networks in files of the Open Neural Network Exchange (ONNX).
//!
//! PyTorch, Keras, JAX and others write ONNX: a graph of operators, and its weights. [`Onnx::read`]
//! makes it a [`Graph`](crate::ann::graph::Graph) of layers. The guide's page
//! [`import`](mod@crate::guide::import) goes from PyTorch to an evolved spiking network. This module
//! belongs to the feature `onnx`, which is on by default and brings no other crate.
//!
//! ```
//! use evospike::onnx::Onnx;
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/onnx/vgg.onnx");
//! let onnx = Onnx::read(path, None)?; // your file
//! println!("{}", onnx.table()?);
//! assert_eq!(onnx.graph.nodes.len(), 10);
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! # Correspondence
//!
//! | ONNX | layer |
//! |---|---|
//! | `Conv` of images or signals, any kernel, stride, padding, dilation, groups | convolution |
//! | `Gemm`, `MatMul` with weights | fully connected layer; 1 x 1 convolution along channels |
//! | `BatchNormalization`; `Add`, `Sub`, `Mul`, `Div` with one number or one a channel | bias of weights before it, or scale and shift |
//! | `Relu`, `Clip` from 0, `Max` with 0, `Min` behind ReLU | neurons, clipped neurons |
//! | `MaxPool`, `AveragePool`, `GlobalMaxPool`, `GlobalAveragePool`, `ReduceMax` and `ReduceMean` over rows, columns or both | pooling |
//! | `Add`, `Sum`, `Sub` of values of one shape; `Concat` of channels | sum, concatenation |
//! | `Slice`, `Split`, `Gather` and `Pad` of rows, columns and channels | padding of the next layer, or a convolution of zeros and ones |
//! | `Identity`, `Dropout`, `Cast`, `Flatten`, `Reshape`, `Squeeze`, `Unsqueeze`, `Transpose` | nothing |
//! | `Softmax`, `LogSoftmax` at the end | nothing: the largest output is the same |
//!
//! What depends on no image is computed while the file is read: `Constant`, `Shape`, `Gather`,
//! `Cast`, `Where` and so on. Any other operator or attribute is an error that names the node, what
//! was found and what is possible.
//!
//! # Files
//!
//! Opsets 7 to 26; `float32`, `float16`, `bfloat16` and `float64` weights, which become `f32`; weights
//! in files of the model's folder; one input of images, whose batch may be open, and one output of
//! logits. Images may have their channels first or last, and may be rows of pixels.
//!
//! A damaged or forged file is an error and takes no more memory than its bytes justify.

mod check;
mod fold;
mod layout;
mod model;
mod node;
mod operators;
mod parts;
mod protobuf;
mod read;
mod source;
mod tensor;
mod windows;

pub use check::LogitsCheck;
pub use read::Onnx;

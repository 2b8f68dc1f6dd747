//! Guide: what was measured, and how each step of the pipeline is used, a page for each topic.

/// Defines a module for each page in `guide`.
macro_rules! pages {
    ($($(#[$meta:meta])* $page:ident)*) => {$(
        #[doc = include_str!(concat!("guide/", stringify!($page), ".md"))]
        $(#[$meta])*
        pub mod $page {}
    )*};
}

pages! {
    python
    results
    paper
    training
    #[cfg(feature = "onnx")]
    import
    simulation
    #[doc = include_str!("guide/max_pooling.md")]
    imported
    neurons
    evolution
    through_time
    attacks
    notebooks
    reliability
    machines
    cuda
    architecture
}

//! Code compiled for several widths of vector registers.

/// Defines functions (name, generic parameters, their names, arguments) whose loops are compiled
/// twice, for any processor and for 256-bit vectors, and chosen at run time. Both give the same
/// results: no operations are fused or reordered.
macro_rules! widest {
    ($(
        $(#[$doc:meta])*
        fn $name:ident[$($generics:tt)*][$($generic:ident),*]($($argument:ident: $type:ty),* $(,)?)
        $body:block
    )*) => {$(
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, unsafe_code)]
        fn $name<$($generics)*>($($argument: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain<$($generics)*>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn wide<$($generics)*>($($argument: $type),*) {
                    plain::<$($generic),*>($($argument),*)
                }
                // SAFETY: the processor has AVX2, as checked above.
                return unsafe { wide::<$($generic),*>($($argument),*) };
            }
            plain::<$($generic),*>($($argument),*)
        }
    )*};
}

pub(crate) use widest;

//! Code compiled once for each width of vectors that processors have.

/// Functions (name, generic parameters, their names, arguments) whose loops are compiled twice, for
/// any processor and for vectors of 256 bits, and chosen when they run. Both give the same numbers:
/// nothing is fused or put in another order.
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
                // SAFETY: the processor has AVX2, as was just found.
                return unsafe { wide::<$($generic),*>($($argument),*) };
            }
            plain::<$($generic),*>($($argument),*)
        }
    )*};
}

pub(crate) use widest;

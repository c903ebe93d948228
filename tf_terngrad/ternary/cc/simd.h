// One macro: a function compiled for several instruction sets, of which the loader takes the best that the
// processor has. Elsewhere than with GCC on x86-64 Linux it is empty: the compiler's baseline (NEON on arm64) serves.
//
// Kernels give the same bits whichever is taken: they add in a fixed order, and are compiled with -ffp-contract=off.

#ifndef TF_TERNGRAD_TERNARY_CC_SIMD_H_
#define TF_TERNGRAD_TERNARY_CC_SIMD_H_

#ifndef TERNGRAD_SIMD
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define TERNGRAD_SIMD __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define TERNGRAD_SIMD
#endif
#endif

// What a kernel calls must become part of it, or it would be compiled for the baseline only.
#define TERNGRAD_INLINE inline __attribute__((always_inline))

#endif  // TF_TERNGRAD_TERNARY_CC_SIMD_H_

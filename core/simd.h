#pragma once

/// Marks a hot loop over flat arrays: the compiler emits it for plain x86-64, AVX2 and AVX-512, and the loader picks
/// the best at run time. Put it on functions without OpenMP regions (the outlined body would not be cloned).
/// Contraction is off in the whole build, so all clones round alike. Sanitizers run before ifunc resolvers may, hence
/// the exception.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define DCS3GD_SIMD_CLONES __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define DCS3GD_SIMD_CLONES
#endif

/// In front of a loop: its iterations do not depend on each other, whatever the pointers may be.
#if defined(__clang__)
#define DCS3GD_INDEPENDENT_ITERATIONS _Pragma("clang loop vectorize(assume_safety)")
#else
#define DCS3GD_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#endif

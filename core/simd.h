#pragma once

#include <cstddef>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/// Marks a hot loop over flat arrays: the compiler emits it for plain x86-64, AVX2 and AVX-512, and the loader picks
/// the best at run time. Put it on functions without OpenMP regions (the outlined body would not be cloned).
/// Contraction is off in the whole build, so all clones round alike. Sanitizers run before ifunc resolvers may, hence
/// the exception.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define DCS3GD_SIMD_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define DCS3GD_SIMD_CLONES
#endif

/// How fast the loops of this build are: compiled for several instruction sets or for plain x86-64, or not optimised.
#if !defined(__OPTIMIZE__)
inline constexpr const char* kLoopsOfBuild = "unoptimised";
#elif defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
inline constexpr const char* kLoopsOfBuild = "cloned";
#else
inline constexpr const char* kLoopsOfBuild = "plain";
#endif

/// In front of a loop: its iterations do not depend on each other, whatever the pointers may be.
#if defined(__clang__)
#define DCS3GD_INDEPENDENT_ITERATIONS _Pragma("clang loop vectorize(assume_safety)")
#else
#define DCS3GD_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#endif

namespace dcs3gd {

/// Copies past the caches, for arrays that will have left them before they are read: memory is not read first to be
/// overwritten. Both addresses and `bytes` are multiples of 16. Another thread may read what was written after this one
/// has called finish_streaming().
inline void stream(const void* from, std::size_t bytes, void* to) {
#if defined(__SSE2__)
  const auto* source = static_cast<const __m128i*>(from);
  auto* destination = static_cast<__m128i*>(to);
  for (std::size_t i = 0; i < bytes / sizeof(__m128i); ++i) {
    _mm_stream_si128(destination + i, _mm_load_si128(source + i));
  }
#else
  std::memcpy(to, from, bytes);
#endif
}

inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace dcs3gd

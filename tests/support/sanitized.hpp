#pragma once

// Whether a sanitizer watches this program, at a tenth of the speed. There each path through the code is run once; that bits do not depend
// on how memory and threads are arranged is what the ordinary build compares.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ELASTIFORM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ELASTIFORM_SANITIZED 1
#endif
#endif
#ifndef ELASTIFORM_SANITIZED
#define ELASTIFORM_SANITIZED 0
#endif

namespace elastiform {

inline constexpr bool kSanitized = ELASTIFORM_SANITIZED != 0;
/// Of the points where a run may be killed: each, or a sample.
inline constexpr int kFailPointStep = kSanitized ? 6 : 1;

}  // namespace elastiform

// Digits in -M..M, or sums of such, to 64-bit words and back; layout.h tells where each digit goes.

#ifndef TF_TERNGRAD_TERNARY_CC_WORDS_H_
#define TF_TERNGRAD_TERNARY_CC_WORDS_H_

#include <cstdint>

#include "layout.h"

namespace terngrad {

void PackWords(const int32_t* digits, int64_t size, const WordLayout& layout, int64_t* words);

// The index of the first word that no digits give, padding included, or -1. `digits` is whole only then.
int64_t UnpackWords(const int64_t* words, int64_t size, const WordLayout& layout, int32_t* digits);

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_WORDS_H_

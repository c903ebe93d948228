// Digits in -L..L to bytes and back; layout.h tells where each digit goes.

#ifndef TF_TERNGRAD_TERNARY_CC_BYTES_H_
#define TF_TERNGRAD_TERNARY_CC_BYTES_H_

#include <cstdint>

#include "layout.h"

namespace terngrad {

void PackBytes(const int8_t* digits, int64_t size, const ByteLayout& layout, uint8_t* bytes);

// The index of the first byte that no digits give, padding included, or -1. `digits` is whole only then.
int64_t UnpackBytes(const uint8_t* bytes, int64_t size, const ByteLayout& layout, int8_t* digits);

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_BYTES_H_

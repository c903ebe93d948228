// Arithmetic on digits between ternarization, packing and averaging.

#ifndef TF_TERNGRAD_TERNARY_CC_DIGITS_H_
#define TF_TERNGRAD_TERNARY_CC_DIGITS_H_

#include <cstdint>

namespace terngrad {

void Widen(const int8_t* digits, int64_t count, int32_t* wide);
void Widen(const int16_t* digits, int64_t count, int32_t* wide);

// sums += digits
void AddDigits(const int8_t* digits, int64_t count, int32_t* sums);
void AddDigits(const int8_t* digits, int64_t count, int8_t* sums);

// values = factor * digits
void Scale(const int8_t* digits, int64_t count, float factor, float* values);
void Scale(const int32_t* digits, int64_t count, float factor, float* values);

// values += factor * digits
void AddScaled(const int8_t* digits, int64_t count, float factor, float* values);

// The index of the first digit that is not in -most..most, or -1.
int64_t FindBeyond(const int8_t* digits, int64_t count, int32_t most);
int64_t FindBeyond(const int32_t* digits, int64_t count, int32_t most);

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_DIGITS_H_

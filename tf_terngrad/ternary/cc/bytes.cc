#include "bytes.h"

#include <cstring>

#include "simd.h"

namespace terngrad {
namespace {

constexpr int kWidth = ByteLayout::kWidth;
constexpr int kMostDigits = 5;

TERNGRAD_INLINE void PackBlock(const int8_t* digits, int stride, const ByteLayout& layout, uint8_t* bytes) {
  const uint8_t levels = layout.levels, base = layout.base;
  uint8_t packed[kWidth] = {};
  for (int digit = layout.digits - 1; digit >= 0; --digit) {
    const int8_t* plane = digits + digit * stride;
    for (int j = 0; j < stride; ++j) packed[j] = packed[j] * base + static_cast<uint8_t>(plane[j] + levels);
  }
  std::memcpy(bytes, packed, stride);
}

TERNGRAD_INLINE void UnpackBlock(const uint8_t* bytes, int stride, const ByteLayout& layout, int8_t* digits) {
  // x / base is exact for x < 256: the inverse, rounded up, is off by 2^-16 at most, the quotient by less than 1 / 256.
  const uint16_t inverse = 65535 / layout.base + 1, base = layout.base, levels = layout.levels;
  uint16_t rest[kWidth] = {};
  for (int j = 0; j < stride; ++j) rest[j] = bytes[j];
  for (int digit = 0; digit < layout.digits; ++digit) {
    int8_t* plane = digits + digit * stride;
    for (int j = 0; j < stride; ++j) {
      const uint16_t quotient = (uint32_t{rest[j]} * inverse) >> 16;
      plane[j] = static_cast<int8_t>(static_cast<uint16_t>(rest[j] - quotient * base - levels));
      rest[j] = quotient;
    }
  }
}

TERNGRAD_SIMD void PackBlocks(const int8_t* digits, int64_t blocks, const ByteLayout& layout, uint8_t* bytes) {
  for (int64_t i = 0; i < blocks; ++i) PackBlock(digits + i * layout.block(), kWidth, layout, bytes + i * kWidth);
}

TERNGRAD_SIMD void UnpackBlocks(const uint8_t* bytes, int64_t blocks, const ByteLayout& layout, int8_t* digits) {
  for (int64_t i = 0; i < blocks; ++i) UnpackBlock(bytes + i * kWidth, kWidth, layout, digits + i * layout.block());
}

TERNGRAD_SIMD bool AllBelow(const uint8_t* bytes, int64_t count, uint8_t limit) {
  uint8_t above = 0;
  for (int64_t i = 0; i < count; ++i) above |= bytes[i] > limit;
  return !above;
}

}  // namespace

void PackBytes(const int8_t* digits, int64_t size, const ByteLayout& layout, uint8_t* bytes) {
  const int64_t blocks = size / layout.block(), rest = size % layout.block();
  PackBlocks(digits, blocks, layout, bytes);
  if (rest == 0) return;
  int8_t last[kMostDigits * kWidth] = {};
  std::memcpy(last, digits + blocks * layout.block(), rest);
  PackBlock(last, layout.outputs(rest), layout, bytes + blocks * kWidth);
}

int64_t UnpackBytes(const uint8_t* bytes, int64_t size, const ByteLayout& layout, int8_t* digits) {
  const int64_t count = layout.outputs(size);
  if (!AllBelow(bytes, count, layout.limit)) {
    int64_t bad = 0;
    while (bytes[bad] <= layout.limit) ++bad;
    return bad;
  }
  const int64_t blocks = size / layout.block(), rest = size % layout.block();
  UnpackBlocks(bytes, blocks, layout, digits);
  if (rest == 0) return -1;
  int8_t last[kMostDigits * kWidth];
  const int stride = layout.outputs(rest);
  UnpackBlock(bytes + blocks * kWidth, stride, layout, last);
  std::memcpy(digits + blocks * layout.block(), last, rest);
  for (int i = rest; i < stride * layout.digits; ++i) {
    if (last[i] != 0) return blocks * kWidth + i % stride;
  }
  return -1;
}

}  // namespace terngrad

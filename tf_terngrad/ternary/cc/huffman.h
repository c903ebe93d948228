// Bytes as a Huffman code and back.
//
// A stream of letters, as the bytes are called here, begins with kStored, and the letters follow as they are; or it is
//   - the lengths of the 256 codes, four bits each, the even letter's in the low bits; 0 for a letter that is absent;
//   - the size in bytes of each lane, two bytes each, the low one first;
//   - the lanes, one after the other;
//   - zeros, up to a multiple of Granule(count) bytes: streams of equally many letters are mostly of one size, for an
//     exchange of tensors whose shapes change from step to step takes longer.
// Lanes hold consecutive letters, four lanes in a block of kBlock letters; those of the last, partial block of r letters
// hold ceil(r / 4) of them while there are some. No letters make no stream, not even its lengths.
//
// Codes are canonical: in the order of their lengths, then of their letters, they count up. Their first bit is the
// lowest one of a byte that is still free. They are complete: every sequence of bits means something.

#ifndef TF_TERNGRAD_TERNARY_CC_HUFFMAN_H_
#define TF_TERNGRAD_TERNARY_CC_HUFFMAN_H_

#include <algorithm>
#include <cstdint>

namespace terngrad {

constexpr int kLetters = 256;
constexpr int kLongestCode = 12;
constexpr int kLanes = 4;
constexpr int kLane = 960;  // letters
constexpr int kBlock = kLanes * kLane;
constexpr int kLengthBytes = kLetters / 2;
constexpr uint8_t kStored = 255;  // no two lengths
constexpr int kLaneBytes = kLane * kLongestCode / 8;  // at most
constexpr int kSlack = 8;                             // bytes that may be read or written behind a lane

inline int64_t Granule(int64_t letters) { return std::max<int64_t>(letters / 256, 1); }

// Adds how often each letter occurs.
void CountLetters(const uint8_t* letters, int64_t count, int64_t* counts);

// The lengths of Huffman's codes; where one would be longer than kLongestCode, those for more even counts.
void CodeLengths(const int64_t* counts, uint8_t* lengths);

// How many letters each lane of a block holds.
struct LaneSizes {
  explicit LaneSizes(int64_t letters) : stride((letters + kLanes - 1) / kLanes), all(letters) {}
  int64_t begin(int lane) const { return std::min(lane * stride, all); }
  int64_t operator[](int lane) const { return begin(lane + 1) - begin(lane); }

  int64_t stride, all;
};

class HuffmanEncoder {
 public:
  explicit HuffmanEncoder(const uint8_t* lengths);

  // Writes the letters of a lane; gives how many bytes. kSlack bytes behind them are overwritten.
  int64_t Encode(const uint8_t* letters, int64_t count, uint8_t* bytes) const;

 private:
  uint32_t codes_[kLetters];  // the code, and from bit 16 on its length
};

class HuffmanDecoder {
 public:
  // False if these are no lengths of a complete code.
  bool Init(const uint8_t* lengths);

  // Reads the letters of a block out of its lanes, lane i of sizes[i] bytes, behind which, up to `end`, may be read.
  // False if a lane holds another number of letters, or other bits than zeros behind the last one.
  bool Decode(const uint8_t* const* lanes, const uint16_t* sizes, const uint8_t* end, int64_t count,
              uint8_t* letters) const;

 private:
  // For the next bits of a lane: the letters whose codes they hold, four at most, a byte each; from bit 32 on, the length
  // of these codes; from bit 40 on, how many there are; from bit 48 on, the length of the first.
  uint64_t table_[1 << kLongestCode];
};

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_HUFFMAN_H_

#include "huffman.h"

#include <cstring>
#include <utility>

#include "simd.h"

namespace terngrad {
namespace {

constexpr int kTable = 1 << kLongestCode;
constexpr int kUnroll = 4;  // longest codes that fit 64 bits behind seven bits of the one before
constexpr int kAtOnce = 4;  // letters of an entry of the decoder's table, its lowest bytes
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

TERNGRAD_INLINE uint64_t Load(const uint8_t* bytes) {
  uint64_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return bits;
}

int Reversed(int code) {
  int reversed = 0;
  for (int bit = 0; bit < kLongestCode; ++bit) reversed |= (code >> bit & 1) << (kLongestCode - 1 - bit);
  return reversed;
}

// Calls each(letter, first), where first is the letter's code followed by zeros, in the order of the codes; gives
// the end of the last one, kTable if they are complete.
template <class Each>
int ForCodes(const uint8_t* lengths, Each each) {
  int first = 0;
  for (int length = 1; length <= kLongestCode; ++length) {
    for (int letter = 0; letter < kLetters; ++letter) {
      if (lengths[letter] != length) continue;
      if (first < kTable) each(letter, first);
      first += kTable >> length;
    }
  }
  return first;
}

// The depth of the deepest letter in Huffman's tree for these weights, zero for absent letters.
int Depths(const int64_t* weights, uint8_t* depths) {
  std::pair<int64_t, int> leaves[kLetters];
  int count = 0;
  for (int letter = 0; letter < kLetters; ++letter) {
    if (weights[letter] > 0) leaves[count++] = {weights[letter], letter};
  }
  std::sort(leaves, leaves + count);
  // Leaves, then inner nodes as they are made, are both in rising order: the two lightest are at a head of one.
  int64_t inner[kLetters];
  int parents[2 * kLetters];
  int leaf = 0, made = 0, taken = 0;
  const auto lightest = [&](int parent) {
    const bool is_leaf = leaf < count && (taken == made || leaves[leaf].first <= inner[taken]);
    parents[is_leaf ? leaf : kLetters + taken] = parent;
    return is_leaf ? leaves[leaf++].first : inner[taken++];
  };
  for (; made < count - 1; ++made) {
    const int64_t one = lightest(made), other = lightest(made);
    inner[made] = one + other;
  }
  int depth_of[kLetters] = {};
  for (int node = made - 2; node >= 0; --node) depth_of[node] = depth_of[parents[kLetters + node]] + 1;
  std::fill_n(depths, kLetters, 0);
  int deepest = 0;
  for (int i = 0; i < count; ++i) {
    const int depth = depth_of[parents[i]] + 1;
    depths[leaves[i].second] = static_cast<uint8_t>(std::min(depth, 255));
    deepest = std::max(deepest, depth);
  }
  return deepest;
}

// Of one lane.
struct Reader {
  const uint8_t* next;
  uint8_t *letter, *end;
  int used = 0;  // bits of the next byte

  // Whether the lane ends with the last letter that was read, and with zeros in what is left of its last byte.
  bool EndsAt(const uint8_t* lane_end) const {
    return next + (used > 0) == lane_end && (used == 0 || *next >> used == 0);
  }

  TERNGRAD_INLINE bool Ready() const { return end - letter >= kUnroll * kAtOnce; }

  TERNGRAD_INLINE void Read(const uint64_t* table) {
    uint64_t bits = Load(next) >> used;
    for (int i = 0; i < kUnroll; ++i) {
      const uint64_t entry = table[bits & (kTable - 1)];
      const int length = entry >> 32 & 255;
      std::memcpy(letter, &entry, kAtOnce);
      letter += entry >> 40 & 255;
      bits >>= length;
      used += length;
    }
    Advance();
  }

  TERNGRAD_INLINE void ReadOne(const uint64_t* table) {
    const uint64_t entry = table[(Load(next) >> used) & (kTable - 1)];
    *letter++ = static_cast<uint8_t>(entry);
    used += entry >> 48;
    Advance();
  }

 private:
  TERNGRAD_INLINE void Advance() {
    next += used >> 3;
    used &= 7;
  }
};

// Four lanes at once, for none waits for another.
TERNGRAD_SIMD void DecodeLanes(const uint64_t* table, Reader* readers) {
  Reader a = readers[0], b = readers[1], c = readers[2], d = readers[3];
  while (a.Ready() & b.Ready() & c.Ready() & d.Ready()) {
    a.Read(table);
    b.Read(table);
    c.Read(table);
    d.Read(table);
  }
  readers[0] = a, readers[1] = b, readers[2] = c, readers[3] = d;
  for (int lane = 0; lane < kLanes; ++lane) {
    Reader rest = readers[lane];
    while (rest.Ready()) rest.Read(table);
    while (rest.letter < rest.end) rest.ReadOne(table);
    readers[lane] = rest;
  }
}

}  // namespace

void CountLetters(const uint8_t* letters, int64_t count, int64_t* counts) {
  int32_t four[4][kLetters] = {};  // equal neighbours would wait for one another
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int j = 0; j < 4; ++j) ++four[j][letters[i + j]];
  }
  for (; i < count; ++i) ++four[0][letters[i]];
  for (int letter = 0; letter < kLetters; ++letter) {
    for (const auto& part : four) counts[letter] += part[letter];
  }
}

void CodeLengths(const int64_t* counts, uint8_t* lengths) {
  int64_t weights[kLetters];
  std::copy_n(counts, kLetters, weights);
  // A code of one letter would have no bits.
  for (int letter = 0; std::count(weights, weights + kLetters, 0) > kLetters - 2; ++letter) {
    weights[letter] = std::max<int64_t>(weights[letter], 1);
  }
  while (Depths(weights, lengths) > kLongestCode) {
    for (int64_t& weight : weights) weight = (weight + 1) / 2;
  }
}

HuffmanEncoder::HuffmanEncoder(const uint8_t* lengths) : codes_() {
  ForCodes(lengths, [&](int letter, int first) { codes_[letter] = Reversed(first) | uint32_t{lengths[letter]} << 16; });
}

int64_t HuffmanEncoder::Encode(const uint8_t* letters, int64_t count, uint8_t* bytes) const {
  uint8_t* next = bytes;
  uint64_t bits = 0;
  int used = 0;
  const auto put = [&](uint8_t letter) {
    bits |= uint64_t{codes_[letter] & 0xffff} << used;
    used += codes_[letter] >> 16;
  };
  const auto flush = [&] {
    std::memcpy(next, &bits, sizeof(bits));
    next += used >> 3;
    bits >>= used & ~7;
    used &= 7;
  };
  int64_t i = 0;
  for (; i + kUnroll <= count; i += kUnroll) {
    for (int j = 0; j < kUnroll; ++j) put(letters[i + j]);
    flush();
  }
  for (; i < count; ++i) {
    put(letters[i]);
    flush();
  }
  return next - bytes + (used > 0);
}

bool HuffmanDecoder::Init(const uint8_t* lengths) {
  uint16_t one[kTable];  // the first letter, and from bit 8 on the length of its code
  const int end = ForCodes(lengths, [&](int letter, int first) {
    const int length = lengths[letter];
    for (int rest = Reversed(first); rest < kTable; rest += 1 << length) {
      one[rest] = static_cast<uint16_t>(letter | length << 8);
    }
  });
  if (end != kTable || *std::max_element(lengths, lengths + kLetters) > kLongestCode) return false;
  for (int bits = 0; bits < kTable; ++bits) {
    uint64_t letters = one[bits] & 255, count = 1;
    int used = one[bits] >> 8;
    for (; count < kAtOnce; ++count) {
      const int next = one[bits >> used];
      if (used + (next >> 8) > kLongestCode) break;
      letters |= uint64_t{next & 255u} << 8 * count;
      used += next >> 8;
    }
    table_[bits] = letters | uint64_t(used) << 32 | count << 40 | uint64_t{one[bits]} >> 8 << 48;
  }
  return true;
}

bool HuffmanDecoder::Decode(const uint8_t* const* lanes, const uint16_t* sizes, const uint8_t* end, int64_t count,
                            uint8_t* letters) const {
  const LaneSizes of(count);
  uint8_t copies[kLanes][kLaneBytes + kSlack];
  const uint8_t* begins[kLanes];
  Reader readers[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    if (sizes[lane] > kLaneBytes) return false;
    begins[lane] = lanes[lane];
    if (end - lanes[lane] < kLaneBytes + kSlack) {
      std::memset(copies[lane], 0, sizeof(copies[lane]));
      std::memcpy(copies[lane], lanes[lane], sizes[lane]);
      begins[lane] = copies[lane];
    }
    readers[lane] = {begins[lane], letters + of.begin(lane), letters + of.begin(lane + 1)};
  }
  DecodeLanes(table_, readers);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!readers[lane].EndsAt(begins[lane] + sizes[lane])) return false;
  }
  return true;
}

}  // namespace terngrad

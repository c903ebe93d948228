// Operations on bytes as a Huffman code: TerngradCompress, TerngradDecompress.

#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "huffman.h"
#include "op_inputs.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace terngrad {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorShapeUtils;
using tensorflow::shape_inference::InferenceContext;

constexpr int64_t kCycles = 2;
constexpr int kSizeBytes = 2;  // of a lane's size

// Some letters of one stream, coded together.
struct Block {
  int64_t stream;
  int64_t first;  // letter, of all streams
  int64_t letters;
};

struct Stream {
  int64_t first;  // letter, of all streams
  int64_t letters;
  int64_t block, blocks;  // the first one, and how many

  int64_t head() const { return kLengthBytes + blocks * kLanes * kSizeBytes; }
  int64_t padding(int64_t size) const { return (Granule(letters) - size % Granule(letters)) % Granule(letters); }
};

struct Streams {
  std::vector<Stream> streams;
  std::vector<Block> blocks;
  int64_t letters = 0;
};

// Streams of so many letters each, `most` in all.
absl::Status StreamsOf(const Tensor& counts, int64_t most, Streams* all) {
  if (!TensorShapeUtils::IsVector(counts.shape())) {
    return absl::InvalidArgumentError(
        absl::StrCat("`counts` must be a vector. Received: shape ", counts.shape().DebugString()));
  }
  const auto values = counts.vec<int64_t>();
  for (int64_t i = 0; i < values.size(); ++i) {
    if (values(i) < 0 || values(i) > most - all->letters) {
      return absl::InvalidArgumentError(
          absl::StrCat("`counts` must not be negative, and there can be ", most, " bytes at most. Received: counts[", i,
                       "]=", values(i), " after ", all->letters, " bytes."));
    }
    const int64_t block = all->blocks.size();
    for (int64_t begin = 0; begin < values(i); begin += kBlock) {
      all->blocks.push_back({i, all->letters + begin, std::min<int64_t>(kBlock, values(i) - begin)});
    }
    all->streams.push_back({all->letters, values(i), block, static_cast<int64_t>(all->blocks.size()) - block});
    all->letters += values(i);
  }
  return absl::OkStatus();
}

class CompressOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &input = context->input(0), &counts = context->input(1);
    Streams all;
    OP_REQUIRES_OK(context, StreamsOf(counts, input.NumElements(), &all));
    OP_REQUIRES(context, input.NumElements() == all.letters,
                absl::InvalidArgumentError(absl::StrCat("`counts` must add up to the number of bytes, ",
                                                        input.NumElements(), ". Received: a sum of ", all.letters)));
    const uint8_t* letters = input.flat<uint8_t>().data();
    Coded coded(all.blocks.size());
    LengthsOf(context, letters, all.letters, coded.lengths);
    const HuffmanEncoder encoder(coded.lengths);
    ForTiles(context, all.blocks.size(), 1, kBlock * kCycles, [&](int64_t block, int64_t) {
      const LaneSizes of(all.blocks[block].letters);
      uint8_t* next = coded.lanes(block);
      for (int lane = 0; lane < kLanes; ++lane) {
        const int64_t size = encoder.Encode(letters + all.blocks[block].first + of.begin(lane), of[lane], next);
        coded.sizes[block * kLanes + lane] = static_cast<uint16_t>(size);
        coded.block_sizes[block] += size;
        next += size;
      }
    });

    Tensor *output, *sizes;
    OP_REQUIRES_OK(context, context->allocate_output(1, counts.shape(), &sizes));
    int64_t total = 0;
    for (size_t i = 0; i < all.streams.size(); ++i) {
      const int64_t size = std::min(coded.SizeOf(all.streams[i]), StoredSize(all.streams[i]));
      sizes->vec<int32_t>()(i) = static_cast<int32_t>(size);
      total += size;
    }
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({total}), &output));
    uint8_t* next = output->flat<uint8_t>().data();
    for (const Stream& stream : all.streams) {
      if (coded.SizeOf(stream) < StoredSize(stream)) {
        next = coded.Write(stream, next);
      } else if (stream.letters > 0) {
        *next++ = kStored;
        std::memcpy(next, letters + stream.first, stream.letters);
        next += stream.letters;
      }
    }
  }

 private:
  struct Coded {
    static constexpr int64_t kSlot = kLanes * kLaneBytes + kSlack;

    explicit Coded(int64_t blocks) : data(new uint8_t[blocks * kSlot]), sizes(blocks * kLanes), block_sizes(blocks) {}

    uint8_t* lanes(int64_t block) { return &data[block * kSlot]; }

    int64_t SizeOf(const Stream& stream) const {
      if (stream.blocks == 0) return 0;
      const auto first = block_sizes.begin() + stream.block;
      const int64_t size = std::accumulate(first, first + stream.blocks, stream.head());
      return size + stream.padding(size);
    }

    uint8_t* Write(const Stream& stream, uint8_t* next) {
      uint8_t* const end = next + SizeOf(stream);
      for (int letter = 0; letter < kLetters; letter += 2) *next++ = lengths[letter] | lengths[letter + 1] << 4;
      for (int64_t lane = stream.block * kLanes; lane < (stream.block + stream.blocks) * kLanes; ++lane) {
        *next++ = sizes[lane] & 255;
        *next++ = sizes[lane] >> 8;
      }
      for (int64_t block = stream.block; block < stream.block + stream.blocks; ++block) {
        std::memcpy(next, lanes(block), block_sizes[block]);
        next += block_sizes[block];
      }
      std::fill(next, end, 0);
      return end;
    }

    uint8_t lengths[kLetters];
    std::unique_ptr<uint8_t[]> data;
    std::vector<uint16_t> sizes;       // of lanes
    std::vector<int64_t> block_sizes;  // of their sums
  };

  static int64_t StoredSize(const Stream& stream) { return stream.letters > 0 ? stream.letters + 1 : 0; }

  static void LengthsOf(OpKernelContext* context, const uint8_t* letters, int64_t count, uint8_t* lengths) {
    constexpr int64_t kPart = 1 << 16;
    int64_t counts[kLetters] = {};
    absl::Mutex mutex;
    ForTiles(context, count, kPart, 1, [&](int64_t begin, int64_t end) {
      int64_t part[kLetters] = {};
      CountLetters(letters + begin, end - begin, part);
      absl::MutexLock lock(&mutex);
      for (int letter = 0; letter < kLetters; ++letter) counts[letter] += part[letter];
    });
    CodeLengths(counts, lengths);
  }
};

class DecompressOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    Streams all;
    OP_REQUIRES_OK(context, StreamsOf(context->input(1), 8 * input.NumElements(), &all));  // a letter has a bit or more
    Coded coded;
    OP_REQUIRES_OK(context, Parse(all, input, &coded));
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({all.letters}), &output));
    uint8_t* letters = output->flat<uint8_t>().data();
    Fault fault;
    ForTiles(context, all.blocks.size(), 1, kBlock * kCycles, [&](int64_t i, int64_t) {
      const Block& block = all.blocks[i];
      const Lanes& lanes = coded.lanes[i];
      if (lanes.decoder < 0) {
        std::memcpy(letters + block.first, lanes.begins[0], block.letters);
      } else if (!coded.decoders[lanes.decoder].Decode(lanes.begins, lanes.sizes, coded.end, block.letters,
                                                       letters + block.first)) {
        fault.Note(block.stream);
      }
    });
    OP_REQUIRES(context, !fault.found(),
                Malformed(fault.index(), "its lanes end elsewhere than their letters, or not in zeros"));
  }

 private:
  struct Lanes {
    int64_t decoder = -1;  // none: the letters are stored
    const uint8_t* begins[kLanes] = {};
    uint16_t sizes[kLanes] = {};
  };
  struct Coded {
    std::vector<HuffmanDecoder> decoders;
    std::vector<Lanes> lanes;  // of each block
    const uint8_t* end;
  };

  static absl::Status Malformed(int64_t stream, const char* wrong) {
    return absl::InvalidArgumentError(absl::StrCat("Malformed streams: of stream ", stream, ", ", wrong,
                                                   ". Pass the counts of bytes that they were made with."));
  }

  // Where everything is.
  static absl::Status Parse(const Streams& all, const Tensor& input, Coded* coded) {
    const uint8_t* next = input.flat<uint8_t>().data();
    coded->end = next + input.NumElements();
    coded->decoders.reserve(std::min<size_t>(all.streams.size(), input.NumElements() / kLengthBytes));
    for (size_t i = 0; i < all.streams.size(); ++i) {
      const Stream& stream = all.streams[i];
      if (stream.letters == 0) continue;
      const bool stored = next < coded->end && *next == kStored;
      if (coded->end - next < (stored ? stream.letters + 1 : stream.head())) return Malformed(i, "a part is missing");
      if (stored) {
        ++next;
        for (int64_t block = 0; block < stream.blocks; ++block) {
          coded->lanes.emplace_back().begins[0] = next + block * kBlock;
        }
        next += stream.letters;
        continue;
      }
      uint8_t lengths[kLetters];
      for (int letter = 0; letter < kLetters; ++letter) lengths[letter] = next[letter / 2] >> letter % 2 * 4 & 15;
      if (!coded->decoders.emplace_back().Init(lengths)) return Malformed(i, "the lengths are those of no code");
      const uint8_t *const begin = next, *size = next + kLengthBytes;
      next += stream.head();
      for (int64_t block = 0; block < stream.blocks; ++block) {
        Lanes& lanes = coded->lanes.emplace_back();
        lanes.decoder = coded->decoders.size() - 1;
        for (int lane = 0; lane < kLanes; ++lane, size += kSizeBytes) {
          lanes.begins[lane] = next;
          lanes.sizes[lane] = size[0] | size[1] << 8;
          if (coded->end - next < lanes.sizes[lane]) return Malformed(i, "a part is missing");
          next += lanes.sizes[lane];
        }
      }
      const int64_t padding = stream.padding(next - begin);
      if (coded->end - next < padding) return Malformed(i, "a part is missing");
      if (std::any_of(next, next + padding, [](uint8_t byte) { return byte != 0; })) {
        return Malformed(i, "its padding is not zero");
      }
      next += padding;
    }
    if (next == coded->end) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("Malformed streams: there are ", coded->end - next,
                                                   " bytes more than the streams have."));
  }
};

REGISTER_KERNEL_BUILDER(Name("TerngradCompress").Device(tensorflow::DEVICE_CPU), CompressOp);
REGISTER_KERNEL_BUILDER(Name("TerngradDecompress").Device(tensorflow::DEVICE_CPU), DecompressOp);

absl::Status CompressShape(InferenceContext* context) {
  context->set_output(0, context->Vector(context->UnknownDim()));
  context->set_output(1, context->input(1));
  return absl::OkStatus();
}

absl::Status DecompressShape(InferenceContext* context) {
  context->set_output(0, context->Vector(context->UnknownDim()));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TerngradCompress")
    .Input("bytes: uint8")
    .Input("counts: int64")
    .Output("streams: uint8")
    .Output("sizes: int32")
    .SetShapeFn(CompressShape);

REGISTER_OP("TerngradDecompress")
    .Input("streams: uint8")
    .Input("counts: int64")
    .Output("bytes: uint8")
    .SetShapeFn(DecompressShape);

}  // namespace terngrad

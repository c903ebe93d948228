// Operations on digits alone: TerngradPackBytes, TerngradUnpackBytes, TerngradPackWords, TerngradUnpackWords,
// TerngradSumBytes, TerngradAddBytes.

#include <numeric>

#include "absl/strings/str_cat.h"
#include "bytes.h"
#include "digits.h"
#include "op_inputs.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "words.h"

namespace terngrad {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;

constexpr int64_t kCycles = 1;

absl::Status BeyondDigits(const char* most, int64_t index, int64_t value, int64_t bound) {
  return absl::InvalidArgumentError(absl::StrCat("Expected digits from -", bound, " to ", bound, " (", most,
                                                 "). Received: ", value, " at index ", index));
}

class PackBytesOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    const ByteLayout layout(levels_);
    const int64_t size = input.NumElements();
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({layout.outputs(size)}), &output));
    const int8_t* digits = input.flat<int8_t>().data();
    uint8_t* bytes = output->flat<uint8_t>().data();
    Fault fault;
    ForTiles(context, size, TileOf(layout.block()), kCycles, [&](int64_t begin, int64_t end) {
      const int64_t bad = FindBeyond(digits + begin, end - begin, levels_);
      if (bad >= 0) fault.Note(begin + bad);
      PackBytes(digits + begin, end - begin, layout, bytes + layout.outputs(begin));
    });
    if (fault.found()) {
      context->CtxFailure(BeyondDigits("levels", fault.index(), digits[fault.index()], levels_));
    }
  }
};

class UnpackBytesOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    const ByteLayout layout(levels_);
    int64_t size;
    OP_REQUIRES_OK(context, SizeOf(context->input(1), &size));
    OP_REQUIRES_OK(context, CheckOutputs("bytes", input.NumElements(), size, layout));
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({size}), &output));
    const uint8_t* bytes = input.flat<uint8_t>().data();
    int8_t* digits = output->flat<int8_t>().data();
    Fault fault;
    ForTiles(context, size, TileOf(layout.block()), kCycles, [&](int64_t begin, int64_t end) {
      const int64_t first = layout.outputs(begin);
      const int64_t bad = UnpackBytes(bytes + first, end - begin, layout, digits + begin);
      if (bad >= 0) fault.Note(first + bad);
    });
    if (fault.found()) {
      context->CtxFailure(MalformedByte(fault.index(), bytes[fault.index()], layout, levels_));
    }
  }
};

template <class T>
class PackWordsOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    WordLayout layout(1);
    int64_t workers;
    OP_REQUIRES_OK(context, WordLayoutOf(context->input(1), levels_, &layout, &workers));
    const int64_t size = input.NumElements();
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({layout.outputs(size)}), &output));
    const T* digits = input.flat<T>().data();
    int64_t* words = output->flat<int64_t>().data();
    Fault fault;
    ForTiles(context, size, TileOf(layout.block()), kCycles, [&](int64_t begin, int64_t end) {
      int32_t buffer[kTile];
      const int32_t* wide = Wide(digits + begin, end - begin, buffer);
      const int64_t bad = FindBeyond(wide, end - begin, layout.most);
      if (bad >= 0) fault.Note(begin + bad);
      PackWords(wide, end - begin, layout, words + layout.outputs(begin));
    });
    if (fault.found()) {
      context->CtxFailure(BeyondDigits("workers * levels", fault.index(), digits[fault.index()], layout.most));
    }
  }

 private:
  template <class D>
  static const int32_t* Wide(const D* digits, int64_t count, int32_t* buffer) {
    Widen(digits, count, buffer);
    return buffer;
  }
  static const int32_t* Wide(const int32_t* digits, int64_t, int32_t*) { return digits; }
};

class UnpackWordsOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    int64_t size, workers;
    WordLayout layout(1);
    OP_REQUIRES_OK(context, SizeOf(context->input(1), &size));
    OP_REQUIRES_OK(context, WordLayoutOf(context->input(2), levels_, &layout, &workers));
    OP_REQUIRES_OK(context, CheckOutputs("words", input.NumElements(), size, layout));
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({size}), &output));
    const int64_t* words = input.flat<int64_t>().data();
    int32_t* digits = output->flat<int32_t>().data();
    Fault fault;
    ForTiles(context, size, TileOf(layout.block()), kCycles, [&](int64_t begin, int64_t end) {
      const int64_t first = layout.outputs(begin);
      const int64_t bad = UnpackWords(words + first, end - begin, layout, digits + begin);
      if (bad >= 0) fault.Note(first + bad);
    });
    if (fault.found()) {
      context->CtxFailure(MalformedWord(fault.index(), words[fault.index()], workers, levels_));
    }
  }
};

// How the sums of rows of digits are packed.
struct SumsAsWords {
  using Layout = WordLayout;
  using Sum = int32_t;
  using Output = int64_t;
  static constexpr auto LayoutOf = static_cast<absl::Status (*)(int64_t, int, WordLayout*)>(WordLayoutOf);
  static constexpr auto Pack = PackWords;
};
struct SumsAsBytes {
  using Layout = ByteLayout;
  using Sum = int8_t;
  using Output = uint8_t;
  static absl::Status LayoutOf(int64_t rows, int levels, ByteLayout* layout) {
    const int64_t most = kMaxLevels / levels;
    if (rows > most) {
      return absl::InvalidArgumentError(absl::StrCat("Bytes hold sums of up to ", most, " rows with ", levels,
                                                     " levels. Received: ", rows, " rows."));
    }
    *layout = ByteLayout(rows * levels);
    return absl::OkStatus();
  }
  static constexpr auto Pack = PackBytes;
};

template <class Packed>
class SumRowsOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    const ByteLayout from(levels_);
    int64_t size;
    OP_REQUIRES_OK(context, SizeOf(context->input(1), &size));
    OP_REQUIRES_OK(context, CheckRows(input));
    const int64_t rows = input.dim_size(0), columns = input.dim_size(1);
    typename Packed::Layout to(1);
    OP_REQUIRES_OK(context, Packed::LayoutOf(rows, levels_, &to));
    OP_REQUIRES_OK(context, CheckOutputs("bytes", columns, size, from));
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({to.outputs(size)}), &output));
    const uint8_t* bytes = input.flat<uint8_t>().data();
    auto* packed = output->flat<typename Packed::Output>().data();
    Fault fault;
    ForTiles(context, size, std::lcm(from.block(), to.block()), kCycles * (rows + 1), [&](int64_t begin, int64_t end) {
      int8_t digits[kMostTile];
      typename Packed::Sum sums[kMostTile] = {};
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t first = row * columns + from.outputs(begin);
        const int64_t bad = UnpackBytes(bytes + first, end - begin, from, digits);
        if (bad >= 0) fault.Note(first + bad);
        AddDigits(digits, end - begin, sums);
      }
      Packed::Pack(sums, end - begin, to, packed + to.outputs(begin));
    });
    if (fault.found()) {
      context->CtxFailure(MalformedByte(fault.index(), bytes[fault.index()], from, levels_));
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("TerngradPackBytes").Device(tensorflow::DEVICE_CPU), PackBytesOp);
REGISTER_KERNEL_BUILDER(Name("TerngradUnpackBytes").Device(tensorflow::DEVICE_CPU), UnpackBytesOp);
REGISTER_KERNEL_BUILDER(Name("TerngradUnpackWords").Device(tensorflow::DEVICE_CPU), UnpackWordsOp);
REGISTER_KERNEL_BUILDER(Name("TerngradSumBytes").Device(tensorflow::DEVICE_CPU), SumRowsOp<SumsAsWords>);
REGISTER_KERNEL_BUILDER(Name("TerngradAddBytes").Device(tensorflow::DEVICE_CPU), SumRowsOp<SumsAsBytes>);

#define REGISTER(T)                                                                                     \
  REGISTER_KERNEL_BUILDER(Name("TerngradPackWords").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
                          PackWordsOp<T>);
REGISTER(int8_t)
REGISTER(int16_t)
REGISTER(int32_t)
#undef REGISTER

absl::Status UnknownVector(InferenceContext* context) {
  context->set_output(0, context->Vector(context->UnknownDim()));
  return absl::OkStatus();
}

// As many digits as the second input says, where its value is known.
absl::Status SizeShape(InferenceContext* context) {
  DimensionHandle size;
  TF_RETURN_IF_ERROR(context->MakeDimForScalarInput(1, &size));
  context->set_output(0, context->Vector(size));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TerngradPackBytes")
    .Attr("levels: int >= 1 = 1")
    .Input("digits: int8")
    .Output("bytes: uint8")
    .SetShapeFn(UnknownVector);

REGISTER_OP("TerngradUnpackBytes")
    .Attr("levels: int >= 1 = 1")
    .Input("bytes: uint8")
    .Input("size: int64")
    .Output("digits: int8")
    .SetShapeFn(SizeShape);

REGISTER_OP("TerngradPackWords")
    .Attr("T: {int8, int16, int32}")
    .Attr("levels: int >= 1 = 1")
    .Input("digits: T")
    .Input("workers: int32")
    .Output("words: int64")
    .SetShapeFn(UnknownVector);

REGISTER_OP("TerngradUnpackWords")
    .Attr("levels: int >= 1 = 1")
    .Input("words: int64")
    .Input("size: int64")
    .Input("workers: int32")
    .Output("digits: int32")
    .SetShapeFn(SizeShape);

REGISTER_OP("TerngradSumBytes")
    .Attr("levels: int >= 1 = 1")
    .Input("bytes: uint8")
    .Input("size: int64")
    .Output("words: int64")
    .SetShapeFn(UnknownVector);

REGISTER_OP("TerngradAddBytes")
    .Attr("levels: int >= 1 = 1")
    .Input("bytes: uint8")
    .Input("size: int64")
    .Output("sums: uint8")
    .SetShapeFn(UnknownVector);

}  // namespace terngrad

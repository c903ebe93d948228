// Operations that make averaged gradients of bytes and words: TerngradMeanOfBytes, TerngradMeanOfWords.

#include <cmath>
#include <limits>

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
using tensorflow::shape_inference::InferenceContext;

constexpr int64_t kCycles = 3;

// What a digit adds to the mean; a scale that is not finite makes its whole bucket NaN.
float FactorOf(float scale, int64_t divisor) {
  return std::isfinite(scale) ? scale / static_cast<float>(divisor) : std::numeric_limits<float>::quiet_NaN();
}

template <class T>
class MeanOfBytesOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  // (1 / N) sum over rows of scale * digit / L.
  void Compute(OpKernelContext* context) override {
    const Tensor &input = context->input(0), &scales = context->input(2);
    int levels;
    OP_REQUIRES_OK(context, LevelsOf(context->input(3), &levels));
    const ByteLayout layout(levels);
    Buckets buckets;
    OP_REQUIRES_OK(context, BucketsOf(context->input(1), -1, &buckets));
    OP_REQUIRES_OK(context, CheckRows(input));
    const int64_t rows = input.dim_size(0), columns = input.dim_size(1), size = buckets.size();
    OP_REQUIRES_OK(context, CheckOutputs("bytes", columns, size, layout));
    OP_REQUIRES_OK(context, CheckShape("scales", scales, TensorShape({rows, buckets.count()})));
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({size}), &output));
    const uint8_t* bytes = input.flat<uint8_t>().data();
    const auto scale = scales.matrix<float>();
    auto* mean = DataOf<T>(output);
    Fault fault;
    ForTiles(context, size, TileOf(layout.block()), kCycles * rows, [&](int64_t begin, int64_t end) {
      int8_t digits[kTile];
      float buffer[kTile];
      float* sum = Target(mean + begin, buffer);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t first = row * columns + layout.outputs(begin);
        const int64_t bad = UnpackBytes(bytes + first, end - begin, layout, digits);
        if (bad >= 0) return fault.Note(first + bad);
        buckets.Each(begin, end, [&](int64_t bucket, int64_t from, int64_t to) {
          const float factor = FactorOf(scale(row, bucket), rows * levels);
          from -= begin;
          to -= begin;
          if (row == 0) Scale(digits + from, to - from, factor, sum + from);
          else AddScaled(digits + from, to - from, factor, sum + from);
        });
      }
      Flush(sum, end - begin, mean + begin);
    });
    if (fault.found()) {
      context->CtxFailure(MalformedByte(fault.index(), bytes[fault.index()], layout, levels));
    }
  }
};

template <class T>
class MeanOfWordsOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  // scale * sum of digits / (L N).
  void Compute(OpKernelContext* context) override {
    const Tensor &input = context->input(0), &scales = context->input(2);
    Buckets buckets;
    WordLayout layout(1);
    int64_t workers;
    OP_REQUIRES_OK(context, BucketsOf(context->input(1), -1, &buckets));
    OP_REQUIRES_OK(context, WordLayoutOf(context->input(3), levels_, &layout, &workers));
    const int64_t size = buckets.size();
    OP_REQUIRES_OK(context, CheckOutputs("words", input.NumElements(), size, layout));
    OP_REQUIRES_OK(context, CheckShape("scales", scales, TensorShape({buckets.count()})));
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({size}), &output));
    const int64_t* words = input.flat<int64_t>().data();
    const auto scale = scales.vec<float>();
    auto* mean = DataOf<T>(output);
    Fault fault;
    ForTiles(context, size, TileOf(layout.block()), kCycles, [&](int64_t begin, int64_t end) {
      int32_t digits[kTile];
      float buffer[kTile];
      float* values = Target(mean + begin, buffer);
      const int64_t first = layout.outputs(begin);
      const int64_t bad = UnpackWords(words + first, end - begin, layout, digits);
      if (bad >= 0) return fault.Note(first + bad);
      buckets.Each(begin, end, [&](int64_t bucket, int64_t from, int64_t to) {
        const float factor = FactorOf(scale(bucket), workers * levels_);
        Scale(digits + (from - begin), to - from, factor, values + (from - begin));
      });
      Flush(values, end - begin, mean + begin);
    });
    if (fault.found()) {
      context->CtxFailure(MalformedWord(fault.index(), words[fault.index()], workers, levels_));
    }
  }
};

#define REGISTER(T)                                                                                          \
  REGISTER_KERNEL_BUILDER(Name("TerngradMeanOfBytes").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
                          MeanOfBytesOp<T>);                                                                 \
  REGISTER_KERNEL_BUILDER(Name("TerngradMeanOfWords").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
                          MeanOfWordsOp<T>);
REGISTER(float)
REGISTER(double)
REGISTER(Eigen::half)
REGISTER(Eigen::bfloat16)
#undef REGISTER

// As many elements as the lengths, the second input, add up to, where they are known.
absl::Status MeanShape(InferenceContext* context) {
  const Tensor* lengths = context->input_tensor(1);
  auto size = context->UnknownDim();
  Buckets buckets;
  if (lengths != nullptr) {
    TF_RETURN_IF_ERROR(BucketsOf(*lengths, -1, &buckets));
    size = context->MakeDim(buckets.size());
  }
  context->set_output(0, context->Vector(size));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TerngradMeanOfBytes")
    .Attr("T: {float, double, half, bfloat16}")
    .Input("bytes: uint8")
    .Input("lengths: int64")
    .Input("scales: float")
    .Input("levels: int32")
    .Output("mean: T")
    .SetShapeFn(MeanShape);

REGISTER_OP("TerngradMeanOfWords")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("levels: int >= 1 = 1")
    .Input("words: int64")
    .Input("lengths: int64")
    .Input("scales: float")
    .Input("workers: int32")
    .Output("mean: T")
    .SetShapeFn(MeanShape);

}  // namespace terngrad

// The functions of TensorFlow's C API (tensorflow/c/c_api.h) that the front needs.
//
// They are looked up in the library that the process has already loaded. Linking to it would put its symbols, including
// Abseil's, before those of the gRPC library that the front is linked with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace babelrec {

struct TF_Buffer {
  const void* data;
  size_t length;
  void (*deallocator)(void* data, size_t length);
};

struct TF_Output {
  void* operation;
  int index;
};

// Numbers of tensorflow.DataType.
enum DataType : int { kFloat = 1, kDouble = 2, kInt32 = 3, kString = 7, kInt64 = 9, kBool = 10 };

// Size in bytes of a string's record in a tensor (TF_TString).
constexpr size_t kStringRecord = 24;

struct TensorFlow {
  void* (*NewStatus)();
  void (*DeleteStatus)(void*);
  int (*GetCode)(const void*);
  void* (*AllocateTensor)(int, const int64_t*, int, size_t);
  void (*DeleteTensor)(void*);
  void (*TensorFromProto)(const TF_Buffer*, void*, void*);
  int (*TensorType)(const void*);
  int (*NumDims)(const void*);
  int64_t (*Dim)(const void*, int);
  void* (*TensorData)(const void*);
  const char* (*StringGetDataPointer)(const void*);
  size_t (*StringGetSize)(const void*);
  void* (*LoadSessionFromSavedModel)(const void*, const TF_Buffer*, const char*, const char* const*, int, void*,
                                     TF_Buffer*, void*);
  void (*SessionRun)(void*, const TF_Buffer*, const TF_Output*, void* const*, int, const TF_Output*, void**, int,
                     const void* const*, int, TF_Buffer*, void*);
  void (*CloseSession)(void*, void*);
  void (*DeleteSession)(void*, void*);
  void (*DeleteGraph)(void*);
};

// Finds the functions in a loaded library; false when it lacks one.
bool load_tensorflow(const char* library);

const TensorFlow& tensorflow();

struct TensorDeleter {
  void operator()(void* tensor) const { tensorflow().DeleteTensor(tensor); }
};
using Tensor = std::unique_ptr<void, TensorDeleter>;
using Tensors = std::vector<Tensor>;

}  // namespace babelrec

// Helpers on top of gRPC's C library for the front and its relays.
#pragma once

#include <grpc/grpc.h>

#include <string_view>

namespace babelrec {

// What a completion queue returns when an operation has ended.
struct Tag {
  void (*run)(void* owner, bool is_good);
  void* owner;
};

// A tag that calls a method: `tag_of<&Call::sent>(call)`.
template <auto Method, typename Owner>
Tag tag_of(Owner* owner) {
  return {[](void* of, bool is_good) { (static_cast<Owner*>(of)->*Method)(is_good); }, owner};
}

inline std::string_view view(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

inline constexpr char kNoRequest[] = "the call ended before its request had come";

inline grpc_op operation(grpc_op_type type) {
  grpc_op op{};
  op.op = type;
  return op;
}

// Ends a call of which nothing was sent yet. `is_cancelled` is null if something waits for the call's end already.
// Returns whether the tag will come.
bool refuse(grpc_call* call, grpc_status_code status, std::string_view why, int* is_cancelled, Tag* tag);

}  // namespace babelrec

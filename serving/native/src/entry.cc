#include "entry.h"

namespace babelrec {
namespace {

// A port of this name is an entry, and the server stores its handler in the argument of the same name.
char kEntry[] = "external:babelrec";

const grpc_arg_pointer_vtable kUnowned = {[](void* pointer) { return pointer; }, [](void*) {},
                                          [](void* one, void* other) { return one < other ? -1 : one > other; }};

}  // namespace

grpc_channel_args Entry::with(const grpc_channel_args& arguments) {
  arguments_.assign(arguments.args, arguments.args + arguments.num_args);
  grpc_arg& place = arguments_.emplace_back();
  place.type = GRPC_ARG_POINTER;
  place.key = kEntry;
  place.value.pointer = {&handler_, &kUnowned};
  return {arguments_.size(), arguments_.data()};
}

bool Entry::open(grpc_server* server, grpc_server_credentials* credentials) {
  grpc_server_add_http2_port(server, kEntry, credentials);
  return handler_ != nullptr;
}

}  // namespace babelrec

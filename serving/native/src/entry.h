// How accepted connections get into a gRPC server: an interface within gRPC, which another version may lack.
#pragma once

#include <grpc/grpc.h>

#include <vector>

// From gRPC's src/core/lib/iomgr/tcp_server.h: the interface through which its C++ library passes in externally
// accepted connections (`ServerBuilder::experimental().AddExternalConnectionAcceptor`). No C header declares it.
namespace grpc_core {
class TcpServerFdHandler {
 public:
  virtual ~TcpServerFdHandler() = default;
  virtual void Handle(int listener, int descriptor, grpc_byte_buffer* pending) = 0;
};
}  // namespace grpc_core

namespace babelrec {

// The entry point of accepted connections into a gRPC server. It must outlive the server.
class Entry {
 public:
  // The arguments to create the server with: `arguments` plus the entry's own. Valid as long as both.
  grpc_channel_args with(const grpc_channel_args& arguments);
  // Opens the entry of a server created with them and not started yet. False: this gRPC does not support it.
  bool open(grpc_server* server, grpc_server_credentials* credentials);
  // Passes a connection to the server, which must have been started.
  void take(int descriptor) { handler_->Handle(-1, descriptor, nullptr); }

 private:
  grpc_core::TcpServerFdHandler* handler_ = nullptr;
  std::vector<grpc_arg> arguments_;
};

}  // namespace babelrec

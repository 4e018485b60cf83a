// Accepts connections for a gRPC server.
//
// gRPC 1.51's own listener never accepts again once descriptors have run out. This one refuses what is too much and
// goes on, and takes no more connections than it was allowed.
#pragma once

#include <grpc/grpc.h>

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

// gRPC's own, of src/core/lib/iomgr/tcp_server.h: what its C++ library hands connections over with that others have
// accepted (`ServerBuilder::experimental().AddExternalConnectionAcceptor`). The C library offers it by no header.
namespace grpc_core {
class TcpServerFdHandler {
 public:
  virtual ~TcpServerFdHandler() = default;
  virtual void Handle(int listener, int descriptor, grpc_byte_buffer* pending) = 0;
};
}  // namespace grpc_core

namespace babelrec {

// The way by which accepted connections get into a gRPC server. It must outlive the server.
class Entry {
 public:
  // What the server must be made with: the entry's argument besides `arguments`. Valid as long as both.
  grpc_channel_args with(const grpc_channel_args& arguments);
  // Opens the entry of a server that was made so and has not been started. False: this gRPC has no such thing.
  bool open(grpc_server* server, grpc_server_credentials* credentials);
  // Gives the server, which has been started, a connection.
  void take(int descriptor) { handler_->Handle(-1, descriptor, nullptr); }

 private:
  grpc_core::TcpServerFdHandler* handler_ = nullptr;
  std::vector<grpc_arg> arguments_;
};

struct ConnectionCounts {
  int64_t open = 0;
  int64_t accepted = 0;
  int64_t refused = 0;
};

class Acceptor {
 public:
  // most: connections at once; more are closed as soon as they are made.
  Acceptor(Entry& entry, int64_t most) : entry_(entry), most_(most) {}
  ~Acceptor() { stop(); }

  // Takes a listening socket, which is closed by `stop`. Before `start`.
  void add(int listener) { listeners_.push_back(listener); }
  // Throws std::system_error where a descriptor can't be had.
  void start();
  // Hands over what has been connected already, closes the listeners and ends the thread.
  void stop();

  ConnectionCounts counts();

 private:
  // A connection that was given to gRPC, which closes it. The number may be used anew; the inode may not before that.
  struct Connection {
    int descriptor;
    ino_t inode;
  };

  void run();
  void accept_all(int listener);
  void hand_over(int descriptor);
  void refuse_one(int listener);
  bool is_full();
  void forget_closed();

  Entry& entry_;
  const int64_t most_;
  std::vector<int> listeners_;
  int wake_ = -1;
  int reserve_ = -1;  // given up to accept a connection, and close it, when there is no other descriptor
  std::vector<Connection> connections_;  // of the thread
  std::chrono::steady_clock::time_point looked_;  // for closed ones, when last
  std::atomic<int64_t> open_{0}, accepted_{0}, refused_{0};
  std::thread thread_;
};

}  // namespace babelrec

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

namespace babelrec {

struct ConnectionCounts {
  int64_t open = 0;
  int64_t accepted = 0;
  int64_t refused = 0;
};

class Acceptor {
 public:
  // most: connections at once; more are closed as soon as they are made.
  Acceptor(grpc_server* server, int64_t most) : server_(server), most_(most) {}
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

  grpc_server* const server_;
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

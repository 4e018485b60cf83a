// Accepts connections for a gRPC server.
//
// gRPC 1.51's own listener never accepts again once file descriptors have run out. This one refuses excess connections
// and continues, and accepts no more connections than its limit.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "entry.h"

namespace babelrec {

struct ConnectionCounts {
  int64_t open = 0;
  int64_t accepted = 0;
  int64_t refused = 0;
};

class Acceptor {
 public:
  // most: connections at once; more are closed immediately.
  Acceptor(Entry& entry, int64_t most) : entry_(entry), most_(most) {}
  ~Acceptor() { stop(); }

  // Adds a listening socket, which `stop` closes. Call before `start`.
  void add(int listener) { listeners_.push_back(listener); }
  // Throws std::system_error if no file descriptor is available.
  void start();
  // Passes on pending connections, closes the listeners and ends the thread.
  void stop();

  ConnectionCounts counts();

 private:
  // A connection passed to gRPC, which closes it. The number may be reused; the inode may not until it is closed.
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
  int reserve_ = -1;  // closed to accept a connection, and close it, when there is no other descriptor
  std::vector<Connection> connections_;  // used by the thread only
  std::chrono::steady_clock::time_point looked_;  // when it last checked for closed ones
  std::atomic<int64_t> open_{0}, accepted_{0}, refused_{0};
  std::thread thread_;
};

}  // namespace babelrec

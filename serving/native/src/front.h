// The gRPC server that clients connect to: it answers Predict itself if it can, and forwards everything else.
#pragma once

#include <grpc/grpc.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "acceptor.h"
#include "core.h"
#include "messages.h"
#include "model.h"

namespace babelrec {

struct FrontOptions {
  int groups;              // groups of requests processed concurrently
  int64_t max_rows;        // maximum rows of a group
  int64_t max_waiting;     // maximum waiting rows; more are refused with UNAVAILABLE
  int64_t timeout_micros;  // maximum time that an incomplete group waits for more
  int64_t max_concurrent;  // requests in the server, see `enter`; more are refused with RESOURCE_EXHAUSTED. 0: no limit
  int64_t max_connections;  // more are closed immediately
  bool pad;                // whether sizes that differ beyond the rows are padded
};

// PEM texts. Without a certificate there is no TLS.
struct Tls {
  std::string key, certificate;
  std::string authorities;  // CAs of client certificates
  bool verify = false;      // whether each client must present one
};

// One thread handles gRPC's queue; `groups` threads run models; one writes responses while the next group is already
// running. None of them ever needs Python.
class Front {
 public:
  Front(const FrontOptions& options, const Tls& tls, const grpc_channel_args& arguments);

  // Whether this gRPC supports externally accepted connections; if not, the front can only be deleted.
  bool is_usable() const { return is_usable_; }

  // Adds a listening socket, before the start.
  void listen(int socket) { acceptor_.add(socket); }
  // Starts answering; `behind` is the address of the server in Python.
  void start(const char* behind);

  // Stops accepting calls. Returns whether all have ended within `seconds`.
  bool drain(double seconds);
  // Ends running calls and, once runs have ended, the threads. False if a run continues after `seconds`; the front
  // must then stay alive.
  bool close(double seconds);

  // Counts a request that the server in Python answers, in addition to the front's Predict requests, until it leaves;
  // false if there are too many.
  bool enter();
  void leave();

  // Rows waiting for a run.
  int64_t waiting();
  ConnectionCounts connections() { return acceptor_.counts(); }
  // Predict requests refused because there were too many at once.
  int64_t refused() const { return refused_; }

  Models models;

 private:
  using Clock = std::chrono::steady_clock;
  struct Call;
  struct Other;
  // Requests for one signature of one version.
  struct Group {
    std::vector<Call*> calls;
    int64_t rows = 0;
    bool is_spread = false;  // over the session's threads
    Clock::time_point begun;
    double run_micros = 0;
    Tensors results;  // empty when it could not be run as one
  };

  // The previous run of a thread that runs groups.
  struct Before {
    const Signature* signature = nullptr;
    size_t requests = 0;  // of the group, plus those waiting when it had run
    int64_t rows = 0;
    double run_micros = 0;
  };

  void hear();
  void run_groups();
  void write_answers();
  int64_t takes_other();
  bool takes(Call* call);
  bool admits();
  void ask_for_predict();
  void ask_for_other();
  void arrived(Call* call);
  void pass_on(Call* call);
  void refuse(Call* call, grpc_status_code status, const std::string& why);
  void send(Call* call, const std::string& response);
  void finish(Call* call, grpc_op* ops, size_t count);
  void end(Call* call);
  void other_ended();
  void stopped(bool);
  bool are_enough(size_t requests) const;
  void wait_for_company(std::unique_lock<std::mutex>& lock, const Before& before);
  bool is_worth_spreading(const Group& group, const Before& before) const;
  Group take();
  void run(Group& group);
  bool join_and_run(Group& group);
  void answer(Group& group);

  const FrontOptions options_;
  Entry entry_;
  grpc_server* server_;
  bool is_usable_;
  Acceptor acceptor_;
  grpc_completion_queue* queue_;
  grpc_channel* channel_ = nullptr;
  void* predict_;
  grpc_slice predict_name_;
  std::atomic<int64_t> refused_{0};
  Tag stopped_ = tag_of<&Front::stopped>(this);

  std::mutex mutex_;  // guards the members below
  std::condition_variable work_, answers_, ended_;
  std::deque<Call*> waiting_;
  std::deque<Group> finished_;
  Tensors spent_;  // tensors of written responses
  int64_t waiting_rows_ = 0;
  int64_t in_flight_ = 0;  // Predict requests, including those being refused
  int64_t admitted_ = 0;   // those that were not refused, and requests that Python answers
  int64_t others_ = 0;     // other, forwarded calls
  int running_ = 0;
  size_t awaited_ = 1;  // number of requests worth waking a thread for
  bool is_stopping_ = false;
  bool is_stopped_ = false;
  bool is_closing_ = false;
  bool is_closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace babelrec

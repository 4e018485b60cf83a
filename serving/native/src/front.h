// The gRPC server that clients meet: it answers Predict by itself where it can, and passes all else on.
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
  int groups;              // groups of requests that are worked on at once
  int64_t max_rows;        // rows of a group
  int64_t max_waiting;     // rows that wait; more are refused with UNAVAILABLE
  int64_t timeout_micros;  // how long, at most, an incomplete group waits for more
  int64_t max_concurrent;  // Predict requests in the server; more are refused with RESOURCE_EXHAUSTED. 0: no limit
  int64_t max_connections;  // more are closed as soon as they are made
  bool pad;                // whether sizes that differ beyond the rows are filled up
};

// Texts in PEM. None of a certificate: no TLS.
struct Tls {
  std::string key, certificate;
  std::string authorities;  // of clients' certificates
  bool verify = false;      // whether each client must show one
};

// One thread does what gRPC's queue asks for; `groups` threads run models; one writes answers while the next group
// is already being run. None of them ever needs Python.
class Front {
 public:
  Front(const FrontOptions& options, const Tls& tls, const grpc_channel_args& arguments);

  // Whether there is a way for connections into this gRPC; if not, the front can only be deleted.
  bool is_usable() const { return is_usable_; }

  // Takes a listening socket, before the start.
  void listen(int socket) { acceptor_.add(socket); }
  // Begins to answer; `behind` is the address of the server in Python.
  void start(const char* behind);

  // Takes no new calls. Returns whether all have ended within so many seconds.
  bool drain(double seconds);
  // Ends what goes on, and the threads, once runs have ended. False when one goes on after so many seconds; the front
  // must then stay as it is.
  bool close(double seconds);

  // Rows that wait for a run.
  int64_t waiting();
  ConnectionCounts connections() { return acceptor_.counts(); }
  // Predict requests that were refused for there were too many at once.
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
    Tensors results;  // none when it could not be run as one
  };

  // What a thread that runs groups did before.
  struct Before {
    const Signature* signature = nullptr;
    size_t requests = 0;  // of the group, and waiting when it had been run
    int64_t rows = 0;
    double run_micros = 0;
  };

  void hear();
  void run_groups();
  void write_answers();
  int64_t takes(int64_t& count);
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

  std::mutex mutex_;  // guards what follows
  std::condition_variable work_, answers_, ended_;
  std::deque<Call*> waiting_;
  std::deque<Group> finished_;
  Tensors spent_;  // of answers that are written
  int64_t waiting_rows_ = 0;
  int64_t in_flight_ = 0;  // Predict requests
  int64_t others_ = 0;     // other calls that are passed on
  int running_ = 0;
  size_t awaited_ = 1;  // requests that are worth waking a thread for
  bool is_stopping_ = false;
  bool is_stopped_ = false;
  bool is_closing_ = false;
  bool is_closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace babelrec

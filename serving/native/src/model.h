// What the front may answer itself: signatures of models, by name and version.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensorflow.h"

namespace babelrec {

struct InputSpec {
  std::string alias;
  int dtype;
  int rank;
  std::optional<std::string> row;  // default for each row of a request that leaves it out: a TensorProto with one row
};

struct OutputSpec {
  std::string alias;
  int dtype;
};

struct Signature {
  std::vector<InputSpec> inputs;
  std::vector<TF_Output> feeds;
  std::vector<OutputSpec> outputs;
  std::vector<TF_Output> fetches;
  std::string spec_field;  // serialised PredictResponse.model_spec
};

// Observations in buckets with exponentially growing upper bounds; the last bucket takes everything above.
class Histogram {
 public:
  Histogram(double first, double growth, int bounds)
      : first_(first), growth_(growth), counts_(static_cast<size_t>(bounds) + 1) {}

  void observe(double value, int64_t times = 1);
  // Buckets, then the sum.
  size_t values() const { return counts_.size() + 1; }
  double* read(double* values) const;  // returns the position after them

 private:
  double first_;
  double growth_;
  std::vector<int64_t> counts_;
  double sum_ = 0;
};

// Counters of the requests for one model name. Thread-safe.
class Counters {
 public:
  struct Answer {
    double queue_micros;
    double request_micros;  // without the queue
    double run_micros;
    int64_t rows;
    int64_t inputs;
  };

  void answered(const Answer& answer);
  // Refused with UNAVAILABLE, before it waited.
  void refused();
  // Its deadline passed while it waited.
  void expired(double queue_micros);
  // A group with this many rows was run.
  void ran(int64_t rows);

  // Number of values that `read` returns.
  size_t values() const;
  // Successful requests, requests refused with UNAVAILABLE; latencies of requests, runs and the queue; input rows.
  void read(double* values) const;
  // Groups that were run, by rows.
  std::map<int64_t, int64_t> groups() const;

 private:
  mutable std::mutex mutex_;
  int64_t answered_ = 0;
  int64_t refused_ = 0;
  std::map<int64_t, int64_t> groups_;
  // Bounds are those of TensorFlow Serving: `serving/server/operations/metrics.py`.
  Histogram requests_{10, 1.8, 33};
  Histogram runs_{10, 1.8, 33};
  Histogram waits_{100, 1.2, 52};
  Histogram inputs_{1, 2, 14};
};

// A version of a model. Its session must outlive it.
class Model {
 public:
  // inline_options: a serialised RunOptions that keeps a run in the thread that starts it.
  Model(void* session, std::string inline_options);
  ~Model() { gone_.set_value(); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  void add(std::string key, Signature signature) { signatures_.emplace(std::move(key), std::move(signature)); }
  const Signature* find(std::string_view key) const;

  // Runs a signature, in this thread or spread over the session's threads; returns no tensors if it fails.
  Tensors run(const Signature& signature, const Tensors& inputs, bool is_spread) const;

  // Ready once nothing uses the model.
  std::future<void> gone() { return gone_.get_future(); }

 private:
  void* session_;
  std::string inline_options_;
  std::map<std::string, Signature, std::less<>> signatures_;
  std::promise<void> gone_;
};

// A version; without a model the front does not answer it.
using Version = std::pair<int64_t, std::shared_ptr<Model>>;

struct Found {
  std::shared_ptr<Model> model;
  Counters* counters = nullptr;
};

// The versions that are served. Thread-safe.
class Models {
 public:
  // Replaces what is served under a name; the last version is the newest.
  void serve(const std::string& name, std::vector<Version> versions);
  // The newest version, or a specific one; none if the front does not answer it.
  Found find(std::string_view name, const int64_t* version) const;
  // None if there never was such a name. It stays when versions are removed.
  const Counters* counters(std::string_view name) const;

 private:
  struct Served {
    std::vector<Version> versions;
    std::unique_ptr<Counters> counters = std::make_unique<Counters>();  // stays when versions are removed
  };

  mutable std::mutex mutex_;
  std::map<std::string, Served, std::less<>> served_;
};

}  // namespace babelrec

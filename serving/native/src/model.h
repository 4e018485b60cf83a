// What the front may answer by itself: signatures of models, by name and version.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <mutex>
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
  std::string spec_field;  // PredictResponse.model_spec on the wire
};

// Latencies in microseconds by the buckets of TensorFlow Serving: 10 us x 1.8^n, and what lies above.
class Histogram {
 public:
  static constexpr int kBounds = 33;
  static constexpr int kValues = kBounds + 2;  // buckets, then the sum

  void observe(double micros);
  void read(double* values) const;

 private:
  std::array<int64_t, kBounds + 1> counts_{};
  double sum_ = 0;
};

// What has become of the requests of one model name. Thread-safe.
class Counters {
 public:
  static constexpr int kValues = 2 + 2 * Histogram::kValues;

  void answered(double request_micros, double run_micros);
  void refused();
  // Good answers, requests refused as UNAVAILABLE, latencies of requests and of runs.
  void read(double* values) const;

 private:
  mutable std::mutex mutex_;
  int64_t answered_ = 0;
  int64_t refused_ = 0;
  Histogram requests_;
  Histogram runs_;
};

// A version of a model. Its session must outlive it.
class Model {
 public:
  // inline_options: a RunOptions, serialized, that has a run stay in the thread that starts it.
  Model(void* session, std::string inline_options);
  ~Model() { gone_.set_value(); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  void add(std::string key, Signature signature) { signatures_.emplace(std::move(key), std::move(signature)); }
  const Signature* find(std::string_view key) const;

  // Runs a signature, in this thread or spread over those of the session; no tensors when it fails.
  Tensors run(const Signature& signature, const Tensors& inputs, bool is_spread) const;

  // Ready once nothing uses the model any more.
  std::future<void> gone() { return gone_.get_future(); }

 private:
  void* session_;
  std::string inline_options_;
  std::map<std::string, Signature, std::less<>> signatures_;
  std::promise<void> gone_;
};

// A version; without a model it is not the front's to answer.
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
  // The newest version, or a certain one; none when it is not the front's to answer.
  Found find(std::string_view name, const int64_t* version) const;
  // False when there never was such a name.
  bool read(std::string_view name, double* counters) const;

 private:
  struct Served {
    std::vector<Version> versions;
    std::unique_ptr<Counters> counters = std::make_unique<Counters>();  // stays when versions go
  };

  mutable std::mutex mutex_;
  std::map<std::string, Served, std::less<>> served_;
};

}  // namespace babelrec

#include "model.h"

namespace babelrec {

void Histogram::observe(double value, int64_t times) {
  double bound = first_;
  size_t index = 0;
  while (index + 1 < counts_.size() && value > bound) {
    bound *= growth_;
    ++index;
  }
  counts_[index] += times;
  sum_ += value * static_cast<double>(times);
}

double* Histogram::read(double* values) const {
  for (int64_t count : counts_) *values++ = static_cast<double>(count);
  *values = sum_;
  return values + 1;
}

void Counters::answered(const Answer& answer) {
  std::lock_guard lock(mutex_);
  ++answered_;
  waits_.observe(answer.queue_micros);
  requests_.observe(answer.request_micros);
  runs_.observe(answer.run_micros);
  inputs_.observe(static_cast<double>(answer.rows), answer.inputs);
}

void Counters::refused() {
  std::lock_guard lock(mutex_);
  ++refused_;
}

void Counters::expired(double queue_micros) {
  std::lock_guard lock(mutex_);
  waits_.observe(queue_micros);
}

void Counters::ran(int64_t rows) {
  std::lock_guard lock(mutex_);
  ++groups_[rows];
}

size_t Counters::values() const {
  return 2 + requests_.values() + runs_.values() + waits_.values() + inputs_.values();
}

void Counters::read(double* values) const {
  std::lock_guard lock(mutex_);
  values[0] = static_cast<double>(answered_);
  values[1] = static_cast<double>(refused_);
  inputs_.read(waits_.read(runs_.read(requests_.read(values + 2))));
}

std::map<int64_t, int64_t> Counters::groups() const {
  std::lock_guard lock(mutex_);
  return groups_;
}

Model::Model(void* session, std::string inline_options)
    : session_(session), inline_options_(std::move(inline_options)) {}

const Signature* Model::find(std::string_view key) const {
  auto found = signatures_.find(key);
  return found == signatures_.end() ? nullptr : &found->second;
}

Tensors Model::run(const Signature& signature, const Tensors& inputs, bool is_spread) const {
  const TensorFlow& tf = tensorflow();
  std::vector<void*> given;
  given.reserve(inputs.size());
  for (const Tensor& tensor : inputs) given.push_back(tensor.get());
  std::vector<void*> results(signature.fetches.size(), nullptr);
  TF_Buffer options{inline_options_.data(), is_spread ? 0 : inline_options_.size(), nullptr};
  void* status = tf.NewStatus();
  tf.SessionRun(session_, &options, signature.feeds.data(), given.data(), static_cast<int>(given.size()),
                signature.fetches.data(), results.data(), static_cast<int>(results.size()), nullptr, 0, nullptr,
                status);
  bool is_good = tf.GetCode(status) == 0;
  tf.DeleteStatus(status);
  Tensors tensors;
  if (is_good) {
    for (void* result : results) tensors.emplace_back(result);
  }
  return tensors;
}

void Models::serve(const std::string& name, std::vector<Version> versions) {
  std::lock_guard lock(mutex_);
  served_[name].versions.swap(versions);
}

Found Models::find(std::string_view name, const int64_t* version) const {
  std::lock_guard lock(mutex_);
  auto served = served_.find(name);
  if (served == served_.end() || served->second.versions.empty()) return {};
  Counters* counters = served->second.counters.get();
  if (version == nullptr) return {served->second.versions.back().second, counters};
  for (const auto& [number, model] : served->second.versions) {
    if (number == *version) return {model, counters};
  }
  return {};
}

const Counters* Models::counters(std::string_view name) const {
  std::lock_guard lock(mutex_);
  auto served = served_.find(name);
  return served == served_.end() ? nullptr : served->second.counters.get();
}

}  // namespace babelrec

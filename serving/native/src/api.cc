// The front's interface for Python, via ctypes: `serving/native/front.py`.

#include <chrono>
#include <cstring>
#include <vector>

#include "front.h"

using namespace babelrec;

#define API extern "C" __attribute__((visibility("default")))

struct Handle {
  std::shared_ptr<Model> model;
};

API int babelrec_load(const char* tensorflow_library) { return load_tensorflow(tensorflow_library) ? 1 : 0; }

// key, certificate, authorities: PEM texts; without a certificate there is no TLS.
// keys, texts, numbers: gRPC options; the number is used where the text is null.
// Null if this gRPC does not support externally accepted connections.
API Front* babelrec_front_new(const char* key, const char* certificate, const char* authorities, int verify, int groups,
                              int64_t max_rows, int64_t max_waiting, int64_t timeout_micros, int64_t max_concurrent,
                              int64_t max_connections, int pad, const char** keys, const char** texts,
                              const int* numbers, int count) {
  std::vector<grpc_arg> arguments(static_cast<size_t>(count));
  for (int index = 0; index < count; ++index) {
    grpc_arg& argument = arguments[static_cast<size_t>(index)];
    argument.key = const_cast<char*>(keys[index]);
    if (texts[index] != nullptr) {
      argument.type = GRPC_ARG_STRING;
      argument.value.string = const_cast<char*>(texts[index]);
    } else {
      argument.type = GRPC_ARG_INTEGER;
      argument.value.integer = numbers[index];
    }
  }
  auto front = new Front({groups, max_rows, max_waiting, timeout_micros, max_concurrent, max_connections, pad != 0},
                         {key, certificate, authorities, verify != 0}, {arguments.size(), arguments.data()});
  if (front->is_usable()) return front;
  front->close(0);
  delete front;
  return nullptr;
}

// Of the gRPC library that the front is linked with.
API const char* babelrec_grpc_version() { return grpc_version_string(); }

API void babelrec_front_listen(Front* front, int socket) { front->listen(socket); }

API void babelrec_front_start(Front* front, const char* behind) { front->start(behind); }

API int babelrec_front_drain(Front* front, double seconds) { return front->drain(seconds) ? 1 : 0; }

// The rest of it stays: models are unloaded, and counts read, after a server has been closed.
API int babelrec_front_close(Front* front, double seconds) { return front->close(seconds) ? 1 : 0; }

API void babelrec_front_serve(Front* front, const char* name, const int64_t* versions, Handle** models, int count) {
  std::vector<Version> all;
  for (int index = 0; index < count; ++index) {
    all.emplace_back(versions[index], models[index] != nullptr ? models[index]->model : nullptr);
  }
  front->models.serve(name, std::move(all));
}

// Connections: open, accepted, refused; requests: refused
API void babelrec_front_connections(Front* front, int64_t* counts) {
  const ConnectionCounts found = front->connections();
  counts[0] = found.open, counts[1] = found.accepted, counts[2] = found.refused, counts[3] = front->refused();
}

// Counts a request that Python answers; false if there are too many.
API int babelrec_front_enter(Front* front) { return front->enter() ? 1 : 0; }

API void babelrec_front_leave(Front* front) { front->leave(); }

API int64_t babelrec_front_waiting(Front* front) { return front->waiting(); }

// A model's counters, or null when no such model was ever served; they live as long as the front.
API const Counters* babelrec_front_counters(Front* front, const char* name) { return front->models.counters(name); }

API size_t babelrec_counter_values(const Counters* counters) { return counters->values(); }

API void babelrec_counters_read(const Counters* counters, double* values) { counters->read(values); }

// Groups that were run: as many different sizes as fit, and the count of each; returns the number of sizes.
API size_t babelrec_counters_groups(const Counters* counters, int64_t* sizes, int64_t* counts, size_t most) {
  const std::map<int64_t, int64_t> groups = counters->groups();
  size_t index = 0;
  for (const auto& [size, count] : groups) {
    if (index == most) break;
    sizes[index] = size;
    counts[index++] = count;
  }
  return groups.size();
}

API Handle* babelrec_model_new(void* session, const void* inline_options, size_t length) {
  return new Handle{std::make_shared<Model>(session, std::string(static_cast<const char*>(inline_options), length))};
}

// rows: default rows of inputs that may be left out; null for others.
API void babelrec_model_add(Handle* handle, const char* key, const char** inputs, const int* input_types,
                            const int* ranks, const char** rows, const size_t* row_lengths, const TF_Output* feeds,
                            int input_count, const char** outputs,
                            const int* output_types, const TF_Output* fetches, int output_count,
                            const void* spec_field, size_t length) {
  Signature signature;
  for (int index = 0; index < input_count; ++index) {
    InputSpec& input = signature.inputs.emplace_back(InputSpec{inputs[index], input_types[index], ranks[index], {}});
    if (rows[index] != nullptr) input.row.emplace(rows[index], row_lengths[index]);
  }
  for (int index = 0; index < output_count; ++index) signature.outputs.push_back({outputs[index], output_types[index]});
  signature.feeds.assign(feeds, feeds + input_count);
  signature.fetches.assign(fetches, fetches + output_count);
  signature.spec_field.assign(static_cast<const char*>(spec_field), length);
  handle->model->add(key, std::move(signature));
}

// Returns once nothing uses the model. It must no longer be served.
API void babelrec_model_delete(Handle* handle) {
  std::future<void> gone = handle->model->gone();
  delete handle;
  gone.wait();
}

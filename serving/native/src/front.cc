#include "front.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>

#include <algorithm>
#include <iterator>

#include "relay.h"

namespace babelrec {
namespace {

constexpr char kPredict[] = "/tensorflow.serving.PredictionService/Predict";
// Calls that gRPC may hand over before the accepting thread gets to them.
constexpr int kArmed = 16;
// Limit on other calls forwarded concurrently, including long-lived ones such as health watches.
constexpr int64_t kMostOthers = 1024;
constexpr double kLongMicros = 6000;
constexpr size_t kUsualMetadata = 8 << 10;  // bytes of a request; more is forwarded to a gRPC that limits it
constexpr int kMostMetadata = 1 << 20;      // bytes of a response from the server behind
constexpr int64_t kDayMicros = 86'400'000'000;  // more would overflow clocks

// Size as HTTP/2 counts headers.
size_t size_of(const grpc_metadata_array& metadata) {
  size_t size = 0;
  for (size_t index = 0; index < metadata.count; ++index) {
    size += GRPC_SLICE_LENGTH(metadata.metadata[index].key) + GRPC_SLICE_LENGTH(metadata.metadata[index].value) + 32;
  }
  return size;
}

// A message in one piece; not copied if it arrived in one.
grpc_slice whole(grpc_byte_buffer* message) {
  grpc_byte_buffer_reader reader;
  grpc_byte_buffer_reader_init(&reader, message);
  grpc_slice slice;
  if (grpc_byte_buffer_reader_next(&reader, &slice) == 0) return grpc_empty_slice();
  if (GRPC_SLICE_LENGTH(slice) < grpc_byte_buffer_length(message)) {
    grpc_slice_unref(slice);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_reader_init(&reader, message);
    slice = grpc_byte_buffer_reader_readall(&reader);
  }
  grpc_byte_buffer_reader_destroy(&reader);
  return slice;
}

double micros_between(std::chrono::steady_clock::time_point start, std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - start).count();
}

double micros_since(std::chrono::steady_clock::time_point start) {
  return micros_between(start, std::chrono::steady_clock::now());
}

grpc_server_credentials* credentials_of(const Tls& tls) {
  if (tls.certificate.empty()) return grpc_insecure_server_credentials_create();
  grpc_ssl_pem_key_cert_pair pair{tls.key.c_str(), tls.certificate.c_str()};
  return grpc_ssl_server_credentials_create_ex(
      tls.authorities.empty() ? nullptr : tls.authorities.c_str(), &pair, 1,
      tls.verify ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
      nullptr);
}

}  // namespace

// A Predict request on its way.
struct Front::Call {
  explicit Call(Front* front) : front(front) { grpc_metadata_array_init(&metadata); }
  ~Call() {
    grpc_byte_buffer_destroy(message);
    grpc_byte_buffer_destroy(response);
    grpc_slice_unref(bytes);
    grpc_metadata_array_destroy(&metadata);
    if (call != nullptr) grpc_call_unref(call);
  }

  void on_arrival(bool is_good) {
    if (is_good) {
      front->arrived(this);
    } else {
      delete this;  // the server stops
    }
  }
  void on_passing(bool) { front->pass_on(this); }
  void on_sent(bool) { front->end(this); }

  Front* front;
  grpc_call* call = nullptr;
  gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_REALTIME);
  grpc_metadata_array metadata;
  grpc_byte_buffer* message = nullptr;
  grpc_byte_buffer* response = nullptr;
  grpc_slice bytes = grpc_empty_slice();
  int is_cancelled = 0;
  bool is_admitted = false;

  std::shared_ptr<Model> model;
  Counters* counters = nullptr;
  const Signature* signature = nullptr;
  std::vector<Input> inputs;
  int64_t rows = 0;
  Clock::time_point queued;

  Tag arrival = tag_of<&Call::on_arrival>(this);
  Tag passing = tag_of<&Call::on_passing>(this);
  Tag sent = tag_of<&Call::on_sent>(this);
};

// Any other call on its way.
struct Front::Other {
  explicit Other(Front* front) : front(front) {
    grpc_call_details_init(&details);
    grpc_metadata_array_init(&metadata);
  }

  ~Other() {
    grpc_call_details_destroy(&details);
    grpc_metadata_array_destroy(&metadata);
    if (call != nullptr) grpc_call_unref(call);
  }

  void on_arrival(bool is_good) {
    const int64_t others = is_good ? front->takes_other() : 0;
    if (others == 0) {
      delete this;
      return;
    }
    front->ask_for_other();
    if (others > kMostOthers) {
      if (!babelrec::refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
                            std::to_string(kMostOthers) + " calls are in the server already", &is_cancelled,
                            &refused)) {
        on_refused(false);
      }
      return;
    }
    Front* of = front;
    relay(of->channel_, of->queue_, call, details.deadline, metadata, nullptr, false, details.method,
          [of] { of->other_ended(); });
    call = nullptr;
    grpc_metadata_array_init(&metadata);
    delete this;
  }
  void on_refused(bool) {
    front->other_ended();
    delete this;
  }

  Front* front;
  grpc_call* call = nullptr;
  grpc_call_details details;
  grpc_metadata_array metadata;
  int is_cancelled = 0;
  Tag arrival = tag_of<&Other::on_arrival>(this);
  Tag refused = tag_of<&Other::on_refused>(this);
};

Front::Front(const FrontOptions& options, const Tls& tls, const grpc_channel_args& arguments)
    : options_(options), server_(nullptr), is_usable_(false), acceptor_(entry_, options.max_connections),
      predict_name_(grpc_slice_from_static_string(kPredict)) {
  grpc_init();
  const grpc_channel_args all = entry_.with(arguments);
  server_ = grpc_server_create(&all, nullptr);
  grpc_server_credentials* credentials = credentials_of(tls);
  is_usable_ = entry_.open(server_, credentials);
  grpc_server_credentials_release(credentials);
  queue_ = grpc_completion_queue_create_for_next(nullptr);
  grpc_server_register_completion_queue(server_, queue_, nullptr);
  predict_ =
      grpc_server_register_method(server_, kPredict, nullptr, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
}

void Front::start(const char* behind) {
  char unlimited_receive[] = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, unlimited_send[] = GRPC_ARG_MAX_SEND_MESSAGE_LENGTH;
  char retries[] = GRPC_ARG_ENABLE_RETRIES, proxy[] = GRPC_ARG_ENABLE_HTTP_PROXY, metadata[] = GRPC_ARG_MAX_METADATA_SIZE;
  grpc_arg arguments[5];
  for (grpc_arg& argument : arguments) argument.type = GRPC_ARG_INTEGER;
  arguments[0].key = unlimited_receive, arguments[0].value.integer = -1;
  arguments[1].key = unlimited_send, arguments[1].value.integer = -1;
  arguments[2].key = retries, arguments[2].value.integer = 0;
  arguments[3].key = proxy, arguments[3].value.integer = 0;
  arguments[4].key = metadata, arguments[4].value.integer = kMostMetadata;
  grpc_channel_args all{5, arguments};
  grpc_channel_credentials* credentials = grpc_insecure_credentials_create();
  channel_ = grpc_channel_create(behind, credentials, &all);
  grpc_channel_credentials_release(credentials);
  grpc_server_start(server_);
  for (int armed = 0; armed < kArmed; ++armed) {
    ask_for_predict();
    ask_for_other();
  }
  threads_.emplace_back(&Front::hear, this);
  threads_.emplace_back(&Front::write_answers, this);
  for (int group = 0; group < options_.groups; ++group) threads_.emplace_back(&Front::run_groups, this);
  acceptor_.start();
}

bool Front::drain(double seconds) {
  acceptor_.stop();
  std::unique_lock lock(mutex_);
  if (!is_stopping_) {
    is_stopping_ = true;
    work_.notify_all();
    grpc_server_shutdown_and_notify(server_, queue_, &stopped_);
  }
  return ended_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return in_flight_ == 0 && others_ == 0; });
}

// Counts a new call of another method and returns their number; 0 when the front is closing and it is too late for any.
int64_t Front::takes_other() {
  std::lock_guard lock(mutex_);
  return is_closing_ ? 0 : ++others_;
}

// Counts a new Predict request, if it can be admitted as such; false when the front is closing.
bool Front::takes(Call* call) {
  std::lock_guard lock(mutex_);
  if (is_closing_) return false;
  ++in_flight_;
  call->is_admitted = admits();
  return true;
}

// Counts one more request unless there are too many. The lock is held.
bool Front::admits() {
  if (options_.max_concurrent > 0 && admitted_ >= options_.max_concurrent) return false;
  ++admitted_;
  return true;
}

bool Front::enter() {
  std::lock_guard lock(mutex_);
  return admits();
}

void Front::leave() {
  std::lock_guard lock(mutex_);
  --admitted_;
}

bool Front::close(double seconds) {
  if (is_closed_) return true;
  if (!threads_.empty()) {
    drain(0);
    grpc_server_cancel_all_calls(server_);
    {
      std::unique_lock lock(mutex_);
      bool is_over = ended_.wait_for(lock, std::chrono::duration<double>(seconds), [this] {
        return is_stopped_ && in_flight_ == 0 && others_ == 0;
      });
      if (!is_over) return false;
      is_closing_ = true;
    }
    work_.notify_all();
    answers_.notify_all();
    grpc_completion_queue_shutdown(queue_);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    grpc_channel_destroy(channel_);
  } else {
    acceptor_.stop();
    grpc_server_shutdown_and_notify(server_, queue_, &stopped_);
    grpc_completion_queue_shutdown(queue_);
    while (grpc_completion_queue_next(queue_, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
  }
  grpc_server_destroy(server_);
  grpc_completion_queue_destroy(queue_);
  grpc_shutdown();
  is_closed_ = true;
  return true;
}

int64_t Front::waiting() {
  std::lock_guard lock(mutex_);
  return waiting_rows_;
}

void Front::hear() {
  for (;;) {
    grpc_event event = grpc_completion_queue_next(queue_, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr);
    if (event.type == GRPC_QUEUE_SHUTDOWN) return;
    if (event.type != GRPC_OP_COMPLETE) continue;
    auto tag = static_cast<Tag*>(event.tag);
    tag->run(tag->owner, event.success != 0);
  }
}

void Front::ask_for_predict() {
  auto call = new Call(this);
  // When the server stops, the tag returns with a failure.
  if (grpc_server_request_registered_call(server_, predict_, &call->call, &call->deadline, &call->metadata,
                                          &call->message, queue_, queue_, &call->arrival) != GRPC_CALL_OK) {
    delete call;
  }
}

void Front::ask_for_other() {
  auto other = new Other(this);
  if (grpc_server_request_call(server_, &other->call, &other->details, &other->metadata, queue_, queue_,
                               &other->arrival) != GRPC_CALL_OK) {
    delete other;
  }
}

void Front::arrived(Call* call) {
  if (!takes(call)) {
    delete call;
    return;
  }
  ask_for_predict();
  if (!call->is_admitted) {
    ++refused_;
    refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
           std::to_string(options_.max_concurrent) +
               " requests are in the server already (--max_concurrent_requests); try again later");
    return;
  }
  if (call->message == nullptr) {
    // Reset or closed before its request arrived. A flood of such calls must not affect others.
    return refuse(call, GRPC_STATUS_INTERNAL, kNoRequest);
  }
  if (size_of(call->metadata) > kUsualMetadata) return pass_on(call);
  call->bytes = whole(call->message);
  std::optional<RawRequest> request = read_request(view(call->bytes));
  if (!request) return pass_on(call);
  Found found = models.find(request->model, request->version ? &*request->version : nullptr);
  if (found.model == nullptr) return pass_on(call);
  call->signature = found.model->find(request->signature);
  if (call->signature == nullptr) return pass_on(call);
  std::optional<std::vector<Input>> inputs = read_inputs(*request, *call->signature, options_.max_rows);
  if (!inputs) return pass_on(call);
  call->inputs = std::move(*inputs);
  call->rows = call->inputs.front().shape[0];
  call->model = std::move(found.model);
  call->counters = found.counters;
  call->queued = Clock::now();
  int64_t waiting;
  {
    std::lock_guard lock(mutex_);
    waiting = waiting_rows_;
    if (waiting == 0 || waiting + call->rows <= options_.max_waiting) {
      waiting_.push_back(call);
      waiting_rows_ += call->rows;
      if (are_enough(awaited_) && running_ < options_.groups) work_.notify_one();
      return;
    }
  }
  call->counters->refused();
  refuse(call, GRPC_STATUS_UNAVAILABLE,
         "The batch scheduling queue to which this task was submitted is full; currently " + std::to_string(waiting) +
             " rows wait and " + std::to_string(options_.max_waiting) + " may");
}

// Only in the queue's thread: a relay is not thread-safe.
void Front::pass_on(Call* call) {
  grpc_call* server_call = call->call;
  grpc_byte_buffer* message = call->message;
  grpc_metadata_array metadata = call->metadata;
  call->call = nullptr;
  call->message = nullptr;
  grpc_metadata_array_init(&call->metadata);
  // Releases the model: the request no longer needs it.
  call->model.reset();
  relay(channel_, queue_, server_call, call->deadline, metadata, message, true, predict_name_,
        [this, call] { end(call); });
}

void Front::refuse(Call* call, grpc_status_code status, const std::string& why) {
  call->model.reset();
  if (!babelrec::refuse(call->call, status, why, &call->is_cancelled, &call->sent)) end(call);
}

void Front::send(Call* call, const std::string& response) {
  grpc_slice slice = grpc_slice_from_copied_buffer(response.data(), response.size());
  call->response = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  grpc_op ops[4] = {operation(GRPC_OP_SEND_INITIAL_METADATA), operation(GRPC_OP_SEND_MESSAGE),
                    operation(GRPC_OP_SEND_STATUS_FROM_SERVER), operation(GRPC_OP_RECV_CLOSE_ON_SERVER)};
  ops[1].data.send_message.send_message = call->response;
  ops[2].data.send_status_from_server.status = GRPC_STATUS_OK;
  ops[3].data.recv_close_on_server.cancelled = &call->is_cancelled;
  finish(call, ops, 4);
}

void Front::finish(Call* call, grpc_op* ops, size_t count) {
  call->model.reset();
  if (grpc_call_start_batch(call->call, ops, count, &call->sent, nullptr) != GRPC_CALL_OK) end(call);
}

void Front::end(Call* call) {
  const bool is_admitted = call->is_admitted;
  delete call;
  std::lock_guard lock(mutex_);
  if (is_admitted) --admitted_;
  if (--in_flight_ == 0) ended_.notify_all();
}

void Front::other_ended() {
  std::lock_guard lock(mutex_);
  if (--others_ == 0) ended_.notify_all();
}

void Front::stopped(bool) {
  std::lock_guard lock(mutex_);
  is_stopped_ = true;
  ended_.notify_all();
}

void Front::run_groups() {
  Before before;
  for (;;) {
    Group group;
    // Freed here, where they were allocated: another thread would compete for the allocator's lock with this run.
    Tensors spent;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [this] { return !waiting_.empty() || !spent_.empty() || is_closing_; });
      spent.swap(spent_);
      if (waiting_.empty()) {
        if (is_closing_) return;
        continue;
      }
      wait_for_company(lock, before);
      if (waiting_.empty()) continue;  // another thread has taken all
      ++running_;
      group = take();
      group.is_spread = is_worth_spreading(group, before);
      if (!waiting_.empty() && running_ < options_.groups) work_.notify_one();
    }
    spent.clear();
    run(group);
    {
      std::lock_guard lock(mutex_);
      --running_;
      before = {group.calls.empty() ? nullptr : group.calls.front()->signature, group.calls.size() + waiting_.size(),
                group.rows, group.run_micros};
      if (!waiting_.empty()) {
        // Requests wait for this thread: another one writes the responses in the meantime.
        finished_.push_back(std::move(group));
        answers_.notify_one();
        continue;
      }
    }
    answer(group);
  }
}

void Front::write_answers() {
  for (;;) {
    Group group;
    {
      std::unique_lock lock(mutex_);
      answers_.wait(lock, [this] { return !finished_.empty() || is_closing_; });
      if (finished_.empty()) return;
      group = std::move(finished_.front());
      finished_.pop_front();
    }
    answer(group);
    std::lock_guard lock(mutex_);
    std::move(group.results.begin(), group.results.end(), std::back_inserter(spent_));
    if (running_ == 0) work_.notify_one();
  }
}

// Whether this many requests wait, or as many rows as a group may have. The lock is held.
bool Front::are_enough(size_t requests) const {
  return waiting_.size() >= requests || waiting_rows_ >= options_.max_rows;
}

// Clients that were just answered are likely to send another request, and larger groups make requests cheaper. So a
// thread waits until there are as many requests as before. A request that was alone before does not wait.
void Front::wait_for_company(std::unique_lock<std::mutex>& lock, const Before& before) {
  const auto is_other = [&](const Call* call) { return call->signature != before.signature; };
  if (options_.timeout_micros == 0 || std::any_of(waiting_.begin(), waiting_.end(), is_other)) return;
  awaited_ = before.requests;
  const std::chrono::microseconds timeout(std::min(options_.timeout_micros, kDayMicros));
  work_.wait_for(lock, timeout, [&] { return waiting_.empty() || are_enough(before.requests) || is_stopping_; });
  awaited_ = 1;
}

// Thread switches cost some tenths of a millisecond of CPU time per run. They are worth it for a long run if no other
// group needs the CPU. The duration of the previous run gives a lower bound for this one. The lock is held.
bool Front::is_worth_spreading(const Group& group, const Before& before) const {
  if (running_ > 1 || before.rows == 0 || group.calls.front()->signature != before.signature) return false;
  const double share = std::min(1.0, static_cast<double>(group.rows) / static_cast<double>(before.rows));
  return share * before.run_micros > kLongMicros;
}

// Takes waiting requests for one signature, up to a group. The lock is held.
Front::Group Front::take() {
  Group group;
  group.begun = Clock::now();
  // Even shares: of a large and a small group, the small one would spread the cost of a run over few requests.
  const int64_t most = (in_flight_ + options_.groups - 1) / options_.groups;
  std::deque<Call*> others;
  for (Call* call : waiting_) {
    const bool fits = group.calls.empty() || (call->signature == group.calls.front()->signature &&
                                              group.rows + call->rows <= options_.max_rows &&
                                              static_cast<int64_t>(group.calls.size()) < most);
    if (fits) {
      group.calls.push_back(call);
      group.rows += call->rows;
    } else {
      others.push_back(call);
    }
  }
  waiting_.swap(others);
  waiting_rows_ -= group.rows;
  return group;
}

void Front::run(Group& group) {
  const gpr_timespec now = gpr_now(GPR_CLOCK_REALTIME);
  auto is_late = [&](Call* call) {
    if (gpr_time_cmp(gpr_convert_clock_type(call->deadline, GPR_CLOCK_REALTIME), now) > 0) return false;
    group.rows -= call->rows;
    call->counters->expired(micros_between(call->queued, group.begun));
    refuse(call, GRPC_STATUS_DEADLINE_EXCEEDED, "Deadline exceeded before the request was started");
    return true;
  };
  auto& calls = group.calls;
  calls.erase(std::remove_if(calls.begin(), calls.end(), is_late), calls.end());
  if (calls.empty()) return;
  bool is_good = false;
  try {
    is_good = join_and_run(group);
  } catch (const std::exception&) {  // no memory for all of them at once
  }
  if (!is_good) group.results.clear();
}

bool Front::join_and_run(Group& group) {
  const auto& calls = group.calls;
  const Signature& signature = *calls.front()->signature;
  Tensors inputs;
  for (size_t index = 0; index < signature.inputs.size(); ++index) {
    std::vector<const Input*> parts;
    parts.reserve(calls.size());
    for (const Call* call : calls) parts.push_back(&call->inputs[index]);
    Tensor tensor = join(signature.inputs[index], parts, options_.pad);
    if (tensor == nullptr) return false;
    inputs.push_back(std::move(tensor));
  }
  calls.front()->counters->ran(group.rows);
  const auto start = Clock::now();
  group.results = calls.front()->model->run(signature, inputs, group.is_spread);
  group.run_micros = micros_since(start);
  return are_as_declared(signature, group.results) && (calls.size() == 1 || have_rows(group.results, group.rows));
}

void Front::answer(Group& group) {
  if (group.calls.empty()) return;
  // An empty batch: its tag makes the other thread take over.
  const auto leave = [this](Call* call) {
    if (grpc_call_start_batch(call->call, nullptr, 0, &call->passing, nullptr) != GRPC_CALL_OK) end(call);
  };
  if (group.results.empty()) {
    // In a group, one faulty request fails them all. The server behind finds out which one, and reports it properly.
    for (Call* call : group.calls) leave(call);
    return;
  }
  Counters* counters = group.calls.front()->counters;
  const Signature& signature = *group.calls.front()->signature;
  // The signature belongs to the model, which sending the last call would release.
  const std::shared_ptr<Model> model = group.calls.front()->model;
  std::optional<Rows> rows;
  if (group.calls.size() > 1) rows = Rows{0, 0};
  for (Call* call : group.calls) {
    if (rows) *rows = {rows->end, rows->end + call->rows};
    std::string response;
    try {
      response = write_response(signature, group.results, rows);
    } catch (const std::exception&) {  // no memory
      leave(call);
      continue;
    }
    // Before it is sent: a client with a response finds it counted. The server behind counts forwarded requests.
    counters->answered({micros_between(call->queued, group.begun), micros_since(group.begun), group.run_micros,
                        call->rows, static_cast<int64_t>(signature.inputs.size())});
    send(call, response);
  }
}

}  // namespace babelrec

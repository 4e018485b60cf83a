#include "relay.h"

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>

#include <string_view>

#include "core.h"

namespace babelrec {
namespace {

// Identify the caller to the server behind (serving/server/operations/admin.py), whose own peer is this server: the
// caller's address, and whether its certificate was verified.
constexpr char kPeer[] = "x-babelrec-peer", kVerified[] = "x-babelrec-verified";

// Whether a header is forwarded: not if it belongs to one connection, and the other one has its own, nor if gRPC would
// refuse to send it, though it was received. Nor may a caller identify itself.
bool is_passed_on(const grpc_metadata& header) {
  const std::string_view key = view(header.key);
  if (key == kPeer || key == kVerified) return false;
  if (key == "user-agent" || key == "te" || key == "content-type" || key.substr(0, 1) == ":") return false;
  if (key.substr(0, 5) == "grpc-" && key != "grpc-status-details-bin") return false;
  return grpc_header_key_is_legal(header.key) != 0 &&
         (grpc_is_binary_header(header.key) != 0 || grpc_header_nonbin_value_is_legal(header.value) != 0);
}

void drop_other_headers(grpc_metadata_array& headers) {
  size_t kept = 0;
  for (size_t index = 0; index < headers.count; ++index) {
    if (is_passed_on(headers.metadata[index])) headers.metadata[kept++] = headers.metadata[index];
  }
  headers.count = kept;  // the call owns the entries themselves
}

bool is_verified(grpc_call* call) {
  grpc_auth_context* context = grpc_call_auth_context(call);
  const bool found = context != nullptr && grpc_auth_context_peer_is_authenticated(context) != 0;
  grpc_auth_context_release(context);
  return found;
}

void add_header(grpc_metadata_array& headers, const char* key, grpc_slice value) {
  if (headers.count == headers.capacity) {
    headers.capacity = headers.count + 1;
    headers.metadata =
        static_cast<grpc_metadata*>(gpr_realloc(headers.metadata, headers.capacity * sizeof(grpc_metadata)));
  }
  grpc_metadata& added = headers.metadata[headers.count++];
  added = {};
  added.key = grpc_slice_from_static_string(key);
  added.value = value;
}

// Two calls joined back to back. Everything happens in the single thread that runs the queue's tags.
class Relay {
 public:
  Relay(grpc_call* server, grpc_call* client, grpc_metadata_array metadata, std::function<void()> ended)
      : server_(server), client_(client), metadata_(metadata), ended_(std::move(ended)) {
    grpc_metadata_array_init(&initial_);
    grpc_metadata_array_init(&trailing_);
  }

  void begin(grpc_byte_buffer* first, bool is_unary) {
    ++pending_;  // for this function, so that the relay does not end inside it
    grpc_op close = operation(GRPC_OP_RECV_CLOSE_ON_SERVER);
    close.data.recv_close_on_server.cancelled = &is_cancelled_;
    start(server_, close, closed_);
    if (is_unary) {
      open();
      request_ = first;
      is_last_request_ = true;
      send_request();
    } else {
      receive_request();
    }
    done();
  }

 private:
  // Calls the server behind. Not before a request has arrived: each call takes one of its threads, which would wait.
  void open() {
    is_open_ = true;
    drop_other_headers(metadata_);
    char* const peer = grpc_call_get_peer(server_);
    peer_ = grpc_slice_from_copied_string(peer);
    gpr_free(peer);
    add_header(metadata_, kPeer, peer_);
    if (is_verified(server_)) add_header(metadata_, kVerified, grpc_slice_from_static_string("1"));
    grpc_op open = operation(GRPC_OP_SEND_INITIAL_METADATA);
    open.data.send_initial_metadata.count = metadata_.count;
    open.data.send_initial_metadata.metadata = metadata_.metadata;
    open.flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY | GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    start(client_, open, opened_);
    grpc_op status = operation(GRPC_OP_RECV_STATUS_ON_CLIENT);
    status.data.recv_status_on_client.trailing_metadata = &trailing_;
    status.data.recv_status_on_client.status = &status_;
    status.data.recv_status_on_client.status_details = &details_;
    start(client_, status, finished_);
    grpc_op initial = operation(GRPC_OP_RECV_INITIAL_METADATA);
    initial.data.recv_initial_metadata.recv_initial_metadata = &initial_;
    start(client_, initial, answered_);
    receive_response();
  }

  void start(grpc_call* call, const grpc_op& op, Tag& tag) {
    ++pending_;
    if (grpc_call_start_batch(call, &op, 1, &tag, nullptr) == GRPC_CALL_OK) return;
    --pending_;
    // The operations after it would never complete: the call ends.
    grpc_call_cancel_with_status(call, GRPC_STATUS_INTERNAL, "the call can't be passed on", nullptr);
  }

  // After each tag: the last one ends the relay.
  void done() {
    if (--pending_ > 0) return;
    grpc_byte_buffer_destroy(request_);
    grpc_byte_buffer_destroy(response_);
    grpc_metadata_array_destroy(&metadata_);
    grpc_metadata_array_destroy(&initial_);
    grpc_metadata_array_destroy(&trailing_);
    grpc_slice_unref(details_);
    grpc_slice_unref(peer_);
    grpc_call_unref(client_);
    grpc_call_unref(server_);
    std::function<void()> ended = std::move(ended_);
    delete this;
    ended();
  }

  void opened(bool) { done(); }

  void closed(bool) {
    if (is_cancelled_ != 0) grpc_call_cancel(client_, nullptr);
    done();
  }

  void receive_request() {
    grpc_op op = operation(GRPC_OP_RECV_MESSAGE);
    op.data.recv_message.recv_message = &request_;
    start(server_, op, requested_);
  }

  void requested(bool is_good) {
    const bool is_request = is_good && request_ != nullptr;
    if (!is_open_ && !is_request) {
      ++pending_;
      if (!refuse(server_, GRPC_STATUS_INTERNAL, kNoRequest, nullptr, &opened_)) --pending_;
    } else {
      if (!is_open_) open();
      if (is_request) {
        send_request();
      } else {
        send_close();
      }
    }
    done();
  }

  void send_request() {
    grpc_op op = operation(GRPC_OP_SEND_MESSAGE);
    op.data.send_message.send_message = request_;
    start(client_, op, passed_);
  }

  void passed(bool is_good) {
    grpc_byte_buffer_destroy(request_);
    request_ = nullptr;
    if (is_last_request_) {
      send_close();
    } else if (is_good) {
      receive_request();
    }
    done();
  }

  void send_close() { start(client_, operation(GRPC_OP_SEND_CLOSE_FROM_CLIENT), opened_); }

  void answered(bool) {
    drop_other_headers(initial_);
    grpc_op op = operation(GRPC_OP_SEND_INITIAL_METADATA);
    op.data.send_initial_metadata.count = initial_.count;
    op.data.send_initial_metadata.metadata = initial_.metadata;
    start(server_, op, opened_);
    is_answered_ = true;
    send_response();
    done();
  }

  void receive_response() {
    grpc_op op = operation(GRPC_OP_RECV_MESSAGE);
    op.data.recv_message.recv_message = &response_;
    start(client_, op, responded_);
  }

  void responded(bool is_good) {
    has_response_ = is_good && response_ != nullptr;
    is_last_response_ = !has_response_;
    send_response();
    done();
  }

  // gRPC requires headers before messages, and messages before the status.
  void send_response() {
    if (!is_answered_) return;
    if (has_response_) {
      has_response_ = false;
      grpc_op op = operation(GRPC_OP_SEND_MESSAGE);
      op.data.send_message.send_message = response_;
      start(server_, op, returned_);
    } else if (is_last_response_ && is_finished_) {
      is_finished_ = false;  // once
      drop_other_headers(trailing_);
      grpc_op op = operation(GRPC_OP_SEND_STATUS_FROM_SERVER);
      op.data.send_status_from_server.status = status_;
      op.data.send_status_from_server.status_details = &details_;
      op.data.send_status_from_server.trailing_metadata_count = trailing_.count;
      op.data.send_status_from_server.trailing_metadata = trailing_.metadata;
      start(server_, op, opened_);
    }
  }

  void returned(bool) {
    grpc_byte_buffer_destroy(response_);
    response_ = nullptr;
    receive_response();
    done();
  }

  void finished(bool) {
    is_finished_ = true;
    send_response();
    done();
  }

  grpc_call* server_;
  grpc_call* client_;
  grpc_metadata_array metadata_;
  grpc_metadata_array initial_;
  grpc_metadata_array trailing_;
  grpc_byte_buffer* request_ = nullptr;
  grpc_byte_buffer* response_ = nullptr;
  grpc_status_code status_ = GRPC_STATUS_OK;
  grpc_slice details_ = grpc_empty_slice();
  grpc_slice peer_ = grpc_empty_slice();
  int is_cancelled_ = 0;
  bool is_open_ = false;
  bool is_last_request_ = false;
  bool is_answered_ = false;
  bool has_response_ = false;
  bool is_last_response_ = false;
  bool is_finished_ = false;
  int pending_ = 0;
  std::function<void()> ended_;
  Tag opened_ = tag_of<&Relay::opened>(this);
  Tag closed_ = tag_of<&Relay::closed>(this);
  Tag requested_ = tag_of<&Relay::requested>(this);
  Tag passed_ = tag_of<&Relay::passed>(this);
  Tag answered_ = tag_of<&Relay::answered>(this);
  Tag responded_ = tag_of<&Relay::responded>(this);
  Tag returned_ = tag_of<&Relay::returned>(this);
  Tag finished_ = tag_of<&Relay::finished>(this);
};

}  // namespace

void relay(grpc_channel* channel, grpc_completion_queue* queue, grpc_call* server_call, gpr_timespec deadline,
           grpc_metadata_array metadata, grpc_byte_buffer* first, bool is_unary, grpc_slice method,
           std::function<void()> ended) {
  grpc_call* client_call = grpc_channel_create_call(channel, nullptr, GRPC_PROPAGATE_DEFAULTS, queue, method, nullptr,
                                                    deadline, nullptr);
  auto both = new Relay(server_call, client_call, metadata, std::move(ended));
  both->begin(first, is_unary);
}

}  // namespace babelrec

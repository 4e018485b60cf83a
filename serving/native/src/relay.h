// Forwards calls of any kind to the server in Python, and its responses back.
#pragma once

#include <grpc/grpc.h>

#include <functional>

namespace babelrec {

// Starts forwarding a call; the remaining work is done by the thread that runs the queue's tags.
//
// server_call, deadline, metadata: those of the incoming call; the relay takes ownership.
// first: its first message if it was read already, and no other will come; else null. The relay takes ownership.
// method: "/package.Service/Method". The caller keeps ownership.
// ended: called once when everything is done and nothing of the call is left.
void relay(grpc_channel* channel, grpc_completion_queue* queue, grpc_call* server_call, gpr_timespec deadline,
           grpc_metadata_array metadata, grpc_byte_buffer* first, bool is_unary, grpc_slice method,
           std::function<void()> ended);

}  // namespace babelrec

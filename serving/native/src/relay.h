// Passes calls of any kind on to the server in Python, and its answers back.
#pragma once

#include <grpc/grpc.h>

#include <functional>

namespace babelrec {

// Begins to pass a call on; what is to do later is done by whoever runs the queue's tags.
//
// server_call, deadline, metadata: of the call that came, which are the relay's from now on.
// first: its first message if that has been read already, and no other will come; else null. The relay's from now on.
// method: "/package.Service/Method". Stays the caller's.
// ended: called once when all is over and nothing of the call is left.
void relay(grpc_channel* channel, grpc_completion_queue* queue, grpc_call* server_call, gpr_timespec deadline,
           grpc_metadata_array metadata, grpc_byte_buffer* first, bool is_unary, grpc_slice method,
           std::function<void()> ended);

}  // namespace babelrec

#include "core.h"

namespace babelrec {

bool refuse(grpc_call* call, grpc_status_code status, std::string_view why, int* is_cancelled, Tag* tag) {
  grpc_slice details = grpc_slice_from_copied_buffer(why.data(), why.size());
  grpc_op ops[3] = {operation(GRPC_OP_SEND_INITIAL_METADATA), operation(GRPC_OP_SEND_STATUS_FROM_SERVER),
                    operation(GRPC_OP_RECV_CLOSE_ON_SERVER)};
  ops[1].data.send_status_from_server.status = status;
  ops[1].data.send_status_from_server.status_details = &details;
  ops[2].data.recv_close_on_server.cancelled = is_cancelled;
  const bool is_begun = grpc_call_start_batch(call, ops, is_cancelled != nullptr ? 3 : 2, tag, nullptr) == GRPC_CALL_OK;
  grpc_slice_unref(details);
  return is_begun;
}

}  // namespace babelrec
